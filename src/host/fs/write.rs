use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::{change_owner, lock_exclusive, stat_fd};
use super::leftover::temporary_name;
use super::xattr::Xattrs;
use super::{Attributes, Dir, Error, FileSeen, Stat, escape_path};

impl Dir {
    /// Creates the file `name` with its content in one step. Nobody to whom `attributes` deny access can read it at any time.
    ///
    /// # Errors
    /// The name exists, or a system call fails. Nothing is left behind.
    pub fn create(&self, name: &OsStr, bytes: &[u8], attributes: Attributes) -> Result<(), Error> {
        self.write(name, Publish::New, |fd| fill(fd, bytes, attributes, &Xattrs::default()))
    }

    /// Replaces the file `name`, which has to be the inode `seen`, by a new file in one step. Its extended attributes are kept:
    /// access control list, label, capabilities, a user's own. As after chmod(2), the mode limits what the list grants. The
    /// old inode does not change: a process that has it open, or a container that bind-mounts it, still sees the old content.
    ///
    /// # Errors
    /// The file was replaced, an attribute cannot be kept, or a system call fails. Then the old file is as it was, and nothing
    /// is left behind.
    pub fn replace(&self, name: &OsStr, bytes: &[u8], seen: &Stat, attributes: Attributes) -> Result<(), Error> {
        let old = self.pin(name, seen)?;
        let failed = |errno| Error::call("read the attributes of", &self.path_of(name), errno);
        let xattrs = Xattrs::read(&old).map_err(failed)?;
        self.write(name, Publish::Over(None), |fd| fill(fd, bytes, attributes, &xattrs))
    }

    /// Does the same as [`Dir::replace`], unless somebody has written to the file since it was read.
    ///
    /// # Errors
    /// As [`Dir::replace`], or [`Error::is_newer`]: the file is as it was written meanwhile.
    pub fn replace_read(&self, name: &OsStr, bytes: &[u8], read: &FileSeen, to: Attributes) -> Result<(), Error> {
        let old = self.pin(name, &read.stat)?;
        let failed = |errno| Error::call("read the attributes of", &self.path_of(name), errno);
        let xattrs = Xattrs::read(&old).map_err(failed)?;
        self.write(name, Publish::Over(Some(read)), |fd| fill(fd, bytes, to, &xattrs))
    }

    /// Does the same as [`Dir::replace_read`], with the owner and group that the file has.
    ///
    /// # Errors
    /// As [`Dir::replace_read`].
    pub fn rewrite(&self, name: &OsStr, bytes: &[u8], read: &FileSeen, mode: u32) -> Result<(), Error> {
        let Stat { uid, gid, .. } = read.stat;
        self.replace_read(name, bytes, read, Attributes { uid: Some(uid), gid: Some(gid), mode })
    }

    /// Returns the names of the extended attributes of the file `name` that [`Dir::replace`] keeps, for people, without its
    /// label.
    ///
    /// # Errors
    /// The file was replaced, or a system call fails.
    pub fn attribute_names(&self, name: &OsStr, seen: &Stat) -> Result<Vec<String>, Error> {
        let file = self.pin(name, seen)?;
        let failed = |errno| Error::call("read the attributes of", &self.path_of(name), errno);
        super::xattr::names(&file).map_err(failed)
    }

    fn write(
        &self,
        name: &OsStr,
        publish: Publish<'_>,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Error> {
        let path = self.path_of(name);
        let failed = |errno| Error::call("write", &path, errno);
        let temporary = temporary_name(name).map_err(failed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::openat(self, &temporary, flags, Mode::RUSR | Mode::WUSR));
        let fd = fd.map_err(failed)?;
        let written = fill(&fd).map_err(failed).and_then(|()| match publish {
            Publish::Over(Some(read)) => self.exchange(&fd, &temporary, name, read),
            _ => self.publish(&fd, &temporary, name, publish).map_err(failed),
        });
        if let Err(error) = written {
            // The first error is reported. A name that stays is found as a leftover. After an exchange it may be somebody's file.
            let made = stat_fd(&fd).ok();
            let is_ours = |now: Stat| made.is_some_and(|made| made.is_same_file(&now));
            if self.stat(OsStr::new(&temporary)).is_ok_and(|now| now.is_some_and(is_ours)) {
                let _ = retry_on_intr(|| rustix::fs::unlinkat(self, &temporary, AtFlags::empty()));
            }
            return Err(error);
        }
        self.check_published(&fd, name)
    }

