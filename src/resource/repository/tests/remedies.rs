//! Each remedy is pasted into a shell: it succeeds, nothing of anybody's is gone, and the next plan is better for it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::bench::{Bench, apply, git, plan, refusal, write};
use crate::failure::Failure;
use crate::resource::repository::Repository;

/// A checkout that is one commit behind, with work of somebody's in it that git does not know.
fn behind() -> Bench {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n"))]);
    write(&bench.checkout(), "own", Some("mine\n"));
    bench
}

/// Runs the command in the hint.
#[track_caller]
fn paste(refusal: &Failure) {
    let hint = refusal.hint.as_deref().expect("a remedy");
    let command = hint.split('`').nth(1).unwrap_or_else(|| panic!("no command: {hint}"));
    let output = Command::new("bash")
        .args(["-c", command])
        .current_dir("/")
        .env("HOME", "/nonexistent")
        .env("GIT_ALLOW_PROTOCOL", "file")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Pastes remedies until the step is not refused any more; gives how many there were.
#[track_caller]
fn remedied(desired: &Repository) -> usize {
    for count in 0..4 {
        match plan(desired).unwrap() {
            Ok(_) => return count,
            Err(refusal) => paste(&refusal),
        }
    }
    panic!("still refused: {:?}", refusal(desired));
}

#[track_caller]
fn own_work_is_in(folder: &Path) {
    assert_eq!(fs::read_to_string(folder.join("own")).unwrap(), "mine\n");
}

#[test]
fn a_link_is_not_moved_aside_but_replaced_by_what_it_leads_to() {
    let bench = behind();
    let link = bench.dir.path().join("current");
    std::os::unix::fs::symlink("checkout", &link).unwrap();
    let mut desired = super::bench::desired(&link);
    let hint = refusal(&desired).hint.unwrap();
    let real = fs::canonicalize(bench.checkout()).unwrap();
    assert_eq!(hint, format!("give the path of its target: {}", real.display()));
    desired.path = real;
    apply(&desired, "run-1");

    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let hint = refusal(&super::bench::desired(&link)).hint.unwrap();
    assert!(hint.contains("target does not exist") && !hint.contains("aside"), "{hint}");
}

#[test]
fn a_directory_with_files_becomes_a_checkout_that_keeps_them() {
    let bench = behind();
    let top = bench.checkout();
    fs::remove_dir_all(top.join(".git")).unwrap();
    write(&top, "a", Some("changed on the host\n"));
    let mut desired = bench.desired();
    desired.url = Some(bench.remote().display().to_string());
    assert_eq!(remedied(&desired), 1);
    own_work_is_in(&top);
    assert_eq!(fs::read_to_string(top.join("a")).unwrap(), "changed on the host\n");
    let found = plan(&desired).unwrap().unwrap();
    assert!(found.changes.is_empty() && found.notes[0].contains("a (modified), own (untracked)"), "{found:?}");
}

#[test]
fn what_is_moved_aside_keeps_its_files_and_so_does_what_had_the_name() {
    let bench = behind();
    let (top, aside) = (bench.checkout(), bench.dir.path().join("checkout.aside"));
    fs::write(top.join(".git/HEAD"), "rubbish\n").unwrap();
    let mut desired = bench.desired();
    desired.url = Some(bench.remote().display().to_string());
    assert_eq!(remedied(&desired), 1);
    own_work_is_in(&aside);
    apply(&desired, "run-1");

    fs::remove_dir_all(&top).unwrap();
    fs::write(&top, "a file\n").unwrap();
    let hint = refusal(&desired).hint.unwrap();
    let command = hint.split('`').nth(1).unwrap();
    let paste = || assert!(Command::new("bash").args(["-c", command]).status().unwrap().success());
    paste();
    assert_eq!(fs::read_to_string(&aside).unwrap(), "a file\n");
    own_work_is_in(&bench.dir.path().join("checkout.aside.~1~"));
    fs::write(&top, "another file\n").unwrap();
    paste();
    assert_eq!(fs::read_to_string(&aside).unwrap(), "another file\n");
    assert_eq!(fs::read_to_string(bench.dir.path().join("checkout.aside.~2~")).unwrap(), "a file\n");
    apply(&desired, "run-2");
}

#[test]
fn a_branch_of_another_worktree_is_left_there_with_all_files() {
    let bench = behind();
    let (top, other) = (bench.checkout(), bench.dir.path().join("other"));
    git(&top, &["checkout", "-q", "main"]);
    git(&top, &["worktree", "add", "-q", "../other", "qa"]);
    write(&top, ".git/info/exclude", Some("ignored\n"));
    write(&other, "ignored", Some("mine\n"));
    write(&other, "own", Some("mine\n"));
    assert_eq!(remedied(&bench.desired()), 1);
    assert_eq!(fs::read_to_string(other.join("ignored")).unwrap(), "mine\n");
    own_work_is_in(&other);
    git(&other, &["checkout", "-q", "qa"]);
    fs::rename(&other, bench.dir.path().join("elsewhere")).unwrap();
    assert_eq!(remedied(&bench.desired()), 1);
    own_work_is_in(&bench.dir.path().join("elsewhere"));
}

#[test]
fn settings_of_the_checkout_are_corrected_in_place() {
    for (key, value) in [("core.bare", "true"), ("core.worktree", "/nonexistent")] {
        let bench = behind();
        git(&bench.checkout(), &["config", key, value]);
        assert_eq!(remedied(&bench.desired()), 1, "{key}");
        own_work_is_in(&bench.checkout());
        apply(&bench.desired(), "run-1");
    }
}

#[test]
fn a_bare_repository_is_not_moved_aside() {
    let bench = behind();
    let hint = refusal(&super::bench::desired(&bench.remote())).hint.unwrap();
    assert!(!hint.contains("aside"), "{hint}");
}

#[test]
fn refs_in_the_way_of_others_get_other_names() {
    for (wanted, found) in [("feature/x", "refs/heads/feature"), ("feature", "refs/heads/feature/x")] {
        for found in [found.to_owned(), found.replace("heads", "remotes/origin")] {
            let bench = behind();
            git(&bench.seed(), &["push", "-q", "origin", &format!("qa:{wanted}")]);
            git(&bench.checkout(), &["update-ref", &found, "HEAD"]);
            let mut desired = bench.desired();
            desired.branch = wanted.to_owned();
            assert_eq!(remedied(&desired), 1, "{wanted} {found}");
            apply(&desired, "run-1");
        }
    }
}

#[test]
fn what_stands_in_a_files_place_gets_another_name() {
    let bench = behind();
    bench.push("place", &[("place", Some("x\n")), ("pipe", Some("x\n"))]);
    let top = bench.checkout();
    nix::unistd::mkfifo(&top.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(top.join("place")).unwrap();
    git(&top.join("place"), &["init", "-q"]);
    write(&top, "place/own", Some("mine\n"));
    assert_eq!(remedied(&bench.desired()), 2);
    own_work_is_in(&top.join("place.aside"));
}

#[test]
fn what_is_moved_by_hand_is_complete_and_on_its_branch() {
    let bench = behind();
    let top = bench.checkout();
    git(&top, &["checkout", "-q", "main"]);
    git(
        &bench.seed(),
        &["-c", "protocol.file.allow=always", "submodule", "add", "-q", bench.remote().to_str().unwrap(), "sub"],
    );
    bench.push("submodule", &[]);
    assert_eq!(remedied(&bench.desired()), 1);
    own_work_is_in(&top);
    assert!(top.join("sub/a").exists(), "the submodule is there");
    assert_eq!(git(&top, &["rev-parse", "qa"]), git(&bench.seed(), &["rev-parse", "qa"]));
    assert!(plan(&bench.desired()).unwrap().unwrap().changes.is_empty());

    let bench = behind();
    bench.push("encoding", &[("d/.gitattributes", Some("*.bin working-tree-encoding=UTF-16\n"))]);
    assert_eq!(remedied(&bench.desired()), 1);
    own_work_is_in(&bench.checkout());
    assert!(plan(&bench.desired()).unwrap().unwrap().changes.is_empty());
}

#[test]
fn a_partial_clone_becomes_a_whole_one() {
    let bench = behind();
    let (top, remote) = (bench.checkout(), format!("file://{}", bench.remote().display()));
    fs::remove_dir_all(&top).unwrap();
    git(&bench.remote(), &["config", "uploadpack.allowFilter", "true"]);
    git(bench.dir.path(), &["clone", "-q", "-b", "qa", "--filter=blob:none", &remote, "checkout"]);
    write(&top, "own", Some("mine\n"));
    bench.push("later", &[("b", Some("b2\n"))]);
    assert_eq!(remedied(&bench.desired()), 1);
    own_work_is_in(&top);
    assert_eq!(git(&top, &["rev-list", "--objects", "--all", "--missing=print"]).matches('?').count(), 0);
    apply(&bench.desired(), "run-1");
    git(&top, &["fsck"]);
}

/// Commits that only the checkout's own branch has were never fetched completely.
#[test]
fn a_partial_clone_of_a_remote_that_was_rewritten_becomes_a_whole_one() {
    for filter in ["blob:none", "tree:0"] {
        let bench = behind();
        let (top, remote) = (bench.checkout(), format!("file://{}", bench.remote().display()));
        for text in ["a3\n", "a4\n"] {
            bench.push("later", &[("a", Some(text))]);
        }
        fs::remove_dir_all(&top).unwrap();
        git(&bench.remote(), &["config", "uploadpack.allowFilter", "true"]);
        git(bench.dir.path(), &["clone", "-q", "-b", "qa", &format!("--filter={filter}"), &remote, "checkout"]);
        git(&bench.seed(), &["reset", "-q", "--hard", "HEAD~3"]);
        bench.commit("instead", &[("a", Some("other\n"))]);
        git(&bench.seed(), &["push", "-q", "-f", "origin", "qa"]);
        paste(&refusal(&bench.desired()));
        git(&top, &["fsck"]);
        git(&top, &["fetch", "-q"]);
        git(&top, &["fsck"]);
    }
}

/// The damaged index is kept, and so are changes in the working tree.
#[test]
fn a_damaged_index_is_built_again() {
    type Damage = fn(&[u8]) -> Vec<u8>;
    let damages: [Damage; 4] = [
        |_| b"rubbish".to_vec(),
        |_| Vec::new(),
        |index| index[..index.len() / 2].to_vec(),
        |index| [&index[..40], b"XXXX", &index[44..]].concat(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let bench = behind();
        let top = bench.checkout();
        let index = top.join(".git/index");
        let damaged = damage(&fs::read(&index).unwrap());
        fs::write(&index, &damaged).unwrap();
        write(&top, "b", Some("changed\n"));
        let message = refusal(&bench.desired()).message;
        assert!(message.contains("index of") && !message.contains("no longer exists"), "{number}: {message}");
        assert_eq!(remedied(&bench.desired()), 1, "{number}");
        own_work_is_in(&top);
        assert_eq!(fs::read_to_string(top.join("b")).unwrap(), "changed\n");
        assert_eq!(fs::read(top.join(".git/index.aside")).unwrap(), damaged);
        assert_eq!(git(&top, &["status", "--porcelain"]), " M b\n?? own\n");
        apply(&bench.desired(), "run-1");
    }
}

/// Without its index, a checkout looks as if all files were deleted.
#[test]
fn a_missing_index_is_built_again() {
    let bench = Bench::new();
    let top = bench.checkout();
    let index = top.join(".git/index");
    fs::remove_file(&index).unwrap();
    write(&top, "b", Some("changed\n"));
    let message = refusal(&bench.desired()).message;
    assert!(message.contains("index of") && message.contains("missing"), "{message}");
    assert_eq!(remedied(&bench.desired()), 1);
    assert_eq!(git(&top, &["status", "--porcelain"]), " M b\n");

    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    let message = refusal(&bench.desired()).message;
    assert!(message.contains("index of") && message.contains("it is a directory"), "{message}");
    assert_eq!(remedied(&bench.desired()), 1);
    assert_eq!(git(&top, &["status", "--porcelain"]), " M b\n");
    assert!(top.join(".git/index.aside").is_dir());
}

/// The new index is complete before the old one is moved, so a remedy that fails leaves what was there.
#[test]
fn a_remedy_that_fails_leaves_the_damaged_index() {
    let bench = behind();
    let top = bench.checkout();
    fs::write(top.join(".git/index"), "rubbish").unwrap();
    let hint = refusal(&bench.desired()).hint.unwrap();
    let command = hint.split('`').nth(1).unwrap();
    let chown = |user: &str| assert!(Command::new("chown").args(["-R", user]).arg(&top).status().unwrap().success());
    chown("4321");
    let mut shell = Command::new("bash");
    assert!(!shell.args(["-c", command]).env("HOME", "/nonexistent").status().unwrap().success());
    assert_eq!(fs::read_to_string(top.join(".git/index")).unwrap(), "rubbish");
    chown("0");
    assert_eq!(remedied(&bench.desired()), 1);
}

#[test]
fn a_sparse_checkout_stays_sparse_when_its_index_is_built_again() {
    let bench = behind();
    let top = bench.checkout();
    git(&top, &["sparse-checkout", "set", "d"]);
    let before = git(&top, &["status", "--porcelain"]);
    fs::write(top.join(".git/index"), "").unwrap();
    paste(&refusal(&bench.desired()));
    assert_eq!(git(&top, &["status", "--porcelain"]), before);
}

#[test]
fn a_merge_is_still_in_progress_after_its_index_was_built_again() {
    let bench = behind();
    let top = bench.checkout();
    git(&top, &["checkout", "-q", "-b", "side", "origin/main"]);
    write(&top, "e", Some("side\n"));
    git(&top, &["add", "e"]);
    git(&top, &["commit", "-q", "-m", "side"]);
    git(&top, &["checkout", "-q", "qa"]);
    git(&top, &["merge", "-q", "--no-commit", "--no-ff", "side"]);
    fs::write(top.join(".git/index"), "").unwrap();
    let damaged = refusal(&bench.desired());
    assert!(damaged.message.contains("a merge is in progress"), "{damaged:?}");
    assert!(damaged.hint.as_deref().unwrap().contains("the merge stays in progress"), "{damaged:?}");
    paste(&damaged);
    assert!(top.join(".git/MERGE_HEAD").exists());
    assert!(refusal(&bench.desired()).message.contains("a merge is in progress"));
    own_work_is_in(&top);
}

#[test]
fn an_index_of_a_newer_git_is_not_called_damaged() {
    let bench = behind();
    let index = bench.checkout().join(".git/index");
    let mut bytes = fs::read(&index).unwrap();
    bytes[7] = 5;
    fs::write(&index, bytes).unwrap();
    let refusal = refusal(&bench.desired());
    assert!(refusal.message.contains("not supported: version 5 of the index"), "{refusal:?}");
    assert!(refusal.hint.unwrap().contains("update-index --index-version 4"));
}

#[test]
fn a_ref_without_its_object_is_deleted() {
    let bench = behind();
    write(&bench.checkout(), ".git/refs/tags/broken", Some("1234567890123456789012345678901234567890\n"));
    assert_eq!(remedied(&bench.desired()), 1);
    own_work_is_in(&bench.checkout());
    apply(&bench.desired(), "run-1");
}

/// Makes three stashes, and returns their ids.
fn three_stashes(top: &Path) -> Vec<String> {
    for text in ["one\n", "two\n", "three\n"] {
        write(top, "b", Some(text));
        git(top, &["stash", "-q"]);
    }
    git(top, &["log", "-g", "--format=%H", "refs/stash"]).lines().map(str::to_owned).collect()
}

/// The file of a loose object.
fn object(top: &Path, id: &str) -> std::path::PathBuf {
    top.join(".git/objects").join(&id[..2]).join(id[2..].trim())
}

#[test]
fn a_stash_without_its_object_is_dropped_and_the_others_stay() {
    for empty in [false, true] {
        let bench = behind();
        let top = bench.checkout();
        let stashes = three_stashes(&top);
        let newest = object(&top, &stashes[0]);
        fs::remove_file(&newest).unwrap();
        if empty {
            fs::write(&newest, "").unwrap();
        }
        assert_eq!(remedied(&bench.desired()), 1);
        assert_eq!(git(&top, &["log", "-g", "--format=%H", "refs/stash"]).lines().collect::<Vec<_>>(), stashes[1..]);
        own_work_is_in(&top);
        apply(&bench.desired(), "run-1");
    }
}

/// A power loss leaves an empty file.
#[test]
fn a_ref_whose_file_is_damaged_gets_its_last_value() {
    for damage in ["", "rubbish\n"] {
        let bench = behind();
        let top = bench.checkout();
        let stashes = three_stashes(&top);
        fs::write(top.join(".git/refs/stash"), damage).unwrap();
        assert_eq!(remedied(&bench.desired()), 1, "{damage}");
        assert_eq!(git(&top, &["log", "-g", "--format=%H", "refs/stash"]).lines().collect::<Vec<_>>(), stashes);

        git(&top, &["branch", "x"]);
        let tip = git(&top, &["rev-parse", "x"]);
        for name in ["refs/heads/x", "refs/remotes/origin/main", "refs/tags/v1"] {
            write(&top, &format!(".git/{name}"), Some(damage));
            assert!(refusal(&bench.desired()).message.contains(&format!("{name} in ")), "{name}");
            assert_eq!(remedied(&bench.desired()), 1, "{name} {damage}");
        }
        assert_eq!(git(&top, &["rev-parse", "x"]), tip);
        // The branch of the step itself.
        write(&top, ".git/refs/heads/qa", Some(damage));
        assert_eq!(remedied(&bench.desired()), 1, "{damage}");
        own_work_is_in(&top);
        apply(&bench.desired(), "run-1");
        git(&top, &["fetch", "-q"]);
    }
}

#[test]
fn a_branch_without_its_object_goes_back_to_its_last_commit_that_exists() {
    let bench = behind();
    let top = bench.checkout();
    git(&top, &["checkout", "-q", "-b", "side"]);
    for text in ["one\n", "two\n"] {
        write(&top, "b", Some(text));
        git(&top, &["commit", "-q", "-a", "-m", text]);
    }
    let tip = git(&top, &["rev-parse", "side"]);
    let before = git(&top, &["rev-parse", "side~1"]);
    git(&top, &["checkout", "-q", "qa"]);
    fs::remove_file(object(&top, &tip)).unwrap();
    assert_eq!(remedied(&bench.desired()), 1);
    assert_eq!(git(&top, &["rev-parse", "side"]), before);
    apply(&bench.desired(), "run-1");
    git(&top, &["fetch", "-q"]);
}

#[test]
fn of_many_broken_refs_a_few_are_named() {
    let bench = Bench::new();
    for number in 100..300 {
        let ids = ["", "1234567890123456789012345678901234567890\n"];
        write(&bench.checkout(), &format!(".git/refs/tags/v{number}"), Some(ids[number % 2]));
    }
    let notes = plan(&bench.desired()).unwrap().unwrap().notes;
    assert!(notes.len() == 1 && notes[0].len() < 500 && notes[0].ends_with(" and 196 more"), "{notes:?}");
}
