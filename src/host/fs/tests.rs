use std::ffi::OsStr;
use std::fs as std_fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::*;
use crate::host::testing::{as_user, attributes, chmod, chown, folder};

const PRIVATE: Attributes = Attributes { uid: None, gid: None, mode: 0o400 };

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std_fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(super) fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
}

#[test]
fn a_file_is_created_read_and_replaced() {
    let folder = folder();
    let dir = Dir::open(folder.path()).unwrap();
    let name = OsStr::new("key");
    assert!(dir.read(name, 100).unwrap().is_none());
    dir.create(name, b"one", Attributes { uid: Some(50000), gid: Some(50001), mode: 0o440 }).unwrap();
    let seen = dir.read(name, 100).unwrap().unwrap();
    assert_eq!((&**seen.bytes, seen.stat.uid, seen.stat.gid, seen.stat.mode), (&b"one"[..], 50000, 50001, 0o440));
    let error = dir.create(name, b"two", PRIVATE).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    let old = std_fs::File::open(folder.path().join("key")).unwrap();
    dir.rewrite(name, b"two", &seen, seen.stat.mode).unwrap();
    assert_eq!(attributes(&folder.path().join("key")), (50000, 50001, 0o440));
    assert_eq!(std_fs::read(folder.path().join("key")).unwrap(), b"two");
    assert_eq!(std::io::read_to_string(old).unwrap(), "one", "the old inode is left alone");
    assert_eq!(names_in(folder.path()), ["key"]);
}

#[test]
fn only_regular_files_of_a_bounded_size_are_read() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fifo(&at("fifo"));
    symlink("/etc/passwd", at("link")).unwrap();
    symlink("/dev/zero", at("device-link")).unwrap();
    std_fs::create_dir(at("directory")).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    std_fs::write(at("large"), [0; 101]).unwrap();
    std_fs::File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();
    std_fs::write(at("fits"), [0; 100]).unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    for (name, told) in [
        ("fifo", "is a FIFO, not a file"),
        ("link", "is a symlink"),
        ("device-link", "is a symlink"),
        ("directory", "is a directory"),
        ("socket", "is a socket"),
        ("large", "larger than 100 bytes"),
        ("sparse", "larger than 100 bytes"),
    ] {
        let error = dir.read(OsStr::new(name), 100).unwrap_err();
        assert!(error.to_string().contains(told), "{name}: {error}");
        assert!(error.hint().is_some());
    }
    assert_eq!(dir.read(OsStr::new("fits"), 100).unwrap().unwrap().bytes.len(), 100);
    let devices = Dir::open(Path::new("/dev")).unwrap();
    assert!(devices.read(OsStr::new("zero"), 100).unwrap_err().to_string().contains("is a device"));
}

#[test]
fn any_name_works() {
    let folder = folder();
    for name in [b"new\nline".to_vec(), b"invalid \xff\xfe".to_vec(), vec![b'n'; 255]] {
        let name = OsStr::from_bytes(&name);
        let dir = Dir::open(folder.path()).unwrap();
        dir.create(name, b"1", PRIVATE).unwrap();
        dir.rewrite(name, b"2", &dir.read(name, 9).unwrap().unwrap(), 0o600).unwrap();
        assert_eq!(&**dir.read(name, 9).unwrap().unwrap().bytes, b"2");
        dir.create_dir(OsStr::new("directory"), PRIVATE).unwrap();
        std_fs::remove_dir(folder.path().join("directory")).unwrap();
    }
    assert_eq!(escape_path(Path::new(OsStr::from_bytes(b"/a\nb\xffc\x1b[1m"))), r"/a\x0ab\xffc\x1b[1m");
}

#[test]
fn a_path_may_be_longer_than_the_kernel_takes_at_once() {
    let folder = folder();
    let mut path = folder.path().to_owned();
    for _ in 0..40 {
        path.push("d".repeat(200));
    }
    path.push("file");
    let place = Place::find(&path).unwrap();
    assert_eq!(place.missing_parents.len(), 40);
    let name = place.name.clone();
    place.create_parents(&[]).unwrap().create(&name, b"deep", PRIVATE).unwrap();
    let place = Place::find(&path).unwrap();
    assert_eq!(place.missing_parents.len(), 0);
    assert_eq!(&**place.dir.read(&place.name, 9).unwrap().unwrap().bytes, b"deep");
}

