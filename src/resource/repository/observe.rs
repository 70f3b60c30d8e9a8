//! Reads a checkout and asks its remote, without leaving a trace in either.

use crate::text::{RedactedUrl, aside, shell_word};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, Oid, Repository};

use super::actual::{Actual, Checkout, HeadRemote, LocalChange, Upstream};
use super::delta::{self, Delta};
use super::desired::Repository as Desired;
use super::local_changes::local_changes;
use super::move_files::UsualMode;
use super::position::position;
use super::survey::survey;
use super::{clone, deployed, leftovers, private_store, rescue};
use crate::failure::Failure;
use crate::git::error::{git_failure, git_text, io_failure};
use crate::git::head::{operation, read_head};
use crate::git::index::{SKIP_WORKTREE, newer_version, unmerged};
use crate::git::obstacle::INDEX_VERSION;
use crate::git::open::open_repository;
use crate::git::ownership::{check_ownership, check_way_to};
use crate::git::remote::{self, Answer, CheckoutState, Site, configured};
use crate::git::tree::Entry;
use crate::git::work_area::{Leftover, area_of, is_own_lock, leftover};
use crate::git::{Obstacle, RepoPath, broken_refs, configuration, refs, special_files, tree_check, unreadable};
use crate::host::fs::{Dir, acting_ids, escape_path, must_stay};
use crate::host::thread;
use crate::host::users::{acting_user, as_acting_user, name_or_id};

/// Observes the step.
pub fn observe(desired: &Desired) -> Result<Actual, Failure> {
    let top = &desired.path;
    let just_deployed = deployed::take(top);
    let found = match fs::symlink_metadata(top) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return absent(desired, false),
        other => other.map_err(io_failure("look at", top))?,
    };
    if !found.is_dir() {
        let by = if found.is_symlink() { "a symbolic link" } else { "a file" };
        let leads_to = fs::canonicalize(top).ok().filter(|_| found.is_symlink()).map(|path| path.display().to_string());
        return Ok(Actual::Occupied { by: by.to_owned(), leads_to, must_stay: must_stay(top) });
    }
    let names = names_in(top)?;
    let leftovers = names.iter().any(|name| name == leftovers::UNFINISHED);
    if !names.iter().any(|name| name == ".git") {
        let foreign: Vec<&String> = names.iter().filter(|name| *name != leftovers::UNFINISHED).collect();
        if foreign.is_empty() {
            if leftovers && leftover(&top.join(leftovers::UNFINISHED))? == Leftover::Live {
                return Ok(Actual::Unusable { obstacle: Obstacle::AnotherRun });
            }
            return absent(desired, leftovers);
        }
        if ["HEAD", "objects", "refs"].iter().all(|part| names.iter().any(|name| name == part)) {
            return Ok(Actual::Unusable { obstacle: Obstacle::Bare });
        }
        let shown = foreign.iter().take(3).map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let more = if foreign.len() > 3 { ", …" } else { "" };
        let count = if foreign.len() == 1 { "1 entry".to_owned() } else { format!("{} entries", foreign.len()) };
        let by = format!("a directory with {count} ({shown}{more})");
        // Symlinks above it may lead to what must stay.
        let real = fs::canonicalize(top).unwrap_or_else(|_| top.clone());
        return Ok(Actual::Occupied { by, leads_to: None, must_stay: must_stay(&real) });
    }
    let git = top.join(".git");
    if let Some(obstacle) = check_ownership(top, &git)? {
        return Ok(Actual::Unusable { obstacle });
    }
    if let Some(obstacle) = configuration::obstacle(Some(&git)).or_else(|| special_files::in_git_directory(&git)) {
        return Ok(Actual::Unusable { obstacle });
    }
    let repo = match open_repository(top) {
        Ok(repo) => repo,
        Err(error) if error.code() == ErrorCode::Owner => {
            let owner = |path: &Path| fs::metadata(path).map(|found| found.uid()).map_err(io_failure("look at", path));
            let (of_git, of_top, user) = (owner(&git)?, owner(top)?, acting_user());
            return Ok(Actual::Unusable {
                obstacle: if of_git == acting_ids().0 && of_top != of_git {
                    Obstacle::TopNotOwned { owner: name_or_id(of_top), user }
                } else {
                    Obstacle::NotOwned { owner: name_or_id(of_git), user }
                },
            });
        }
        Err(error) => {
            let worktree =
                git2::Config::open(&git.join("config")).and_then(|config| config.get_string("core.worktree"));
            return Ok(Actual::Unusable {
                obstacle: match worktree {
                    Ok(path) => Obstacle::WorktreeElsewhere { path },
                    Err(_) => configuration::unreadable(git_text(&error), &git),
                },
            });
        }
    };
    if repo.is_bare() {
        // Only a checkout has an index.
        let is_checkout = git.join("index").exists();
        return Ok(Actual::Unusable { obstacle: if is_checkout { Obstacle::BareSetting } else { Obstacle::Bare } });
    }
    if let Ok(index) = repo.index()
        && let Some(obstacle) = special_files::in_working_tree(top, index.iter().map(|entry| entry.path))
    {
        return Ok(Actual::Unusable { obstacle });
    }
    let unread = configuration::left_out();
    let mut checkout = Checkout { leftovers, unread, ..Checkout::default() };
    Ok(match read_checkout(desired, &repo, just_deployed, &mut checkout) {
        Ok(Some(obstacle)) => Actual::Unusable { obstacle },
        Ok(None) => Actual::Checkout(Box::new(checkout)),
        Err(failure) => match unreadable::in_git_directory(&git) {
            Some(obstacle) if obstacle.refusal(top) == failure => Actual::Unusable { obstacle },
            _ => return Err(failure),
        },
    })
}

