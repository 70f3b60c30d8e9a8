//! What the restoring of a rescue has to write, after a look that nothing newer would be lost. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use git2::{Repository, Tree};

use super::actual::Obstacle;
use super::delta::{Blob, blob_in};
use super::observe::unmerged;
use super::opened::RescueContents;
use super::path::RepoPath;
use super::survey::{Hasher, Seen, below, index_entries, lstat_below, mode_of, raw_id, unwritable};
use super::{git_failure, in_the_way, index_file, io_failure, move_files};
use crate::failure::Failure;

/// What a path of the working tree was when it was compared.
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

    /// Fails where the path is not as it was when it was compared.
    pub fn still(self, top: &Path, path: &RepoPath) -> Result<(), Failure> {
        let (now, _) = Self::at(top, path)?;
        // An empty directory goes with the last file in it; whether one is empty is for its removal to find out.
        let same = now == self || (self, now) == (Self::Directory, Self::Nothing);
        // What is behind a link was not looked at.
        let hidden = now == Self::Nothing && fs::symlink_metadata(top.join(path.as_path())).is_ok();
        if same && !hidden { Ok(()) } else { Err(move_files::changed(&top.join(path.as_path()))) }
    }
}

/// What is not as the rescue has it.
pub struct RestorePlan<'a> {
    files: BTreeMap<&'a RepoPath, (Option<Blob>, PathState)>,
    /// The index's entries to write, or to remove.
    pub staged: Vec<(&'a RepoPath, Option<Blob>)>,
}

impl<'a> RestorePlan<'a> {
    /// Compares; where newer work would be replaced, or could not be, it fails with all the paths.
    ///
    /// `claimed` are the paths that other steps see to, with the step's id.
    pub fn find(
        repo: &Repository,
        top: &Path,
        held: &'a RescueContents,
        claimed: &[(PathBuf, String)],
    ) -> Result<Self, Failure> {
        let index = index_file::read(repo)?;
        if let Some(path) = unmerged(&index) {
            return Err(Obstacle::Unmerged { path }.refusal(top));
        }
        let head = repo.head().and_then(|head| head.peel_to_tree()).ok();
        let cx = ObserveContext { repo, top, index: index_entries(&index), head };
        let mut todo = Self { files: BTreeMap::new(), staged: Vec::new() };
        let mut newer = Vec::new();
        cx.compare_files(held, &mut todo, &mut newer)?;
        let inside = cx.check_places(&todo, &mut newer)?;
        cx.compare_index(held, &mut todo, &mut newer);
        if !newer.is_empty() {
            return Err(in_the_way::failure(top, held, &newer, claimed));
        }
        match unwritable(top, todo.files.keys().copied().chain(&inside)).first() {
            Some(folder) => Err(Failure::new(format!(
                "nothing was restored: files in {} have to change, and this user cannot write there",
                folder.display()
            ))
            .hint("run it as the checkout's owner, or give the directory back to that user")),
            None => Ok(todo),
        }
    }

    /// The files to remove.
    pub fn removed(&self) -> impl DoubleEndedIterator<Item = (&'a RepoPath, PathState)> + '_ {
        self.files.iter().filter(|(_, (blob, _))| blob.is_none()).map(|(path, (_, there))| (*path, *there))
    }

    /// The files to write.
    pub fn written(&self) -> impl Iterator<Item = (&'a RepoPath, Blob, PathState)> + '_ {
        self.files.iter().filter_map(|(path, (blob, there))| Some((*path, (*blob)?, *there)))
    }

    /// All the paths, in order.
    pub fn paths(&self) -> Vec<RepoPath> {
        let staged = self.staged.iter().map(|(path, _)| *path);
        let paths: BTreeSet<&RepoPath> = self.files.keys().copied().chain(staged).collect();
        paths.into_iter().cloned().collect()
    }
}

/// What the rescue is compared with.
struct ObserveContext<'a> {
    repo: &'a Repository,
    top: &'a Path,
    index: BTreeMap<RepoPath, Blob>,
    head: Option<Tree<'a>>,
}

impl ObserveContext<'_> {
    fn in_head(&self, path: &RepoPath) -> Option<Blob> {
        self.head.as_ref().and_then(|head| blob_in(head, path))
    }

