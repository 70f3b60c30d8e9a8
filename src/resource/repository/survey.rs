//! Compares the working tree and the index with both ends of an update, path by path: what has to be written, and which local
//! work that would overwrite. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::Path;

use git2::Repository;

use super::access::{self, AccessList};
use super::actual::{LocalChange, LocalState};
use super::delta::{Delta, MAX_COMPARED_BYTES, MAX_COMPARED_FILES, changed_lines, content};
use crate::failure::Failure;
use crate::git::error::{git_failure, io_failure};
use crate::git::hash::Hasher;
use crate::git::index::{self, below, by_path};
use crate::git::tree::{Blob, Entry};
use crate::git::worktree::{Seen, denials, lstat_below, mode_of};
use crate::git::{Obstacle, RepoPath, unreadable};
use crate::host::fs::Dir;
use crate::resource::Lines;

/// What the working tree has of a local change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing that HEAD or the target does not have.
    Same,
    /// The file does not exist.
    Missing,
    /// A file or symbolic link with content of its own and this mode.
    File { mode: u32 },
}

/// Local work that the update would overwrite.
#[derive(Debug, Clone)]
pub struct Local {
    pub change: LocalChange,
    /// HEAD or the index has the path.
    pub tracked: bool,
    /// The index's entry.
    pub index: Option<Blob>,
    pub work: Work,
    /// The access rights to remember, of the file and of private directories above it.
    pub access: AccessList,
}

/// What an update has to do to one path.
#[derive(Debug, Clone)]
pub struct Item {
    pub path: RepoPath,
    /// The new content; `None` if the path is deleted.
    pub new: Option<Blob>,
    /// The file already has the target's content.
    pub satisfied: bool,
}

/// The result, in order of path.
#[derive(Debug, Default)]
pub struct Survey {
    pub items: Vec<Item>,
    pub in_the_way: BTreeMap<RepoPath, Local>,
    /// The state of the files at changed paths and in the way when they were compared.
    pub seen: BTreeMap<RepoPath, Seen>,
    pub obstacles: Vec<Obstacle>,
}

/// Compares the paths of `delta` in the checkout at `top`.
pub fn survey(repo: &Repository, top: &Path, delta: &Delta) -> Result<Survey, Failure> {
    let failed = git_failure("read the index", top);
    let index = index::read(repo)?;
    let mut surveyor = Surveyor {
        top,
        repo,
        hasher: Hasher::new(repo, top).map_err(&failed)?,
        index: by_path(&index),
        delta: delta.entries.iter().map(|entry| (entry.path.clone(), (entry.old, entry.new))).collect(),
        result: Survey::default(),
    };
    for entry in &delta.entries {
        if let Err(failure) = surveyor.look(entry) {
            let denied = unreadable::in_working_tree(top, &entry.path).ok_or(failure)?;
            surveyor.result.obstacles.push(denied);
        }
    }
    surveyor.check_writable()?;
    Ok(surveyor.result)
}

struct Surveyor<'a> {
    top: &'a Path,
    repo: &'a Repository,
    hasher: Hasher<'a>,
    index: BTreeMap<RepoPath, Blob>,
    delta: BTreeMap<RepoPath, (Option<Blob>, Option<Blob>)>,
    result: Survey,
}