#[test]
fn root_follows_no_symlink_that_another_user_can_have_made() {
    let folder = folder();
    let real = folder.path().join("real");
    std_fs::create_dir(&real).unwrap();
    // /tmp, which holds the folder, is writable by everybody.
    symlink(&real, folder.path().join("link")).unwrap();
    let error = Dir::open(&folder.path().join("link/below")).unwrap_err();
    assert!(error.to_string().contains("/link is a symlink that another user could have made"), "{error}");
    assert_eq!(error.hint(), Some("write the real path in the plan file"));
    assert!(!error.is_missing());
}

#[test]
fn root_follows_the_systems_own_symlinks() {
    // Under /usr, which root alone can write: absolute, relative, with `..`, and a loop.
    let place = tempfile::Builder::new().prefix("provision-test-").tempdir_in("/usr/local").unwrap();
    chmod(place.path(), 0o755);
    let at = |name: &str| place.path().join(name);
    std_fs::create_dir_all(at("real/inner")).unwrap();
    symlink(at("real"), at("absolute")).unwrap();
    symlink("real/../real", at("relative")).unwrap();
    symlink("relative", at("twice")).unwrap();
    symlink("loop", at("loop")).unwrap();
    let real = Dir::open(&at("real/inner")).unwrap().stat_self().unwrap();
    for link in ["absolute", "relative", "twice"] {
        let found = Dir::open(&at(link).join("inner")).unwrap().stat_self().unwrap();
        assert!(found.is_same_file(&real), "{link}");
    }
    assert!(Dir::open(&at("loop")).unwrap_err().to_string().contains("symbolic links"));
    chown(&at("absolute"), 50000, 50000);
    assert!(Dir::open(&at("absolute")).unwrap_err().to_string().contains("another user"));
    chmod(place.path(), 0o775);
    assert!(Dir::open(&at("relative")).unwrap_err().to_string().contains("another user"));
}

#[test]
fn a_user_follows_symlinks_as_the_kernel_does() {
    as_user(
        50000,
        concat!(module_path!(), "::a_user_follows_symlinks_as_the_kernel_does"),
        |folder| {
            std_fs::create_dir(folder.join("real")).unwrap();
            symlink("real", folder.join("link")).unwrap();
        },
        |folder| assert!(Dir::open(&folder.join("link")).is_ok()),
    );
}

#[test]
fn a_parent_that_is_no_directory_is_named() {
    let folder = folder();
    std_fs::write(folder.path().join("file"), "").unwrap();
    let error = Place::find(&folder.path().join("file/below/it")).unwrap_err();
    assert!(error.to_string().ends_with("/file is a file, not a directory"), "{error}");
    assert!(Dir::open(&folder.path().join("missing/below")).unwrap_err().is_missing());
    assert!(Place::find(Path::new("/")).is_err());
}

#[test]
fn parents_belong_to_whom_they_are_made_for() {
    let folder = folder();
    chown(folder.path(), 50000, 50001);
    let path = folder.path().join("a/b/c");
    let place = Place::find(&path).unwrap();
    assert_eq!(place.missing_paths(), [folder.path().join("a"), folder.path().join("a/b")]);
    let dir = place.create_parents(&[]).unwrap();
    dir.create_dir(OsStr::new("c"), Attributes { uid: None, gid: None, mode: 0o2750 }).unwrap();
    assert_eq!(attributes(&folder.path().join("a")), (50000, 50001, 0o755));
    assert_eq!(attributes(&folder.path().join("a/b")), (50000, 50001, 0o755));
    assert_eq!(attributes(&path), (0, 0, 0o2750));
    assert_eq!(dir.create_dir(OsStr::new("c"), PRIVATE).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(names_in(&folder.path().join("a/b")), ["c"]);
}

#[test]
fn leftovers_are_told_from_everything_else() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let dir = Dir::open(folder.path()).unwrap();
    let name = OsStr::new("key");
    let temporary = || leftover::temporary_name(name).unwrap();
    let (file, directory, live, full, link) = (temporary(), temporary(), temporary(), temporary(), temporary());
    std_fs::write(at(&file), "").unwrap();
    chmod(&at(&file), 0);
    std_fs::create_dir(at(&directory)).unwrap();
    let held = std_fs::File::create(at(&live)).unwrap();
    descriptor::lock_exclusive(&held).unwrap();
    std_fs::create_dir_all(at(&full).join("kept")).unwrap();
    symlink("/etc", at(&link)).unwrap();
    std_fs::write(at(&leftover::temporary_name(OsStr::new("other")).unwrap()), "").unwrap();
    std_fs::write(at(&format!("{}x", temporary())), "").unwrap();
    let mut expected = vec![file.clone(), directory.clone()];
    expected.sort();
    assert_eq!(dir.leftovers(name).unwrap(), expected);
    dir.remove_leftovers(name).unwrap();
    assert!(dir.leftovers(name).unwrap().is_empty());
    assert!(!at(&file).exists() && !at(&directory).exists());
    assert!(at(&live).exists() && at(&full).exists() && at(&link).is_symlink());
    drop(held);
    assert_eq!(dir.leftovers(name).unwrap(), [live]);
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let name = "a_write_that_fails_leaves_nothing";
    let prepare = |folder: &Path| std_fs::write(folder.join("key"), "old").unwrap();
    as_user(50000, &format!("{}::{name}", module_path!()), prepare, |folder| {
        let dir = Dir::open(folder).unwrap();
        let name = OsStr::new("key");
        let seen = dir.stat(name).unwrap().unwrap();
        let error = dir.replace(name, b"new", &seen, Attributes { uid: Some(0), gid: None, mode: 0o400 });
        let error = error.unwrap_err();
        assert!(error.is_denied() && error.to_string().contains("cannot write"), "{error}");
        assert_eq!(names_in(folder), ["key"]);
        assert_eq!(std_fs::read(folder.join("key")).unwrap(), b"old");
        assert!(dir.create_dir(OsStr::new("d"), Attributes { uid: Some(0), gid: None, mode: 0o700 }).is_err());
        assert_eq!(names_in(folder), ["key"]);
    });
}

