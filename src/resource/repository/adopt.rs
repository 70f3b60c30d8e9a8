//! A step for a checkout that is there: the branch that it is on, and the remote that the branch follows.

use serde_json::{Map, json};

use super::actual::{Actual, HeadRemote};
use super::desired::Repository;
use super::diff;
use super::refusal::refusal_to_update;
use crate::resource::Failure;
use crate::resource::adopt::{Adopted, MaybeProbe, PathKind, Probe, Subject, base_name, other_user, probe_of};
use crate::text::shell_word;

/// A remote that no checkout has: what is wanted of a probe is HEAD, and no remote has to be asked for that.
const NO_REMOTE: &str = "provision-adopt";

pub(super) fn probe(subject: &Subject) -> MaybeProbe<Repository> {
    let Subject::Path(subject) = subject else { return None };
    if subject.found != PathKind::Checkout {
        return None;
    }
    let probe = probe_of(json!({ "path": subject.path, "branch": NO_REMOTE, "remote": NO_REMOTE }));
    // Git work is done as the owner alone.
    Some(probe.map(|probe| Probe { run_as: other_user(subject.uid), ..probe }))
}

pub(super) fn step(repository: &Repository, actual: &Actual) -> Result<Adopted, Failure> {
    let path = repository.path.to_string_lossy().into_owned();
    let checkout = match actual {
        Actual::Checkout(checkout) => checkout,
        // Why it cannot be read is what a plan would say of it.
        other => {
            diff::diff(repository, other)?;
            return Err(
                Failure::new("it is no longer a checkout").hint("check what else is changing it, then run again")
            );
        }
    };
    if let Some(obstacle) = checkout.obstacles.iter().find(|obstacle| obstacle.always()) {
        return Err(refusal_to_update(obstacle, repository));
    }
    let git = format!("git -C {}", shell_word(&repository.path));
    let Some(branch) = &checkout.head_branch else {
        return Err(Failure::new("its HEAD is detached, and a step names a branch")
            .hint(format!("switch to the branch that it is to follow: `{git} switch BRANCH`")));
    };
    let Some(HeadRemote { name, url, has_login }) = &checkout.head_remote else {
        return Err(Failure::new(format!("its branch {branch} follows no remote, and a step compares it with one"))
            .hint(format!(
                "let it follow one (`{git} remote -v` lists them): `{git} branch --set-upstream-to=REMOTE/{branch}`"
            )));
    };
    let mut comments = Vec::new();
    let mut keys = Map::new();
    keys.insert("path".to_owned(), path.clone().into());
    if *has_login {
        comments.push(format!(
            "`url` is left out: that of the remote {name} holds a user or a password ({url}). Without it, a missing checkout \
             cannot be cloned."
        ));
    } else {
        keys.insert("url".to_owned(), url.clone().into());
    }
    keys.insert("branch".to_owned(), branch.clone().into());
    if name != "origin" {
        keys.insert("remote".to_owned(), name.clone().into());
    }
    Ok(Adopted {
        subject: path.clone(),
        name: base_name(&path),
        title: format!("Checkout {path} on {branch}"),
        keys,
        secret: None,
        comments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Obstacle;
    use crate::resource::adopt::PathSubject;
    use crate::resource::repository::actual::Checkout;

    fn repository() -> Repository {
        let subject = PathSubject { path: "/srv/app".to_owned(), found: PathKind::Checkout, uid: u32::MAX };
        let probe = probe(&Subject::Path(subject)).unwrap().unwrap();
        // A user without a name cannot be acted as; the plan says what that means.
        assert_eq!(probe.run_as, None);
        probe.resource
    }

    fn checkout(branch: Option<&str>, remote: Option<(&str, &str, bool)>) -> Actual {
        Actual::Checkout(Box::new(Checkout {
            head_branch: branch.map(str::to_owned),
            head_remote: remote.map(|(name, url, has_login)| HeadRemote {
                name: name.to_owned(),
                url: url.to_owned(),
                has_login,
            }),
            ..Checkout::default()
        }))
    }

    #[test]
    fn a_checkout_is_adopted_with_its_branch_and_its_remote() {
        let adopted = step(&repository(), &checkout(Some("main"), Some(("origin", "/srv/app.git", false)))).unwrap();
        assert_eq!(
            serde_json::to_string(&adopted.keys).unwrap(),
            r#"{"path":"/srv/app","url":"/srv/app.git","branch":"main"}"#
        );
        let adopted = step(&repository(), &checkout(Some("qa"), Some(("up", "https://h/x", true)))).unwrap();
        assert_eq!(serde_json::to_string(&adopted.keys).unwrap(), r#"{"path":"/srv/app","branch":"qa","remote":"up"}"#);
        assert!(adopted.comments[0].starts_with("`url` is left out"), "{adopted:?}");
    }

    #[test]
    fn what_a_step_cannot_say_is_refused_with_a_way_out() {
        let origin = Some(("origin", "/srv/app.git", false));
        for (actual, said, hint) in [
            (checkout(None, origin), "detached", "git -C /srv/app switch BRANCH"),
            (checkout(Some("main"), None), "follows no remote", "--set-upstream-to=REMOTE/main"),
        ] {
            let failure = step(&repository(), &actual).unwrap_err();
            assert!(failure.message.contains(said), "{failure:?}");
            assert!(failure.hint.unwrap().contains(hint), "{said}");
        }
        assert!(step(&repository(), &Actual::Unusable { obstacle: Obstacle::Bare }).is_err());
    }
}
