//! A file that others cannot read is rescued so that they still cannot.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::bench::{Bench, apply, files, git, restore, write};
use crate::resource::repository::restore::{list, restore as restore_beside, show};
use crate::resource::{Change, Restoring};

const SECRET: &str = "PASSWORD=topsecret\n";

/// A checkout behind a remote that has every one of these files, whose directory every user can enter.
fn behind(names: &[&str]) -> Bench {
    let bench = Bench::new();
    chmod(bench.dir.path(), 0o755);
    let theirs: Vec<_> = names.iter().map(|name| (*name, Some("theirs\n"))).collect();
    bench.push("more", &theirs);
    bench
}

fn private(top: &Path, name: &str) {
    write(top, name, Some(SECRET));
    chmod(&top.join(name), 0o600);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Runs a program as a user who owns nothing here.
fn as_another_user(argv: &[&str]) -> Output {
    let rights =
        ["--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin", "HOME=/nonexistent"];
    Command::new("setpriv").args(rights).args(argv).output().unwrap()
}

/// Every object that another user can read, by git and by opening the files, and every plain file.
fn readable_by_others(top: &Path) -> Vec<u8> {
    let at = top.to_str().unwrap();
    let mut read = Vec::new();
    let mut stores = vec![format!("{at}/.git")];
    for folder in all_below(&top.join(".git")) {
        if folder.join("objects").is_dir() {
            stores.push(folder.display().to_string());
        }
    }
    for store in stores {
        let all = [
            "git",
            "-c",
            "safe.directory=*",
            "--git-dir",
            &store,
            "cat-file",
            "--batch",
            "--batch-all-objects",
            "--buffer",
        ];
        read.extend(as_another_user(&all).stdout);
    }
    // Every file, and what it contains if it is a loose object where git would not look for one.
    let print = "\
import sys, zlib
for path in sys.argv[1:]:
    try:
        content = open(path, 'rb').read()
        sys.stdout.buffer.write(content + zlib.decompress(content))
    except OSError:
        pass
    except zlib.error:
        sys.stdout.buffer.write(content)";
    let files: Vec<PathBuf> = all_below(&top.join(".git")).into_iter().filter(|path| path.is_file()).collect();
    let paths = files.iter().map(|path| path.to_str().unwrap());
    read.extend(as_another_user(&["python3", "-c", print].into_iter().chain(paths).collect::<Vec<_>>()).stdout);
    read
}

fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(all_below(&path));
        }
        found.push(path);
    }
    found
}

