//! What restoring a rescue undoes: later commits in the paths that it replaces or stages again.

use std::path::Path;

use git2::Tree;

use super::opened::Opened;
use super::restore_plan::RestorePlan;
use crate::failure::Failure;
use crate::git::RepoPath;
use crate::git::error::git_failure;
use crate::git::pasted::git_with_paths;
use crate::git::tree::blob_in;
use crate::text::shell_word;

/// The maximum number of paths that a note names.
const NAMED: usize = 10;

/// Returns the names of the files that HEAD has changed since the rescue, if a restore writes or stages any.
pub fn names(found: &Opened<'_>, plan: &RestorePlan<'_>) -> Result<Option<String>, Failure> {
    Ok(named(&paths(found, plan)?))
}

fn paths(found: &Opened<'_>, plan: &RestorePlan<'_>) -> Result<Vec<RepoPath>, Failure> {
    let stashes = found.stashes()?;
    let Some(head) = head(found) else { return Ok(Vec::new()) };
    // A path is in one of the stashes. The others have the same base of it, or none.
    let base = |path: &RepoPath| stashes.iter().find_map(|stash| blob_in(&stash.base_tree, path));
    Ok(plan.paths().into_iter().filter(|path| blob_in(&head, path) != base(path)).collect())
}

fn head<'a>(found: &Opened<'a>) -> Option<Tree<'a>> {
    found.repo.head().ok().and_then(|head| head.peel_to_tree().ok())
}

fn named(paths: &[RepoPath]) -> Option<String> {
    let names: Vec<String> = paths.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if paths.len() > NAMED { format!(" and {} more", paths.len() - NAMED) } else { String::new() };
    (!names.is_empty()).then(|| format!("{}{more}", names.join(", ")))
}

/// Returns a note with the restored files that HEAD has changed since the rescue, and the command that shows the difference. If both
/// changes can be merged, another note has the command that merges them.
pub fn notes(found: &Opened<'_>, plan: &RestorePlan<'_>, top: &Path) -> Result<Vec<String>, Failure> {
    let failed = git_failure("compare the rescue with HEAD", top);
    let stashes = found.stashes()?;
    let undone = paths(found, plan)?;
    let (Some(head), Some(names)) = (head(found), named(&undone)) else { return Ok(Vec::new()) };
    let mut note = format!("this undoes what was committed since the rescue in {names}");
    // `git diff HEAD` skips files that are in neither HEAD nor the index.
    let is_staged = |path: &RepoPath| plan.staged.iter().any(|(staged, blob)| *staged == path && blob.is_some());
    let (compared, deleted): (Vec<RepoPath>, Vec<RepoPath>) =
        undone.into_iter().partition(|path| blob_in(&head, path).is_some() || is_staged(path));
    if !compared.is_empty() {
        let diff = if compared.len() <= NAMED {
            git_with_paths(top, "diff HEAD", &compared)
        } else {
            format!("git -C {} diff HEAD", shell_word(top))
        };
        note += &format!("; `{diff}` shows it");
    }
    if let Some(deleted) = named(&deleted) {
        note += &format!("; HEAD no longer has {deleted}");
    }
    let mut notes = vec![note];
    if let ([stash], Some(commit)) = (&stashes[..], &found.commit)
        && stash.untracked.is_none()
    {
        let merged = found.repo.merge_trees(&stash.base_tree, &head, &stash.work, None).map_err(failed)?;
        if !merged.has_conflicts()
            && let Some(command) = merge_command(&head, &stash.work, plan, top, &commit.id().to_string())
        {
            notes.push(format!("to have both, merge them: `{command}`"));
            return Ok(notes);
        }
    }
    notes.push("to have both, add what is missing by hand; `--to DIR` writes the rescued files elsewhere".to_owned());
    Ok(notes)
}

/// Returns the command that sets the restored paths to HEAD and merges the rescue into them. It changes nothing else. There is none
/// if something is staged that is not in the working tree, since git merges only the latter.
fn merge_command(head: &Tree<'_>, work: &Tree<'_>, plan: &RestorePlan<'_>, top: &Path, commit: &str) -> Option<String> {
    if plan.staged.iter().any(|(path, blob)| *blob != blob_in(work, path)) {
        return None;
    }
    let paths = plan.paths();
    let in_head: Vec<&RepoPath> = paths.iter().filter(|path| blob_in(head, path).is_some()).collect();
    let apply = format!("git -C {} stash apply -q {commit}", shell_word(top));
    if in_head.is_empty() {
        return Some(apply);
    }
    Some(format!("{} && {apply}", git_with_paths(top, "checkout -q HEAD", in_head)))
}
