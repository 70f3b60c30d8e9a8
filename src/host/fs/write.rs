use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::leftover::{hold, temporary_name};
use super::xattr::Xattrs;
use super::{Attributes, Dir, Error, Stat, escape_path};

impl Dir {
    /// Makes the file `name` with its content in one step: it is there whole, or not at all. Nobody whom
    /// `attributes` shut out can read it at any time.
    ///
    /// # Errors
    /// Something by that name exists, or a system call fails; nothing is left behind then.
    pub fn create(&self, name: &OsStr, bytes: &[u8], attributes: Attributes) -> Result<(), Error> {
        self.write(name, Publish::New, |fd| fill(fd, bytes, attributes, &Xattrs::default()))
    }

    /// Puts a new file in the place of the file `name`, which has to be the inode that was `seen`, in one step. Its
    /// extended attributes are kept: access control list, label, capabilities, a user's own. As after chmod(2), the mode
    /// limits what the list grants. The old inode is left as it is: who holds it open, or bind-mounts it into a container,
    /// goes on seeing the old content.
    ///
    /// # Errors
    /// The file was exchanged, one of the attributes cannot be kept, or a system call fails: the old file is as it was
    /// then, and nothing is left behind.
    pub fn replace(&self, name: &OsStr, bytes: &[u8], seen: &Stat, attributes: Attributes) -> Result<(), Error> {
        let old = self.pin(name, seen)?;
        let failed = |errno| Error::call("read the attributes of", &self.path_of(name), errno);
        let xattrs = Xattrs::read(&old).map_err(failed)?;
        self.write(name, Publish::Over, |fd| fill(fd, bytes, attributes, &xattrs))
    }

    /// As [`Dir::replace`], with the owner and group of the file that was `seen`.
    ///
    /// # Errors
    /// As [`Dir::replace`].
    pub fn rewrite(&self, name: &OsStr, bytes: &[u8], seen: &Stat, mode: u32) -> Result<(), Error> {
        self.replace(name, bytes, seen, Attributes { uid: Some(seen.uid), gid: Some(seen.gid), mode })
    }

    /// The extended attributes of the file `name` that [`Dir::replace`] keeps, as people call them; a label, which every
    /// file has where there are any, is not named.
    ///
    /// # Errors
    /// The file was exchanged, or a system call fails.
    pub fn attribute_names(&self, name: &OsStr, seen: &Stat) -> Result<Vec<String>, Error> {
        let file = self.pin(name, seen)?;
        let failed = |errno| Error::call("read the attributes of", &self.path_of(name), errno);
        super::xattr::names(&file).map_err(failed)
    }

    fn write(
        &self,
        name: &OsStr,
        publish: Publish,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Error> {
        let path = self.path_of(name);
        let failed = |errno| Error::call("write", &path, errno);
        let temporary = temporary_name(name).map_err(failed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::openat(self, &temporary, flags, Mode::RUSR | Mode::WUSR));
        let fd = fd.map_err(failed)?;
        let written = fill(&fd).and_then(|()| self.publish(&fd, &temporary, name, publish));
        if let Err(errno) = written {
            // The error that came first is the one to tell; a name that stays is found as a leftover.
            let _ = retry_on_intr(|| rustix::fs::unlinkat(self, &temporary, AtFlags::empty()));
            return Err(failed(errno));
        }
        self.check_published(&fd, name)
    }

    /// Gives the prepared entry its name, and makes that durable.
    pub(super) fn publish(&self, fd: &OwnedFd, temporary: &str, name: &OsStr, publish: Publish) -> Result<(), Errno> {
        retry_on_intr(|| rustix::fs::fsync(fd))?;
        let flags = match publish {
            Publish::New => RenameFlags::NOREPLACE,
            Publish::Over => RenameFlags::empty(),
        };
        let renamed = retry_on_intr(|| rustix::fs::renameat_with(self, temporary, self, name, flags));
        match renamed {
            // A file system without NOREPLACE (NFS): look, then rename.
            Err(Errno::INVAL) if publish == Publish::New => {
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

    /// Makes the names in this directory durable, as far as the acting user and the file system can.
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

    /// Whether `name` leads to what was just put there: someone who may write in this directory can have exchanged it.
    pub(super) fn check_published(&self, fd: &OwnedFd, name: &OsStr) -> Result<(), Error> {
        let path = self.path_of(name);
        let made = super::access::stat_fd(fd).map_err(|errno| Error::call("look at", &path, errno))?;
        if self.stat(name)?.is_some_and(|stat| stat.is_same_file(&made)) {
            return Ok(());
        }
        Err(Error::refused(
            format!("{} was exchanged while it was written", escape_path(&path)),
            "see who else works in that directory, then run again",
        ))
    }
}

/// Whether a new entry may take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    New,
    Over,
}

fn fill(fd: &OwnedFd, bytes: &[u8], attributes: Attributes, xattrs: &Xattrs) -> Result<(), Errno> {
    hold(fd)?;
    change_owner(fd, attributes.uid, attributes.gid)?;
    xattrs.write(fd)?;
    // After a list, whose limit it sets.
    retry_on_intr(|| rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode)))?;
    // `write_all` on a duplicate keeps the descriptor, and with it the lock, for the rename.
    let mut file = std::fs::File::from(fd.try_clone().map_err(errno_of)?);
    file.write_all(bytes).map_err(errno_of)?;
    xattrs.write_capabilities(fd)
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Sets the mode of what an `O_PATH` descriptor holds.
pub(super) fn change_mode(fd: &OwnedFd, mode: u32) -> Result<(), Errno> {
    // fchmod refuses such a descriptor, and a file of mode 0000 cannot be opened otherwise by its owner; the
    // descriptor's name in /proc leads to the very inode it holds.
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    retry_on_intr(|| rustix::fs::chmod(&link, Mode::from_raw_mode(mode)))
}

/// Changes what differs of owner and group, so that an unprivileged process may ask for what already holds.
pub(super) fn change_owner(fd: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let stat = retry_on_intr(|| rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)).map(|stat| Stat::of(&stat))?;
    let uid = uid.filter(|uid| *uid != stat.uid).map(rustix::fs::Uid::from_raw);
    let gid = gid.filter(|gid| *gid != stat.gid).map(rustix::fs::Gid::from_raw);
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    retry_on_intr(|| rustix::fs::chownat(&fd, "", uid, gid, AtFlags::EMPTY_PATH))
}
