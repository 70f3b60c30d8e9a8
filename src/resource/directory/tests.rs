use std::fs as std_fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::host::testing::{
    as_user, attributes, chmod, chown, context, converge, desired, folder, now, plan, refused, snapshot,
};
use crate::resource::{Action, Change as _};

fn directory(path: &Path, more: &str) -> Directory {
    desired(&format!("{{ path: '{}', {more} }}", path.display()))
}

fn summaries(diff: &Diff<Change>) -> Vec<String> {
    diff.changes.iter().map(|change| change.describe().summary).collect()
}

#[test]
fn fixtures() {
    crate::resource::fixtures::check::<Directory>();
}

#[test]
fn missing_directories_are_created_with_their_parents() {
    let folder = folder();
    chown(folder.path(), 1000, 1000);
    let path = folder.path().join("a/b/logs");
    let step = directory(&path, "owner: '50000', group: '50001', mode: '2770', recursive: true");
    let done = converge(&step, &context(None), folder.path());
    assert_eq!(done.changes.len(), 1);
    assert_eq!(done.changes[0].describe().action, Action::Create);
    assert_eq!(attributes(&path), (50000, 50001, 0o2770));
    assert_eq!(attributes(&folder.path().join("a/b")), (1000, 1000, 0o755));
    let before = snapshot(folder.path());
    assert!(converge(&step, &context(None), folder.path()).changes.is_empty());
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn attributes_that_are_not_given_are_left_alone() {
    let folder = folder();
    let path = folder.path().join("logs");
    std_fs::create_dir(&path).unwrap();
    chown(&path, 50000, 50001);
    chmod(&path, 0o3711);
    let step = directory(&path, "owner: null, group: null, mode: null, recursive: null, hard_links: null");
    assert_eq!(converge(&step, &context(None), folder.path()), Diff::default());
    assert_eq!(attributes(&path), (50000, 50001, 0o3711));
    converge(&directory(&path, "mode: '0755'"), &context(None), folder.path());
    assert_eq!(attributes(&path), (50000, 50001, 0o755));
}

/// Returns the peak memory usage of this process in KiB (`VmHWM`, proc(5)).
fn peak() -> u64 {
    let status = std_fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn large_trees_are_observed_in_constant_memory() {
    const USER: u32 = 50000;
    let name = concat!(module_path!(), "::large_trees_are_observed_in_constant_memory");
    let prepare = |folder: &Path| {
        for (tree, directories) in [("small", 1), ("large", 100)] {
            for directory in 0..directories {
                let directory = folder.join(tree).join(directory.to_string());
                std_fs::create_dir_all(&directory).unwrap();
                (0..1000).for_each(|file| drop(std_fs::File::create(directory.join(format!("{file}.log"))).unwrap()));
            }
        }
    };
    as_user(USER, name, prepare, |folder| {
        // No entry belongs to the desired owner, so every entry is reported.
        let observe = |tree: &str| {
            let step = directory(&folder.join(tree), "owner: '50000', recursive: true");
            serde_json::to_string(&now(step.observe(&context(None))).unwrap()).unwrap()
        };
        assert!(observe("small").contains("1001"), "every entry was observed");
        let before = peak();
        assert!(observe("large").contains("100100"), "every entry was observed");
        let grown = peak() - before;
        assert!(grown < 4096, "{grown} KiB more for 99 times the entries: 43 bytes for each");
    });
}

#[test]
fn recursive_ownership_changes_the_whole_tree() {
    let folder = folder();
    let top = folder.path().join("logs");
    std_fs::create_dir_all(top.join("dag/run")).unwrap();
    std_fs::write(top.join("dag/run/1.log"), "x").unwrap();
    std_fs::write(top.join("right.log"), "x").unwrap();
    chown(&top.join("right.log"), 50000, 50000);
    let outside = folder.path().join("outside");
    std_fs::write(&outside, "").unwrap();
    symlink(&outside, top.join("latest")).unwrap();
    std_fs::write(top.join("tool"), "").unwrap();
    chmod(&top.join("tool"), 0o4755);
    let step = directory(&top, "owner: '50000', group: '50000', mode: '0750', recursive: true");
    let right = snapshot(&top.join("right.log"));
    let done = converge(&step, &context(None), folder.path());
    let found = summaries(&done);
    assert_eq!(found.len(), 3);
    assert!(found[0].starts_with("set owner 50000 and group 50000 on 5 entries below: "), "{found:?}");
    assert!(found[0].ends_with(" and 2 more"), "{found:?}");
    assert_eq!(found[1..], ["set owner 50000 and group 50000, was root:root", "set mode 0750, was 0755"]);
    assert_eq!(done.changes[0].describe().risk.as_deref(), Some("setuid or setgid is lost, as with chown, on 1: tool"));
    for path in ["", "dag", "dag/run", "dag/run/1.log", "latest", "right.log"] {
        let found = attributes(&top.join(path));
        assert_eq!((found.0, found.1), (50000, 50000), "{path}");
    }
    assert_eq!(attributes(&outside).0, 0);
    assert_eq!(attributes(&top.join("tool")), (50000, 50000, 0o755));
    assert_eq!(snapshot(&top.join("right.log")), right, "a right entry was touched");
    let before = snapshot(folder.path());
    assert!(converge(&step, &context(None), folder.path()).changes.is_empty());
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn hard_links_change_owner_only_on_request() {
    let folder = folder();
    let top = folder.path().join("logs");
    std_fs::create_dir(&top).unwrap();
    let outside = folder.path().join("outside");
    std_fs::write(&outside, "").unwrap();
    std_fs::hard_link(&outside, top.join("linked")).unwrap();
    let refusal = refused(&directory(&top, "owner: '50000', recursive: true"), &context(None));
    assert!(refusal.message.contains("1 entry below") && refusal.message.ends_with(": linked"), "{}", refusal.message);
    assert_eq!(attributes(&outside).0, 0);
    converge(&directory(&top, "owner: '50000', recursive: true, hard_links: change"), &context(None), folder.path());
    assert_eq!(attributes(&outside).0, 50000);
    // A hard-linked file that has converged is not a problem.
    assert!(plan(&directory(&top, "owner: '50000', recursive: true"), &context(None)).unwrap().is_ok());
}

#[test]
fn mounts_in_the_tree_are_reported_and_not_entered() {
    let folder = folder();
    let top = folder.path().join("logs");
    std_fs::create_dir_all(top.join("mounted/d")).unwrap();
    let outside = folder.path().join("outside");
    std_fs::create_dir(&outside).unwrap();
    std_fs::write(outside.join("file"), "").unwrap();
    // A bind mount of the same file system, which the device number does not show.
    let mounted = top.join("mounted");
    let mount = |arguments: &[&std::ffi::OsStr]| {
        assert!(std::process::Command::new(arguments[0]).args(&arguments[1..]).status().unwrap().success());
    };
    mount(&["mount".as_ref(), "--bind".as_ref(), outside.as_ref(), mounted.as_ref()]);
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0).status();
        }
    }
    let unmount = Unmount(&mounted);
    let done = converge(&directory(&top, "owner: '50000', recursive: true"), &context(None), folder.path());
    assert_eq!(done.notes, ["mount points are skipped: mounted"]);
    assert_eq!(attributes(&outside).0, 0);
    assert_eq!(attributes(&outside.join("file")).0, 0);
    drop(unmount);
}

