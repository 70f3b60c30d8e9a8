//! Writes the index that goes with a move, every other entry kept as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use git2::{ErrorCode, Index, IndexEntry, IndexTime, Oid, Repository};

use super::delta::Blob;
use super::path::RepoPath;
use super::survey::{Seen, Survey, lstat_below};
use super::work_area::WorkArea;
use super::{git_failure, io_failure};
use crate::failure::Failure;

const INDEX: &str = ".git/index";
/// Name of its copy in the area.
const COPY: &str = "index";

/// Replaces the index of the checkout at `top`. The caller holds its lock, and the files are in place; `brought` are
/// those that the move wrote. A file that somebody changed since is left for git to read.
pub fn replace(
    area: &WorkArea,
    top: &Path,
    survey: &Survey,
    brought: &BTreeMap<RepoPath, Seen>,
) -> Result<(), Failure> {
    let failed = git_failure("write the index", top);
    let mut index = copy(area, top)?;
    for path in survey.in_the_way.keys() {
        // Those that the target has come back below.
        remove(&mut index, path).map_err(&failed)?;
    }
    for item in &survey.items {
        match item.new {
            None => remove(&mut index, &item.path).map_err(&failed)?,
            Some(blob) => {
                let mut entry = entry(item.path.bytes(), blob.id, blob.mode);
                if let Some(found) = lstat_below(top, &item.path)? {
                    let now = Seen::of(&found);
                    let untouched = match brought.get(&item.path) {
                        Some(new) => new.was_renamed_to(now),
                        None => survey.seen.get(&item.path) == Some(&now),
                    };
                    if untouched {
                        fill(&mut entry, &found);
                    }
                }
                add(&mut index, &entry).map_err(&failed)?;
            }
        }
    }
    index.write().map_err(&failed)?;
    install(area, top)
}

/// Prepares an index that has these blobs, or the removal of a path, beside what the index has now. The caller holds
/// its lock.
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

/// Puts the index that was prepared in its place.
pub fn install(area: &WorkArea, top: &Path) -> Result<(), Failure> {
    area.install_file(&area.path(COPY), &top.join(INDEX))
}

/// A copy of the index in the area, to be changed and put in its place.
fn copy(area: &WorkArea, top: &Path) -> Result<Index, Failure> {
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

/// The repository's index.
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

/// The library takes a file that it cannot look at for none: every entry would be lost, or taken for staged as deleted.
fn is_whole(index: &Index, path: &Path) -> Result<(), Failure> {
    if index.len() == entries_of(path).map_err(io_failure("read", path))? {
        return Ok(());
    }
    Err(Failure::new(format!("cannot read all of {}", path.display())).hint("run again"))
}

/// How many entries an index file says it has (gitformat-index(5): the third of its first 32-bit numbers).
fn entries_of(index: &Path) -> std::io::Result<usize> {
    let mut header = [0; 12];
    fs::File::open(index)?.read_exact(&mut header)?;
    let [.., a, b, c, d] = header;
    Ok(u32::from_be_bytes([a, b, c, d]) as usize)
}

/// Adds an entry; what the index has below its path goes, as with git. The library leaves that there
/// (<https://github.com/libgit2/libgit2/issues/7160>), and of the two a tree then holds the directory alone.
#[expect(clippy::disallowed_methods, reason = "the one place that clears the way first")]
pub fn add(index: &mut Index, entry: &IndexEntry) -> Result<(), git2::Error> {
    index.remove_dir(Path::new(std::ffi::OsStr::from_bytes(&entry.path)), 0)?;
    index.add(entry)
}

/// Removes an entry, where there is one.
pub fn remove(index: &mut Index, path: &RepoPath) -> Result<(), git2::Error> {
    match index.remove(path.as_path(), 0) {
        Err(error) if error.code() != ErrorCode::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An entry that knows nothing of a file yet.
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

/// Numbers are cut to the index format's 32 bits, as git cuts them.
fn fill(entry: &mut IndexEntry, found: &fs::Metadata) {
    entry.ctime = IndexTime::new(found.ctime() as i32, found.ctime_nsec() as u32);
    entry.mtime = IndexTime::new(found.mtime() as i32, found.mtime_nsec() as u32);
    entry.dev = found.dev() as u32;
    entry.ino = found.ino() as u32;
    entry.uid = found.uid();
    entry.gid = found.gid();
    entry.file_size = found.size() as u32;
}

/// A file changed after the old index was written, but within the same second, has to be read again: most builds of
/// git compare whole seconds (USE_NSEC in git's Makefile), and a newer index would hide the change. git's way to say so
/// is a size of zero. Nanoseconds, which git records in any case, tell the files that did not change.
fn distrust_recent(index: &mut Index, top: &Path, (seconds, nanoseconds): (i64, i64)) -> Result<(), Failure> {
    let time = |time: &IndexTime| (i64::from(time.seconds()), i64::from(time.nanoseconds()));
    let recent: Vec<IndexEntry> = index.iter().filter(|entry| time(&entry.mtime).0 >= seconds).collect();
    for mut recorded in recent {
        let found = lstat_below(top, &RepoPath::new(recorded.path.clone()))?;
        let unchanged = found.is_some_and(|found| {
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
