//! Locks of other git processes, and those that were left behind.

use std::fs;

use super::bench::{Bench, apply, execute, files, git, plan, write};
use super::refusals::{behind, refused};

#[test]
fn lock_files() {
    let bench = behind();
    for name in ["index.lock", "HEAD.lock", "refs/heads/qa.lock", "config.lock", "refs/remotes/origin/qa.lock"] {
        let lock = bench.checkout().join(".git").join(name);
        fs::write(&lock, "").unwrap();
        refused(&bench, &[name, "if none is running, remove the file"]);
        fs::remove_file(&lock).unwrap();
    }
}

#[test]
fn an_old_lock_is_not_blamed_on_a_running_process() {
    let bench = behind();
    let lock = bench.checkout().join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    let hour = std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(&lock).unwrap().set_modified(std::time::SystemTime::now() - 3 * hour).unwrap();
    refused(&bench, &["index.lock is more than an hour old", "probably left it", "`rm "]);
}

/// git cannot fetch, so the next update would be refused, whichever ref it is.
#[test]
fn locks_of_all_refs_are_noted_at_the_right_commit() {
    for name in ["index", "HEAD", "packed-refs", "refs/heads/qa", "refs/heads/other", "refs/tags/of/v1", "shallow"] {
        let bench = Bench::new();
        write(&bench.checkout(), &format!(".git/{name}.lock"), Some(""));
        let found = plan(&bench.desired()).unwrap().unwrap();
        assert!(found.changes.is_empty() && found.warnings.len() == 1, "{name}: {found:?}");
        assert!(found.warnings[0].contains(&format!("{name}.lock exists")), "{name}: {found:?}");
    }
}

#[test]
fn a_lock_of_any_ref_that_an_update_writes_blocks_the_step() {
    let bench = behind();
    let top = bench.checkout();
    git(&bench.seed(), &["tag", "v2"]);
    git(&bench.seed(), &["tag", "-m", "a tag", "of/qa"]);
    git(&bench.seed(), &["push", "-q", "--tags"]);
    git(&top, &["config", "--add", "remote.origin.fetch", "refs/heads/qa:refs/elsewhere/qa"]);
    write(&top, "a", Some("mine\n"));
    let locks = ["refs/tags/v2.lock", "refs/tags/of/qa.lock", "refs/elsewhere/qa.lock", "refs/remotes/origin/qa.lock"];
    for name in locks {
        let lock = top.join(".git").join(name);
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        fs::write(&lock, "theirs").unwrap();
        refused(&bench, &[name, "if none is running, remove the file"]);
        fs::remove_file(&lock).unwrap();

        // It appears after the plan.
        let change = plan(&bench.desired()).unwrap().unwrap().changes.remove(0);
        fs::write(&lock, "theirs").unwrap();
        let before = (git(&top, &["for-each-ref"]), files(&top));
        let failure = execute(&bench.desired(), &change, "run-1").unwrap_err();
        assert!(failure.message.contains(name), "{failure:?}");
        assert!((git(&top, &["for-each-ref"]), files(&top)) == before, "{name}");
        assert_eq!(fs::read_to_string(&lock).unwrap(), "theirs");
        assert!(!top.join(".git/provision").exists());
        fs::remove_file(&lock).unwrap();
    }
    // An existing tag is not written.
    git(&top, &["tag", "v2"]);
    fs::write(top.join(".git/refs/tags/v2.lock"), "theirs").unwrap();
    apply(&bench.desired(), "run-1");
    assert_eq!(git(&top, &["tag"]), "of/qa\nv2\n");
}

#[test]
fn a_lock_of_another_process_at_the_moment_of_the_move() {
    let bench = behind();
    let change = plan(&bench.desired()).unwrap().unwrap().changes.remove(0);
    let lock = bench.checkout().join(".git/index.lock");
    fs::write(&lock, "theirs").unwrap();
    let failure = execute(&bench.desired(), &change, "run-1").unwrap_err();
    assert!(failure.message.contains("index.lock"), "{failure:?}");
    assert_eq!(fs::read_to_string(&lock).unwrap(), "theirs");
    assert!(!bench.checkout().join(".git/provision").exists());
    assert_eq!(git(&bench.checkout(), &["rev-parse", "HEAD"]), git(&bench.seed(), &["rev-parse", "qa~1"]));
}
