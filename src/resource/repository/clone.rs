//! Makes a checkout where there is none: the git directory is built under another name and renamed when it is whole,
//! then the files are brought in as for any other move.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use git2::{Oid, Repository, RepositoryInitOptions};

use super::actual::Obstacle;
use super::change::NewClone;
use super::remote::{CheckoutState, History, Site};
use super::scratch::{Diagnostic, Scratch};
use super::work_area::{Leftover, hold, leftover};
use super::{delta, git_failure, io_failure, refs, remote, tree_check, update};
use crate::failure::Failure;
use crate::host::fs::Place;
use crate::resource::repository::Repository as Desired;

/// The git directory's name while it is being built.
pub const UNFINISHED: &str = ".provision-clone";

/// Carries out a clone that was planned.
pub fn execute(desired: &Desired, change: &NewClone) -> Result<(), Failure> {
    let Some(url) = &desired.url else {
        return Err(Failure::new(format!("there is no url to clone {} from", desired.path.display())));
    };
    let top = &desired.path;
    let target = Oid::from_str(&change.commit).map_err(git_failure("read a commit id", top))?;
    let mut made = Vec::new();
    let result = make_parents(top, &mut made).and_then(|()| build(desired, url, target));
    if result.is_err() {
        // Nothing half done: what was made goes again, as far as it is empty.
        for folder in made.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
    result?;
    update::fill(desired, url, target)
}

/// Creates the path and what is missing above it, and notes what was created. By descriptors, since in a directory like
/// /tmp somebody else can put a link in the place of each name that is not there yet; what is there by now is looked at as
/// what was made is, for the same reason.
fn make_parents(top: &Path, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let place = Place::find(top)?;
    let mut dir = place.dir;
    for name in place.missing_parents.iter().chain([&place.name]) {
        let path = dir.path_of(name);
        dir = match dir.make_dir(name)? {
            Some(new) => {
                made.push(path);
                new
            }
            None => dir.open_dir(name)?,
        };
        if dir.is_exposed()? {
            let obstacle = Obstacle::Untrusted { path: dir.path().display().to_string() };
            let refusal = obstacle.refusal(top);
            return Err(refusal);
        }
    }
    Ok(())
}

/// Builds the git directory and renames it to `.git`.
fn build(desired: &Desired, url: &str, target: Oid) -> Result<(), Failure> {
    let top = &desired.path;
    let unfinished = top.join(UNFINISHED);
    let alive = hold(&unfinished)?;
    let result = fill_git_directory(desired, url, target, &unfinished);
    match result {
        Ok(()) => {
            let open = File::open(&unfinished).map_err(io_failure("open", &unfinished))?;
            rustix::fs::syncfs(&open)
                .map_err(io::Error::from)
                .map_err(io_failure("write through to disk", &unfinished))?;
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

fn fill_git_directory(desired: &Desired, url: &str, target: Oid, at: &Path) -> Result<(), Failure> {
    let top = &desired.path;
    clear(at)?;
    let failed = git_failure("make the repository", top);
    let mut options = RepositoryInitOptions::new();
    // No template: its hooks would be programs that git runs later.
    options.bare(true).no_reinit(true).mkdir(false).external_template(false);
    let reference = format!("refs/heads/{}", desired.branch);
    options.initial_head(&reference);
    let repo = Repository::init_opts(at, &options).map_err(&failed)?;
    let mut config = repo.config().map_err(&failed)?;
    config.set_bool("core.bare", false).map_err(&failed)?;
    // libgit2 probes the file system, and takes any error of a probe for a file system that lacks something.
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
    super::read_configuration_once(&repo).map_err(&failed)?;

    let default = fetch(desired, url, &repo)?;
    if refs::target(&repo, &format!("refs/remotes/{name}/{}", desired.branch))? != Some(target) {
        let what = format!(
            "{} at {} has moved on meanwhile, or cannot be read",
            desired.branch,
            remote::without_password(url)
        );
        return Err(Failure::new(what).hint("run again"));
    }
    if let Some(default) = default {
        let head = format!("refs/remotes/{name}/HEAD");
        let to = format!("refs/remotes/{name}/{default}");
        // A branch of the remote's can be called HEAD.
        let is_taken = refs::target(&repo, &head)?.is_some();
        if let Some(commit) = refs::target(&repo, &to)?.filter(|_| !is_taken) {
            repo.reference_symbolic(&head, &to, false, "").map_err(&failed)?;
            refs::log(&repo, &head, None, commit, &format!("clone: from {}", remote::without_password(url)))?;
        }
    }
    clear_strays(at, true)?;
    match obstacle_in(&repo, target).map_err(&failed)? {
        Some(obstacle) => {
            let refusal = obstacle.refusal_to_clone(desired, &remote::without_password(url));
            Err(refusal)
        }
        None => Ok(()),
    }
}

/// What in the tree of a commit speaks against its checkout.
fn obstacle_in(repo: &Repository, target: Oid) -> Result<Option<Obstacle>, git2::Error> {
    let tree = repo.find_commit(target)?.tree()?;
    let config = repo.config()?;
    let mut obstacles = tree_check::obstacles(repo, &tree)?;
    obstacles.extend(tree_check::beside_the_tree(repo, &config));
    obstacles.retain(|obstacle| tree_check::matters(obstacle, &config));
    let entries = delta::entries(repo, None, Some(&tree))?;
    let unsafe_names = entries.into_iter().filter(|entry| !entry.path.is_safe());
    obstacles.extend(unsafe_names.map(|entry| Obstacle::UnsafeName { path: entry.path }));
    Ok(obstacles.into_iter().next())
}

/// What is known of the files of a commit that is to be cloned.
#[derive(Debug, Clone, Default)]
pub struct Ahead {
    pub obstacle: Option<Obstacle>,
    /// There is no room to look at them.
    pub unseen: bool,
}

/// What was seen, by url and commit.
type Seen = Mutex<HashMap<(String, Oid), Ahead>>;
static SEEN: LazyLock<Seen> = LazyLock::new(Mutex::default);

/// What in the remote's tree will speak against the clone. The tree is fetched into scratch space, once a process, and
/// without its history where the remote can give it so.
pub fn look_ahead(desired: &Desired, url: &str, target: Oid) -> Result<Ahead, Failure> {
    let key = (url.to_owned(), target);
    if let Some(seen) = SEEN.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(seen.clone());
    }
    let site = Site::of(desired, url, CheckoutState::Missing);
    let seen = match Scratch::with(&site, |git| remote::download(git, &site, History::NotNeeded)) {
        Ok((scratch, _)) if scratch.repo().find_commit(target).is_err() => return Err(remote::moved_on(url)),
        Ok((scratch, _)) => {
            let failed = git_failure("look through the remote's files for", &desired.path);
            Ahead { obstacle: obstacle_in(scratch.repo(), target).map_err(failed)?, unseen: false }
        }
        // The place that is cloned to may have more.
        Err(Diagnostic::NoRoom(_)) => Ahead { obstacle: None, unseen: true },
        Err(Diagnostic::Other(failure)) => return Err(failure),
    };
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(key, seen.clone());
    Ok(seen)
}

/// Fetches all branches and tags, and gives back the remote's own branch.
fn fetch(desired: &Desired, url: &str, repo: &Repository) -> Result<Option<String>, Failure> {
    let site = Site::of(desired, url, CheckoutState::Building(repo.path()));
    let (_scratch, git) = Scratch::new(&site)?;
    remote::download_all(&git, &site)?;
    let default = remote::default_branch(&git, site.remote)?;
    // A clone keeps no log of the branches that it began with.
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

/// Takes away what libgit2 could not remove again below a git directory in the making, and said nothing of: its locks, which
/// would stop every later change (no ref's name ends in `.lock`), the links by which it probes the file system, and an
/// empty list of the commits at which a shallow clone ends: git takes it for one all the same.
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

/// Empties the unfinished git directory of an interrupted run.
fn clear(at: &Path) -> Result<(), Failure> {
    let failed = io_failure("clear", at);
    for entry in fs::read_dir(at).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if entry.file_type().map_err(&failed)?.is_dir() {
            fs::remove_dir_all(entry.path()).map_err(&failed)?;
        } else {
            fs::remove_file(entry.path()).map_err(&failed)?;
        }
    }
    Ok(())
}

/// Removes the unfinished git directory of an interrupted run, where there is one.
pub fn remove_leftovers(top: &Path) -> Result<(), Failure> {
    let at = top.join(UNFINISHED);
    if leftover(&at)? == Leftover::Nothing {
        return Ok(());
    }
    let _alive = hold(&at)?;
    clear(&at)?;
    fs::remove_dir(&at).map_err(io_failure("remove", &at))
}
