//! Clones, compared with what `git clone -b` makes.

use std::fs;

use super::bench::{Bench, apply, desired, files, git, plan, refusal, seen};
use crate::resource::Change;
use crate::resource::deployment::Deployment;
use crate::resource::repository::change::NewClone;
use crate::resource::repository::{Repository, RepositoryChange};

fn to_clone(bench: &Bench, url: &str) -> Repository {
    let mut desired = desired(&bench.dir.path().join("deep/er/clone"));
    desired.url = Some(url.to_owned());
    desired
}

#[test]
fn a_clone_is_what_git_clone_makes() {
    let bench = Bench::new();
    git(&bench.seed(), &["tag", "-m", "one", "v1"]);
    git(&bench.seed(), &["tag", "light"]);
    git(&bench.seed(), &["push", "-q", "--tags"]);
    let by_git = bench.dir.path().join("by-git");
    for url in [bench.remote().display().to_string(), format!("file://{}", bench.remote().display())] {
        let _ = fs::remove_dir_all(&by_git);
        let desired = to_clone(&bench, &url);
        let _ = fs::remove_dir_all(&desired.path);
        git(bench.dir.path(), &["clone", "-q", "-b", "qa", &url, "by-git"]);
        let planned = apply(&desired, "run-1");
        assert_eq!(planned.changes.len(), 1);
        let deployment = Deployment::of(&planned.changes[0].describe().after).unwrap();
        let subject = git(&by_git, &["log", "-1", "--format=%s"]);
        assert_eq!(
            deployment.commits.iter().map(|commit| commit.subject.as_str()).collect::<Vec<_>>(),
            [subject.trim()]
        );
        let deployed: Vec<&str> = deployment.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(deployed, git(&by_git, &["ls-files"]).lines().collect::<Vec<_>>());
        assert_eq!(seen(&desired.path), seen(&by_git));
        for ask in [
            &["for-each-ref"][..],
            &["config", "--local", "-l"],
            &["symbolic-ref", "refs/remotes/origin/HEAD"],
            &["reflog", "show", "--format=%H %gs", "HEAD"],
            &["reflog", "show", "--format=%H %gs", "qa"],
        ] {
            let sorted = |text: String| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(git(&desired.path, ask)), sorted(git(&by_git, ask)), "{ask:?}");
        }
        assert!(!desired.path.join(".git/FETCH_HEAD").exists());
    }
}

/// A plan file is UTF-8, but its paths can lead through symlinks.
#[test]
fn a_checkout_may_be_below_a_name_that_is_not_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let odd = bench.dir.path().join(std::ffi::OsStr::from_bytes(b"a \"\xff\\ name"));
    fs::create_dir(&odd).unwrap();
    let mut desired = bench.desired();
    desired.path = odd.join("clone");
    desired.url = Some(bench.remote().display().to_string());
    apply(&desired, "run-1");
    bench.push("later", &[("b", Some("later\n"))]);
    assert_eq!(apply(&desired, "run-2").changes.len(), 1);
    assert_eq!(fs::read_to_string(odd.join("clone/b")).unwrap(), "later\n");
    assert!(plan(&desired).unwrap().unwrap().changes.is_empty());
}

#[test]
fn branches_with_names_of_git_s_own_are_branches() {
    let bench = Bench::new();
    git(
        &bench.seed(),
        &["push", "-q", "origin", "qa:refs/heads/_git2_x", "qa:refs/heads/HEAD", "qa:refs/heads/shallow"],
    );
    let desired = to_clone(&bench, bench.remote().to_str().unwrap());
    apply(&desired, "run-1");
    let refs = git(&desired.path, &["for-each-ref", "--format=%(refname)", "refs/remotes"]);
    for branch in ["HEAD", "_git2_x", "main", "qa", "shallow"] {
        assert!(refs.contains(&format!("refs/remotes/origin/{branch}\n")), "{branch}: {refs}");
    }
}

