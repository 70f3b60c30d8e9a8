//! Uncommitted changes in a checkout.

use std::collections::BTreeSet;

use git2::{Index, IndexEntry, IndexEntryFlag, Repository, Status, StatusOptions, StatusShow, Statuses};

use super::actual::{LocalChange, LocalState};
use crate::failure::Failure;
use crate::git::RepoPath;
use crate::git::error::git_failure;
use crate::git::hash::Hasher;
use crate::git::index::{SKIP_WORKTREE, add};
use crate::git::open::open_repository;
use crate::git::tree::{Blob, blob_in, normal_mode};
use crate::git::unreadable;
use crate::git::worktree::lstat_below;

/// Returns all local changes, as `git status` lists them, or those in one folder file by file. The index is not refreshed on
/// disk.
pub fn local_changes(repo: &Repository, folder: Option<&RepoPath>) -> Result<Vec<LocalChange>, Failure> {
    let mut options = StatusOptions::new();
    options.show(StatusShow::IndexAndWorkdir).include_untracked(true).update_index(false).exclude_submodules(true);
    if let Some(folder) = folder {
        options.pathspec(folder.bytes()).disable_pathspec_match(true).recurse_untracked_dirs(true);
    }
    let (statuses, unread) = match repo.statuses(Some(&mut options)) {
        Ok(statuses) => (collect(&statuses), BTreeSet::new()),
        Err(_) => readable(repo, &mut options)?,
    };
    let head = repo.head().and_then(|head| head.peel_to_tree()).ok();
    let index = repo.index().map_err(git_failure("read the index", repo.path()))?;
    // A historical mode in HEAD's tree, which the index normalises, is not a change.
    let is_old_mode = |path: &RepoPath| {
        let staged =
            index.get_path(path.as_path(), 0).map(|entry| Blob { id: entry.id, mode: normal_mode(entry.mode) });
        staged.is_some() && staged == head.as_ref().and_then(|head| blob_in(head, path))
    };
    // libgit2 does not know the mark of files that are left out on purpose. To git such a file is unchanged, whatever is there,
    // but in a sparse checkout it ignores the mark of a file that is present.
    let is_sparse = repo.config().and_then(|config| config.get_bool("core.sparseCheckout")).unwrap_or(false);
    let top = repo.workdir().unwrap_or(repo.path());
    let is_present = |path: &RepoPath| matches!(lstat_below(top, path), Ok(Some(_)));
    let is_left_out = |path: &RepoPath| {
        index.get_path(path.as_path(), 0).is_some_and(|entry| entry.flags_extended & SKIP_WORKTREE != 0)
            && !(is_sparse && is_present(path))
    };
    let mut changes: Vec<LocalChange> = statuses
        .into_iter()
        .map(|(path, status)| {
            let of_work = Status::WT_DELETED | Status::WT_MODIFIED | Status::WT_TYPECHANGE | Status::WT_RENAMED;
            let status = if status.intersects(of_work) && is_left_out(&path) { status - of_work } else { status };
            (path, status)
        })
        .filter(|(path, status)| *status != Status::INDEX_MODIFIED || !is_old_mode(path))
        .filter(|(path, _)| !unread.contains(path))
        .filter_map(|(path, status)| {
            let state = match status {
                status if status.intersects(Status::WT_TYPECHANGE | Status::INDEX_TYPECHANGE) => {
                    LocalState::TypeChanged
                }
                status if status.contains(Status::WT_DELETED) => match unlisted(repo, &index, &path) {
                    Unlisted::Missing => LocalState::Deleted,
                    Unlisted::Unknown => LocalState::Unreadable,
                    Unlisted::Differs => LocalState::Modified,
                    Unlisted::Same => return None,
                },
                status if status.intersects(Status::WT_MODIFIED | Status::WT_RENAMED) => LocalState::Modified,
                status if status.intersects(Status::INDEX_NEW | Status::INDEX_MODIFIED | Status::INDEX_DELETED) => {
                    LocalState::Staged
                }
                status if status.contains(Status::WT_NEW) => LocalState::Untracked,
                _ => return None,
            };
            Some(LocalChange { path, state, private: false, lines: None })
        })
        .collect();
    let is_wanted = |path: &RepoPath| folder.is_none_or(|folder| path.is_under(folder));
    // libgit2 does not compare marked files.
    let marked = index.iter().filter(|entry| is_sparse && entry.flags_extended & SKIP_WORKTREE != 0);
    for path in marked.map(|entry| RepoPath::new(entry.path)).filter(is_wanted) {
        if is_present(&path)
            && !changes.iter().any(|change| change.path == path)
            && matches!(unlisted(repo, &index, &path), Unlisted::Differs)
        {
            changes.push(LocalChange { path, state: LocalState::Modified, private: false, lines: None });
        }
    }
    changes.extend(unread.into_iter().filter(is_wanted).map(|path| LocalChange {
        path,
        state: LocalState::Unreadable,
        private: false,
        lines: None,
    }));
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}

type Listed = Vec<(RepoPath, Status)>;

fn collect(statuses: &Statuses<'_>) -> Listed {
    statuses.iter().map(|entry| (RepoPath::new(entry.path_bytes()), entry.status())).collect()
}

/// Lists the local changes without the tracked files that the acting user may not read, at which libgit2 gives up. Returns these
/// too, of all folders.
fn readable(repo: &Repository, options: &mut StatusOptions) -> Result<(Listed, BTreeSet<RepoPath>), Failure> {
    let failed = git_failure("list the local changes", repo.path());
    let top = repo.workdir().unwrap_or(repo.path());
    let mut index = Index::open(&repo.path().join("index")).map_err(&failed)?;
    let is_unread = |entry: &IndexEntry| unreadable::in_working_tree(top, &RepoPath::new(entry.path.clone())).is_some();
    let entries: Vec<IndexEntry> = index.iter().filter(is_unread).collect();
    let mut unread = BTreeSet::new();
    for mut entry in entries {
        // The entry is kept: without it, libgit2 may list its directory as untracked.
        entry.flags |= IndexEntryFlag::VALID.bits();
        add(&mut index, &entry).map_err(&failed)?;
        unread.insert(RepoPath::new(entry.path));
    }
    let other = open_repository(top).map_err(&failed)?;
    other.set_index(&mut index).map_err(&failed)?;
    // The copy of the index is not read again from its file.
    options.no_refresh(true);
    let statuses = match other.statuses(Some(options)) {
        Ok(statuses) => statuses,
        // An untracked directory of another user may be unreadable.
        Err(_) => other.statuses(Some(options.include_untracked(false))).map_err(&failed)?,
    };
    Ok((collect(&statuses), unread))
}

/// A tracked file that libgit2 did not find, which may be because it could not list a directory.
enum Unlisted {
    Missing,
    /// It cannot be examined.
    Unknown,
    Differs,
    Same,
}

fn unlisted(repo: &Repository, index: &Index, path: &RepoPath) -> Unlisted {
    let top = repo.workdir().unwrap_or(repo.path());
    let Ok(found) = lstat_below(top, path) else { return Unlisted::Unknown };
    let Some(found) = found.filter(|found| !found.is_dir()) else { return Unlisted::Missing };
    let staged = index.get_path(path.as_path(), 0).map(|entry| Blob { id: entry.id, mode: normal_mode(entry.mode) });
    match Hasher::new(repo, top).map(|hasher| hasher.blob(path, &found, [staged, None])) {
        Ok(Ok(blob)) if blob == staged => Unlisted::Same,
        Ok(Ok(_)) => Unlisted::Differs,
        _ => Unlisted::Unknown,
    }
}
