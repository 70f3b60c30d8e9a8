//! Puts a prepared file of the work area in its place: by one rename, or on another mount by a copy beside the place.
//!
//! A directory in a checkout can be a mount of its own, such as a volume for logs, and rename(2) does not move a file to another
//! mount. The name of the copy is recorded in the work area before it exists, so a later run finds what an interrupted one left.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use super::error::io_failure;
use super::worktree::Seen;
use crate::failure::Failure;
use crate::host::fs::temporary_name;

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
    let name = temporary_name(at.file_name().unwrap_or_default()).map_err(|errno| failed(errno.into()))?;
    let copy = at.with_file_name(name);
    let record = area.join(RECORD);
    symlink(&copy, &record).map_err(io_failure("create", &record))?;
    let copied = copy_to(new, &copy).map_err(&failed).and_then(|()| finish(&copy)).and_then(|()| {
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
    fs::remove_file(new).map_err(io_failure("remove", new))?;
    if let Some(folder) = at.parent() {
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_failure("sync", folder))?;
    }
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
    let found = fs::symlink_metadata(from)?;
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut fs::File::open(from)?, &mut file)?;
    match file.set_permissions(Permissions::from_mode(found.mode() & 0o7777)) {
        // The file system may have no modes.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        set => set?,
    }
    file.sync_all()
}
