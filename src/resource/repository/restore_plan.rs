//! Decides what a restore has to write, and checks that nothing newer would be lost. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use git2::{Repository, Tree};

use super::in_the_way::{self, Newer};
use super::opened::RescueContents;
use crate::failure::Failure;
use crate::git::error::{git_failure, io_failure};
use crate::git::hash::{Hasher, raw_id};
use crate::git::index::{self, below, by_path, unmerged};
use crate::git::tree::{Blob, blob_in};
use crate::git::worktree::{Seen, changed, denials, lstat_below, mode_of};
use crate::git::{Obstacle, RepoPath};
use crate::host::fs::Denial;

/// The state of a path in the working tree when it was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    Nothing,
    /// A file or symbolic link.
    File(Seen),
    Directory,
    /// A FIFO, socket or device.
    Special,
}

impl PathState {
    fn at(top: &Path, path: &RepoPath) -> Result<(Self, Option<fs::Metadata>), Failure> {
        let found = lstat_below(top, path)?;
        let there = match &found {
            None => Self::Nothing,
            Some(found) if found.is_dir() => Self::Directory,
            Some(found) if mode_of(found, None).is_some() => Self::File(Seen::of(found)),
            Some(_) => Self::Special,
        };
        Ok((there, found))
    }

    /// Fails if the path changed after it was compared.
    pub fn check_unchanged(self, top: &Path, path: &RepoPath) -> Result<(), Failure> {
        let (now, _) = Self::at(top, path)?;
        // An empty directory is removed with its last file. Whether it is empty shows when it is removed.
        let same = now == self || (self, now) == (Self::Directory, Self::Nothing);
        // What is behind a symlink was not compared.
        let hidden = now == Self::Nothing && fs::symlink_metadata(top.join(path.as_path())).is_ok();
        if same && !hidden { Ok(()) } else { Err(changed(&top.join(path.as_path()))) }
    }
}

/// What differs from the rescue.
pub struct RestorePlan<'a> {
    files: BTreeMap<&'a RepoPath, (Option<Blob>, PathState)>,
    /// The entries of the index to write or to remove.
    pub staged: Vec<(&'a RepoPath, Option<Blob>)>,
}

impl<'a> RestorePlan<'a> {
    /// Compares the checkout with a rescue. `claimed` are the paths that other steps manage, with the step's id.
    ///
    /// # Errors
    /// Newer work would be replaced, or the acting user cannot write. The failure names all paths.
    pub fn find(
        repo: &Repository,
        top: &Path,
        held: &'a RescueContents,
        claimed: &[(PathBuf, String)],
    ) -> Result<Self, Failure> {
        let index = index::read(repo)?;
        if let Some(path) = unmerged(&index) {
            return Err(Obstacle::Unmerged { path }.refusal(top));
        }
        let head = repo.head().and_then(|head| head.peel_to_tree()).ok();
        let comparison = Comparison { repo, top, index: by_path(&index), head };
        let mut plan = Self { files: BTreeMap::new(), staged: Vec::new() };
        let mut newer = Vec::new();
        comparison.compare_files(held, &mut plan, &mut newer)?;
        let inside = comparison.check_places(&plan, &mut newer)?;
        comparison.compare_index(held, &mut plan, &mut newer);
        if !newer.is_empty() {
            return Err(in_the_way::failure(top, held, comparison.head.as_ref(), &newer, claimed));
        }
        match denials(top, plan.files.keys().copied().chain(&inside))?.first() {
            Some(Denial::NotWritable { dir, .. }) => Err(Failure::new(format!(
                "nothing was restored: files in {dir} have to change, and this user cannot write there"
            ))
            .hint("run it as the checkout's owner, or give the directory back to that user")),
            Some(denial) => Err(Failure::new(format!("nothing was restored: {}", denial.reason())).hint(denial.hint())),
            None => Ok(plan),
        }
    }

    /// Returns the files to remove.
    pub fn removed(&self) -> impl DoubleEndedIterator<Item = (&'a RepoPath, PathState)> + '_ {
        self.files.iter().filter(|(_, (blob, _))| blob.is_none()).map(|(path, (_, there))| (*path, *there))
    }

    /// Returns the files to write.
    pub fn written(&self) -> impl Iterator<Item = (&'a RepoPath, Blob, PathState)> + '_ {
        self.files.iter().filter_map(|(path, (blob, there))| Some((*path, (*blob)?, *there)))
    }

    /// Returns all paths, in order.
    pub fn paths(&self) -> Vec<RepoPath> {
        let staged = self.staged.iter().map(|(path, _)| *path);
        let paths: BTreeSet<&RepoPath> = self.files.keys().copied().chain(staged).collect();
        paths.into_iter().cloned().collect()
    }
}

/// A checkout that is compared with a rescue.
struct Comparison<'a> {
    repo: &'a Repository,
    top: &'a Path,
    index: BTreeMap<RepoPath, Blob>,
    head: Option<Tree<'a>>,
}

impl Comparison<'_> {
    fn in_head(&self, path: &RepoPath) -> Option<Blob> {
        self.head.as_ref().and_then(|head| blob_in(head, path))
    }

