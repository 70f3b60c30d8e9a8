//! Compares the working tree and index with both ends of a move, path by path: what has to be written, and which
//! local work the writing would overwrite. Reads only.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use git2::{ErrorClass, Index, ObjectType, Odb, Oid, Repository};

use super::access::{self, AccessList};
use super::actual::{LocalChange, LocalState, Obstacle};
use super::delta::{Blob, Delta, Entry, usual};
use super::path::RepoPath;
use super::{git_failure, index_file, io_failure, open_repository};
use crate::failure::Failure;

/// Index flags of entries that stand for something to come (`git add -N`) or are left out (sparse checkouts).
const INTENT_TO_ADD: u16 = 1 << 13;
pub const SKIP_WORKTREE: u16 = 1 << 14;

/// What tells one state of a file from a later one without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    pub fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether a file is still this one after it was renamed, which counts as a change of its inode alone.
    pub fn was_renamed_to(self, now: Self) -> bool {
        self == Self { changed: self.changed, ..now }
    }
}

/// What of a local change the working tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing that HEAD or the target does not hold.
    Same,
    /// The file is gone.
    Missing,
    /// A file or symbolic link with content of its own, of this mode.
    File { mode: u32 },
}

/// Local work that the move would overwrite.
#[derive(Debug, Clone)]
pub struct Local {
    pub change: LocalChange,
    /// HEAD or the index knows the path.
    pub tracked: bool,
    /// The index's entry.
    pub index: Option<Blob>,
    pub work: Work,
    /// Modes and groups to be remembered, of the file and of private directories above it.
    pub access: AccessList,
}

/// What a move has to do to one path.
#[derive(Debug, Clone)]
pub struct Item {
    pub path: RepoPath,
    /// What has to be there; nothing where the path goes.
    pub new: Option<Blob>,
    /// The file has the target's content already.
    pub satisfied: bool,
}

/// The result, in order of path.
#[derive(Debug, Default)]
pub struct Survey {
    pub items: Vec<Item>,
    pub in_the_way: BTreeMap<RepoPath, Local>,
    /// The files at changed paths and in the way, as they were looked at.
    pub seen: BTreeMap<RepoPath, Seen>,
    pub obstacles: Vec<Obstacle>,
}

/// Looks at the paths of `delta` in the checkout at `top`.
pub fn survey(repo: &Repository, top: &Path, delta: &Delta) -> Result<Survey, Failure> {
    let failed = git_failure("read the index", top);
    let index = index_file::read(repo)?;
    let mut surveyor = Surveyor {
        top,
        repo,
        hasher: Hasher::new(repo, top).map_err(&failed)?,
        index: index_entries(&index),
        delta: delta.entries.iter().map(|entry| (entry.path.clone(), (entry.old, entry.new))).collect(),
        result: Survey::default(),
    };
    for entry in &delta.entries {
        surveyor.look(entry)?;
    }
    surveyor.check_writable();
    Ok(surveyor.result)
}

/// The index by path, conflicts and placeholders left out.
pub fn index_entries(index: &Index) -> BTreeMap<RepoPath, Blob> {
    let stage = |flags: u16| (flags >> 12) & 3;
    index
        .iter()
        .filter(|entry| stage(entry.flags) == 0 && entry.flags_extended & INTENT_TO_ADD == 0)
        .map(|entry| (RepoPath::new(entry.path), Blob { id: entry.id, mode: usual(entry.mode) }))
        .collect()
}

struct Surveyor<'a> {
    top: &'a Path,
    repo: &'a Repository,
    hasher: Hasher<'a>,
    index: BTreeMap<RepoPath, Blob>,
    delta: BTreeMap<RepoPath, (Option<Blob>, Option<Blob>)>,
    result: Survey,
}

