//! Decides whether a message may propose to move something out of the way.

use std::ffi::OsStr;
use std::path::{Component, Path};

use super::mounts::Mounts;
use super::{Dir, Error, FileKind, Place, Stat};
use crate::text::aside;

/// The directories of `/` that a system needs (hier(7)).
const OF_SYSTEM: [&str; 22] = [
    "bin",
    "boot",
    "dev",
    "etc",
    "home",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var",
    "lost+found",
];
/// Those of them in which everything belongs to the system.
const WHOLE: [&str; 11] = ["bin", "boot", "dev", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr"];
/// Directories whose entries the system or its users need.
const WITH_ENTRIES: [&str; 9] = ["/etc", "/home", "/media", "/mnt", "/run", "/var", "/var/lib", "/usr", "/usr/local"];

/// Whether a system needs what is at a path. Moving it aside would break the system, so the path is a mistake.
pub fn belongs_to_system(path: &Path) -> bool {
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let is_one_of = |list: &[&str]| names.first().is_some_and(|first| list.iter().any(|name| first == name));
    match names.len() {
        0 => true,
        1 => is_one_of(&OF_SYSTEM),
        _ if path.parent().is_some_and(|parent| WITH_ENTRIES.iter().any(|listed| parent == Path::new(listed))) => true,
        _ => is_one_of(&WHOLE) && !path.starts_with("/usr/local"),
    }
}

/// Returns the hint for something of the wrong type at `path`: to move it aside, or `otherwise`. If it `must_stay`, only `otherwise`.
pub fn move_aside_or(path: &Path, must_stay: bool, otherwise: &str) -> String {
    if must_stay || belongs_to_system(path) {
        return otherwise.to_owned();
    }
    format!("move it aside: `{}`, or {otherwise}", aside(path))
}

impl Dir {
    /// Returns whether the entry `name`, which is `stat`, cannot or must not be moved: a device, a mount point, or something that
    /// the system needs.
    pub fn must_stay(&self, name: &OsStr, stat: &Stat) -> bool {
        let path = self.path_of(name);
        stat.kind == FileKind::Device || belongs_to_system(&path) || Mounts::read().is_point(&path)
    }

    /// Returns the error for the entry `name`, which is `stat` and not what is `wanted`.
    pub(super) fn wrong_type(&self, name: &OsStr, stat: &Stat, wanted: &str) -> Error {
        let path = self.path_of(name);
        Error::refused(
            format!("{} is {}, not {wanted}", super::escape_path(&path), stat.kind.name()),
            move_aside_or(&path, self.must_stay(name, stat), "give another path"),
        )
    }
}

impl Place {
    /// Returns whether the entry, which is `stat`, cannot or must not be moved: see [`Dir::must_stay`].
    pub fn must_stay(&self, stat: &Stat) -> bool {
        self.dir.must_stay(&self.name, stat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_system_needs_is_moved_aside() {
        for path in [
            "/",
            "/etc",
            "/etc/",
            "/./etc",
            "/usr",
            "/usr/bin/env",
            "/usr/local",
            "/usr/local/bin",
            "/dev/null",
            "/dev/shm/x",
            "/proc/1",
            "/sys/kernel",
            "/home",
            "/home/eva",
            "/root",
            "/etc/passwd",
            "/etc/ssh",
            "/var/log",
            "/var/lib/dpkg",
            "/run/systemd",
            "/boot/grub",
            "/lib/x",
            "/tmp",
        ] {
            assert!(belongs_to_system(Path::new(path)), "{path}");
            assert_eq!(move_aside_or(Path::new(path), false, "correct the path"), "correct the path");
        }
        for path in [
            "/data",
            "/srv/app",
            "/opt/app",
            "/home/eva/app",
            "/root/app",
            "/etc/app/x.conf",
            "/var/lib/app/data",
            "/usr/local/etc/app.conf",
            "/var/log/app/x.log",
            "/tmp/x",
            "/run/app/socket",
        ] {
            assert!(!belongs_to_system(Path::new(path)), "{path}");
        }
        let hint = move_aside_or(Path::new("/srv/app"), false, "correct the path");
        assert_eq!(hint, "move it aside: `mv -T --backup=numbered /srv/app /srv/app.aside`, or correct the path");
        assert_eq!(move_aside_or(Path::new("/srv/app"), true, "correct the path"), "correct the path");
    }
}
