//! Moves of a checkout, and what stays and what goes with them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::bench::{Bench, apply, execute, files, git, plan, seen, snapshot, try_git, write};
use crate::git::RepoPath;
use crate::git::open::open_repository;
use crate::git::worktree::create_parents;
use crate::resource::repository::{RepositoryChange, observe};
use crate::resource::{Change, Deployment, Lines};

fn update(bench: &Bench) -> Box<crate::resource::repository::change::Update> {
    match plan(&bench.desired()).unwrap().unwrap().changes.remove(0) {
        RepositoryChange::Update(update) => update,
        other => panic!("{other:?}"),
    }
}

fn head(bench: &Bench) -> String {
    git(&bench.seed(), &["rev-parse", "qa"]).trim().to_owned()
}

#[test]
fn a_checkout_at_the_head_has_converged() {
    let bench = Bench::new();
    let before = snapshot(bench.dir.path());
    assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes, []);
    assert_eq!(snapshot(bench.dir.path()), before);
}

#[test]
fn what_stays_in_a_folder_of_which_something_moves_is_listed() {
    let bench = Bench::new();
    bench.push("more", &[("d/c", Some("c2\n"))]);
    git(&bench.checkout(), &["rm", "-q", "--cached", "d/c"]);
    write(&bench.checkout(), "d/x", Some("mine\n"));
    let planned = plan(&bench.desired()).unwrap().unwrap();
    assert!(planned.notes.contains(&"1 local change kept: d/x (untracked)".to_owned()), "{:?}", planned.notes);
}

#[test]
fn of_many_local_changes_the_first_are_named_and_all_are_counted() {
    let bench = Bench::new();
    for number in 0..321 {
        write(&bench.checkout(), &format!("{}{number:03}", "n".repeat(200)), Some("x"));
    }
    let actual = observe::observe(&bench.desired()).unwrap();
    let length = serde_json::to_string(&actual).unwrap().len();
    assert!(length < 10_000, "{length} bytes");
    let notes = plan(&bench.desired()).unwrap().unwrap().notes;
    assert!(notes[0].starts_with("321 local changes kept: nnn") && notes[0].ends_with(" and 301 more"), "{notes:?}");
    assert_eq!(notes[0].matches("(untracked)").count(), 20);
}

#[test]
fn planning_leaves_no_trace() {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n")), ("new", Some("n\n"))]);
    write(&bench.checkout(), "a", Some("mine\n"));
    write(&bench.checkout(), "new", Some("mine too\n"));
    let before = snapshot(bench.dir.path());
    let planned = plan(&bench.desired()).unwrap().unwrap();
    assert_eq!(snapshot(bench.dir.path()), before);
    let described = planned.changes[0].describe();
    assert_eq!(described.summary.lines().count(), 1);
    let risk = "2 locally changed files will be rescued and replaced: a (modified, +1 -1), new (untracked, +1 -0)";
    assert_eq!(described.risk.as_deref(), Some(risk));
    let deployment = Deployment::of(&described.after).unwrap();
    assert_eq!((deployment.commits[0].subject.as_str(), deployment.commit_count), ("more", Some(1)));
    let files: Vec<_> =
        deployment.files.iter().map(|file| (file.path.as_str(), file.change.as_str(), file.lines)).collect();
    let lines = |added, removed| Some(Lines { added, removed });
    assert_eq!(files, [("a", "modified", lines(1, 1)), ("new", "added", lines(1, 0))]);
}

