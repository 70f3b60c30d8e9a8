//! The work area, `.git/provision`: everything is prepared here before a single rename or link puts it in place, and a later
//! run recognises here what an interrupted one left.
//!
//! A lock such as `index.lock` is a hard link to the area's file `claim`. To git it is a lock like any other. This program
//! recognises its own locks, so it removes them after a kill and never touches those of a running git process.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::{git_failure, io_failure};
use super::obstacle::Obstacle;
use super::open::open_repository;
use super::pack::FetchedPack;
use super::place::{self, remove_copy};
use super::shared::Shared;
use super::worktree::Seen;
use crate::failure::Failure;

const AREA: &str = "provision";
const CLAIM: &str = "claim";

/// What an earlier run left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    Nothing,
    /// Its process has ended.
    Stale,
    /// Its process is still running.
    Live,
}

/// Looks for a work area at `dir`, without writing anything.
pub fn leftover(dir: &Path) -> Result<Leftover, Failure> {
    let failed = io_failure("open", dir);
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Leftover::Nothing),
        Err(error) => return Err(failed(error)),
        Ok(_) => {}
    }
    let open = match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Leftover::Nothing),
        other => other.map_err(failed)?,
    };
    match flock(&open, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Leftover::Stale),
        Err(_) => Ok(Leftover::Live),
    }
}

/// Returns where the work area of the git directory `git` is.
pub fn area_of(git: &Path) -> PathBuf {
    git.join(AREA)
}

/// Whether the lock at `path` was made by a run of this program.
pub fn is_own_lock(git: &Path, path: &Path) -> bool {
    let claim = fs::symlink_metadata(git.join(AREA).join(CLAIM));
    let lock = fs::symlink_metadata(path);
    matches!((claim, lock), (Ok(claim), Ok(lock)) if (claim.dev(), claim.ino()) == (lock.dev(), lock.ino()))
}

/// A work area that this process holds exclusively. It is removed when it is left or dropped.
pub struct WorkArea {
    git: PathBuf,
    dir: PathBuf,
    /// Carries the lock of the directory.
    _alive: File,
    locks: Vec<PathBuf>,
    left: bool,
    shared: Shared,
}

impl WorkArea {
    /// Creates the area, or takes over and empties that of a run that has ended.
    pub fn enter(git: &Path) -> Result<Self, Failure> {
        let dir = git.join(AREA);
        let alive = lock_directory(&dir, 0o700)?;
        let config =
            open_repository(git).and_then(|repo| repo.config()).map_err(git_failure("read the configuration", git))?;
        let shared = Shared::of(&config);
        let mut area = Self { git: git.to_owned(), dir, _alive: alive, locks: Vec::new(), left: false, shared };
        area.clear()?;
        let claim = area.dir.join(CLAIM);
        let new = OpenOptions::new().write(true).create_new(true).open(&claim);
        new.map_err(io_failure("create", &claim))?;
        Ok(area)
    }

    /// Returns a path in the area for something that is being prepared.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Moves the prepared file `new` to `at` in one step, on whatever mount that is, and returns its state before. `finish` sets
    /// the access rights of a copy on another mount, apart from the mode.
    ///
    /// # Errors
    /// A system call fails. What is at `at` is as it was.
    pub fn place(
        &self,
        new: &Path,
        at: &Path,
        finish: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<Seen, Failure> {
        place::place(&self.dir, new, at, finish)
    }

    /// Moves the prepared file `new` to `at` with the rights of one that is created there with this mode, as git creates files.
    /// Returns its state before.
    ///
    /// # Errors
    /// A system call fails. What is at `at` is as it was.
    pub fn place_as_created(&self, new: &Path, at: &Path, mode: u32) -> Result<Seen, Failure> {
        place::place_as_created(&self.dir, new, at, mode)
    }

    /// Acquires git's lock of `target`.
    pub fn lock(&mut self, target: &Path) -> Result<(), Failure> {
        let lock = lock_of(target);
        if let Some(folder) = lock.parent() {
            self.shared.create_dirs(folder)?;
        }
        match fs::hard_link(self.dir.join(CLAIM), &lock) {
            Ok(()) => {
                self.locks.push(lock);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Obstacle::of_lock(&lock).refusal(&self.git))
            }
            Err(error) => Err(io_failure("lock", target)(error)),
        }
    }