    /// Puts the prepared file in the place of the one that was read, and syncs. What was in that place is compared before it is
    /// removed, and put back if it is newer: a rename could replace what somebody has just written.
    fn exchange(&self, fd: &OwnedFd, temporary: &str, name: &OsStr, read: &FileSeen) -> Result<(), Error> {
        let path = self.path_of(name);
        let failed = |errno| Error::call("write", &path, errno);
        retry_on_intr(|| rustix::fs::fsync(fd)).map_err(failed)?;
        let is_as_read = |name: &OsStr| -> Result<bool, Error> {
            let now = self.read(name, MAX_COMPARED_BYTES)?;
            Ok(now.is_some_and(|now| now.stat.is_same_file(&read.stat) && now.bytes == read.bytes))
        };
        if !is_as_read(name)? {
            return Err(Error::newer(&path));
        }
        let rename = |flags| retry_on_intr(|| rustix::fs::renameat_with(self, temporary, self, name, flags));
        match rename(RenameFlags::EXCHANGE) {
            // A file system without EXCHANGE, such as NFS.
            Err(Errno::INVAL) => rename(RenameFlags::empty()).map_err(failed)?,
            Err(errno) => return Err(failed(errno)),
            Ok(()) if is_as_read(OsStr::new(temporary)).unwrap_or(false) => {
                retry_on_intr(|| rustix::fs::unlinkat(self, temporary, AtFlags::empty())).map_err(failed)?;
            }
            Ok(()) => {
                rename(RenameFlags::EXCHANGE).map_err(failed)?;
                return Err(Error::newer(&path));
            }
        }
        self.sync().map_err(failed)
    }

    /// Gives the prepared entry its final name, and syncs.
    pub(super) fn publish(
        &self,
        fd: &OwnedFd,
        temporary: &str,
        name: &OsStr,
        publish: Publish<'_>,
    ) -> Result<(), Errno> {
        retry_on_intr(|| rustix::fs::fsync(fd))?;
        let flags = match publish {
            Publish::New => RenameFlags::NOREPLACE,
            Publish::Over(_) => RenameFlags::empty(),
        };
        let renamed = retry_on_intr(|| rustix::fs::renameat_with(self, temporary, self, name, flags));
        match renamed {
            // A file system without NOREPLACE, such as NFS: check, then rename.
            Err(Errno::INVAL) if matches!(publish, Publish::New) => {
                match retry_on_intr(|| rustix::fs::statat(self, name, AtFlags::SYMLINK_NOFOLLOW)) {
                    Err(Errno::NOENT) => retry_on_intr(|| rustix::fs::renameat(self, temporary, self, name))?,
                    Ok(_) => return Err(Errno::EXIST),
                    Err(errno) => return Err(errno),
                }
            }
            other => other?,
        }
        self.sync()
    }

    /// Syncs the names in this directory, if the acting user and the file system can.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        let fd = match self.readable() {
            Ok(fd) => fd,
            Err(Errno::ACCESS) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        match retry_on_intr(|| rustix::fs::fsync(&fd)) {
            Err(Errno::INVAL) => Ok(()),
            other => other,
        }
    }

    /// Checks that `name` is what was just put there: somebody who may write in this directory can have replaced it.
    pub(super) fn check_published(&self, fd: &OwnedFd, name: &OsStr) -> Result<(), Error> {
        let path = self.path_of(name);
        let made = stat_fd(fd).map_err(|errno| Error::call("look at", &path, errno))?;
        if self.stat(name)?.is_some_and(|stat| stat.is_same_file(&made)) {
            return Ok(());
        }
        Err(Error::refused(
            format!("{} was replaced while it was written", escape_path(&path)),
            "find out who else works in that directory, then run again",
        ))
    }
}

/// The set-user-ID and set-group-ID bits.
const SET_IDS: u32 = 0o6000;

/// Whether a new entry may replace another.
#[derive(Clone, Copy)]
pub(super) enum Publish<'a> {
    New,
    /// If it is given, only over a file that is as it was read.
    Over(Option<&'a FileSeen>),
}

/// More than the limit of any kind on files that it reads and replaces.
const MAX_COMPARED_BYTES: u64 = 64 << 20;

fn fill(fd: &OwnedFd, bytes: &[u8], attributes: Attributes, xattrs: &Xattrs) -> Result<(), Errno> {
    lock_exclusive(fd)?;
    change_owner(fd, attributes.uid, attributes.gid)?;
    xattrs.write(fd)?;
    let set_mode = |mode| retry_on_intr(|| rustix::fs::fchmod(fd, Mode::from_raw_mode(mode)));
    // After the access control list, which it limits.
    set_mode(attributes.mode & !SET_IDS)?;
    // Written to a duplicate, so that the descriptor and its lock stay for the rename.
    let mut file = std::fs::File::from(fd.try_clone().map_err(errno_of)?);
    file.write_all(bytes).map_err(errno_of)?;
    if attributes.mode & SET_IDS != 0 {
        // write(2) clears these bits unless root calls it.
        set_mode(attributes.mode)?;
    }
    xattrs.write_capabilities(fd)
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
