//! Clones: the git directory is built under another name and renamed when it is complete, then the files are checked out as in
//! an update.

use crate::text::RedactedUrl;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use git2::{ObjectType, Oid, Repository, RepositoryInitOptions};

use super::change::NewClone;
use super::delta::deployed;
use super::desired::Repository as Desired;
use super::leftovers::{UNFINISHED, remove_unfinished_clone};
use super::refusal::refusal_to_clone;
use super::update;
use crate::failure::Failure;
use crate::git::error::{git_failure, io_failure};
use crate::git::open::{open_repository, read_configuration_once};
use crate::git::remote::{self, CheckoutState, DownloadError, History, Scratch};
use crate::git::shared::Shared;
use crate::git::work_area::lock_directory;
use crate::git::{Obstacle, RepoPath, refs, tree_check};
use crate::host::fs::{Dir, Place, acts_as_root, escape_path};
use crate::host::thread;
use crate::resource::parents::{parent_attributes, parents_denial};
use crate::resource::{DeployedCommit, ObserveContext};

/// Makes a clone that was planned.
pub fn execute(desired: &Desired, change: &NewClone, cx: &ObserveContext) -> Result<(), Failure> {
    let Some(url) = &desired.url else {
        return Err(Failure::new(format!("there is no url to clone {} from", desired.path.display())));
    };
    let top = &desired.path;
    let target = Oid::from_str(&change.commit).map_err(git_failure("read a commit id", top))?;
    let mut made = Vec::new();
    let result = create_directories(top, cx, &mut made).and_then(|()| build(desired, url, target));
    if result.is_err() {
        // The directories that were created are removed again, as far as they are empty.
        for folder in made.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
    result?;
    update::check_out_new_clone(desired, url, target)
}

/// Returns what prevents the acting user from creating the missing parents of the checkout in the tree of another step.
pub fn obstacle_in_trees(top: &Path, cx: &ObserveContext) -> Result<Option<Obstacle>, Failure> {
    if cx.trees_above().is_empty() {
        return Ok(None);
    }
    let place = Place::find(top)?;
    let holder = place.nearest().stat_self()?;
    if acts_as_root() {
        let missing = place.missing_paths();
        for (path, new) in missing.iter().zip(parent_attributes(missing.len(), cx)?) {
            // Root clones into no directory that others can write to, so it creates none on the way.
            let uid = new.uid.unwrap_or(0);
            if uid != 0 || new.mode.is_some_and(|mode| mode & 0o022 != 0) {
                return Ok(Some(Obstacle::Untrusted { path: escape_path(path), is_own: uid == 0 }));
            }
        }
    }
    let denial = parents_denial(&place.missing_paths(), &holder, cx)?;
    Ok(denial.map(Obstacle::of_denial_in_parent))
}

/// Creates the directory with the mode that git gives it, and its missing parents as other steps create them. Adds what it created
/// to `made`. Uses descriptors, because in a directory like /tmp another user can put a symlink in place of a missing name. For the
/// same reason, a directory that another process has just created is checked as well.
fn create_directories(top: &Path, cx: &ObserveContext, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let (mut dir, missing_parents, name) = Place::find(top)?.into_parts();
    let attributes = parent_attributes(missing_parents.len(), cx)?;
    let mut enter = |(new, is_new): (Dir, bool)| {
        if is_new {
            made.push(new.path().to_owned());
        }
        if new.is_exposed()? {
            let is_own = new.stat_self()?.uid == 0;
            let obstacle = Obstacle::Untrusted { path: escape_path(new.path()), is_own };
            return Err(obstacle.refusal(top));
        }
        Ok(new)
    };
    for (parent, attributes) in missing_parents.iter().zip(attributes) {
        dir = enter(dir.create_parent(parent, attributes)?)?;
    }
    let checkout = match dir.make_dir(&name)? {
        Some(new) => (new, true),
        None => (dir.open_dir(&name)?, false),
    };
    enter(checkout).map(drop)
}

/// Builds the git directory and renames it to `.git`.
fn build(desired: &Desired, url: &str, target: Oid) -> Result<(), Failure> {
    let top = &desired.path;
    let unfinished = top.join(UNFINISHED);
    remove_unfinished_clone(top)?;
    // The mode is not set later: outside of its group, that would remove the setgid bit.
    let alive = lock_directory(&unfinished, 0o777)?;
    let result = fill_git_directory(desired, url, target, &unfinished);
    match result {
        Ok(()) => {
            shared(&unfinished)?.adjust_tree(&unfinished)?;
            let open = File::open(&unfinished).map_err(io_failure("open", &unfinished))?;
            rustix::fs::syncfs(&open).map_err(io::Error::from).map_err(io_failure("sync", &unfinished))?;
            let git = top.join(".git");
            fs::rename(&unfinished, &git).map_err(io_failure("create", &git))?;
        }
        Err(failure) => {
            let _ = fs::remove_dir_all(&unfinished);
            return Err(failure);
        }
    }
    drop(alive);
    Ok(())
}

/// Returns the setting `core.sharedRepository` of the new repository, which may come from the user's configuration.
fn shared(at: &Path) -> Result<Shared, Failure> {
    let config = open_repository(at).and_then(|repo| repo.config());
    Ok(Shared::of(&config.map_err(git_failure("read the configuration", at))?))
}

fn fill_git_directory(desired: &Desired, url: &str, target: Oid, at: &Path) -> Result<(), Failure> {
    let top = &desired.path;
    let failed = git_failure("make the repository", top);
    let mut options = RepositoryInitOptions::new();
    // No template, since git would later run its hooks.
    options.bare(true).no_reinit(true).mkdir(false).external_template(false);
    let reference = format!("refs/heads/{}", desired.branch);
    options.initial_head(&reference);
    let repo = Repository::init_opts(at, &options).map_err(&failed)?;
    let mut config = repo.config().map_err(&failed)?;
    config.set_bool("core.bare", false).map_err(&failed)?;
    // libgit2 probes the file system, and treats any error as a missing feature.
    config.set_bool("core.filemode", true).map_err(&failed)?;
    for probed in ["core.symlinks", "core.ignorecase"] {
        match config.remove(probed) {
            Err(error) if error.code() == git2::ErrorCode::NotFound => {}
            removed => removed.map_err(&failed)?,
        }
    }
    config.set_bool("core.logAllRefUpdates", true).map_err(&failed)?;
    let name = &desired.remote;
    config.set_str(&format!("remote.{name}.url"), url).map_err(&failed)?;
    config
        .set_str(&format!("remote.{name}.fetch"), &format!("+refs/heads/*:refs/remotes/{name}/*"))
        .map_err(&failed)?;
    config.set_str(&format!("branch.{}.remote", desired.branch), name).map_err(&failed)?;
    config.set_str(&format!("branch.{}.merge", desired.branch), &reference).map_err(&failed)?;
    read_configuration_once(&repo).map_err(&failed)?;

    let default = fetch(desired, url, &repo)?;
    if refs::target(&repo, &format!("refs/remotes/{name}/{}", desired.branch))? != Some(target) {
        let what = format!("{} at {} was changed meanwhile, or cannot be read", desired.branch, RedactedUrl::of(url));
        return Err(Failure::new(what).hint("run again"));
    }
    if let Some(default) = default {
        let head = format!("refs/remotes/{name}/HEAD");
        let to = format!("refs/remotes/{name}/{default}");
        // A branch of the remote can be named HEAD.
        let is_taken = refs::target(&repo, &head)?.is_some();
        if let Some(commit) = refs::target(&repo, &to)?.filter(|_| !is_taken) {
            repo.reference_symbolic(&head, &to, false, "").map_err(&failed)?;
            refs::log(&repo, &head, None, commit, &format!("clone: from {}", RedactedUrl::of(url)))?;
        }
    }
    clear_strays(at, true)?;
    match obstacle_in(&repo, target).map_err(&failed)? {
        Some(obstacle) => Err(refusal_to_clone(&obstacle, desired, RedactedUrl::of(url).as_str())),
        None => Ok(()),
    }
}

/// Returns why the tree of a commit cannot be checked out.
fn obstacle_in(repo: &Repository, target: Oid) -> Result<Option<Obstacle>, git2::Error> {
    let tree = repo.find_commit(target)?.tree()?;
    let config = repo.config()?;
    let mut obstacles = tree_check::obstacles(repo, &tree)?;
    obstacles.extend(tree_check::outside_the_tree(repo, &config));
    obstacles.retain(|obstacle| tree_check::matters(obstacle, &config));
    Ok(obstacles.into_iter().next())
}

/// The maximum number of files of a clone that are listed. The list goes to another process and into the plan.
const MAX_LISTED_FILES: usize = 10_000;
/// The maximum total length of the listed paths, in bytes.
const MAX_LISTED_BYTES: usize = 4 << 20;
/// The maximum number of entries that are counted. A hostile remote can use one small tree in many places.
const MAX_SEEN: usize = 2_000_000;

/// What is known about the files of a commit before it is cloned.
#[derive(Debug, Clone, Default)]
pub struct Preview {
    pub obstacle: Option<Obstacle>,
    /// There is not enough space to check them.
    pub unseen: bool,
    pub newest: Option<Box<DeployedCommit>>,
    /// Files in it, up to a limit.
    pub files: Vec<String>,
    pub file_count: usize,
}

/// What was found, by url and commit.
type Previews = Mutex<HashMap<(String, Oid), Preview>>;
static PREVIEWS: LazyLock<Previews> = LazyLock::new(Mutex::default);

/// Checks whether the remote's tree can be checked out. It is fetched to scratch storage once per process, without its history
/// if the remote supports that.
pub fn preview(desired: &Desired, url: &str, target: Oid) -> Result<Preview, Failure> {
    let key = (url.to_owned(), target);
    if let Some(seen) = PREVIEWS.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(seen.clone());
    }
    let site = desired.remote_at(url, CheckoutState::Missing);
    let seen = match Scratch::with(&site, |git| remote::download(git, &site, History::NotNeeded)) {
        Ok((scratch, _)) if scratch.repo().find_commit(target).is_err() => return Err(remote::moved_on(url)),
        Ok((scratch, _)) => {
            let failed = git_failure("look through the remote's files for", &desired.path);
            look_at(scratch.repo(), target).map_err(failed)?
        }
        // There may be more space in the checkout's place.
        Err(DownloadError::NoRoom(_)) => Preview { unseen: true, ..Preview::default() },
        Err(DownloadError::Other(failure)) => return Err(failure),
    };
    PREVIEWS.lock().unwrap_or_else(PoisonError::into_inner).insert(key, seen.clone());
    Ok(seen)
}

