//! Where a checkout stands before an update.

use git2::{ErrorCode, Oid};

use super::desired::Repository;
use crate::failure::Failure;
use crate::git::error::git_failure;
use crate::git::head::Head;
use crate::git::refs;
use crate::git::remote::configured;

/// Where a repository stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    pub head: Option<Oid>,
    pub detached: bool,
    /// The commit at the desired branch.
    pub branch: Option<Oid>,
    /// The commit at the remote's branch when it was last fetched.
    pub tracking: Option<Oid>,
    /// The commits that the remote's branch was at before, from the reflog of its remote-tracking branch.
    pub seen_at_remote: Vec<Oid>,
    /// The commits that were made in this repository, from HEAD's reflog.
    pub made_here: Vec<Oid>,
    /// The commits at the remote-tracking branches of all remotes.
    pub at_remotes: Vec<Oid>,
    /// The commits at all refs.
    pub tips: Vec<Oid>,
}

/// Reads the position of a repository.
pub fn position(repo: &git2::Repository, head: &Head, desired: &Repository) -> Result<Position, Failure> {
    let (top, branch) = (&desired.path, &desired.branch);
    let failed = git_failure("list the refs", top);
    let mut tips = Vec::new();
    for reference in repo.references().map_err(&failed)?.flatten() {
        if let Ok(commit) = reference.peel_to_commit() {
            tips.push(commit.id());
        }
    }
    tips.sort();
    tips.dedup();
    let branch = match repo.find_reference(&format!("refs/heads/{branch}")) {
        Ok(reference) => reference.target(),
        Err(error) if error.code() == ErrorCode::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let tracking = match configured::url(repo, &desired.remote) {
        Some(_) => configured::tracking(repo, &desired.remote, &desired.branch)?.into_iter().next(),
        None => None,
    };
    let seen_at_remote = tracking.as_ref().map(|tracking| refs::logged(repo, &tracking.name)).unwrap_or_default();
    let tracking = tracking.and_then(|tracking| repo.find_reference(&tracking.name).ok()?.target());
    let (made_here, at_remotes) = (refs::made_here(repo), refs::at_remotes(repo).map_err(&failed)?);
    let detached = head.branch.is_none();
    Ok(Position { head: head.commit, detached, branch, tracking, seen_at_remote, made_here, at_remotes, tips })
}
