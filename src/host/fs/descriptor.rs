//! System calls on open descriptors.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{Error, Stat};

/// Calls `openat` with `O_CLOEXEC`, again if a signal interrupts it.
pub(super) fn open_at(dir: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    // A name with a NUL byte gives EINVAL.
    debug_assert!(!name.as_bytes().is_empty());
    retry_on_intr(|| rustix::fs::openat(&dir, name, flags | OFlags::CLOEXEC, Mode::empty()))
}

/// [`open_at`] with `O_NOATIME`, if the acting user may use it: only the owner and root can.
pub(super) fn open_quietly(dir: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    match open_at(&dir, name, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open_at(&dir, name, flags),
        other => other,
    }
}

/// Calls `fstat`.
pub(super) fn stat_fd(fd: &OwnedFd) -> Result<Stat, Errno> {
    retry_on_intr(|| rustix::fs::fstat(fd)).map(|stat| Stat::of(&stat))
}

/// Locks a temporary entry while its descriptor is open, so that no other run treats it as a leftover. The lock ends with the
/// process.
///
/// Never waits, since somebody who replaced the entry could hold its lock forever. The entry stays without a lock if another
/// run is just examining it.
pub(super) fn lock_exclusive(fd: impl AsFd) -> Result<(), Errno> {
    match retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)) {
        // The last three mean that the file system has no locks. Leftovers and live entries look the same there.
        Err(Errno::WOULDBLOCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => Ok(()),
        other => other,
    }
}

/// Sets the mode of an `O_PATH` descriptor.
pub(super) fn change_mode(fd: &OwnedFd, mode: u32) -> Result<(), Errno> {
    // fchmod refuses such a descriptor, and its owner cannot open a file of mode 0000 in another way. Its path in
    // /proc leads to the same inode.
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    retry_on_intr(|| rustix::fs::chmod(&link, Mode::from_raw_mode(mode)))
}

/// Sets owner and group if they differ, so that an unprivileged process may set what they are already.
pub(super) fn change_owner(fd: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let stat = retry_on_intr(|| rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)).map(|stat| Stat::of(&stat))?;
    let uid = uid.filter(|uid| *uid != stat.uid).map(rustix::fs::Uid::from_raw);
    let gid = gid.filter(|gid| *gid != stat.gid).map(rustix::fs::Gid::from_raw);
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    retry_on_intr(|| rustix::fs::chownat(&fd, "", uid, gid, AtFlags::EMPTY_PATH))
}

/// Whether a directory has no entries.
pub(super) fn is_empty(fd: OwnedFd) -> Result<bool, Error> {
    let failed = |errno| Error::call("list", Path::new("a directory"), errno);
    for entry in rustix::fs::Dir::new(fd).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
