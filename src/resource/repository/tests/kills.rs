//! Kills a run before a system call that writes, for one call after another, runs again, and compares with a run
//! that was let be.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use super::bench::{Bench, apply, copy, desired, execute, files, git, plan, seen, write};

/// Every call by which this program changes a file system.
const CALLS: [&str; 16] = [
    "openat", "write", "pwrite64", "rename", "renameat", "link", "linkat", "unlink", "unlinkat", "mkdir", "rmdir",
    "symlink", "chmod", "fchmod", "fsync", "syncfs",
];

/// What a killed process runs: the step of the checkout that the working directory holds.
#[test]
#[ignore = "the other tests of this file start it and kill it"]
fn child() {
    let desired = here();
    for change in plan(&desired).unwrap().unwrap().changes {
        execute(&desired, &change, "run-1").unwrap();
    }
}

fn here() -> crate::resource::repository::Repository {
    let folder = std::env::current_dir().unwrap();
    let mut desired = desired(&folder.join("checkout"));
    desired.url = Some(fs::read_to_string("url").unwrap());
    desired
}

/// Runs the child in `folder`, killed at the `when`-th `call`; says whether it was.
fn killed_at(folder: &Path, call: &str, when: usize) -> bool {
    let status = Command::new("strace")
        // Not the programs that it runs: `-b execve` lets go of them.
        .args(["-f", "-b", "execve", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={when}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "resource::repository::tests::kills::child", "--ignored", "--test-threads=1"])
        .current_dir(folder)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success() || status.signal() == Some(9) || status.code() == Some(137), "{call} {when}: {status}");
    !status.success()
}

/// What must be the same however often a run was cut off.
fn outcome(top: &Path) -> (Vec<String>, String, BTreeSet<String>) {
    let mut entries = BTreeSet::new();
    let mut folders = vec![top.join(".git")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().display().to_string();
            // A pack is named by how it was packed; that it is alone and whole is what fsck and the count say.
            let name = if name.contains("/pack/pack-") {
                format!(".git/pack.{}", path.extension().unwrap().display())
            } else {
                name
            };
            assert!(!entries.contains(&name) || !name.contains("/pack."), "{name} twice");
            if path.is_dir() {
                folders.push(path);
            }
            entries.insert(name);
        }
    }
    (seen(top), git(top, &["for-each-ref"]), entries)
}

/// Kills at every `step`-th call of `calls`.
fn kill_everywhere(prepare: &dyn Fn() -> Bench, calls: &[&str], step: usize, check: &dyn Fn(&Path, &str)) -> usize {
    let bench = prepare();
    let unbroken = tempfile::tempdir().unwrap();
    // Paths are part of a remote's URL, so every run happens at the same place.
    let place = unbroken.path().join("place");
    let template = bench.dir.path().to_owned();
    let url = bench.remote().display().to_string();
    fs::write(template.join("url"), &url).unwrap();
    let reset = || {
        let _ = fs::remove_dir_all(&place);
        copy(&template, &place);
    };
    reset();
    let mut wanted_step = desired(&place.join("checkout"));
    wanted_step.url = Some(url);
    apply(&wanted_step, "run-1");
    let wanted = outcome(&place.join("checkout"));
    let mut points = 0;
    for call in calls {
        let number = CALLS.iter().position(|known| known == call).unwrap();
        let mut when = 1 + number % step;
        loop {
            reset();
            let killed = killed_at(&place, call, when);
            let at = format!("{call} {when}");
            apply(&wanted_step, "run-1");
            let found = outcome(&place.join("checkout"));
            assert_eq!(found.0, wanted.0, "{at}");
            assert_eq!(found.1, wanted.1, "{at}");
            assert_eq!(found.2, wanted.2, "{at}");
            check(&place.join("checkout"), &at);
            if !killed {
                break;
            }
            points += 1;
            when += step;
        }
    }
    points
}

fn conflicting() -> Bench {
    let bench = Bench::new();
    bench.push(
        "more",
        &[
            ("a", Some("a2\n")),
            ("b", None),
            ("d/c", None),
            ("d/e/f", Some("f\n")),
            ("new", Some("theirs\n")),
            ("place", Some("a file\n")),
            ("link", Some("-> a")),
        ],
    );
    let top = bench.checkout();
    write(&top, "a", Some("mine a\n"));
    write(&top, "b", Some("mine b\n"));
    git(&top, &["add", "b"]);
    write(&top, "new", Some("mine new\n"));
    write(&top, "place/one", Some("1\n"));
    // Kept apart from the others.
    fs::set_permissions(top.join("place/one"), fs::Permissions::from_mode(0o600)).unwrap();
    write(&top, "place/two/three", Some("3\n"));
    write(&top, "q", Some("kept\n"));
    bench
}

