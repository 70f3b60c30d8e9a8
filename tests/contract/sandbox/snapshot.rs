//! A snapshot of a host's files: everything from `stat` and the content, in a comparable form.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Sandbox;

/// The state of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: &'static str,
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    /// A digest of the content of a file, or the target of a symlink.
    pub content: String,
    /// Inode, size and times, which change even if a file is rewritten with the same content.
    pub traces: String,
}

impl Entry {
    fn new(stat: &Metadata, content: String) -> Self {
        let file_type = stat.file_type();
        let kind = if file_type.is_dir() {
            "directory"
        } else if file_type.is_symlink() {
            "symlink"
        } else if file_type.is_file() {
            "file"
        } else if file_type.is_fifo() {
            "fifo"
        } else {
            "other"
        };
        let mode = stat.mode() & 0o7777;
        Self { kind, mode, owner: stat.uid(), group: stat.gid(), content, traces: String::new() }
    }
}

/// The paths of a host and their states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(pub BTreeMap<PathBuf, Entry>);

impl Snapshot {
    /// Takes a snapshot of `root` (a path of the host), except the trees in `except`.
    pub fn take(sandbox: &Sandbox, root: &str, except: &[&str]) -> Self {
        let mut snapshot = Self::default();
        snapshot.add(sandbox, Path::new(root), except);
        snapshot
    }

    /// Takes a snapshot of the whole host, except the files of the database server and the program, which hosts share.
    pub fn whole(sandbox: &Sandbox) -> Self {
        Self::take(sandbox, "/", &["/var/lib/postgresql", "/opt/provision/bin"])
    }

    fn add(&mut self, sandbox: &Sandbox, path: &Path, except: &[&str]) {
        if except.iter().any(|left_out| path.starts_with(left_out)) {
            return;
        }
        let outside = sandbox.path(path);
        let stat = match fs::symlink_metadata(&outside) {
            Ok(stat) => stat,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => panic!("{}: {error}", outside.display()),
        };
        let file_type = stat.file_type();
        let content = if file_type.is_symlink() {
            fs::read_link(&outside).unwrap().display().to_string()
        } else if file_type.is_file() {
            blake3::hash(&fs::read(&outside).unwrap()).to_hex()[..16].to_owned()
        } else {
            String::new()
        };
        let traces = format!(
            "inode {} links {} size {} mtime {}.{:09} ctime {}.{:09}",
            stat.ino(),
            stat.nlink(),
            stat.size(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec()
        );
        self.0.insert(path.to_owned(), Entry { traces, ..Entry::new(&stat, content) });
        if file_type.is_dir() {
            for inside in fs::read_dir(&outside).unwrap() {
                self.add(sandbox, &path.join(inside.unwrap().file_name()), except);
            }
        }
    }

    /// Adds one path without inode, size and times.
    pub fn add_entry(&mut self, path: &str, stat: &Metadata, content: String) {
        self.0.insert(path.into(), Entry::new(stat, content));
    }

    /// Drops inodes, sizes and times, which two separately created hosts cannot have in common.
    pub fn without_traces(mut self) -> Self {
        for entry in self.0.values_mut() {
            entry.traces.clear();
        }
        self
    }

    /// Leaves out a tree.
    pub fn without(mut self, root: &str) -> Self {
        self.0.retain(|path, _| !path.starts_with(root));
        self
    }

    /// Leaves out one entry, but not what is below it.
    pub fn without_entry(mut self, path: &str) -> Self {
        self.0.remove(Path::new(path));
        self
    }

    /// Returns the differences, one line per path and side. Empty if there are none.
    pub fn difference(&self, other: &Self) -> String {
        let mut text = String::new();
        for path in self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path))) {
            let (left, right) = (self.0.get(path), other.0.get(path));
            if left != right {
                for (sign, side) in [('-', left), ('+', right)] {
                    if let Some(entry) = side {
                        let Entry { kind, mode, owner, group, content, traces } = entry;
                        let path = path.display();
                        writeln!(text, "{sign} {path}: {kind} {mode:04o} {owner}:{group} {content} {traces}").unwrap();
                    }
                }
            }
        }
        text
    }

    /// Asserts that nothing differs.
    #[track_caller]
    pub fn is_same_as(&self, other: &Self, what: &str) {
        let difference = self.difference(other);
        assert!(difference.is_empty(), "{what}:\n{difference}");
    }
}
