//! Paths that the starting user gave: followed through symlinks, and read without waiting.

use std::fs as std_fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::tests::fifo;
use super::*;
use crate::host::testing::{as_user, folder};

#[test]
fn a_file_by_its_path_is_read_without_waiting() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fifo(&at("fifo"));
    let _listener = UnixListener::bind(at("socket")).unwrap();
    std_fs::File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();
    std_fs::write(at("fits"), [0; 100]).unwrap();
    for (link, target) in [("fifo-link", "fifo"), ("zero-link", "/dev/zero"), ("fits-link", "fits"), ("loop", "loop")] {
        symlink(target, at(link)).unwrap();
    }
    for (name, expected) in [
        ("fifo", "it is a FIFO, not a file"),
        ("fifo-link", "it is a FIFO, not a file"),
        ("zero-link", "it is a device, not a file"),
        ("socket", "it is a socket, not a file"),
        (".", "it is a directory, not a file"),
        ("sparse", "it is larger than 100 bytes"),
        ("loop", "symbolic links"),
        ("missing", "No such file"),
    ] {
        let error = read_file(&at(name), 100).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    for name in ["fits", "fits-link"] {
        assert_eq!(read_file(&at(name), 100).unwrap().bytes.len(), 100);
    }
    assert!(read_file(&at("fits"), 99).is_err());
}

#[test]
fn links_at_the_end_of_a_path_lead_root_where_root_alone_put_them() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    std_fs::create_dir(at("deep")).unwrap();
    std_fs::write(at("deep/file"), "found").unwrap();
    symlink("deep/file", at("one")).unwrap();
    let read = |path: &str| {
        let place = Place::follow(&at(path)).map_err(|error| error.to_string())?;
        let seen = place.dir.read(&place.name, 100).map_err(|error| error.to_string())?;
        Ok::<_, String>(String::from_utf8(seen.unwrap().bytes.to_vec()).unwrap())
    };
    // /tmp, which holds the folder, is writable by everybody.
    assert!(read("one").unwrap_err().contains("/one is a symlink that another user could have made"));
    assert_eq!(read("deep/../deep/file").unwrap(), "found");
}

#[test]
fn links_at_the_end_of_a_path_lead_a_user_as_the_kernel_does() {
    let name = concat!(module_path!(), "::links_at_the_end_of_a_path_lead_a_user_as_the_kernel_does");
    let prepare = |folder: &Path| {
        std_fs::create_dir(folder.join("deep")).unwrap();
        std_fs::write(folder.join("deep/file"), "found").unwrap();
        let links =
            [("deep/up", "../one"), ("one", "two"), ("two", "deep/../deep/file"), ("loop", "loop"), ("none", "no")];
        for (link, target) in links {
            symlink(target, folder.join(link)).unwrap();
        }
    };
    as_user(4343, name, prepare, |folder| {
        for path in ["one", "two", "deep/up", "deep/../one", "./deep/file"] {
            let place = Place::follow(&folder.join(path)).unwrap();
            assert_eq!(&**place.dir.read(&place.name, 100).unwrap().unwrap().bytes, b"found", "{path}");
        }
        let message = Place::follow(&folder.join("loop")).unwrap_err().to_string();
        assert!(message.contains("symbolic links"), "{message}");
        let place = Place::follow(&folder.join("none")).unwrap();
        assert!(place.dir.read(&place.name, 100).unwrap().is_none());
        assert!(Place::follow(&folder.join("no/file")).unwrap_err().is_missing());
        assert!(Place::follow(Path::new("/")).is_err());
    });
}

#[test]
fn a_dangling_symlink_of_the_system_is_not_to_be_removed() {
    let hint = |link: &str| Error::dangling(Path::new(link), Path::new("nowhere")).hint().unwrap().to_owned();
    assert_eq!(hint("/etc/alternatives/app"), "create the directory that it leads to, or correct the path");
    assert!(hint("/srv/app").ends_with("or remove it: `rm /srv/app`"));
}

#[test]
fn a_symlink_above_a_path_that_leads_to_nothing_is_named() {
    let name = concat!(module_path!(), "::a_symlink_above_a_path_that_leads_to_nothing_is_named");
    as_user(
        50000,
        name,
        |_| {},
        |folder| {
            symlink("nowhere", folder.join("link")).unwrap();
            symlink("link/deeper", folder.join("other")).unwrap();
            for (path, target) in [("link", "nowhere"), ("other", "link/deeper")] {
                let error = Place::find(&folder.join(path).join("file")).unwrap_err();
                let expected = format!("/{path} is a dangling symlink: its target is {target}");
                assert!(error.to_string().contains(&expected) && error.is_missing(), "{error}");
                assert!(error.hint().unwrap().ends_with(&format!("/{path}`")), "{error:?}");
            }
        },
    );
}
