//! Decides what a checkout needs, from what was observed. Pure.

use super::actual::{Actual, Checkout, Commit, LocalChange, Upstream, short};
use super::change::{NewClone, RepositoryChange, Update, counted};
use super::desired::{LocalCommits, Repository};
use super::refusal::{refusal_to_clone, refusal_to_update};
use crate::failure::Failure;
use crate::git::{Obstacle, remote};
use crate::host::fs::{belongs_to_system, is_needed};
use crate::resource::Diff;
use crate::text::{RedactedUrl, aside, shell_word};

/// The maximum number of commits that a message names.
const COMMITS_NAMED: usize = 10;

pub fn diff(desired: &Repository, actual: &Actual) -> Result<Diff<RepositoryChange>, Failure> {
    match actual {
        Actual::Absent { upstream, obstacle, unseen, newest, files, file_count, missing_parents, unread, .. } => {
            if let Some(obstacle) = obstacle {
                let url = upstream.as_ref().map_or("URL", |upstream| &upstream.url);
                return Err(refusal_to_clone(obstacle, desired, url));
            }
            let Some(upstream) = upstream else {
                return Err(Failure::new(format!(
                    "there is no checkout at {}, and no url to clone from",
                    desired.path.display()
                ))
                .hint("give the step's `url` a value: where to clone from"));
            };
            let commit = head_of(desired, upstream)?;
            let parents = missing_parents.clone();
            let (path, branch, url) = (desired.path.clone(), desired.branch.clone(), upstream.url.clone());
            let (newest, files) = (newest.clone(), files.clone());
            let clone = NewClone { path, url, branch, commit, parents, newest, files, file_count: *file_count };
            let mut diff = one(RepositoryChange::Clone(clone));
            diff.warnings.clone_from(unread);
            if *unseen {
                let note = "there is not enough space for temporary files to check its files now: if it has submodules or LFS files, the step will fail and leave nothing behind";
                diff.notes.push(note.into());
            }
            Ok(diff)
        }
        Actual::Occupied { by, leads_to, must_stay } => {
            let refusal = Failure::new(format!("{} is {by}, not a checkout", desired.path.display()));
            Err(refusal.hint(occupied_hint(desired, by, leads_to.as_deref(), *must_stay || is_needed(&desired.path))))
        }
        Actual::Unusable { obstacle: obstacle @ Obstacle::AnotherRun } => {
            Ok(Diff { busy: Some(refusal_to_update(obstacle, desired)), ..Diff::default() })
        }
        Actual::Unusable { obstacle } => Err(refusal_to_update(obstacle, desired)),
        Actual::Checkout(checkout) => diff_checkout(desired, checkout),
    }
}

/// Returns what to do about something else in place of the checkout, without losing what may be in use.
fn occupied_hint(desired: &Repository, by: &str, leads_to: Option<&str>, must_stay: bool) -> String {
    let path = &desired.path;
    if let Some(target) = leads_to {
        return format!("give the path of its target: {target}");
    }
    if by == "a symbolic link" {
        return "its target does not exist: give the path of the checkout itself".to_owned();
    }
    if belongs_to_system(path) {
        return "correct the path".to_owned();
    }
    let aside = format!("the step clones to an empty or missing path, so move it aside: `{}`", aside(path));
    let Some(url) = desired.url.as_deref().filter(|_| by != "a file") else {
        return if must_stay { "correct the path".to_owned() } else { aside };
    };
    let (git, branch, remote) =
        (format!("git -C {}", shell_word(path)), shell_word(&desired.branch), shell_word(&desired.remote));
    let url = shell_word(RedactedUrl::of(url).as_str());
    let otherwise =
        if must_stay { "or correct the path".to_owned() } else { format!("or, if nothing uses them, {aside}") };
    format!(
        "make it a checkout that keeps its files as local changes: `{git} init -q -b {branch} && {git} remote add {remote} {url} && {git} fetch -q {remote} && {git} reset -q {remote}/{branch}`; {otherwise}"
    )
}

