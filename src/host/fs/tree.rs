//! Walks everything below a directory by descriptors, without opening anything by its path.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, Statx, StatxAttributes, StatxFlags, statx};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::{change_mode, change_owner, open_at, open_quietly};
use super::{Dir, Error, FileKind, escape_path};
use crate::telemetry::spans::{self, Count};

/// The maximum number of open directories. In deeper trees the outer ones are closed, and opened again by `..` on the way
/// back.
const OPEN_LEVELS: usize = 32;

const WANTED: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::UID)
    .union(StatxFlags::GID)
    .union(StatxFlags::INO)
    .union(StatxFlags::CTIME)
    .union(StatxFlags::BTIME);

/// What a walk visits.
pub enum Visit<'walk> {
    /// An entry. A directory comes after everything in it.
    Entry(Entry<'walk>),
    /// A mount point, which is not entered.
    Mount(PathBuf),
}

/// One entry of a tree.
pub struct Entry<'walk> {
    pub kind: FileKind,
    pub uid: u32,
    pub gid: u32,
    /// The permission bits, set-id and sticky bits included.
    pub mode: u32,
    /// The number of hard links.
    pub links: u64,
    /// Whether a flag of the file system prevents everybody from changing it (chattr(1)).
    pub is_locked: bool,
    /// When it was created, in microseconds since 1970. If the file system does not know, when it was last changed.
    pub born: i64,
    at: At<'walk>,
    levels: &'walk [Level],
    top: &'walk Dir,
}

/// How an entry is reached.
enum At<'walk> {
    /// By its name in the innermost open directory.
    Name(&'walk CStr),
    /// By the descriptor of a directory whose entries have all been visited.
    Open(&'walk Level),
}

/// A directory that is being walked.
struct Level {
    name: CString,
    seen: Statx,
    /// Closed while the walk is far below.
    listing: Option<rustix::fs::Dir>,
    /// Where the listing continues after the entry that was read last.
    resume: i64,
    /// The node of what is left out of it, if anything is.
    left_out: Option<usize>,
}

impl Entry<'_> {
    /// Returns its path below the top of the tree.
    pub fn path(&self) -> PathBuf {
        let name = match &self.at {
            At::Name(name) => name,
            At::Open(level) => level.name.as_c_str(),
        };
        below_top(self.levels, name)
    }

    /// Sets owner, group and mode of exactly the entry that was visited. A symlink is not followed, and has no mode to set.
    ///
    /// Returns `false` if the entry no longer exists.
    ///
    /// # Errors
    /// The entry was replaced, it has hard links and `hard_links` is false, or a system call fails.
    pub fn change(
        &self,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: Option<u32>,
        hard_links: bool,
    ) -> Result<bool, Error> {
        let path = || self.top.path().join(self.path());
        let Some(pinned) = self.pin().map_err(|errno| Error::call("open", &path(), errno))? else { return Ok(false) };
        if let At::Name(_) = &self.at {
            let now =
                look(&pinned, c"", AtFlags::EMPTY_PATH).map_err(|errno| Error::call("look at", &path(), errno))?;
            let top = self.levels.first().map_or(&now, |top| &top.seen);
            // With a hard link that another user made since, a file outside of the tree would change its owner.
            if FileKind::of(now.stx_mode.into()) != self.kind || is_mount(&now, top) || now.stx_nlink > 1 && !hard_links
            {
                return Err(Error::refused(
                    format!("{} was replaced or hard-linked meanwhile", escape_path(&path())),
                    "find out who else works in that directory, then run again",
                ));
            }
        }
        change_owner(&pinned, uid, gid).map_err(|errno| Error::call("set the owner of", &path(), errno))?;
        if let Some(mode) = mode.filter(|_| self.kind != FileKind::Symlink) {
            change_mode(&pinned, mode).map_err(|errno| Error::call("set the mode of", &path(), errno))?;
        }
        Ok(true)
    }

    /// Whether it has file capabilities. An entry that no longer exists has none.
    ///
    /// # Errors
    /// A system call fails.
    pub fn has_capabilities(&self) -> Result<bool, Error> {
        if self.kind != FileKind::File {
            return Ok(false);
        }
        let found = self.pin().and_then(|fd| fd.map_or(Ok(false), |fd| super::xattr::has_capabilities(&fd)));
        found.map_err(|errno| Error::call("read the attributes of", &self.top.path().join(self.path()), errno))
    }

    /// Opens the entry without access to its content; `None` if it no longer exists.
    fn pin(&self) -> Result<Option<OwnedFd>, Errno> {
        let fd = match &self.at {
            At::Open(level) => open_at(listing_fd(level)?, OsStr::new("."), OFlags::PATH | OFlags::DIRECTORY),
            At::Name(name) => {
                let dir = innermost(self.levels)?;
                open_at(dir, OsStr::from_bytes(name.to_bytes()), OFlags::PATH | OFlags::NOFOLLOW)
            }
        };
        match fd {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

type Excludes = dyn Fn(&Path) -> bool;

/// Paths below the top of a tree that a walk leaves out, as a trie of their names.
#[derive(Default)]
pub struct LeftOut {
    names: Vec<LeftOutName>,
    /// Whether a path is left out with everything below it.
    excludes: Option<Box<Excludes>>,
}

#[derive(Debug, Default)]
struct LeftOutName {
    below: HashMap<OsString, usize>,
    extent: Option<Extent>,
}

/// How much of a path is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    /// The entry itself.
    Entry,
    /// The entry and everything below it.
    Whole,
}

impl LeftOut {
    /// Leaves out each path, and with `true` everything below it.
    pub fn new<'a>(paths: impl Iterator<Item = (&'a Path, bool)>) -> Self {
        let mut names = vec![LeftOutName::default()];
        for (path, whole) in paths {
            let mut at = 0;
            for name in path.iter() {
                let next = names.len();
                at = *names[at].below.entry(name.to_owned()).or_insert(next);
                if at == next {
                    names.push(LeftOutName::default());
                }
            }
            let extent = if whole { Extent::Whole } else { Extent::Entry };
            names[at].extent = names[at].extent.max(Some(extent));
        }
        Self { names, excludes: None }
    }

    /// Also leaves out each path below the top for which `excludes` returns true, and everything below it.
    pub fn excluding(mut self, excludes: impl Fn(&Path) -> bool + 'static) -> Self {
        self.excludes = Some(Box::new(excludes));
        self
    }

    fn below(&self, at: Option<usize>, name: &CStr) -> Option<usize> {
        self.names.get(at?)?.below.get(OsStr::from_bytes(name.to_bytes())).copied()
    }

    fn extent(&self, at: Option<usize>) -> Option<Extent> {
        self.names.get(at?)?.extent
    }
}

