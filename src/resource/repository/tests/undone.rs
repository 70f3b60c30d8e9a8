//! A restore reports what it undoes. Rescued files that can no longer be written in their place are written elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::bench::{Bench, apply, files, git, restore_with_notes, write};
use crate::resource::Restoring;
use crate::resource::repository::restore::{extract, restore};

const FIVE: &str = "one\ntwo\nthree\nfour\nfive\n";

fn with(line: &str, new: &str) -> String {
    FIVE.replace(&format!("{line}\n"), &format!("{new}\n"))
}

/// Returns a checkout with a local change that an update has rescued.
fn rescued(mine: &[(&str, Option<&str>)], theirs: &[(&str, Option<&str>)]) -> Bench {
    let bench = Bench::new();
    bench.push("base", &[("f", Some(FIVE)), ("g", Some(FIVE))]);
    apply(&bench.desired(), "run-0");
    for (name, content) in mine {
        write(&bench.checkout(), name, *content);
    }
    bench.push("theirs", theirs);
    apply(&bench.desired(), "run-1");
    bench
}

/// Runs the command in backticks of a note.
fn paste(note: &str, number: usize) -> std::process::Output {
    let command = note.split('`').nth(2 * number + 1).unwrap();
    Command::new("bash").arg("-c").arg(command).env("HOME", "/nonexistent").output().unwrap()
}

#[test]
fn a_restore_names_what_it_undoes_and_offers_to_merge() {
    let (mine, theirs) = (with("one", "one LOCAL"), with("five", "five UP"));
    let bench =
        rescued(&[("f", Some(&mine)), ("g", Some("all mine\n"))], &[("f", Some(&theirs)), ("g", Some("all theirs\n"))]);
    let top = bench.checkout();
    let (paths, notes) = restore_with_notes(&top, "run-1").unwrap();
    assert_eq!(paths.len(), 2);
    assert!(notes[0].starts_with("this undoes what was committed since the rescue in f, g; "), "{notes:?}");
    let shown = String::from_utf8(paste(&notes[0], 0).stdout).unwrap();
    assert!(shown.contains("-five UP") && shown.contains("-all theirs"), "{shown}");
    // Not everything can be merged.
    assert!(notes[1].contains("--to DIR"), "{notes:?}");

    let bench = rescued(&[("f", Some(&mine))], &[("f", Some(&theirs))]);
    let top = bench.checkout();
    let (_, notes) = restore_with_notes(&top, "run-1").unwrap();
    assert_eq!(fs::read_to_string(top.join("f")).unwrap(), mine);
    let output = paste(&notes[1], 0);
    assert!(output.status.success(), "{notes:?} {output:?}");
    assert_eq!(fs::read_to_string(top.join("f")).unwrap(), with("one", "one LOCAL").replace("five", "five UP"));
    assert_eq!(git(&top, &["diff", "--name-only"]), "f\n");
}

#[test]
fn every_change_that_a_restore_undoes_is_named() {
    for (mine, theirs) in [
        // Deleted here, and a file that upstream has begun to track.
        (("f", None), ("f", Some("theirs\n"))),
        (("new", Some("mine\n")), ("new", Some("theirs\n"))),
        (("f", Some("-> g")), ("f", Some("theirs\n"))),
    ] {
        let bench = rescued(&[mine], &[theirs]);
        let (paths, notes) = restore_with_notes(&bench.checkout(), "run-1").unwrap();
        assert_eq!(paths.len(), 1, "{mine:?}");
        assert!(notes[0].contains(&format!("since the rescue in {}; ", mine.0)), "{mine:?} {notes:?}");
        let shown = paste(&notes[0], 0);
        assert!(shown.status.success() && !shown.stdout.is_empty(), "{notes:?} {shown:?}");
    }
}