    /// Releases git's lock of `target`.
    pub fn unlock(&mut self, target: &Path) -> Result<(), Failure> {
        let lock = lock_of(target);
        fs::remove_file(&lock).map_err(io_failure("remove", &lock))?;
        self.locks.retain(|held| *held != lock);
        Ok(())
    }

    /// Replaces the content of `target` in one step. The caller holds the lock of `target`.
    pub fn install(&self, target: &Path, content: &[u8]) -> Result<(), Failure> {
        let new = self.path("new");
        let failed = io_failure("write", &new);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new).map_err(&failed)?;
        file.write_all(content).map_err(&failed)?;
        if let Ok(there) = fs::symlink_metadata(target)
            && there.is_file()
        {
            file.set_permissions(fs::Permissions::from_mode(there.mode() & 0o7777)).map_err(&failed)?;
        }
        drop(file);
        self.install_file(&new, target)
    }

    /// Moves a file that was prepared in the area to `target` in one step.
    pub fn install_file(&self, new: &Path, target: &Path) -> Result<(), Failure> {
        self.shared.adjust(new)?;
        sync(new)?;
        // git leaves an empty directory behind when it deletes a ref with a longer name.
        let _ = fs::remove_dir(target);
        fs::rename(new, target).map_err(io_failure("replace", target))?;
        target.parent().map_or(Ok(()), sync)
    }

    /// Adds a pack to the repository's object store: first the pack, then its index, which makes git use it.
    pub fn install_pack(&self, pack: &FetchedPack) -> Result<(), Failure> {
        let store = self.git.join("objects/pack");
        self.shared.create_dirs(&store)?;
        if store.join(format!("{}.idx", pack.name)).exists() {
            return Ok(());
        }
        for (extension, content) in [("pack", &pack.pack), ("idx", &pack.index)] {
            let name = format!("{}.{extension}", pack.name);
            let own = self.path(&name);
            copy(content, &own)?;
            self.shared.adjust(&own)?;
            match fs::hard_link(&own, store.join(&name)) {
                // The name is derived from the content, so this is the same pack, which somebody left without an index.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    self.place(&own, &store.join(&name), |_| Ok(()))?;
                }
                other => other.map_err(io_failure("add a pack to", &store))?,
            }
            sync(&store)?;
        }
        for extension in ["idx", "pack"] {
            let own = self.path(&format!("{}.{extension}", pack.name));
            match fs::remove_file(&own) {
                // It was copied to another mount.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(io_failure("remove", &own))?,
            }
        }
        Ok(())
    }

    /// Moves the loose objects of the repository at `from` to the repository's object store.
    pub fn install_objects(&self, from: &Path) -> Result<(), Failure> {
        self.shared.adjust_tree(&from.join("objects"))?;
        self.install_private_objects(from)
    }

    /// Moves loose objects in the same way, and keeps their modes.
    pub fn install_private_objects(&self, from: &Path) -> Result<(), Failure> {
        let failed = io_failure("read", from);
        for folder in fs::read_dir(from.join("objects")).map_err(&failed)? {
            let folder = folder.map_err(&failed)?;
            if folder.file_name().len() != 2 {
                continue;
            }
            let store = self.git.join("objects").join(folder.file_name());
            self.shared.create_dirs(&store)?;
            for object in fs::read_dir(folder.path()).map_err(&failed)? {
                let object = object.map_err(&failed)?;
                sync(&object.path())?;
                let target = store.join(object.file_name());
                self.place(&object.path(), &target, |_| Ok(()))?;
            }
            sync(&store)?;
        }
        sync(&self.git.join("objects"))
    }

    /// Releases the locks and removes the area.
    pub fn leave(mut self) -> Result<(), Failure> {
        self.left = true;
        self.close()
    }

    fn close(&mut self) -> Result<(), Failure> {
        for lock in std::mem::take(&mut self.locks) {
            fs::remove_file(&lock).map_err(io_failure("remove", &lock))?;
        }
        self.clear()?;
        fs::remove_dir(&self.dir).map_err(io_failure("remove", &self.dir))
    }

    /// Empties the area, after what an interrupted run put elsewhere. `claim`, by which that is recognised, is removed last.
    fn clear(&mut self) -> Result<(), Failure> {
        let claim = self.dir.join(CLAIM);
        if fs::symlink_metadata(&claim).is_ok_and(|claim| claim.nlink() > 1) {
            for name in ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock"] {
                self.remove_own_lock(&self.git.join(name))?;
            }
            self.remove_own_locks_below(&self.git.join("refs"))?;
        }
        remove_copy(&self.dir)?;
        let failed = io_failure("clear", &self.dir);
        for entry in fs::read_dir(&self.dir).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            if path.extension() == Some(OsStr::new("pack")) {
                self.remove_half_pack(&path)?;
            }
            if path == claim {
                continue;
            }
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                fs::remove_dir_all(&path).map_err(&failed)?;
            } else {
                fs::remove_file(&path).map_err(&failed)?;
            }
        }
        match fs::remove_file(&claim) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    fn remove_own_lock(&self, lock: &Path) -> Result<(), Failure> {
        if is_own_lock(&self.git, lock) {
            fs::remove_file(lock).map_err(io_failure("remove", lock))?;
        }
        Ok(())
    }

    fn remove_own_locks_below(&self, folder: &Path) -> Result<(), Failure> {
        let failed = io_failure("read", folder);
        for entry in fs::read_dir(folder).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            let path = entry.path();
            if entry.file_type().map_err(&failed)?.is_dir() {
                self.remove_own_locks_below(&path)?;
            } else if path.extension() == Some(OsStr::new("lock")) {
                self.remove_own_lock(&path)?;
            }
        }
        Ok(())
    }

    /// Removes a pack that was added to the object store without its index.
    fn remove_half_pack(&self, own: &Path) -> Result<(), Failure> {
        let Some(name) = own.file_name() else { return Ok(()) };
        let there = self.git.join("objects/pack").join(name);
        let inode = |path: &Path| fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
        if !there.with_extension("idx").exists() && inode(&there).is_some() && inode(&there) == inode(own) {
            fs::remove_file(&there).map_err(io_failure("remove", &there))?;
        }
        Ok(())
    }
}