fn is_secret(top: &Path) -> bool {
    let read = readable_by_others(top);
    assert!(contains(&read, b"q1\n"), "what is public can be read");
    !contains(&read, b"topsecret")
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_private_file_stays_private_in_its_rescue_whatever_git_did_not_know_of_it() {
    for ignored in [false, true] {
        let bench = behind(&[".env"]);
        let top = bench.checkout();
        private(&top, ".env");
        if ignored {
            write(&top, ".git/info/exclude", Some(".env\n"));
        }
        let planned = apply(&bench.desired(), "run-1");
        assert_eq!(fs::read_to_string(top.join(".env")).unwrap(), "theirs\n");
        assert!(is_secret(&top), "ignored: {ignored}");
        let description = planned.changes[0].describe();
        assert!(description.risk.as_ref().unwrap().contains(".env is private"), "{description:?}");
        assert_eq!(description.before["in_the_way"][0]["private"], true);
        for again in [false, true] {
            git(&top, &["gc", "-q", "--prune=now"]);
            assert!(is_secret(&top), "after gc, ignored: {ignored} {again}");
        }
        assert!(String::from_utf8(show(&top, "run-1").unwrap()).unwrap().contains("+PASSWORD=topsecret"));
        assert_eq!(restore(&top, "run-1").unwrap().len(), 1);
        assert_eq!(fs::read_to_string(top.join(".env")).unwrap(), SECRET);
        assert_eq!(mode(&top.join(".env")), 0o600);
        assert!(is_secret(&top));
    }
}

#[test]
fn a_private_file_stays_private_where_git_knows_it() {
    let bench = behind(&["a", "b", "run.sh"]);
    let top = bench.checkout();
    private(&top, "a");
    chmod(&top.join("a"), 0o640);
    write(&top, "b", Some("public\n"));
    private(&top, "run.sh");
    chmod(&top.join("run.sh"), 0o700);
    apply(&bench.desired(), "run-1");
    git(&top, &["gc", "-q", "--prune=now"]);
    assert!(is_secret(&top));
    // What is not private is where it always was.
    assert_eq!(git(&top, &["show", "refs/provision/rescue/run-1:b"]), "public\n");
    assert_eq!(git(&top, &["show", "refs/provision/rescue/run-1:a"]), "a1\n");
    let found = list(&top).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].files.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b", "run.sh"]);
    assert_eq!(restore(&top, "run-1").unwrap().len(), 3);
    for (name, expected) in [("a", 0o640), ("b", 0o644), ("run.sh", 0o700)] {
        assert_eq!(mode(&top.join(name)), expected, "{name}");
    }
    assert_eq!(fs::read_to_string(top.join("run.sh")).unwrap(), SECRET);
    assert!(Command::new("bash").arg("-c").arg(&found[0].delete).status().unwrap().success());
    assert_eq!(list(&top).unwrap(), []);
    git(&top, &["checkout", "-q", "."]);
    let left = all_below(&top.join(".git")).into_iter().filter_map(|path| fs::read(path).ok());
    assert!(!left.into_iter().any(|file| contains(&file, b"topsecret")));
}

#[test]
fn a_staged_private_file_is_kept_apart_and_staged_again() {
    let bench = behind(&["secrets.env", "q"]);
    let top = bench.checkout();
    private(&top, "secrets.env");
    git(&top, &["add", "secrets.env"]);
    private(&top, "q");
    git(&top, &["add", "q"]);
    write(&top, "q", Some("PASSWORD=topsecret, and changed\n"));
    apply(&bench.desired(), "run-1");
    // git itself had stored what was staged for everybody to read; the rescue does not keep that alive.
    git(&top, &["reflog", "expire", "--expire=now", "--all"]);
    git(&top, &["gc", "-q", "--prune=now"]);
    assert!(is_secret(&top));
    restore(&top, "run-1").unwrap();
    assert_eq!(mode(&top.join("secrets.env")), 0o600);
    assert_eq!(fs::read_to_string(top.join("q")).unwrap(), "PASSWORD=topsecret, and changed\n");
    assert_eq!(git(&top, &["show", ":q"]), SECRET);
    assert_eq!(git(&top, &["status", "--porcelain"]), "MM q\nM  secrets.env\n");
    assert!(is_secret(&top), "what is staged again can be read by its owner alone");
}

#[test]
fn a_file_in_a_private_directory_is_private_and_so_is_the_directory_when_it_comes_back() {
    let bench = behind(&["conf", "keys/a"]);
    let top = bench.checkout();
    write(&top, "conf/app/db.env", Some(SECRET));
    chmod(&top.join("conf"), 0o700);
    write(&top, "keys/a", Some(SECRET));
    chmod(&top.join("keys"), 0o750);
    chown(top.join("keys"), None, Some(12_345)).unwrap();
    apply(&bench.desired(), "run-1");
    git(&top, &["gc", "-q", "--prune=now"]);
    assert!(is_secret(&top));
    assert_eq!(fs::read_to_string(top.join("conf")).unwrap(), "theirs\n");
    fs::remove_file(top.join("conf")).unwrap();
    // Somebody opened this one meanwhile: what was behind it is not opened with it.
    chmod(&top.join("keys"), 0o755);
    restore(&top, "run-1").unwrap();
    assert_eq!(mode(&top.join("conf")), 0o700);
    assert_eq!(mode(&top.join("conf/app")), 0o755);
    assert_eq!(mode(&top.join("conf/app/db.env")), 0o644);
    assert_eq!(mode(&top.join("keys/a")), 0o600);
}