#[test]
fn entries_that_are_not_directories_are_left_alone() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    std_fs::write(at("file"), "").unwrap();
    std_fs::create_dir(at("real")).unwrap();
    symlink("real", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for (name, expected) in [("file", "is a file"), ("link", "is a symlink"), ("dangling", "is a symlink")] {
        let refusal = refused(&directory(&at(name), "owner: '50000', mode: '0700'"), &context(None));
        assert!(refusal.message.contains(expected), "{name}: {}", refusal.message);
        assert!(refusal.hint.is_some());
    }
    assert_eq!(attributes(&at("real")).0, 0);
}

#[test]
fn unknown_owners_fail_and_numbers_need_no_account() {
    let folder = folder();
    let failure = plan(&directory(folder.path(), "owner: nobody-here"), &context(None)).unwrap_err();
    assert!(failure.message.contains("no such user: nobody-here") && failure.hint.is_some());
    assert!(plan(&directory(folder.path(), "group: '54321'"), &context(None)).unwrap().is_ok());
}

#[test]
fn leftovers_of_a_killed_run_are_removed() {
    let folder = folder();
    let path = folder.path().join("a/b");
    let step = directory(&path, "");
    // The state after a kill between mkdir and rename, for the first missing parent and for the directory itself.
    let place = Place::find(&path).unwrap();
    let stem = |name: &str| format!(".provision-{}-0123456789abcdef", &blake3::hash(name.as_bytes()).to_hex()[..12]);
    std_fs::create_dir(folder.path().join(stem("a"))).unwrap();
    assert_eq!(place.leftovers().unwrap(), [stem("a")]);
    let done = converge(&step, &context(None), folder.path());
    assert_eq!(done.changes[0].describe().action, Action::Delete);
    assert_eq!(done.changes.len(), 2);
    std_fs::create_dir(folder.path().join("a").join(stem("b"))).unwrap();
    let done = converge(&step, &context(None), folder.path());
    assert_eq!(summaries(&done), ["remove leftovers of an interrupted run"]);
    assert_eq!(std_fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
}

#[test]
fn changes_that_need_root_are_refused_to_users() {
    let prepare = |folder: &Path| {
        for name in ["mine", "roots", "closed", "mixed"] {
            std_fs::create_dir(folder.join(name)).unwrap();
        }
        std_fs::write(folder.join("mixed/roots-file"), "").unwrap();
        for name in ["mine", "mixed"] {
            chown(&folder.join(name), 50000, 50000);
        }
    };
    let name = concat!(module_path!(), "::changes_that_need_root_are_refused_to_users");
    as_user(50000, name, prepare, |folder| {
        for (name, keys, expected) in [
            ("mine", "owner: '50001'", "uid 50000 is not allowed to change the owner of"),
            ("mine", "group: '50001'", "not allowed to change the group of"),
            ("roots", "mode: '0700'", "not allowed to change the mode"),
            ("closed/new", "", "uid 50000 may not write to"),
            ("new", "owner: root", "not allowed to change the owner of"),
            ("mixed", "owner: '50000', recursive: true", "1 entry below"),
        ] {
            let refusal = refused(&directory(&folder.join(name), keys), &context(None));
            assert!(refusal.message.contains(expected), "{name}: {}", refusal.message);
            assert!(refusal.hint.unwrap().contains("run_as: root"));
        }
        let step = directory(&folder.join("a/own"), "owner: '50000', group: '50000', mode: '0700'");
        converge(&step, &context(None), folder);
        assert_eq!(attributes(&folder.join("a/own")), (50000, 50000, 0o700));
        assert_eq!(attributes(&folder.join("a")), (50000, 50000, 0o755));
    });
}

#[test]
fn targets_that_changed_their_type_are_not_touched() {
    let folder = folder();
    let path = folder.path().join("logs");
    std_fs::create_dir(&path).unwrap();
    let step = directory(&path, "owner: '50000', mode: '0700'");
    let planned = plan(&step, &context(None)).unwrap().unwrap();
    std_fs::remove_dir(&path).unwrap();
    let outside = folder.path().join("outside");
    std_fs::create_dir(&outside).unwrap();
    symlink(&outside, &path).unwrap();
    for change in &planned.changes {
        let failure = now(step.execute(change, &ExecuteContext::new(context(None), "test"))).unwrap_err();
        assert!(failure.message.contains("no longer a directory"), "{failure}");
    }
    assert_eq!(attributes(&outside), (0, 0, 0o755));
}

#[test]
fn invalid_plan_files_are_rejected() {
    let read = |yaml: &str| serde_yaml::from_str::<Directory>(yaml).map_err(|error| error.to_string());
    for (wrong, expected) in [
        ("{ path: logs }", "not absolute"),
        ("{ path: /a, mode: 755 }", "is not 0400"),
        ("{ path: /a, owners: b }", "unknown field"),
        ("{ owner: b }", "missing field `path`"),
        ("{ path: /a, owner: '-1' }", "user or group"),
        ("{ path: /a, hard_links: follow }", "unknown variant"),
    ] {
        let error = read(wrong).unwrap_err();
        assert!(error.contains(expected), "{wrong}: {error}");
    }
    let logs = read("{ path: /srv/my logs, owner: 50000, group: '50000', recursive: true, mode: '0755' }").unwrap();
    assert_eq!(
        logs.manual(),
        ["mkdir -p '/srv/my logs'", "sudo chown -R 50000:50000 '/srv/my logs'", "chmod 0755 '/srv/my logs'"]
    );
}

/// Two steps can need the same missing parents. The one that runs first creates them for both.
#[test]
fn a_creation_matches_its_plan_if_only_parents_were_created_meanwhile() {
    let create = |parents: &[&str], mode: &str| -> Change {
        let json = serde_json::json!({
            "change": "create", "path": "/a/b/c", "parents": parents, "owner": null, "group": null, "mode": mode });
        serde_json::from_value(json).unwrap()
    };
    let planned = create(&["/a", "/a/b"], "0750");
    for left in [&["/a", "/a/b"][..], &["/a/b"], &[]] {
        assert!(create(left, "0750").is_left_of(&planned), "{left:?}");
        assert!(!create(left, "0755").is_left_of(&planned), "{left:?}");
    }
    assert!(!create(&["/a"], "0750").is_left_of(&planned));
    assert!(!planned.is_left_of(&create(&["/a/b"], "0750")));
}
