//! Updates a checkout to the remote's head of its branch, in an order that can be interrupted anywhere: rescue, objects,
//! remote-tracking branch, files, index, and the branch and HEAD last.

use crate::text::RedactedUrl;
use std::path::Path;

use git2::{Oid, Repository};

use super::change::Update;
use super::delta::{self, Delta};
use super::desired::Repository as Desired;
use super::position::{Position, position};
use super::refusal::refusal_to_update;
use super::survey::{Survey, survey};
use super::{leftovers, move_files, rescue, update_index};
use crate::failure::Failure;
use crate::git::error::git_failure;
use crate::git::head::{Head, read_head};
use crate::git::open::open_repository;
use crate::git::refs;
use crate::git::remote::configured::{self, Tracking};
use crate::git::remote::{CheckoutState, Tag};
use crate::git::work_area::WorkArea;
use crate::telemetry::spans;

/// Makes an update that was planned.
pub fn execute(desired: &Desired, change: &Update, run: &str) -> Result<(), Failure> {
    let top = &desired.path;
    leftovers::remove_unfinished_clone(top)?;
    let repo = open(top)?;
    let url = configured::url(&repo, &desired.remote)
        .ok_or_else(|| Failure::new(format!("{} has no remote named {}", top.display(), desired.remote)))?;
    let head = read_head(&repo, top)?;
    let position = position(&repo, &head, desired)?;
    let target = id(&change.commit, top)?;
    let delta = delta::find(&repo, &desired.remote_at(&url, CheckoutState::Present), &position, target)?;
    let log = if head.commit.is_none() { "clone" } else { "pull" };
    let plan = Plan { desired, repo: &repo, top, head: &head, position: &position, target, delta: &delta, log };
    let mut locked = plan.lock()?;
    let survey = survey(&repo, top, &delta)?;
    plan.check(change, &survey)?;
    if let Some(last) = change.local_commits.first() {
        rescue::rescue_commits(&mut locked.area, &repo, run, "commits", &last.id)?;
    }
    if let Some(last) = change.detached_commits.first() {
        rescue::rescue_commits(&mut locked.area, &repo, run, "detached", &last.id)?;
    }
    rescue::rescue_files(&mut locked.area, &repo, top, run, (head.branch.as_deref(), head.commit), &survey)?;
    spans::git_checkout(&desired.branch).in_scope(|| plan.check_out(locked, &survey))
}

fn open(top: &Path) -> Result<Repository, Failure> {
    open_repository(top).map_err(git_failure("open the repository", top))
}

fn id(text: &str, top: &Path) -> Result<Oid, Failure> {
    Oid::from_str(text).map_err(git_failure("read a commit id", top))
}

/// Checks out the files of a new clone, which has only objects yet.
pub fn check_out_new_clone(desired: &Desired, url: &str, target: Oid) -> Result<(), Failure> {
    let top = &desired.path;
    let repo = open(top)?;
    let head = read_head(&repo, top)?;
    let position = position(&repo, &head, desired)?;
    let delta = delta::find(&repo, &desired.remote_at(url, CheckoutState::Present), &position, target)?;
    let log = format!("clone: from {}", RedactedUrl::of(url));
    let plan = Plan { desired, repo: &repo, top, head: &head, position: &position, target, delta: &delta, log: &log };
    let locked = plan.lock()?;
    let survey = survey(&repo, top, &delta)?;
    if let Some(found) = survey.in_the_way.values().next() {
        return Err(Failure::new(format!("{} appeared in {} meanwhile", found.change.path, top.display())));
    }
    spans::git_checkout(&desired.branch).in_scope(|| plan.check_out(locked, &survey))
}

struct Plan<'a> {
    desired: &'a Desired,
    repo: &'a Repository,
    top: &'a Path,
    head: &'a Head,
    position: &'a Position,
    target: Oid,
    delta: &'a Delta,
    /// The message of the reflog.
    log: &'a str,
}

/// What is locked, and what is written under the locks.
struct Locked<'a> {
    area: WorkArea,
    tracking: Vec<Tracking>,
    /// The tags to create.
    tags: Vec<&'a Tag>,
}