impl Surveyor<'_> {
    fn look(&mut self, entry: &Entry) -> Result<(), Failure> {
        let Entry { path, old, new, interim } = entry;
        let (old, new) = (*old, *new);
        if !self.moves(path) {
            return Ok(());
        }
        let staged = self.index.get(path).copied();
        let found = lstat_below(self.top, path)?;
        let is_dir = found.as_ref().is_some_and(Metadata::is_dir);
        let file = match &found {
            Some(found) if !is_dir => self.hasher.blob(path, found, [old, new])?,
            _ => None,
        };
        if let (Some(found), false) = (&found, is_dir) {
            if file.is_none() {
                self.result.obstacles.push(Obstacle::SpecialFile { path: path.clone() });
                return Ok(());
            }
            self.result.seen.insert(path.clone(), Seen::of(found));
        }
        let known = old.is_some() || staged.is_some();
        let work = match file {
            _ if file == old || file == new || (file.is_some() && file == *interim) => Work::Same,
            Some(file) => Work::File { mode: file.mode },
            None => Work::Missing,
        };
        let staged_work = staged != old && (staged.is_none() || staged != *interim);
        if work != Work::Same || staged_work {
            let state = match (work, old, file) {
                (Work::Same, ..) => LocalState::Staged,
                (Work::Missing, ..) => LocalState::Deleted,
                _ if !known => self.unknown_state(path),
                (_, Some(old), Some(file)) if (old.mode ^ file.mode) & 0o170_000 != 0 => LocalState::TypeChanged,
                _ => LocalState::Modified,
            };
            self.in_the_way(path, state, known, work)?;
        }
        if new.is_some() {
            self.look_around(path, is_dir)?;
        }
        self.result.items.push(Item { path: path.clone(), new, satisfied: file == new && !(is_dir && new.is_some()) });
        Ok(())
    }

    /// Whether the update changes the path itself. If the index is already at the target, git leaves the file alone, whatever it
    /// is, and so do we.
    fn moves(&self, path: &RepoPath) -> bool {
        let staged = self.index.get(path).copied();
        self.delta.get(path).is_some_and(|(old, new)| staged != *new || staged == *old)
    }

    /// Finds what a file at `path` cannot exist beside: a file or symlink above it, anything below it.
    fn look_around(&mut self, path: &RepoPath, is_dir: bool) -> Result<(), Failure> {
        for above in path.parents() {
            if self.moves(&above) {
                continue;
            }
            let found = lstat_below(self.top, &above)?;
            let blocks = found.as_ref().is_some_and(|found| !found.is_dir());
            if blocks || self.index.contains_key(&above) {
                self.stray(&above, found.as_ref().filter(|_| blocks))?;
            }
        }
        if is_dir {
            self.look_below(path)?;
        }
        let below: Vec<RepoPath> = below(&self.index, path).filter(|name| !self.moves(name)).cloned().collect();
        for name in below {
            if !self.result.in_the_way.contains_key(&name) {
                let found = lstat_below(self.top, &name)?.filter(|found| !found.is_dir());
                self.stray(&name, found.as_ref())?;
            }
        }
        Ok(())
    }

    fn look_below(&mut self, folder: &RepoPath) -> Result<(), Failure> {
        let at = self.top.join(folder.as_path());
        let failed = io_failure("read the directory", &at);
        for entry in fs::read_dir(&at).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            let name = folder.child(&entry.file_name());
            if entry.file_name() == ".git" {
                self.result.obstacles.push(Obstacle::NestedRepository { path: folder.clone() });
                return Ok(());
            }
            let found = entry.metadata().map_err(io_failure("look at", &entry.path()))?;
            if found.is_dir() {
                self.look_below(&name)?;
            } else if !self.moves(&name) {
                self.stray(&name, Some(&found))?;
            }
        }
        Ok(())
    }

    /// Handles a path that neither end of the update has, though one end needs its place.
    fn stray(&mut self, path: &RepoPath, found: Option<&Metadata>) -> Result<(), Failure> {
        if self.result.in_the_way.contains_key(path) {
            return Ok(());
        }
        let staged = self.index.contains_key(path);
        let work = match found {
            Some(found) => {
                let Some(mode) = mode_of(found, None) else {
                    self.result.obstacles.push(Obstacle::SpecialFile { path: path.clone() });
                    return Ok(());
                };
                self.result.seen.insert(path.clone(), Seen::of(found));
                Work::File { mode }
            }
            None => Work::Missing,
        };
        let state = if staged { LocalState::Staged } else { self.unknown_state(path) };
        self.in_the_way(path, state, staged, work)
    }

    fn unknown_state(&self, path: &RepoPath) -> LocalState {
        match self.repo.is_path_ignored(path.as_path()) {
            Ok(true) => LocalState::Ignored,
            _ => LocalState::Untracked,
        }
    }

    fn in_the_way(&mut self, path: &RepoPath, state: LocalState, tracked: bool, work: Work) -> Result<(), Failure> {
        let index = self.index.get(path).copied();
        if index.is_some_and(|blob| blob.mode == 0o160_000) {
            self.result.obstacles.push(Obstacle::StagedSubmodule { path: path.clone() });
            return Ok(());
        }
        if let (Work::File { .. }, Some(denied)) = (work, unreadable::in_working_tree(self.top, path)) {
            self.result.obstacles.push(denied);
            return Ok(());
        }
        let (private, access) = access::look(self.top, path)?;
        let lines = match work {
            // With no changed lines, only the mode differs.
            Work::File { .. } if self.result.in_the_way.len() < MAX_COMPARED_FILES => {
                self.lines(path).filter(|lines| lines.added + lines.removed > 0)
            }
            _ => None,
        };
        let change = LocalChange { path: path.clone(), state, private, lines };
        self.result.in_the_way.insert(path.clone(), Local { change, tracked, index, work, access });
        Ok(())
    }

    /// Counts the lines of a file that differ from HEAD. `None`: one side is binary, large, or not a file.
    fn lines(&self, path: &RepoPath) -> Option<Lines> {
        let old = self.delta.get(path).and_then(|(old, _)| *old).or_else(|| self.index.get(path).copied());
        let at = self.top.join(path.as_path());
        // Read without a trace; what is not a file, or is larger, is not read.
        let new = Dir::follow(at.parent()?).ok()?.read(at.file_name()?, MAX_COMPARED_BYTES as u64).ok()??.bytes;
        let old = match old {
            Some(blob) if blob.mode & 0o170_000 == 0o100_000 => content(&self.repo.odb().ok()?, blob.id)?,
            Some(_) => return None,
            None => Vec::new(),
        };
        changed_lines(&old, &new)
    }

    /// Checks that everything that is replaced, removed or created can be, so that the update does not fail halfway.
    fn check_writable(&mut self) -> Result<(), Failure> {
        let result = &self.result;
        let known: BTreeSet<&RepoPath> = result.items.iter().map(|item| &item.path).collect();
        // What does not exist need not be removed, and a directory is not removed for a deleted file.
        let moves = |item: &&Item| !item.satisfied && (item.new.is_some() || result.seen.contains_key(&item.path));
        let written = result.items.iter().filter(moves).map(|item| &item.path);
        let strays =
            result.in_the_way.iter().filter(|(path, local)| local.work != Work::Missing && !known.contains(path));
        let denials = denials(self.top, written.chain(strays.map(|(path, _)| path)))?;
        self.result.obstacles.extend(denials.into_iter().map(Obstacle::of_denial));
        Ok(())
    }
}