impl Surveyor<'_> {
    fn look(&mut self, entry: &Entry) -> Result<(), Failure> {
        let Entry { path, old, new, interim } = entry;
        let (old, new) = (*old, *new);
        if !self.moves(path) {
            return Ok(());
        }
        let staged = self.index.get(path).copied();
        let found = lstat_below(self.top, path)?;
        let is_dir = found.as_ref().is_some_and(Metadata::is_dir);
        let file = match &found {
            Some(found) if !is_dir => self.hasher.blob(path, found, [old, new])?,
            _ => None,
        };
        if let (Some(found), false) = (&found, is_dir) {
            if file.is_none() {
                self.result.obstacles.push(Obstacle::SpecialFile { path: path.clone() });
                return Ok(());
            }
            self.result.seen.insert(path.clone(), Seen::of(found));
        }
        let known = old.is_some() || staged.is_some();
        let work = match file {
            _ if file == old || file == new || (file.is_some() && file == *interim) => Work::Same,
            Some(file) => Work::File { mode: file.mode },
            None => Work::Missing,
        };
        let staged_work = staged != old && (staged.is_none() || staged != *interim);
        if work != Work::Same || staged_work {
            let state = match (work, old, file) {
                (Work::Same, ..) => LocalState::Staged,
                (Work::Missing, ..) => LocalState::Deleted,
                _ if !known => self.unknown_state(path),
                (_, Some(old), Some(file)) if (old.mode ^ file.mode) & 0o170_000 != 0 => LocalState::TypeChanged,
                _ => LocalState::Modified,
            };
            self.in_the_way(path, state, known, work)?;
        }
        if new.is_some() {
            self.look_around(path, is_dir)?;
        }
        self.result.items.push(Item { path: path.clone(), new, satisfied: file == new && !(is_dir && new.is_some()) });
        Ok(())
    }

    /// Whether the move has to do with the path itself. Where the index is at the target already, whatever the file
    /// is, git leaves it alone and so do we.
    fn moves(&self, path: &RepoPath) -> bool {
        let staged = self.index.get(path).copied();
        self.delta.get(path).is_some_and(|(old, new)| staged != *new || staged == *old)
    }

    /// What a file at `path` cannot stand beside: a file or link above it, anything below it.
    fn look_around(&mut self, path: &RepoPath, is_dir: bool) -> Result<(), Failure> {
        for above in path.parents() {
            if self.moves(&above) {
                continue;
            }
            let found = lstat_below(self.top, &above)?;
            let blocks = found.as_ref().is_some_and(|found| !found.is_dir());
            if blocks || self.index.contains_key(&above) {
                self.stray(&above, found.as_ref().filter(|_| blocks))?;
            }
        }
        if is_dir {
            self.look_below(path)?;
        }
        let below: Vec<RepoPath> = below(&self.index, path).filter(|name| !self.moves(name)).cloned().collect();
        for name in below {
            if !self.result.in_the_way.contains_key(&name) {
                let found = lstat_below(self.top, &name)?.filter(|found| !found.is_dir());
                self.stray(&name, found.as_ref())?;
            }
        }
        Ok(())
    }

    fn look_below(&mut self, folder: &RepoPath) -> Result<(), Failure> {
        let at = self.top.join(folder.as_path());
        let failed = io_failure("read the directory", &at);
        for entry in fs::read_dir(&at).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            let name = folder.child(&entry.file_name());
            if entry.file_name() == ".git" {
                self.result.obstacles.push(Obstacle::NestedRepository { path: folder.clone() });
                return Ok(());
            }
            let found = entry.metadata().map_err(io_failure("look at", &entry.path()))?;
            if found.is_dir() {
                self.look_below(&name)?;
            } else if !self.moves(&name) {
                self.stray(&name, Some(&found))?;
            }
        }
        Ok(())
    }

    /// A path that neither end of the move knows, though one end needs its place.
    fn stray(&mut self, path: &RepoPath, found: Option<&Metadata>) -> Result<(), Failure> {
        if self.result.in_the_way.contains_key(path) {
            return Ok(());
        }
        let staged = self.index.contains_key(path);
        let work = match found {
            Some(found) => {
                let Some(mode) = mode_of(found, None) else {
                    self.result.obstacles.push(Obstacle::SpecialFile { path: path.clone() });
                    return Ok(());
                };
                self.result.seen.insert(path.clone(), Seen::of(found));
                Work::File { mode }
            }
            None => Work::Missing,
        };
        let state = if staged { LocalState::Staged } else { self.unknown_state(path) };
        self.in_the_way(path, state, staged, work)
    }

    fn unknown_state(&self, path: &RepoPath) -> LocalState {
        match self.repo.is_path_ignored(path.as_path()) {
            Ok(true) => LocalState::Ignored,
            _ => LocalState::Untracked,
        }
    }

    fn in_the_way(&mut self, path: &RepoPath, state: LocalState, tracked: bool, work: Work) -> Result<(), Failure> {
        let index = self.index.get(path).copied();
        if index.is_some_and(|blob| blob.mode == 0o160_000) {
            self.result.obstacles.push(Obstacle::StagedSubmodule { path: path.clone() });
            return Ok(());
        }
        let (private, access) = access::look(self.top, path)?;
        let change = LocalChange { path: path.clone(), state, private };
        self.result.in_the_way.insert(path.clone(), Local { change, tracked, index, work, access });
        Ok(())
    }

    /// Every directory in which names change has to be writable, or the move would stop half way.
    fn check_writable(&mut self) {
        let removed = self.result.in_the_way.keys();
        let written = self.result.items.iter().filter(|item| !item.satisfied).map(|item| &item.path);
        for folder in unwritable(self.top, written.chain(removed)) {
            self.result.obstacles.push(Obstacle::Unwritable { path: folder.display().to_string() });
        }
    }
}