fn look_at(repo: &Repository, target: Oid) -> Result<Preview, git2::Error> {
    let commit = repo.find_commit(target)?;
    let newest = Some(Box::new(deployed(&commit)?));
    // This check limits the depth of the tree.
    if let Some(obstacle) = obstacle_in(repo, target)? {
        return Ok(Preview { obstacle: Some(obstacle), newest, ..Preview::default() });
    }
    let (mut files, mut length, mut file_count) = (Vec::new(), 0, 0);
    let mut trees = vec![(Vec::new(), commit.tree_id())];
    let mut seen = 0;
    while let Some((folder, id)) = trees.pop().filter(|_| seen < MAX_SEEN) {
        for entry in &repo.find_tree(id)? {
            seen += 1;
            let path = [&folder, entry.name_bytes()].concat();
            if entry.kind() == Some(ObjectType::Tree) {
                trees.push(([&path[..], b"/"].concat(), entry.id()));
                continue;
            }
            file_count += 1;
            length += path.len();
            if files.len() < MAX_LISTED_FILES && length < MAX_LISTED_BYTES {
                files.push(RepoPath::new(path).to_string());
            }
        }
    }
    files.sort();
    Ok(Preview { obstacle: None, unseen: false, newest, files, file_count })
}

/// Fetches all branches and tags, and returns the branch that the remote's HEAD names.
fn fetch(desired: &Desired, url: &str, repo: &Repository) -> Result<Option<String>, Failure> {
    let site = desired.remote_at(url, CheckoutState::Building(repo.path()));
    let (_scratch, git) = Scratch::new(&site)?;
    let (default, fetched) =
        thread::join(|| remote::default_branch(&git, site.remote), || remote::download_all(&git, &site));
    fetched?;
    let default = default.unwrap_or_else(|panic| resume_unwind(panic));
    // Some hosts refuse a second connection at the same time, so ask again instead of discarding the fetch.
    let default = default.or_else(|_| remote::default_branch(&git, site.remote))?;
    // A clone has no reflogs of remote-tracking branches.
    let logs = repo.path().join("logs");
    unless_missing(fs::remove_dir_all(&logs)).map_err(io_failure("remove", &logs))?;
    Ok(default)
}

fn unless_missing(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes what libgit2 silently failed to remove from a new git directory: locks, which would block every later change (no
/// ref's name ends in `.lock`), symlinks with which it probes the file system, and an empty file `shallow`, which git treats
/// as a shallow clone.
fn clear_strays(folder: &Path, is_top: bool) -> Result<(), Failure> {
    let failed = io_failure("clear", folder);
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().map_err(&failed)?.is_dir() {
            if name != "objects" {
                clear_strays(&path, false)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "lock")
            || is_top && name.to_string_lossy().starts_with("_git2_")
            || is_top && name == "shallow" && entry.metadata().is_ok_and(|found| found.len() == 0)
        {
            fs::remove_file(&path).map_err(io_failure("remove", &path))?;
        }
    }
    Ok(())
}