    /// Plans to replace files that differ from the rescue and equal HEAD. Others are newer.
    fn compare_files<'h>(
        &self,
        held: &'h RescueContents,
        plan: &mut RestorePlan<'h>,
        newer: &mut Vec<Newer<'h>>,
    ) -> Result<(), Failure> {
        let hasher = Hasher::new(self.repo, self.top).map_err(git_failure("compare with the rescue", self.top))?;
        for (path, blob) in &held.files {
            let (there, found) = PathState::at(self.top, path)?;
            let free = match (there, &found, blob) {
                // The file does not exist, as in the rescue.
                (PathState::Nothing | PathState::Directory, _, None) => continue,
                (PathState::Nothing | PathState::Directory, _, Some(_)) => true,
                (PathState::File(_), Some(found), blob) => {
                    let mode = mode_of(found, blob.map(|blob| blob.mode).filter(|_| !hasher.trusts_modes));
                    if let (Some(blob), Some(mode)) = (blob, mode)
                        && (Blob { id: raw_id(&self.top.join(path.as_path()), mode)?, mode }) == *blob
                    {
                        continue;
                    }
                    // Not by libgit2's status, which trusts marks such as skip-worktree.
                    let current = hasher.blob(path, found, [self.in_head(path), None])?;
                    current.is_some() && current == self.in_head(path)
                }
                _ => false,
            };
            if free {
                plan.files.insert(path, (*blob, there));
            } else {
                newer.push(Newer { path, staged: false });
            }
        }
        Ok(())
    }

    /// Checks that each file can be written to its place. Returns what is in the directories that a file replaces.
    fn check_places<'h>(&self, plan: &RestorePlan<'h>, newer: &mut Vec<Newer<'h>>) -> Result<Vec<RepoPath>, Failure> {
        let removed: BTreeSet<&RepoPath> = plan.removed().map(|(path, _)| path).collect();
        let mut inside = Vec::new();
        for (path, _, there) in plan.written() {
            let blocked = path.parents().any(|above| {
                let at = self.top.join(above.as_path());
                let found = fs::symlink_metadata(&at);
                (found.is_ok_and(|found| !found.is_dir()) && !removed.contains(&above))
                    || fs::symlink_metadata(at.join(".git")).is_ok()
            });
            if blocked || (there == PathState::Directory && !is_all_removed(self.top, path, &removed, &mut inside)?) {
                newer.push(Newer { path, staged: false });
            }
        }
        Ok(inside)
    }

    /// Plans to stage again what was staged, if the index equals HEAD and has nothing that conflicts with it.
    fn compare_index<'h>(&self, held: &'h RescueContents, plan: &mut RestorePlan<'h>, newer: &mut Vec<Newer<'h>>) {
        let removed = |name: &RepoPath| held.staged.get(name) == Some(&None);
        for (path, blob) in &held.staged {
            let current = self.index.get(path).copied();
            if current == *blob {
                continue;
            }
            let mut above = path.parents().filter(|name| self.index.contains_key(name));
            let alone = blob.is_none() || (below(&self.index, path).all(removed) && above.all(|name| removed(&name)));
            if current == self.in_head(path) && alone {
                plan.staged.push((path, *blob));
            } else {
                newer.push(Newer { path, staged: true });
            }
        }
    }
}

/// Whether a directory contains only directories and files that are removed. Adds its contents to `inside`.
fn is_all_removed(
    top: &Path,
    folder: &RepoPath,
    removed: &BTreeSet<&RepoPath>,
    inside: &mut Vec<RepoPath>,
) -> Result<bool, Failure> {
    let at = top.join(folder.as_path());
    let failed = io_failure("read the directory", &at);
    for entry in fs::read_dir(&at).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let name = folder.child(&entry.file_name());
        let is_dir = entry.file_type().map_err(&failed)?.is_dir();
        if !(if is_dir { is_all_removed(top, &name, removed, inside)? } else { removed.contains(&name) }) {
            return Ok(false);
        }
        inside.push(name);
    }
    Ok(true)
}
