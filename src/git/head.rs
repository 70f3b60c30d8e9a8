//! Where a checkout stands: what HEAD names, and which git operation is in progress.

use std::path::Path;

use git2::{ErrorCode, Oid, Repository, RepositoryState};

use super::error::git_failure;
use crate::failure::Failure;

/// What HEAD names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `None` if HEAD is detached.
    pub branch: Option<String>,
    /// `None` before the first commit.
    pub commit: Option<Oid>,
}

/// Reads HEAD.
///
/// # Errors
/// The repository is broken.
pub fn read_head(repo: &Repository, top: &Path) -> Result<Head, Failure> {
    let failed = git_failure("read HEAD", top);
    let head = repo.find_reference("HEAD").map_err(&failed)?;
    let Ok(Some(name)) = head.symbolic_target() else {
        return Ok(Head { branch: None, commit: head.target() });
    };
    let Some(branch) = name.strip_prefix("refs/heads/") else {
        return Err(Failure::new(format!("HEAD in {} is {name}, which is not a branch", top.display())));
    };
    let commit = match repo.find_reference(name) {
        Ok(reference) => reference.target(),
        Err(error) if error.code() == ErrorCode::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    Ok(Head { branch: Some(branch.to_owned()), commit })
}

/// Returns the name of the operation that is in progress in the repository, if there is one.
pub fn operation(state: RepositoryState) -> Option<&'static str> {
    Some(match state {
        RepositoryState::Clean => return None,
        RepositoryState::Merge => "merge",
        RepositoryState::Revert | RepositoryState::RevertSequence => "revert",
        RepositoryState::CherryPick | RepositoryState::CherryPickSequence => "cherry-pick",
        RepositoryState::Bisect => "bisect",
        RepositoryState::Rebase | RepositoryState::RebaseInteractive | RepositoryState::RebaseMerge => "rebase",
        RepositoryState::ApplyMailbox | RepositoryState::ApplyMailboxOrRebase => "git am",
    })
}
