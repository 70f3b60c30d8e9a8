//! A place to fetch objects to without touching the repository: a bare repository in memory-backed storage, which
//! sees the checkout's objects as alternates and its configuration as an include.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use git2::{Oid, Repository, RepositoryOpenFlags};
use rustix::fs::{FlockOperation, flock};

use super::remote::{self, CheckoutState, Downloaded, Git, Site};
use super::{configuration, git_failure, git_text, io_failure, read_configuration_once};
use crate::failure::Failure;

/// What the names of scratch directories begin with.
const PREFIX: &str = "provision-fetch-";

/// How often a directory is made anew that was swept away in the moment before it was locked.
const ATTEMPTS: usize = 8;

/// A pack that was fetched: open files without a name, gone with their last owner however that ends.
#[derive(Debug)]
pub struct FetchedPack {
    /// `pack-<digits>`, as it is to be called in an object store.
    pub name: String,
    pub pack: File,
    pub index: File,
}

/// The scratch directories of this process; none once it ends.
static LIVE: Mutex<Option<BTreeSet<PathBuf>>> = Mutex::new(Some(BTreeSet::new()));

/// The scratch repository. It is removed when it is dropped, and by [`cleanup_on_exit`]; one whose owner was killed is removed
/// by the next that is made.
pub struct Scratch {
    // In this order: the repository is closed, then its directory removed.
    repo: Repository,
    dir: Directory,
}

/// A directory in [`LIVE`], locked for as long as it is in use.
struct Directory {
    path: PathBuf,
    _alive: File,
}

impl Directory {
    /// None where another process swept it away before it was locked.
    fn make(base: &Path) -> Result<Option<Self>, Failure> {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let live = live.as_mut().ok_or_else(|| Failure::new("nothing is fetched any more: this process ends"))?;
        let failed = io_failure("make a temporary directory in", base);
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
        // Under the lock to the end: a process that ends meanwhile waits for it.
        if let Some(live) = LIVE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = fs::remove_dir_all(&self.path);
            live.remove(&self.path);
        }
    }
}

/// Why nothing was downloaded.
pub enum Diagnostic {
    /// What the remote sends fits into none of the places.
    NoRoom(Failure),
    Other(Failure),
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<Diagnostic> for Failure {
    fn from(problem: Diagnostic) -> Self {
        match problem {
            Diagnostic::NoRoom(failure) | Diagnostic::Other(failure) => failure,
        }
    }
}

impl Scratch {
    /// Makes a scratch repository from which git can be run at `site`.
    pub fn new(site: &Site<'_>) -> Result<(Self, Git), Failure> {
        Ok(Self::with(site, |_| Ok(Downloaded::All))?)
    }

    /// Makes one, and downloads into it what is wanted: in the first place that has room for it.
    pub fn with(
        site: &Site<'_>,
        download: impl Fn(&Git) -> Result<Downloaded, Failure>,
    ) -> Result<(Self, Git), Diagnostic> {
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
            let (full, url) = (full.join(" and in "), remote::without_password(site.url));
            let what = format!("there is no room in {full} for what the remote {url} sends");
            let hint = "free space there; for a step of the user who runs provision, TMPDIR can name another place";
            return Err(Diagnostic::NoRoom(Failure::new(what).hint(hint)));
        }
        Err(problem.unwrap_or_else(|| Failure::new("there is no place for temporary files")).into())
    }

    fn make(base: &Path, site: &Site<'_>) -> Result<Self, Failure> {
        let dir = (0..ATTEMPTS).find_map(|_| Directory::make(base).transpose()).transpose()?.ok_or_else(|| {
            Failure::new(format!("cannot keep a temporary directory in {}: another process removes it", base.display()))
        })?;
        Ok(Self {
            repo: bare_beside(
                &dir.path,
                matches!(site.checkout, CheckoutState::PathState).then(|| site.top.join(".git")).as_deref(),
            )?,
            dir,
        })
    }

