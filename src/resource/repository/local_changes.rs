//! Uncommitted changes in a checkout.

use git2::{Repository, Status, StatusOptions, StatusShow};

use super::actual::{LocalChange, LocalState};
use crate::failure::Failure;
use crate::git::RepoPath;
use crate::git::error::git_failure;
use crate::git::tree::{Blob, blob_in, normal_mode};

/// Returns all local changes, as `git status` lists them, or those in one folder file by file. The index is not refreshed on
/// disk.
pub fn local_changes(repo: &Repository, folder: Option<&RepoPath>) -> Result<Vec<LocalChange>, Failure> {
    let mut options = StatusOptions::new();
    options.show(StatusShow::IndexAndWorkdir).include_untracked(true).update_index(false).exclude_submodules(true);
    if let Some(folder) = folder {
        options.pathspec(folder.bytes()).disable_pathspec_match(true).recurse_untracked_dirs(true);
    }
    let statuses = match repo.statuses(Some(&mut options)) {
        Ok(statuses) => statuses,
        // An untracked directory of another user may be unreadable.
        Err(_) => repo
            .statuses(Some(options.include_untracked(false)))
            .map_err(git_failure("list the local changes", repo.path()))?,
    };
    let head = repo.head().and_then(|head| head.peel_to_tree()).ok();
    let index = repo.index().map_err(git_failure("read the index", repo.path()))?;
    // A historical mode in HEAD's tree, which the index normalises, is not a change.
    let is_old_mode = |path: &RepoPath| {
        let staged =
            index.get_path(path.as_path(), 0).map(|entry| Blob { id: entry.id, mode: normal_mode(entry.mode) });
        staged.is_some() && staged == head.as_ref().and_then(|head| blob_in(head, path))
    };
    let mut changes: Vec<LocalChange> = statuses
        .iter()
        .filter(|entry| entry.status() != Status::INDEX_MODIFIED || !is_old_mode(&RepoPath::new(entry.path_bytes())))
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
            Some(LocalChange { path: RepoPath::new(entry.path_bytes()), state, private: false })
        })
        .collect();
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}
