//! Decides what a message may propose for something that is in the way.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::descriptor::open_quietly;
use super::mounts::Mounts;
use super::system_paths::{belongs_to_system, is_needed};
use super::{Dir, Error, FileKind, Place, Stat};
use crate::text::{aside, shell_word};

/// What a message may propose for something that is in the way of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// It may be moved aside.
    #[default]
    Aside,
    /// An empty directory may be removed, wherever it is.
    EmptyDirectory,
    /// It cannot or must not be moved: a device, a mount point, or what the system or its users need. The path is a mistake.
    Never,
}

impl Removal {
    pub fn is_aside(&self) -> bool {
        *self == Self::Aside
    }

    /// Returns the hint for what is at `path`: how to remove it, or `otherwise`.
    pub fn hint(self, path: &Path, otherwise: &str) -> String {
        match self {
            Self::Aside if !is_needed(path) => format!("move it aside: `{}`, or {otherwise}", aside(path)),
            Self::EmptyDirectory => format!("remove the empty directory: `rmdir {}`, or {otherwise}", shell_word(path)),
            Self::Aside | Self::Never => otherwise.to_owned(),
        }
    }
}

/// Whether what is at a path cannot or must not be moved: a mount point, or what [`is_needed`].
pub fn must_stay(path: &Path) -> bool {
    is_needed(path) || Mounts::read().is_point(path)
}

impl Dir {
    /// Returns what may be proposed for the entry `name`, which is `stat`.
    pub fn removal(&self, name: &OsStr, stat: &Stat) -> Removal {
        let path = self.path_of(name);
        if stat.kind == FileKind::Device || belongs_to_system(&path) || Mounts::read().is_point(&path) {
            Removal::Never
        } else if stat.kind == FileKind::Directory && self.is_empty(name) {
            Removal::EmptyDirectory
        } else if is_needed(&path) {
            Removal::Never
        } else {
            Removal::Aside
        }
    }

    /// Whether the directory `name` has no entries. One that cannot be listed may have some.
    fn is_empty(&self, name: &OsStr) -> bool {
        let opened = open_quietly(self, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW);
        let listed = opened.and_then(rustix::fs::Dir::new);
        let is_dot = |name: &std::ffi::CStr| matches!(name.to_bytes(), b"." | b"..");
        listed.is_ok_and(|mut listed| listed.all(|entry| entry.is_ok_and(|entry| is_dot(entry.file_name()))))
    }

    /// Returns the error for the entry `name`, which is `stat` and not what is `wanted`.
    pub(super) fn wrong_type(&self, name: &OsStr, stat: &Stat, wanted: &str) -> Error {
        let path = self.path_of(name);
        Error::refused(
            format!("{} is {}, not {wanted}", super::escape_path(&path), stat.kind.name()),
            self.removal(name, stat).hint(&path, "give another path"),
        )
    }
}

impl Place {
    /// Returns what may be proposed for the entry, which is `stat`.
    pub fn removal(&self, stat: &Stat) -> Removal {
        self.dir.removal(&self.name, stat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::folder;

    #[test]
    fn only_what_nobody_needs_is_moved_aside() {
        let of_system = [
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
            "/root",
            "/var/log",
            "/run/systemd",
            "/boot/grub",
            "/lib/x",
            "/tmp",
        ];
        let needed = [
            "/home/eva",
            "/etc/passwd",
            "/etc/ssh/ssh_config",
            "/etc/systemd/system",
            "/etc/alternatives/awk",
            "/etc/app/x.conf",
            "/var/lib/dpkg",
            "/var/www",
            "/var/spool/cron/crontabs",
            "/home/eva/.ssh",
            "/root/.ssh/authorized_keys",
            "/mnt/data",
        ];
        let others = [
            "/data",
            "/srv/app",
            "/opt/app",
            "/home/eva/app",
            "/root/app",
            "/var/lib/app/data",
            "/var/www/app",
            "/usr/local/etc/app.conf",
            "/var/log/app/x.log",
            "/tmp/x",
            "/run/app/socket",
            "/mnt/data/x",
        ];
        for (paths, expected) in [(&of_system[..], (true, true)), (&needed, (false, true)), (&others, (false, false))] {
            for path in paths.iter().map(Path::new) {
                assert_eq!((belongs_to_system(path), is_needed(path)), expected, "{}", path.display());
                let hint = Removal::Aside.hint(path, "correct the path");
                assert_eq!(hint == "correct the path", expected.1, "{hint}");
            }
        }
        let hint = Removal::Aside.hint(Path::new("/srv/app"), "correct the path");
        assert_eq!(hint, "move it aside: `mv -T --backup=numbered /srv/app /srv/app.aside`, or correct the path");
        assert_eq!(Removal::Never.hint(Path::new("/srv/app"), "correct the path"), "correct the path");
    }

    #[test]
    fn an_empty_directory_is_removed_wherever_it_is() {
        let folder = folder();
        for name in ["empty", "full/x", ".ssh/empty"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let removal = |below: &str, name: &str| {
            let dir = Dir::open(&folder.path().join(below)).unwrap();
            let stat = dir.stat(OsStr::new(name)).unwrap().unwrap();
            dir.removal(OsStr::new(name), &stat)
        };
        assert_eq!(removal("", "empty"), Removal::EmptyDirectory);
        assert_eq!(removal("", "full"), Removal::Aside);
        assert_eq!(removal("", ".ssh"), Removal::Never);
        assert_eq!(removal(".ssh", "empty"), Removal::EmptyDirectory);
        let hint = Removal::EmptyDirectory.hint(Path::new("/etc/app.conf"), "correct the path");
        assert_eq!(hint, "remove the empty directory: `rmdir /etc/app.conf`, or correct the path");
    }
}
