//! Finds FIFOs, sockets and devices in place of git's own files: libgit2 opens them and would block forever.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::obstacle::Obstacle;
use super::path::RepoPath;
use crate::host::fs::{Dir, Error, FileKind, escape_path, tree};

/// Returns the first special file in the git directory.
pub fn in_git_directory(git: &Path) -> Option<Obstacle> {
    let mut found = None;
    // A directory that cannot be walked cannot be opened either, and libgit2 reports why.
    let _ = Dir::open(git).and_then(|dir| {
        tree::survey(&dir, &tree::LeftOut::default(), |met| match met {
            tree::Visit::Entry(entry) if waits(entry.kind) => {
                found = Some(obstacle(&git.join(entry.path()), entry.kind));
                Err(Error::refused("found", "stop"))
            }
            _ => Ok(()),
        })
    });
    found
}

/// Returns the first special file among those that git reads by name in a working tree, in the directories of these paths.
pub fn in_working_tree(top: &Path, paths: impl Iterator<Item = Vec<u8>>) -> Option<Obstacle> {
    let mut folders = BTreeSet::from([Vec::new()]);
    for path in paths {
        for parent in RepoPath::new(path).parents() {
            folders.insert(parent.bytes().to_vec());
        }
    }
    folders.into_iter().find_map(|folder| {
        let folder = top.join(Path::new(OsStr::from_bytes(&folder)));
        [".gitignore", ".gitattributes"].into_iter().find_map(|name| at(&folder.join(name)))
    })
}

/// Follows symlinks, as libgit2 does.
fn at(path: &Path) -> Option<Obstacle> {
    let stat = rustix::fs::stat(path).ok()?;
    let kind = FileKind::of(stat.st_mode);
    waits(kind).then(|| obstacle(path, kind))
}

fn waits(kind: FileKind) -> bool {
    matches!(kind, FileKind::Fifo | FileKind::Socket | FileKind::Device)
}

fn obstacle(path: &Path, kind: FileKind) -> Obstacle {
    Obstacle::Broken { problem: format!("{} is {}, not a file", escape_path(path), kind.name()) }
}
