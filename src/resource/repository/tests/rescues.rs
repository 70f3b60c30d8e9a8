//! What was rescued comes back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::bench::{Bench, apply, files, git, restore, write};
use crate::resource::repository::LocalCommits;
use crate::resource::repository::opened::RescueKind;
use crate::resource::repository::restore::{list as list_rescues, show as show_rescue};

fn rescued() -> Bench {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n")), ("b", None), ("d/c", Some("c2\n")), ("new", Some("theirs\n"))]);
    let top = bench.checkout();
    git(&top, &["config", "core.autocrlf", "input"]);
    write(&top, "a", Some("mine\r\nand mine\n"));
    fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    write(&top, "b", Some("-> a"));
    write(&top, "d/c", None);
    write(&top, "new", Some("mine \u{0}\u{1}\n"));
    apply(&bench.desired(), "run-1");
    bench
}

#[test]
fn restoring_brings_bytes_modes_and_links_back() {
    let bench = rescued();
    let top = bench.checkout();
    let found = list_rescues(&top).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id.as_str(), found[0].kind), ("run-1", RescueKind::Changes));
    assert_eq!(found[0].files.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b", "d/c", "new"]);
    let text = String::from_utf8(show_rescue(&top, "run-1").unwrap()).unwrap();
    assert!(text.contains("+and mine") && text.contains("b/new"), "{text}");
    let restored = restore(&top, "run-1").unwrap();
    assert_eq!(restored.len(), 4);
    assert_eq!(fs::read_to_string(top.join("a")).unwrap(), "mine\r\nand mine\n");
    assert_eq!(fs::metadata(top.join("a")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_link(top.join("b")).unwrap().to_str(), Some("a"));
    assert!(!top.join("d/c").exists());
    assert_eq!(fs::read(top.join("new")).unwrap(), b"mine \x00\x01\n");
    assert!(!top.join(".git/provision").exists());
    assert_eq!(restore(&top, "run-1").unwrap().len(), 0, "it is all there");
    // The ref goes by the command that the listing names.
    assert!(Command::new("bash").arg("-c").arg(&found[0].delete).status().unwrap().success());
    assert_eq!(list_rescues(&top).unwrap(), []);
}

#[test]
fn restoring_does_not_replace_newer_work() {
    let bench = rescued();
    let top = bench.checkout();
    for (name, content) in [("a", "newer\n"), ("b", "newer\n")] {
        let before_write = files(&top);
        write(&top, name, Some(content));
        let before = files(&top);
        let failure = restore(&top, "run-1").unwrap_err();
        assert!(failure.message.contains(&format!("nothing was restored: {name} would")), "{failure:?}");
        assert_eq!(files(&top), before);
        if before_write.contains_key(name) {
            git(&top, &["checkout", "-q", "--", name]);
        } else {
            write(&top, name, None);
        }
        assert_eq!(files(&top), before_write);
    }
}

#[test]
fn rescued_commits_are_told_how_to_come_back() {
    let bench = Bench::new();
    let top = bench.checkout();
    for (name, content) in [("mine", "x\n"), ("also mine", "y\n")] {
        write(&top, name, Some(content));
        git(&top, &["add", "-A"]);
        git(&top, &["commit", "-qm", name]);
    }
    let mut desired = bench.desired();
    desired.local_commits = LocalCommits::RescueAndReset;
    apply(&desired, "run-1");
    let found = list_rescues(&top).unwrap();
    assert_eq!((found[0].id.as_str(), found[0].kind), ("run-1-commits", RescueKind::Commits));
    let text = String::from_utf8(show_rescue(&top, "run-1-commits").unwrap()).unwrap();
    assert!(text.find("+x\n") < text.find("+y\n") && text.contains("+x\n"), "every commit, in order: {text}");
    let hint = restore(&top, "run-1-commits").unwrap_err().hint.unwrap();
    assert!(hint.contains("branch rescued-run-1-commits refs/provision/rescue/run-1-commits"), "{hint}");
    let way_back = found[0].way_back.as_ref().unwrap();
    assert!(Command::new("bash").arg("-c").arg(way_back).status().unwrap().success());
    assert_eq!(git(&top, &["rev-parse", "rescued-run-1-commits"]).trim(), found[0].commit);
    let unknown = restore(&top, "run-2").unwrap_err();
    assert_eq!(unknown.hint.as_deref(), Some("there is run-1-commits"));
}

#[test]
fn what_was_staged_comes_back_staged_and_reverts_nothing() {
    let bench = Bench::new();
    let top = bench.checkout();
    write(&top, "a", Some("staged\n"));
    write(&top, "b", Some("staged b\n"));
    git(&top, &["add", "a", "b"]);
    git(&top, &["rm", "-q", "--cached", "d/c"]);
    write(&top, "a", Some("a1\n"));
    write(&top, "b", Some("edited b\n"));
    bench.push("more", &[("a", Some("a2\n")), ("b", Some("b2\n")), ("d/c", Some("c2\n"))]);
    apply(&bench.desired(), "run-1");
    let text = String::from_utf8(show_rescue(&top, "run-1").unwrap()).unwrap();
    for line in ["+staged", "+staged b", "+edited b"] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    assert_eq!(list_rescues(&top).unwrap()[0].files.len(), 3);
    assert_eq!(restore(&top, "run-1").unwrap().len(), 3);
    assert_eq!(fs::read_to_string(top.join("a")).unwrap(), "a2\n", "the pulled file stays");
    assert_eq!(fs::read_to_string(top.join("b")).unwrap(), "edited b\n");
    assert_eq!(git(&top, &["show", ":a"]), "staged\n");
    assert_eq!(git(&top, &["show", ":b"]), "staged b\n");
    assert_eq!(git(&top, &["ls-files", "d/c"]), "");
    assert_eq!(restore(&top, "run-1").unwrap().len(), 0, "it is all there");
    write(&top, "a", Some("newer\n"));
    git(&top, &["add", "a"]);
    let failure = restore(&top, "run-1").unwrap_err();
    assert!(failure.message.contains("a in the index"), "{failure:?}");
    assert_eq!(git(&top, &["show", ":a"]), "newer\n");
}

#[test]
fn what_git_is_told_to_pass_over_is_newer_work_all_the_same() {
    for (mark, no_mark) in [("--skip-worktree", "--no-skip-worktree"), ("--assume-unchanged", "--no-assume-unchanged")]
    {
        let bench = rescued();
        let top = bench.checkout();
        git(&top, &["update-index", mark, "a"]);
        write(&top, "a", Some("newer\n"));
        let failure = restore(&top, "run-1").unwrap_err();
        assert!(failure.message.contains("nothing was restored: a would"), "{failure:?}");
        assert_eq!(fs::read_to_string(top.join("a")).unwrap(), "newer\n");
        git(&top, &["update-index", no_mark, "a"]);
        git(&top, &["checkout", "-q", "a"]);
        assert_eq!(restore(&top, "run-1").unwrap().len(), 4);
    }
}

#[test]
fn what_was_gone_is_gone_where_a_directory_came_in_its_place() {
    let bench = Bench::new();
    let top = bench.checkout();
    write(&top, "a", None);
    write(&top, "b", None);
    bench.push("more", &[("a", Some("a2\n")), ("b", Some("b2\n"))]);
    apply(&bench.desired(), "run-1");
    bench.push("still more", &[("a/x", Some("x\n"))]);
    apply(&bench.desired(), "run-2");
    assert_eq!(restore(&top, "run-1").unwrap().len(), 1);
    assert_eq!(git(&top, &["status", "--porcelain"]), " D b\n");
    assert_eq!(restore(&top, "run-1").unwrap(), [], "it is all there");
}

#[test]
fn what_a_rescue_cannot_write_it_does_not_begin_to_write() {
    for missing in ["refs/provision/rescue/run-1:d/c", "refs/provision/rescue/run-1^2:d/c"] {
        let bench = Bench::new();
        let top = bench.checkout();
        write(&top, "a", Some("my a\n"));
        write(&top, "d/c", Some("staged c\n"));
        git(&top, &["add", "d/c"]);
        write(&top, "d/c", Some("my c\n"));
        bench.push("more", &[("a", Some("a2\n")), ("d/c", Some("c2\n"))]);
        apply(&bench.desired(), "run-1");
        let lost = git(&top, &["rev-parse", missing]);
        let (folder, name) = lost.trim().split_at(2);
        fs::remove_file(top.join(".git/objects").join(folder).join(name)).unwrap();
        let before = files(&top);
        assert!(restore(&top, "run-1").is_err());
        assert_eq!(files(&top), before);
        assert_eq!(git(&top, &["status", "--porcelain"]), "");
        assert!(!top.join(".git/provision").exists() && !top.join(".git/index.lock").exists());
    }
}

#[test]
fn nothing_is_restored_beside_a_conflict_or_into_another_repository() {
    let bench = rescued();
    let top = bench.checkout();
    let id = git(&top, &["rev-parse", "HEAD:a"]);
    let entry = format!("100644 {} 1\tconflict\n", id.trim());
    let listing = bench.dir.path().join("listing");
    fs::write(&listing, entry).unwrap();
    let mut index = Command::new("git");
    index.args(["update-index", "--index-info"]).current_dir(&top).stdin(fs::File::open(&listing).unwrap());
    assert!(index.status().unwrap().success());
    let before = files(&top);
    let failure = restore(&top, "run-1").unwrap_err();
    assert!(failure.message.contains("holds a conflict in conflict"), "{failure:?}");
    git(&top, &["reset", "-q"]);
    assert_eq!(files(&top), before);

    let bench = Bench::new();
    let top = bench.checkout();
    write(&top, "n/mine", Some("mine\n"));
    bench.push("more", &[("n/mine", Some("theirs\n"))]);
    apply(&bench.desired(), "run-1");
    bench.push("no more", &[("n/mine", None)]);
    apply(&bench.desired(), "run-2");
    git(&top, &["init", "-q", "n"]);
    let failure = restore(&top, "run-1").unwrap_err();
    assert!(failure.message.contains("nothing was restored: n/mine would"), "{failure:?}");
    assert!(!top.join("n/mine").exists());
}

#[test]
fn modes_of_old_trees_are_no_change_and_block_no_rescue() {
    for mode in ["100664", "100640", "100775", "100600"] {
        let bench = Bench::new();
        let top = bench.checkout();
        let blob = git(&top, &["hash-object", "-w", "q"]);
        let id: Vec<u8> = (0..40).step_by(2).map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap()).collect();
        let mut tree = Vec::new();
        for (mode, name) in [(mode, "kept"), (mode, "old"), ("100644", "q")] {
            tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            tree.extend_from_slice(&id);
        }
        let file = bench.dir.path().join("tree");
        fs::write(&file, tree).unwrap();
        let tree = git(&top, &["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()]);
        let commit = git(&top, &["commit-tree", "-p", "HEAD", "-m", "old", tree.trim()]);
        git(&top, &["push", "-q", "origin", &format!("{}:refs/heads/qa", commit.trim())]);
        apply(&bench.desired(), "run-1");
        assert_eq!(git(&top, &["status", "--porcelain"]), "");
        write(&top, "q", Some("mine\n"));
        git(&bench.seed(), &["pull", "-q", "--ff-only", "origin", "qa"]);
        bench.push("more", &[("q", Some("q2\n")), ("old", Some("new\n"))]);
        let planned = apply(&bench.desired(), "run-2");
        let risk = crate::resource::Change::describe(&planned.changes[0]).risk.unwrap();
        assert!(risk.starts_with("1 locally changed file will be rescued and replaced: q (modified"), "{mode}: {risk}");
        assert_eq!(git(&top, &["status", "--porcelain"]), "");
        assert_eq!(restore(&top, "run-2").unwrap().len(), 1);
    }
}

#[test]
fn a_staged_file_in_the_place_of_a_directory_is_kept_and_comes_back() {
    let bench = Bench::new();
    let top = bench.checkout();
    let head = git(&top, &["rev-parse", "HEAD"]);
    write(&top, "d", Some("mine\n"));
    git(&top, &["add", "-A", "d"]);
    bench.push("more", &[("d/x", Some("theirs\n"))]);
    apply(&bench.desired(), "run-1");
    for commit in ["run-1", "run-1^2"] {
        assert_eq!(git(&top, &["show", &format!("refs/provision/rescue/{commit}:d")]), "mine\n");
    }
    let before = files(&top);
    let failure = restore(&top, "run-1").unwrap_err();
    assert!(failure.message.contains("d (now a directory), d in the index would be"), "{failure:?}");
    assert_eq!(files(&top), before);
    git(&top, &["checkout", "-q", "-f", "--detach", head.trim()]);
    restore(&top, "run-1").unwrap();
    assert_eq!(fs::read_to_string(top.join("d")).unwrap(), "mine\n");
    assert_eq!(git(&top, &["status", "--porcelain"]), "A  d\nD  d/c\n");
    // And the other way round: a directory comes back in the place of a file.
    git(&top, &["checkout", "-q", "-f", "qa"]);
    let head = git(&top, &["rev-parse", "HEAD"]);
    write(&top, "a/b", Some("mine\n"));
    bench.push("still more", &[("a", Some("a2\n"))]);
    apply(&bench.desired(), "run-2");
    git(&top, &["checkout", "-q", "-f", "--detach", head.trim()]);
    assert!(restore(&top, "run-2").is_ok());
    assert_eq!(fs::read_to_string(top.join("a/b")).unwrap(), "mine\n");
}

#[test]
fn where_no_checkout_is_no_rescue_is() {
    let bench = Bench::new();
    for path in [bench.dir.path().join("absent/app"), bench.dir.path().to_owned(), bench.checkout().join("a")] {
        assert_eq!(list_rescues(&path).unwrap(), []);
    }
}

#[test]
fn nothing_is_restored_where_others_decide_what_the_path_is() {
    let bench = rescued();
    let top = bench.checkout();
    std::os::unix::fs::chown(bench.dir.path(), Some(65_534), None).unwrap();
    let before = files(&top);
    let failure = restore(&top, "run-1").unwrap_err();
    assert!(failure.message.contains("as root: users other than root"), "{failure:?}");
    assert_eq!(files(&top), before);
}
