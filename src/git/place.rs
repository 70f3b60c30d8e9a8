//! Puts a prepared file of the work area in its place: by one rename, or by a copy beside the place. A copy is needed on another
//! mount, and where the directory gives new files other rights than the work area.
//!
//! A directory in a checkout can be a mount of its own, such as a volume for logs, and rename(2) does not move a file to another
//! mount. The name of the copy is recorded in the work area before it exists, so a later run finds what an interrupted one left.

use std::ffi::CStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::io::Errno;

use super::error::io_failure;
use super::worktree::Seen;
use crate::failure::Failure;
use crate::host::fs::{ACL, DEFAULT_ACL, SET_GROUP_ID, temporary_name};

/// The symlink in the work area that leads to the copy.
const RECORD: &str = "beside";

/// Moves the prepared file or symlink `new` to `at`, and returns its state before that. `finish` sets the access rights of a copy;
/// the mode is already that of `new`.
///
/// # Errors
/// A system call fails. What is at `at` is as it was.
pub fn place(
    area: &Path,
    new: &Path,
    at: &Path,
    finish: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<Seen, Failure> {
    let failed = io_failure("write", at);
    let seen = Seen::at(new)?;
    match fs::rename(new, at) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        renamed => return renamed.map(|()| seen).map_err(failed),
    }
    let copied = copy_beside(area, at, |copy| {
        copy_to(new, copy).map_err(&failed)?;
        finish(copy)
    })?;
    fs::remove_file(new).map_err(io_failure("remove", new))?;
    if let Some(folder) = at.parent() {
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_failure("sync", folder))?;
    }
    Ok(copied)
}

/// Moves the prepared file or symlink `new` to `at` with the group and the access control list of one that is created there with
/// this mode, and returns its state before that. Only a copy on another mount is synced to disk.
///
/// # Errors
/// A system call fails. What is at `at` is as it was.
pub fn place_as_created(area: &Path, new: &Path, at: &Path, mode: u32) -> Result<Seen, Failure> {
    let failed = io_failure("write", at);
    if has_rights_of_created(new, at).map_err(&failed)? {
        return place(area, new, at, |_| Ok(()));
    }
    let copied = copy_beside(area, at, |copy| create(new, copy, mode).map(drop).map_err(&failed))?;
    fs::remove_file(new).map_err(io_failure("remove", new))?;
    Ok(copied)
}

/// Whether a prepared file has the group and the access control list of one that is created at `at`. The directory decides about
/// them: by its setgid bit (inode(7)), and by its list for new entries (acl(5)).
fn has_rights_of_created(new: &Path, at: &Path) -> io::Result<bool> {
    let Some(folder) = at.parent() else { return Ok(true) };
    let (found, holder) = (fs::symlink_metadata(new)?, fs::symlink_metadata(folder)?);
    let group = match holder.mode() & SET_GROUP_ID {
        0 => rustix::process::getegid().as_raw(),
        _ => holder.gid(),
    };
    // Without room for it, an existing list is reported by an error.
    let has_list = |path: &Path, name: &CStr| match rustix::fs::lgetxattr(path, name, &mut [0_u8; 1][..]) {
        Ok(size) => size > 0,
        Err(errno) => errno == Errno::RANGE,
    };
    Ok(found.gid() == group && (found.is_symlink() || !has_list(folder, DEFAULT_ACL) && !has_list(new, ACL)))
}

/// Makes a copy beside `at` and renames it to `at`. Returns the state of the copy before that.
fn copy_beside(area: &Path, at: &Path, make: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<Seen, Failure> {
    let failed = io_failure("write", at);
    let name = temporary_name(at.file_name().unwrap_or_default()).map_err(|errno| failed(errno.into()))?;
    let copy = at.with_file_name(name);
    let record = area.join(RECORD);
    symlink(&copy, &record).map_err(io_failure("create", &record))?;
    let copied = make(&copy).and_then(|()| {
        let seen = Seen::at(&copy)?;
        fs::rename(&copy, at).map_err(&failed)?;
        Ok(seen)
    });
    if copied.is_err() {
        // The first error is reported.
        let _ = remove_copy(area);
    }
    let seen = copied?;
    fs::remove_file(&record).map_err(io_failure("remove", &record))?;
    Ok(seen)
}

/// Removes the copy that an interrupted run left, and its record.
///
/// # Errors
/// A system call fails.
pub fn remove_copy(area: &Path) -> Result<(), Failure> {
    let record = area.join(RECORD);
    let Ok(copy) = fs::read_link(&record) else { return Ok(()) };
    match fs::remove_file(&copy) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(io_failure("remove", &copy)(error));
        }
        _ => {}
    }
    fs::remove_file(&record).map_err(io_failure("remove", &record))
}

/// Copies a file or symlink to a name that does not exist, and syncs it. Only the owner can read it before it has its mode.
fn copy_to(from: &Path, to: &Path) -> io::Result<()> {
    let Some(file) = create(from, to, 0o600)? else { return Ok(()) };
    match file.set_permissions(Permissions::from_mode(fs::symlink_metadata(from)?.mode() & 0o7777)) {
        // The file system may have no modes.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        set => set?,
    }
    file.sync_all()
}

/// Creates a copy of a file with a mode, or of a symlink. Returns the file.
fn create(from: &Path, to: &Path, mode: u32) -> io::Result<Option<fs::File>> {
    if fs::symlink_metadata(from)?.is_symlink() {
        return symlink(fs::read_link(from)?, to).map(|()| None);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    io::copy(&mut fs::File::open(from)?, &mut file)?;
    Ok(Some(file))
}