/// The names of an index below a path.
pub fn below<'a>(index: &'a BTreeMap<RepoPath, Blob>, path: &'a RepoPath) -> impl Iterator<Item = &'a RepoPath> {
    let from = index.range(path.clone()..).map(|(name, _)| name);
    // Names such as `a.b` sort between `a` and `a/b`.
    from.take_while(|name| name.bytes().starts_with(path.bytes())).filter(|name| name.is_under(path))
}

/// The directories that a user without the right to write there would have to write to for a change of these paths.
pub fn unwritable<'a>(top: &Path, paths: impl Iterator<Item = &'a RepoPath>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for path in paths {
        let mut folder = top.join(path.as_path());
        while folder.pop() && folder.starts_with(top) {
            if fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
                folders.push(folder);
                break;
            }
        }
    }
    folders.sort();
    folders.dedup();
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let flags = rustix::fs::AtFlags::EACCESS;
    folders.retain(|folder| rustix::fs::accessat(rustix::fs::CWD, folder, wanted, flags).is_err());
    folders
}

/// Looks at a path of the checkout without following a link anywhere on the way; what is behind one is not there.
pub fn lstat_below(top: &Path, path: &RepoPath) -> Result<Option<Metadata>, Failure> {
    let absent = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
    };
    for above in path.parents() {
        let at = top.join(above.as_path());
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(None),
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(io_failure("look at", &at)(error)),
        }
    }
    let at = top.join(path.as_path());
    match fs::symlink_metadata(&at) {
        Ok(found) => Ok(Some(found)),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(io_failure("look at", &at)(error)),
    }
}

/// The mode that git gives a file; none for what git cannot hold. `like` is where to take the executable bit from
/// where the file system has none worth trusting.
pub fn mode_of(found: &Metadata, like: Option<u32>) -> Option<u32> {
    let kind = found.file_type();
    if kind.is_symlink() {
        Some(0o120_000)
    } else if kind.is_file() {
        match like {
            Some(mode) if mode & 0o170_000 == 0o100_000 => Some(mode),
            _ => Some(if found.mode() & 0o100 == 0 { 0o100_644 } else { 0o100_755 }),
        }
    } else {
        debug_assert!(
            kind.is_dir() || kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device()
        );
        None
    }
}

/// Finds the ids that files would have as blobs, line endings converted as git would, and stores nothing anywhere.
pub struct Hasher<'a> {
    top: &'a Path,
    /// The repository with an object store in memory: libgit2 would otherwise write the blob, or touch the one there.
    repo: Repository,
    /// Whether executable bits of files mean anything (`core.fileMode`).
    pub trusts_modes: bool,
}

impl<'a> Hasher<'a> {
    pub fn new(repo: &Repository, top: &'a Path) -> Result<Self, git2::Error> {
        let memory = Odb::new()?;
        memory.add_new_mempack_backend(1)?;
        let own = open_repository(repo.path())?;
        own.set_odb(&memory)?;
        let trusts_modes = own.config()?.get_bool("core.fileMode").unwrap_or(true);
        Ok(Self { top, repo: own, trusts_modes })
    }

    /// The file as git would store it; none for a FIFO, socket or device. `ends` are the blobs it may well be.
    pub fn blob(&self, path: &RepoPath, found: &Metadata, ends: [Option<Blob>; 2]) -> Result<Option<Blob>, Failure> {
        let like = if self.trusts_modes { None } else { ends.iter().flatten().next().map(|blob| blob.mode) };
        let Some(mode) = mode_of(found, like) else { return Ok(None) };
        let at = self.top.join(path.as_path());
        let raw = raw_id(&at, mode)?;
        if mode == 0o120_000 || ends.iter().flatten().any(|end| end.id == raw) {
            return Ok(Some(Blob { id: raw, mode }));
        }
        let id = match self.repo.blob_path(&at) {
            // `core.safecrlf` turns a line end down that git would turn down only when the file is added.
            Err(error) if error.class() == ErrorClass::Filter => raw,
            other => other.map_err(git_failure("read a file", self.top))?,
        };
        Ok(Some(Blob { id, mode }))
    }
}

/// The id of a file's bytes, or of a link's target, as they are.
pub fn raw_id(at: &Path, mode: u32) -> Result<Oid, Failure> {
    let id = if mode == 0o120_000 {
        let target = fs::read_link(at).map_err(io_failure("read the link", at))?;
        Oid::hash_object(ObjectType::Blob, target.as_os_str().as_bytes())
    } else {
        // libgit2's own word for an unreadable file does not name the cause.
        fs::File::open(at).map_err(io_failure("read", at))?;
        Oid::hash_file(ObjectType::Blob, at)
    };
    id.map_err(git_failure("read a file", at))
}