impl Drop for WorkArea {
    fn drop(&mut self) {
        if !self.left {
            // After an error. The next run finds what cannot be removed now.
            let _ = self.close();
        }
    }
}

/// Creates the directory `dir` with this mode, less the umask, if it does not exist, and locks it for as long as the result lives.
///
/// # Errors
/// Another process holds the lock.
pub fn lock_directory(dir: &Path, mode: u32) -> Result<File, Failure> {
    let failed = io_failure("use", dir);
    loop {
        match fs::DirBuilder::new().mode(mode).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_failure("create", dir)(error)),
            _ => {}
        }
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let open = match rustix::fs::open(dir, flags, rustix::fs::Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => continue,
            other => File::from(other.map_err(io::Error::from).map_err(&failed)?),
        };
        if flock(&open, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Failure::new(format!("another provision run is changing {}", dir.display()))
                .hint("wait until it is done, then run again"));
        }
        // The previous holder may have removed the directory after it was opened and before it was locked.
        let (held, there) = (open.metadata().map_err(&failed)?, fs::symlink_metadata(dir));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
            return Ok(open);
        }
    }
}

/// Syncs a file or directory to disk.
pub fn sync(path: &Path) -> Result<(), Failure> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io_failure("sync", path))
}

fn lock_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Copies an open file from its beginning to a new read-only file, and syncs it.
fn copy(content: &File, to: &Path) -> Result<(), Failure> {
    let failed = io_failure("write", to);
    let mut from = content;
    io::Seek::seek(&mut from, io::SeekFrom::Start(0)).map_err(&failed)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(to).map_err(&failed)?;
    io::copy(&mut from, &mut file).map_err(&failed)?;
    file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(&failed)?;
    file.sync_all().map_err(&failed)
}