    /// Puts objects that came one by one into a pack: a web server that knows nothing of git sends them so.
    fn pack_loose_objects(&self) -> Result<(), Failure> {
        let folder = self.dir.path.join("objects");
        let failed = io_failure("read", &folder);
        let mut loose = Vec::new();
        for begin in fs::read_dir(&folder).map_err(&failed)? {
            let begin = begin.map_err(&failed)?;
            if begin.file_name().len() == 2 {
                for rest in fs::read_dir(begin.path()).map_err(&failed)? {
                    let rest = rest.map_err(&failed)?.file_name();
                    let id = [begin.file_name().to_string_lossy(), rest.to_string_lossy()].concat();
                    loose.extend(Oid::from_str(&id));
                }
            }
        }
        if loose.is_empty() {
            return Ok(());
        }
        let failed = git_failure("pack what was fetched", &folder);
        let mut pack = self.repo.packbuilder().map_err(&failed)?;
        for id in loose {
            pack.insert_object(id, None).map_err(&failed)?;
        }
        pack.write(&folder.join("pack"), 0o444).map_err(&failed)
    }

    /// The scratch repository itself.
    pub fn repo(&self) -> &Repository {
        &self.repo
    }

    /// What was fetched, as files that outlive the directory.
    pub fn packs(&self) -> Result<Vec<FetchedPack>, Failure> {
        self.pack_loose_objects()?;
        let folder = self.dir.path.join("objects/pack");
        let failed = io_failure("read", &folder);
        let mut packs = Vec::new();
        for entry in fs::read_dir(&folder).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            if path.extension().is_some_and(|extension| extension == "pack") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let pack = File::open(&path).map_err(io_failure("read", &path))?;
                let index = File::open(path.with_extension("idx")).map_err(io_failure("read", &path))?;
                packs.push(FetchedPack { name, pack, index });
            }
        }
        packs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(packs)
    }
}

/// Makes a bare repository in the empty directory `at`: it sees the objects of the checkout whose git directory is
/// `checkout`, its configuration, and where its history is cut off.
#[expect(clippy::disallowed_methods, reason = "as a bare repository, whatever the configuration says")]
pub fn bare_beside(at: &Path, checkout: Option<&Path>) -> Result<Repository, Failure> {
    let failed = io_failure("write to the temporary directory", at);
    for part in ["objects/info", "objects/pack", "refs/heads"] {
        fs::create_dir_all(at.join(part)).map_err(&failed)?;
    }
    fs::write(at.join("HEAD"), "ref: refs/heads/scratch\n").map_err(&failed)?;
    let mut config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n".to_owned();
    if let Some(checkout) = checkout {
        let path = checkout.join("config");
        // git reads what kind of repository it is from this file alone, without what it includes.
        if fs::symlink_metadata(checkout.join("config.worktree")).is_ok() {
            config = "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tworktreeConfig = true\n".to_owned();
        }
        let path = path.to_string_lossy().replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        config.push_str(&format!("[include]\n\tpath = \"{path}\"\n[core]\n\tbare = true\n"));
        let mut alternates = checkout.join("objects").as_os_str().as_bytes().to_vec();
        alternates.push(b'\n');
        fs::write(at.join("objects/info/alternates"), alternates).map_err(&failed)?;
        match fs::copy(checkout.join("shallow"), at.join("shallow")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    fs::write(at.join("config"), config).map_err(&failed)?;
    let failed = |error: git2::Error| match configuration::cause(&git_text(&error), at) {
        Some(obstacle) => obstacle.refusal(at),
        None => git_failure("use the temporary repository", at)(error),
    };
    configuration::leave_out_unreachable();
    let flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::BARE;
    let repo = Repository::open_ext(at, flags, std::iter::empty::<&Path>()).map_err(failed)?;
    read_configuration_once(&repo).map_err(failed)?;
    Ok(repo)
}

/// Where scratch directories are made, the best place first.
fn places() -> [PathBuf; 2] {
    [PathBuf::from("/dev/shm"), std::env::temp_dir()]
}

/// Removes scratch directories of this user whose owner was killed.
pub fn remove_stale() {
    places().iter().for_each(|base| sweep(base));
}

/// Removes what this process has fetched and not yet let go, and has it fetch nothing more. For its end: a fetch that is
/// under way in another thread fails, or ends with the process.
pub fn cleanup_on_exit() {
    let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner).take();
    for path in live.into_iter().flatten() {
        // Under another name nothing is added to it any more while it is emptied.
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
