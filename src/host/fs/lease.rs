//! Whether a process has a file open for writing: the kernel then refuses a read lease on it (`F_SETLEASE` in fcntl(2)).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use rustix::io::Errno;

/// File systems of servers, which refuse a lease for reasons of their own: `NFS_SUPER_MAGIC`, `CIFS_SUPER_MAGIC` and `SMB2_SUPER_MAGIC`.
const NETWORK: [u32; 3] = [0x6969, 0xff53_4d42, 0xfe53_4d42];
/// Of `fcntl.h`.
const F_SETSIG: libc::c_int = 10;
/// The kernel sends a signal when a process waits for the lease. This one is ignored by default; `SIGIO` would end the process.
const SIGNAL: libc::c_int = libc::SIGURG;

/// Who writes to a file.
pub(super) enum Writers {
    /// No process. While the lease is held, a process that opens the file for writing waits.
    None(Lease),
    /// A process has it open for writing.
    Some,
    /// Unknown, because the file system does not support it, or because the file belongs to another user.
    Unknown,
}

/// A read lease. It ends when it is dropped.
pub(super) struct Lease(OwnedFd);

impl Lease {
    /// Asks who writes to a file that is open for reading.
    pub(super) fn take(file: OwnedFd) -> Writers {
        let is_network = rustix::fs::fstatfs(&file).map_or(true, |found| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the numbers have 32 bits")]
            let kind = found.f_type as u32;
            NETWORK.contains(&kind)
        });
        if is_network || fcntl(&file, F_SETSIG, SIGNAL).is_err() {
            return Writers::Unknown;
        }
        match fcntl(&file, libc::F_SETLEASE, libc::F_RDLCK) {
            Ok(_) => Writers::None(Self(file)),
            Err(Errno::AGAIN) => Writers::Some,
            Err(_) => Writers::Unknown,
        }
    }

    /// Whether a process waits to open the file for writing.
    pub(super) fn is_wanted(&self) -> bool {
        fcntl(&self.0, libc::F_GETLEASE, 0) != Ok(libc::F_RDLCK)
    }
}

#[expect(unsafe_code, reason = "nix and rustix have no function for leases")]
fn fcntl(fd: impl AsFd, command: libc::c_int, number: libc::c_int) -> Result<libc::c_int, Errno> {
    // SAFETY: these commands take a number and no pointer.
    let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command, number) };
    if result == -1 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(result)
}
