//! Keeps what a move takes out of the way: commits of the shape that `git stash` makes, named under
//! `refs/provision/rescue`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use git2::{Commit, Index, ObjectType, Oid, Repository, Signature, Time, Tree};

use super::delta::{Blob, blob_in, subject, usual};
use super::index_file::{add, entry, remove};
use super::path::RepoPath;
use super::survey::{Local, Survey, Work, lstat_below, raw_id};
use super::work_area::WorkArea;
use super::{git_failure, io_failure, refs, scratch};
use crate::resource::Failure;

/// Where rescues are named.
pub const NAMESPACE: &str = "refs/provision/rescue/";

/// Keeps the local changes in the way. Where an interrupted run has kept them already, that is enough.
pub fn keep_files(
    area: &mut WorkArea,
    repo: &Repository,
    top: &Path,
    run: &str,
    head: (Option<&str>, Option<Oid>),
    survey: &Survey,
) -> Result<(), Failure> {
    if survey.in_the_way.is_empty() || is_kept(repo, top, head.1, survey)? {
        return Ok(());
    }
    let own = area.path("rescue");
    fs::create_dir(&own).map_err(io_failure("create", &own))?;
    let store = scratch::bare_beside(&own, Some(repo), &[])?;
    let commit = Maker { repo: &store, top, survey, time: time_of(repo, top, head.1, survey)? }.stash(head)?;
    // Nothing is taken away that has not come out of the rescue again.
    let made = store.find_commit(commit).map_err(git_failure("read the rescue", top))?;
    let stash = Stash::open(&store, &made).ok_or_else(|| Failure::new(format!("{commit} is no rescue")))?;
    if let Some(path) = stash.lacks(top, survey)? {
        return Err(Failure::new(format!("the rescue did not hold {path} of {} as it is; it is left", top.display()))
            .hint("run again, if it was changed in this very moment"));
    }
    area.install_objects(&own)?;
    name(area, repo, run, commit)
}

/// Keeps a line of commits by a ref to its end, called after the run and `what`.
pub fn keep_commits(area: &mut WorkArea, repo: &Repository, run: &str, what: &str, end: &str) -> Result<(), Failure> {
    let end = Oid::from_str(end).map_err(git_failure("read a commit id", repo.path()))?;
    if all(repo)?.iter().any(|(_, kept)| *kept == end) {
        return Ok(());
    }
    name(area, repo, &format!("{run}-{what}"), end)
}

/// Every rescue: its id and the commit it names, in order of id.
pub fn all(repo: &Repository) -> Result<Vec<(String, Oid)>, Failure> {
    let failed = git_failure("list the rescues", repo.path());
    let mut found = Vec::new();
    for reference in repo.references_glob(&format!("{NAMESPACE}*")).map_err(&failed)? {
        let reference = reference.map_err(&failed)?;
        let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
        if let (Some(id), Some(commit)) = (name.strip_prefix(NAMESPACE), reference.target()) {
            found.push((id.to_owned(), commit));
        }
    }
    found.sort();
    Ok(found)
}

/// Names a rescue, with a number after the id where that is taken.
fn name(area: &mut WorkArea, repo: &Repository, id: &str, commit: Oid) -> Result<(), Failure> {
    let mut full = format!("{NAMESPACE}{id}");
    let mut number = 2;
    while refs::target(repo, &full)?.is_some() {
        full = format!("{NAMESPACE}{id}-{number}");
        number += 1;
    }
    refs::set(area, repo, &full, None, commit)
}