fn absent(desired: &Desired, leftovers: bool) -> Result<Actual, Failure> {
    let nearest = desired.path.ancestors().find(|folder| fs::symlink_metadata(folder).is_ok());
    let check = |nearest: &Path| check_way_to(nearest, nearest == desired.path.as_path());
    let mut obstacle = nearest.map(check).transpose()?.flatten().or_else(|| configuration::obstacle(None));
    if let (Some(nearest), None) = (nearest, &obstacle) {
        obstacle = Dir::follow(nearest)?.entry_denial()?.map(Obstacle::of_denial_in_parent);
    }
    let upstream = match (&desired.url, &obstacle) {
        (Some(url), None) => Some((url, ask(&desired.remote_at(url, CheckoutState::Missing))?)),
        _ => None,
    };
    let mut preview = clone::Preview { obstacle, ..clone::Preview::default() };
    if let Some((url, Upstream { head: Some(head), .. })) = &upstream {
        let target = Oid::from_str(head).map_err(git_failure("read a commit id", &desired.path))?;
        preview = clone::preview(desired, url, target)?;
    }
    let clone::Preview { obstacle, unseen, newest, files, file_count } = preview;
    let upstream = upstream.map(|(_, upstream)| upstream);
    let missing_parents = nearest.map(|nearest| missing_parents(&desired.path, nearest)).unwrap_or_default();
    let unread = configuration::left_out();
    Ok(Actual::Absent { upstream, leftovers, obstacle, unseen, newest, files, file_count, missing_parents, unread })
}

/// Returns the parent directories that a clone creates, the outermost first, by the same paths as other steps of the run have.
fn missing_parents(path: &Path, nearest: &Path) -> Vec<String> {
    let Some(rest) = path.strip_prefix(nearest).ok().and_then(Path::parent) else { return Vec::new() };
    let mut parent = fs::canonicalize(nearest).unwrap_or_else(|_| nearest.to_owned());
    let each = rest.iter().map(|name| {
        parent.push(name);
        escape_path(&parent)
    });
    each.collect()
}

fn ask(site: &Site<'_>) -> Result<Upstream, Failure> {
    let answer = remote::ask(site)?;
    Ok(upstream_at(site, answer))
}

