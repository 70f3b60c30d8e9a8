//! Checks who a checkout belongs to, and who else can change what its path leads to.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::io_failure;
use super::obstacle::Obstacle;
use crate::failure::Failure;
use crate::host::fs::escape_path;
use crate::host::users::{acting_user, name_or_id};

/// Checks that the checkout belongs to the acting user: whoever can write to a repository can make git run programs.
pub fn check_ownership(top: &Path, git: &Path) -> Result<Option<Obstacle>, Failure> {
    if let Some(obstacle) = check_way_to(top, true)? {
        return Ok(Some(obstacle));
    }
    let found = fs::symlink_metadata(git).map_err(io_failure("look at", git))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(Some(Obstacle::NotOwned { owner: name_or_id(found.uid()), user: acting_user() }));
    }
    Ok((!found.is_dir()).then_some(Obstacle::SeparateGitDirectory))
}

/// As root, checks that nobody else can change what the path `folder` leads to. Other users may work below directories of
/// others. If the checkout is `folder` itself and not below it, only root may create files there: a sticky directory protects
/// only what exists.
pub fn check_way_to(folder: &Path, is_checkout: bool) -> Result<Option<Obstacle>, Failure> {
    let user = rustix::process::geteuid().as_raw();
    if user != 0 {
        return Ok(None);
    }
    let real = fs::canonicalize(folder).map_err(io_failure("look at", folder))?;
    for above in real.ancestors().chain(folder.ancestors()) {
        let found = fs::symlink_metadata(above).map_err(io_failure("look at", above))?;
        let is_sticky = found.mode() & 0o1000 != 0 && !(is_checkout && above == real);
        let open_to_others = !found.is_symlink() && found.mode() & 0o022 != 0 && !is_sticky;
        if above == real && found.uid() != 0 {
            return Ok(Some(Obstacle::NotOwned { owner: name_or_id(found.uid()), user: acting_user() }));
        }
        if found.uid() != 0 || open_to_others {
            return Ok(Some(Obstacle::Untrusted { path: escape_path(above), is_own: found.uid() == 0 }));
        }
    }
    Ok(None)
}