/// Git shows no difference of a file that it does not track.
#[test]
fn a_restored_file_that_upstream_has_deleted_is_named_without_a_diff() {
    let undone = "this undoes what was committed since the rescue in";
    let bench = rescued(&[("f", Some("mine\n"))], &[("f", None)]);
    let (_, notes) = restore_with_notes(&bench.checkout(), "run-1").unwrap();
    assert_eq!(notes[0], format!("{undone} f; HEAD no longer has f"));
    let mine = Some("mine\n");
    let bench = rescued(&[("f", mine), ("g", mine)], &[("f", None), ("g", Some("theirs\n"))]);
    let (_, notes) = restore_with_notes(&bench.checkout(), "run-1").unwrap();
    assert!(notes[0].starts_with(&format!("{undone} f, g; ")) && notes[0].ends_with("; HEAD no longer has f"));
    let shown = String::from_utf8(paste(&notes[0], 0).stdout).unwrap();
    assert!(notes[0].contains("-- g`") && shown.contains("-theirs"), "{notes:?} {shown}");
    // What was staged is staged again.
    let bench = Bench::new();
    bench.push("base", &[("f", Some(FIVE)), ("g", Some(FIVE))]);
    apply(&bench.desired(), "run-0");
    let top = bench.checkout();
    write(&top, "f", mine);
    git(&top, &["add", "f"]);
    bench.push("theirs", &[("f", None)]);
    apply(&bench.desired(), "run-1");
    let (_, notes) = restore_with_notes(&top, "run-1").unwrap();
    let shown = String::from_utf8(paste(&notes[0], 0).stdout).unwrap();
    assert!(shown.contains("+mine") && !notes[0].contains("no longer"), "{notes:?} {shown}");
}

#[test]
fn a_restore_that_undoes_nothing_has_no_notes() {
    let bench = rescued(&[("f", Some("mine\n"))], &[("f", Some("theirs\n"))]);
    let top = bench.checkout();
    bench.push("back", &[("f", Some(FIVE))]);
    apply(&bench.desired(), "run-2");
    assert_eq!(restore_with_notes(&top, "run-1").unwrap().1, Vec::<String>::new());
    assert_eq!(fs::read_to_string(top.join("f")).unwrap(), "mine\n");
    // There is nothing left to restore.
    assert_eq!(restore_with_notes(&top, "run-1").unwrap(), (Vec::new(), Vec::new()));
}

/// Paths that git would take for patterns, or a shell for something else.
#[test]
fn printed_commands_change_only_the_paths_that_they_name() {
    let (mine, theirs) = (with("one", "one LOCAL"), with("five", "five UP"));
    for (name, other) in
        [("f[1].txt", "f1.txt"), ("*", "f1.txt"), ("a b?", "a bc"), (":(top)x", "x"), (":!x", "x"), ("-q", "x")]
            .into_iter()
            .chain([
                ("a\nb", "a b"),
                ("back\\slash", "backslash"),
                ("tab\there", "tab"),
                ("a`b", "ab"),
                ("it's", "its"),
            ])
    {
        let bench = Bench::new();
        bench.push("base", &[(name, Some(FIVE)), (other, Some(FIVE)), ("d/f1.txt", Some(FIVE))]);
        apply(&bench.desired(), "run-0");
        let top = bench.checkout();
        write(&top, name, Some(&mine));
        bench.push("theirs", &[(name, Some(&theirs))]);
        apply(&bench.desired(), "run-1");
        let unrelated = [other, "d/f1.txt", "a"];
        unrelated.iter().for_each(|path| write(&top, path, Some("an edit of its own\n")));
        let (_, notes) = restore_with_notes(&top, "run-1").unwrap();
        let shown = String::from_utf8(paste(&notes[0], 0).stdout).unwrap();
        assert!(shown.contains("-five UP") && !shown.contains("of its own"), "{notes:?} {shown}");
        let output = paste(&notes[1], 0);
        assert!(output.status.success(), "{notes:?} {output:?}");
        let both = with("one", "one LOCAL").replace("five", "five UP");
        assert_eq!(fs::read_to_string(top.join(name)).unwrap(), both, "{name}");
        for path in unrelated {
            assert_eq!(fs::read_to_string(top.join(path)).unwrap(), "an edit of its own\n", "{path} beside {name}");
        }
    }
}

