//! Writes the index of an update. All other entries are kept as they are.

use std::collections::BTreeMap;
use std::path::Path;

use super::survey::Survey;
use crate::failure::Failure;
use crate::git::error::git_failure;
use crate::git::work_area::WorkArea;
use crate::git::worktree::{Seen, lstat_below};
use crate::git::{RepoPath, index};

/// Replaces the index of the checkout at `top`. The caller holds its lock, and the files are in place. `brought` are the files
/// that the update wrote. The entry of a file that somebody changed since makes git read it again.
pub fn replace(
    area: &WorkArea,
    top: &Path,
    survey: &Survey,
    brought: &BTreeMap<RepoPath, Seen>,
) -> Result<(), Failure> {
    let failed = git_failure("write the index", top);
    let mut new = index::copy(area, top)?;
    for path in survey.in_the_way.keys() {
        // Those that the target has are added below.
        index::remove(&mut new, path).map_err(&failed)?;
    }
    for item in &survey.items {
        match item.new {
            None => index::remove(&mut new, &item.path).map_err(&failed)?,
            Some(blob) => {
                let mut entry = index::entry(item.path.bytes(), blob.id, blob.mode);
                if let Some(found) = lstat_below(top, &item.path)? {
                    let now = Seen::of(&found);
                    let untouched = match brought.get(&item.path) {
                        Some(placed) => placed.was_renamed_to(now),
                        None => survey.seen.get(&item.path) == Some(&now),
                    };
                    if untouched {
                        index::fill(&mut entry, &found);
                    }
                }
                index::add(&mut new, &entry).map_err(&failed)?;
            }
        }
    }
    new.write().map_err(&failed)?;
    index::install(area, top)
}
