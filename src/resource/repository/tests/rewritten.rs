//! A remote's branch that was rewritten: what came from it is not called local work, and is not published again.

use std::fs;

use super::bench::{Bench, apply, git, refusal, write};
use crate::resource::repository::LocalCommits;

/// A checkout that has pulled a commit `oops`.
fn pulled() -> Bench {
    let bench = Bench::new();
    bench.push("oops", &[("key", Some("secret\n"))]);
    git(&bench.checkout(), &["pull", "-q"]);
    bench
}

fn force_push(bench: &Bench) {
    git(&bench.seed(), &["push", "-q", "-f", "origin", "qa"]);
}

/// The refusal, which speaks of the remote's branch and offers no push. Then the rescue it offers is made.
#[track_caller]
fn offers_a_rescue(bench: &Bench, words: &[&str]) {
    let refusal = refusal(&bench.desired());
    let hint = refusal.hint.clone().unwrap();
    for word in words {
        assert!(refusal.message.contains(word), "{word}: {refusal:?}");
    }
    assert!(refusal.message.contains("the branch qa of the remote origin was rewritten"), "{refusal:?}");
    assert!(hint.starts_with("set local_commits: rescue_and_reset"), "{hint}");
    assert!(!hint.contains("push"), "{hint}");
    let mut desired = bench.desired();
    desired.local_commits = LocalCommits::RescueAndReset;
    let text = format!("{:?}", apply(&desired, "run-1"));
    assert!(!text.contains("local commit"), "{text}");
}

#[test]
fn a_withdrawn_commit_is_not_pushed_again() {
    for fetched in [false, true] {
        let bench = pulled();
        git(&bench.seed(), &["reset", "-q", "--hard", "HEAD~1"]);
        force_push(&bench);
        if fetched {
            git(&bench.checkout(), &["fetch", "-q"]);
        }
        offers_a_rescue(&bench, &["1 commit of qa in", "is no longer in it", "oops"]);
    }
}

#[test]
fn a_withdrawn_commit_of_a_fresh_clone_is_not_pushed_again() {
    let bench = Bench::new();
    bench.push("oops", &[("key", Some("secret\n"))]);
    fs::remove_dir_all(bench.checkout()).unwrap();
    let mut step = bench.desired();
    step.url = Some(bench.remote().display().to_string());
    apply(&step, "run-0");
    git(&bench.seed(), &["reset", "-q", "--hard", "HEAD~1"]);
    force_push(&bench);
    offers_a_rescue(&bench, &["1 commit of qa in", "oops"]);
}

#[test]
fn amended_rebased_and_replaced_commits_are_not_called_local() {
    let bench = pulled();
    git(&bench.seed(), &["commit", "-q", "--amend", "-m", "amended"]);
    force_push(&bench);
    offers_a_rescue(&bench, &["1 commit of qa in", "oops"]);

    let bench = pulled();
    bench.push("second", &[("more", Some("x\n"))]);
    git(&bench.checkout(), &["pull", "-q"]);
    git(
        &bench.seed(),
        &["rebase", "-q", "--force-rebase", "--no-ff", "HEAD~2", "--exec", "git commit -q --amend -m new"],
    );
    force_push(&bench);
    offers_a_rescue(&bench, &["2 commits of qa in", "are no longer in it", "second", "oops"]);

    let bench = pulled();
    git(&bench.seed(), &["checkout", "-q", "--orphan", "new"]);
    git(&bench.seed(), &["commit", "-q", "-m", "replaced"]);
    git(&bench.seed(), &["branch", "-M", "qa"]);
    force_push(&bench);
    offers_a_rescue(&bench, &["no longer in it", "oops"]);
}

#[test]
fn local_commits_on_withdrawn_ones_are_told_apart_from_them() {
    let bench = pulled();
    let top = bench.checkout();
    write(&top, "a", Some("mine\n"));
    git(&top, &["commit", "-qam", "hot fix"]);
    git(&bench.seed(), &["reset", "-q", "--hard", "HEAD~1"]);
    force_push(&bench);
    offers_a_rescue(
        &bench,
        &["1 commit of qa in", "no longer in it", "oops", "1 local commit was never in it", "hot fix"],
    );
}

