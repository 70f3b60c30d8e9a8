//! What to do if a rescue cannot be restored because something newer is in its place.

use std::fs;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Repository, Tree};

use super::opened::RescueContents;
use crate::failure::Failure;
use crate::git::RepoPath;
use crate::host::fs::free_name;
use crate::text::shell_word;

/// The maximum number of paths with a hint of their own.
const HINTED: usize = 5;

/// A path whose newer state a restore would replace.
pub struct Newer<'h> {
    pub path: &'h RepoPath,
    /// In the index, not in the working tree.
    pub staged: bool,
}

/// Makes the failure that names all the paths, with what can be done about each. No hint loses or publishes what is there now:
/// it may be a secret that a step has written since.
pub fn failure(
    top: &Path,
    held: &RescueContents,
    head: Option<&Tree<'_>>,
    newer: &[Newer<'_>],
    claimed: &[(PathBuf, String)],
) -> Failure {
    let replaced: Vec<String> = newer.iter().filter_map(|newer| cannot_write(head, newer)).collect();
    if !replaced.is_empty() && replaced.len() == newer.len() {
        let shown = replaced.iter().take(HINTED).cloned().collect::<Vec<_>>().join(", ");
        let more =
            if replaced.len() > HINTED { format!(", and {} more", replaced.len() - HINTED) } else { String::new() };
        return Failure::new(format!("nothing was restored: {shown}{more}")).hint(ELSEWHERE);
    }
    let names = newer.iter().map(|newer| match Place::of(top, newer) {
        Place::Index => format!("{} in the index", newer.path),
        Place::Directory(at) if at == *newer.path => format!("{at} (now a directory)"),
        _ => newer.path.to_string(),
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let message =
        format!("nothing was restored: {names} would be overwritten, and there is no other copy of what is there now");
    // The hint for the file serves for its staged state too.
    let is_said = |other: &Newer<'_>| other.staged && newer.iter().any(|one| !one.staged && one.path == other.path);
    let (mut hints, mut more) = (Vec::new(), 0);
    for newer in newer.iter().filter(|newer| !is_said(newer)) {
        if hints.len() < HINTED {
            hints.push(match replaced_in_head(head, newer) {
                Some(what) => format!("{what}: {ELSEWHERE}"),
                None => hint(top, held, newer, claimed),
            });
        } else {
            more += 1;
        }
    }
    if more > 0 {
        hints.push(format!("and {more} more"));
    }
    Failure::new(message).hint(hints.join("; "))
}

/// Returns whether HEAD has something else in place of a file of the rescue.
pub fn is_replaced(repo: &Repository, held: &RescueContents) -> bool {
    let head = repo.head().and_then(|head| head.peel_to_tree()).ok();
    let mut written = held.files.iter().filter(|(_, blob)| blob.is_some());
    written.any(|(path, _)| replaced_in_head(head.as_ref(), &Newer { path, staged: false }).is_some())
}

/// The hint for a path that is something else in HEAD.
const ELSEWHERE: &str = "add `--to DIR` to the same command, which writes the rescued files to a new directory";

/// Returns the message for a path that is something else in HEAD.
fn cannot_write(head: Option<&Tree<'_>>, newer: &Newer<'_>) -> Option<String> {
    replaced_in_head(head, newer).map(|what| format!("cannot write {}: {what}", newer.path))
}

/// Returns what HEAD has in place of a path: a file or symlink above it, or a directory.
fn replaced_in_head(head: Option<&Tree<'_>>, newer: &Newer<'_>) -> Option<String> {
    if newer.staged {
        return None;
    }
    let entry = |path: &RepoPath| head?.get_path(path.as_path()).ok();
    for above in newer.path.parents() {
        let word = match entry(&above).map(|entry| entry.filemode()) {
            Some(0o160_000) => "a submodule",
            Some(0o120_000) => "a symlink",
            Some(mode) if mode & 0o170_000 == 0o100_000 => "a file",
            _ => continue,
        };
        return Some(format!("{above} is {word} in HEAD now"));
    }
    let is_dir = entry(newer.path).is_some_and(|entry| entry.kind() == Some(ObjectType::Tree));
    is_dir.then(|| format!("{} is a directory in HEAD now", newer.path))
}

fn hint(top: &Path, held: &RescueContents, newer: &Newer<'_>, claimed: &[(PathBuf, String)]) -> String {
    let path = newer.path;
    let rescued = match held.command_to_print(top, path) {
        Some(command) => format!("`{command}` prints {path} as it was rescued"),
        None => format!("{path} did not exist when it was rescued"),
    };
    let what = match Place::of(top, newer) {
        Place::Index => "something else was staged since".to_owned(),
        Place::Repository(at) => format!("{at} is now a repository of its own"),
        Place::Special(at) => format!("{at} is no longer a file"),
        Place::File(at) | Place::Directory(at) if owner(top, &at, claimed).is_some() => format!(
            "{at} was written since, and the step {} manages it: leave it there, and add by hand what it lacks",
            owner(top, &at, claimed).unwrap_or_default()
        ),
        Place::File(at) => {
            let what = format!("{at} was written since; to get the rescued state, move it aside and restore again");
            format!("{what}: `{}`", aside(top, &at))
        }
        Place::Directory(at) => {
            let what =
                "is now a directory with files of its own; if nothing uses them, move it aside and restore again";
            format!("{at} {what}: `{}`", aside(top, &at))
        }
    };
    format!("{rescued}; {what}")
}

/// What is in the way of a path.
enum Place {
    Index,
    File(RepoPath),
    Directory(RepoPath),
    /// The working tree of another repository.
    Repository(RepoPath),
    /// A FIFO, socket or device.
    Special(RepoPath),
}

impl Place {
    fn of(top: &Path, newer: &Newer<'_>) -> Self {
        if newer.staged {
            return Self::Index;
        }
        let mut parents: Vec<RepoPath> = newer.path.parents().collect();
        parents.sort();
        for above in parents {
            let at = top.join(above.as_path());
            match fs::symlink_metadata(&at) {
                Ok(found) if !found.is_dir() => return Self::File(above),
                Ok(_) if fs::symlink_metadata(at.join(".git")).is_ok() => return Self::Repository(above),
                _ => {}
            }
        }
        let at = top.join(newer.path.as_path());
        let path = newer.path.clone();
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() && fs::symlink_metadata(at.join(".git")).is_ok() => Self::Repository(path),
            Ok(found) if found.is_dir() => Self::Directory(path),
            Ok(found) if !found.is_file() && !found.is_symlink() => Self::Special(path),
            _ => Self::File(path),
        }
    }
}

/// Returns the step that manages a path, or something below it.
fn owner<'a>(top: &Path, path: &RepoPath, claimed: &'a [(PathBuf, String)]) -> Option<&'a str> {
    let real = |path: &Path| match (path.parent().and_then(|parent| fs::canonicalize(parent).ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    };
    let at = real(&top.join(path.as_path()));
    claimed.iter().find(|(claimed, _)| real(claimed).starts_with(&at)).map(|(_, step)| step.as_str())
}

/// Returns the command that renames what is at a path to a name that is free.
fn aside(top: &Path, path: &RepoPath) -> String {
    let at = top.join(path.as_path());
    format!("mv -nT {} {}", shell_word(&at), shell_word(free_name(&at, "mine")))
}
