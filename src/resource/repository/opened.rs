//! Reads a rescue from the repositories that have it: the checkout's own, and the one of its private files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use git2::{Commit, ObjectType, Repository, TreeWalkMode, TreeWalkResult};
use serde::{Deserialize, Serialize};

use super::access::AccessList;
use super::private_store;
use super::rescue::{Kept, NAMESPACE, all};
use super::stash::Stash;
use crate::failure::Failure;
use crate::git::RepoPath;
use crate::git::error::git_failure;
use crate::git::tree::{Blob, entries, normal_mode, subject};
use crate::text::shell_word;

/// A rescue, as `rescue list` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rescue {
    /// The argument of `rescue show` and `rescue restore`: the run, with `-commits` or `-detached` if it has commits.
    pub id: String,
    /// The full name of its ref.
    pub reference: String,
    pub kind: RescueKind,
    /// The commit at the ref, in hexadecimal.
    pub commit: String,
    pub subject: String,
    /// The time of the newest file or of the last commit, in seconds since 1970.
    pub time: i64,
    /// The files of a rescue of changes, in order.
    pub files: Vec<RepoPath>,
    /// The shell command that brings commits back.
    pub way_back: Option<String>,
    /// The shell command that deletes the rescue.
    pub delete: String,
    /// What restoring it now would undo, if that was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
    /// A new directory for its files, if HEAD has something else in their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<PathBuf>,
}

/// What a rescue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RescueKind {
    /// Local changes, in a commit like those of `git stash`.
    Changes,
    /// Commits that the remote does not have.
    Commits,
}

/// A rescue, with the repositories that have it.
pub struct Opened<'a> {
    id: String,
    pub repo: &'a Repository,
    /// The commit at its ref.
    pub commit: Option<Commit<'a>>,
    /// The repository of its private files.
    private: Option<Repository>,
}

impl<'a> Opened<'a> {
    /// Opens the rescue `id`.
    ///
    /// # Errors
    /// There is none with this id. The hint names the others.
    pub fn find(repo: &'a Repository, top: &Path, id: &str) -> Result<Self, Failure> {
        let all = all(repo)?;
        let known: Vec<String> = all.iter().map(|kept| kept.id.clone()).collect();
        let Some(kept) = all.into_iter().find(|kept| kept.id == id) else {
            let known = known.join(", ");
            let hint = if known.is_empty() { "there is none".to_owned() } else { format!("there is {known}") };
            return Err(Failure::new(format!("{} has no rescue {id}", top.display())).hint(hint));
        };
        Self::open(repo, top, kept)
    }

    pub fn open(repo: &'a Repository, top: &Path, kept: Kept) -> Result<Self, Failure> {
        let commit = kept.commit.map(|commit| repo.find_commit(commit)).transpose();
        let commit = commit.map_err(git_failure("read a rescue", top))?;
        Ok(Self { private: private_store::open(repo, &kept.id)?, id: kept.id, repo, commit })
    }

