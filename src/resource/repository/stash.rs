//! Makes and reads commits like those of `git stash`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{Commit, Index, ObjectType, Oid, Repository, Signature, Tree};

use super::access::{self, AccessList};
use super::survey::{Local, Work};
use crate::failure::Failure;
use crate::git::RepoPath;
use crate::git::error::{git_failure, git_text, io_failure};
use crate::git::hash::raw_id;
use crate::git::index::{add, entry, remove};
use crate::git::tree::{Blob, blob_in, normal_mode, subject};

/// The mode of a submodule in a tree. Its commit is not in this repository.
const SUBMODULE: u32 = 0o160_000;

/// A commit like those of `git stash`.
pub struct Stash<'a> {
    pub repo: &'a Repository,
    /// HEAD as it was.
    pub base: Commit<'a>,
    pub base_tree: Tree<'a>,
    pub index: Tree<'a>,
    pub work: Tree<'a>,
    /// The untracked files.
    pub untracked: Option<Tree<'a>>,
    /// The access rights that a tree does not have.
    pub access: AccessList,
}

impl<'a> Stash<'a> {
    /// Takes a commit apart. Returns `None` for another commit.
    pub fn open(repo: &'a Repository, commit: &Commit<'a>) -> Option<Self> {
        let index = commit.parent(1).ok()?;
        let base = repo.find_commit(commit.parent_id(0).ok()?).ok()?;
        // A merge has two parents too.
        if index.parent_id(0).ok() != Some(base.id()) || !index.message_bytes().starts_with(b"index on ") {
            return None;
        }
        let untracked = match commit.parent(2) {
            Ok(untracked) => Some(untracked.tree().ok()?),
            Err(_) => None,
        };
        Some(Self {
            repo,
            base_tree: base.tree().ok()?,
            base,
            index: index.tree().ok()?,
            work: commit.tree().ok()?,
            untracked,
            access: access::from_message(commit.message_bytes()),
        })
    }

    /// Whether it was made at this HEAD; without one, before the first commit.
    pub fn is_of(&self, head: Option<Oid>) -> bool {
        match head {
            Some(head) => self.base.id() == head,
            None => self.base.parent_count() == 0 && self.base_tree.is_empty(),
        }
    }

    /// Whether it has all of a change.
    pub fn holds(&self, top: &Path, local: &Local) -> Result<bool, Failure> {
        let path = &local.change.path;
        let work = if local.tracked { Some(&self.work) } else { self.untracked.as_ref() };
        let there = work.and_then(|tree| blob_in(tree, path));
        let work_held = match local.work {
            Work::Same => true,
            Work::Missing => there.is_none(),
            Work::File { mode } => there == Some(Blob { id: raw_id(&top.join(path.as_path()), mode)?, mode }),
        };
        Ok(work_held && (!local.tracked || blob_in(&self.index, path) == local.index))
    }
}

/// What a rescue is made from.
pub struct Maker<'a> {
    /// The checkout's repository.
    pub repo: &'a Repository,
    /// Where the objects go.
    pub store: &'a Repository,
    /// The store does not have the objects of `repo`.
    pub apart: bool,
    pub head: Option<Oid>,
    /// The name of the branch, for the message.
    pub branch: &'a str,
    pub top: &'a Path,
    pub locals: &'a [&'a Local],
    /// What is rescued, for the message.
    pub what: &'a str,
    pub who: &'a Signature<'a>,
}

