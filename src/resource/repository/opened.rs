//! What a rescue holds, read from the repositories that have it: the checkout's own, and the one of its private files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use git2::{Commit, ObjectType, Repository, TreeWalkMode, TreeWalkResult};

use super::access::AccessList;
use super::delta::{Blob, entries, subject, usual};
use super::path::RepoPath;
use super::rescue::{Kept, NAMESPACE, all};
use super::restore::{Rescue, RescueKind};
use super::stash::Stash;
use super::{git_failure, private_store, quoted};
use crate::failure::Failure;

/// A rescue, and the repositories that have it.
pub struct Opened<'a> {
    id: String,
    pub repo: &'a Repository,
    /// What the ref names.
    pub commit: Option<Commit<'a>>,
    /// What is kept apart of it.
    private: Option<Repository>,
}

impl<'a> Opened<'a> {
    /// Opens the rescue `id`, or fails with those that there are.
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

    /// The halves of a rescue of changes, the private one last; none where it holds commits.
    pub fn stashes(&self) -> Result<Vec<Stash<'_>>, Failure> {
        let mut stashes: Vec<Stash<'_>> =
            self.commit.iter().filter_map(|commit| Stash::open(self.repo, commit)).collect();
        if let Some(private) = &self.private {
            stashes.extend(Stash::open(private, &private_store::commit(private)?));
        }
        Ok(stashes)
    }

    /// The files of a rescue of changes; nothing where it holds commits.
    pub fn held(&self, top: &Path) -> Result<Option<RescueContents>, Failure> {
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

    /// The repository that has the content of a path.
    pub fn repository_of(&self, path: &RepoPath, held: &RescueContents) -> &Repository {
        self.private.as_ref().filter(|_| held.private.contains(path)).unwrap_or(self.repo)
    }

    /// What `rescue list` tells of it.
    pub fn describe(&self, top: &Path) -> Result<Rescue, Failure> {
        let files = self.held(top)?.map(|held| held.paths());
        let apart = self.private.as_ref().map(private_store::commit).transpose()?;
        let commit = self.commit.as_ref().or(apart.as_ref());
        let commit = commit.ok_or_else(|| Failure::new(format!("the rescue {} is gone", self.id)))?;
        let reference = format!("{NAMESPACE}{}", self.id);
        let git = format!("git -C {}", quoted(&top.to_string_lossy()));
        let mut delete = Vec::new();
        if self.commit.is_some() {
            delete.push(format!("{git} update-ref -d {reference}"));
        }
        if self.private.is_some() {
            let folder = private_store::folder(self.repo, &self.id);
            delete.push(format!("rm -rf {}", quoted(&folder.to_string_lossy())));
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
        })
    }
}

/// What a rescue holds, by path; nothing for what was gone.
#[derive(Default)]
pub struct RescueContents {
    /// What the working tree had of its own.
    pub files: BTreeMap<RepoPath, Option<Blob>>,
    /// What was staged.
    pub staged: BTreeMap<RepoPath, Option<Blob>>,
    /// The paths that are kept apart.
    pub private: BTreeSet<RepoPath>,
    /// Where they are.
    private_store: Option<PathBuf>,
    /// Modes and groups to give back.
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
                    files.insert(RepoPath::new(name), Some(Blob { id: entry.id(), mode: usual(mode) }));
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

    /// Every path, in order.
    pub fn paths(&self) -> Vec<RepoPath> {
        let paths: BTreeSet<&RepoPath> = self.files.keys().chain(self.staged.keys()).collect();
        paths.into_iter().cloned().collect()
    }

    /// The command that prints what a path held in the working tree, or else in the index; none where it was gone.
    pub fn command_to_print(&self, top: &Path, path: &RepoPath) -> Option<String> {
        let blob = [&self.files, &self.staged].into_iter().find_map(|held| *held.get(path)?)?;
        let store = match self.private_store.as_ref().filter(|_| self.private.contains(path)) {
            Some(store) => format!("git --git-dir={}", quoted(&store.to_string_lossy())),
            None => format!("git -C {}", quoted(&top.to_string_lossy())),
        };
        Some(format!("{store} cat-file blob {}", blob.id))
    }
}