fn diff_checkout(desired: &Repository, found: &Checkout) -> Result<Diff<RepositoryChange>, Failure> {
    if let Some(obstacle) = found.obstacles.iter().find(|obstacle| obstacle.always()) {
        return Err(refusal_to_update(obstacle, desired));
    }
    check_remote(desired, found)?;
    let Some(upstream) = &found.upstream else {
        return Err(Failure::new(format!("the remote {} of {} was not asked", desired.remote, desired.path.display())));
    };
    let commit = head_of(desired, upstream)?;
    let on_branch = found.head_branch.as_deref() == Some(desired.branch.as_str());
    if on_branch && found.head.as_ref() == Some(&commit) {
        return Ok(converged(desired, found));
    }
    if let Some(obstacle) = found.obstacles.first() {
        return Err(refusal_to_update(obstacle, desired));
    }
    if !found.local_commits.is_empty() && desired.local_commits == LocalCommits::Refuse {
        return Err(refuse_local_commits(desired, found));
    }
    let mut diff = one(RepositoryChange::Update(Box::new(Update {
        path: desired.path.clone(),
        branch: desired.branch.clone(),
        head_branch: found.head_branch.clone(),
        head: found.head.clone(),
        branch_before: found.branch.clone(),
        commit,
        behind: found.behind,
        incoming: found.incoming.clone(),
        paths: found.paths.clone(),
        in_the_way: found.in_the_way.clone(),
        local_commits: found.local_commits.clone(),
        detached_commits: found.detached_commits.clone(),
    })));
    diff.notes = notes(found);
    diff.warnings.clone_from(&found.unread);
    diff.warnings.extend(found.narrowed.iter().map(|(path, mode)| {
        format!("{path} has mode {mode:04o}, which the pull does not keep: more users will be able to read the new file, and what is set in it later")
    }));
    Ok(diff)
}

fn converged(desired: &Repository, found: &Checkout) -> Diff<RepositoryChange> {
    let mut diff = Diff { notes: notes(found), warnings: found.unread.clone(), ..Diff::default() };
    if found.leftovers {
        diff.changes.push(RepositoryChange::RemoveLeftovers { path: desired.path.clone() });
    }
    for obstacle in &found.obstacles {
        match obstacle {
            Obstacle::Locked { path, is_old } => {
                let why = match is_old {
                    true => "it is more than an hour old, so a git process that was killed probably left it",
                    false => "another git process is running, or was killed",
                };
                diff.warnings.push(format!("{path} exists: {why}"));
            }
            Obstacle::Submodules { path } => {
                diff.notes.push(format!("{path} is a submodule: whether it is up to date is not checked"));
            }
            Obstacle::Lfs { path } => {
                diff.notes.push(format!("{path} stores files in git LFS: whether they are present is not checked"));
            }
            other => {
                let reason = refusal_to_update(other, desired).message;
                diff.notes.push(format!("the next update will be refused: {reason}"));
            }
        }
    }
    diff
}

/// Checks that the remote exists and is the one that the step names.
fn check_remote(desired: &Repository, found: &Checkout) -> Result<(), Failure> {
    let git = format!("git -C {}", shell_word(&desired.path));
    let name = &desired.remote;
    match (&found.remote_url, &desired.url) {
        (None, url) => {
            let url = url.as_deref().map_or("URL".to_owned(), |url| shell_word(RedactedUrl::of(url).as_str()));
            Err(Failure::new(format!("{} has no remote named {name}", desired.path.display()))
                .hint(format!("add it: `{git} remote add {} {url}`", shell_word(name))))
        }
        (Some(there), Some(wanted)) if !found.same_place && !remote::same_url(there, wanted) => {
            let wanted = RedactedUrl::of(wanted);
            let what = format!(
                "the remote {name} of {} is {there}, and the url of the step is {wanted}",
                desired.path.display()
            );
            if wanted.as_str() == there {
                // A `/` in a password would end the host.
                return Err(Failure::new(format!(
                    "cannot tell the password from the host in the url of the step, {wanted}"
                ))
                .hint("write special characters in its user and password by their codes, such as %2F for `/`"));
            }
            Err(Failure::new(what).hint(if found.several_urls {
                // `git remote set-url` refuses to replace several values.
                let key = shell_word(format!("remote.{name}.url"));
                format!("if the step is right: `{git} config --replace-all {key} {}`", shell_word(wanted.as_str()))
            } else {
                format!(
                    "if the step is right: `{git} remote set-url {} {}`",
                    shell_word(name),
                    shell_word(wanted.as_str())
                )
            }))
        }
        _ => Ok(()),
    }
}

/// Returns the remote's head of the branch.
///
/// # Errors
/// The remote has no such branch. The hint names those that it has.
fn head_of(desired: &Repository, upstream: &Upstream) -> Result<String, Failure> {
    if let Some(head) = &upstream.head {
        return Ok(head.clone());
    }
    let branch = &desired.branch;
    let refusal = Failure::new(format!("the remote {} has no branch {branch}", upstream.url));
    if let Some(suggested) = &upstream.suggested {
        return Err(refusal.hint(format!("write `branch: {suggested}`")));
    }
    let refusal = match upstream.is_tag {
        true => Failure { message: format!("{}: {branch} is a tag", refusal.message), ..refusal },
        false => refusal,
    };
    Err(if upstream.branches.is_empty() {
        // git takes a page for the answer of a server that has only files, and finds no branch in it.
        let page =
            if upstream.url.starts_with("http") { " (a web page, such as one for the login, has none)" } else { "" };
        let what = format!("the remote has no branches{page}");
        refusal.hint(format!("{what}: correct the url, or wait until the project is published there"))
    } else {
        let names = upstream.branches.join(", ");
        refusal.hint(match upstream.more_branches {
            0 => format!("it has {names}"),
            more => format!("it has {names} and {more} more"),
        })
    })
}

