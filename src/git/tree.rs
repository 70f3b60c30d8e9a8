//! Files in trees, and the differences between two trees.

use std::collections::BTreeMap;

use git2::{DiffOptions, ObjectType, Oid, Repository};

use super::path::RepoPath;
use crate::text::clean;

/// A file in a tree or index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    pub id: Oid,
    /// As git writes it: `0o100644`, `0o100755`, `0o120000`.
    pub mode: u32,
}

/// A path at which two trees differ.
#[derive(Debug, Clone)]
pub struct Entry {
    pub path: RepoPath,
    pub old: Option<Blob>,
    pub new: Option<Blob>,
    /// What the remote's branch had here when it was last fetched. An interrupted run may have written it; since the history of
    /// the new commit contains it, it may be overwritten.
    pub interim: Option<Blob>,
}

/// Returns the paths at which the tree of the commit `old` and the tree `new` differ. Without a commit, the old tree is empty.
pub fn entries(view: &Repository, old: Option<Oid>, new: Option<&git2::Tree<'_>>) -> Result<Vec<Entry>, git2::Error> {
    let old = old.map(|commit| view.find_commit(commit)?.tree()).transpose()?;
    let mut options = DiffOptions::new();
    options.include_typechange(true).ignore_submodules(false);
    let diff = view.diff_tree_to_tree(old.as_ref(), new, Some(&mut options))?;
    let mut entries: BTreeMap<RepoPath, Entry> = BTreeMap::new();
    for delta in diff.deltas() {
        for path in [delta.old_file().path_bytes(), delta.new_file().path_bytes()].into_iter().flatten() {
            let path = RepoPath::new(path);
            let in_tree = |tree: Option<&git2::Tree<'_>>| tree.and_then(|tree| blob_in(tree, &path));
            // Taken from the trees, since git2 cannot read historical modes in a diff.
            let (old, new) = (in_tree(old.as_ref()), in_tree(new));
            entries.insert(path.clone(), Entry { path, old, new, interim: None });
        }
    }
    Ok(entries.into_values().filter(|entry| entry.old != entry.new).collect())
}

/// Returns the mode as git normalises it (`canon_mode` in its object.h): of a file's mode only the owner's executable bit
/// counts. Old trees have others, such as `100664`.
pub fn normal_mode(mode: u32) -> u32 {
    match mode & 0o170_000 {
        0o100_000 if mode & 0o100 == 0 => 0o100_644,
        0o100_000 => 0o100_755,
        kind => kind,
    }
}

/// Returns what a tree has at a path, unless that is a directory.
pub fn blob_in(tree: &git2::Tree<'_>, path: &RepoPath) -> Option<Blob> {
    let entry = tree.get_path(path.as_path()).ok()?;
    let mode = normal_mode(u32::try_from(entry.filemode_raw()).ok()?);
    matches!(entry.kind(), Some(ObjectType::Blob | ObjectType::Commit)).then_some(Blob { id: entry.id(), mode })
}

/// Whether the object store has every file of a tree. Not recursive, since a hostile tree could overflow the stack.
pub fn is_whole(repo: &Repository, odb: &git2::Odb<'_>, tree: Oid) -> Result<bool, git2::Error> {
    let mut trees = vec![tree];
    while let Some(tree) = trees.pop() {
        for entry in &repo.find_tree(tree)? {
            match entry.kind() {
                Some(ObjectType::Tree) => trees.push(entry.id()),
                Some(ObjectType::Blob) if !odb.exists(entry.id()) => return Ok(false),
                _ => {}
            }
        }
    }
    Ok(true)
}

/// Returns the first line of a commit's message, safe for a terminal.
pub fn subject(commit: &git2::Commit<'_>) -> String {
    let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    clean(line).chars().take(72).collect()
}
