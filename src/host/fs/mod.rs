//! File system access by file descriptor: what was checked is what is changed, even if somebody renames things meanwhile.
//!
//! A path is opened one component at a time ([`Dir::open`]). Everything after that names an entry of the open directory, and
//! never follows a symlink there. [`Dir::create`], [`Dir::replace`] and [`Dir::rewrite`] are atomic. A process that is killed in
//! one of them can leave an entry `.provision-…` behind, which [`Dir::leftovers`] finds and [`Dir::remove_leftovers`] removes.
//! A file that may have to be restored is kept under a second name while another one replaces it ([`Dir::back_up`]).
//!
//! `descriptor.rs` has the system calls, `open.rs` opens directories, `access.rs` reads and changes attributes, `write.rs` and
//! `create.rs` create files and directories, `exchange.rs` puts a file in the place of another, `lease.rs` finds out who writes to
//! it, `tree/` walks a tree, `denial.rs` finds out why something cannot be changed.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::text::escape_name;

mod access;
mod access_list;
mod aside;
mod backup;
mod below;
pub mod closed;
mod create;
mod denial;
mod descriptor;
mod error;
mod exchange;
mod lease;
mod leftover;
mod locate;
mod mounts;
mod open;
mod system_paths;
pub mod tree;
mod write;
mod xattr;

#[cfg(test)]
mod path_tests;
#[cfg(test)]
mod tests;

pub use access::{FileSeen, adjust_mode, read_file};
pub use access_list::{AccessEntry, AccessLists, AccessTag};
pub use aside::{Removal, must_stay};
pub use backup::Backup;
pub use below::{NotRead, names_beside, read_below};
pub use closed::may_access;
pub use create::{PARENT_MODE, ParentAttributes, default_dir_mode};
pub use denial::Denial;
pub use error::{Error, remedy};
pub use leftover::temporary_name;
pub use locate::Locator;
pub use open::{Dir, Place};
pub use system_paths::{belongs_to_system, is_needed};
pub use xattr::{ACCESS_LIST, ACL, DEFAULT_ACL, FILE_CAPABILITIES};

/// The type of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device,
}

impl FileKind {
    /// Returns the type of a mode, as `stat` gives it.
    pub fn of(mode: rustix::fs::RawMode) -> Self {
        match rustix::fs::FileType::from_raw_mode(mode) {
            rustix::fs::FileType::RegularFile => Self::File,
            rustix::fs::FileType::Directory => Self::Directory,
            rustix::fs::FileType::Symlink => Self::Symlink,
            rustix::fs::FileType::Fifo => Self::Fifo,
            rustix::fs::FileType::Socket => Self::Socket,
            _ => Self::Device,
        }
    }

    /// Returns the type with its article, for a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Symlink => "a symlink",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
        }
    }
}

/// What `fstat` says about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    pub kind: FileKind,
    pub uid: u32,
    pub gid: u32,
    /// The permission bits, set-id and sticky bits included (`mode & 07777`).
    pub mode: u32,
    /// In bytes.
    pub size: u64,
    /// The number of hard links.
    pub links: u64,
    pub device: u64,
    pub inode: u64,
}

impl Stat {
    #[expect(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the field types differ by architecture")]
    fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            kind: FileKind::of(stat.st_mode),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            links: stat.st_nlink as u64,
            device: stat.st_dev.into(),
            inode: stat.st_ino.into(),
        }
    }

    /// Whether it belongs to root, and its mode lets nobody else write to it.
    fn is_roots_alone(&self) -> bool {
        self.uid == 0 && self.mode & 0o022 == 0
    }

    /// Whether both are the same inode.
    pub fn is_same_file(&self, other: &Stat) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Owner, group and mode of a new file. `None` leaves what the kernel sets: the acting user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// The permission bits, such as `0o400`.
    pub mode: u32,
}

/// Returns what cannot be done if a change to this owner fails: `set the owner of`, or the group if only that is set.
fn setting_owner(uid: Option<u32>) -> &'static str {
    if uid.is_none() { "set the group of" } else { "set the owner of" }
}

/// Returns a path for a message.
pub fn escape_path(path: &Path) -> String {
    escape_name(path.as_os_str().as_bytes())
}

/// Returns a name beside a path that nothing has: the path with `.suffix`, or with `.suffix-2` and so on.
pub fn free_name(path: &Path, suffix: &str) -> PathBuf {
    let name = |end: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let names = std::iter::once(format!(".{suffix}")).chain((2..).map(|number: u32| format!(".{suffix}-{number}")));
    names.map(name).find(|name| name.symlink_metadata().is_err()).unwrap_or_default()
}

/// Returns the path without symlinks. If there is no file at the path, only the symlinks of its folder are resolved.
#[expect(clippy::disallowed_methods, reason = "a path that a person names")]
pub fn canonical(path: &Path) -> PathBuf {
    let of_folder = || {
        let folder = std::fs::canonicalize(path.parent()?).ok()?;
        Some(folder.join(path.file_name()?))
    };
    std::fs::canonicalize(path)
        .ok()
        .or_else(of_folder)
        .or_else(|| std::path::absolute(path).ok())
        .unwrap_or_else(|| path.to_owned())
}

/// Checks that a path of the plan file is absolute. A relative path would depend on the current directory.
///
/// # Errors
/// The path is relative. The message has a correction.
pub fn check_absolute(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() {
        return Err("the path is empty".to_owned());
    }
    let quoted = escape_path(path);
    if path.as_os_str().as_bytes().starts_with(b"~") {
        return Err(format!("`{quoted}` is not absolute: write out the home directory"));
    }
    if path.is_absolute() { Ok(()) } else { Err(format!("`{quoted}` is not absolute: a path starts with `/`")) }
}

/// Whether this process acts as root. Then it can change owners, and has to trust less.
pub fn acts_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the user and group that new files of this process belong to.
pub fn acting_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// The set-group-ID bit of a mode (inode(7)). A new directory inherits it, and the entries of a directory with it get its group.
pub const SET_GROUP_ID: u32 = 0o2000;

/// Returns the mode that an entry has after chown(2). With `keeps_group_bit` (the acting user is root or in the group), the
/// set-group-ID bit is lost only if the group may execute the file.
pub fn mode_after_chown(kind: FileKind, mode: u32, keeps_group_bit: bool) -> u32 {
    const SET_USER_ID: u32 = 0o4000;
    const GROUP_EXECUTE: u32 = 0o010;
    if kind == FileKind::Directory {
        return mode;
    }
    let mode = mode & !SET_USER_ID;
    if mode & GROUP_EXECUTE != 0 || !keeps_group_bit { mode & !SET_GROUP_ID } else { mode }
}

/// Whether this process may give what it owns to the group `gid`.
pub fn acts_in_group(gid: u32) -> bool {
    acts_as_root() || is_in_group(gid)
}

/// Whether the group is one of this process's own.
pub fn is_in_group(gid: u32) -> bool {
    let mut groups = rustix::process::getgroups().unwrap_or_default().into_iter();
    acting_ids().1 == gid || groups.any(|group| group.as_raw() == gid)
}
