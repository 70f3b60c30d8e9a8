//! What a walk leaves out.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags};

use super::super::descriptor::open_quietly;
use crate::host::state;

type Excludes = dyn Fn(&Path) -> bool + Send + Sync;

/// Paths below the top of a tree that a walk leaves out, as a trie of their names.
#[derive(Default)]
pub struct LeftOut {
    names: Vec<Name>,
    /// Whether a path is left out with everything below it.
    excludes: Option<Box<Excludes>>,
    /// The top of the tree, if the folders in it that are this program's own are marked.
    top: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Name {
    below: HashMap<OsString, usize>,
    extent: Option<Extent>,
}

/// How much of a path is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// The entry itself.
    Entry,
    /// The entry and everything below it.
    Whole,
}

impl LeftOut {
    /// Leaves out each path, and with `true` everything below it.
    pub fn new<'a>(paths: impl Iterator<Item = (&'a Path, bool)>) -> Self {
        let mut names = vec![Name::default()];
        for (path, whole) in paths {
            let mut at = 0;
            for name in path.iter() {
                let next = names.len();
                at = *names[at].below.entry(name.to_owned()).or_insert(next);
                if at == next {
                    names.push(Name::default());
                }
            }
            let extent = if whole { Extent::Whole } else { Extent::Entry };
            names[at].extent = names[at].extent.max(Some(extent));
        }
        Self { names, excludes: None, top: None }
    }

    /// Also leaves out each path below the top for which `excludes` returns true, and everything below it.
    pub fn excluding(mut self, excludes: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.excludes = Some(Box::new(excludes));
        self
    }

    /// Also leaves out root's state folder, and marks the other folders in which this program keeps its state and what it rescued
    /// ([`super::Entry::is_own`]). `top` is the top of the tree.
    pub fn with_own_folders(mut self, top: &Path) -> Self {
        self.top = Some(top.to_owned());
        self
    }

    /// Returns the node of `name` in the directory whose node is `at`, if anything is left out there.
    pub(super) fn below(&self, at: Option<usize>, name: &CStr) -> Option<usize> {
        self.names.get(at?)?.below.get(OsStr::from_bytes(name.to_bytes())).copied()
    }

    pub(super) fn extent(&self, at: Option<usize>) -> Option<Extent> {
        self.names.get(at?)?.extent
    }

    /// Returns whether a path is excluded with everything below it. `name` is its last name.
    pub(super) fn excludes(&self, name: &CStr, path: impl Fn() -> PathBuf) -> bool {
        let may_be_roots = name.to_bytes() == state::FOLDER_NAME.as_bytes();
        let is_roots =
            may_be_roots && self.top.as_ref().is_some_and(|top| top.join(path()) == Path::new(state::OF_ROOT));
        is_roots || self.excludes.as_ref().is_some_and(|excludes| excludes(&path()))
    }

    /// Returns whether the entry `name` of a directory is a folder in which this program keeps something.
    pub(super) fn is_own(&self, dir: &OwnedFd, name: &CStr) -> bool {
        self.top.is_some()
            && match name.to_bytes() {
                name if name == state::FOLDER_NAME.as_bytes() => is_state_folder(dir),
                // In a git directory, which may have any name.
                PRIVATE_RESCUES => rustix::fs::statat(dir, "HEAD", AtFlags::SYMLINK_NOFOLLOW).is_ok(),
                _ => false,
            }
    }
}

/// The name of the folder of a checkout's private rescues in its git directory.
const PRIVATE_RESCUES: &[u8] = b"provision-private";

/// Whether the folder with the name of state folders in a directory is one. A user can have it at any place (`$XDG_STATE_HOME`),
/// and a source tree may have a folder of that name.
fn is_state_folder(dir: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let Ok(folder) = open_quietly(dir, OsStr::new(state::FOLDER_NAME), flags) else { return false };
    let Ok(entries) = rustix::fs::Dir::read_from(&folder) else { return false };
    let is_folder = |entry: &rustix::fs::DirEntry| match entry.file_type() {
        FileType::Unknown => rustix::fs::statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        found => found == FileType::Directory,
    };
    let folders = entries.flatten().filter(is_folder).map(|entry| entry.file_name().to_bytes().to_vec());
    let folders: Vec<Vec<u8>> = folders.filter(|name| !matches!(name.as_slice(), b"." | b"..")).collect();
    state::are_parts(folders.iter().map(Vec::as_slice))
}
