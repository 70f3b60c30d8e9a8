use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::{open_at, open_quietly};
use super::{Error, Stat, acts_as_root, escape_path};

/// The number of symlinks that Linux follows in one path (path_resolution(7)).
const MAX_SYMLINKS: usize = 40;

/// An open directory, and the path that it was opened by, which is only for messages.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the directory at an absolute path of any length, one component at a time.
    ///
    /// Symlinks are followed as by the kernel, except as root: then only root may be able to write to the directories from
    /// `/` to the symlink, since anybody else could have put it there to mislead root.
    ///
    /// # Errors
    /// A component does not exist ([`Error::is_missing`]) or cannot be entered.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut dir = Self::root()?;
        for name in names(path) {
            dir = dir.descend(name)?;
        }
        Ok(dir.dir)
    }

    /// Opens the directory at a path as the kernel does, for a path that the acting user trusts.
    ///
    /// # Errors
    /// There is no directory at the path, or it cannot be entered.
    pub fn follow(path: &Path) -> Result<Self, Error> {
        match open_at(rustix::fs::CWD, path.as_os_str(), OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(errno) => Err(Error::call("open", path, errno)),
        }
    }

    /// Opens the directory `name` in this one. A symlink is not followed.
    pub fn open_dir(&self, name: &OsStr) -> Result<Self, Error> {
        let path = self.path.join(name);
        match open_at(&self.fd, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::NOTDIR | Errno::LOOP) => match self.stat(name)? {
                Some(stat) if stat.kind == super::FileKind::Directory => Err(Error::refused(
                    format!("{} was replaced while it was opened", escape_path(&path)),
                    "find out who else works in that directory, then run again",
                )),
                Some(stat) => Err(self.wrong_type(name, &stat, "a directory")),
                None => Err(Error::call("open", &path, Errno::NOENT)),
            },
            Err(errno) => Err(Error::call("open", &path, errno)),
        }
    }

    /// Returns the path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the entry `name`, for a message.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Returns what this directory itself is.
    pub fn stat_self(&self) -> Result<Stat, Error> {
        let stat = retry_on_intr(|| rustix::fs::statat(&self.fd, "", AtFlags::EMPTY_PATH));
        stat.map(|stat| Stat::of(&stat)).map_err(|errno| Error::call("read", &self.path, errno))
    }

    /// Returns what the entry `name` is, if it exists. A symlink is not followed.
    pub fn stat(&self, name: &OsStr) -> Result<Option<Stat>, Error> {
        match retry_on_intr(|| rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) => Ok(Some(Stat::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::call("look at", &self.path.join(name), errno)),
        }
    }

    /// Opens the directory for listing and syncing, which the `O_PATH` descriptor cannot do. Its access time is not changed if the
    /// kernel permits that.
    pub(super) fn readable(&self) -> Result<OwnedFd, Errno> {
        open_quietly(&self.fd, OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Returns whether every user can pass through this directory and all those above it.
    ///
    /// # Errors
    /// The acting user cannot read the attributes of one of them.
    pub fn is_open_to_all(&self) -> Result<bool, Error> {
        let failed = |errno| Error::call("open the parent of", &self.path, errno);
        let stat_of = |fd: &OwnedFd| rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH).map_err(failed);
        let parent_of = |fd: &OwnedFd| open_at(fd, OsStr::new(".."), OFlags::PATH | OFlags::DIRECTORY).map_err(failed);
        let mut stat = stat_of(&self.fd)?;
        let mut above = parent_of(&self.fd)?;
        while stat.st_mode & 0o001 != 0 {
            let next = stat_of(&above)?;
            if (next.st_dev, next.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(true);
            }
            stat = next;
            above = parent_of(&above)?;
        }
        Ok(false)
    }

    pub(super) fn at(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    fn root() -> Result<Trail, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::open("/", flags, Mode::empty()));
        let path = PathBuf::from("/");
        let fd = fd.map_err(|errno| Error::call("open", &path, errno))?;
        Ok(Trail { dir: Self { fd, path }, trusted: true, symlinks: 0 })
    }
}

/// Where a path leads: the deepest existing directory on the way to it, and what is missing from there.
#[derive(Debug)]
pub struct Place {
    /// The parent of the entry, or the deepest existing directory above it. Other modules get it by `parent` or by
    /// `nearest`, so that they do not read from or write to a directory further above by mistake.
    pub(super) dir: Dir,
    /// The missing parents, the outermost first.
    pub missing_parents: Vec<OsString>,
    /// The last component of the path, which need not exist.
    pub name: OsString,
}

impl Place {
    /// Follows an absolute path up to its last component, which is not followed.
    ///
    /// # Errors
    /// As [`Dir::open`], except for missing parents; or the path is the root directory.
    pub fn find(path: &Path) -> Result<Self, Error> {
        let mut names: Vec<&OsStr> = names(path).collect();
        let Some(name) = names.pop() else {
            return Err(Error::refused(format!("{} cannot be managed", escape_path(path)), "give a path below it"));
        };
        let mut trail = Dir::root()?;
        let mut missing_parents = Vec::new();
        for parent in names {
            if !missing_parents.is_empty() || trail.dir.stat(parent)?.is_none() {
                missing_parents.push(parent.to_owned());
            } else {
                trail = trail.descend(parent)?;
            }
        }
        Ok(Self { dir: trail.dir, missing_parents, name: name.to_owned() })
    }

