//! The state folder of a user, which persists between runs. Files have mode 0600 and folders 0700. Files that another
//! user could have written are not trusted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::environment::Environment;
use super::fs::{Denial, Dir, Error, Place, Removal, acting_ids, acts_as_root, escape_path, may_access};
use super::users::{User, as_root, is_launcher};
use crate::failure::Failure;
use crate::text::{aside, shell_word};

/// The path of the state folder, which may not exist yet.
#[derive(Debug, Clone)]
pub struct StateFolder(PathBuf);

/// The last name of the path of every state folder.
pub const FOLDER_NAME: &str = "provision";
/// Root's state folder.
pub const OF_ROOT: &str = "/var/lib/provision";
/// The name of the folder in a state folder where the Ansible collection keeps the program.
const PROGRAMS: &str = "bin";

/// The purpose of a folder in the state folder.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// The journals, one file per run.
    Runs,
    /// The current or last holder of each plan file's lock.
    Locks,
    /// The ids of the saved plans that were applied.
    Used,
    /// The open follow-ups, a file for each plan file.
    FollowUps,
    /// What files held before a step replaced it.
    Rescues,
}

impl Part {
    const ALL: [Self; 5] = [Self::Runs, Self::Locks, Self::Used, Self::FollowUps, Self::Rescues];

    fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Locks => "locks",
            Self::Used => "used",
            Self::FollowUps => "follow_ups",
            Self::Rescues => "rescues",
        }
    }
}

impl StateFolder {
    /// Returns the state folder of the user with the given home directory. `HOME` overrides the home directory.
    pub fn of_user(environment: &Environment, home: PathBuf) -> Self {
        let home = environment.path("HOME").filter(|home| home.is_absolute()).unwrap_or(home);
        Self::of(environment.path("XDG_STATE_HOME"), &home)
    }

    /// Returns the acting user's state folder: always `/var/lib/provision` for root, otherwise
    /// `$XDG_STATE_HOME/provision` or `~/.local/state/provision`. Relative paths are ignored, as required by the XDG
    /// Base Directory Specification.
    pub fn of(xdg_state_home: Option<PathBuf>, home: &Path) -> Self {
        if acts_as_root() {
            return Self(OF_ROOT.into());
        }
        let base = xdg_state_home.filter(|path| path.is_absolute()).unwrap_or_else(|| home.join(".local/state"));
        Self(base.join(FOLDER_NAME))
    }

    /// Returns the state folder at a known path.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Returns the path, for messages.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens a part for reading. Returns `None` if it does not exist. Changes nothing.
    ///
    /// # Errors
    /// It cannot be opened, or another user could have written to it.
    pub fn existing(&self, part: Part) -> Result<Option<Dir>, Failure> {
        match Dir::open(&self.0.join(part.name())) {
            Ok(dir) => {
                check_owner(&Dir::open(&self.0).map_err(|error| self.unusable(part, error))?, &self.0)?;
                check_owner(&dir, &self.0.join(part.name()))?;
                Ok(Some(dir))
            }
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(self.unusable(part, error)),
        }
    }

