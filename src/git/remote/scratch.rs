//! Scratch storage: a bare repository in memory-backed storage for what is fetched, so that the checkout is not touched. It has
//! the checkout's objects as alternates and includes its configuration.

use crate::text::RedactedUrl;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use git2::Repository;
use rustix::fs::{FlockOperation, flock};

use super::command::Git;
use super::site::{CheckoutState, Site};
use crate::failure::Failure;
use crate::git::error::io_failure;
use crate::git::open::bare_beside;
use crate::git::pack::{self, FetchedPack};
use crate::host::environment;

/// The prefix of the names of scratch directories.
const PREFIX: &str = "provision-fetch-";

/// How many directories are tried if another process removes them before they are locked.
const ATTEMPTS: usize = 8;

/// The scratch directories of this process; `None` once it is ending.
static LIVE: Mutex<Option<BTreeSet<PathBuf>>> = Mutex::new(Some(BTreeSet::new()));

/// A scratch repository. It is removed when it is dropped, and by [`cleanup_on_exit`]. The one of a process that was killed is
/// removed when the next one is created.
pub struct Scratch {
    // The order matters: the repository is closed before its directory is removed.
    repo: Repository,
    dir: Directory,
}

/// A directory in [`LIVE`], locked while it is in use.
struct Directory {
    path: PathBuf,
    _alive: File,
}

impl Directory {
    /// Creates a directory in `base`. Returns `None` if another process removes it before it is locked.
    fn make(base: &Path) -> Result<Option<Self>, Failure> {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let live = live.as_mut().ok_or_else(|| Failure::new("cannot fetch: this process is ending"))?;
        let failed = io_failure("create a temporary directory in", base);
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base).map_err(&failed)?.keep();
        live.insert(path.clone());
        let alive = File::open(&path).ok().filter(|dir| flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok());
        match alive.filter(|_| fs::symlink_metadata(&path).is_ok()) {
            Some(_alive) => Ok(Some(Self { path, _alive })),
            None => {
                live.remove(&path);
                let _ = fs::remove_dir(&path);
                Ok(None)
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The lock is held to the end, so that a process that is ending waits for it.
        if let Some(live) = LIVE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = fs::remove_dir_all(&self.path);
            live.remove(&self.path);
        }
    }
}

/// The result of a download.
pub enum Downloaded {
    All,
    /// Not everything: there is no space left where the object store is.
    NoRoom,
}

/// Why nothing was downloaded.
pub enum DownloadError {
    /// No place has enough space for what the remote sends.
    NoRoom(Failure),
    Other(Failure),
}

impl From<Failure> for DownloadError {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<DownloadError> for Failure {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::NoRoom(failure) | DownloadError::Other(failure) => failure,
        }
    }
}

impl Scratch {
    /// Creates a scratch repository for running git at `site`.
    pub fn new(site: &Site<'_>) -> Result<(Self, Git), Failure> {
        Ok(Self::with(site, |_| Ok(Downloaded::All))?)
    }

    /// Creates one and downloads into it, in the first place that has enough space.
    pub fn with(
        site: &Site<'_>,
        download: impl Fn(&Git) -> Result<Downloaded, Failure>,
    ) -> Result<(Self, Git), DownloadError> {
        let mut problem = None;
        let mut full = Vec::new();
        for base in places() {
            sweep(&base);
            match Self::make(&base, site) {
                Ok(scratch) => {
                    let git = Git::prepare(site, &scratch.dir.path)?;
                    match download(&git)? {
                        Downloaded::All => return Ok((scratch, git)),
                        Downloaded::NoRoom => full.push(base.display().to_string()),
                    }
                }
                Err(failure) => problem = Some(failure),
            }
        }
        if !full.is_empty() {
            let (full, url) = (full.join(" and in "), RedactedUrl::of(site.url));
            let what = format!("there is not enough space in {full} for what the remote {url} sends");
            let hint = "free space there; for a step of the user who runs provision, TMPDIR can name another place";
            return Err(DownloadError::NoRoom(Failure::new(what).hint(hint)));
        }
        Err(problem.unwrap_or_else(|| Failure::new("there is no place for temporary files")).into())
    }

    fn make(base: &Path, site: &Site<'_>) -> Result<Self, Failure> {
        let dir = (0..ATTEMPTS).find_map(|_| Directory::make(base).transpose()).transpose()?.ok_or_else(|| {
            Failure::new(format!(
                "cannot create a temporary directory in {}: another process removes it",
                base.display()
            ))
        })?;
        Ok(Self {
            repo: bare_beside(
                &dir.path,
                matches!(site.checkout, CheckoutState::Present).then(|| site.top.join(".git")).as_deref(),
            )?,
            dir,
        })
    }

    /// Returns the scratch repository.
    pub fn repo(&self) -> &Repository {
        &self.repo
    }

    /// Returns what was fetched, as files that outlive the directory.
    pub fn packs(&self) -> Result<Vec<FetchedPack>, Failure> {
        pack::read_all(&self.repo, &self.dir.path.join("objects"))
    }
}

/// Returns where scratch directories are created, the best place first.
fn places() -> [PathBuf; 2] {
    [PathBuf::from("/dev/shm"), environment::temporary_directory()]
}

/// Removes the acting user's scratch directories whose process was killed.
pub fn remove_stale() {
    places().iter().for_each(|base| sweep(base));
}

/// Removes the scratch directories of this process, which is ending, and prevents new ones. A fetch in another thread fails,
/// or ends with the process.
pub fn cleanup_on_exit() {
    let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner).take();
    for path in live.into_iter().flatten() {
        // Nothing is added to it under another name while it is being removed.
        let aside = path.with_extension("ended");
        let path = if fs::rename(&path, &aside).is_ok() { aside } else { path };
        let removed = (0..ATTEMPTS).map(|_| fs::remove_dir_all(&path));
        let gone = |removed: &io::Result<()>| match removed {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let _ = removed.into_iter().find(gone);
    }
}

fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())) {
        let path = entry.path();
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
            continue;
        }
        if let Ok(dir) = File::open(&path)
            && flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_swept_up_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let left = base.path().join("provision-fetch-left");
        let other = base.path().join("other");
        for folder in [&left, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "").unwrap();
        }
        let site = Site {
            remote: "origin",
            url: "x",
            login: None,
            branch: "main",
            top: Path::new("/nowhere"),
            checkout: CheckoutState::Missing,
        };
        let alive = Scratch::make(base.path(), &site).unwrap();
        sweep(base.path());
        assert!(!left.exists());
        assert!(other.exists());
        assert!(alive.dir.path.exists());
        let at = alive.dir.path.clone();
        drop(alive);
        assert!(!at.exists());
    }
}
