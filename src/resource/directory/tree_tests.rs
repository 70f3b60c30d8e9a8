//! Recursive directories and the entries below them.

use std::fs as std_fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::host::testing::{
    as_user, attributes, chmod, chown, context, converge, desired, folder, plan, refused, snapshot,
};
use crate::resource::Change as _;

fn directory(path: &Path, more: &str) -> Directory {
    desired(&format!("{{ path: '{}', {more} }}", path.display()))
}

fn tree_change(diff: &Diff<Change>) -> &TreeChange {
    diff.changes.iter().find_map(|change| if let Change::Tree(change) = change { Some(change) } else { None }).unwrap()
}

/// Creates a file for each name, with its mode.
fn files(top: &Path, files: &[(&str, u32)]) {
    for (name, mode) in files {
        std_fs::create_dir_all(top.join(name).parent().unwrap()).unwrap();
        std_fs::write(top.join(name), "x").unwrap();
        chmod(&top.join(name), *mode);
    }
}

#[test]
fn bits_that_chown_clears_are_reported_exactly() {
    let folder = folder();
    let top = folder.path().join("t");
    files(&top, &[("suid", 0o4755), ("sgidx", 0o2755), ("sgidnox", 0o2644), ("cap", 0o755), ("plain", 0o644)]);
    std_fs::create_dir(top.join("dir")).unwrap();
    chmod(&top.join("dir"), 0o6755);
    // VFS_CAP_REVISION_2, effective, with only CAP_CHOWN.
    let value: Vec<u8> = [0x0200_0001_u32, 1, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    rustix::fs::setxattr(top.join("cap"), "security.capability", &value, rustix::fs::XattrFlags::empty()).unwrap();
    let step = directory(&top, "owner: '50000', recursive: true");
    let done = converge(&step, &context(None), folder.path());
    assert_eq!(
        done.changes[0].describe().risk.as_deref(),
        Some(
            "setuid or setgid is lost, as with chown, on 2: sgidx, suid; \
             file capabilities are lost, as with chown, on 1: cap"
        )
    );
    let modes = ["suid", "sgidx", "sgidnox", "cap", "dir"].map(|name| attributes(&top.join(name)).2);
    assert_eq!(modes, [0o755, 0o755, 0o2644, 0o755, 0o6755]);
    assert!(rustix::fs::getxattr(top.join("cap"), "security.capability", &mut [0; 64][..]).is_err());
}

#[test]
fn modes_below_depend_on_the_type_of_entry() {
    let folder = folder();
    let top = folder.path().join("t");
    files(&top, &[("closed", 0o400), ("tool", 0o700), ("open", 0o666), ("d/suid", 0o4755), ("outside", 0o600)]);
    std_fs::rename(top.join("outside"), folder.path().join("outside")).unwrap();
    symlink(folder.path().join("outside"), top.join("link")).unwrap();
    chmod(&top.join("d"), 0o3700);
    let socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    chmod(&top.join("socket"), 0o666);
    let top_mode = attributes(&top).2;
    let step =
        directory(&top, "owner: '50000', recursive: true, dir_mode: 'u=rwx,g=rX,o=', file_mode: 'u=rwX,g=rX,o='");
    let done = converge(&step, &context(None), folder.path());
    let description = done.changes[0].describe();
    assert_eq!(
        description.summary,
        "set owner 50000, mode u=rwx,g=rX,o= of directories, mode u=rwX,g=rX,o= of files on 7 entries below: closed, d, \
         d/suid and 4 more"
    );
    assert_eq!(description.risk.as_deref(), Some("setuid or setgid is lost, as with chown, on 1: d/suid"));
    let modes = ["closed", "tool", "open", "d", "d/suid", "socket"].map(|name| attributes(&top.join(name)).2);
    assert_eq!(modes, [0o640, 0o750, 0o640, 0o2750, 0o750, 0o666]);
    assert_eq!(attributes(&folder.path().join("outside")), (0, 0, 0o600));
    assert_eq!(attributes(&top).2, top_mode, "the mode of the directory itself is another key's");
    let octal = directory(&top, "recursive: owner, dir_mode: '2770', file_mode: '0600'");
    converge(&octal, &context(None), folder.path());
    assert_eq!((attributes(&top.join("d")).2, attributes(&top.join("tool")).2), (0o2770, 0o600));
    drop(socket);
}

#[test]
fn desired_set_id_bits_survive_a_new_owner() {
    let folder = folder();
    let top = folder.path().join("t");
    files(&top, &[("a", 0o2755)]);
    let step = directory(&top, "group: '50000', recursive: true, file_mode: '2755'");
    let done = converge(&step, &context(None), folder.path());
    assert_eq!((attributes(&top.join("a")), done.changes[0].describe().risk), ((0, 50000, 0o2755), None));
}

#[test]
fn excluded_entries_are_not_inspected() {
    let folder = folder();
    let top = folder.path().join("t");
    files(&top, &[("a", 0o644), ("cache/x/y", 0o644), ("b/run.sock", 0o644), ("b/skip/z", 0o644), ("b/c", 0o644)]);
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff.sock");
    std_fs::write(top.join(odd), "").unwrap();
    let step = directory(&top, "owner: '50000', recursive: true, exclude: ['cache/**', '*.sock', b/skip, 'nothing-*']");
    converge(&step, &context(None), folder.path());
    let owner = |name: &str| attributes(&top.join(name)).0;
    assert_eq!(["a", "cache", "b", "b/c"].map(owner), [50000; 4]);
    assert_eq!(["cache/x", "cache/x/y", "b/run.sock", "b/skip", "b/skip/z"].map(owner), [0; 5]);
    assert_eq!(attributes(&top.join(odd)).0, 0);
}

/// This program's own files get the tree's owner, and keep their modes.
#[test]
fn what_provision_keeps_in_a_tree_gets_its_owner_and_no_mode() {
    let folder = folder();
    let top = folder.path().join("t");
    let kept = ["app/.git/provision-private/run-1", "state/provision/rescues"];
    files(&top, &[("app/.git/HEAD", 0o600), ("state/x", 0o600), ("app/provision/roles/x", 0o600)]);
    for name in kept {
        files(&top, &[(&format!("{name}/x"), 0o400)]);
        for path in Path::new(name).ancestors().take(2) {
            chmod(&top.join(path), 0o700);
        }
    }
    let step = directory(&top, "owner: '50000', recursive: true, dir_mode: '0755', file_mode: '0644'");
    let done = converge(&step, &context(None), folder.path());
    let note = "modes stay as they are where provision keeps its state or rescues: app/.git/provision-private, state/provision";
    assert_eq!(done.notes, [note]);
    for name in kept {
        assert_eq!(attributes(&top.join(name).join("x")), (50000, 0, 0o400));
        assert_eq!(attributes(&top.join(name)), (50000, 0, 0o700));
        assert_eq!(attributes(top.join(name).parent().unwrap()), (50000, 0, 0o700));
    }
    for (name, mode) in [("app/.git", 0o755), ("state/x", 0o644), ("app/provision/roles", 0o755)] {
        assert_eq!(attributes(&top.join(name)), (50000, 0, mode), "{name}");
    }
    // It stays said when there is nothing left to do.
    assert_eq!(plan(&step, &context(None)).unwrap().unwrap().notes, [note]);
    let only_owner = directory(&top, "owner: '50001', recursive: true");
    assert_eq!(converge(&only_owner, &context(None), folder.path()).notes, <[String; 0]>::default());
}

#[test]
fn examples_are_sorted() {
    let folder = folder();
    let top = folder.path().join("t");
    let names: Vec<String> = (0..300).map(|n| format!("d{}/{n}", n % 7)).collect();
    files(&top, &names.iter().map(|name| (name.as_str(), 0o644)).collect::<Vec<_>>());
    let planned = plan(&directory(&top, "owner: '50000', recursive: true"), &context(None)).unwrap().unwrap();
    let mut all: Vec<String> = names.into_iter().chain((0..7).map(|n| format!("d{n}"))).collect();
    all.sort();
    assert_eq!((tree_change(&planned).differing.shown(), tree_change(&planned).differing.count), (&all[..3], 307));
}

#[test]
fn the_number_of_entries_may_change_but_new_risks_may_not_appear() {
    let folder = folder();
    let top = folder.path().join("t");
    files(&top, &[("a", 0o644), ("b", 0o644)]);
    let step = directory(&top, "owner: '50000', recursive: true, hard_links: change");
    let now = || plan(&step, &context(None)).unwrap().unwrap().changes.remove(0);
    let planned = now();
    std_fs::remove_file(top.join("a")).unwrap();
    assert!(now().is_left_of(&planned));
    files(&top, &[("c", 0o644), ("d/e", 0o644)]);
    assert!(now().is_left_of(&planned));
    let other = plan(&directory(&top, "owner: '50001', recursive: true, hard_links: change"), &context(None));
    assert!(!other.unwrap().unwrap().changes[0].is_left_of(&planned));
    chmod(&top.join("c"), 0o4755);
    assert!(!now().is_left_of(&planned));
    let with_risk = now();
    chmod(&top.join("b"), 0o4755);
    assert!(now().is_left_of(&with_risk));
    chmod(&top.join("b"), 0o644);
    chmod(&top.join("c"), 0o644);
    std_fs::hard_link(top.join("c"), folder.path().join("other")).unwrap();
    assert!(!now().is_left_of(&planned));
}

#[test]
fn newer_entries_are_distinguished_from_older_ones() {
    let folder = folder();
    let top = folder.path().join("t");
    files(&top, &[("old", 0o644)]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let then = std::time::SystemTime::now();
    std::thread::sleep(std::time::Duration::from_millis(50));
    files(&top, &[("new", 0o644)]);
    let step = directory(&top, "owner: '50000', recursive: true");
    let change = || plan(&step, &context(None)).unwrap().unwrap().changes.remove(0);
    assert!(!change().is_newer_than(then));
    chown(&top.join("old"), 50000, 0);
    assert!(change().is_newer_than(then));
}

#[test]
fn entries_that_cannot_be_changed_are_counted_and_the_others_are_changed() {
    let folder = folder();
    let top = folder.path().join("t");
    files(&top, &[("a", 0o644), ("b", 0o644), ("c/d", 0o644)]);
    let step = directory(&top, "owner: '50000', recursive: true");
    let planned = plan(&step, &context(None)).unwrap().unwrap();
    // Two entries changed meanwhile: one was hard-linked, and one would lose a bit without an announced risk.
    std_fs::hard_link(top.join("a"), folder.path().join("other")).unwrap();
    chmod(&top.join("c/d"), 0o4755);
    let failure = now_execute(&step, &planned.changes[0]);
    assert!(failure.message.starts_with(&format!("cannot change 2 of 4 entries below {}: ", top.display())));
    assert!(failure.message.contains("hard-linked") && failure.message.contains("which the plan did not show"));
    let owner = |name: &str| attributes(&top.join(name)).0;
    assert_eq!(["a", "b", "c", "c/d"].map(owner), [0, 50000, 50000, 0]);
}

fn now_execute(step: &Directory, change: &Change) -> Failure {
    crate::host::testing::now(step.execute(change, &ExecuteContext::new(context(None), "test"))).unwrap_err()
}

#[test]
fn keys_for_entries_need_a_recursive_directory() {
    let read = |yaml: &str| serde_yaml::from_str::<Directory>(yaml).map_err(|error| error.to_string());
    for (wrong, expected) in [
        ("{ path: /a, dir_mode: '0755' }", "set `recursive: true`"),
        ("{ path: /a, recursive: false, exclude: [x] }", "`exclude` applies to the entries below"),
        ("{ path: /a, recursive: group }", "true, false or `owner`"),
        ("{ path: /a, recursive: true, file_mode: 'u+rw,x' }", "is not a valid mode"),
        ("{ path: /a, recursive: true, file_mode: 644 }", "is not 0400"),
        ("{ path: /a, recursive: true, exclude: ['../b'] }", "leads out"),
    ] {
        let error = read(wrong).unwrap_err();
        assert!(error.contains(expected), "{wrong}: {error}");
    }
    let yaml =
        "{ path: /a, owner: '5', group: '6', recursive: owner, dir_mode: '0755', file_mode: 'a=rX', exclude: [x] }";
    let step = read(yaml).unwrap();
    assert_eq!(
        step.manual(),
        [
            "mkdir -p /a",
            "sudo chown -R 5 /a",
            "sudo chgrp 6 /a",
            "find /a -xdev -mindepth 1 -type d -exec chmod 0755 {} +",
            "find /a -xdev -mindepth 1 -type f -exec chmod a=rX {} +",
            "# exclude these entries below it: x",
        ]
    );
    let sent: Directory = serde_json::from_str(&serde_json::to_string(&step).unwrap()).unwrap();
    assert_eq!(sent, step);
}

/// A mode that would keep the acting user from walking the tree again is refused before anything is changed.
#[test]
fn modes_that_lock_the_acting_user_out_are_refused() {
    let name = concat!(module_path!(), "::modes_that_lock_the_acting_user_out_are_refused");
    let prepare = |folder: &Path| {
        files(&folder.join("t"), &[("a/f", 0o600), ("b/c/f", 0o600)]);
        for path in ["t", "t/a", "t/a/f", "t/b", "t/b/c", "t/b/c/f"] {
            chown(&folder.join(path), 50000, 50000);
        }
    };
    as_user(50000, name, prepare, |folder| {
        let top = folder.join("t");
        for (keys, expected, remedy) in [
            ("dir_mode: '0644'", "dir_mode 0644 would lock uid 50000 out of 3 directories below", "dir_mode: '0755'"),
            ("dir_mode: 'u=rw,g=r,o='", "dir_mode u=rw,g=r,o= would lock", "dir_mode: 'u=rw,g=r,o=,u+rx'"),
            ("dir_mode: 'u-r'", "dir_mode u-r would lock", "dir_mode: 'u-r,u+rx'"),
            (
                "file_mode: '0600', mode: '0644'",
                "mode 0644 would lock uid 50000 out of",
                "file_mode: '0600', mode: '0755'",
            ),
        ] {
            let before = snapshot(&top);
            let refusal = refused(&directory(&top, &format!("recursive: true, {keys}")), &context(None));
            assert!(refusal.message.contains(expected), "{keys}: {}", refusal.message);
            let hint = refusal.hint.unwrap();
            let key = remedy.rsplit(", ").find(|part| part.contains("mode: ")).unwrap().replace('\'', "\"");
            assert!(hint.contains(&key), "{keys}: {hint}");
            assert!(hint.ends_with("or run_as: root if only root is to enter"), "{hint}");
            assert_eq!(snapshot(&top), before, "{keys}");
            converge(&directory(&top, &format!("recursive: true, {remedy}")), &context(None), folder);
        }
        let new = directory(&folder.join("new"), "recursive: true, file_mode: '0600', mode: '0600'");
        assert!(refused(&new, &context(None)).message.contains("mode 0600 would lock uid 50000 out of"));
        // Other classes than the owner's do not matter, nor does a directory whose entries the step leaves alone.
        converge(&directory(&top, "recursive: true, dir_mode: '0700'"), &context(None), folder);
        let closed = converge(&directory(&top, "mode: '0600'"), &context(None), folder);
        assert!(closed.warnings[0].starts_with("mode 0600 does not let the owner enter directories"), "{closed:?}");
        // The remedy for a directory that is closed already is its own.
        for (closed, mode) in [("t", 0o600), ("t/b", 0o600), ("t/b", 0o300), ("t", 0o200)] {
            chmod(&top, 0o700);
            chmod(&folder.join(closed), mode);
            let step = directory(&top, "recursive: true, dir_mode: '0755'");
            // What is closed in the tree does not keep the step from changing the rest.
            let planned = plan(&step, &context(None)).and_then(|planned| planned);
            let failure = planned.map_or_else(Some, |diff| Failure::join(&diff.obstacles)).unwrap();
            let expected = format!("let its owner in: `chmod u+rx {}`", folder.join(closed).display());
            assert_eq!(failure.hint.as_deref(), Some(expected.as_str()), "{failure:?}");
            chmod(&folder.join(closed), mode | 0o500);
        }
        chmod(&top, 0o700);
    });
}

/// Root can walk any tree, and is warned.
#[test]
fn modes_that_lock_owners_out_are_warned_of() {
    let folder = folder();
    let top = folder.path().join("t");
    files(&top, &[("a/f", 0o600)]);
    for (keys, warned) in [
        ("dir_mode: '0644'", "dir_mode 0644 does not let the owner enter"),
        ("dir_mode: 'a-x'", "dir_mode a-x does not let the owner enter"),
        ("file_mode: '0600', mode: '0640'", "mode 0640 does not let the owner enter"),
        ("dir_mode: '0000'", ""),
        ("dir_mode: 'u=rwX,g=rX'", ""),
        ("dir_mode: 'g-w'", ""),
    ] {
        for _ in 0..2 {
            let found = plan(&directory(&top, &format!("recursive: true, {keys}")), &context(None)).unwrap().unwrap();
            assert_eq!(
                found.warnings.iter().any(|one| one.starts_with(warned)),
                !warned.is_empty(),
                "{keys}: {found:?}"
            );
            converge(&directory(&top, &format!("recursive: true, {keys}")), &context(None), folder.path());
        }
    }
}
