use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::{change_owner, lock_exclusive, stat_fd};
use super::exchange::{Expected, Moment};
use super::leftover::temporary_name;
use super::xattr::Xattrs;
use super::{Attributes, Dir, Error, FileSeen, Stat};

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
    /// Somebody has the file open for writing, an attribute cannot be kept, or a system call fails; or [`Error::is_newer`]: the
    /// file, its owner or its mode was changed since it was seen. Then it is as somebody else left it, and nothing is left behind.
    pub fn replace(&self, name: &OsStr, bytes: &[u8], seen: &Stat, attributes: Attributes) -> Result<(), Error> {
        self.replace_as_seen(name, bytes, (seen, None), attributes, &|_| ())
    }

    /// Does the same as [`Dir::replace`], unless somebody has written to the file since it was read.
    ///
    /// # Errors
    /// As [`Dir::replace`].
    pub fn replace_read(&self, name: &OsStr, bytes: &[u8], read: &FileSeen, to: Attributes) -> Result<(), Error> {
        self.replace_as_seen(name, bytes, (&read.stat, Some(&read.bytes)), to, &|_| ())
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

    /// `reached` is called between the system calls, where somebody else may come in between.
    pub(super) fn replace_as_seen(
        &self,
        name: &OsStr,
        bytes: &[u8],
        (seen, content): (&Stat, Option<&[u8]>),
        attributes: Attributes,
        reached: &dyn Fn(Moment),
    ) -> Result<(), Error> {
        let old = self.pin(name, seen)?;
        let failed = |errno| Error::call("read the attributes of", &self.path_of(name), errno);
        let expected = Expected::of(&old, seen, content).map_err(failed)?;
        let fill = |fd: &OwnedFd| fill(fd, bytes, attributes, expected.xattrs());
        self.write(name, Publish::Over(&expected, reached), fill)
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
            Publish::Over(expected, reached) => self.exchange(&fd, &temporary, name, expected, reached),
            Publish::New => self.publish(&fd, &temporary, name).map_err(failed),
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

    /// Gives the prepared entry its final name, which nothing may have, and syncs.
    pub(super) fn publish(&self, fd: &OwnedFd, temporary: &str, name: &OsStr) -> Result<(), Errno> {
        retry_on_intr(|| rustix::fs::fsync(fd))?;
        match retry_on_intr(|| rustix::fs::renameat_with(self, temporary, self, name, RenameFlags::NOREPLACE)) {
            // A file system without NOREPLACE, such as NFS: check, then rename.
            Err(Errno::INVAL) => match retry_on_intr(|| rustix::fs::statat(self, name, AtFlags::SYMLINK_NOFOLLOW)) {
                Err(Errno::NOENT) => retry_on_intr(|| rustix::fs::renameat(self, temporary, self, name))?,
                Ok(_) => return Err(Errno::EXIST),
                Err(errno) => return Err(errno),
            },
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
        Err(Error::replaced(&path))
    }
}

/// The set-user-ID and set-group-ID bits.
const SET_IDS: u32 = 0o6000;

/// Whether a new file may replace another.
#[derive(Clone, Copy)]
enum Publish<'a> {
    New,
    /// Only over a file that is as it was seen.
    Over(&'a Expected<'a>, &'a dyn Fn(Moment)),
}

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
