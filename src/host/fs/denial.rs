//! Finds out whether the acting user can change what is at a path, and if not, why.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, OFlags, StatVfsMountFlags, Statx, StatxAttributes, StatxFlags, statx};
use rustix::io::{Errno, retry_on_intr};
use serde::{Deserialize, Serialize};

use super::descriptor::open_at;
use super::{Dir, Error, Stat, acting_ids, escape_path};
use crate::host::capabilities::{Capability, has_capability, is_confined_to_planning, missing_write_all};
use crate::host::users::{acting_user, as_root};
use crate::text::{path_of_name, shell_word};

const STICKY: u32 = 0o1000;
/// The types of proc(5) and sysfs(5), in which files can be neither created nor replaced (statfs(2)).
const KERNEL_FILE_SYSTEMS: [rustix::fs::FsWord; 2] = [0x9fa0, 0x6265_6572];
const ROOT: &str = "root";

/// Why something cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Denial {
    /// The file system is mounted read-only (EROFS).
    ReadOnly { mount: String },
    /// `chattr +i`: not even root can change it.
    Immutable { path: String },
    /// `chattr +a`: not even root can change or replace it.
    AppendOnly { path: String },
    /// Something is mounted at the path, so it cannot be replaced (EBUSY).
    MountPoint { path: String },
    /// The acting user may not create entries in the directory (EACCES).
    NotWritable {
        user: String,
        dir: String,
        /// The capability that root lacks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacks: Option<Capability>,
    },
    /// The directory is sticky, and both it and the entry belong to others (EPERM).
    Sticky { path: String },
    /// The parent that is missing belongs to the tree of another step, and the acting user cannot give it the tree's owner or group.
    InTree {
        user: String,
        parent: String,
        attribute: String,
        /// The capability that root lacks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacks: Option<Capability>,
    },
    /// The kernel makes all entries of the file system itself (proc(5), sysfs(5)).
    OfKernel { path: String },
    /// Another error of the kernel.
    Other { path: String, error: String },
}

impl Denial {
    /// Whether it prevents everybody from changing owner and mode too, not only from replacing the file.
    pub fn is_of_the_file(&self) -> bool {
        matches!(self, Self::ReadOnly { .. } | Self::Immutable { .. } | Self::AppendOnly { .. } | Self::OfKernel { .. })
    }

    /// Returns the reason, which completes "cannot …: ".
    pub fn reason(&self) -> String {
        match self {
            Self::ReadOnly { mount } => format!("{mount} is mounted read-only"),
            Self::Immutable { path } => format!("{path} is immutable (lsattr)"),
            Self::AppendOnly { path } => format!("{path} is append-only (lsattr)"),
            Self::MountPoint { path } => {
                format!("{path} is a mount point, as a container's volume of a single file is, and cannot be replaced")
            }
            Self::NotWritable { user, dir, .. } => format!("{user} may not write to {dir}"),
            Self::Sticky { path } => {
                format!("{path} belongs to another user, and only owners may replace files in its directory (sticky)")
            }
            Self::InTree { user, parent, attribute, .. } => {
                format!(
                    "{parent} is missing and would be created in the tree of another step, and {user} cannot give it {attribute}"
                )
            }
            Self::OfKernel { path } => {
                format!("{path} is on a file system of the kernel, where no files can be created")
            }
            Self::Other { path, error } => format!("{path}: {error}"),
        }
    }

    /// Returns the remedy, as a command if possible.
    pub fn hint(&self) -> String {
        let word = |path: &str| shell_word(path_of_name(path));
        match self {
            Self::ReadOnly { mount } => format!(
                "make it writable: `{}`; in a systemd unit with ProtectSystem=, name it in ReadWritePaths=",
                as_root(&format!("mount -o remount,rw {}", word(mount)))
            ),
            Self::Immutable { path } => format!("remove the flag: `{}`", as_root(&format!("chattr -i {}", word(path)))),
            Self::AppendOnly { path } => {
                format!("remove the flag: `{}`", as_root(&format!("chattr -a {}", word(path))))
            }
            Self::MountPoint { path } => {
                format!("change the file that is mounted there instead (`findmnt {}`), or unmount it", word(path))
            }
            Self::NotWritable { lacks: Some(capability), .. } => capability.hint(),
            Self::NotWritable { user, dir, .. } if user == ROOT => {
                format!("root was denied it: on NFS with root_squash, change {} on the server", word(dir))
            }
            Self::NotWritable { .. } => "set run_as: root on the step, or the user that owns the directory".to_owned(),
            Self::InTree { lacks: Some(capability), .. } => capability.hint(),
            Self::InTree { parent, .. } => {
                format!(
                    "add a `directory` step for {} that acts as root, or set run_as: root on this step",
                    word(parent)
                )
            }
            Self::Sticky { .. } => "set run_as: root on the step, or the user that owns the file".to_owned(),
            Self::OfKernel { path } if Path::new(path).starts_with("/proc/sys") => {
                format!("write the setting to a file in /etc/sysctl.d, and load it: `{}`", as_root("sysctl --system"))
            }
            Self::OfKernel { .. } => "give a path on another file system".to_owned(),
            Self::Other { path, .. } => format!("see what kind of file system that is: `findmnt -T {}`", word(path)),
        }
    }
}

