//! Finds what the acting user may not read in a checkout. libgit2 takes an object that it cannot read for a missing one, and reports
//! other files as locked. Used only when something has failed, since the search reads whole directories.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::obstacle::{Obstacle, is_own};
use super::path::RepoPath;
use crate::host::fs::{escape_path, may_access};

/// The parts of a git directory that git reads for a fetch from it.
const PARTS: [&str; 6] = ["HEAD", "config", "packed-refs", "shallow", "refs", "objects"];

/// Returns the obstacle for the first file or directory below the git directory `git` that the acting user may not read.
pub fn in_git_directory(git: &Path) -> Option<Obstacle> {
    let denied = PARTS.iter().chain(&["index"]).find_map(|part| first_denied(&git.join(part)))?;
    Some(of_git(&denied))
}

/// Returns the first file or directory of a remote, or on the way to it, that the acting user may not read and a fetch has to.
pub fn in_remote(path: &Path) -> Option<PathBuf> {
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    // What does not exist is not denied. A symlink is followed.
    let is_closed = |folder: &&Path| match fs::metadata(folder) {
        Ok(_) => !may_access(folder, Access::EXEC_OK),
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    };
    if let Some(closed) = above.into_iter().find(is_closed) {
        return Some(closed.to_owned());
    }
    // The places where git looks for a repository, in its order (`enter_repo` in git's path.c).
    let with_ending = |ending: &str| {
        let mut place = path.as_os_str().to_owned();
        place.push(ending);
        PathBuf::from(place)
    };
    let places = ["/.git", "", ".git/.git", ".git"].map(with_ending);
    let git = fs::canonicalize(places.iter().find(|place| place.is_dir())?).ok()?;
    PARTS.iter().find_map(|part| first_denied(&git.join(part)))
}

/// Returns the obstacle for the first file or directory that the acting user may not read of the refs below `namespace`. libgit2
/// takes such refs for missing ones.
pub fn in_refs(git: &Path, namespace: &str) -> Option<Obstacle> {
    let refs = git.join(namespace);
    let mut above: Vec<&Path> = refs.ancestors().skip(1).take_while(|folder| *folder != git).collect();
    above.reverse();
    // A directory on the way need not be listed.
    let closed = above.into_iter().find(|folder| is_denied(folder, Access::EXEC_OK)).map(Path::to_owned);
    let denied = closed.or_else(|| first_denied(&refs)).or_else(|| first_denied(&git.join("packed-refs")))?;
    Some(of_git(&denied))
}

/// Returns the obstacle for what the acting user may not read on the way to a path of the working tree, at the path, or below it.
pub fn in_working_tree(top: &Path, path: &RepoPath) -> Option<Obstacle> {
    let mut above: Vec<RepoPath> = path.parents().collect();
    above.sort();
    let folders = above.iter().map(|folder| top.join(folder.as_path()));
    // A directory on the way need not be listed.
    let closed = folders.into_iter().find(|folder| is_denied(folder, Access::EXEC_OK));
    let denied = closed.or_else(|| first_denied(&top.join(path.as_path())))?;
    Some(Obstacle::UnreadableWork { is_own: is_own(&escape_path(&denied)), path: escape_path(&denied) })
}

/// Returns the obstacle that explains a failure at `path`, which is in a checkout or its git directory, or is one of them. `named` is
/// the path that the message has.
pub fn cause(path: &Path, named: Option<&Path>) -> Option<(PathBuf, Obstacle)> {
    let git = |folder: &Path| {
        if folder.file_name()? == ".git" { Some(folder.to_owned()) } else { Some(folder.join(".git")) }
    };
    // The first one, whatever it is: what is around a checkout with a `.git` file has another git directory.
    let git = path.ancestors().filter_map(git).find(|git| git.symlink_metadata().is_ok())?;
    if !git.is_dir() {
        return None;
    }
    let top = git.parent()?.to_owned();
    let in_work = || {
        let below = named?.strip_prefix(&top).ok().filter(|below| !below.starts_with(".git"))?;
        in_working_tree(&top, &RepoPath::new(below.as_os_str().as_encoded_bytes()))
    };
    let obstacle = in_work().or_else(|| in_git_directory(&git))?;
    Some((top, obstacle))
}

/// Makes the obstacle for a file of a git directory.
pub fn of_git(path: &Path) -> Obstacle {
    let shown = escape_path(path);
    Obstacle::Unreadable { is_own: is_own(&shown), path: shown, problem: "permission denied".to_owned() }
}

/// Returns the first path that may not be read: this one, or one below it. What does not exist may be.
fn first_denied(path: &Path) -> Option<PathBuf> {
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir() {
            if is_denied(&path, Access::READ_OK | Access::EXEC_OK) {
                return Some(path);
            }
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        } else if found.is_file() && is_denied(&path, Access::READ_OK) {
            return Some(path);
        }
    }
    None
}

fn is_denied(path: &Path, wanted: Access) -> bool {
    fs::symlink_metadata(path).is_ok() && !may_access(path, wanted)
}
