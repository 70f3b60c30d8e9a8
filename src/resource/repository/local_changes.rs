//! What a person changed in a checkout and has not committed.

use git2::{Repository, Status, StatusOptions, StatusShow};

use super::actual::{LocalChange, LocalState};
use super::delta::{Blob, blob_in, usual};
use super::git_failure;
use super::path::RepoPath;
use crate::failure::Failure;

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
    let head = repo.head().and_then(|head| head.peel_to_tree()).ok();
    let index = repo.index().map_err(git_failure("read the index", repo.path()))?;
    // A mode of an old tree that the index holds as git writes it today is nobody's change.
    let is_old_mode = |path: &RepoPath| {
        let staged = index.get_path(path.as_path(), 0).map(|entry| Blob { id: entry.id, mode: usual(entry.mode) });
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
