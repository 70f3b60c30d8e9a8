use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::{change_owner, is_empty, lock_exclusive, open_at, stat_fd};
use super::leftover::temporary_name;
use super::{Attributes, Dir, Error, Place, SET_GROUP_ID, Stat, acts_as_root};

/// The mode of a parent directory that is created.
pub const PARENT_MODE: u32 = 0o755;

/// Attributes of a parent directory that override those inherited from its own parent. Only root can give another owner, and
/// other users can give a group that they are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParentAttributes {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: Option<u32>,
}

impl Place {
    /// Creates the missing parents and returns the innermost. A parent has mode 0755. If root creates it, it gets the owner and
    /// group of its own parent, so that a user's tree stays that user's. `attributes` override these, the outermost first.
    pub fn create_parents(self, attributes: &[ParentAttributes]) -> Result<Dir, Error> {
        let mut dir = self.dir;
        for (index, name) in self.missing_parents.iter().enumerate() {
            dir = dir.create_parent(name, attributes.get(index).copied().unwrap_or_default())?.0;
        }
        Ok(dir)
    }

    /// Returns the paths of the missing parents, the outermost first.
    pub fn missing_paths(&self) -> Vec<std::path::PathBuf> {
        let mut path = self.dir.path().to_owned();
        let deeper = |name: &OsString| {
            path.push(name);
            path.clone()
        };
        self.missing_parents.iter().map(deeper).collect()
    }
}

impl Dir {
    /// Creates the directory `name` with its owner and mode in one step.
    ///
    /// # Errors
    /// The name exists, or a system call fails. Nothing is left behind.
    pub fn create_dir(&self, name: &OsStr, attributes: Attributes) -> Result<Self, Error> {
        let path = self.path_of(name);
        let failed = |errno| Error::call("create", &path, errno);
        let temporary = temporary_name(name).map_err(failed)?;
        retry_on_intr(|| rustix::fs::mkdirat(self, &temporary, Mode::RWXU)).map_err(failed)?;
        let made = self.prepare_dir(&temporary, attributes).map_err(failed).and_then(|fd| {
            self.publish(&fd, &temporary, name).map_err(failed)?;
            self.check_published(&fd, name)?;
            Ok(fd)
        });
        match made {
            Ok(fd) => Ok(Self::at(fd, path)),
            Err(error) => {
                let _ = retry_on_intr(|| rustix::fs::unlinkat(self, &temporary, AtFlags::REMOVEDIR));
                Err(error)
            }
        }
    }

    /// Creates the directory `name` like mkdir(2), with the umask's mode. Returns `None` if the name exists.
    ///
    /// # Errors
    /// A system call fails, or somebody removed the directory at once.
    pub fn make_dir(&self, name: &OsStr) -> Result<Option<Self>, Error> {
        match retry_on_intr(|| rustix::fs::mkdirat(self, name, Mode::from_raw_mode(0o777))) {
            Ok(()) => self.open_dir(name).map(Some),
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(Error::call("create", &self.path_of(name), errno)),
        }
    }

    /// Creates a symlink.
    ///
    /// # Errors
    /// The name exists, or a system call fails.
    pub fn create_symlink(&self, name: &OsStr, target: &OsStr) -> Result<(), Error> {
        retry_on_intr(|| rustix::fs::symlinkat(target, self, name))
            .map_err(|errno| Error::call("create", &self.path_of(name), errno))
    }

    /// Whether this process acts as root and others than root can change what is in this directory.
    pub fn is_exposed(&self) -> Result<bool, Error> {
        Ok(acts_as_root() && !self.stat_self()?.is_roots_alone())
    }

    /// Creates or opens the directory `name` as a parent. Its mode does not depend on the umask. Returns whether it was created.
    ///
    /// # Errors
    /// A system call fails, or the name is not a directory.
    pub fn create_parent(&self, name: &OsStr, attributes: ParentAttributes) -> Result<(Self, bool), Error> {
        let holder = self.stat_self()?;
        let mode = attributes.mode.unwrap_or_else(|| default_dir_mode(&holder));
        let (uid, gid) = (attributes.uid.unwrap_or(holder.uid), attributes.gid.unwrap_or(holder.gid));
        if !acts_as_root() || ((uid, gid) == (0, 0) && (holder.uid, holder.gid) == (0, 0)) {
            let made = self.create_own_parent(name, mode)?;
            if made.1 && !acts_as_root() {
                made.0.give_to(attributes, mode)?;
            }
            return Ok(made);
        }
        let (uid, gid) = (Some(uid), Some(gid));
        self.remove_leftovers(name)?;
        match self.create_dir(name, Attributes { uid, gid, mode }) {
            // Another step created it meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.open_dir(name).map(|dir| (dir, false))
            }
            other => other.map(|dir| (dir, true)),
        }
    }

    /// Gives a directory that the acting user has just created the owner and group, where they differ.
    fn give_to(&self, attributes: ParentAttributes, mode: u32) -> Result<(), Error> {
        let failed = |errno| Error::call(super::setting_owner(attributes.uid), self.path(), errno);
        let fd = open_at(self, OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        let made = stat_fd(&fd).map_err(failed)?;
        let (uid, gid) = (attributes.uid.filter(|uid| *uid != made.uid), attributes.gid.filter(|gid| *gid != made.gid));
        if (uid, gid) == (None, None) {
            return Ok(());
        }
        change_owner(&fd, uid, gid).map_err(failed)?;
        retry_on_intr(|| rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))).map_err(failed)
    }

    /// Creates a parent whose owner and group need not be set. mkdir(2) is enough, so an interrupted run leaves nothing behind.
    fn create_own_parent(&self, name: &OsStr, mode: u32) -> Result<(Self, bool), Error> {
        let failed = |errno| Error::call("create", &self.path_of(name), errno);
        match retry_on_intr(|| rustix::fs::mkdirat(self, name, Mode::from_raw_mode(PARENT_MODE))) {
            Ok(()) => {}
            // Another step created it meanwhile.
            Err(Errno::EXIST) => return self.open_dir(name).map(|dir| (dir, false)),
            Err(errno) => return Err(failed(errno)),
        }
        let fd = open_at(self, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW).map_err(failed)?;
        if stat_fd(&fd).map_err(failed)?.mode != mode {
            // The umask removed bits.
            retry_on_intr(|| rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))).map_err(failed)?;
        }
        Ok((Self::at(fd, self.path_of(name)), true))
    }

    fn prepare_dir(&self, temporary: &str, attributes: Attributes) -> Result<OwnedFd, Errno> {
        let fd = open_at(self, OsStr::new(temporary), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        lock_exclusive(&fd)?;
        // Somebody who may write here can have replaced it by another directory, which must not change its owner. Only
        // one that is ours and empty may.
        let stat = stat_fd(&fd)?;
        let listing = open_at(&fd, OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
        if stat.uid != super::acting_ids().0 || !is_empty(listing).map_err(|_| Errno::IO)? {
            return Err(Errno::NOTEMPTY);
        }
        change_owner(&fd, attributes.uid, attributes.gid)?;
        retry_on_intr(|| rustix::fs::fchmod(&fd, Mode::from_raw_mode(attributes.mode)))?;
        Ok(fd)
    }
}

/// Returns the default mode of a directory that is created in `holder`.
pub fn default_dir_mode(holder: &Stat) -> u32 {
    PARENT_MODE | holder.mode & SET_GROUP_ID
}
