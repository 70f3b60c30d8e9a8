//! Who may read a file of the working tree. git remembers none of it but the executable bit, so a rescue has to.

use std::collections::BTreeMap;
use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::path::RepoPath;
use super::survey::lstat_below;
use super::{io_failure, move_files};
use crate::failure::Failure;

/// What a line of a rescue's message begins with that tells a path's access.
const LINE: &str = "access ";

/// The permission bits and the group of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    mode: u32,
    group: u32,
}

/// The access of paths that a rescue remembers.
pub type AccessList = BTreeMap<RepoPath, Access>;

impl Access {
    fn of(at: &Path, found: &Metadata) -> Self {
        let mut mode = found.mode() & 0o7777;
        // With an access control list, the group's bits are its mask, and not what the group may do (acl(5)).
        if rustix::fs::lgetxattr(at, "system.posix_acl_access", &mut [0; 0]).is_ok_and(|size| size > 0) {
            mode &= !0o070;
        }
        Self { mode, group: found.gid() }
    }

    /// Whether not every user can read the file, or enter the directory.
    fn is_private(self, is_dir: bool) -> bool {
        let needed = if is_dir { 0o011 } else { 0o044 };
        self.mode & needed != needed
    }

    /// Whether a new file or directory of git's has this mode anyway.
    fn is_usual(self) -> bool {
        matches!(self.mode, 0o644 | 0o755)
    }

    /// Gives it to a new file or directory: another group than the one that it had never gets to read it.
    pub fn set(self, at: &Path) -> Result<(), Failure> {
        let mut mode = self.mode;
        let found = fs::symlink_metadata(at).map_err(io_failure("look at", at))?;
        if found.gid() != self.group && chown(at, None, Some(self.group)).is_err() {
            mode &= !0o070;
        }
        fs::set_permissions(at, Permissions::from_mode(mode)).map_err(io_failure("set the mode of", at))
    }
}

/// What has to be remembered of a file, and whether some user cannot read it, by its own mode or by that of a directory
/// on the way to it from the checkout's top.
pub fn look(top: &Path, path: &RepoPath) -> Result<(bool, AccessList), Failure> {
    let mut list = AccessList::new();
    let Some(found) = lstat_below(top, path)?.filter(|found| !found.is_dir()) else { return Ok((false, list)) };
    for above in path.parents() {
        if let Some(found) = lstat_below(top, &above)? {
            let access = Access::of(&top.join(above.as_path()), &found);
            if access.is_private(true) {
                list.insert(above, access);
            }
        }
    }
    let mut private = !list.is_empty();
    if found.is_file() {
        let access = Access::of(&top.join(path.as_path()), &found);
        private |= access.is_private(false);
        if private || !access.is_usual() {
            list.insert(path.clone(), access);
        }
    }
    Ok((private, list))
}

/// The list as lines of a commit's message.
pub fn to_lines(list: &AccessList) -> String {
    list.iter().map(|(path, access)| format!("{LINE}{:04o} {} {path}\n", access.mode, access.group)).collect()
}

/// Reads the list from a commit's message.
pub fn from_message(message: &[u8]) -> AccessList {
    let message = String::from_utf8_lossy(message);
    let read = |line: &str| {
        let mut parts = line.strip_prefix(LINE)?.splitn(3, ' ');
        let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
        let group = parts.next()?.parse().ok()?;
        Some((RepoPath::parse(parts.next()?)?, Access { mode: mode & 0o7777, group }))
    };
    message.lines().filter_map(read).collect()
}

/// The access for a file that comes back to `path`. A directory that has been opened to more users since then does not
/// open what was behind it: the file is for its owner alone.
pub fn to_restore(top: &Path, path: &RepoPath, list: &AccessList) -> Result<Option<Access>, Failure> {
    let Some(mut access) = list.get(path).copied() else { return Ok(None) };
    for above in path.parents() {
        if let (Some(was), Some(now)) = (list.get(&above), lstat_below(top, &above)?)
            && (now.mode() & 0o011 & !was.mode != 0 || now.gid() != was.group)
        {
            access.mode &= !0o077;
        }
    }
    Ok(Some(access))
}

/// Makes the directories above a path, those that were private with the mode that they had.
pub fn make_folders(top: &Path, path: &RepoPath, list: &AccessList) -> Result<(), Failure> {
    let mut new = Vec::new();
    for above in path.parents().filter(|above| list.contains_key(above)) {
        if lstat_below(top, &above)?.is_none() {
            new.push(above);
        }
    }
    move_files::make_folders(top, path)?;
    for above in new {
        list[&above].set(&top.join(above.as_path()))?;
    }
    Ok(())
}
