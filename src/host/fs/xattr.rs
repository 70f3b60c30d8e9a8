//! Extended attributes of a file that is replaced: access control lists, labels, a user's own.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::XattrFlags;
use rustix::io::{Errno, retry_on_intr};

/// The POSIX access control list. With one, the group bits of the mode are its mask, not what the group may do.
pub const ACL: &CStr = c"system.posix_acl_access";
/// The list that new entries of a directory get.
pub const DEFAULT_ACL: &CStr = c"system.posix_acl_default";
/// Hashes of the content, which the kernel maintains itself.
const OF_THE_CONTENT: [&CStr; 2] = [c"security.ima", c"security.evm"];

/// The Linux capabilities of a program. The kernel removes them when the file is written to.
const CAPABILITIES: &CStr = c"security.capability";
/// What people call a POSIX access control list.
pub const ACCESS_LIST: &str = "access control list";
/// The name of Linux capabilities for people.
pub const FILE_CAPABILITIES: &str = "capabilities";
/// SELinux's label.
const LABEL: &CStr = c"security.selinux";

/// The names and values of a file's extended attributes, without those about its content.
#[derive(Default, PartialEq, Eq)]
pub struct Xattrs(Vec<(CString, Vec<u8>)>);

impl Xattrs {
    /// Reads those of the file of an `O_PATH` descriptor. A file system without attributes has none.
    ///
    /// # Errors
    /// A system call fails.
    pub fn read(fd: &OwnedFd) -> Result<Self, Errno> {
        let link = link(fd);
        let found = list(&link)?.into_iter().map(|name| {
            let value = whole(|buffer| rustix::fs::getxattr(&link, name.as_c_str(), buffer))?;
            Ok((name, value))
        });
        found.collect::<Result<_, _>>().map(Self)
    }

    /// Sets these attributes, without capabilities, on a new and empty file. Removes an inherited access control list, which
    /// could grant more than the mode.
    ///
    /// Set the mode after this, since a list changes it.
    ///
    /// # Errors
    /// A system call fails. For instance, the acting user may not set a label.
    pub fn write(&self, fd: &OwnedFd) -> Result<(), Errno> {
        match retry_on_intr(|| rustix::fs::fremovexattr(fd, ACL)) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(errno) => return Err(errno),
        }
        self.set(fd, |name| name != CAPABILITIES && name != ACL)?;
        // The list is last: it sets the owner's bits of the mode, which may deny the owner the rest.
        self.set(fd, |name| name == ACL)
    }

    /// Sets the capabilities among these attributes on a file that has its content.
    ///
    /// # Errors
    /// The acting user may not set them.
    pub fn write_capabilities(&self, fd: &OwnedFd) -> Result<(), Errno> {
        self.set(fd, |name| name == CAPABILITIES)
    }

    fn set(&self, fd: &OwnedFd, wanted: impl Fn(&CStr) -> bool) -> Result<(), Errno> {
        for (name, value) in self.0.iter().filter(|(name, _)| wanted(name)) {
            // The acting user may lack the right to set a label that the new file has already.
            if whole(|buffer| rustix::fs::fgetxattr(fd, name.as_c_str(), buffer)).as_ref() != Ok(value) {
                retry_on_intr(|| rustix::fs::fsetxattr(fd, name.as_c_str(), value, XattrFlags::empty()))?;
            }
        }
        Ok(())
    }
}

/// Returns the names of the attributes of the file of an `O_PATH` descriptor for people, without its label.
///
/// # Errors
/// A system call fails.
pub fn names(fd: &OwnedFd) -> Result<Vec<String>, Errno> {
    let names = list(&link(fd))?.into_iter().filter(|name| name.as_c_str() != LABEL);
    let mut called: Vec<String> = names
        .map(|name| match name.to_string_lossy().as_ref() {
            "system.posix_acl_access" => ACCESS_LIST.to_owned(),
            "security.capability" => FILE_CAPABILITIES.to_owned(),
            name => name.to_owned(),
        })
        .collect();
    // The kernel lists them in the order in which they were set.
    called.sort();
    Ok(called)
}