impl Dir {
    /// Returns what prevents the acting user from creating and renaming entries here.
    ///
    /// # Errors
    /// The directory itself cannot be examined.
    pub fn entry_denial(&self) -> Result<Option<Denial>, Error> {
        let dir = || escape_path(self.path());
        if let Some(denial) = self.found_self()?.denial() {
            return Ok(Some(denial));
        }
        let system =
            retry_on_intr(|| rustix::fs::fstatfs(self)).map_err(|errno| Error::call("look at", self.path(), errno))?;
        if KERNEL_FILE_SYSTEMS.contains(&system.f_type) {
            return Ok(Some(Denial::OfKernel { path: dir() }));
        }
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        Ok(match retry_on_intr(|| rustix::fs::accessat(self, ".", wanted, AtFlags::EACCESS)) {
            Ok(()) => None,
            Err(Errno::ACCESS) if is_confined_to_planning() => None,
            Err(Errno::ACCESS) => {
                Some(Denial::NotWritable { user: acting_user(), dir: dir(), lacks: missing_write_all() })
            }
            Err(Errno::ROFS) => Some(Denial::ReadOnly { mount: dir() }),
            Err(errno) => Some(Denial::Other { path: dir(), error: crate::text::io_error_text(&errno.into()) }),
        })
    }

    /// Returns what prevents the acting user from replacing the file `name`, which is the inode `seen`.
    ///
    /// # Errors
    /// The entry itself cannot be examined.
    pub fn replace_denial(&self, name: &OsStr, seen: &Stat) -> Result<Option<Denial>, Error> {
        let found = self.found(name)?;
        if let Some(denial) = found.mounted() {
            return Ok(Some(denial));
        }
        if let Some(denial) = self.entry_denial()?.or_else(|| found.denial()) {
            return Ok(Some(denial));
        }
        self.sticky_denial(&found, seen.uid)
    }

    /// Returns what prevents the acting user from replacing or removing what exists at `name`, apart from what
    /// [`Dir::entry_denial`] finds. Nothing prevents it if nothing is there.
    ///
    /// # Errors
    /// The entry itself cannot be examined.
    pub fn removal_denial(&self, name: &OsStr) -> Result<Option<Denial>, Error> {
        let found = match self.found(name) {
            Err(error) if error.is_missing() => return Ok(None),
            found => found?,
        };
        match found.mounted().or_else(|| found.denial()) {
            Some(denial) => Ok(Some(denial)),
            None => self.sticky_denial(&found, found.stat.stx_uid),
        }
    }

    /// Returns what prevents the acting user from appending to the file `name`.
    ///
    /// # Errors
    /// The entry itself cannot be examined.
    pub fn append_denial(&self, name: &OsStr) -> Result<Option<Denial>, Error> {
        let found = self.found(name)?;
        if let Some(denial) = found.denial().filter(|denial| !matches!(denial, Denial::AppendOnly { .. })) {
            return Ok(Some(denial));
        }
        let path = escape_path(&found.path);
        Ok(
            match retry_on_intr(|| {
                rustix::fs::accessat(self, name, Access::WRITE_OK | Access::READ_OK, AtFlags::EACCESS)
            }) {
                Ok(()) => None,
                Err(Errno::ACCESS) if is_confined_to_planning() => None,
                Err(Errno::ACCESS) => {
                    Some(Denial::NotWritable { user: acting_user(), dir: path, lacks: missing_write_all() })
                }
                Err(errno) => Some(Denial::Other { path, error: crate::text::io_error_text(&errno.into()) }),
            },
        )
    }

