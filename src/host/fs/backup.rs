use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::{lock_exclusive, open_quietly};
use super::leftover::temporary_name;
use super::{Dir, Error, FileKind, Stat, acting_ids, acts_as_root, escape_path};

/// The suffix of the names of backups.
pub(super) const SUFFIX: &str = ".kept";

/// A file that is kept under a second name, `.provision-….kept`, while another one replaces it. It is not a leftover as long as
/// this lives.
#[derive(Debug)]
pub struct Backup {
    name: String,
    /// Carries the lock; `None` if the file's mode denies access even to its owner.
    _held: Option<OwnedFd>,
}

impl Backup {
    /// Returns the second name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Dir {
    /// Gives the file `name`, which has to be the inode `seen`, a second name beside it.
    ///
    /// # Errors
    /// The file was replaced, or the file system has no hard links. Nothing is left behind.
    pub fn back_up(&self, name: &OsStr, seen: &Stat) -> Result<Backup, Error> {
        let path = self.path_of(name);
        let failed = |errno| Error::call("back up", &path, errno);
        let kept = temporary_name(name).map_err(failed)? + SUFFIX;
        retry_on_intr(|| rustix::fs::linkat(self, name, self, &kept, AtFlags::empty())).map_err(failed)?;
        if !self.stat(OsStr::new(&kept))?.is_some_and(|stat| stat.is_same_file(seen)) {
            self.unlink(&kept)?;
            return Err(Error::refused(
                format!("{} was replaced by somebody else meanwhile", escape_path(&path)),
                "find out who else works in that directory, then run again",
            ));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let held = open_quietly(self, OsStr::new(&kept), flags).ok();
        if let Some(fd) = &held {
            lock_exclusive(fd).map_err(failed)?;
        }
        // The second name has to be on disk before the first one is replaced.
        self.sync().map_err(failed)?;
        Ok(Backup { name: kept, _held: held })
    }

    /// Moves a backup back to its place in one step, whatever is there now.
    pub fn restore_backup(&self, kept: &str, name: &OsStr) -> Result<(), Error> {
        let failed = |errno| Error::call("restore", &self.path_of(name), errno);
        self.remove_other_names(kept)?;
        retry_on_intr(|| rustix::fs::renameat(self, kept, self, name)).map_err(failed)?;
        self.sync().map_err(failed)
    }

    /// Removes the second name of a backup.
    pub fn discard_backup(&self, kept: &str) -> Result<(), Error> {
        self.remove_other_names(kept)?;
        self.unlink(kept)
    }

    /// Removes the temporary name that a backup has too, if its run was killed right after the exchange of the file.
    fn remove_other_names(&self, kept: &str) -> Result<(), Error> {
        let Some(backup) = self.stat(OsStr::new(kept))? else { return Ok(()) };
        for name in self.temporary_names_like(kept)? {
            if self.stat(OsStr::new(&name))?.is_some_and(|stat| stat.is_same_file(&backup)) {
                self.unlink(name)?;
            }
        }
        Ok(())
    }

    /// Removes the file `name` if it is the inode `seen`.
    pub fn remove(&self, name: &OsStr, seen: &Stat) -> Result<(), Error> {
        match self.stat(name)? {
            Some(stat) if stat.is_same_file(seen) => self.unlink(name),
            _ => Ok(()),
        }
    }

    /// Returns the name of the backup of the file `name` that an interrupted run left, if there is one. A name that somebody
    /// without rights to the file could have made does not count.
    pub fn leftover_backup(&self, name: &OsStr) -> Result<Option<String>, Error> {
        for candidate in self.prepared(name, SUFFIX)? {
            let entry = OsStr::new(&candidate);
            let Some(stat) = self.stat(entry)?.filter(|stat| stat.kind == FileKind::File) else { continue };
            if self.may_be_backup(name, &stat)? && self.is_free(entry, &stat)? {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// Whether an entry may be a backup. In a directory like `/tmp` anybody can create one, and root would replace its own file by
    /// a stranger's.
    fn may_be_backup(&self, name: &OsStr, kept: &Stat) -> Result<bool, Error> {
        if !acts_as_root() {
            return Ok(kept.uid == acting_ids().0);
        }
        let target = self.stat(name)?.map(|stat| stat.uid);
        Ok(kept.uid == 0 || Some(kept.uid) == target || kept.uid == self.stat_self()?.uid)
    }

    fn unlink(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = name.as_ref();
        let failed = |errno| Error::call("remove", &self.path_of(name), errno);
        match retry_on_intr(|| rustix::fs::unlinkat(self, name, AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => self.sync().map_err(failed),
            Err(errno) => Err(failed(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs as std_fs;
    use std::os::unix::fs::MetadataExt;

    use super::super::{Attributes, Place};
    use super::*;
    use crate::host::testing::{as_user, chmod, chown, folder};

    const KEY: Attributes = Attributes { uid: None, gid: None, mode: 0o400 };

    fn replace(place: &Place) {
        place.dir.replace(&place.name, b"new", &place.stat().unwrap().unwrap(), KEY).unwrap();
    }

    fn names(folder: &std::path::Path) -> Vec<String> {
        let names = std_fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_kept_file_comes_back_as_the_inode_it_was() {
        let folder = folder();
        let path = folder.path().join("key");
        std_fs::write(&path, "old").unwrap();
        // Its own mode shuts a user out; the name alone counts.
        chmod(&path, 0);
        let inode = path.metadata().unwrap().ino();
        let place = Place::find(&path).unwrap();
        let kept = place.dir.back_up(&place.name, &place.stat().unwrap().unwrap()).unwrap();
        replace(&place);
        assert_eq!(std_fs::read(&path).unwrap(), b"new");
        assert_eq!(place.dir.leftover_backup(&place.name).unwrap(), None, "a live run is at it");
        assert_eq!(place.leftovers().unwrap(), Vec::<String>::new());
        let name = kept.name().to_owned();
        drop(kept);
        // A child of another test that has not executed its program yet holds a copy of the lock.
        let found = (0..200).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            place.dir.leftover_backup(&place.name).unwrap()
        });
        assert_eq!(found, Some(name.clone()));
        place.dir.restore_backup(&name, &place.name).unwrap();
        assert_eq!((std_fs::read(&path).unwrap(), path.metadata().unwrap().ino()), (b"old".to_vec(), inode));
        assert_eq!((path.metadata().unwrap().nlink(), names(folder.path())), (1, vec!["key".to_owned()]));
    }

    /// A run that is killed between the exchange and the removal of the old name leaves the old file under two names.
    #[test]
    fn a_backup_has_no_other_name_after_it_is_restored_or_discarded() {
        for is_restored in [true, false] {
            let folder = folder();
            let path = folder.path().join("key");
            std_fs::write(&path, "old").unwrap();
            let place = Place::find(&path).unwrap();
            let kept = place.dir.back_up(&place.name, &place.stat().unwrap().unwrap()).unwrap().name().to_owned();
            let other = temporary_name(&place.name).unwrap();
            std_fs::hard_link(&path, folder.path().join(&other)).unwrap();
            std_fs::remove_file(&path).unwrap();
            std_fs::write(&path, "new").unwrap();
            let done = match is_restored {
                true => place.dir.restore_backup(&kept, &place.name),
                false => place.dir.discard_backup(&kept),
            };
            done.unwrap();
            assert_eq!(names(folder.path()), ["key"]);
            assert_eq!(std_fs::read_to_string(&path).unwrap(), if is_restored { "old" } else { "new" });
        }
    }

    #[test]
    fn an_exchanged_file_is_not_kept() {
        let folder = folder();
        let path = folder.path().join("key");
        std_fs::write(&path, "old").unwrap();
        let place = Place::find(&path).unwrap();
        let seen = place.stat().unwrap().unwrap();
        std_fs::write(folder.path().join("other"), "").unwrap();
        std_fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(
            place.dir.back_up(&place.name, &seen).unwrap_err().to_string().contains("was replaced by somebody else")
        );
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn what_a_stranger_made_is_not_put_back() {
        let folder = folder();
        chmod(folder.path(), 0o1777);
        let path = folder.path().join("key");
        std_fs::write(&path, "roots").unwrap();
        let place = Place::find(&path).unwrap();
        let name = temporary_name(&place.name).unwrap() + SUFFIX;
        std_fs::write(folder.path().join(&name), "strangers").unwrap();
        chown(&folder.path().join(&name), 1001, 1001);
        assert_eq!(place.dir.leftover_backup(&place.name).unwrap(), None);
        chown(folder.path(), 1001, 1001);
        assert_eq!(place.dir.leftover_backup(&place.name).unwrap(), Some(name));
    }

    #[test]
    fn a_user_keeps_its_own_file() {
        let name = concat!(module_path!(), "::a_user_keeps_its_own_file");
        as_user(
            50000,
            name,
            |_| {},
            |folder| {
                let path = folder.join("key");
                std_fs::write(&path, "old").unwrap();
                chmod(&path, 0o400);
                let place = Place::find(&path).unwrap();
                let kept = place.dir.back_up(&place.name, &place.stat().unwrap().unwrap()).unwrap();
                replace(&place);
                place.dir.discard_backup(kept.name()).unwrap();
                assert_eq!(names(folder), ["key"]);
                assert_eq!(std_fs::read(&path).unwrap(), b"new");
            },
        );
    }
}
