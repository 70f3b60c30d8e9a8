//! `core.sharedRepository` (git-config(1)): the rights of the group and of others on files in a git directory.

use std::fs;
use std::path::Path;

use git2::Config;

use super::error::io_failure;
use crate::failure::Failure;
use crate::host::fs::{FileKind, SET_GROUP_ID, adjust_mode};

/// The setting of one repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shared {
    /// The umask alone decides.
    #[default]
    Umask,
    /// These rights are added.
    Added(u32),
    /// The mode is exactly this one, independent of the umask.
    Exactly(u32),
}

impl Shared {
    /// Reads the setting of a repository. An invalid value is ignored, because git refuses to work with it.
    pub fn of(config: &Config) -> Self {
        config.get_string("core.sharedrepository").map_or(Self::Umask, |value| Self::parse(&value))
    }

    fn parse(value: &str) -> Self {
        match value.to_ascii_lowercase().as_str() {
            "group" | "true" | "yes" | "on" | "1" => Self::Added(0o660),
            "all" | "world" | "everybody" | "2" => Self::Added(0o664),
            // A mode without read and write access for the owner is invalid.
            octal => match u32::from_str_radix(octal, 8) {
                Ok(mode) if mode & 0o600 == 0o600 => Self::Exactly(mode & 0o666),
                _ => Self::Umask,
            },
        }
    }

    /// Returns the new mode of an entry with this mode, as `adjust_shared_perm` in git's path.c does.
    fn mode(self, mode: u32, is_dir: bool) -> u32 {
        let (mut rights, keeps) = match self {
            Self::Umask => return mode,
            Self::Added(rights) => (rights, 0o7777),
            Self::Exactly(rights) => (rights, 0o7000),
        };
        if mode & 0o200 == 0 {
            rights &= !0o222;
        }
        if mode & 0o100 != 0 || is_dir {
            rights |= (rights & 0o444) >> 2;
        }
        let new = mode & keeps | rights;
        if is_dir && new & 0o060 != 0 { new | SET_GROUP_ID } else { new }
    }

    /// Sets the mode of a new file or directory. Only the owner can do that, so files of other users are left unchanged, as by git.
    pub fn adjust(self, path: &Path) -> Result<(), Failure> {
        if self == Self::Umask {
            return Ok(());
        }
        // Members of the group may replace it at any time.
        Ok(adjust_mode(path, |found| self.mode(found.mode, found.kind == FileKind::Directory))?)
    }

    /// Sets the modes of a directory and of everything below it.
    pub fn adjust_tree(self, folder: &Path) -> Result<(), Failure> {
        if self == Self::Umask {
            return Ok(());
        }
        let failed = io_failure("read", folder);
        for entry in fs::read_dir(folder).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            if entry.file_type().map_err(&failed)?.is_dir() {
                self.adjust_tree(&entry.path())?;
            } else {
                self.adjust(&entry.path())?;
            }
        }
        self.adjust(folder)
    }

    /// Creates a directory and its missing parents.
    pub fn create_dirs(self, folder: &Path) -> Result<(), Failure> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.exists()).collect();
        fs::create_dir_all(folder).map_err(io_failure("create", folder))?;
        missing.into_iter().rev().try_for_each(|new| self.adjust(new))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, RenameFlags};

    use super::*;

    /// Members of the group can replace a file of a shared repository by a symlink at any time.
    #[test]
    fn a_file_that_is_replaced_by_a_symlink_keeps_the_mode_of_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let private = || Permissions::from_mode(0o600);
        let [own, file] = ["own", "file"].map(|name| fs::File::create(at(name)).unwrap());
        own.set_permissions(private()).unwrap();
        std::os::unix::fs::symlink("own", at("link")).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    file.set_permissions(private()).unwrap();
                    let (from, to) = (at("file"), at("link"));
                    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).unwrap();
                }
            });
            for _ in 0..50_000 {
                Shared::Added(0o660).adjust(&at("file")).unwrap();
            }
            ended.store(true, Ordering::Relaxed);
        });
        assert_eq!(own.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn every_value_of_git_config_has_its_modes() {
        // A file, a read-only one, a program and a directory, with umask 027.
        for (value, modes) in [
            ("umask", [0o640, 0o440, 0o750, 0o750]),
            ("false", [0o640, 0o440, 0o750, 0o750]),
            ("0", [0o640, 0o440, 0o750, 0o750]),
            ("group", [0o660, 0o440, 0o770, 0o2770]),
            ("TRUE", [0o660, 0o440, 0o770, 0o2770]),
            ("1", [0o660, 0o440, 0o770, 0o2770]),
            ("all", [0o664, 0o444, 0o775, 0o2775]),
            ("everybody", [0o664, 0o444, 0o775, 0o2775]),
            ("0640", [0o640, 0o440, 0o750, 0o2750]),
            ("0600", [0o600, 0o400, 0o700, 0o700]),
            ("0666", [0o666, 0o444, 0o777, 0o2777]),
            ("0400", [0o640, 0o440, 0o750, 0o750]),
            ("nonsense", [0o640, 0o440, 0o750, 0o750]),
        ] {
            let shared = Shared::parse(value);
            let found = [(0o640, false), (0o440, false), (0o750, false), (0o750, true)]
                .map(|(mode, is_dir)| shared.mode(mode, is_dir));
            assert_eq!(found, modes, "{value}");
        }
    }
}
