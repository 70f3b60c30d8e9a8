use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};
use zeroize::Zeroizing;

use super::descriptor::{change_mode, change_owner, open_at, open_quietly, stat_fd};
use super::{Dir, Error, FileKind, Stat, escape_path};

/// The content of a file, and what `fstat` said about the same inode.
#[derive(Debug)]
pub struct FileSeen {
    /// Zeroed when dropped.
    pub bytes: Zeroizing<Vec<u8>>,
    pub stat: Stat,
}

impl Dir {
    /// Reads the regular file `name` of at most `limit` bytes, if it exists. Does not change its access time if the kernel
    /// permits that. Never blocks: a FIFO or device is refused.
    ///
    /// # Errors
    /// It is not a regular file, it is larger, or the kernel denies it ([`Error::is_denied`]).
    pub fn read(&self, name: &OsStr, limit: u64) -> Result<Option<FileSeen>, Error> {
        let path = self.path_of(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        // Opening a device can have side effects, so the type is checked before and after opening.
        match self.stat(name)? {
            None => return Ok(None),
            Some(stat) => regular(self, name, &stat)?,
        }
        let fd = match open_quietly(self, name, flags) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::call("read", &path, errno)),
        };
        let stat = stat_fd(&fd).map_err(|errno| Error::call("read", &path, errno))?;
        regular(self, name, &stat)?;
        match whole(fd, &stat, limit) {
            Ok(bytes) => Ok(Some(FileSeen { bytes, stat })),
            Err(Unread::TooLarge) => Err(Error::too_large(&path, limit)),
            Err(Unread::Grew) => Err(Error::refused(
                format!("{} grew while it was read", escape_path(&path)),
                "run again when nobody writes to it",
            )),
            Err(Unread::Call(errno)) => Err(Error::call("read", &path, errno)),
        }
    }

    /// Sets owner and group of the entry `name`, which has to be the inode `seen`. A symlink is not followed.
    pub fn set_owner(&self, name: &OsStr, seen: &Stat, uid: Option<u32>, gid: Option<u32>) -> Result<(), Error> {
        let fd = self.pin(name, seen)?;
        change_owner(&fd, uid, gid).map_err(|errno| Error::call(super::setting_owner(uid), &self.path_of(name), errno))
    }

    /// Sets the mode of the regular file or directory `name`, which has to be the inode `seen`.
    pub fn set_mode(&self, name: &OsStr, seen: &Stat, mode: u32) -> Result<(), Error> {
        let path = self.path_of(name);
        let failed = |errno| Error::call("set the mode of", &path, errno);
        let fd = self.pin(name, seen)?;
        if !matches!(seen.kind, FileKind::File | FileKind::Directory) {
            return Err(failed(Errno::INVAL));
        }
        change_mode(&fd, mode).map_err(failed)
    }

    /// Opens the entry `name` without access to its content, and checks that it is the inode `seen`.
    pub(super) fn pin(&self, name: &OsStr, seen: &Stat) -> Result<OwnedFd, Error> {
        let path = self.path_of(name);
        let fd =
            open_at(self, name, OFlags::PATH | OFlags::NOFOLLOW).map_err(|errno| Error::call("open", &path, errno))?;
        let now = stat_fd(&fd).map_err(|errno| Error::call("look at", &path, errno))?;
        if now.is_same_file(seen) && now.kind == seen.kind && now.links <= seen.links {
            return Ok(fd);
        }
        Err(Error::other_entry(&path, seen.kind, now.kind))
    }
}

/// Sets the mode of the acting user's own regular file or directory at a path, where `mode` differs from it. A symlink at the end of
/// the path is not followed: the mode is that of the same inode whose mode `mode` got. Other entries are left unchanged.
pub fn adjust_mode(path: &Path, mode: impl FnOnce(&Stat) -> u32) -> Result<(), Error> {
    let failed = |errno| Error::call("set the mode of", path, errno);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::open(path, flags, rustix::fs::Mode::empty())).map_err(failed)?;
    let stat = stat_fd(&fd).map_err(failed)?;
    let is_own = stat.uid == super::acting_ids().0 && matches!(stat.kind, FileKind::File | FileKind::Directory);
    if !is_own {
        return Ok(());
    }
    let new = mode(&stat);
    if new == stat.mode { Ok(()) } else { change_mode(&fd, new).map_err(failed) }
}

/// Reads the regular file of at most `limit` bytes at a path, whose symlinks are followed. For the launching user's own paths.
/// Never blocks: a FIFO or device is refused.
///
/// # Errors
/// The error of the kernel, or `Other` if it is not a regular file or is larger.
pub fn read_file(path: &Path, limit: u64) -> std::io::Result<FileSeen> {
    let regular = |stat: &Stat| match stat.kind {
        FileKind::File => Ok(()),
        other => Err(std::io::Error::other(format!("it is {}, not a file", other.name()))),
    };
    // Opening a device can have side effects, so the type is checked before and after opening.
    regular(&Stat::of(&retry_on_intr(|| rustix::fs::stat(path))?))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::open(path, flags, rustix::fs::Mode::empty()))?;
    let stat = stat_fd(&fd)?;
    regular(&stat)?;
    match whole(fd, &stat, limit) {
        Ok(bytes) => Ok(FileSeen { bytes, stat }),
        Err(Unread::TooLarge) => Err(std::io::Error::other(format!("it is larger than {limit} bytes"))),
        Err(Unread::Grew) => Err(std::io::Error::other("it grew while it was read")),
        Err(Unread::Call(errno)) => Err(errno.into()),
    }
}

/// Why a file could not be read completely.
enum Unread {
    TooLarge,
    Grew,
    Call(Errno),
}

fn whole(fd: OwnedFd, stat: &Stat, limit: u64) -> Result<Zeroizing<Vec<u8>>, Unread> {
    if stat.size > limit {
        return Err(Unread::TooLarge);
    }
    // One byte more than expected, so that the buffer is never reallocated, which would leave a copy behind.
    let room = usize::try_from(stat.size).map_err(|_| Unread::TooLarge)?.saturating_add(1);
    let mut bytes = Zeroizing::new(vec![0; room]);
    let mut file = std::fs::File::from(fd);
    let mut filled = 0;
    loop {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unread::Call(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
        }
        if filled == room {
            return Err(Unread::Grew);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn regular(dir: &Dir, name: &OsStr, stat: &Stat) -> Result<(), Error> {
    if stat.kind == FileKind::File {
        return Ok(());
    }
    Err(dir.wrong_type(name, stat, "a file"))
}
