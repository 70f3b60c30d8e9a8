//! The state folder: what this user's runs leave for later ones. Its files are their owner's alone (0600, folders 0700),
//! and nothing in it is trusted that another user could have put there.

use crate::text::io_error_text;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::fs::{Dir, Error, Place, acting_ids, acts_as_root, escape_path};
use crate::failure::Failure;

const HINT: &str = "the state folder is where runs are recorded before they change anything: see to it, or as a user other \
                    than root name another one in XDG_STATE_HOME";

/// Where the state folder lies; it need not exist.
#[derive(Debug, Clone)]
pub struct StateFolder(PathBuf);

/// What a folder below the state folder is for.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// The journals, a file a run.
    Runs,
    /// Who holds, or last held, the lock of a plan file.
    Locks,
    /// The ids of the saved plans that were applied.
    Used,
    /// The open follow-ups, a file for each plan file.
    FollowUps,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Locks => "locks",
            Self::Used => "used",
            Self::FollowUps => "follow_ups",
        }
    }
}

impl StateFolder {
    /// The acting user's: `/var/lib/provision` for root, whatever the environment says; else `$XDG_STATE_HOME/provision`,
    /// or `~/.local/state/provision` (XDG Base Directory Specification, which has relative paths ignored).
    pub fn of(xdg_state_home: Option<PathBuf>, home: &Path) -> Self {
        if acts_as_root() {
            return Self("/var/lib/provision".into());
        }
        let base = xdg_state_home.filter(|path| path.is_absolute()).unwrap_or_else(|| home.join(".local/state"));
        Self(base.join("provision"))
    }

    /// The folder at a path that is known.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder itself, for a message.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens a part to read in it; `None` where it does not exist. Changes nothing.
    ///
    /// # Errors
    /// Where it cannot be opened, or another user could have written to it.
    pub fn existing(&self, part: Part) -> Result<Option<Dir>, Failure> {
        match Dir::open(&self.0.join(part.name())) {
            Ok(dir) => {
                trust(&Dir::open(&self.0)?, &self.0)?;
                trust(&dir, &self.0.join(part.name()))?;
                Ok(Some(dir))
            }
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a part to write in it, and makes it and the folders above it where they are missing, with mode 0700.
    ///
    /// # Errors
    /// As [`StateFolder::existing`], and where it cannot be made.
    pub fn make(&self, part: Part) -> Result<Dir, Failure> {
        let hinted = |error: Error| Failure { hint: Some(HINT.to_owned()), ..error.into() };
        let Place { mut dir, missing_parents, name } = Place::find(&self.0).map_err(hinted)?;
        for missing in missing_parents.iter().chain([&name]) {
            // The folder itself can be a symlink that was there already: whether it leads somewhere good is seen to below.
            if dir.stat(missing).map_err(hinted)?.is_none() {
                make_dir(&dir, missing)?;
            }
            if missing != &name {
                dir = dir.open_dir(missing).map_err(hinted)?;
            }
        }
        let folder = Dir::open(&self.0).map_err(hinted)?;
        trust(&folder, &self.0)?;
        let name = OsStr::new(part.name());
        if folder.stat(name).map_err(hinted)?.is_none() {
            make_dir(&folder, name)?;
        }
        let dir = folder.open_dir(name).map_err(hinted)?;
        trust(&dir, &self.0.join(part.name()))?;
        Ok(dir)
    }
}

fn make_dir(dir: &Dir, name: &OsStr) -> Result<(), Failure> {
    match retry_on_intr(|| rustix::fs::mkdirat(dir, name, Mode::RWXU)) {
        // Another run made it meanwhile.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(failed("create", dir, name, errno)),
    }
}

/// Whether what is in a folder can only be the acting user's doing.
fn trust(dir: &Dir, path: &Path) -> Result<(), Failure> {
    let stat = dir.stat_self()?;
    let own = stat.uid == acting_ids().0;
    if own && stat.mode & 0o022 == 0 {
        return Ok(());
    }
    let why = if own { "others can write to it" } else { "it belongs to another user" };
    Err(Failure::new(format!("the state folder {} is not to be trusted: {why}", escape_path(path)))
        .hint("give it to the user who starts provision, with mode 0700"))
}

fn failed(verb: &str, dir: &Dir, name: impl AsRef<OsStr>, errno: Errno) -> Failure {
    let path = dir.path_of(name.as_ref());
    Failure::new(format!("cannot {verb} {}: {}", escape_path(&path), io_error_text(&errno.into()))).hint(HINT)
}

/// How a file of the state folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    /// Each write goes to the end, whole.
    Append,
    /// Reads and writes; the file is made where it is missing.
    Keep,
    /// As [`Access::Append`], and the file is new.
    New,
}

/// Opens a file in a part of the state folder; `None` where there is none to read or append to, or where there is one
/// that should be new.
///
/// # Errors
/// Where it cannot be opened, is no regular file, or is another user's.
pub fn open(dir: &Dir, name: &str, access: Access) -> Result<Option<File>, Failure> {
    let flags = match access {
        Access::Read => OFlags::RDONLY,
        Access::Append => OFlags::WRONLY | OFlags::APPEND,
        Access::Keep => OFlags::RDWR | OFlags::CREATE,
        Access::New => OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL,
    };
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let verb = if access == Access::Read { "read" } else { "write" };
    let fd = match retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::EXIST) => return Ok(None),
        Err(errno) => return Err(failed(verb, dir, name, errno)),
    };
    let stat = retry_on_intr(|| rustix::fs::fstat(&fd)).map_err(|errno| failed(verb, dir, name, errno))?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    if !is_file || stat.st_uid != acting_ids().0 || stat.st_mode & 0o022 != 0 {
        let path = dir.path_of(name.as_ref());
        return Err(Failure::new(format!("{} is not to be trusted: it is no file of our own", escape_path(&path)))
            .hint("remove it, and find out who put it there"));
    }
    Ok(Some(File::from(fd)))
}

