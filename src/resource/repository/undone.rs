//! What restoring a rescue undoes: later commits in the files that it replaces.

use std::path::Path;

use super::opened::Opened;
use super::restore_plan::RestorePlan;
use crate::failure::Failure;
use crate::git::RepoPath;
use crate::git::error::git_failure;
use crate::git::tree::blob_in;
use crate::text::shell_word;

/// The maximum number of paths that a note names.
const NAMED: usize = 10;

/// Returns a note with the restored files that HEAD has changed since the rescue, and the command that shows the difference. If both
/// changes can be merged, another note has the command that merges them.
pub fn notes(found: &Opened<'_>, plan: &RestorePlan<'_>, top: &Path) -> Result<Vec<String>, Failure> {
    let failed = git_failure("compare the rescue with HEAD", top);
    let stashes = found.stashes()?;
    let Some(head) = found.repo.head().ok().and_then(|head| head.peel_to_tree().ok()) else { return Ok(Vec::new()) };
    // A path is in one of the stashes. The others have the same base of it, or none.
    let base = |path: &RepoPath| stashes.iter().find_map(|stash| blob_in(&stash.base_tree, path));
    let changed = |path: &&RepoPath| blob_in(&head, path) != base(path);
    let undone: Vec<&RepoPath> = plan.changed().filter(changed).collect();
    if undone.is_empty() {
        return Ok(Vec::new());
    }
    let git = format!("git -C {}", shell_word(&top.to_string_lossy()));
    let words =
        |paths: &[&RepoPath]| paths.iter().map(|path| shell_word(&path.to_string())).collect::<Vec<_>>().join(" ");
    let names: Vec<String> = undone.iter().take(NAMED).map(|path| path.to_string()).collect();
    let more = if undone.len() > NAMED { format!(" and {} more", undone.len() - NAMED) } else { String::new() };
    let shown = if undone.len() > NAMED { String::new() } else { format!(" -- {}", words(&undone)) };
    let mut notes = vec![format!(
        "this undoes what was committed since the rescue in {}{more}; `{git} diff{shown}` shows it",
        names.join(", ")
    )];
    if let ([stash], Some(commit)) = (&stashes[..], &found.commit)
        && stash.untracked.is_none()
    {
        let merged = found.repo.merge_trees(&stash.base_tree, &head, &stash.work, None).map_err(failed)?;
        if !merged.has_conflicts() {
            let tracked: Vec<&RepoPath> = plan.changed().filter(|path| blob_in(&head, path).is_some()).collect();
            notes.push(format!(
                "to have both, merge them: `{git} checkout -q HEAD -- {} && {git} stash apply -q {}`",
                words(&tracked),
                commit.id()
            ));
            return Ok(notes);
        }
    }
    notes.push("to have both, add what is missing by hand; `--to DIR` writes the rescued files elsewhere".to_owned());
    Ok(notes)
}
