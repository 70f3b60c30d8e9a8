//! Extended attributes of a file that a new one takes the place of: access control lists, labels, a user's own.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::XattrFlags;
use rustix::io::{Errno, retry_on_intr};

/// The POSIX access control list. With one, the group bits of the mode are its mask, and not what the group may do.
const ACL: &CStr = c"system.posix_acl_access";
/// Hashes of the content, which the kernel keeps itself.
const OF_THE_CONTENT: [&CStr; 2] = [c"security.ima", c"security.evm"];

/// An attribute's name and value.
type Xattr = (CString, Vec<u8>);

/// What the file behind an `O_PATH` descriptor bears, but for what tells of its content.
pub fn read(fd: &OwnedFd) -> Result<Vec<Xattr>, Errno> {
    // The calls on descriptors refuse O_PATH; its name in /proc leads to the very inode it holds.
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let names = whole(|buffer| rustix::fs::listxattr(&link, buffer)).or_else(|errno| match errno {
        Errno::OPNOTSUPP | Errno::NOSYS => Ok(Vec::new()),
        errno => Err(errno),
    })?;
    let mut found = Vec::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if !OF_THE_CONTENT.contains(&name) {
            found.push((name.to_owned(), whole(|buffer| rustix::fs::getxattr(&link, name, buffer))?));
        }
    }
    Ok(found)
}

/// Gives a new, still empty file the attributes of the one before it. Of what it has by itself, it loses the access
/// control list that the directory hands down. Without `acl` it gets none either.
///
/// The mode is to be set after this: it changes with a list.
pub fn write(fd: &OwnedFd, xattrs: &[Xattr], acl: bool) -> Result<(), Errno> {
    match retry_on_intr(|| rustix::fs::fremovexattr(fd, ACL)) {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(errno) => return Err(errno),
    }
    for (name, value) in xattrs.iter().filter(|(name, _)| acl || name.as_c_str() != ACL) {
        // A label that the new file has already may not be set by everybody.
        if whole(|buffer| rustix::fs::fgetxattr(fd, name.as_c_str(), buffer)).as_ref() != Ok(value) {
            retry_on_intr(|| rustix::fs::fsetxattr(fd, name.as_c_str(), value, XattrFlags::empty()))?;
        }
    }
    Ok(())
}

/// The largest that the kernel has (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const LIMIT: usize = 1 << 16;

fn whole(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; LIMIT];
    let length = retry_on_intr(|| call(&mut buffer))?;
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs as std_fs;
    use std::path::Path;

    use super::super::Dir;
    use crate::host::testing::{attributes, chown, folder};

    /// A POSIX access control list as the kernel has it (`linux/posix_acl_xattr.h`): what the owner, user 65534, the group,
    /// the mask and others may do.
    fn acl(permissions: [u8; 5]) -> Vec<u8> {
        let tags = [(1_u16, u32::MAX), (2, 65534), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)];
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for ((tag, id), permission) in tags.into_iter().zip(permissions) {
            bytes.extend(tag.to_le_bytes().into_iter().chain([permission, 0]).chain(id.to_le_bytes()));
        }
        bytes
    }

    fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 1000];
        let length = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    }

    #[test]
    fn an_access_control_list_outlives_a_rewrite_and_opens_nothing() {
        const ACL: &str = "system.posix_acl_access";
        let folder = folder();
        let path = folder.path().join("file");
        let set = |path: &Path, name: &str, value: &[u8]| {
            rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
        };
        // What the directory hands down is nothing that the file had.
        set(folder.path(), "system.posix_acl_default", &acl([7, 7, 7, 7, 0]));
        std_fs::write(&path, "one").unwrap();
        chown(&path, 50000, 50001);
        let list = acl([6, 6, 0, 6, 0]);
        set(&path, ACL, &list);
        set(&path, "user.note", b"mine");
        let dir = Dir::open(folder.path()).unwrap();
        let name = OsStr::new("file");
        let seen = || dir.stat(name).unwrap().unwrap();
        assert_eq!(seen().mode, 0o660, "the mask");
        dir.rewrite(name, b"two", &seen(), seen().mode).unwrap();
        assert_eq!((attributes(&path), std_fs::read(&path).unwrap()), ((50000, 50001, 0o660), b"two".to_vec()));
        assert_eq!(xattr(&path, ACL), Some(list));
        assert_eq!(xattr(&path, "user.note").as_deref(), Some(&b"mine"[..]));
        // Another mode is what was asked for, and no list goes with it.
        dir.rewrite(name, b"three", &seen(), 0o600).unwrap();
        assert_eq!((attributes(&path).2, xattr(&path, ACL)), (0o600, None));
        assert_eq!(xattr(&path, "user.note").as_deref(), Some(&b"mine"[..]));
        dir.rewrite(name, b"four", &seen(), 0o640).unwrap();
        assert_eq!((attributes(&path).2, xattr(&path, ACL)), (0o640, None));
    }
}