#[test]
fn a_pull_that_changes_modes_says_so() {
    let bench = Bench::new();
    write(&bench.seed(), "b", Some("b1\nmore\n"));
    for name in ["a", "b"] {
        fs::set_permissions(bench.seed().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    bench.push("modes", &[("new", Some("n\n"))]);
    // Of a local change, too, only the mode differs.
    fs::set_permissions(bench.checkout().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    let planned = plan(&bench.desired()).unwrap().unwrap();
    let after = planned.changes[0].describe().after;
    let modes = serde_json::json!({ "before": "0644", "after": "0755" });
    let file = |name: &str, change: &str, added: usize| serde_json::json!({ "path": name, "change": change, "lines": { "added": added, "removed": 0 } });
    let mut files = [file("a", "modified", 0), file("b", "modified", 1), file("new", "added", 1)];
    files[..2].iter_mut().for_each(|file| file["modes"] = modes.clone());
    assert_eq!(after["files"], serde_json::json!(files));
    apply(&bench.desired(), "run-1");
    assert_eq!(git(&bench.checkout(), &["status", "--porcelain"]), "");
}

#[test]
fn a_fast_forward_counts_the_commits_and_logs_as_git_does() {
    let bench = Bench::new();
    bench.push("two", &[("a", Some("a2\n"))]);
    bench.push("three", &[("d/c", None), ("e/f/g", Some("g\n"))]);
    let change = update(&bench);
    assert_eq!(change.behind, 2);
    let names: Vec<String> = change.paths.iter().map(|changed| changed.path.to_string()).collect();
    assert_eq!(names, ["a", "d/c", "e/f/g"]);
    apply(&bench.desired(), "run-1");
    assert_eq!(git(&bench.checkout(), &["rev-parse", "HEAD", "origin/qa"]), format!("{0}\n{0}\n", head(&bench)));
    assert!(!bench.checkout().join("d").exists());
    let log = git(&bench.checkout(), &["reflog", "-1", "HEAD"]);
    assert!(log.ends_with("HEAD@{0}: pull: Fast-forward\n"), "{log}");
    assert_eq!(git(&bench.checkout(), &["for-each-ref", "refs/provision"]), "");
    git(&bench.checkout(), &["fsck", "--strict"]);
}

#[test]
fn switching_creates_the_branch_as_git_checkout_does() {
    let bench = Bench::new();
    let git_made = bench.dir.path().join("git-made");
    for top in [&bench.checkout(), &git_made] {
        let _ = fs::remove_dir_all(top);
        git(bench.dir.path(), &["clone", "-q", bench.remote().to_str().unwrap(), top.to_str().unwrap()]);
    }
    bench.push("more", &[("q", Some("q2\n"))]);
    git(&git_made, &["checkout", "-q", "qa"]);
    git(&git_made, &["pull", "-q"]);
    apply(&bench.desired(), "run-1");
    assert_eq!(seen(&bench.checkout()), seen(&git_made));
    assert_eq!(git(&bench.checkout(), &["config", "-l", "--local"]), git(&git_made, &["config", "-l", "--local"]));
}

#[test]
fn a_detached_head_with_commits_of_its_own_is_rescued() {
    let bench = Bench::new();
    git(&bench.checkout(), &["checkout", "-q", "--detach"]);
    apply(&bench.desired(), "run-0");
    assert_eq!(git(&bench.checkout(), &["for-each-ref", "refs/provision"]), "");
    git(&bench.checkout(), &["checkout", "-q", "--detach"]);
    write(&bench.checkout(), "mine", Some("mine\n"));
    git(&bench.checkout(), &["add", "-A"]);
    git(&bench.checkout(), &["commit", "-qm", "mine"]);
    let mine = git(&bench.checkout(), &["rev-parse", "HEAD"]);
    apply(&bench.desired(), "run-1");
    assert_eq!(git(&bench.checkout(), &["rev-parse", "refs/provision/rescue/run-1-detached"]), mine);
    assert!(!bench.checkout().join("mine").exists());
}

#[test]
fn what_is_in_the_way_is_rescued_and_the_rest_stays() {
    let bench = Bench::new();
    bench.push(
        "more",
        &[
            ("a", Some("a2\n")),
            ("b", None),
            ("run.sh", Some("#!x\n")),
            ("d/new", Some("theirs\n")),
            ("place", Some("a file\n")),
            ("same", Some("same\n")),
        ],
    );
    let top = bench.checkout();
    write(&top, "a", Some("mine a\n"));
    write(&top, "b", Some("mine b\n"));
    git(&top, &["add", "b"]);
    fs::set_permissions(top.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    write(&top, "d/new", Some("mine new\n"));
    write(&top, "place/one", Some("1\n"));
    write(&top, "place/deep/two", Some("-> one"));
    write(&top, "same", Some("same\n"));
    write(&top, "q", Some("kept\n"));
    write(&top, "other", Some("kept too\n"));
    write(&top, "staged", Some("kept staged\n"));
    git(&top, &["add", "staged"]);
    let planned = apply(&bench.desired(), "run-1");
    assert_eq!(planned.notes, ["3 local changes kept: other (untracked), q (modified), staged (staged)".to_owned()]);
    assert_eq!(
        planned.changes[0].describe().risk.as_deref(),
        Some(
            "6 locally changed files will be rescued and replaced: a (modified, +1 -1), b (modified, +1 -1), \
             d/new (untracked, +1 -0), place/deep/two (untracked), place/one (untracked, +1 -0) and 1 more"
        )
    );
    assert_eq!(
        git(&top, &["status", "--porcelain"]),
        "M  staged\n".replace("M ", "A ").replace("A  staged\n", " M q\nA  staged\n?? other\n")
    );
    assert_eq!(git(&top, &["stash", "list"]), "");
    assert_eq!(fs::read_to_string(top.join("place")).unwrap(), "a file\n");
    // The rescue is a stash to git.
    let other = bench.dir.path().join("other");
    super::bench::copy(&top, &other);
    git(&other, &["checkout", "-q", "-f", "HEAD~1"]);
    git(&other, &["stash", "apply", "-q", "refs/provision/rescue/run-1"]);
    assert_eq!(fs::read_to_string(other.join("a")).unwrap(), "mine a\n");
    assert_eq!(fs::read_to_string(other.join("b")).unwrap(), "mine b\n");
    assert_eq!(fs::read_to_string(other.join("place/one")).unwrap(), "1\n");
    assert_eq!(fs::read_link(other.join("place/deep/two")).unwrap().to_str(), Some("one"));
    assert_eq!(fs::metadata(other.join("run.sh")).unwrap().permissions().mode() & 0o111, 0o111);
}

#[test]
fn local_commits_are_refused_or_rescued() {
    let bench = Bench::new();
    bench.push("theirs", &[("a", Some("a2\n"))]);
    write(&bench.checkout(), "mine", Some("mine\n"));
    git(&bench.checkout(), &["add", "-A"]);
    git(&bench.checkout(), &["commit", "-qm", "my own work"]);
    let mine = git(&bench.checkout(), &["rev-parse", "HEAD"]);
    let refused = super::bench::refusal(&bench.desired());
    assert!(refused.message.contains("my own work"), "{refused:?}");
    assert!(refused.hint.unwrap().contains("rescue_and_reset"));
    let mut desired = bench.desired();
    desired.local_commits = crate::resource::repository::LocalCommits::RescueAndReset;
    apply(&desired, "run-1");
    assert_eq!(git(&bench.checkout(), &["rev-parse", "refs/provision/rescue/run-1-commits"]), mine);
    assert_eq!(git(&bench.checkout(), &["rev-parse", "HEAD"]).trim(), head(&bench));
    assert_eq!(git(&bench.checkout(), &["status", "--porcelain"]), "");
}

#[test]
fn attributes_that_come_with_the_move_decide_on_line_endings() {
    let bench = Bench::new();
    bench.push("crlf", &[(".gitattributes", Some("*.bat eol=crlf\n")), ("x.bat", Some("one\ntwo\n"))]);
    let by_git = bench.dir.path().join("by-git");
    super::bench::copy(&bench.checkout(), &by_git);
    apply(&bench.desired(), "run-1");
    git(&by_git, &["pull", "-q"]);
    assert_eq!(fs::read(bench.checkout().join("x.bat")).unwrap(), b"one\r\ntwo\r\n");
    assert_eq!(files(&bench.checkout()), files(&by_git));
    assert_eq!(git(&bench.checkout(), &["status", "--porcelain"]), "");
}

#[test]
fn no_hook_is_run() {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n"))]);
    for hook in ["post-checkout", "post-merge", "pre-commit", "reference-transaction", "post-index-change"] {
        let path = bench.checkout().join(".git/hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\ntouch {}/ran\n", bench.dir.path().display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    git(&bench.checkout(), &["config", "core.fsmonitor", &format!("touch {}/ran;", bench.dir.path().display())]);
    apply(&bench.desired(), "run-1");
    assert!(!bench.dir.path().join("ran").exists());
    try_git(&bench.checkout(), &["status"]);
    assert!(bench.dir.path().join("ran").exists(), "git itself runs it");
}

#[test]
fn objects_that_go_after_the_plan_are_fetched() {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n"))]);
    git(&bench.checkout(), &["fetch", "-q", "origin"]);
    git(&bench.checkout(), &["update-ref", "refs/remotes/origin/qa", "HEAD"]);
    let planned = plan(&bench.desired()).unwrap().unwrap();
    git(&bench.checkout(), &["reflog", "expire", "--expire=now", "--all"]);
    git(&bench.checkout(), &["prune", "--expire=now"]);
    execute(&bench.desired(), &planned.changes[0], "run-1").unwrap();
    assert_eq!(fs::read_to_string(bench.checkout().join("a")).unwrap(), "a2\n");
}

#[test]
fn what_an_interrupted_fetch_left_out_is_fetched() {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n")), ("new/file", Some("new\n"))]);
    git(&bench.checkout(), &["fetch", "-q", "origin"]);
    for lost in ["a", "new"] {
        let object = git(&bench.seed(), &["rev-parse", &format!("qa:{lost}")]);
        let (folder, name) = object.trim().split_at(2);
        fs::remove_file(bench.checkout().join(".git/objects").join(folder).join(name)).unwrap();
    }
    git(&bench.checkout(), &["update-ref", "refs/remotes/origin/qa", "HEAD"]);
    apply(&bench.desired(), "run-1");
    assert_eq!(fs::read_to_string(bench.checkout().join("new/file")).unwrap(), "new\n");
    git(&bench.checkout(), &["fsck"]);
}

#[test]
fn a_configuration_that_is_broken_meanwhile_counts_as_it_was() {
    let bench = Bench::new();
    git(&bench.checkout(), &["config", "user.name", "Somebody"]);
    let repo = open_repository(&bench.checkout()).unwrap();
    write(&bench.checkout(), ".git/config", Some("[broken\n"));
    let config = repo.config().unwrap();
    assert_eq!(config.get_string("user.name").unwrap(), "Somebody");
    assert_eq!(config.get_string("core.sshCommand").unwrap_err().code(), git2::ErrorCode::NotFound);
    assert!(open_repository(&bench.checkout()).is_err());
}

#[test]
fn a_second_apply_writes_nothing() {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n"))]);
    write(&bench.checkout(), "a", Some("mine\n"));
    apply(&bench.desired(), "run-1");
    let before = snapshot(bench.dir.path());
    apply(&bench.desired(), "run-2");
    assert_eq!(snapshot(bench.dir.path()), before);
}

#[test]
fn names_of_every_sort_are_moved() {
    let bench = Bench::new();
    let names = ["with space", "new\nline", "\u{fc}ml\u{e4}ut", "quote\"back\\slash", "*", ":(glob)x", "[a]", "-x"];
    let files: Vec<(&str, Option<&str>)> = names.iter().map(|name| (*name, Some("x\n"))).collect();
    bench.push("names", &files);
    write(&bench.checkout(), "new\nline", Some("mine\n"));
    apply(&bench.desired(), "run-1");
    for name in names {
        assert_eq!(fs::read_to_string(bench.checkout().join(name)).unwrap(), "x\n", "{name}");
    }
    assert_eq!(git(&bench.checkout(), &["status", "--porcelain"]), "");
}

/// Stages `q` and does more, until file and index are of the same second.
fn stage_within_a_second(top: &Path, more: impl Fn()) {
    let second = |name: &str| fs::metadata(top.join(name)).unwrap().mtime();
    loop {
        write(top, "q", Some("staged\n"));
        let staged = second("q");
        git(top, &["add", "q"]);
        more();
        if [second("q"), second(".git/index")] == [staged, staged] {
            return;
        }
    }
}

#[test]
fn a_file_changed_in_the_second_in_which_it_was_staged_still_shows_as_changed() {
    let bench = Bench::new();
    let top = bench.checkout();
    stage_within_a_second(&top, || write(&top, "q", Some("edited\n")));
    bench.push("more", &[("a", Some("a2\n"))]);
    // The new index is of a later second, so nothing but what it says of the file can tell.
    std::thread::sleep(std::time::Duration::from_secs(1));
    apply(&bench.desired(), "run-1");
    assert_eq!(git(&top, &["status", "--porcelain"]), "MM q\n");
}

#[test]
fn a_file_that_did_not_change_in_that_second_need_not_be_read_again() {
    let bench = Bench::new();
    let top = bench.checkout();
    stage_within_a_second(&top, || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        git(&top, &["update-index", "--force-write-index"]);
    });
    bench.push("more", &[("a", Some("a2\n"))]);
    apply(&bench.desired(), "run-1");
    let index = git2::Index::open(&top.join(".git/index")).unwrap();
    assert_eq!(index.get_path(Path::new("q"), 0).unwrap().file_size, 7);
}

#[test]
fn directories_are_made_and_no_link_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
    for folder in [&top, &outside] {
        fs::create_dir(folder).unwrap();
    }
    std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
    create_parents(&top, &RepoPath::new("a/b/file")).unwrap();
    assert!(top.join("a/b").is_dir() && !top.join("a/b/file").exists());
    let failure = create_parents(&top, &RepoPath::new("link/b/file")).unwrap_err();
    assert!(failure.message.contains("was changed meanwhile"), "{failure:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_file_changed_right_after_it_was_brought_shows_as_changed() {
    for (before, name) in [("a1\n", "a"), ("a2\n", "a file that has the target's content already")] {
        let bench = Bench::new();
        let top = bench.checkout();
        write(&top, "a", Some(before));
        bench.push("more", &[("a", Some("a2\n")), ("last", Some("x\n"))]);
        let change = RepositoryChange::Update(update(&bench));
        let (file, last) = (top.join("a"), top.join("last"));
        // Whoever saves at any moment after the files are in place, and before the index is: the write through to the
        // disk lies between.
        let somebody = std::thread::spawn(move || {
            while !last.exists() {}
            fs::write(file, "X2\n").unwrap();
        });
        execute(&bench.desired(), &change, "run-1").unwrap();
        somebody.join().unwrap();
        assert_eq!(git(&top, &["status", "--porcelain"]), " M a\n", "{name}");
        // git reads what is as young as its index in any case; a later index would be believed.
        let entry = git2::Index::open(&top.join(".git/index")).unwrap().get_path(Path::new("a"), 0).unwrap();
        let found = fs::metadata(top.join("a")).unwrap();
        let recorded = (i64::from(entry.mtime.seconds()), i64::from(entry.mtime.nanoseconds()));
        assert_ne!(recorded, (found.mtime(), found.mtime_nsec()), "{name}");
    }
}

#[test]
fn a_line_end_that_safecrlf_would_turn_down_is_a_local_change() {
    let bench = Bench::new();
    let top = bench.checkout();
    git(&top, &["config", "core.autocrlf", "input"]);
    git(&top, &["config", "core.safecrlf", "true"]);
    write(&top, "a", Some("mine\r\n"));
    bench.push("more", &[("a", Some("a2\n"))]);
    apply(&bench.desired(), "run-1");
    assert_eq!(git(&top, &["show", "refs/provision/rescue/run-1:a"]), "mine\r\n");
}

#[test]
fn a_branch_that_the_fetch_configuration_maps_to_itself_is_moved_once() {
    let bench = Bench::new();
    git(&bench.checkout(), &["config", "remote.origin.fetch", "+refs/heads/*:refs/heads/*"]);
    bench.push("more", &[("a", Some("a2\n"))]);
    apply(&bench.desired(), "run-1");
    assert_eq!(git(&bench.checkout(), &["rev-parse", "HEAD"]).trim(), head(&bench));
    // What a person commits there is local work, though the branch is all that there is to tell by.
    write(&bench.checkout(), "a", Some("mine\n"));
    git(&bench.checkout(), &["commit", "-qam", "mine"]);
    let refusal = plan(&bench.desired()).unwrap().unwrap_err();
    assert!(refusal.hint.is_some_and(|hint| hint.starts_with("push them")));
}

#[test]
fn a_plan_says_that_a_pull_does_not_keep_a_narrower_mode() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let set = |name: &str, mode| {
        fs::set_permissions(bench.checkout().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    bench.push("more", &[("a", Some("a2\n")), ("b", Some("b2\n")), ("d/c", None)]);
    for name in ["a", "q", "d/c"] {
        set(name, 0o600);
    }
    let warnings = plan(&bench.desired()).unwrap().unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("a has mode 0600"), "{warnings:?}");
    apply(&bench.desired(), "run-1");
    assert!(plan(&bench.desired()).unwrap().unwrap().warnings.is_empty());
}