    /// Files that are not as the rescue has them are replaced where HEAD has what is there.
    fn compare_files<'h>(
        &self,
        held: &'h RescueContents,
        todo: &mut RestorePlan<'h>,
        newer: &mut Vec<Newer<'h>>,
    ) -> Result<(), Failure> {
        let hasher = Hasher::new(self.repo, self.top).map_err(git_failure("compare with the rescue", self.top))?;
        for (path, blob) in &held.files {
            let (there, found) = PathState::at(self.top, path)?;
            let free = match (there, &found, blob) {
                // As a file it is gone.
                (PathState::Nothing | PathState::Directory, _, None) => continue,
                (PathState::Nothing | PathState::Directory, _, Some(_)) => true,
                (PathState::File(_), Some(found), blob) => {
                    let mode = mode_of(found, blob.map(|blob| blob.mode).filter(|_| !hasher.trusts_modes));
                    if let (Some(blob), Some(mode)) = (blob, mode)
                        && (Blob { id: raw_id(&self.top.join(path.as_path()), mode)?, mode }) == *blob
                    {
                        continue;
                    }
                    // Not what the library calls clean: it believes marks such as skip-worktree.
                    let current = hasher.blob(path, found, [self.in_head(path), None])?;
                    current.is_some() && current == self.in_head(path)
                }
                _ => false,
            };
            if free {
                todo.files.insert(path, (*blob, there));
            } else {
                newer.push(Newer { path, staged: false });
            }
        }
        Ok(())
    }

    /// Whether each file can come to its place. Gives back what is in the directories that give way to a file.
    fn check_places<'h>(&self, todo: &RestorePlan<'h>, newer: &mut Vec<Newer<'h>>) -> Result<Vec<RepoPath>, Failure> {
        let goes: BTreeSet<&RepoPath> = todo.removed().map(|(path, _)| path).collect();
        let mut inside = Vec::new();
        for (path, _, there) in todo.written() {
            let blocked = path.parents().any(|above| {
                let at = self.top.join(above.as_path());
                let found = fs::symlink_metadata(&at);
                (found.is_ok_and(|found| !found.is_dir()) && !goes.contains(&above))
                    || fs::symlink_metadata(at.join(".git")).is_ok()
            });
            if blocked || (there == PathState::Directory && !all_goes(self.top, path, &goes, &mut inside)?) {
                newer.push(Newer { path, staged: false });
            }
        }
        Ok(inside)
    }

    /// What was staged is staged again where the index has what HEAD has, and nothing that cannot stand beside it.
    fn compare_index<'h>(&self, held: &'h RescueContents, todo: &mut RestorePlan<'h>, newer: &mut Vec<Newer<'h>>) {
        let goes = |name: &RepoPath| held.staged.get(name) == Some(&None);
        for (path, blob) in &held.staged {
            let current = self.index.get(path).copied();
            if current == *blob {
                continue;
            }
            let mut above = path.parents().filter(|name| self.index.contains_key(name));
            let alone = blob.is_none() || (below(&self.index, path).all(goes) && above.all(|name| goes(&name)));
            if current == self.in_head(path) && alone {
                todo.staged.push((path, *blob));
            } else {
                newer.push(Newer { path, staged: true });
            }
        }
    }
}

/// A path whose newer state the restoring would replace.
pub struct Newer<'h> {
    pub path: &'h RepoPath,
    /// In the index, and not in the working tree.
    pub staged: bool,
}

/// Whether a directory holds nothing but directories and files that go. Adds what is in it to `inside`.
fn all_goes(
    top: &Path,
    folder: &RepoPath,
    goes: &BTreeSet<&RepoPath>,
    inside: &mut Vec<RepoPath>,
) -> Result<bool, Failure> {
    let at = top.join(folder.as_path());
    let failed = io_failure("read the directory", &at);
    for entry in fs::read_dir(&at).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let name = folder.child(&entry.file_name());
        let is_dir = entry.file_type().map_err(&failed)?.is_dir();
        if !(if is_dir { all_goes(top, &name, goes, inside)? } else { goes.contains(&name) }) {
            return Ok(false);
        }
        inside.push(name);
    }
    Ok(true)
}
