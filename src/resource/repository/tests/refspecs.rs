//! Fetch configurations of all shapes: an update moves the refs that `git fetch` moves, and no others.

use std::collections::BTreeMap;
use std::fs;

use super::bench::{Bench, apply, copy, git, snapshot, try_git};

/// All refs but the step's branch, with what they are at.
fn refs(top: &std::path::Path) -> BTreeMap<String, String> {
    let listed = git(top, &["for-each-ref", "--format=%(refname) %(objectname) %(symref)"]);
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    pairs.filter(|(name, _)| *name != "refs/heads/qa").map(|(name, at)| (name.to_owned(), at.to_owned())).collect()
}

/// Sets the refspecs, then rewrites the remote's branch or adds a commit to it.
fn bench(specs: &[&str], rewritten: bool) -> Bench {
    let bench = Bench::new();
    let top = bench.checkout();
    try_git(&top, &["config", "--unset-all", "remote.origin.fetch"]);
    for spec in specs {
        git(&top, &["config", "--add", "remote.origin.fetch", spec]);
    }
    for name in ["refs/heads/copy", "refs/remotes/origin/copy", "refs/elsewhere/copy"] {
        git(&top, &["update-ref", name, "origin/qa"]);
    }
    git(&top, &["symbolic-ref", "refs/remotes/origin/link", "refs/remotes/origin/copy"]);
    if rewritten {
        git(&bench.seed(), &["commit", "-q", "--amend", "-m", "amended"]);
        git(&bench.seed(), &["push", "-qf", "origin", "qa"]);
        return bench;
    }
    bench.push("more", &[("a", Some("a2\n"))]);
    git(&bench.seed(), &["tag", "-m", "a tag", "v1"]);
    git(&bench.seed(), &["push", "-q", "origin", "v1"]);
    bench
}

#[test]
fn refs_are_moved_as_git_fetch_moves_them() {
    let cases: &[&[&str]] = &[
        &["+refs/heads/*:refs/remotes/origin/*"],
        &["refs/heads/*:refs/remotes/origin/*"],
        &["refs/heads/qa:refs/remotes/origin/qa"],
        // Without a destination.
        &[],
        &["refs/heads/qa"],
        &["+refs/heads/qa:"],
        &["qa"],
        &["refs/heads/main", "refs/heads/qa:refs/remotes/origin/qa"],
        // Short names.
        &["qa:refs/remotes/origin/qa"],
        &["heads/qa:remotes/origin/copy"],
        // Other places.
        &["+refs/heads/*:refs/remotes/up/stream/*"],
        &["refs/heads/qa:refs/elsewhere/copy"],
        &["+refs/*:refs/remotes/all/*"],
        // Patterns in the middle.
        &["+refs/heads/q*:refs/remotes/origin/q*"],
        &["refs/heads/*a:refs/remotes/origin/*-a"],
        &["refs/heads/q*:refs/remotes/middle/q*/x"],
        &["refs/*/qa:refs/remotes/*/copy"],
        &["refs/heads/qaa*:refs/remotes/origin/qa*"],
        // Several.
        &["refs/heads/*:refs/remotes/origin/*", "+refs/heads/qa:refs/remotes/origin/copy"],
        &["refs/heads/*:refs/remotes/origin/*", "refs/heads/*:refs/remotes/origin/*"],
        // Without some.
        &["+refs/heads/*:refs/remotes/origin/*", "^refs/heads/qa"],
        &["^refs/heads/q*", "+refs/heads/*:refs/remotes/origin/*"],
        &["+refs/heads/*:refs/remotes/origin/*", "^qa", "^refs/heads/main"],
        // Not the branch.
        &["HEAD:refs/remotes/origin/tip"],
        &["@:refs/remotes/origin/tip"],
        &[":refs/remotes/origin/tip"],
        &["+refs/tags/*:refs/tags/*"],
        &["refs/heads/main:refs/remotes/origin/main"],
    ];
    let mut wrong = Vec::new();
    let is_of_others =
        |name: &str| name.starts_with("refs/remotes/all/tags/") || name.ends_with("/tip") || name.ends_with("/main");
    for (specs, rewritten) in cases.iter().zip([false].into_iter().cycle()).chain(cases[..4].iter().zip([true; 4])) {
        let bench = bench(specs, rewritten);
        let top = bench.checkout();
        let by_git = bench.dir.path().join("by-git");
        copy(&top, &by_git);
        let said = try_git(&by_git, &["fetch"]).stderr;
        let mut desired = bench.desired();
        if rewritten {
            desired.local_commits = serde_yaml::from_str("rescue_and_reset").unwrap();
        }
        let (before, before_fetch) = (snapshot(&top), refs(&top));
        super::bench::plan(&desired).unwrap().unwrap();
        assert!(snapshot(&top) == before, "{specs:?}");
        apply(&desired, "run-1");
        let mut found = refs(&top);
        found.retain(|name, _| !name.starts_with("refs/provision/"));
        // Other branches, tags and the remote's HEAD are not asked for, so what git stores of them stays as it was.
        let mut expected = refs(&by_git);
        let own = before_fetch;
        expected.retain(|name, _| own.contains_key(name) || !is_of_others(name));
        for (name, id) in own.iter().filter(|(name, _)| is_of_others(name)) {
            expected.insert(name.clone(), id.clone());
        }
        if found != expected {
            wrong.push(format!("{specs:?}: {found:#?}, git {expected:#?} {}", String::from_utf8_lossy(&said)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// git would move these refs. They may contain local work, and the step is about one branch.
#[test]
fn no_other_branch_and_no_tag_is_moved() {
    for spec in [
        "refs/heads/qa:refs/heads/copy",
        "+refs/heads/qa:copy",
        "+refs/heads/q*:refs/heads/*",
        "+refs/heads/qa:refs/tags/latest",
        "+qa:tags/latest",
        "+refs/heads/qa:refs/stash",
        "+refs/heads/*:refs/provision/rescue/*",
        "+refs/heads/qa:refs/remotes/origin/link",
    ] {
        let bench = bench(&[spec], false);
        let top = bench.checkout();
        git(&top, &["tag", "latest"]);
        git(&top, &["tag", "v1"]);
        let before = refs(&top);
        apply(&bench.desired(), "run-1");
        assert_eq!(refs(&top), before, "{spec}");
        assert_eq!(git(&top, &["rev-parse", "HEAD"]), git(&bench.seed(), &["rev-parse", "qa"]));
    }
}

/// git refuses a remote with such a configuration.
#[test]
fn an_invalid_refspec_is_reported_with_its_remedy() {
    let bench = bench(&["refs/heads/*"], false);
    let failure = super::bench::plan(&bench.desired()).unwrap_err();
    assert!(failure.message.ends_with("invalid refspec 'refs/heads/*'"), "{failure:?}");
    assert!(failure.hint.is_some_and(|hint| hint.contains("correct the setting remote.<name>.fetch")));
}

/// A tag has precedence over a branch where a name is short (gitrevisions(7)).
#[test]
fn a_short_name_means_a_tag_first() {
    let bench = bench(&["+qa:refs/remotes/origin/qa"], false);
    git(&bench.checkout(), &["tag", "qa"]);
    let before = refs(&bench.checkout())["refs/remotes/origin/qa"].clone();
    apply(&bench.desired(), "run-1");
    assert_eq!(refs(&bench.checkout())["refs/remotes/origin/qa"], before);
    assert!(fs::metadata(bench.checkout().join(".git/refs/tags/v1")).is_ok());
}