    fn sticky_denial(&self, found: &Found, owner: u32) -> Result<Option<Denial>, Error> {
        let holder = self.stat_self()?;
        let (uid, _) = acting_ids();
        let is_denied =
            holder.mode & STICKY != 0 && uid != owner && uid != holder.uid && !has_capability(Capability::FileOwner);
        Ok(is_denied.then(|| Denial::Sticky { path: escape_path(&found.path) }))
    }

    /// Returns what prevents everybody from changing owner and mode of `name`.
    ///
    /// # Errors
    /// The entry itself cannot be examined.
    pub fn attribute_denial(&self, name: &OsStr) -> Result<Option<Denial>, Error> {
        Ok(self.found(name)?.denial())
    }

    /// Returns the mount of this directory if it is read-only.
    ///
    /// # Errors
    /// The directory itself cannot be examined.
    pub fn read_only_mount(&self) -> Result<Option<Denial>, Error> {
        Ok(self.found_self()?.read_only())
    }

    fn found(&self, name: &OsStr) -> Result<Found, Error> {
        let path = self.path_of(name);
        let fd = open_at(self, name, OFlags::PATH | OFlags::NOFOLLOW);
        let fd = fd.map_err(|errno| Error::call("look at", &path, errno))?;
        Found::by(&fd, path)
    }

    fn found_self(&self) -> Result<Found, Error> {
        Found::by(self, self.path().to_owned())
    }
}

/// What is at a path.
struct Found {
    stat: Statx,
    is_read_only: bool,
    path: PathBuf,
}

impl Found {
    fn by(fd: impl AsFd, path: PathBuf) -> Result<Self, Error> {
        let look = || {
            let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
            let stat = retry_on_intr(|| statx(&fd, "", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, wanted))?;
            let flags = retry_on_intr(|| rustix::fs::fstatvfs(&fd))?.f_flag;
            Ok((stat, flags.contains(StatVfsMountFlags::RDONLY)))
        };
        let (stat, is_read_only) = look().map_err(|errno| Error::call("look at", &path, errno))?;
        Ok(Self { stat, is_read_only, path })
    }

    fn read_only(&self) -> Option<Denial> {
        let mount = || mount_point(self.stat.stx_mnt_id).unwrap_or_else(|| escape_path(&self.path));
        self.is_read_only.then(|| Denial::ReadOnly { mount: mount() })
    }

    /// Returns the mount at the path itself.
    fn mounted(&self) -> Option<Denial> {
        self.has(StatxAttributes::MOUNT_ROOT).then(|| Denial::MountPoint { path: escape_path(&self.path) })
    }

    /// Returns what prevents everybody from changing the inode.
    fn denial(&self) -> Option<Denial> {
        let path = || escape_path(&self.path);
        self.read_only().or_else(|| {
            if self.has(StatxAttributes::IMMUTABLE) {
                Some(Denial::Immutable { path: path() })
            } else {
                self.has(StatxAttributes::APPEND).then(|| Denial::AppendOnly { path: path() })
            }
        })
    }

    fn has(&self, attribute: StatxAttributes) -> bool {
        self.stat.stx_attributes.contains(attribute)
    }
}

/// Returns the path of a mount by its number, for a message (proc_pid_mountinfo(5)).
fn mount_point(id: u64) -> Option<String> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    let table = String::from_utf8_lossy(&table);
    let line = table.lines().find(|line| line.split(' ').next().and_then(|field| field.parse().ok()) == Some(id))?;
    let escaped = line.split(' ').nth(4)?;
    // Spaces, tabs, newlines and backslashes are in octal.
    let plain = escaped.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    Some(escape_path(Path::new(&plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hint is written by the process that plans, which may be root, and not by the worker of the user.
    #[test]
    fn the_hint_for_a_tree_is_for_the_user_of_the_step() {
        let denial = |user: &str, lacks| Denial::InTree {
            user: user.to_owned(),
            parent: "/srv/app".to_owned(),
            attribute: "owner root (0)".to_owned(),
            lacks,
        };
        let hint = "add a `directory` step for /srv/app that acts as root, or set run_as: root on this step";
        assert_eq!(denial("eva", None).hint(), hint);
        assert!(denial("root", Some(Capability::ChangeOwner)).hint().contains("CAP_CHOWN"));
    }
}