#[test]
fn an_empty_directory_is_cloned_into_and_any_other_is_not() {
    let bench = Bench::new();
    let desired = to_clone(&bench, bench.remote().to_str().unwrap());
    fs::create_dir_all(&desired.path).unwrap();
    fs::write(desired.path.join("mine"), "x").unwrap();
    let refused = refusal(&desired);
    assert!(refused.message.contains("a directory with 1 entry (mine)"), "{refused:?}");
    fs::remove_file(desired.path.join("mine")).unwrap();
    apply(&desired, "run-1");
    assert_eq!(fs::read_to_string(desired.path.join("q")).unwrap(), "q1\n");
}

#[test]
fn what_cannot_be_checked_out_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    let url = bench.remote().display().to_string();
    let desired = to_clone(&bench, &url);
    plan(&desired).unwrap().unwrap();
    let by_hand = format!("--branch qa {url} {}`", desired.path.display());

    bench.push("lfs", &[(".gitattributes", Some("*.bin filter=lfs diff=lfs\n"))]);
    let refused = refusal(&desired);
    assert!(refused.message.contains(".gitattributes stores files in git LFS"), "{refused:?}");
    assert_eq!(refused.hint, Some(format!("clone it by hand: `git clone {by_hand}")));

    git(&bench.seed(), &["rm", "-q", ".gitattributes"]);
    let commit = git(&bench.seed(), &["rev-parse", "HEAD"]);
    git(&bench.seed(), &["update-index", "--add", "--cacheinfo", &format!("160000,{},lib", commit.trim())]);
    git(&bench.seed(), &["commit", "-q", "-m", "a submodule"]);
    git(&bench.seed(), &["push", "-q", "origin", "qa"]);
    let refused = refusal(&desired);
    assert!(refused.message.starts_with("lib in ") && refused.message.contains("is a submodule"), "{refused:?}");
    assert_eq!(refused.hint, Some(format!("clone it by hand: `git clone --recurse-submodules {by_hand}")));
    assert!(!bench.dir.path().join("deep").exists());
}

#[test]
fn a_clone_that_cannot_be_finished_leaves_nothing() {
    let bench = Bench::new();
    bench.push("lfs", &[(".gitattributes", Some("*.bin filter=lfs diff=lfs\n"))]);
    let url = bench.remote().display().to_string();
    let desired = to_clone(&bench, &url);
    let commit = git(&bench.seed(), &["rev-parse", "HEAD"]).trim().to_owned();
    let (path, branch) = (desired.path.clone(), desired.branch.clone());
    let change =
        NewClone { path, url, branch, commit, parents: Vec::new(), newest: None, files: Vec::new(), file_count: 0 };
    let failure = super::bench::execute(&desired, &RepositoryChange::Clone(change), "run-1").unwrap_err();
    assert!(failure.message.contains("git LFS"), "{failure:?}");
    assert!(!bench.dir.path().join("deep").exists());
}

#[test]
fn a_branch_that_moved_since_the_plan_is_not_cloned() {
    let bench = Bench::new();
    let desired = to_clone(&bench, bench.remote().to_str().unwrap());
    let change = plan(&desired).unwrap().unwrap().changes.remove(0);
    bench.push("later", &[("later", Some("x\n"))]);
    let failure = super::bench::execute(&desired, &change, "run-1").unwrap_err();
    assert!(failure.message.contains("was changed meanwhile"), "{failure:?}");
    assert!(!desired.path.exists());
}

#[test]
fn no_url_and_no_checkout_is_refused() {
    let bench = Bench::new();
    let desired = desired(&bench.dir.path().join("nowhere"));
    let refused = refusal(&desired);
    assert_eq!(refused.hint.as_deref(), Some("give the step's `url` a value: where to clone from"));
}

#[test]
fn an_empty_repository_with_a_remote_is_filled() {
    let bench = Bench::new();
    let top = bench.dir.path().join("init");
    fs::create_dir(&top).unwrap();
    git(&top, &["init", "-q"]);
    git(&top, &["remote", "add", "origin", bench.remote().to_str().unwrap()]);
    fs::write(top.join("a"), "mine\n").unwrap();
    apply(&desired(&top), "run-1");
    assert_eq!(files(&top), files(&bench.checkout()));
    assert_eq!(git(&top, &["status", "--porcelain"]), "");
    assert_eq!(git(&top, &["show", "refs/provision/rescue/run-1^3:a"]), "mine\n");
}