/// Whether the file of an `O_PATH` descriptor has capabilities. A file system without attributes has none.
///
/// # Errors
/// A system call fails.
pub fn has_capabilities(fd: &OwnedFd) -> Result<bool, Errno> {
    let link = link(fd);
    match retry_on_intr(|| rustix::fs::getxattr(&link, CAPABILITIES, &mut [0; 0][..])) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Returns the value of an attribute of the file of an `O_PATH` descriptor. It is empty if there is none.
///
/// # Errors
/// A system call fails.
pub(super) fn value(fd: &OwnedFd, name: &CStr) -> Result<Vec<u8>, Errno> {
    whole(|buffer| rustix::fs::getxattr(link(fd), name, buffer)).or_else(|errno| match errno {
        Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS => Ok(Vec::new()),
        errno => Err(errno),
    })
}

/// Returns the path of a descriptor in /proc. The calls on descriptors refuse `O_PATH`.
fn link(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn list(link: &str) -> Result<Vec<CString>, Errno> {
    let names = whole(|buffer| rustix::fs::listxattr(link, buffer)).or_else(|errno| match errno {
        Errno::OPNOTSUPP | Errno::NOSYS => Ok(Vec::new()),
        errno => Err(errno),
    })?;
    let names = names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok());
    Ok(names.filter(|name| !OF_THE_CONTENT.contains(name)).map(CStr::to_owned).collect())
}

/// The kernel's maximum size of an attribute and of a list, in bytes (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
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
        let read = || dir.read(name, 9).unwrap().unwrap();
        assert_eq!(seen().mode, 0o660, "the mask");
        dir.rewrite(name, b"two", &read(), seen().mode).unwrap();
        assert_eq!((attributes(&path), std_fs::read(&path).unwrap()), ((50000, 50001, 0o660), b"two".to_vec()));
        assert_eq!(xattr(&path, ACL), Some(list));
        assert_eq!(xattr(&path, "user.note").as_deref(), Some(&b"mine"[..]));
        // As after chmod(2), the mode limits the list.
        dir.rewrite(name, b"three", &read(), 0o600).unwrap();
        assert_eq!((attributes(&path).2, xattr(&path, ACL)), (0o600, Some(acl([6, 6, 0, 0, 0]))));
        assert_eq!(xattr(&path, "user.note").as_deref(), Some(&b"mine"[..]));
        dir.rewrite(name, b"four", &read(), 0o640).unwrap();
        assert_eq!((attributes(&path).2, xattr(&path, ACL)), (0o640, Some(acl([6, 6, 0, 4, 0]))));
        assert_eq!(dir.attribute_names(name, &seen()).unwrap(), ["access control list", "user.note"]);
        let lists = dir.access_lists(name, &seen()).unwrap();
        assert_eq!((lists.access.len(), lists.default.len(), lists.mode()), (5, 0, Some(0o600)), "{lists:?}");
    }

    #[test]
    fn a_new_file_grants_what_its_mode_grants_and_no_more() {
        let folder = folder();
        let default = acl([7, 7, 7, 7, 7]);
        rustix::fs::setxattr(folder.path(), "system.posix_acl_default", &default, rustix::fs::XattrFlags::empty())
            .unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let attributes = super::super::Attributes { uid: None, gid: None, mode: 0o440 };
        dir.create(OsStr::new("key"), b"secret", attributes).unwrap();
        assert_eq!(xattr(&folder.path().join("key"), "system.posix_acl_access"), None);
    }

    #[test]
    fn capabilities_outlive_a_rewrite() {
        let folder = folder();
        let path = folder.path().join("file");
        std_fs::write(&path, "one").unwrap();
        // VFS_CAP_REVISION_2, effective, with CAP_CHOWN alone.
        let value: Vec<u8> = [0x0200_0001_u32, 1, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        rustix::fs::setxattr(&path, "security.capability", &value, rustix::fs::XattrFlags::empty()).unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let name = OsStr::new("file");
        dir.rewrite(name, b"two", &dir.read(name, 9).unwrap().unwrap(), 0o600).unwrap();
        assert_eq!(xattr(&path, "security.capability"), Some(value));
    }
}
