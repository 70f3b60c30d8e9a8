//! Finds where paths lead, so that two spellings of one path are recognised: symlinks, bind mounts and hard links. Only for
//! comparing: nothing is opened by the result.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::Place;
use super::mounts::Mounts;
use crate::plan::claim::Host;

/// The number of symlinks that Linux follows in one path (path_resolution(7)).
const MAX_SYMLINKS: usize = 40;
/// Larger files are not read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Resolves paths so that each directory has the same path however it is reached.
#[derive(Debug, Default)]
pub struct Locator {
    /// The path of each directory and hard-linked file that was found, by device and inode.
    known: RefCell<HashMap<(u64, u64), PathBuf>>,
    mounts: OnceCell<Mounts>,
}

impl Host for Locator {
    fn path(&self, written: &Path) -> PathBuf {
        self.follow(written).0
    }

    fn links(&self, written: &Path) -> Vec<PathBuf> {
        self.follow(written).1
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let place = Place::find(path).ok()?;
        let seen = place.parent().ok()?.read(&place.name, MAX_BYTES).ok()?;
        seen.map(|seen| seen.bytes.to_vec())
    }
}

impl Locator {
    /// Returns where a path leads, and the symlinks on the way.
    fn follow(&self, written: &Path) -> (PathBuf, Vec<PathBuf>) {
        let mut links = Vec::new();
        let mut rest: VecDeque<OsString> = names(written);
        // The way that is followed, and the path by which what is there is known.
        let mut way = PathBuf::from("/");
        let mut found = PathBuf::from("/");
        let mut symlinks = 0;
        let mut exists = true;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                way.pop();
                found = self.known_as(&way);
                continue;
            }
            way.push(&name);
            found.push(&name);
            // What is missing or denied stays as it is written.
            let Some(meta) = exists.then(|| std::fs::symlink_metadata(&way).ok()).flatten() else {
                exists = false;
                continue;
            };
            if meta.is_symlink() {
                symlinks += 1;
                let Some(target) = (symlinks <= MAX_SYMLINKS).then(|| std::fs::read_link(&way).ok()).flatten() else {
                    exists = false;
                    continue;
                };
                links.push(found.clone());
                way.pop();
                found.pop();
                if target.is_absolute() {
                    way = PathBuf::from("/");
                    found = PathBuf::from("/");
                }
                for name in names(&target).into_iter().rev() {
                    rest.push_front(name);
                }
            } else if meta.is_dir() || meta.nlink() > 1 {
                found = self.known_by(&way, &found, &meta);
            }
        }
        (found, links)
    }

    /// Returns the path by which a directory is known.
    fn known_as(&self, way: &Path) -> PathBuf {
        match std::fs::symlink_metadata(way) {
            Ok(meta) => self.known_by(way, way, &meta),
            Err(_) => way.to_path_buf(),
        }
    }

    /// Returns the path by which a directory or a hard-linked file is known. `found` is its name in a directory that is known.
    fn known_by(&self, way: &Path, found: &Path, meta: &Metadata) -> PathBuf {
        let id = |meta: &Metadata| (meta.dev(), meta.ino());
        let mut known = self.known.borrow_mut();
        let entry = known.entry(id(meta)).or_insert_with(|| {
            let mounts = self.mounts.get_or_init(Mounts::read);
            let is_same = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok_and(|other| id(&other) == id(meta));
            // Its parent is known by the right path already, so only the top of a mount has another one.
            let is_top = meta.is_dir() && (mounts.is_point(way) || !is_same(&found.to_path_buf()));
            let first = is_top.then(|| mounts.ways_to(way).into_iter().find(is_same)).flatten();
            first.unwrap_or_else(|| found.to_path_buf())
        });
        entry.clone()
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_at_any_depth_lead_to_the_same_path() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("app/sub")).unwrap();
        symlink("app", top.join("current")).unwrap();
        symlink("../app/sub", top.join("app/up")).unwrap();
        let locator = Locator::default();
        for written in ["app/sub/f", "current/sub/f", "current/up/f", "app/./up//f", "current/../app/sub/f"] {
            assert_eq!(locator.path(&top.join(written)), top.join("app/sub/f"), "{written}");
        }
    }

    #[test]
    fn links_on_the_way_to_a_path_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("app/sub")).unwrap();
        symlink("current", top.join("latest")).unwrap();
        symlink("app", top.join("current")).unwrap();
        symlink("../missing", top.join("app/sub/link")).unwrap();
        let links = |path: &str| Locator::default().links(&top.join(path));
        let expected = ["latest", "current", "app/sub/link"].map(|path| top.join(path));
        assert_eq!(links("latest/sub/link/x"), expected);
        assert_eq!(links("app/sub/x"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn a_link_whose_target_is_missing_leads_there() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        symlink("releases/1", top.join("current")).unwrap();
        assert_eq!(Locator::default().path(&top.join("current/x/y")), top.join("releases/1/x/y"));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        symlink("b", top.join("a")).unwrap();
        symlink("a", top.join("b")).unwrap();
        assert!(Locator::default().path(&top.join("a/x")).ends_with("x"));
    }

    #[test]
    fn two_names_of_one_file_lead_to_one_path() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::write(top.join("one"), "").unwrap();
        std::fs::hard_link(top.join("one"), top.join("two")).unwrap();
        let locator = Locator::default();
        assert_eq!(locator.path(&top.join("two")), locator.path(&top.join("one")));
    }
}
