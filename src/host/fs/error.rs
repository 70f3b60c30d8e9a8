use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::failure::Failure;
use crate::host::users::as_root;
use crate::text::{io_error_text, shell_word};

use super::system_paths::is_needed;
use super::{FileKind, acting_ids, acts_as_root, escape_path};

/// An error of the file system: what was tried on which path, what happened, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    message: String,
    hint: Option<String>,
    kind: io::ErrorKind,
    is_newer: bool,
}

impl Error {
    /// Makes an error of a failed system call: `cannot VERB PATH: CAUSE`.
    pub(in crate::host) fn call(verb: &str, path: &Path, errno: Errno) -> Self {
        Self {
            message: format!("cannot {verb} {}: {}", escape_path(path), io_error_text(&io::Error::from(errno))),
            hint: remedy(verb, path, errno),
            kind: io::Error::from(errno).kind(),
            is_newer: false,
        }
    }

    /// Makes the error of a file that somebody has changed since it was read.
    pub(super) fn newer(path: &Path) -> Self {
        let message = format!("{} was changed in the meantime, and stays as it is now", escape_path(path));
        Self { is_newer: true, ..Self::refused(message, "run again") }
    }

    /// Makes the error of a file that somebody has removed since it was read.
    pub(super) fn removed(path: &Path) -> Self {
        let message = format!("{} was removed in the meantime, and is not written again", escape_path(path));
        Self { is_newer: true, ..Self::refused(message, "run again") }
    }

    /// Makes the error of an entry that somebody has replaced right after it was written.
    pub(super) fn replaced(path: &Path) -> Self {
        let message = format!("{} was replaced while it was written", escape_path(path));
        Self { is_newer: true, ..Self::refused(message, "find out who else works in that directory, then run again") }
    }

    /// Returns the error with the remedy for a directory that was seen with this owner and mode, if its owner is the acting user,
    /// whom the mode does not let in.
    pub(super) fn of_directory(self, path: &Path, seen: Option<(u32, u32)>) -> Self {
        const READ_AND_ENTER: u32 = 0o500;
        let is_closed = |(uid, mode): (u32, u32)| uid == acting_ids().0 && mode & READ_AND_ENTER != READ_AND_ENTER;
        if !self.is_denied() || acts_as_root() || !seen.is_some_and(is_closed) {
            return self;
        }
        Self { hint: Some(format!("let its owner in: `chmod u+rx {}`", shell_word(path))), ..self }
    }

    /// Makes the error of an entry that is not the one that was seen. Another file in the place of a file is a newer one.
    pub(super) fn other_entry(path: &Path, seen: FileKind, now: FileKind) -> Self {
        let message = format!("{} was replaced by {} meanwhile", escape_path(path), now.name());
        let hint = "find out who else works in that directory, then run again";
        Self { is_newer: seen == FileKind::File && now == FileKind::File, ..Self::refused(message, hint) }
    }

    /// Makes an error of an unexpected state of the host, with its remedy.
    pub fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()), kind: io::ErrorKind::Other, is_newer: false }
    }

    /// Makes the error for a file larger than `limit` bytes.
    pub(super) fn too_large(path: &Path, limit: u64) -> Self {
        let message = format!("{} is larger than {limit} bytes", escape_path(path));
        let hint = "this is not the file that was meant; check the path";
        Self { kind: io::ErrorKind::FileTooLarge, ..Self::refused(message, hint) }
    }

    /// Returns the error for a dangling symlink in a path. It counts as a missing component.
    pub(super) fn dangling(link: &Path, target: &Path) -> Self {
        Self {
            message: format!("{} is a dangling symlink: its target is {}", escape_path(link), escape_path(target)),
            hint: Some(if is_needed(link) {
                "create the directory that it leads to, or correct the path".to_owned()
            } else {
                format!("create the directory that it leads to, or remove it: `rm {}`", shell_word(link))
            }),
            kind: io::ErrorKind::NotFound,
            is_newer: false,
        }
    }

    /// Returns the remedy, in one line.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the kind of the kernel's error; `Other` for an unexpected state of the host.
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }

    /// Whether somebody has changed the file since it was read.
    pub fn is_newer(&self) -> bool {
        self.is_newer
    }

    /// Whether a component of the path does not exist.
    pub fn is_missing(&self) -> bool {
        self.kind == io::ErrorKind::NotFound
    }

    /// Whether the acting user lacks the right.
    pub fn is_denied(&self) -> bool {
        self.kind == io::ErrorKind::PermissionDenied
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { message: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}

/// The hint for what only the owner or root may do.
const AS_OWNER: &str = "run the step as the owner, or with run_as: root";

/// Returns the remedy for a failed system call on a path, if there is one.
pub fn remedy(verb: &str, path: &Path, errno: Errno) -> Option<String> {
    match errno {
            Errno::ACCESS | Errno::PERM if acts_as_root() => Some(format!(
                "root was denied it: check whether it is immutable (`lsattr -d {path}`); on NFS with root_squash, change it on \
                 the server; in a FUSE mount of another user, set run_as to that user",
                path = shell_word(path)
            )),
            Errno::INVAL | Errno::OVERFLOW if verb.contains("owner") => Some(
                "in a user namespace, the number may not be mapped: see /proc/self/uid_map and /proc/self/gid_map"
                    .into(),
            ),
            Errno::ACCESS => Some(
                super::closed::on_way_to(path).map_or_else(|| AS_OWNER.to_owned(), |closed| closed.hint()),
            ),
            Errno::PERM => Some(AS_OWNER.to_owned()),
            Errno::NOTCONN => Some(
                "the program behind that FUSE mount has ended: mount it again, or unmount it (`grep fuse /proc/mounts` lists \
                 such mounts)"
                    .into(),
            ),
            Errno::STALE => Some("the NFS server no longer knows it: mount it again".into()),
            Errno::IO => Some(format!("the storage failed: see what the kernel reports: `{}`", as_root("dmesg"))),
            Errno::NOSPC | Errno::DQUOT => Some("free some space on that file system, then run again".into()),
            Errno::ROFS => Some("the file system is mounted read-only; mount it writable, then run again".into()),
            Errno::FBIG => Some("raise the limit on file sizes (`ulimit -f unlimited`), then run again".into()),
            Errno::EXIST => Some("somebody created it in the meantime: run again".into()),
            Errno::MFILE | Errno::NFILE => Some("raise the limit on open files (`ulimit -n`), then run again".into()),
            _ => None,
        }
}