impl Plan<'_> {
    fn branch_ref(&self) -> String {
        format!("refs/heads/{}", self.desired.branch)
    }

    /// Locks the index, HEAD and all refs that are moved against other git processes, before anything is rescued.
    fn lock(&self) -> Result<Locked<'_>, Failure> {
        let git = self.repo.path();
        let mut area = WorkArea::enter(git)?;
        for name in ["index", "HEAD", &self.branch_ref()] {
            area.lock(&git.join(name))?;
        }
        let tracking = configured::tracking(self.repo, &self.desired.remote, &self.desired.branch)?;
        for Tracking { name, .. } in &tracking {
            area.lock(&git.join(name))?;
        }
        let mut tags: Vec<&Tag> = Vec::new();
        for tag in &self.delta.tags {
            // Existing tags stay as they are.
            let names = [tag.name.clone()];
            if refs::target(self.repo, &tag.name)?.is_none() && refs::conflict(self.repo, &names)?.is_none() {
                area.lock(&git.join(&tag.name))?;
                tags.push(tag);
            }
        }
        Ok(Locked { area, tracking, tags })
    }

    /// Checks under the locks that everything is as it was planned.
    fn check(&self, change: &Update, survey: &Survey) -> Result<(), Failure> {
        let head = read_head(self.repo, self.top)?;
        let paths = self.delta.changed_paths();
        let in_the_way: Vec<_> = survey.in_the_way.values().map(|local| local.change.clone()).collect();
        let text = |commit: Option<Oid>| commit.map(|commit| commit.to_string());
        let same = head == *self.head
            && head.branch == change.head_branch
            && text(head.commit) == change.head
            && text(self.position.branch) == change.branch_before
            && paths == change.paths
            && in_the_way == change.in_the_way
            && self.delta.local_commits == change.local_commits
            && self.delta.detached_commits == change.detached_commits;
        if let Some(obstacle) = survey.obstacles.first() {
            return Err(refusal_to_update(obstacle, self.desired));
        }
        if same {
            Ok(())
        } else {
            Err(Failure::new(format!("{} has changed since it was planned", self.top.display())).hint("run again"))
        }
    }

    fn check_out(&self, locked: Locked<'_>, survey: &Survey) -> Result<(), Failure> {
        let Locked { mut area, tracking, tags } = locked;
        for pack in &self.delta.packs {
            area.install_pack(pack)?;
        }
        // Opened again, since the other handle may have looked for objects before they existed.
        let repo = open(self.top)?;
        self.track(&area, &repo, &tracking)?;
        for tag in tags {
            refs::set_locked(&area, &repo, &tag.name, None, tag.id)?;
        }
        if self.position.branch.is_none() {
            refs::follow(&mut area, &repo, &self.desired.remote, &self.desired.branch)?;
        }
        let brought = move_files::update_worktree(&area, &repo, self.top, self.target, survey)?;
        update_index::replace(&area, self.top, survey, &brought)?;
        self.move_head(&mut area, &repo)?;
        area.leave()
    }

    /// Updates the remote-tracking branch, and what else `git fetch` would move with it.
    fn track(&self, area: &WorkArea, repo: &Repository, tracking: &[Tracking]) -> Result<(), Failure> {
        for Tracking { name, forced } in tracking {
            let before = refs::target(repo, name)?;
            if before == Some(self.target) {
                continue;
            }
            let forward = before.is_none_or(|before| repo.graph_descendant_of(self.target, before).unwrap_or(false));
            let how = match (before, forward) {
                (None, _) => "storing head",
                (_, true) => "fast-forward",
                (_, false) if *forced => "forced-update",
                _ => continue,
            };
            refs::log(repo, name, before, self.target, &format!("fetch: {how}"))?;
            refs::set_locked(area, repo, name, before, self.target)?;
        }
        Ok(())
    }

    /// Updates the branch and HEAD, which have been locked from the beginning.
    fn move_head(&self, area: &mut WorkArea, repo: &Repository) -> Result<(), Failure> {
        let (name, before) = (self.branch_ref(), self.position.branch);
        refs::expect(repo, &name, before)?;
        let on_branch = self.head.branch.as_deref() == Some(self.desired.branch.as_str());
        let message = match (before, on_branch) {
            (None, false) => format!("branch: Created from {}/{}", self.desired.remote, self.desired.branch),
            (Some(_), _) if !self.delta.local_commits.is_empty() => format!("reset: moving to {}", self.target),
            (None, true) => self.log.to_owned(),
            _ => format!("{}: Fast-forward", self.log),
        };
        if before != Some(self.target) {
            refs::log(repo, &name, before, self.target, &message)?;
        }
        if on_branch {
            refs::log(repo, "HEAD", self.head.commit, self.target, &message)?;
        } else {
            let from = match (&self.head.branch, self.head.commit) {
                (Some(branch), _) => branch.clone(),
                (None, commit) => commit.map(|commit| commit.to_string()).unwrap_or_default(),
            };
            let message = format!("checkout: moving from {from} to {}", self.desired.branch);
            refs::log(repo, "HEAD", self.head.commit, self.target, &message)?;
        }
        if before != Some(self.target) {
            area.install(&repo.path().join(&name), format!("{}\n", self.target).as_bytes())?;
        }
        if !on_branch {
            area.install(&repo.path().join("HEAD"), format!("ref: {name}\n").as_bytes())?;
        }
        Ok(())
    }
}