/// A whole file of at most `limit` bytes; `None` where there is none.
///
/// # Errors
/// As [`open`]; and where it cannot be read or is larger.
pub fn read(dir: &Dir, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
    let Some(file) = open(dir, name, Access::Read)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let mut file = file.take(limit + 1);
    match file.read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > limit => {
            let path = dir.path_of(name.as_ref());
            Err(Failure::new(format!("{} is larger than {limit} bytes", escape_path(&path))).hint("remove it"))
        }
        Ok(_) => Ok(Some(bytes)),
        Err(error) => Err(failed("read", dir, name, Errno::from_io_error(&error).unwrap_or(Errno::IO))),
    }
}

/// The names of the files in a part, sorted.
///
/// # Errors
/// Where it cannot be listed.
pub fn names(dir: &Dir) -> Result<Vec<String>, Failure> {
    let listed = || -> Result<Vec<String>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd: OwnedFd = retry_on_intr(|| rustix::fs::openat(dir, ".", flags, Mode::empty()))?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            // Our own names are ASCII; others are none of ours.
            if let Ok(name) = entry?.file_name().to_str()
                && !name.starts_with('.')
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    };
    listed().map_err(|errno| failed("list", dir, "", errno))
}

/// Renames a file within a part.
///
/// # Errors
/// Where the kernel refuses.
pub fn rename(dir: &Dir, from: &str, to: &str) -> Result<(), Failure> {
    retry_on_intr(|| rustix::fs::renameat(dir, from, dir, to)).map_err(|errno| failed("rename", dir, from, errno))
}

/// Removes a file of a part, if it is there.
///
/// # Errors
/// Where the kernel refuses.
pub fn remove(dir: &Dir, name: &str) -> Result<(), Failure> {
    match retry_on_intr(|| rustix::fs::unlinkat(dir, name, AtFlags::empty())) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("remove", dir, name, errno)),
    }
}

/// Makes a part's names durable, where its file system can.
///
/// # Errors
/// Where the device fails.
pub fn sync(dir: &Dir) -> Result<(), Failure> {
    let synced = || -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::openat(dir, ".", flags, Mode::empty()))?;
        match retry_on_intr(|| rustix::fs::fsync(&fd)) {
            Err(Errno::INVAL) => Ok(()),
            other => other,
        }
    };
    synced().map_err(|errno| failed("sync", dir, "", errno))
}

/// What came of asking for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    Mine,
    /// Another open file has it.
    Theirs,
    /// The file system has no locks, as some network file systems have none for a file that is only read.
    Unsupported,
}

/// Asks for the file's lock (flock(2)), which ends with the open file, so with its process at the latest. No write.
pub fn try_lock(file: &File) -> Locked {
    match retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Locked::Mine,
        Err(Errno::WOULDBLOCK) => Locked::Theirs,
        Err(_) => Locked::Unsupported,
    }
}

/// Whether somebody holds the file's lock. Looking does not keep others from looking.
pub fn is_locked(file: &File) -> bool {
    retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockShared)) == Err(Errno::WOULDBLOCK)
}

/// A name for a path's own file, which says nothing of the path.
pub fn name_for(path: &Path) -> String {
    blake3::hash(path.as_os_str().as_bytes()).to_hex()[..32].to_owned()
}
