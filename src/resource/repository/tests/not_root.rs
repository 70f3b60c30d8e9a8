//! As an ordinary user, on a checkout in which other users have left files: the containers' logs are such a place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::bench::{Bench, apply, copy, desired, git, plan, write};

const USER: u32 = 65_534;

/// What the other user's process runs: plans and applies the checkout in the working directory, and prints the result.
#[test]
#[ignore = "the other tests of this file start it"]
fn child() {
    let mut desired = desired(&std::env::current_dir().unwrap().join("checkout"));
    desired.url = fs::read_to_string("url").ok();
    match plan(&desired).unwrap() {
        Ok(found) if fs::exists("apply").unwrap() => {
            println!("answer: {:?}", (apply(&desired, "run-1").notes.len(), found.changes.len()))
        }
        Ok(found) => println!("answer: {:?}", found.notes),
        Err(refused) => println!("answer: {refused}"),
    }
}

/// Hands the bench to the user, and runs the child as that user.
fn as_user(bench: &Bench, but: &dyn Fn(&Path)) -> String {
    let folder = bench.dir.path();
    let binary = folder.join("binary");
    if !binary.exists() {
        copy(&std::env::current_exe().unwrap(), &binary);
        fs::write(folder.join("apply"), "").unwrap();
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(folder).status().unwrap().success());
    but(&bench.checkout());
    let mut command = Command::new(&binary);
    command.args(["--exact", "resource::repository::tests::not_root::child", "--ignored", "--nocapture"]);
    let output = command.current_dir(folder).env("HOME", folder).uid(USER).gid(USER).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn directories_of_others_that_are_in_nobodys_way_do_not_matter() {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n"))]);
    let text = as_user(&bench, &|top| {
        for (name, mode) in [("logs", 0o700), ("open", 0o755)] {
            let logs = top.join(name);
            fs::create_dir_all(logs.join("deep")).unwrap();
            fs::set_permissions(&logs, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Command::new("chown").args(["-R", "50000:50000"]).arg(&logs).status().unwrap().success());
        }
    });
    assert!(text.contains("answer: (0, 1)"), "{text}");
    assert_eq!(fs::read_to_string(bench.checkout().join("a")).unwrap(), "a2\n");
}

#[test]
fn a_clone_into_a_directory_of_another_user_is_refused_in_the_plan() {
    let bench = Bench::new();
    let text = as_user(&bench, &|top| {
        fs::rename(top, top.with_file_name("earlier")).unwrap();
        fs::create_dir(top).unwrap();
        assert!(Command::new("chown").arg("0:0").arg(top).status().unwrap().success());
    });
    assert!(text.contains("the step's user cannot write to"), "{text}");
}

#[test]
fn a_log_of_roots_stops_the_move_before_it_begins() {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n"))]);
    for name in ["logs/HEAD", "logs/refs/heads/qa", "refs/heads", "objects"] {
        let text = as_user(&bench, &|top| {
            let at = top.join(".git").join(name);
            assert!(Command::new("chown").arg("0:0").arg(&at).status().unwrap().success());
        });
        assert!(text.contains(&format!(".git/{name} has to change")), "{text}");
        assert_eq!(fs::read_to_string(bench.checkout().join("a")).unwrap(), "a1\n");
    }
}

#[test]
fn a_directory_that_cannot_be_written_stops_the_move_before_it_begins() {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n")), ("d/c", Some("c2\n"))]);
    let text = as_user(&bench, &|top| {
        assert!(Command::new("chown").arg("50000:50000").arg(top.join("d")).status().unwrap().success());
    });
    assert!(text.contains("the step's user cannot write there"), "{text}");
    assert_eq!(fs::read_to_string(bench.checkout().join("a")).unwrap(), "a1\n");
    // Root's own files in the way, as SCP by root leaves them, are readable and so are rescued.
    let text = as_user(&bench, &|top| {
        fs::write(top.join("a"), "root's\n").unwrap();
        assert!(Command::new("chown").arg("0:0").arg(top.join("a")).status().unwrap().success());
    });
    assert!(text.contains("answer: (0, 1)"), "{text}");
    let show = ["show", "refs/provision/rescue/run-1:a"];
    let rescued = Command::new("git").args(show).current_dir(bench.checkout()).uid(USER).gid(USER).output().unwrap();
    assert_eq!(String::from_utf8(rescued.stdout).unwrap(), "root's\n");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_before_anything_is_changed() {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n")), ("b", Some("b2\n"))]);
    let text = as_user(&bench, &|top| {
        fs::write(top.join("b"), "secret\n").unwrap();
        fs::set_permissions(top.join("b"), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Command::new("chown").arg("0:0").arg(top.join("b")).status().unwrap().success());
    });
    assert!(text.contains("cannot read") && text.contains("permission denied"), "{text}");
    assert_eq!(fs::read_to_string(bench.checkout().join("a")).unwrap(), "a1\n");
}

#[test]
fn a_rescue_that_may_not_be_read_stops_no_update() {
    let bench = Bench::new();
    git(&bench.checkout(), &["update-ref", "refs/provision/rescue/old", "HEAD"]);
    bench.push("more", &[("a", Some("a2\n"))]);
    // With objects to fetch, git itself fails at such a ref.
    git(&bench.checkout(), &["fetch", "-q"]);
    write(&bench.checkout(), "a", Some("mine\n"));
    let text = as_user(&bench, &|top| {
        let old = top.join(".git/refs/provision/rescue/old");
        fs::set_permissions(&old, fs::Permissions::from_mode(0o000)).unwrap();
        assert!(Command::new("chown").arg("0:0").arg(&old).status().unwrap().success());
    });
    assert!(text.contains("answer: (0, 1)"), "{text}");
    assert_eq!(fs::read_to_string(bench.checkout().join("a")).unwrap(), "a2\n");
}

#[test]
fn a_clone_asks_once_more_for_the_default_branch() {
    let bench = Bench::new();
    let folder = bench.dir.path();
    let remote = bench.remote();
    fs::write(folder.join("url"), remote.display().to_string()).unwrap();
    // It fails at the first question for HEAD, which it finds above itself.
    let script = "#!/bin/sh\nabove=$(cut -d' ' -f4 /proc/$PPID/stat)\n\
        if cat /proc/$PPID/cmdline /proc/$above/cmdline | grep -qa -e --symref && mkdir \"$HOME/failed\"; then exit 1; fi\n\
        exec git-upload-pack \"$@\"\n";
    fs::write(folder.join("flaky"), script).unwrap();
    fs::set_permissions(folder.join("flaky"), fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!("[remote \"origin\"]\n\tuploadpack = {}/flaky\n", folder.display());
    fs::write(folder.join(".gitconfig"), config).unwrap();
    let text = as_user(&bench, &|top| fs::rename(top, top.with_file_name("earlier")).unwrap());
    assert!(folder.join("failed").exists() && text.contains("answer: (0, 1)"), "{text}");
    assert!(bench.checkout().join(".git/refs/remotes/origin/HEAD").exists());
}