fn upstream_at(site: &Site<'_>, answer: Answer) -> Upstream {
    let Answer { head, branches, more_branches, is_tag, suggested } = answer;
    let (url, head) = (RedactedUrl::of(site.url).to_string(), head.map(|head| head.to_string()));
    Upstream { url, head, branches, more_branches, is_tag, suggested }
}

fn names_in(folder: &Path) -> Result<Vec<String>, Failure> {
    let failed = io_failure("read the directory", folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(&failed)? {
        names.push(
            RepoPath::new(std::os::unix::ffi::OsStrExt::as_bytes(entry.map_err(&failed)?.file_name().as_os_str()))
                .to_string(),
        );
    }
    names.sort();
    Ok(names)
}

/// Fills in `checkout`. Returns an obstacle if nothing more can be read.
fn read_checkout(
    desired: &Desired,
    repo: &Repository,
    just_deployed: Option<Oid>,
    checkout: &mut Checkout,
) -> Result<Option<Obstacle>, Failure> {
    let top = &desired.path;
    match leftover(&area_of(repo.path()))? {
        Leftover::Live => return Ok(Some(Obstacle::AnotherRun)),
        Leftover::Stale => checkout.leftovers = true,
        Leftover::Nothing => {}
    }
    let broken = |problem: String| {
        Ok(Some(match configuration::unreadable(problem, &top.join(".git")) {
            // A branch whose file is damaged gets its last value from its log.
            broken @ Obstacle::Broken { .. } => broken_refs::repairable(repo, top).unwrap_or(broken),
            other => other,
        }))
    };
    let head = match read_head(repo, top) {
        Ok(head) => head,
        Err(failure) => return broken(failure.message),
    };
    if let Some(commit) = head.commit
        && let Err(error) = repo.find_commit(commit).and_then(|commit| commit.tree())
    {
        return broken(git_text(&error));
    }
    let position = match position(repo, &head, desired) {
        Ok(position) => position,
        Err(failure) => return broken(failure.message),
    };
    checkout.head_branch.clone_from(&head.branch);
    checkout.head_remote = head.branch.as_deref().and_then(|branch| head_remote(repo, branch));
    checkout.head = head.commit.map(|commit| commit.to_string());
    checkout.branch = position.branch.map(|commit| commit.to_string());
    if let Some(obstacle) = damaged_index(repo, top, head.commit.is_some()) {
        return Ok(Some(obstacle));
    }
    match obstacles(desired, repo) {
        Ok(found) => checkout.obstacles = found,
        Err(error) => return broken(git_text(&error)),
    }
    let urls = configured::urls(repo, &desired.remote);
    checkout.several_urls = urls.len() > 1;
    let Some(url) = urls.into_iter().next() else { return Ok(None) };
    checkout.remote_url = Some(RedactedUrl::of(&url).to_string());
    checkout.same_place = desired.url.as_deref().is_some_and(|wanted| {
        let (url, wanted) = configured::resolved(repo, &url, wanted);
        remote::same_url(&url, &wanted) || remote::same_place(&url, &wanted, top)
    });
    let wrong = desired.url.as_deref().is_some_and(|wanted| !remote::same_url(&url, wanted)) && !checkout.same_place;
    if wrong || checkout.obstacles.iter().any(Obstacle::always) {
        return Ok(None);
    }
    let site = desired.remote_at(&url, CheckoutState::Present);
    // If nothing has to be updated, which is usual, the local changes are shown. They are read while the remote answers.
    let on_branch = head.branch.as_deref() == Some(desired.branch.as_str());
    let upstream = || match just_deployed {
        Some(commit) => Ok(upstream_at(&site, Answer { head: Some(commit), ..Answer::default() })),
        None => ask(&site),
    };
    let (upstream, local) = thread::join(upstream, || on_branch.then(|| local_changes(repo, None)));
    let upstream = upstream.unwrap_or_else(|panic| resume_unwind(panic))?;
    let target = upstream.head.as_deref().and_then(|head| Oid::from_str(head).ok());
    checkout.upstream = Some(upstream);
    let Some(target) = target else { return Ok(None) };
    if let Some(local) = local.filter(|_| head.commit == Some(target)) {
        checkout.keep(local?);
        // Errors do not matter, since there is nothing to update.
        let tree = repo.find_commit(target).and_then(|commit| commit.tree());
        checkout.obstacles.extend(tree.and_then(|tree| tree_check::obstacles(repo, &tree)).unwrap_or_default());
        if let Ok(config) = repo.config() {
            checkout.obstacles.extend(tree_check::outside_the_tree(repo, &config));
            checkout.obstacles.retain(|obstacle| tree_check::matters(obstacle, &config));
        }
        checkout.obstacles.extend(other_locks(repo.path(), &checkout.obstacles));
        return Ok(None);
    }
    if !checkout.obstacles.is_empty() {
        return Ok(None);
    }
    let delta = delta::find(repo, &site, &position, target)?;
    compare(repo, desired, &delta, checkout)?;
    Ok(None)
}

/// Returns why the index cannot be read. In a repository with a commit, a missing one means that all files were deleted.
fn damaged_index(repo: &Repository, top: &Path, has_commit: bool) -> Option<Obstacle> {
    let index = repo.path().join("index");
    let found = fs::metadata(&index);
    let is_missing = found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let problem = if found.is_ok_and(|found| found.is_dir()) {
        "is damaged: it is a directory".to_owned()
    } else if is_missing && has_commit {
        "is missing".to_owned()
    } else {
        let error = repo.index().err()?;
        if let Some(version) = newer_version(&index) {
            return Some(Obstacle::Unsupported { problem: format!("version {version} {INDEX_VERSION}") });
        }
        match configuration::unreadable(git_text(&error), &top.join(".git")) {
            // libgit2 says so of a file that is too short to be an index.
            Obstacle::Broken { problem } if problem.ends_with("no longer exists") => {
                "is damaged: the file is too short".to_owned()
            }
            Obstacle::Broken { problem } => format!("is damaged: {problem}"),
            other => return Some(other),
        }
    };
    // The new index is complete before the old one is moved: without any, all files look deleted.
    let new = repo.path().join("index.new");
    let (file, target) = (shell_word(&new), shell_word(&index));
    let build = format!("env GIT_INDEX_FILE={file} git -C {} read-tree HEAD", shell_word(top));
    let moved = if is_missing { String::new() } else { format!(" && {}", aside(&index)) };
    // The marks of the files that are left out are in the index alone.
    let is_sparse = repo.config().and_then(|config| config.get_bool("core.sparseCheckout")).unwrap_or(false);
    let left_out =
        if is_sparse { format!(" && git -C {} sparse-checkout reapply", shell_word(top)) } else { String::new() };
    let command = as_acting_user(&format!("{build}{moved} && mv -T {file} {target}{left_out}"));
    Some(Obstacle::DamagedIndex { problem, command, operation: operation(repo.state()).map(str::to_owned) })
}

/// Returns the remote that a branch follows.
fn head_remote(repo: &Repository, branch: &str) -> Option<HeadRemote> {
    let remotes = repo.remotes().ok()?;
    let names: Vec<&str> = remotes.iter().flatten().flatten().collect();
    let upstream = repo.config().ok()?.get_string(&format!("branch.{branch}.remote")).ok();
    let only = || if let [one] = names.as_slice() { Some(*one) } else { None };
    let name = names.iter().copied().find(|name| upstream.as_deref() == Some(*name));
    let name = name.or_else(|| names.iter().copied().find(|name| *name == "origin")).or_else(only)?;
    let url = configured::url(repo, name)?;
    let shown = RedactedUrl::of(&url).to_string();
    Some(HeadRemote { name: name.to_owned(), has_login: shown != url, url: shown })
}

fn compare(repo: &Repository, desired: &Desired, delta: &Delta, checkout: &mut Checkout) -> Result<(), Failure> {
    let top = &desired.path;
    let config = repo.config().map_err(git_failure("read the configuration", top))?;
    checkout.obstacles.extend(delta.obstacles.iter().cloned());
    checkout.obstacles.extend(tree_check::outside_the_tree(repo, &config));
    checkout.obstacles.retain(|obstacle| tree_check::matters(obstacle, &config));
    checkout.behind = delta.behind;
    checkout.local_commits.clone_from(&delta.local_commits);
    checkout.detached_commits.clone_from(&delta.detached_commits);
    checkout.incoming.clone_from(&delta.incoming);
    checkout.paths = delta.changed_paths();
    checkout.narrowed = delta.entries.iter().filter_map(|entry| narrowed(top, entry)).collect();
    let tags = delta.tags.iter().map(|tag| tag.name.as_str()).filter(|name| repo.find_reference(name).is_err());
    checkout.obstacles.extend(locks(repo.path(), tags));
    let moved = refs::moved(repo, &desired.remote, &desired.branch)?;
    if let Some((found, wanted)) = refs::conflict(repo, &moved)? {
        checkout.obstacles.push(Obstacle::RefConflict { found, wanted });
    }
    checkout.obstacles.extend(refs::denial(repo, &moved)?.map(Obstacle::of_denial_in_git));
    if !checkout.obstacles.is_empty() {
        return Ok(());
    }
    let survey = survey(repo, top, delta)?;
    checkout.obstacles.extend(survey.obstacles);
    let places =
        other_places(repo, delta, survey.in_the_way.values().map(|local| &local.change), checkout.branch.is_none())?;
    checkout.obstacles.extend(refs::denial_at(places)?.map(Obstacle::of_denial_in_git));
    checkout.in_the_way = survey.in_the_way.values().map(|local| local.change.clone()).collect();
    let moved: std::collections::BTreeSet<&RepoPath> =
        survey.items.iter().map(|item| &item.path).chain(survey.in_the_way.keys()).collect();
    let mut kept = Vec::new();
    for local in local_changes(repo, None)? {
        let folder = local.path.bytes().strip_suffix(b"/").map(RepoPath::new);
        match folder.filter(|folder| moved.iter().any(|path| path.is_under(folder))) {
            // An untracked directory is named as a whole, unless a part of it is updated.
            Some(folder) => kept.extend(local_changes(repo, Some(&folder))?),
            None => kept.push(local),
        }
    }
    kept.retain(|local| !moved.contains(&local.path));
    checkout.keep(kept);
    Ok(())
}

/// Returns the places in the git directory that only this update writes to: for a rescue, new tags and a new branch.
fn other_places<'a>(
    repo: &Repository,
    delta: &Delta,
    mut in_the_way: impl Iterator<Item = &'a LocalChange>,
    is_new: bool,
) -> Result<Vec<PathBuf>, Failure> {
    let git = repo.path();
    let mut places: Vec<PathBuf> = delta.tags.iter().map(|tag| git.join(&tag.name)).collect();
    // Existing tags stay as they are.
    places.retain(|tag| fs::symlink_metadata(tag).is_err());
    if is_new {
        places.push(git.join("config"));
    }
    if let Some(first) = in_the_way.next() {
        places.extend(refs::places_of_new_objects(repo)?);
        if first.private || in_the_way.any(|change| change.private) {
            private_store::check(repo)?;
            places.push(private_store::folder(repo, "new"));
        }
    } else if delta.local_commits.is_empty() && delta.detached_commits.is_empty() {
        return Ok(places);
    }
    places.push(git.join(rescue::NAMESPACE).join("new"));
    Ok(places)
}