#[test]
fn mode_and_group_of_a_rescued_file_come_back_and_no_other_group_gets_to_read_it() {
    let bench = behind(&["a", "b", "d/c"]);
    let top = bench.checkout();
    private(&top, "a");
    chown(top.join("a"), None, Some(12_345)).unwrap();
    chmod(&top.join("a"), 0o640);
    write(&top, "b", Some("shared\n"));
    chmod(&top.join("b"), 0o664);
    write(&top, "d/c", Some("read only\n"));
    chmod(&top.join("d/c"), 0o555);
    apply(&bench.desired(), "run-1");
    restore(&top, "run-1").unwrap();
    assert_eq!((mode(&top.join("a")), fs::metadata(top.join("a")).unwrap().gid()), (0o640, 12_345));
    assert_eq!((mode(&top.join("b")), mode(&top.join("d/c"))), (0o664, 0o555));
}

#[test]
fn what_was_kept_by_a_run_that_was_cut_off_is_kept_once() {
    let bench = behind(&[".env", "b"]);
    let top = bench.checkout();
    private(&top, ".env");
    write(&top, "b", Some("mine\n"));
    apply(&bench.desired(), "run-1");
    // As a kill between the rescue and the move would leave it.
    git(&top, &["reset", "-q", "--hard", "HEAD@{1}"]);
    fs::remove_file(top.join(".env")).ok();
    private(&top, ".env");
    write(&top, "b", Some("mine\n"));
    apply(&bench.desired(), "run-2");
    assert_eq!(list(&top).unwrap().len(), 1);
    // And between its two halves.
    git(&top, &["reset", "-q", "--hard", "HEAD@{1}"]);
    private(&top, ".env");
    write(&top, "b", Some("mine\n"));
    fs::remove_dir_all(top.join(".git/provision-private/run-1")).unwrap();
    apply(&bench.desired(), "run-3");
    let found = list(&top).unwrap();
    assert!(found.iter().any(|rescue| rescue.files.len() == 2), "{found:?}");
    let id = &found.iter().find(|rescue| rescue.files.len() == 2).unwrap().id;
    restore(&top, id).unwrap();
    assert_eq!(fs::read_to_string(top.join(".env")).unwrap(), SECRET);
}

#[test]
fn newer_work_is_not_replaced_by_a_private_file_and_the_hint_works_when_it_is_pasted() {
    let bench = behind(&[".env"]);
    let top = bench.checkout();
    private(&top, ".env");
    apply(&bench.desired(), "run-1");
    write(&top, ".env", Some("newer\n"));
    write(&top, ".env.mine", Some("older\n"));
    let before = files(&top);
    let failure = restore(&top, "run-1").unwrap_err();
    assert!(failure.message.contains("nothing was restored: .env would"), "{failure:?}");
    let hint = failure.hint.unwrap();
    assert!(!hint.contains("commit"), "{hint}");
    // The command that gets the one file works.
    assert_eq!(pasted(&hint, 1), SECRET, "{hint}");
    assert_eq!(files(&top), before);
    // So does the way to the rescued state, and nothing is lost with it.
    pasted(&hint, 3);
    restore(&top, "run-1").unwrap();
    assert_eq!(fs::read_to_string(top.join(".env")).unwrap(), SECRET);
    assert_eq!(fs::read_to_string(top.join(".env.mine")).unwrap(), "older\n");
    assert_eq!(fs::read_to_string(top.join(".env.mine-2")).unwrap(), "newer\n");
}