/// The index too is restored, over what was committed since.
#[test]
fn a_deletion_that_is_staged_again_is_named_as_undone() {
    let bench = Bench::new();
    bench.push("base", &[("plain", Some(FIVE)), ("f", Some(FIVE))]);
    apply(&bench.desired(), "run-0");
    let top = bench.checkout();
    git(&top, &["rm", "-q", "--cached", "plain"]);
    write(&top, "f", Some(&with("one", "one LOCAL")));
    let theirs = with("five", "five UP");
    bench.push("theirs", &[("plain", Some(&theirs)), ("f", Some(&theirs))]);
    apply(&bench.desired(), "run-1");
    write(&top, "a", Some("an edit of its own\n"));
    let (_, notes) = restore_with_notes(&top, "run-1").unwrap();
    assert!(notes[0].starts_with("this undoes what was committed since the rescue in f, plain; "), "{notes:?}");
    let shown = String::from_utf8(paste(&notes[0], 0).stdout).unwrap();
    assert_eq!(shown.matches("-five UP").count(), 2, "{shown}");
    // A merge would not stage the deletion.
    assert!(notes[1].contains("--to DIR"), "{notes:?}");
}

/// What is staged is in the working tree too, so that a merge of the working tree has everything.
#[test]
fn staged_changes_are_merged_with_what_was_committed_since() {
    let bench = Bench::new();
    bench.push("base", &[("f", Some(FIVE)), ("g", Some(FIVE)), ("h", Some(FIVE))]);
    apply(&bench.desired(), "run-0");
    let top = bench.checkout();
    let theirs = with("five", "five UP");
    for name in ["f", "g"] {
        write(&top, name, Some(&with("one", "one LOCAL")));
    }
    write(&top, "new", Some("new\n"));
    git(&top, &["add", "f", "new"]);
    bench.push("theirs", &["f", "g", "h"].map(|name| (name, Some(theirs.as_str()))));
    apply(&bench.desired(), "run-1");
    write(&top, "h", Some("an edit of its own\n"));
    let (_, notes) = restore_with_notes(&top, "run-1").unwrap();
    assert!(notes[0].starts_with("this undoes what was committed since the rescue in f, g; "), "{notes:?}");
    let output = paste(&notes[1], 0);
    assert!(output.status.success(), "{notes:?} {output:?}");
    for name in ["f", "g"] {
        assert_eq!(fs::read_to_string(top.join(name)).unwrap(), theirs.replace("one\n", "one LOCAL\n"), "{name}");
    }
    assert_eq!(fs::read_to_string(top.join("new")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(top.join("h")).unwrap(), "an edit of its own\n");
}

fn refused(top: &Path) -> crate::failure::Failure {
    let before = files(top);
    let failure = restore(top, &Restoring { id: "run-1".into(), ..Restoring::default() }).unwrap_err();
    assert_eq!(files(top), before);
    failure
}

#[test]
fn rescued_files_whose_place_is_taken_are_written_elsewhere() {
    // A directory with a file of mine in it became a file, a link, or the other way round.
    for (mine, theirs, what) in [
        ("logs/mine", vec![("logs/keep", None), ("logs", Some("theirs\n"))], "logs is a file in HEAD now"),
        ("logs/deep/mine", vec![("logs/keep", None), ("logs", Some("-> f"))], "logs is a symlink in HEAD now"),
        ("logs", vec![("logs/keep", Some("theirs\n"))], "logs is a directory in HEAD now"),
    ] {
        let bench = Bench::new();
        if mine != "logs" {
            bench.push("base", &[("logs/keep", Some("keep\n")), ("f", Some("f\n"))]);
        }
        apply(&bench.desired(), "run-0");
        let top = bench.checkout();
        write(&top, mine, Some("mine\n"));
        bench.push("theirs", &theirs);
        apply(&bench.desired(), "run-1");
        let failure = refused(&top);
        assert_eq!(failure.message, format!("nothing was restored: cannot write {mine}: {what}"));
        assert!(failure.hint.unwrap().contains("--to DIR"));
        let to = bench.dir.path().join("copies");
        extract(&top, "run-1", &to).unwrap();
        assert_eq!(fs::read_to_string(to.join(mine)).unwrap(), "mine\n");
    }
}