/// The refusal offers a rescue, and no command that publishes anything.
#[track_caller]
fn offers_no_push(bench: &Bench, what: &str) {
    let hint = refusal(&bench.desired()).hint.unwrap();
    assert!(hint.starts_with("set local_commits: rescue_and_reset"), "{what}: {hint}");
    assert!(!hint.contains("git -C") && !hint.contains("push them"), "{what}: {hint}");
}

/// Whatever way a commit came, where nothing tells that it was at the remote.
#[test]
fn a_withdrawn_commit_that_no_reflog_knows_is_not_pushed_again() {
    type Way = fn(&Bench);
    let pull: Way = |bench| drop(git(&bench.checkout(), &["pull", "-q"]));
    let pull_url: Way = |bench| drop(git(&bench.checkout(), &["pull", "-q", bench.remote().to_str().unwrap(), "qa"]));
    let rebase_url: Way =
        |bench| drop(git(&bench.checkout(), &["pull", "-q", "--rebase", bench.remote().to_str().unwrap(), "qa"]));
    let merge: Way = |bench| {
        git(&bench.checkout(), &["fetch", "-q", bench.remote().to_str().unwrap(), "qa"]);
        git(&bench.checkout(), &["merge", "-q", "FETCH_HEAD"]);
    };
    let merge_beside: Way = |bench| {
        write(&bench.checkout(), "own", Some("mine\n"));
        git(&bench.checkout(), &["add", "own"]);
        git(&bench.checkout(), &["commit", "-q", "-m", "own"]);
        git(&bench.checkout(), &["pull", "-q", "--no-rebase", bench.remote().to_str().unwrap(), "qa"]);
    };
    let reset: Way = |bench| {
        git(&bench.checkout(), &["fetch", "-q", bench.remote().to_str().unwrap(), "qa"]);
        git(&bench.checkout(), &["reset", "-q", "--hard", "FETCH_HEAD"]);
    };
    let ways = [pull, pull_url, rebase_url, merge, merge_beside, reset];
    for (number, way) in ways.into_iter().enumerate() {
        for without_log in [false, true] {
            let bench = Bench::new();
            let top = bench.checkout();
            let seen = git(&top, &["rev-parse", "refs/remotes/origin/qa"]);
            if without_log {
                git(&top, &["config", "core.logAllRefUpdates", "false"]);
                fs::remove_dir_all(top.join(".git/logs")).unwrap();
            }
            bench.push("oops", &[("key", Some("secret\n"))]);
            way(&bench);
            git(&bench.seed(), &["reset", "-q", "--hard", "HEAD~1"]);
            force_push(&bench);
            // As if the remote's branch had never been seen with it.
            git(&top, &["update-ref", "refs/remotes/origin/qa", seen.trim()]);
            let _ = fs::remove_dir_all(top.join(".git/logs/refs/remotes"));
            offers_no_push(&bench, &format!("way {number}, without_log: {without_log}"));
        }
    }
}

#[test]
fn commits_that_another_remote_has_are_not_pushed() {
    let bench = Bench::new();
    let top = bench.checkout();
    write(&top, "a", Some("mine\n"));
    git(&top, &["commit", "-qam", "hot fix"]);
    git(&top, &["update-ref", "refs/remotes/fork/qa", "HEAD"]);
    offers_no_push(&bench, "at a fork");
}

#[test]
fn the_push_that_is_offered_for_local_commits_works() {
    for behind in [false, true] {
        let bench = Bench::new();
        let top = bench.checkout();
        write(&top, "a", Some("mine\n"));
        git(&top, &["commit", "-qam", "hot fix"]);
        if behind {
            bench.push("more", &[("other", Some("x\n"))]);
        }
        let refusal = refusal(&bench.desired());
        let hint = refusal.hint.unwrap();
        let command = hint.split('`').nth(1).unwrap();
        let script = command.replace("git -C", "git -c user.name=n -c user.email=e@x -C");
        let done =
            std::process::Command::new("bash").args(["-c", &script]).env("HOME", "/nonexistent").output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(super::bench::plan(&bench.desired()).unwrap().unwrap().changes, [], "{command}");
    }
}