    /// Whether [`StateFolder::make`] can be expected to succeed, and writing in the part. Changes nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn check_writable(&self, part: Part) -> Result<(), Failure> {
        let denial = match self.existing(part)? {
            Some(dir) => dir.entry_denial()?,
            None => {
                let place = Place::find(&self.0.join(part.name())).map_err(|error| self.unusable(part, error))?;
                place.nearest().entry_denial()?
            }
        };
        denial.map_or(Ok(()), |denial| {
            let path = escape_path(&self.0);
            let hint = match &denial {
                Denial::NotWritable { .. } if !acts_as_root() => usable_hint(&self.0),
                other => other.hint(),
            };
            Err(Failure::new(format!("the state folder {path} cannot be written: {}", denial.reason())).hint(hint))
        })
    }

    /// Opens a part for writing. Creates missing folders with mode 0700.
    ///
    /// # Errors
    /// As [`StateFolder::existing`], or it cannot be created.
    pub fn make(&self, part: Part) -> Result<Dir, Failure> {
        let hinted = |error: Error| self.unusable(part, error);
        let (mut dir, missing_parents, name) = Place::find(&self.0).map_err(hinted)?.into_parts();
        for missing in missing_parents.iter().chain([&name]) {
            // The state folder can be an existing symlink. Its target is checked below.
            if dir.stat(missing).map_err(hinted)?.is_none() {
                make_dir(&dir, missing).map_err(hinted)?;
            }
            if missing != &name {
                dir = dir.open_dir(missing).map_err(hinted)?;
            }
        }
        let folder = Dir::open(&self.0).map_err(hinted)?;
        check_owner(&folder, &self.0)?;
        let name = OsStr::new(part.name());
        if folder.stat(name).map_err(hinted)?.is_none() {
            make_dir(&folder, name).map_err(hinted)?;
        }
        let dir = folder.open_dir(name).map_err(hinted)?;
        check_owner(&dir, &self.0.join(part.name()))?;
        Ok(dir)
    }

    /// Returns the failure for a state folder with a part that cannot be opened or created. Its hint depends on the cause.
    fn unusable(&self, part: Part, error: Error) -> Failure {
        let message = format!("cannot use the state folder {}: {error}", escape_path(&self.0));
        let part = self.0.join(part.name());
        let word = |path: &Path| shell_word(path);
        let hint = if let Some(at) = in_the_way(&part) {
            Removal::Aside.hint(at, "give another folder with XDG_STATE_HOME")
        } else if error.is_denied() && !acts_as_root() {
            usable_hint(&self.0)
        } else if let Some(hint) = error.hint() {
            hint.to_owned()
        } else {
            format!("find out where the path leads: `namei -l {}`", word(&self.0))
        };
        Failure { message, hint: Some(hint) }
    }
}

/// Whether the folders with these names are those of a state folder.
pub fn are_parts<'a>(folders: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut has_part = false;
    for folder in folders {
        let is_part = Part::ALL.iter().any(|part| part.name().as_bytes() == folder);
        if !is_part && folder != PROGRAMS.as_bytes() {
            return false;
        }
        has_part |= is_part;
    }
    has_part
}

fn make_dir(dir: &Dir, name: &OsStr) -> Result<(), Error> {
    match retry_on_intr(|| rustix::fs::mkdirat(dir, name, Mode::RWXU)) {
        // Another run created it meanwhile.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(Error::call("create", &dir.path_of(name), errno)),
    }
}

/// Fails unless only the acting user can have written to the folder.
fn check_owner(dir: &Dir, path: &Path) -> Result<(), Failure> {
    let stat = dir.stat_self()?;
    let own = stat.uid == acting_ids().0;
    if own && stat.mode & 0o022 == 0 {
        return Ok(());
    }
    let why = if own { "other users can write to it" } else { "it belongs to another user" };
    Err(Failure::new(format!("the state folder {} is not trusted: {why}", escape_path(path))).hint(usable_hint(path)))
}

/// Returns the failure for a file of a part.
fn failed(verb: &str, dir: &Dir, name: impl AsRef<OsStr>, errno: Errno) -> Failure {
    let path = dir.path_of(name.as_ref());
    let error = Error::call(verb, &path, errno);
    if !error.is_denied() || acts_as_root() {
        return error.into();
    }
    let hint = match dir.stat(name.as_ref()) {
        Ok(Some(_)) => {
            let (user, word) = (shell_word(&User::acting().name), shell_word(path));
            format!(
                "give it to {user} alone: `{} && {}`",
                as_root(&format!("chown {user} {word}")),
                as_root(&format!("chmod 0600 {word}"))
            )
        }
        _ => usable_hint(dir.path()),
    };
    Failure { message: error.to_string(), hint: Some(hint) }
}

/// Returns the hint that makes a folder usable for the journal of the acting user's runs.
fn usable_hint(path: &Path) -> String {
    let word = |path: &Path| shell_word(path);
    if acts_as_root() {
        return format!("give it to root alone: `install -d -o root -m 0700 {}`", word(path));
    }
    let User { name, home, .. } = User::acting();
    let another = "use another one: `export XDG_STATE_HOME=\"$HOME/state\"`";
    // A directory on the way may be closed to the user. Only those in the user's home can be meant for that user.
    let above = path.ancestors().skip(1).filter(|above| above.parent().is_some());
    let closed: Vec<&Path> =
        above.filter(|above| above.is_dir() && !may_access(above, rustix::fs::Access::EXEC_OK)).collect();
    if closed.iter().any(|closed| !closed.starts_with(&home) || *closed == home) {
        let user = shell_word(&name);
        let home = shell_word(format!("/home/{name}"));
        // A worker gets no variables of the user who started the run.
        return if is_launcher() {
            another.to_owned()
        } else {
            format!(
                "give {user} a home, while it runs no process: `{} && {}`",
                as_root(&format!("install -d -o {user} -m 0700 {home}")),
                as_root(&format!("usermod --home {home} {user}"))
            )
        };
    }
    let words: Vec<String> = closed.into_iter().rev().chain([path]).map(word).collect();
    let user = shell_word(&name);
    let install = as_root(&format!("install -d -o {user} -m 0700 {}", words.join(" ")));
    if is_launcher() {
        format!("give it to {user} alone: `{install}`; or {another}")
    } else {
        format!("give it to {user} alone: `{install}`")
    }
}

