//! Reads the index of a checkout, and writes it without losing an entry.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use git2::{ErrorCode, Index, IndexEntry, IndexTime, Oid, Repository};

use super::error::{git_failure, io_failure};
use super::path::RepoPath;
use super::tree::{Blob, normal_mode};
use super::work_area::WorkArea;
use super::worktree::lstat_below;
use crate::failure::Failure;

/// Index flags of entries whose content is still to come (`git add -N`), and of entries that are not checked out.
const INTENT_TO_ADD: u16 = 1 << 13;
pub const SKIP_WORKTREE: u16 = 1 << 14;

const INDEX: &str = ".git/index";
/// The name of its copy in the work area.
const COPY: &str = "index";

/// Prepares a copy of the index in which these paths have these blobs, or are removed. The caller holds the lock of the
/// index.
pub fn prepare(area: &WorkArea, top: &Path, staged: &[(&RepoPath, Option<Blob>)]) -> Result<(), Failure> {
    let failed = git_failure("write the index", top);
    let mut index = copy(area, top)?;
    for (path, blob) in staged {
        match blob {
            Some(blob) => add(&mut index, &entry(path.bytes(), blob.id, blob.mode)).map_err(&failed)?,
            None => remove(&mut index, path).map_err(&failed)?,
        }
    }
    index.write().map_err(&failed)
}

/// Replaces the index by the copy that was prepared.
pub fn install(area: &WorkArea, top: &Path) -> Result<(), Failure> {
    area.install_file(&area.path(COPY), &top.join(INDEX))
}

/// Copies the index to the work area, where it is changed before it replaces the index.
pub fn copy(area: &WorkArea, top: &Path) -> Result<Index, Failure> {
    let (current, new) = (top.join(INDEX), area.path(COPY));
    let failed = git_failure("write the index", top);
    let before = match fs::metadata(&current) {
        Ok(found) => {
            fs::copy(&current, &new).map_err(io_failure("copy", &current))?;
            Some((found.mtime(), found.mtime_nsec()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_failure("look at", &current)(error)),
    };
    let mut index = Index::open(&new).map_err(&failed)?;
    if let Some(before) = before {
        is_whole(&index, &new)?;
        distrust_recent(&mut index, top, before)?;
    }
    Ok(index)
}

/// Reads the repository's index.
///
/// # Errors
/// Not all of it can be read.
pub fn read(repo: &Repository) -> Result<Index, Failure> {
    let index = repo.index().map_err(git_failure("read the index", repo.path()))?;
    let path = repo.path().join("index");
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_failure("look at", &path)(error)),
        Ok(_) => is_whole(&index, &path)?,
    }
    Ok(index)
}

/// Checks that all entries were read. libgit2 treats a file that it cannot read as an empty index: every entry would be lost.
fn is_whole(index: &Index, path: &Path) -> Result<(), Failure> {
    if index.len() == entries_of(path).map_err(io_failure("read", path))? {
        return Ok(());
    }
    Err(Failure::new(format!("cannot read all of {}", path.display())).hint("run again"))
}

/// Returns how many entries an index file claims to have (gitformat-index(5): its third 32-bit number).
fn entries_of(index: &Path) -> std::io::Result<usize> {
    let mut header = [0; 12];
    fs::File::open(index)?.read_exact(&mut header)?;
    let [.., a, b, c, d] = header;
    Ok(u32::from_be_bytes([a, b, c, d]) as usize)
}

/// Returns the version of an index file if it is newer than git's and libgit2's versions 2 to 4 (gitformat-index(5)). A damaged
/// file rarely has a small number there.
pub fn newer_version(index: &Path) -> Option<u32> {
    let mut header = [0; 8];
    fs::File::open(index).ok()?.read_exact(&mut header).ok()?;
    let [b'D', b'I', b'R', b'C', version @ ..] = header else { return None };
    Some(u32::from_be_bytes(version)).filter(|version| (5..16).contains(version))
}

