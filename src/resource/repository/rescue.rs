//! Rescues what an update would overwrite, in commits like those of `git stash`, named under `refs/provision/rescue`. Private
//! files are kept apart ([`private_store`]).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use git2::{Oid, Repository, Time};

use super::private_store;
use super::stash::{Maker, Stash};
use super::survey::{Local, Survey, Work};
use crate::failure::Failure;
use crate::git::error::{git_failure, io_failure};
use crate::git::open::bare_beside;
use crate::git::refs;
use crate::git::unreadable;
use crate::git::work_area::WorkArea;
use crate::git::worktree::lstat_below;

/// The namespace of rescues.
pub const NAMESPACE: &str = "refs/provision/rescue/";

/// Rescues the local changes in the way, unless an interrupted run already has.
pub fn rescue_files(
    area: &mut WorkArea,
    repo: &Repository,
    top: &Path,
    run: &str,
    (branch, head): (Option<&str>, Option<Oid>),
    survey: &Survey,
) -> Result<(), Failure> {
    if survey.in_the_way.is_empty() || already_rescued(repo, top, head, survey)? {
        return Ok(());
    }
    let (private, shared): (Vec<&Local>, Vec<&Local>) =
        survey.in_the_way.values().partition(|local| local.change.private);
    let time = time_of(repo, top, head, survey)?;
    let who = refs::identity(repo, Some(time))?;
    let branch = branch.unwrap_or("(no branch)");
    let made = |store: &Repository, locals: &[&Local], apart: bool, what: &str| {
        let commit = Maker { repo, store, apart, head, branch, top, locals, what, who: &who }.stash()?;
        // Nothing is overwritten before it was read back from the rescue.
        let found = store.find_commit(commit).map_err(git_failure("read the rescue", top))?;
        let stash = Stash::open(store, &found).ok_or_else(|| Failure::new(format!("{commit} is not a rescue")))?;
        for local in locals {
            if !stash.holds(top, local)? {
                let path = &local.change.path;
                return Err(Failure::new(format!(
                    "the rescue does not have {path} of {} as it is; the file is left as it is",
                    top.display()
                ))
                .hint("if it was changed just now, run again"));
            }
        }
        Ok(commit)
    };
    let (own, apart) = (area.path("rescue"), area.path("private"));
    let mut what = "local changes in the way of a pull";
    let mut apart_commit = None;
    if !private.is_empty() {
        apart_commit =
            Some(made(&private_store::create(&apart)?, &private, true, "private files in the way of a pull")?);
        what = "local changes in the way of a pull, private files apart";
    }
    fs::create_dir(&own).map_err(io_failure("create", &own))?;
    let commit = made(&bare_beside(&own, Some(repo.path()))?, &shared, false, what)?;
    area.install_objects(&own)?;
    let Some(apart_commit) = apart_commit else { return name(area, repo, run, commit).map(|_| ()) };
    // An interrupted run may have stored only one of the two parts.
    let half = readable(repo)?.into_iter().find(|kept| kept.commit == Some(commit) && !kept.is_private);
    let id = match half {
        Some(half) => half.id,
        None => name(area, repo, run, commit)?,
    };
    private_store::install(repo, &apart, apart_commit, &id)
}

/// Rescues a line of commits by a ref to its last one, named after the run and `what`.
pub fn rescue_commits(area: &mut WorkArea, repo: &Repository, run: &str, what: &str, end: &str) -> Result<(), Failure> {
    let end = Oid::from_str(end).map_err(git_failure("read a commit id", repo.path()))?;
    if readable(repo)?.iter().any(|kept| kept.commit == Some(end)) {
        return Ok(());
    }
    name(area, repo, &format!("{run}-{what}"), end).map(|_| ())
}

/// What is stored under an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: String,
    /// The commit at the ref; `None` if the ref was deleted and the private files still exist.
    pub commit: Option<Oid>,
    /// It has private files.
    pub is_private: bool,
}

/// Returns all rescues, in order of id.
///
/// # Errors
/// The acting user may not read one of them.
pub fn all(repo: &Repository) -> Result<Vec<Kept>, Failure> {
    if let Some(obstacle) = unreadable::in_refs(repo.path(), NAMESPACE) {
        return Err(obstacle.refusal(repo.workdir().unwrap_or(repo.path())));
    }
    readable(repo)
}

/// Returns the rescues that the acting user may read, in order of id.
fn readable(repo: &Repository) -> Result<Vec<Kept>, Failure> {
    let failed = git_failure("list the rescues", repo.path());
    let mut private = private_store::ids(repo)?;
    let mut found = Vec::new();
    for reference in repo.references_glob(&format!("{NAMESPACE}*")).map_err(&failed)? {
        let reference = reference.map_err(&failed)?;
        let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
        if let (Some(id), commit @ Some(_)) = (name.strip_prefix(NAMESPACE), reference.target()) {
            let place = private.iter().position(|private| private == id);
            let is_private = place.map(|place| private.swap_remove(place)).is_some();
            found.push(Kept { id: id.to_owned(), commit, is_private });
        }
    }
    found.extend(private.into_iter().map(|id| Kept { id, commit: None, is_private: true }));
    found.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(found)
}

/// Names a rescue and returns its id, with a number appended if the id is taken.
fn name(area: &mut WorkArea, repo: &Repository, id: &str, commit: Oid) -> Result<String, Failure> {
    let mut free = id.to_owned();
    let mut number = 2;
    while refs::target(repo, &format!("{NAMESPACE}{free}"))?.is_some() || private_store::folder(repo, &free).exists() {
        free = format!("{id}-{number}");
        number += 1;
    }
    refs::set(area, repo, &format!("{NAMESPACE}{free}"), None, commit)?;
    Ok(free)
}

/// Whether a rescue of the same HEAD has everything that is in the way.
fn already_rescued(repo: &Repository, top: &Path, head: Option<Oid>, survey: &Survey) -> Result<bool, Failure> {
    for kept in readable(repo)? {
        let Some(Ok(commit)) = kept.commit.map(|commit| repo.find_commit(commit)) else { continue };
        let Some(stash) = Stash::open(repo, &commit).filter(|stash| stash.is_of(head)) else { continue };
        let store = private_store::open(repo, &kept.id)?;
        let apart = match &store {
            Some(store) => Stash::open(store, &private_store::commit(store)?),
            None => None,
        };
        let mut whole = true;
        for local in survey.in_the_way.values() {
            let holder = if local.change.private { apart.as_ref() } else { Some(&stash) };
            whole = whole && holder.map_or(Ok(false), |stash| stash.holds(top, local))?;
        }
        if whole {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the date of a rescue: that of its newest file, or of HEAD. So a run that is started again after a kill makes the same
/// commit, and nothing is left over.
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
