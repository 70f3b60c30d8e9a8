//! What this process has just deployed. A change is verified by looking at the checkout: the remote was asked before it, and
//! asking again would only cost another connection.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use git2::Oid;

use super::change::RepositoryChange;

/// The commits by the path of their checkout.
type Commits = Mutex<HashMap<PathBuf, Oid>>;
static DEPLOYED: LazyLock<Commits> = LazyLock::new(Mutex::default);

/// Keeps the commit of a change that was made, for the next observation of its checkout.
pub fn keep(change: &RepositoryChange) {
    let (path, commit) = match change {
        RepositoryChange::Clone(clone) => (&clone.path, &clone.commit),
        RepositoryChange::Update(update) => (&update.path, &update.commit),
        RepositoryChange::RemoveLeftovers { .. } => return,
    };
    if let Ok(commit) = Oid::from_str(commit) {
        DEPLOYED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), commit);
    }
}

/// Returns the commit that was just deployed to a checkout, once.
pub fn take(path: &Path) -> Option<Oid> {
    DEPLOYED.lock().unwrap_or_else(PoisonError::into_inner).remove(path)
}
