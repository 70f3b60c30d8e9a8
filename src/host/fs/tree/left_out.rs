//! What a walk leaves out.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

type Excludes = dyn Fn(&Path) -> bool + Send + Sync;

/// Paths below the top of a tree that a walk leaves out, as a trie of their names.
#[derive(Default)]
pub struct LeftOut {
    names: Vec<Name>,
    /// Whether a path is left out with everything below it.
    excludes: Option<Box<Excludes>>,
    /// The top of the tree, if this program's own folders below are left out.
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

    /// Also leaves out the folders in which this program keeps its state and what it rescued, which only their users may read.
    /// `top` is the top of the tree.
    pub fn without_own_folders(mut self, top: &Path) -> Self {
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
        let may_be_own = matches!(name.to_bytes(), b"provision" | b"provision-private");
        let is_own = may_be_own && self.top.as_ref().is_some_and(|top| is_own_folder(&top.join(path())));
        is_own || self.excludes.as_ref().is_some_and(|excludes| excludes(&path()))
    }
}

/// Whether a path is a state folder of root or of another user, or the private rescues of a checkout.
fn is_own_folder(path: &Path) -> bool {
    path == Path::new("/var/lib/provision")
        || path.ends_with(".local/state/provision")
        || path.ends_with(".git/provision-private")
}