    /// Follows a path by the rule of [`Dir::open`], and symlinks at its end too. A relative path begins at the current
    /// directory.
    ///
    /// # Errors
    /// As [`Dir::open`]. The entry itself need not exist.
    pub fn follow(path: &Path) -> Result<Self, Error> {
        let mut rest = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut trail = Dir::root()?;
        loop {
            let Some(name) = rest.file_name().map(OsStr::to_owned) else {
                return Err(Error::refused(
                    format!("{} is a directory, not a file", escape_path(path)),
                    "give another path",
                ));
            };
            if let Some(parent) = rest.parent() {
                trail = trail.pass(parent)?;
            }
            match trail.dir.stat(&name)? {
                Some(stat) if stat.kind == super::FileKind::Symlink => rest = trail.read_link(&name, &stat)?,
                _ => return Ok(Self { dir: trail.dir, missing_parents: Vec::new(), name }),
            }
        }
    }

    /// Returns the directory of the entry.
    ///
    /// # Errors
    /// It does not exist ([`Error::is_missing`]).
    pub fn parent(&self) -> Result<&Dir, Error> {
        match self.missing_paths().pop() {
            None => Ok(&self.dir),
            Some(missing) => Err(Error::call("open", &missing, Errno::NOENT)),
        }
    }

    /// Returns the deepest existing directory above the entry. The first missing parent would be created in it.
    pub fn nearest(&self) -> &Dir {
        &self.dir
    }

    /// Returns the nearest directory, the missing parents and the name, for callers that do not use
    /// [`Place::create_parents`].
    pub fn into_parts(self) -> (Dir, Vec<OsString>, OsString) {
        (self.dir, self.missing_parents, self.name)
    }

    /// Returns the path of the entry, for a message.
    pub fn path(&self) -> PathBuf {
        self.missing_paths().pop().unwrap_or_else(|| self.dir.path().to_owned()).join(&self.name)
    }

    /// Returns what the entry is; `None` if it or a parent is missing.
    pub fn stat(&self) -> Result<Option<Stat>, Error> {
        if self.missing_parents.is_empty() { self.dir.stat(&self.name) } else { Ok(None) }
    }

    /// Returns what an interrupted run left when it created this entry or a parent: see [`Dir::leftovers`].
    pub fn leftovers(&self) -> Result<Vec<String>, Error> {
        self.dir.leftovers(self.next())
    }

    /// Removes what [`Place::leftovers`] finds.
    pub fn remove_leftovers(&self) -> Result<(), Error> {
        self.dir.remove_leftovers(self.next())
    }

    /// Returns the first missing name, or the entry's own.
    fn next(&self) -> &OsStr {
        self.missing_parents.first().unwrap_or(&self.name)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How far a path has been followed.
struct Trail {
    dir: Dir,
    /// Whether only root could have created each name up to this directory.
    trusted: bool,
    symlinks: usize,
}

impl Trail {
    fn descend(mut self, name: &OsStr) -> Result<Self, Error> {
        self.trusted = self.trusted && self.dir.stat_self()?.is_roots_alone();
        match self.dir.stat(name)? {
            None => Err(Error::call("open", &self.dir.path_of(name), Errno::NOENT)),
            Some(stat) if stat.kind == super::FileKind::Symlink => self.follow(name, &stat),
            Some(_) => {
                self.dir = self.dir.open_dir(name)?;
                Ok(self)
            }
        }
    }

    fn follow(mut self, name: &OsStr, link: &Stat) -> Result<Self, Error> {
        let path = self.dir.path_of(name);
        let target = self.read_link(name, link)?;
        self.pass(&target).map_err(|error| if error.is_missing() { Error::dangling(&path, &target) } else { error })
    }

    /// Reads the target of a symlink. For an absolute one, continues at the root directory.
    fn read_link(&mut self, name: &OsStr, link: &Stat) -> Result<PathBuf, Error> {
        let path = self.dir.path_of(name);
        let trusted = self.trusted && self.dir.stat_self()?.is_roots_alone();
        if acts_as_root() && !(trusted && link.uid == 0) {
            return Err(Error::refused(
                format!(
                    "{} is a symlink that another user could have made: root does not follow it",
                    escape_path(&path)
                ),
                "write the real path in the plan file",
            ));
        }
        self.symlinks += 1;
        if self.symlinks > MAX_SYMLINKS {
            return Err(Error::call("open", &path, Errno::LOOP));
        }
        let target = retry_on_intr(|| rustix::fs::readlinkat(&self.dir.fd, name, Vec::new()))
            .map_err(|errno| Error::call("read the symlink", &path, errno))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.dir = Dir::root()?.dir;
            self.trusted = true;
        }
        Ok(target)
    }

    /// Follows all components of a path from here.
    fn pass(mut self, path: &Path) -> Result<Self, Error> {
        for component in path.components() {
            match component {
                Component::Normal(name) => self = self.descend(name)?,
                // The kernel's `..`: the current parent of the directory.
                Component::ParentDir => {
                    let fd = open_at(&self.dir.fd, OsStr::new(".."), OFlags::PATH | OFlags::DIRECTORY)
                        .map_err(|errno| Error::call("open the parent of", &self.dir.path, errno))?;
                    self.dir.fd = fd;
                    self.dir.path.pop();
                }
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        Ok(self)
    }
}

/// Returns the names in an absolute path, without `..`, which plan files cannot contain.
fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}