impl Maker<'_> {
    /// Makes the commit of a rescue and returns its id.
    pub fn stash(&self) -> Result<Oid, Failure> {
        let failed = git_failure("rescue the local changes", self.top);
        let base = match self.head {
            _ if self.apart => self.copy_base()?,
            Some(head) => head,
            None => self.commit("nothing committed yet", &mut empty()?, &[])?,
        };
        let below = match self.head {
            Some(head) => self.repo.find_commit(head),
            None => self.store.find_commit(base),
        };
        let below = below.map_err(&failed)?;
        let about = format!("{}: {} {}", self.branch, &below.id().to_string()[..8], subject(&below));
        let tree = self.store.find_commit(base).and_then(|base| base.tree()).map_err(&failed)?;
        let mut index = index_of(&tree).map_err(&failed)?;
        for local in self.tracked() {
            put(&mut index, &local.change.path, local.index).map_err(&failed)?;
        }
        let staged = self.commit(&format!("index on {about}"), &mut index, &[base])?;
        let untracked = self.untracked(&about)?;
        let mut work = index_of(&tree).map_err(&failed)?;
        for local in self.tracked() {
            let path = &local.change.path;
            match local.work {
                Work::File { mode } => put(&mut work, path, Some(self.store_file(path, mode)?)).map_err(&failed)?,
                Work::Missing => put(&mut work, path, None).map_err(&failed)?,
                Work::Same => {}
            }
        }
        let mut parents = vec![base, staged];
        parents.extend(untracked);
        let access = self.locals.iter().flat_map(|local| local.access.clone()).collect();
        let message = format!("On {}: {}, kept by provision\n\n{}", self.branch, self.what, access::to_lines(&access));
        self.commit(message.trim_end(), &mut work, &parents)
    }

    /// Copies what HEAD and the index have of the files to the store, and commits HEAD's.
    fn copy_base(&self) -> Result<Oid, Failure> {
        let failed = git_failure("rescue the local changes", self.top);
        let head = self.head.map(|head| self.repo.find_commit(head)?.tree()).transpose().map_err(&failed)?;
        let odb = self.store.odb().map_err(&failed)?;
        let mut base = empty()?;
        for local in self.tracked() {
            let old = head.as_ref().and_then(|head| blob_in(head, &local.change.path));
            for blob in [old, local.index].into_iter().flatten().filter(|blob| blob.mode != SUBMODULE) {
                let found = self.repo.find_blob(blob.id).map_err(&failed)?;
                odb.write(ObjectType::Blob, found.content()).map_err(&failed)?;
            }
            put(&mut base, &local.change.path, old).map_err(&failed)?;
        }
        self.commit("what HEAD has of private files", &mut base, &[])
    }

    fn tracked(&self) -> impl Iterator<Item = &Local> {
        self.locals.iter().copied().filter(|local| local.tracked)
    }

    fn untracked(&self, about: &str) -> Result<Option<Oid>, Failure> {
        let failed = git_failure("rescue the local changes", self.top);
        let mut index = empty()?;
        for local in self.locals.iter().filter(|local| !local.tracked) {
            if let Work::File { mode } = local.work {
                let path = &local.change.path;
                put(&mut index, path, Some(self.store_file(path, mode)?)).map_err(&failed)?;
            }
        }
        if index.is_empty() {
            return Ok(None);
        }
        self.commit(&format!("untracked files on {about}"), &mut index, &[]).map(Some)
    }

    /// Stores a file byte for byte, without converting line endings, so that it can be restored as it was.
    fn store_file(&self, path: &RepoPath, mode: u32) -> Result<Blob, Failure> {
        let at = self.top.join(path.as_path());
        let failed = git_failure("rescue a file", self.top);
        let odb = self.store.odb().map_err(&failed)?;
        if mode == 0o120_000 {
            let target = fs::read_link(&at).map_err(io_failure("read the link", &at))?;
            let id = odb.write(ObjectType::Blob, target.as_os_str().as_bytes()).map_err(&failed)?;
            return Ok(Blob { id, mode });
        }
        let read = io_failure("read", &at);
        let mut file = fs::File::open(&at).map_err(&read)?;
        let size = file.metadata().map_err(&read)?.len();
        let size =
            usize::try_from(size).map_err(|_| Failure::new(format!("{} is too large to rescue", at.display())))?;
        let mut writer = odb.writer(size, ObjectType::Blob).map_err(&failed)?;
        io::copy(&mut file, &mut writer).map_err(&read)?;
        let id = writer.finalize().map_err(&failed)?;
        Ok(Blob { id, mode })
    }

    fn commit(&self, message: &str, index: &mut Index, parents: &[Oid]) -> Result<Oid, Failure> {
        let (store, who) = (self.store, self.who);
        let make = |index: &mut Index| -> Result<Oid, git2::Error> {
            let tree = store.find_tree(index.write_tree_to(store)?)?;
            let parents = parents.iter().map(|parent| store.find_commit(*parent)).collect::<Result<Vec<_>, _>>()?;
            store.commit(None, who, who, message, &tree, &parents.iter().collect::<Vec<_>>())
        };
        make(index).map_err(git_failure("rescue the local changes", self.top))
    }
}

fn empty() -> Result<Index, Failure> {
    Index::new().map_err(|error| Failure::new(format!("cannot create an index: {}", git_text(&error))))
}

/// Makes an index of a tree, with normalised modes.
fn index_of(tree: &Tree<'_>) -> Result<Index, git2::Error> {
    let mut index = Index::new()?;
    index.read_tree(tree)?;
    let unusual: Vec<_> = index.iter().filter(|entry| normal_mode(entry.mode) != entry.mode).collect();
    for mut entry in unusual {
        entry.mode = normal_mode(entry.mode);
        add(&mut index, &entry)?;
    }
    Ok(index)
}

fn put(index: &mut Index, path: &RepoPath, blob: Option<Blob>) -> Result<(), git2::Error> {
    match blob {
        Some(blob) => add(index, &entry(path.bytes(), blob.id, blob.mode)),
        None => remove(index, path),
    }
}