#[test]
fn owner_and_mode_change_only_the_inode_that_was_seen() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let dir = Dir::open(folder.path()).unwrap();
    std_fs::write(at("file"), "").unwrap();
    chmod(&at("file"), 0);
    symlink("file", at("link")).unwrap();
    let name = OsStr::new("file");
    let seen = dir.stat(name).unwrap().unwrap();
    dir.set_owner(name, &seen, Some(50000), None).unwrap();
    dir.set_mode(name, &seen, 0o640).unwrap();
    assert_eq!(attributes(&at("file")), (50000, 0, 0o640));
    let link = dir.stat(OsStr::new("link")).unwrap().unwrap();
    dir.set_owner(OsStr::new("link"), &link, Some(50002), Some(50003)).unwrap();
    assert_eq!(attributes(&at("link")).0, 50002);
    assert!(dir.set_mode(OsStr::new("link"), &link, 0o777).is_err());
    std_fs::rename(at("link"), at("file")).unwrap();
    let error = dir.set_owner(name, &seen, Some(1), None).unwrap_err();
    assert!(error.to_string().contains("was replaced by a symlink"), "{error}");
}

fn walked(top: &Path) -> Vec<(PathBuf, FileKind)> {
    let mut met = Vec::new();
    tree::walk(&Dir::open(top).unwrap(), &tree::LeftOut::default(), |entry| {
        if let tree::Visit::Entry(entry) = entry {
            met.push((entry.path(), entry.kind));
        }
        Ok(())
    })
    .unwrap();
    met
}

#[test]
fn a_walk_meets_every_entry_once_and_directories_last() {
    let folder = folder();
    let mut expected = Vec::new();
    for outer in 0..20 {
        for inner in 0..20 {
            let path = PathBuf::from(format!("{outer}/{inner}"));
            std_fs::create_dir_all(folder.path().join(&path)).unwrap();
            std_fs::write(folder.path().join(&path).join("file"), "").unwrap();
            expected.extend([path.join("file"), path]);
        }
        expected.push(outer.to_string().into());
    }
    symlink("/etc", folder.path().join("link")).unwrap();
    expected.push("link".into());
    let met = walked(folder.path());
    for (place, (path, _)) in met.iter().enumerate() {
        assert!(!met[place..].iter().any(|(later, _)| later != path && later.starts_with(path)), "{path:?} came early");
    }
    let mut paths: Vec<_> = met.into_iter().map(|(path, _)| path).collect();
    paths.sort();
    expected.sort();
    assert_eq!(paths, expected);
}

