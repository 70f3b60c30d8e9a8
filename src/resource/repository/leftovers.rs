//! What an interrupted run left in a checkout, or in place of one.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::git::error::io_failure;
use crate::git::work_area::{Leftover, WorkArea, leftover, lock_directory};

/// The name of a git directory that is being cloned.
pub const UNFINISHED: &str = ".provision-clone";

/// Removes what an interrupted run left in the checkout at `top`.
pub fn remove(top: &Path) -> Result<(), Failure> {
    remove_unfinished_clone(top)?;
    WorkArea::enter(&top.join(".git"))?.leave()
}

/// Empties the unfinished git directory of an interrupted run.
fn clear(at: &Path) -> Result<(), Failure> {
    let failed = io_failure("clear", at);
    for entry in fs::read_dir(at).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if entry.file_type().map_err(&failed)?.is_dir() {
            fs::remove_dir_all(entry.path()).map_err(&failed)?;
        } else {
            fs::remove_file(entry.path()).map_err(&failed)?;
        }
    }
    Ok(())
}

/// Removes the unfinished git directory of an interrupted run, if there is one.
pub fn remove_unfinished_clone(top: &Path) -> Result<(), Failure> {
    let at = top.join(UNFINISHED);
    if leftover(&at)? == Leftover::Nothing {
        return Ok(());
    }
    let _alive = lock_directory(&at, 0o700)?;
    clear(&at)?;
    fs::remove_dir(&at).map_err(io_failure("remove", &at))
}