/// Visits everything below `top` that is not left out, each directory after its entries. `top` itself is not visited. Memory and
/// open descriptors do not grow with the tree, except for the names of the directories that the walk is in.
///
/// An entry that disappears meanwhile is skipped.
pub fn walk(top: &Dir, left_out: &LeftOut, mut visit: impl FnMut(Visit<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let span = spans::fs_walk(&escape_path(top.path()));
    let mut entries = 0;
    let result = span.in_scope(|| {
        walk_entries(top, left_out, |seen| {
            entries += 1;
            visit(seen)
        })
    });
    span.count(Count::Entries, entries);
    result
}

fn walk_entries(
    top: &Dir,
    left_out: &LeftOut,
    mut visit: impl FnMut(Visit<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |errno| Error::call("list", top.path(), errno);
    let fd = top.readable().map_err(failed)?;
    let seen = look(&fd, c"", AtFlags::EMPTY_PATH).map_err(failed)?;
    let mut levels = vec![Level::new(CString::default(), seen, fd, Some(0)).map_err(failed)?];
    while let Some(level) = levels.last_mut() {
        let failed = |levels: &[Level], errno| Error::call("list", &top.path().join(below_top(levels, c"")), errno);
        let next = level.listing.as_mut().and_then(rustix::fs::Dir::read);
        let entry = match next {
            None => {
                leave(top, left_out, &mut levels, &mut visit)?;
                continue;
            }
            Some(Err(errno)) => return Err(failed(&levels, errno)),
            Some(Ok(entry)) => entry,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        level.resume = entry.offset();
        let place = left_out.below(level.left_out, name);
        let extent = left_out.extent(place);
        if extent == Some(Extent::Whole)
            || left_out.excludes.as_ref().is_some_and(|excludes| excludes(&below_top(&levels, name)))
        {
            continue;
        }
        let fd = innermost(&levels).map_err(|errno| failed(&levels, errno))?;
        let stat = match look(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(Error::call("look at", &top.path().join(below_top(&levels, name)), errno)),
        };
        let outside = levels.first().is_some_and(|top| is_mount(&stat, &top.seen));
        if outside {
            visit(Visit::Mount(below_top(&levels, name)))?;
        } else if FileKind::of(stat.stx_mode.into()) == FileKind::Directory {
            enter(top, &mut levels, name, place, &mut visit)?;
        } else if extent.is_none() {
            visit(Visit::Entry(Entry::new(&stat, At::Name(name), &levels, top)))?;
        }
    }
    Ok(())
}

/// Opens the directory `name` of the innermost level as a new level.
fn enter(
    top: &Dir,
    levels: &mut Vec<Level>,
    name: &CStr,
    left_out: Option<usize>,
    visit: &mut impl FnMut(Visit<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |levels: &[Level], errno| Error::call("open", &top.path().join(below_top(levels, name)), errno);
    let dir = innermost(levels).map_err(|errno| failed(levels, errno))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let fd = match open_quietly(dir, OsStr::from_bytes(name.to_bytes()), flags) {
        Ok(fd) => fd,
        // It no longer exists, or was replaced since its type was read.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(failed(levels, errno)),
    };
    let seen = look(&fd, c"", AtFlags::EMPTY_PATH).map_err(|errno| failed(levels, errno))?;
    if levels.first().is_some_and(|top| is_mount(&seen, &top.seen)) {
        return visit(Visit::Mount(below_top(levels, name)));
    }
    let level = Level::new(name.to_owned(), seen, fd, left_out).map_err(|errno| failed(levels, errno))?;
    levels.push(level);
    if let Some(far) = levels.len().checked_sub(OPEN_LEVELS + 1) {
        levels[far].listing = None;
    }
    Ok(())
}

/// Visits the innermost directory itself after its entries, and returns to its parent.
fn leave(
    top: &Dir,
    left_out: &LeftOut,
    levels: &mut Vec<Level>,
    visit: &mut impl FnMut(Visit<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(done) = levels.pop() else { return Ok(()) };
    let Some(around) = levels.last_mut() else { return Ok(()) };
    let path = |levels: &[Level]| top.path().join(below_top(levels, c""));
    if around.listing.is_none() {
        let reopened = reopen(around, &done).map_err(|errno| Error::call("open", &path(levels), errno))?;
        if !reopened {
            return Err(Error::refused(
                format!("a directory below {} was moved away while its entries were read", escape_path(&path(levels))),
                "run again when nobody moves directories there",
            ));
        }
    }
    if left_out.extent(done.left_out).is_some() {
        return Ok(());
    }
    visit(Visit::Entry(Entry::new(&done.seen, At::Open(&done), levels, top)))
}

/// Opens a closed level from the one below it, if that is still in the same directory.
fn reopen(around: &mut Level, inner: &Level) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let fd = open_quietly(listing_fd(inner)?, OsStr::new(".."), flags)?;
    let now = look(&fd, c"", AtFlags::EMPTY_PATH)?;
    if !is_same(&now, &around.seen) {
        return Ok(false);
    }
    let mut listing = rustix::fs::Dir::new(fd)?;
    listing.seek(around.resume)?;
    around.listing = Some(listing);
    Ok(true)
}

impl Level {
    fn new(name: CString, seen: Statx, fd: OwnedFd, left_out: Option<usize>) -> Result<Self, Errno> {
        Ok(Self { name, seen, listing: Some(rustix::fs::Dir::new(fd)?), resume: 0, left_out })
    }
}

impl<'walk> Entry<'walk> {
    fn new(stat: &Statx, at: At<'walk>, levels: &'walk [Level], top: &'walk Dir) -> Self {
        Self {
            kind: FileKind::of(stat.stx_mode.into()),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mode: u32::from(stat.stx_mode) & 0o7777,
            links: stat.stx_nlink.into(),
            is_locked: stat.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND),
            born: born(stat),
            at,
            levels,
            top,
        }
    }
}

fn born(stat: &Statx) -> i64 {
    let known = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    let time = if known { stat.stx_btime } else { stat.stx_ctime };
    time.tv_sec.saturating_mul(1_000_000).saturating_add(i64::from(time.tv_nsec / 1000))
}

fn listing_fd(level: &Level) -> Result<std::os::fd::BorrowedFd<'_>, Errno> {
    level.listing.as_ref().ok_or(Errno::BADF)?.fd()
}

fn innermost(levels: &[Level]) -> Result<std::os::fd::BorrowedFd<'_>, Errno> {
    listing_fd(levels.last().ok_or(Errno::BADF)?)
}

/// Returns the path of `name` in the innermost of `levels`, from the top of the tree.
fn below_top(levels: &[Level], name: &CStr) -> PathBuf {
    let names = levels.iter().map(|level| level.name.as_c_str()).chain([name]);
    names.filter(|name| !name.is_empty()).map(|name| OsStr::from_bytes(name.to_bytes())).collect()
}

fn look(fd: impl AsFd, name: &CStr, flags: AtFlags) -> Result<Statx, Errno> {
    let flags = flags | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    retry_on_intr(|| statx(&fd, name, flags, WANTED))
}

fn is_same(one: &Statx, other: &Statx) -> bool {
    one.stx_ino == other.stx_ino && is_same_device(one, other)
}

fn is_same_device(one: &Statx, other: &Statx) -> bool {
    (one.stx_dev_major, one.stx_dev_minor) == (other.stx_dev_major, other.stx_dev_minor)
}

/// Whether something is mounted there. The device does not tell: a bind mount can have the same one, and files of overlayfs
/// have others. It is used if the kernel does not tell (before Linux 5.8).
fn is_mount(stat: &Statx, top: &Statx) -> bool {
    if stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    } else {
        !is_same_device(stat, top)
    }
}
