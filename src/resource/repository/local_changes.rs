//! What a person changed in a checkout and has not committed.

use git2::{Repository, Status, StatusOptions, StatusShow};

use super::actual::{LocalChange, LocalState};
use super::git_failure;
use super::path::RepoPath;
use crate::resource::Failure;

/// Every local change, as `git status` lists them; those in one folder are listed file by file. The index is not
/// refreshed on disk.
pub fn local_changes(repo: &Repository, folder: Option<&RepoPath>) -> Result<Vec<LocalChange>, Failure> {
    let mut options = StatusOptions::new();
    options.show(StatusShow::IndexAndWorkdir).include_untracked(true).update_index(false).exclude_submodules(true);
    if let Some(folder) = folder {
        options.pathspec(folder.bytes()).disable_pathspec_match(true).recurse_untracked_dirs(true);
    }
    let statuses = match repo.statuses(Some(&mut options)) {
        Ok(statuses) => statuses,
        // A directory of another user that cannot be read holds nothing that git knows.
        Err(_) => repo
            .statuses(Some(options.include_untracked(false)))
            .map_err(git_failure("list the local changes", repo.path()))?,
    };
    let mut changes: Vec<LocalChange> = statuses
        .iter()
        .filter_map(|entry| {
            let state = match entry.status() {
                status if status.intersects(Status::WT_TYPECHANGE | Status::INDEX_TYPECHANGE) => {
                    LocalState::TypeChanged
                }
                status if status.contains(Status::WT_DELETED) => LocalState::Deleted,
                status if status.intersects(Status::WT_MODIFIED | Status::WT_RENAMED) => LocalState::Modified,
                status if status.intersects(Status::INDEX_NEW | Status::INDEX_MODIFIED | Status::INDEX_DELETED) => {
                    LocalState::Staged
                }
                status if status.contains(Status::WT_NEW) => LocalState::Untracked,
                _ => return None,
            };
            Some(LocalChange { path: RepoPath::new(entry.path_bytes()), state })
        })
        .collect();
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}