/// Whether some rescue of the same HEAD has every bit of the work in the way.
fn is_kept(repo: &Repository, top: &Path, head: Option<Oid>, survey: &Survey) -> Result<bool, Failure> {
    for (_, commit) in all(repo)? {
        let Ok(commit) = repo.find_commit(commit) else { continue };
        let Some(stash) = Stash::open(repo, &commit) else { continue };
        if stash.is_of(head) && stash.lacks(top, survey)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A commit of the shape that `git stash` makes.
pub struct Stash<'a> {
    /// HEAD as it was.
    pub base: Commit<'a>,
    pub base_tree: Tree<'a>,
    pub index: Tree<'a>,
    pub work: Tree<'a>,
    /// The files that git did not know.
    pub untracked: Option<Tree<'a>>,
}

impl<'a> Stash<'a> {
    /// Takes the commit apart; none where it has not that shape.
    pub fn open(repo: &'a Repository, commit: &Commit<'a>) -> Option<Self> {
        let index = commit.parent(1).ok()?;
        let base = repo.find_commit(commit.parent_id(0).ok()?).ok()?;
        // A merge has two parents as well.
        if index.parent_id(0).ok() != Some(base.id()) || !index.message_bytes().starts_with(b"index on ") {
            return None;
        }
        let untracked = match commit.parent(2) {
            Ok(untracked) => Some(untracked.tree().ok()?),
            Err(_) => None,
        };
        Some(Self {
            base_tree: base.tree().ok()?,
            base,
            index: index.tree().ok()?,
            work: commit.tree().ok()?,
            untracked,
        })
    }

    /// Whether it was made when HEAD was this; where nothing was committed yet, on top of nothing.
    fn is_of(&self, head: Option<Oid>) -> bool {
        match head {
            Some(head) => self.base.id() == head,
            None => self.base.parent_count() == 0 && self.base_tree.is_empty(),
        }
    }

    /// The first path in the way that it does not hold in every bit.
    fn lacks<'b>(&self, top: &Path, survey: &'b Survey) -> Result<Option<&'b RepoPath>, Failure> {
        for (path, local) in &survey.in_the_way {
            if !self.holds(top, local)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn holds(&self, top: &Path, local: &Local) -> Result<bool, Failure> {
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

/// The date of a rescue: that of the newest file in it, or of HEAD. So a run that was killed and begun again makes
/// the same commit, and nothing is left over.
fn time_of(repo: &Repository, top: &Path, head: Option<Oid>, survey: &Survey) -> Result<Time, Failure> {
    let mut newest = None;
    for (path, local) in &survey.in_the_way {
        if let (Work::File { .. }, Some(found)) = (local.work, lstat_below(top, path)?) {
            newest = newest.max(Some(found.mtime()));
        }
    }
    let head = head.and_then(|head| repo.find_commit(head).ok()).map(|commit| commit.time().seconds());
    Ok(Time::new(newest.or(head).unwrap_or_default(), 0))
}

struct Maker<'a> {
    repo: &'a Repository,
    top: &'a Path,
    survey: &'a Survey,
    time: Time,
}

impl Maker<'_> {
    fn stash(&self, (branch, head): (Option<&str>, Option<Oid>)) -> Result<Oid, Failure> {
        let failed = git_failure("keep the local changes", self.top);
        let who = refs::identity(self.repo, Some(self.time))?;
        let base = match head {
            Some(head) => head,
            None => self.commit(&who, "nothing committed yet", &mut empty()?, &[])?,
        };
        let base = self.repo.find_commit(base).map_err(&failed)?;
        let branch = branch.unwrap_or("(no branch)");
        let tree = base.tree().map_err(&failed)?;
        let mut index = index_of(&tree).map_err(&failed)?;
        for local in self.tracked() {
            put(&mut index, &local.change.path, local.index).map_err(&failed)?;
        }
        let about = format!("{branch}: {} {}", &base.id().to_string()[..8], subject(&base));
        let staged = self.commit(&who, &format!("index on {about}"), &mut index, &[base.id()])?;
        let untracked = self.untracked(&who, &about)?;
        let mut work = index_of(&tree).map_err(&failed)?;
        for local in self.tracked() {
            let path = &local.change.path;
            match local.work {
                Work::File { mode } => put(&mut work, path, Some(self.store(path, mode)?)).map_err(&failed)?,
                Work::Missing => put(&mut work, path, None).map_err(&failed)?,
                Work::Same => {}
            }
        }
        let mut parents = vec![base.id(), staged];
        parents.extend(untracked);
        let message = format!("On {branch}: local changes in the way of a pull, kept by provision");
        self.commit(&who, &message, &mut work, &parents)
    }

    fn tracked(&self) -> impl Iterator<Item = &Local> {
        self.survey.in_the_way.values().filter(|local| local.tracked)
    }

    fn untracked(&self, who: &Signature<'_>, about: &str) -> Result<Option<Oid>, Failure> {
        let failed = git_failure("keep the local changes", self.top);
        let mut index = empty()?;
        for local in self.survey.in_the_way.values().filter(|local| !local.tracked) {
            if let Work::File { mode } = local.work {
                let path = &local.change.path;
                put(&mut index, path, Some(self.store(path, mode)?)).map_err(&failed)?;
            }
        }
        if index.is_empty() {
            return Ok(None);
        }
        self.commit(who, &format!("untracked files on {about}"), &mut index, &[]).map(Some)
    }

    /// Stores a file byte for byte: no line ending is converted, since it is to come back as it was.
    fn store(&self, path: &RepoPath, mode: u32) -> Result<Blob, Failure> {
        let at = self.top.join(path.as_path());
        let failed = git_failure("keep a file", self.top);
        let odb = self.repo.odb().map_err(&failed)?;
        if mode == 0o120_000 {
            let target = fs::read_link(&at).map_err(io_failure("read the link", &at))?;
            let id = odb.write(ObjectType::Blob, target.as_os_str().as_bytes()).map_err(&failed)?;
            return Ok(Blob { id, mode });
        }
        let read = io_failure("read", &at);
        let mut file = fs::File::open(&at).map_err(&read)?;
        let size = file.metadata().map_err(&read)?.len();
        let size = usize::try_from(size).map_err(|_| Failure::new(format!("{} is too large to keep", at.display())))?;
        let mut writer = odb.writer(size, ObjectType::Blob).map_err(&failed)?;
        io::copy(&mut file, &mut writer).map_err(&read)?;
        let id = writer.finalize().map_err(&failed)?;
        Ok(Blob { id, mode })
    }

    fn commit(&self, who: &Signature<'_>, message: &str, index: &mut Index, parents: &[Oid]) -> Result<Oid, Failure> {
        let make = |index: &mut Index| -> Result<Oid, git2::Error> {
            let tree = self.repo.find_tree(index.write_tree_to(self.repo)?)?;
            let parents = parents.iter().map(|parent| self.repo.find_commit(*parent)).collect::<Result<Vec<_>, _>>()?;
            self.repo.commit(None, who, who, message, &tree, &parents.iter().collect::<Vec<_>>())
        };
        make(index).map_err(git_failure("keep the local changes", self.top))
    }
}

fn empty() -> Result<Index, Failure> {
    Index::new().map_err(|error| Failure::new(format!("cannot make an index: {}", super::git_text(&error))))
}

/// An index of a tree, with the modes that a new tree may have.
fn index_of(tree: &Tree<'_>) -> Result<Index, git2::Error> {
    let mut index = Index::new()?;
    index.read_tree(tree)?;
    let unusual: Vec<_> = index.iter().filter(|entry| usual(entry.mode) != entry.mode).collect();
    for mut entry in unusual {
        entry.mode = usual(entry.mode);
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
