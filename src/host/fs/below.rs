//! Files that are named by a path from a folder, and have to lie below it.

use std::path::{Path, PathBuf};

use super::access::{FileSeen, read_file};

/// Why a file below a folder was not read.
#[derive(Debug)]
pub enum NotRead {
    /// A symlink leads to this path, which is not below the folder.
    Outside(PathBuf),
    /// What the kernel says; `Other` for anything but a regular file, and for a larger one.
    Unreadable(std::io::Error),
}

/// Reads the regular file of at most `limit` bytes that `name` leads to from `folder`, a path without symlinks, and gives
/// its own path. For paths that are the starting user's own.
///
/// # Errors
/// It leads elsewhere, or cannot be read.
pub fn read_below(folder: &Path, name: &Path, limit: u64) -> Result<(PathBuf, FileSeen), NotRead> {
    let path = std::fs::canonicalize(folder.join(name)).map_err(NotRead::Unreadable)?;
    if !path.starts_with(folder) {
        return Err(NotRead::Outside(path));
    }
    let seen = read_file(&path, limit).map_err(NotRead::Unreadable)?;
    Ok((path, seen))
}

/// The names beside a path, for a hint: those that are UTF-8, or none if the directory cannot be listed.
pub fn names_beside(path: &Path) -> Vec<String> {
    let entries = path.parent().and_then(|parent| std::fs::read_dir(parent).ok()).into_iter().flatten();
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
