//! Computes the ids that files of a working tree have as blobs.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{ErrorClass, ObjectType, Odb, Oid, Repository};

use super::error::{git_failure, io_failure};
use super::open::open_repository;
use super::path::RepoPath;
use super::tree::Blob;
use super::worktree::mode_of;
use crate::failure::Failure;

/// Computes blob ids, with line endings converted as git does, without storing anything.
pub struct Hasher<'a> {
    top: &'a Path,
    /// The repository with an object store in memory. With its own, libgit2 would write the blob or touch an existing one.
    repo: Repository,
    /// Whether the executable bits of files count (`core.fileMode`).
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

    /// Returns the file as git would store it, or `None` for a FIFO, socket or device. `ends` are the blobs that it probably is.
    pub fn blob(&self, path: &RepoPath, found: &Metadata, ends: [Option<Blob>; 2]) -> Result<Option<Blob>, Failure> {
        let like = if self.trusts_modes { None } else { ends.iter().flatten().next().map(|blob| blob.mode) };
        let Some(mode) = mode_of(found, like) else { return Ok(None) };
        let at = self.top.join(path.as_path());
        let raw = raw_id(&at, mode)?;
        if mode == 0o120_000 || ends.iter().flatten().any(|end| end.id == raw) {
            return Ok(Some(Blob { id: raw, mode }));
        }
        let id = match self.repo.blob_path(&at) {
            // `core.safecrlf` rejects line endings here that git rejects only when the file is added.
            Err(error) if error.class() == ErrorClass::Filter => raw,
            other => other.map_err(git_failure("read a file", self.top))?,
        };
        Ok(Some(Blob { id, mode }))
    }
}

/// Returns the id of the unconverted bytes of a file, or of the target of a symlink.
pub fn raw_id(at: &Path, mode: u32) -> Result<Oid, Failure> {
    let id = if mode == 0o120_000 {
        let target = fs::read_link(at).map_err(io_failure("read the link", at))?;
        Oid::hash_object(ObjectType::Blob, target.as_os_str().as_bytes())
    } else {
        // libgit2's own message for an unreadable file does not name the cause.
        fs::File::open(at).map_err(io_failure("read", at))?;
        Oid::hash_file(ObjectType::Blob, at)
    };
    id.map_err(git_failure("read a file", at))
}