/// Adds an entry and removes those below its path, as git does. libgit2 leaves them there
/// (<https://github.com/libgit2/libgit2/issues/7160>), and the tree that it writes then has the directory instead of the
/// file.
#[expect(clippy::disallowed_methods, reason = "the one place that clears the way first")]
pub fn add(index: &mut Index, entry: &IndexEntry) -> Result<(), git2::Error> {
    index.remove_dir(Path::new(std::ffi::OsStr::from_bytes(&entry.path)), 0)?;
    index.add(entry)
}

/// Removes an entry, if there is one.
pub fn remove(index: &mut Index, path: &RepoPath) -> Result<(), git2::Error> {
    match index.remove(path.as_path(), 0) {
        Err(error) if error.code() != ErrorCode::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes an entry without the metadata of a file.
pub fn entry(path: &[u8], id: Oid, mode: u32) -> IndexEntry {
    let never = IndexTime::new(0, 0);
    IndexEntry {
        ctime: never,
        mtime: never,
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.to_vec(),
    }
}

/// Fills in the metadata of a file. Numbers are truncated to 32 bits, as git does.
pub fn fill(entry: &mut IndexEntry, found: &fs::Metadata) {
    entry.ctime = IndexTime::new(found.ctime() as i32, found.ctime_nsec() as u32);
    entry.mtime = IndexTime::new(found.mtime() as i32, found.mtime_nsec() as u32);
    entry.dev = found.dev() as u32;
    entry.ino = found.ino() as u32;
    entry.uid = found.uid();
    entry.gid = found.gid();
    entry.file_size = found.size() as u32;
}

/// Makes git read files again that changed in the same second in which the old index was written. Most builds of git
/// compare whole seconds (USE_NSEC in git's Makefile), and a newer index would hide the change. A size of zero tells git so.
/// The nanoseconds, which git always records, tell which files did not change.
fn distrust_recent(index: &mut Index, top: &Path, (seconds, nanoseconds): (i64, i64)) -> Result<(), Failure> {
    let time = |time: &IndexTime| (i64::from(time.seconds()), i64::from(time.nanoseconds()));
    let recent: Vec<IndexEntry> = index.iter().filter(|entry| time(&entry.mtime).0 >= seconds).collect();
    for mut recorded in recent {
        // What cannot be examined, such as an entry in a directory of another user, may have changed.
        let found = lstat_below(top, &RepoPath::new(recorded.path.clone()));
        let unchanged = found.ok().flatten().is_some_and(|found| {
            let mut now = entry(&recorded.path, recorded.id, recorded.mode);
            fill(&mut now, &found);
            let of = |entry: &IndexEntry| (time(&entry.mtime), time(&entry.ctime), entry.ino, entry.file_size);
            of(&now) == of(&recorded) && time(&recorded.mtime) < (seconds, nanoseconds)
        });
        if !unchanged {
            recorded.file_size = 0;
            add(index, &recorded).map_err(git_failure("write the index", top))?;
        }
    }
    Ok(())
}

/// Returns the entries by path, without conflicts and entries whose content is still to come.
pub fn by_path(index: &Index) -> BTreeMap<RepoPath, Blob> {
    let stage = |flags: u16| (flags >> 12) & 3;
    index
        .iter()
        .filter(|entry| stage(entry.flags) == 0 && entry.flags_extended & INTENT_TO_ADD == 0)
        .map(|entry| (RepoPath::new(entry.path), Blob { id: entry.id, mode: normal_mode(entry.mode) }))
        .collect()
}

/// Returns the paths of an index below a path.
pub fn below<'a>(index: &'a BTreeMap<RepoPath, Blob>, path: &'a RepoPath) -> impl Iterator<Item = &'a RepoPath> {
    let from = index.range(path.clone()..).map(|(name, _)| name);
    // Names such as `a.b` sort between `a` and `a/b`.
    from.take_while(|name| name.bytes().starts_with(path.bytes())).filter(|name| name.is_under(path))
}

/// Returns the first path for which the index holds a conflict.
pub fn unmerged(index: &git2::Index) -> Option<RepoPath> {
    index.iter().find(|entry| (entry.flags >> 12) & 3 != 0).map(|entry| RepoPath::new(entry.path))
}