/// Makes the failure for commits that the remote does not have. It suggests to push them only if they were made here: what
/// somebody withdrew from the remote must not be published again.
fn refuse_local_commits(desired: &Repository, found: &Checkout) -> Failure {
    let (withdrawn, local): (Vec<&Commit>, Vec<&Commit>) =
        found.local_commits.iter().partition(|commit| commit.withdrawn);
    let (branch, at) = (&desired.branch, desired.path.display());
    let rescue = "set local_commits: rescue_and_reset, which keeps them under refs/provision/rescue";
    if !withdrawn.is_empty() {
        let are = if withdrawn.len() == 1 { "is" } else { "are" };
        let mut reason = format!(
            "the branch {branch} of the remote {} was rewritten: {} of {branch} in {at} {are} no longer in it: {}",
            desired.remote,
            counted(withdrawn.len(), "commit"),
            named(&withdrawn)
        );
        if !local.is_empty() {
            let were = if local.len() == 1 { "was" } else { "were" };
            reason += &format!("; {} {were} never in it: {}", counted(local.len(), "local commit"), named(&local));
        }
        return Failure::new(reason).hint(rescue);
    }
    let are = if local.len() == 1 { "is" } else { "are" };
    let refusal = Failure::new(format!(
        "{} of {branch} in {at} {are} not at the remote: {}",
        counted(local.len(), "commit"),
        named(&local)
    ));
    let git = format!("git -C {}", shell_word(&desired.path));
    let to = format!("{} {}", shell_word(&desired.remote), shell_word(branch));
    let unknown: Vec<&Commit> = local.iter().copied().filter(|commit| !commit.made_here).collect();
    if !unknown.is_empty() {
        let (whose, them) = if unknown.len() == 1 { ("this one was", "it") } else { ("all of them were", "them") };
        return refusal.hint(format!(
            "{rescue}; nothing here tells that {whose} made here and not withdrawn from the remote: ask whoever pushes there before you publish {them}"
        ));
    }
    if found.behind == 0 {
        return refusal.hint(format!("push them (`{git} push {to}`), or {rescue}"));
    }
    // The remote has new commits, so it would reject the push.
    refusal.hint(if found.head_branch.as_ref() == Some(branch) {
        format!("{rescue}; or put them on top of the remote's and push: `{git} pull --rebase --autostash {to} && {git} push {to}`")
    } else {
        rescue.to_owned()
    })
}

fn named(commits: &[&Commit]) -> String {
    let shown = commits.iter().take(COMMITS_NAMED).map(|commit| commit.short()).collect::<Vec<_>>().join("; ");
    match commits.len().saturating_sub(COMMITS_NAMED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// Returns what a reader of the plan should know about local work.
fn notes(found: &Checkout) -> Vec<String> {
    let mut notes = Vec::new();
    if !found.local_commits.is_empty() {
        let (withdrawn, local): (Vec<&Commit>, Vec<&Commit>) =
            found.local_commits.iter().partition(|commit| commit.withdrawn);
        if !withdrawn.is_empty() {
            notes.push(format!(
                "rescued because the remote's branch was rewritten and no longer has them: {}",
                named(&withdrawn)
            ));
        }
        if !local.is_empty() {
            notes.push(format!("rescued before the branch is reset: {}", named(&local)));
        }
    }
    if !found.detached_commits.is_empty() {
        notes.push(format!(
            "rescued because nothing but the detached HEAD {} holds them: {}",
            found.head.as_deref().map_or("", short),
            named(&found.detached_commits.iter().collect::<Vec<_>>())
        ));
    }
    if !found.kept.is_empty() {
        let count = found.kept.len() + found.kept_more;
        notes.push(format!("{} kept: {}", counted(count, "local change"), joined(&found.kept, found.kept_more)));
    }
    notes
}

fn joined(changes: &[LocalChange], more: usize) -> String {
    let shown = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn one(change: RepositoryChange) -> Diff<RepositoryChange> {
    Diff { changes: vec![change], ..Diff::default() }
}