/// Returns the entry in place of the directory at a path, or of one above it.
fn in_the_way(path: &Path) -> Option<&Path> {
    let nearest = path.ancestors().find(|at| at.symlink_metadata().is_ok())?;
    nearest.metadata().is_ok_and(|found| !found.is_dir()).then_some(nearest)
}

/// How a file of the state folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    /// Each write is appended as a whole.
    Append,
    /// Reads and writes. The file is created if it does not exist.
    Keep,
    /// As [`Access::Append`], but the file must not exist yet.
    New,
}

/// Opens a file in a part of the state folder. Returns `None` if it does not exist, or with [`Access::New`] if it
/// exists.
///
/// # Errors
/// It cannot be opened, is not a regular file, or belongs to another user.
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
        return Err(Failure::new(format!("{} is not trusted: it was not written by provision", escape_path(&path)))
            .hint(format!("move it aside: `{}`, and find out who put it there", aside(&path))));
    }
    Ok(Some(File::from(fd)))
}

/// Reads a whole file of at most `limit` bytes. Returns `None` if it does not exist.
///
/// # Errors
/// As [`open`], or it cannot be read or is larger.
pub fn read(dir: &Dir, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
    let Some(file) = open(dir, name, Access::Read)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let mut file = file.take(limit + 1);
    match file.read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > limit => {
            let path = dir.path_of(name.as_ref());
            Err(Failure::new(format!("{} is larger than {limit} bytes", escape_path(&path)))
                .hint(format!("move it aside: `{}`", aside(&path))))
        }
        Ok(_) => Ok(Some(bytes)),
        Err(error) => Err(failed("read", dir, name, Errno::from_io_error(&error).unwrap_or(Errno::IO))),
    }
}

/// Returns the sorted names of the files in a part.
///
/// # Errors
/// It cannot be listed.
pub fn names(dir: &Dir) -> Result<Vec<String>, Failure> {
    let listed = || -> Result<Vec<String>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd: OwnedFd = retry_on_intr(|| rustix::fs::openat(dir, ".", flags, Mode::empty()))?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            // Provision's own names are ASCII. Other files are ignored.
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
/// The file cannot be renamed.
pub fn rename(dir: &Dir, from: &str, to: &str) -> Result<(), Failure> {
    retry_on_intr(|| rustix::fs::renameat(dir, from, dir, to)).map_err(|errno| failed("rename", dir, from, errno))
}

/// Removes a file of a part, if it exists.
///
/// # Errors
/// The file cannot be removed.
pub fn remove(dir: &Dir, name: &str) -> Result<(), Failure> {
    match retry_on_intr(|| rustix::fs::unlinkat(dir, name, AtFlags::empty())) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("remove", dir, name, errno)),
    }
}

/// Makes the names in a part durable, if the file system supports it.
///
/// # Errors
/// The device fails.
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

/// The result of trying to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    Mine,
    /// Another open file has the lock.
    Theirs,
    /// The file system does not support locks. Some network file systems have none for files opened for reading.
    Unsupported,
}

/// Tries to take the lock of a file (flock(2)). It is released when the file is closed, at the latest when the process
/// ends. Writes nothing.
pub fn try_lock(file: &File) -> Locked {
    match retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Locked::Mine,
        Err(Errno::WOULDBLOCK) => Locked::Theirs,
        Err(_) => Locked::Unsupported,
    }
}

/// Returns whether the file is locked. Several processes can ask at the same time.
pub fn is_locked(file: &File) -> bool {
    retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockShared)) == Err(Errno::WOULDBLOCK)
}

/// Returns a file name for a path that does not reveal the path.
pub fn name_for(path: &Path) -> String {
    blake3::hash(path.as_os_str().as_bytes()).to_hex()[..32].to_owned()
}
