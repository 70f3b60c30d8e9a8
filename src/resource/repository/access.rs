//! Access rights of files in the working tree. git stores only the executable bit, so a rescue has to remember the rest.

use std::collections::BTreeMap;
use std::fs::{self, Metadata, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::OFlags;

use crate::failure::Failure;
use crate::git::RepoPath;
use crate::git::error::io_failure;
use crate::git::worktree::{self, lstat_below};

/// Begins a line of a rescue's message with the mode and group of a path.
const LINE: &str = "access ";

/// Begins a line with the access control list of a path, in the kernel's form.
const ACL_LINE: &str = "acl ";

/// The extended attribute of an access control list (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// The permission bits and the group of a file or directory, and its access control list if it has one. With a list, the
/// group's bits are its mask, not what the group may do (acl(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    mode: u32,
    group: u32,
    acl: Option<Vec<u8>>,
}

/// The access rights that a rescue remembers, by path.
pub type AccessList = BTreeMap<RepoPath, Access>;

impl Access {
    fn of(at: &Path, found: &Metadata) -> Result<Self, Failure> {
        Ok(Self { mode: found.mode() & 0o7777, group: found.gid(), acl: acl_of(at)? })
    }

    /// Whether some user cannot read the file, or enter the directory. A list can exclude users whom the mode includes.
    fn is_private(&self, is_dir: bool) -> bool {
        let needed = if is_dir { 0o011 } else { 0o044 };
        self.acl.is_some() || self.mode & needed != needed
    }

    /// Whether a new file or directory has this mode anyway.
    fn is_usual(&self) -> bool {
        self.acl.is_none() && matches!(self.mode, 0o644 | 0o755)
    }

    /// Returns the same rights without those of anybody but the owner.
    fn of_the_owner_alone(mut self) -> Self {
        self.mode &= !0o077;
        self.acl = None;
        self
    }

    /// Sets the rights of a new file or directory. If the group cannot be set, no group may read it; if the list cannot be set,
    /// nobody but the owner may.
    pub fn set(&self, at: &Path) -> Result<(), Failure> {
        let failed = io_failure("set the mode of", at);
        // Others may be able to replace it by a symlink at any time.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let new = rustix::fs::open(at, flags, rustix::fs::Mode::empty()).map(fs::File::from);
        let new = new.map_err(|errno| failed(errno.into()))?;
        let inode = format!("/proc/self/fd/{}", new.as_raw_fd());
        let mut mode = self.mode;
        if new.metadata().map_err(&failed)?.gid() != self.group && chown(&inode, None, Some(self.group)).is_err() {
            mode &= if self.acl.is_some() { !0o077 } else { !0o070 };
        } else if let Some(acl) = &self.acl
            && rustix::fs::setxattr(&inode, ACL, acl, rustix::fs::XattrFlags::empty()).is_err()
        {
            mode &= !0o077;
        }
        fs::set_permissions(&inode, Permissions::from_mode(mode)).map_err(failed)
    }
}

/// Returns the access control list of a file or directory, if it has more than a mode.
fn acl_of(at: &Path) -> Result<Option<Vec<u8>>, Failure> {
    use rustix::io::Errno;
    // The maximum size of an attribute (xattr(7)).
    let mut buffer = vec![0; 64 << 10];
    match rustix::fs::lgetxattr(at, ACL, &mut buffer[..]) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer).filter(|acl| !acl.is_empty()))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(io_failure("read the access control list of", at)(errno.into())),
    }
}

/// Returns whether some user cannot read a file, because of its own rights or those of a directory above it in the checkout,
/// and which rights a rescue has to remember.
pub fn look(top: &Path, path: &RepoPath) -> Result<(bool, AccessList), Failure> {
    let mut list = AccessList::new();
    let Some(found) = lstat_below(top, path)?.filter(|found| !found.is_dir()) else { return Ok((false, list)) };
    for above in path.parents() {
        if let Some(found) = lstat_below(top, &above)? {
            let access = Access::of(&top.join(above.as_path()), &found)?;
            if access.is_private(true) {
                list.insert(above, access);
            }
        }
    }
    let mut private = !list.is_empty();
    if found.is_file() {
        let access = Access::of(&top.join(path.as_path()), &found)?;
        private |= access.is_private(false);
        if private || !access.is_usual() {
            list.insert(path.clone(), access);
        }
    }
    Ok((private, list))
}

/// Writes the list as lines of a commit's message.
pub fn to_lines(list: &AccessList) -> String {
    let mut lines = String::new();
    for (path, access) in list {
        lines += &format!("{LINE}{:04o} {} {path}\n", access.mode, access.group);
        if let Some(acl) = &access.acl {
            let digits: String = acl.iter().map(|byte| format!("{byte:02x}")).collect();
            lines += &format!("{ACL_LINE}{digits} {path}\n");
        }
    }
    lines
}

/// Reads the list from a commit's message.
pub fn from_message(message: &[u8]) -> AccessList {
    let message = String::from_utf8_lossy(message);
    let read = |line: &str| {
        let mut parts = line.strip_prefix(LINE)?.splitn(3, ' ');
        let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
        let group = parts.next()?.parse().ok()?;
        Some((RepoPath::parse(parts.next()?)?, Access { mode: mode & 0o7777, group, acl: None }))
    };
    let mut list: AccessList = message.lines().filter_map(read).collect();
    for line in message.lines() {
        if let Some((digits, path)) = line.strip_prefix(ACL_LINE).and_then(|rest| rest.split_once(' '))
            && let Some(access) = RepoPath::parse(path).and_then(|path| list.get_mut(&path))
        {
            let byte = |place: usize| u8::from_str_radix(digits.get(place..place + 2)?, 16).ok();
            access.acl = (0..digits.len()).step_by(2).map(byte).collect();
        }
    }
    list
}

/// Returns the rights of a file that is restored to `path`. If a directory above it is open to more users now, only the owner
/// may read it.
pub fn to_restore(top: &Path, path: &RepoPath, list: &AccessList) -> Result<Option<Access>, Failure> {
    let Some(mut access) = list.get(path).cloned() else { return Ok(None) };
    for above in path.parents() {
        if let (Some(was), Some(now)) = (list.get(&above), lstat_below(top, &above)?)
            && (now.mode() & 0o011 & !was.mode != 0 || now.gid() != was.group)
        {
            access = access.of_the_owner_alone();
        }
    }
    Ok(Some(access))
}

/// Creates the directories above a path. Those that were private get the rights that they had.
pub fn create_parents(top: &Path, path: &RepoPath, list: &AccessList) -> Result<(), Failure> {
    let mut new = Vec::new();
    for above in path.parents().filter(|above| list.contains_key(above)) {
        if lstat_below(top, &above)?.is_none() {
            new.push(above);
        }
    }
    worktree::create_parents(top, path)?;
    for above in new {
        list[&above].set(&top.join(above.as_path()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever may write to the directory can put one there.
    #[test]
    fn a_symlink_in_place_of_a_restored_file_keeps_the_mode_of_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let (own, link) = (dir.path().join("own"), dir.path().join("link"));
        fs::write(&own, "").unwrap();
        fs::set_permissions(&own, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&own, &link).unwrap();
        let found = fs::metadata(&own).unwrap();
        let access = Access { mode: 0o664, group: found.gid(), acl: None };
        assert!(access.set(&link).is_err());
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o600);
        access.set(&own).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o664);
    }
}