/// Runs the command in a hint that stands between back quotes.
fn pasted(hint: &str, number: usize) -> String {
    let command = hint.split('`').nth(number).unwrap_or_else(|| panic!("{hint}"));
    let output = Command::new("bash").arg("-c").arg(command).output().unwrap();
    assert!(output.status.success(), "{command}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_a_step_has_written_since_is_not_to_be_moved_or_committed() {
    let bench = behind(&["app/.env"]);
    let top = bench.checkout();
    private(&top, "app/.env");
    apply(&bench.desired(), "run-1");
    write(&top, "app/.env", Some("newer\n"));
    let claimed = vec![(top.join("app/.env"), "password".to_owned())];
    let wanted = Restoring { id: "run-1".to_owned(), claimed, ..Restoring::default() };
    let hint = restore_beside(&top, &wanted).unwrap_err().hint.unwrap();
    assert!(hint.contains("the step password manages it"), "{hint}");
    assert!(!hint.contains("mv ") && !hint.contains("commit"), "{hint}");
    assert_eq!(pasted(&hint, 1), SECRET, "{hint}");
    // Whatever holds the file is left too.
    fs::remove_dir_all(top.join("app")).unwrap();
    fs::create_dir_all(top.join("app/.env/more")).unwrap();
    write(&top, "app/.env/more/x", Some("x\n"));
    let wanted = Restoring { claimed: vec![(top.join("app/.env/more/x"), "x".to_owned())], ..wanted };
    let failure = restore_beside(&top, &wanted).unwrap_err();
    assert!(failure.message.contains("app/.env (now a directory)"), "{failure:?}");
    assert!(failure.hint.unwrap().contains("the step x manages it"));
}

#[test]
fn whatever_stands_in_the_place_of_a_rescued_file_can_be_moved_aside() {
    for other in ["d/.env", "d/.env/x", "d"] {
        let bench = behind(&["d/.env"]);
        let top = bench.checkout();
        private(&top, "d/.env");
        apply(&bench.desired(), "run-1");
        write(&top, other, None);
        write(&top, other, Some("newer\n"));
        let hint = restore(&top, "run-1").unwrap_err().hint.unwrap();
        pasted(&hint, 3);
        restore(&top, "run-1").unwrap();
        assert_eq!(fs::read_to_string(top.join("d/.env")).unwrap(), SECRET, "{other}");
        assert!(all_below(&top).iter().any(|path| fs::read(path).is_ok_and(|found| found == b"newer\n")), "{other}");
    }
}

/// Whatever the mode says, a list of access rights can shut a user out, of the file or of a directory on the way to it.
#[test]
fn a_file_that_an_access_control_list_closes_stays_private_and_the_list_comes_back() {
    for (name, mode, acl, on) in [
        (".env", 0o644, "u:65534:---", ".env"),
        (".env", 0o644, "u:65534:---,m::r", ".env"),
        (".env", 0o644, "g:65534:---", ".env"),
        (".env", 0o755, "u:65534:---", ".env"),
        ("conf/.env", 0o644, "u:65534:---", "conf"),
        ("conf/.env", 0o644, "u:65534:---", "conf/.env"),
    ] {
        let bench = behind(&[name]);
        let top = bench.checkout();
        write(&top, name, Some(SECRET));
        chmod(&top.join(name), mode);
        setfacl(&top.join(on), acl);
        let at = top.join(name);
        assert!(!as_another_user(&["cat", at.to_str().unwrap()]).status.success(), "{name} {acl} {on}");
        let before = getfacl(&at);
        let planned = apply(&bench.desired(), "run-1");
        assert_eq!(planned.changes[0].describe().before["in_the_way"][0]["private"], true);
        git(&top, &["gc", "-q", "--prune=now"]);
        assert!(is_secret(&top), "{name} {acl} {on}");
        restore(&top, "run-1").unwrap();
        assert_eq!(fs::read_to_string(&at).unwrap(), SECRET);
        assert!(!as_another_user(&["cat", at.to_str().unwrap()]).status.success(), "{name} {acl} {on}");
        if on == name {
            assert_eq!(getfacl(&at), before, "{name} {acl}");
        }
    }
}

fn setfacl(path: &Path, acl: &str) {
    assert!(Command::new("setfacl").args(["-m", acl]).arg(path).status().unwrap().success());
}

fn getfacl(path: &Path) -> String {
    let output = Command::new("getfacl").args(["-cp"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