#[test]
fn a_walk_of_any_depth_keeps_few_directories_open() {
    let folder = folder();
    const DEPTH: usize = 400;
    let mut dir = Dir::open(folder.path()).unwrap();
    for level in 0..DEPTH {
        // Siblings on both sides of the way down, so that each level has to be taken up again.
        for name in ["a", "d", "z"] {
            rustix::fs::mkdirat(&dir, name, rustix::fs::Mode::RWXU).unwrap();
        }
        if level % 100 == 0 {
            dir.create(OsStr::new("file"), b"", PRIVATE).unwrap();
        }
        dir = dir.open_dir(OsStr::new("d")).unwrap();
    }
    let mut most = 0;
    let mut met = 0;
    tree::walk(&Dir::open(folder.path()).unwrap(), &tree::LeftOut::default(), |_| {
        met += 1;
        if met % 100 == 0 {
            let mine = folder.path().to_owned();
            let open = std_fs::read_dir("/proc/self/fd").unwrap().flatten();
            let open = open.filter(|fd| std_fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(&mine))).count();
            most = most.max(open);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(met, 3 * DEPTH + DEPTH.div_ceil(100));
    assert!(most <= 40, "{most} directories open");
}

#[test]
fn a_walk_changes_a_symlink_and_never_its_target() {
    let folder = folder();
    let outside = folder.path().join("outside");
    std_fs::write(&outside, "").unwrap();
    let top = folder.path().join("top");
    std_fs::create_dir_all(top.join("d")).unwrap();
    symlink(&outside, top.join("d/link")).unwrap();
    fifo(&top.join("fifo"));
    let _listener = UnixListener::bind(top.join("socket")).unwrap();
    tree::walk(&Dir::open(&top).unwrap(), &tree::LeftOut::default(), |met| {
        if let tree::Visit::Entry(entry) = met {
            assert!(entry.change(Some(50000), Some(50001), None, false)?);
        }
        Ok(())
    })
    .unwrap();
    for changed in ["d", "d/link", "fifo", "socket"] {
        let stat = top.join(changed).symlink_metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid()), (50000, 50001), "{changed}");
    }
    assert_eq!(attributes(&outside).0, 0);
    assert_eq!(attributes(&top).0, 0);
}

#[test]
fn an_entry_that_is_exchanged_or_vanishes_under_the_walk_is_not_followed() {
    let folder = folder();
    let outside = folder.path().join("outside");
    std_fs::create_dir(&outside).unwrap();
    std_fs::write(outside.join("file"), "").unwrap();
    let top = folder.path().join("top");
    std_fs::create_dir(&top).unwrap();
    let open = Dir::open(&top).unwrap();
    // A file becomes a hard link to one outside between the look and the change.
    std_fs::write(top.join("file"), "").unwrap();
    let result = tree::walk(&open, &tree::LeftOut::default(), |met| {
        if let tree::Visit::Entry(entry) = met {
            std_fs::remove_file(top.join("file")).unwrap();
            std_fs::hard_link(outside.join("file"), top.join("file")).unwrap();
            entry.change(Some(50000), None, None, false)?;
        }
        Ok(())
    });
    assert!(result.unwrap_err().to_string().contains("replaced or hard-linked"));
    // It vanishes.
    tree::walk(&open, &tree::LeftOut::default(), |met| {
        if let tree::Visit::Entry(entry) = met {
            std_fs::remove_file(top.join("file")).unwrap();
            assert!(!entry.change(Some(50000), None, None, false)?);
        }
        Ok(())
    })
    .unwrap();
    // A directory that has been entered becomes a symlink to one outside.
    std_fs::create_dir(top.join("d")).unwrap();
    std_fs::write(top.join("d/file"), "").unwrap();
    tree::walk(&open, &tree::LeftOut::default(), |met| {
        if let tree::Visit::Entry(entry) = met {
            if entry.path() == Path::new("d/file") {
                std_fs::rename(top.join("d"), folder.path().join("moved")).unwrap();
                symlink(&outside, top.join("d")).unwrap();
            }
            entry.change(Some(50000), None, None, false)?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(attributes(&outside).0, 0);
    assert_eq!(attributes(&outside.join("file")).0, 0);
    assert_eq!(attributes(&folder.path().join("moved/file")).0, 50000);
}

#[test]
fn what_was_written_since_a_file_was_read_is_not_replaced() {
    let folder = folder();
    let path = folder.path().join("file");
    std_fs::write(&path, "one").unwrap();
    let place = Place::find(&path).unwrap();
    let (dir, name) = (place.parent().unwrap(), place.name.as_os_str());
    let seen = dir.read(name, 99).unwrap().unwrap();
    let is_kept = |text: &str| {
        let error = dir.rewrite(name, b"two", &seen, 0o600).unwrap_err();
        assert!(error.is_newer() && error.to_string().contains("was changed in the meantime"), "{error}");
        assert_eq!(std_fs::read_to_string(&path).unwrap(), text);
        assert_eq!(std_fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    };
    // The size stays the same.
    std_fs::write(&path, "eno").unwrap();
    is_kept("eno");
    std_fs::write(&path, "one, and a note").unwrap();
    is_kept("one, and a note");
    std_fs::write(&path, "one").unwrap();
    dir.rewrite(name, b"two", &seen, 0o600).unwrap();
    assert_eq!(std_fs::read_to_string(&path).unwrap(), "two");
    assert_eq!(std_fs::read_dir(folder.path()).unwrap().count(), 1);
}