    /// Returns the parts of a rescue of changes, the private one last. A rescue of commits has none.
    pub fn stashes(&self) -> Result<Vec<Stash<'_>>, Failure> {
        let mut stashes: Vec<Stash<'_>> =
            self.commit.iter().filter_map(|commit| Stash::open(self.repo, commit)).collect();
        if let Some(private) = &self.private {
            stashes.extend(Stash::open(private, &private_store::commit(private)?));
        }
        Ok(stashes)
    }

    /// Returns the files of a rescue of changes; `None` for a rescue of commits.
    pub fn contents(&self, top: &Path) -> Result<Option<RescueContents>, Failure> {
        let stashes = self.stashes()?;
        if stashes.is_empty() {
            return Ok(None);
        }
        let private_store = self.private.as_ref().map(|store| store.path().to_owned());
        let mut held = RescueContents { private_store, ..RescueContents::default() };
        for stash in &stashes {
            held.add(stash, !std::ptr::eq(stash.repo, self.repo)).map_err(git_failure("read a rescue", top))?;
        }
        Ok(Some(held))
    }

    /// Returns the repository that has the content of a path.
    pub fn repository_of(&self, path: &RepoPath, held: &RescueContents) -> &Repository {
        self.private.as_ref().filter(|_| held.private.contains(path)).unwrap_or(self.repo)
    }

    /// Describes it for `rescue list`.
    pub fn describe(&self, top: &Path) -> Result<Rescue, Failure> {
        let files = self.contents(top)?.map(|held| held.paths());
        let apart = self.private.as_ref().map(private_store::commit).transpose()?;
        let commit = self.commit.as_ref().or(apart.as_ref());
        let commit = commit.ok_or_else(|| Failure::new(format!("the rescue {} is gone", self.id)))?;
        let reference = format!("{NAMESPACE}{}", self.id);
        let git = format!("git -C {}", shell_word(top));
        let mut delete = Vec::new();
        if self.commit.is_some() {
            delete.push(format!("{git} update-ref -d {reference}"));
        }
        if self.private.is_some() {
            let folder = private_store::folder(self.repo, &self.id);
            delete.push(format!("rm -rf {}", shell_word(folder)));
        }
        Ok(Rescue {
            way_back: files.is_none().then(|| format!("{git} branch rescued-{} {reference}", self.id)),
            delete: delete.join(" && "),
            kind: if files.is_some() { RescueKind::Changes } else { RescueKind::Commits },
            commit: commit.id().to_string(),
            subject: subject(commit),
            time: commit.time().seconds(),
            id: self.id.clone(),
            reference,
            files: files.unwrap_or_default(),
            undoes: None,
            elsewhere: None,
        })
    }
}

/// The contents of a rescue by path; `None` for a deleted file.
#[derive(Default)]
pub struct RescueContents {
    /// The changes in the working tree.
    pub files: BTreeMap<RepoPath, Option<Blob>>,
    /// The staged changes.
    pub staged: BTreeMap<RepoPath, Option<Blob>>,
    /// The paths of private files.
    pub private: BTreeSet<RepoPath>,
    /// The git directory of the private files.
    private_store: Option<PathBuf>,
    /// The access rights to restore.
    pub access: AccessList,
}

impl RescueContents {
    fn add(&mut self, stash: &Stash<'_>, private: bool) -> Result<(), git2::Error> {
        let changed = |tree| -> Result<BTreeMap<RepoPath, Option<Blob>>, git2::Error> {
            let entries = entries(stash.repo, Some(stash.base.id()), Some(tree))?;
            Ok(entries.into_iter().map(|entry| (entry.path, entry.new)).collect())
        };
        let (mut files, mut staged) = (changed(&stash.work)?, changed(&stash.index)?);
        if let Some(untracked) = &stash.untracked {
            untracked.walk(TreeWalkMode::PreOrder, |folder, entry| {
                if entry.kind() == Some(ObjectType::Blob)
                    && let Ok(mode) = u32::try_from(entry.filemode_raw())
                {
                    let mut name = folder.as_bytes().to_vec();
                    name.extend_from_slice(entry.name_bytes());
                    files.insert(RepoPath::new(name), Some(Blob { id: entry.id(), mode: normal_mode(mode) }));
                }
                TreeWalkResult::Ok
            })?;
        }
        files.retain(|path, _| path.is_safe());
        staged.retain(|path, _| path.is_safe());
        if private {
            self.private.extend(files.keys().chain(staged.keys()).cloned());
        }
        self.files.append(&mut files);
        self.staged.append(&mut staged);
        let safe = stash.access.iter().filter(|(path, _)| path.is_safe());
        self.access.extend(safe.map(|(path, access)| (path.clone(), access.clone())));
        Ok(())
    }

    /// Returns all paths, in order.
    pub fn paths(&self) -> Vec<RepoPath> {
        let paths: BTreeSet<&RepoPath> = self.files.keys().chain(self.staged.keys()).collect();
        paths.into_iter().cloned().collect()
    }

    /// Returns the command that prints the rescued content of a path, of the working tree or else of the index. There is none for a
    /// deleted file.
    pub fn command_to_print(&self, top: &Path, path: &RepoPath) -> Option<String> {
        let blob = [&self.files, &self.staged].into_iter().find_map(|held| *held.get(path)?)?;
        let store = match self.private_store.as_ref().filter(|_| self.private.contains(path)) {
            Some(store) => format!("git --git-dir={}", shell_word(store)),
            None => format!("git -C {}", shell_word(top)),
        };
        Some(format!("{store} cat-file blob {}", blob.id))
    }
}
