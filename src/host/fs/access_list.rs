//! POSIX access control lists (acl(5)).

use std::ffi::OsStr;

use super::{Dir, Error, Stat, xattr};

/// An entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessEntry {
    pub who: AccessTag,
    /// Read 4, write 2, execute 1.
    pub rights: u32,
}

/// Whom an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessTag {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    /// What all but the owner and others have at most. The mode shows it in the place of the group.
    Mask,
    Others,
}

/// The access control lists of a file or directory. Each is empty if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessLists {
    pub access: Vec<AccessEntry>,
    /// What new entries of a directory get.
    pub default: Vec<AccessEntry>,
}

impl Dir {
    /// Reads the access control lists of the entry `name`, which has to be the inode `seen`.
    ///
    /// # Errors
    /// The entry was replaced, or a system call fails.
    pub fn access_lists(&self, name: &OsStr, seen: &Stat) -> Result<AccessLists, Error> {
        let file = self.pin(name, seen)?;
        let read = |list| {
            let value = xattr::value(&file, list);
            let failed = |errno| Error::call("read the access control list of", &self.path_of(name), errno);
            value.map(|value| entries(&value)).map_err(failed)
        };
        Ok(AccessLists { access: read(xattr::ACL)?, default: read(xattr::DEFAULT_ACL)? })
    }
}

/// The entries of a list as the kernel has it (`linux/posix_acl_xattr.h`): a version, then tag, rights and id of each.
fn entries(value: &[u8]) -> Vec<AccessEntry> {
    let entry = |bytes: &[u8]| {
        let short = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let id = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
        let who = match short(0)? {
            0x01 => AccessTag::Owner,
            0x02 => AccessTag::User(id),
            0x04 => AccessTag::OwningGroup,
            0x08 => AccessTag::Group(id),
            0x10 => AccessTag::Mask,
            0x20 => AccessTag::Others,
            _ => return None,
        };
        Some(AccessEntry { who, rights: u32::from(short(2)?) & 7 })
    };
    value.get(4..).unwrap_or_default().chunks_exact(8).filter_map(entry).collect()
}

impl AccessLists {
    /// Returns the permission bits by the entries of the owner, the owning group and others, without the mask.
    pub fn mode(&self) -> Option<u32> {
        let of = |who| self.access.iter().find(|entry| entry.who == who).map(|entry| entry.rights);
        Some(of(AccessTag::Owner)? << 6 | of(AccessTag::OwningGroup)? << 3 | of(AccessTag::Others)?)
    }
}