/// Returns the path and mode of a file if more users can read the one that replaces it. git keeps only the executable bit.
fn narrowed(top: &Path, entry: &Entry) -> Option<(RepoPath, u32)> {
    let found = fs::symlink_metadata(top.join(entry.path.as_path())).ok().filter(fs::Metadata::is_file)?;
    let mode = found.mode() & 0o777;
    let is_file = entry.new.is_some_and(|blob| blob.mode & 0o170_000 == 0o100_000);
    (is_file && 0o044 & !UsualMode::of_this_process().mask() & !mode != 0).then(|| (entry.path.clone(), mode))
}

/// Returns the locks that other git processes hold, or have left, of these files in the git directory.
fn locks<'a>(git: &Path, names: impl Iterator<Item = &'a str>) -> Vec<Obstacle> {
    let locks = names.map(|name| git.join(format!("{name}.lock")));
    let locks = locks.filter(|lock| fs::symlink_metadata(lock).is_ok() && !is_own_lock(git, lock));
    locks.map(|lock| Obstacle::of_lock(&lock)).collect()
}

/// Returns the locks that do not prevent an update by this program, but commands of people.
fn other_locks(git: &Path, known: &[Obstacle]) -> Vec<Obstacle> {
    let mut names = vec!["shallow".to_owned()];
    let mut folders = vec![git.join("refs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "lock")
                && let Ok(name) = path.with_extension("").strip_prefix(git)
            {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    let mut locks = locks(git, names.iter().map(String::as_str));
    locks.retain(|lock| !known.contains(lock));
    locks
}

/// Returns the obstacles to an update, the worst first. `diff` decides whether they matter.
fn obstacles(desired: &Desired, repo: &Repository) -> Result<Vec<Obstacle>, git2::Error> {
    let git = repo.path();
    let mut found = Vec::new();
    // libgit2 follows symlinks, so the directories are compared and not their paths.
    let same = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    match repo.workdir() {
        Some(workdir) if same(workdir).is_some() && same(workdir) == same(&desired.path) => {}
        Some(workdir) => found.push(Obstacle::WorktreeElsewhere { path: escape_path(workdir) }),
        None => found.push(Obstacle::SeparateGitDirectory),
    }
    if let Some(name) = operation(repo.state()) {
        found.push(Obstacle::Operation { name: name.to_owned() });
    }
    let index = repo.index()?;
    found.extend(unmerged(&index).map(|path| Obstacle::Unmerged { path }));
    let branch = format!("refs/heads/{}", desired.branch);
    let tracking = configured::tracking(repo, &desired.remote, &desired.branch).unwrap_or_default();
    let tracking = tracking.iter().map(|tracking| tracking.name.as_str());
    found.extend(locks(git, ["index", "HEAD", "config", "packed-refs", &branch].into_iter().chain(tracking)));
    let config = repo.config()?;
    let promisors = configured::promisors(repo)?;
    if promisors.is_empty() {
        found.extend(broken_refs::obstacle(repo, &desired.path)?);
    }
    found.extend(promisors.into_iter().map(|(promisor, keys)| {
        // If it is gone, the step's remote may have its objects.
        let remote = configured::url(repo, &promisor).map_or_else(|| desired.remote.clone(), |_| promisor);
        Obstacle::PartialClone { remote, keys }
    }));
    if config.get_bool("core.sparseCheckout").unwrap_or(false) {
        found.push(Obstacle::Sparse);
    } else if let Some(entry) = index.iter().find(|entry| entry.flags_extended & SKIP_WORKTREE != 0) {
        found.push(Obstacle::LeftOut { path: RepoPath::new(entry.path) });
    }
    if let Ok(worktrees) = fs::read_dir(git.join("worktrees")) {
        for worktree in worktrees.flatten() {
            let head = fs::read_to_string(worktree.path().join("HEAD")).unwrap_or_default();
            if head.trim_end() == format!("ref: {branch}") {
                let at = fs::read_to_string(worktree.path().join("gitdir")).unwrap_or_default();
                let path = Path::new(at.trim_end().trim_end_matches("/.git"));
                let gone = !path.join(".git").exists();
                found.push(Obstacle::CheckedOutElsewhere { path: escape_path(path), gone });
            }
        }
    }
    Ok(found)
}
