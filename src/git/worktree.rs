//! Files of a working tree, reached without following symlinks below its top directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::io_failure;
use super::path::RepoPath;
use crate::failure::Failure;
use crate::host::fs::{Denial, Dir};

/// Distinguishes two states of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    pub fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Returns the state of what is at a path.
    ///
    /// # Errors
    /// Nothing is there, or it cannot be examined.
    pub fn at(path: &Path) -> Result<Self, Failure> {
        fs::symlink_metadata(path).map(|found| Self::of(&found)).map_err(io_failure("look at", path))
    }

    /// Whether a file is still in this state after it was renamed, which changes the ctime of its inode.
    pub fn was_renamed_to(self, now: Self) -> bool {
        self == Self { changed: self.changed, ..now }
    }
}

/// Returns what prevents the acting user from replacing or removing what is at these paths, or from creating it.
pub fn denials<'a>(top: &Path, paths: impl Iterator<Item = &'a RepoPath>) -> Result<Vec<Denial>, Failure> {
    let mut folders: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
    for path in paths {
        let mut at = top.join(path.as_path());
        while let Some(name) = at.file_name().map(OsStr::to_owned)
            && at.pop()
            && at.starts_with(top)
        {
            if fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
                folders.entry(at).or_default().insert(name);
                break;
            }
        }
    }
    let mut denials = Vec::new();
    for (folder, names) in folders {
        let folder = Dir::follow(&folder)?;
        if let Some(denial) = folder.entry_denial()? {
            denials.push(denial);
            continue;
        }
        for name in names {
            denials.extend(folder.removal_denial(&name)?);
        }
    }
    Ok(denials)
}

/// Returns the metadata of a path in the checkout. What is behind a symlink does not exist.
pub fn lstat_below(top: &Path, path: &RepoPath) -> Result<Option<Metadata>, Failure> {
    let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    for above in path.parents() {
        let at = top.join(above.as_path());
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(None),
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(io_failure("look at", &at)(error)),
        }
    }
    let at = top.join(path.as_path());
    match fs::symlink_metadata(&at) {
        Ok(found) => Ok(Some(found)),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(io_failure("look at", &at)(error)),
    }
}

/// Returns the mode that git gives a file, or `None` if git cannot store it. If the file system's executable bits mean
/// nothing, `like` is the mode to take it from.
pub fn mode_of(found: &Metadata, like: Option<u32>) -> Option<u32> {
    let kind = found.file_type();
    if kind.is_symlink() {
        Some(0o120_000)
    } else if kind.is_file() {
        match like {
            Some(mode) if mode & 0o170_000 == 0o100_000 => Some(mode),
            _ => Some(if found.mode() & 0o100 == 0 { 0o100_644 } else { 0o100_755 }),
        }
    } else {
        debug_assert!(
            kind.is_dir() || kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device()
        );
        None
    }
}

/// Removes the empty directories above `path`, as git does.
pub fn remove_empty_parents(top: &Path, path: &RepoPath) {
    let above: Vec<RepoPath> = path.parents().collect();
    for folder in above.iter().rev() {
        let plain = lstat_below(top, folder).ok().flatten().is_some_and(|found| found.is_dir());
        if plain && fs::remove_dir(top.join(folder.as_path())).is_err() {
            break;
        }
    }
}

/// Creates the directories above a path.
pub fn create_parents(top: &Path, path: &RepoPath) -> Result<(), Failure> {
    for above in path.parents() {
        let folder = top.join(above.as_path());
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(&folder).map_err(io_failure("look at", &folder))?;
                if !found.is_dir() {
                    return Err(changed(&folder));
                }
            }
            Err(error) => return Err(io_failure("create", &folder)(error)),
        }
    }
    Ok(())
}

/// Removes a directory that contains nothing but directories.
///
/// # Errors
/// It contains something else.
pub fn remove_empty(folder: &Path) -> Result<(), Failure> {
    let failed = io_failure("remove", folder);
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if !entry.file_type().map_err(&failed)?.is_dir() {
            return Err(changed(&entry.path()));
        }
        remove_empty(&entry.path())?;
    }
    fs::remove_dir(folder).map_err(failed)
}

/// Makes the failure for a file that changed after it was compared.
pub fn changed(path: &Path) -> Failure {
    Failure::new(format!("{} was changed meanwhile, and is left as it is", path.display())).hint("run again")
}