fn to_be_cloned() -> Bench {
    let bench = Bench::new();
    fs::remove_dir_all(bench.checkout()).unwrap();
    bench
}

fn rescued(top: &Path, at: &str) {
    let show = |name: &str| git(top, &["show", &format!("refs/provision/rescue/run-1{name}")]);
    assert_eq!(show(":a"), "mine a\n", "{at}");
    assert_eq!(show("^2:b"), "mine b\n", "{at}");
    assert_eq!(show("^3:new"), "mine new\n", "{at}");
    assert_eq!(show("^3:place/two/three"), "3\n", "{at}");
    let private = top.join(".git/provision-private/run-1");
    assert_eq!(git(&private, &["show", "HEAD^3:place/one"]), "1\n", "{at}");
    assert!(files(top)["q"].ends_with("\"kept\\n\""), "{at}");
}

/// The calls in shares, a test each, so that they run beside each other.
macro_rules! shares {
    ($($share:literal: $moved:ident $cloned:ident;)+) => {
        $(
            #[test]
            fn $moved() {
                let calls: Vec<&str> = CALLS.into_iter().skip($share).step_by(SHARES).collect();
                let points = kill_everywhere(&conflicting, &calls, 9, &rescued);
                assert!(points > 20 / SHARES, "{points}");
            }

            #[test]
            fn $cloned() {
                let calls: Vec<&str> = CALLS.into_iter().skip($share).step_by(SHARES).collect();
                let points = kill_everywhere(&to_be_cloned, &calls, 17, &|_, _| {});
                assert!(points > 10 / SHARES, "{points}");
            }
        )+
    };
}

const SHARES: usize = 3;

shares! {
    0: a_move_that_was_killed_is_finished_by_the_next_run a_clone_that_was_killed_is_finished_by_the_next_run;
    1: a_move_killed_at_others_of_its_calls_is_finished a_clone_killed_at_others_of_its_calls_is_finished;
    2: a_move_killed_at_the_rest_of_its_calls_is_finished a_clone_killed_at_the_rest_of_its_calls_is_finished;
}

#[test]
fn a_remote_that_moves_on_after_a_kill_makes_no_second_rescue() {
    for (call, when) in [("rename", 12), ("rename", 14), ("unlink", 30)] {
        let bench = conflicting();
        fs::write(bench.dir.path().join("url"), bench.remote().display().to_string()).unwrap();
        // Late enough that the rescue is made and files are being moved.
        let killed = (when..).find(|when| {
            let top = bench.checkout();
            let _ = fs::remove_dir_all(&top);
            git(bench.dir.path(), &["clone", "-q", "-b", "qa", bench.remote().to_str().unwrap(), "checkout"]);
            git(&top, &["reset", "-q", "--hard", "HEAD~1"]);
            git(&top, &["update-ref", "refs/remotes/origin/qa", "HEAD"]);
            write(&top, "a", Some("mine a\n"));
            write(&top, "new", Some("mine new\n"));
            killed_at(bench.dir.path(), call, *when);
            fs::read_to_string(top.join("new")).unwrap() == "theirs\n"
        });
        assert!(killed.is_some());
        bench.push("even more", &[("a", Some("a3\n")), ("new", Some("theirs again\n"))]);
        apply(&bench.desired(), "run-2");
        assert_eq!(
            git(&bench.checkout(), &["for-each-ref", "--format=%(refname)", "refs/provision"]),
            "refs/provision/rescue/run-1\n"
        );
        assert_eq!(git(&bench.checkout(), &["status", "--porcelain"]), "");
        assert_eq!(fs::read_to_string(bench.checkout().join("new")).unwrap(), "theirs again\n");
    }
}

/// scripts/faults adds these up.
fn print_points(points: usize) {
    println!(
        "points: {points} in total, {points} tried, 0 not reached, 0 reruns and 0 comparisons left out, 0 in the run of \
         another: Kill"
    );
}

#[test]
#[ignore = "minutes: every point instead of a sample"]
fn every_point_of_a_move() {
    print_points(kill_everywhere(&conflicting, &CALLS, 1, &rescued));
}

#[test]
#[ignore = "minutes: every point instead of a sample"]
fn every_point_of_a_clone() {
    print_points(kill_everywhere(&to_be_cloned, &CALLS, 1, &|_, _| {}));
}
