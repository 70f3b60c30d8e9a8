//! Walks everything below a directory by descriptors, without opening anything by its path.
//!
//! `listing.rs` lists and opens single directories, `lookahead.rs` looks entries up before the walk comes to them, `left_out.rs`
//! defines what a walk leaves out.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::descriptor::{change_mode, change_owner, open_at, open_quietly};
use super::{Dir, Error, FileKind, escape_path};
use crate::telemetry::spans::{self, Count};

mod left_out;
mod listing;
mod lookahead;
#[cfg(test)]
mod tests;

use left_out::Extent;
pub use left_out::LeftOut;
pub use listing::Own;
use listing::{Batch, Level, Listed, Opened, Seen, is_mount_root, list, look, look_at_open, open_level};
use lookahead::{Helpers, Listing, Lookahead};

/// The maximum number of open directories. In deeper trees the outer ones are closed, and opened again by `..` on the way
/// back.
const OPEN_LEVELS: usize = 32;

/// What a walk visits.
pub enum Visit<'walk> {
    /// An entry. A directory comes after everything in it.
    Entry(Entry<'walk>),
    /// A mount point, which is not entered.
    Mount(PathBuf),
    /// What cannot be looked at, opened or listed. The walk goes on after it.
    Failed(PathBuf, Error),
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
    /// Whether this program keeps something there, with [`LeftOut::with_own_folders`].
    pub own: Own,
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
            let now = look_at_open(&pinned).map_err(|errno| Error::call("look at", &path(), errno))?;
            let top = self.levels.first().map_or(&now, |top| &top.seen);
            // With a hard link that another user made since, a file outside of the tree would change its owner.
            if now.kind() != self.kind || now.is_mount(top) || now.links > 1 && !hard_links {
                return Err(Error::refused(
                    format!("{} was replaced or hard-linked meanwhile", escape_path(&path())),
                    "find out who else works in that directory, then run again",
                ));
            }
        }
        change_owner(&pinned, uid, gid).map_err(|errno| Error::call(super::setting_owner(uid), &path(), errno))?;
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
            At::Open(level) => open_at(level.fd()?, OsStr::new("."), OFlags::PATH | OFlags::DIRECTORY),
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

/// Visits everything below `top` that is not left out, each directory after its entries. `top` itself is not visited. Memory and
/// open descriptors do not grow with the tree, except for the names of the directories that the walk is in. Each entry is looked
/// at directly before its visit, which may change it.
///
/// An entry that disappears meanwhile is skipped. An entry that fails does not stop the walk, unless it is `top`.
pub fn walk(top: &Dir, left_out: &LeftOut, visit: impl FnMut(Visit<'_>) -> Result<(), Error>) -> Result<(), Error> {
    recorded(top, visit, |visit| walk_entries(top, left_out, visit, None))
}

/// Visits the same as [`walk`], for a visitor that changes nothing. In larger trees entries are looked at some time before their
/// visit, several at once.
pub fn survey(top: &Dir, left_out: &LeftOut, visit: impl FnMut(Visit<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let seen = || look_at_open(top.readable()?);
    let ahead = Lookahead::new(left_out, seen().map_err(|errno| cannot_list_top(top, errno))?);
    recorded(top, visit, |visit| {
        std::thread::scope(|scope| walk_entries(top, left_out, visit, Some(&mut Helpers::new(&ahead, scope))))
    })
}

type Visitor<'visit> = dyn FnMut(Visit<'_>) -> Result<(), Error> + 'visit;

/// Records a walk and its number of visits in a span.
fn recorded(
    top: &Dir,
    mut visit: impl FnMut(Visit<'_>) -> Result<(), Error>,
    walk: impl FnOnce(&mut Visitor<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let span = spans::fs_walk(&escape_path(top.path()));
    let mut entries = 0;
    let result = span.in_scope(|| {
        walk(&mut |seen| {
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
    visit: &mut Visitor<'_>,
    mut helpers: Option<&mut Helpers<'_, '_>>,
) -> Result<(), Error> {
    let opened = top.readable().and_then(|fd| {
        let batch = list(&fd, (left_out, Some(0)), &PathBuf::new)?;
        Ok(Opened { seen: look_at_open(&fd)?, fd: Arc::new(fd), batch: Arc::new(batch) })
    });
    let opened = opened.map_err(|errno| cannot_list_top(top, errno))?;
    let mut levels = vec![Level::new(CString::default(), opened, Some(0), Own::No)];
    while let Some(level) = levels.last_mut() {
        let (batch, index) = (Arc::clone(&level.batch), level.next);
        let Some((name, listed)) = batch.get(index) else {
            if batch.is_last {
                leave(top, left_out, &mut levels, visit)?;
            } else {
                list_on(top, left_out, &mut levels, helpers.as_deref_mut(), visit)?;
            }
            continue;
        };
        level.next += 1;
        level.resume = listed.resume;
        let failed = |what, errno| Error::call(what, &top.path().join(below_top(&levels, name)), errno);
        let fd = innermost(&levels).map_err(|errno| failed("look at", errno))?;
        let listing =
            || Listing { fd: Arc::clone(fd), batch: Arc::clone(&batch), path: Arc::new(below_top(&levels, c"")) };
        let known = helpers.as_mut().and_then(|helpers| helpers.look(listing, &batch, index));
        let seen = match known.unwrap_or_else(|| look(fd, name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(seen) => seen,
            Err(Errno::NOENT) => continue,
            // Root cannot look at another user's FUSE mount, and no user can look at a mount without its server.
            Err(_) if is_mount_root(fd, name) => {
                visit(Visit::Mount(below_top(&levels, name)))?;
                continue;
            }
            Err(errno) => {
                let around = top.path().join(below_top(&levels, c""));
                let seen = levels.last().map(|level| (level.seen.uid, level.seen.mode.into()));
                let error = failed("look at", errno).of_directory(&around, seen);
                visit(Visit::Failed(below_top(&levels, name), error))?;
                continue;
            }
        };
        if levels.first().is_some_and(|top| seen.is_mount(&top.seen)) {
            visit(Visit::Mount(below_top(&levels, name)))?;
        } else if seen.kind() == FileKind::Directory {
            let known = helpers.as_mut().and_then(|helpers| helpers.take_opened(listing, index));
            let here = (left_out, listed.left_out);
            let opened = known.unwrap_or_else(|| open_level(fd, name, here, &|| below_top(&levels, name)));
            enter(top, &mut levels, (name, listed), opened, helpers.as_deref_mut(), visit)?;
        } else if left_out.extent(listed.left_out) != Some(Extent::Entry) {
            let own = levels.last().map_or(Own::No, |around| around.own.of_entry(false));
            visit(Visit::Entry(Entry::new(&seen, own, At::Name(name), &levels, top)))?;
        }
    }
    Ok(())
}

fn cannot_list_top(top: &Dir, errno: Errno) -> Error {
    let seen = top.stat_self().ok().map(|stat| (stat.uid, stat.mode));
    Error::call("list", top.path(), errno).of_directory(top.path(), seen)
}

/// Lists the next entries of the innermost level. If that fails, the level ends there.
fn list_on(
    top: &Dir,
    left_out: &LeftOut,
    levels: &mut [Level],
    helpers: Option<&mut Helpers<'_, '_>>,
    visit: &mut Visitor<'_>,
) -> Result<(), Error> {
    let path = below_top(levels, c"");
    let failed = |errno| Error::call("list", &top.path().join(&path), errno);
    let is_top = levels.len() == 1;
    let Some(level) = levels.last_mut() else { return Ok(()) };
    let fd = Arc::clone(level.fd().map_err(failed)?);
    let batch = match list(&fd, (left_out, level.left_out), &|| path.clone()) {
        Ok(batch) => batch,
        Err(errno) if is_top => return Err(failed(errno)),
        Err(errno) => {
            (level.batch, level.next) = (Arc::new(Batch::end()), 0);
            return visit(Visit::Failed(path.clone(), failed(errno)));
        }
    };
    (level.batch, level.next) = (Arc::new(batch), 0);
    if let Some(helpers) = helpers.filter(|helpers| helpers.are_working()) {
        helpers.listed(&Listing { fd, batch: Arc::clone(&level.batch), path: Arc::new(path) }, 0);
    }
    Ok(())
}

/// Makes the directory `name` of the innermost level the new innermost one.
fn enter(
    top: &Dir,
    levels: &mut Vec<Level>,
    (name, listed): (&CStr, Listed),
    opened: Result<Opened, Errno>,
    helpers: Option<&mut Helpers<'_, '_>>,
    visit: &mut Visitor<'_>,
) -> Result<(), Error> {
    let opened = match opened {
        Ok(opened) => opened,
        // It no longer exists, or was replaced since its type was read.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => {
            let path = top.path().join(below_top(levels, name));
            let seen = innermost(levels).and_then(|fd| look(fd, name, AtFlags::SYMLINK_NOFOLLOW)).ok();
            let seen = seen.map(|seen| (seen.uid, seen.mode.into()));
            let error = Error::call("open", &path, errno).of_directory(&path, seen);
            return visit(Visit::Failed(below_top(levels, name), error));
        }
    };
    if levels.first().is_some_and(|top| opened.seen.is_mount(&top.seen)) {
        return visit(Visit::Mount(below_top(levels, name)));
    }
    let own = levels.last().map_or(Own::No, |around| around.own.of_entry(listed.is_own));
    levels.push(Level::new(name.to_owned(), opened, listed.left_out, own));
    if let (Some(helpers), Some(level)) = (helpers.filter(|helpers| helpers.are_working()), levels.last())
        && let Ok(fd) = level.fd()
    {
        let path = Arc::new(below_top(levels, c""));
        helpers.listed(&Listing { fd: Arc::clone(fd), batch: Arc::clone(&level.batch), path }, 0);
    }
    if let Some(far) = levels.len().checked_sub(OPEN_LEVELS + 1) {
        levels[far].close();
    }
    Ok(())
}

/// Visits the innermost directory itself after its entries, and returns to its parent.
fn leave(top: &Dir, left_out: &LeftOut, levels: &mut Vec<Level>, visit: &mut Visitor<'_>) -> Result<(), Error> {
    let Some(done) = levels.pop() else { return Ok(()) };
    let Some(around) = levels.last_mut() else { return Ok(()) };
    let path = |levels: &[Level]| top.path().join(below_top(levels, c""));
    if around.fd.is_none() {
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
    visit(Visit::Entry(Entry::new(&done.seen, done.own, At::Open(&done), levels, top)))
}

/// Opens a closed level from the one below it, if that is still in the same directory.
fn reopen(around: &mut Level, inner: &Level) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let fd = open_quietly(inner.fd()?, OsStr::new(".."), flags)?;
    if !look_at_open(&fd)?.is_same(&around.seen) {
        return Ok(false);
    }
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(around.resume))?;
    around.fd = Some(Arc::new(fd));
    Ok(true)
}

impl<'walk> Entry<'walk> {
    fn new(seen: &Seen, own: Own, at: At<'walk>, levels: &'walk [Level], top: &'walk Dir) -> Self {
        Self {
            kind: seen.kind(),
            uid: seen.uid,
            gid: seen.gid,
            mode: u32::from(seen.mode) & 0o7777,
            links: seen.links.into(),
            is_locked: seen.is_locked,
            born: seen.born,
            own,
            at,
            levels,
            top,
        }
    }
}

fn innermost(levels: &[Level]) -> Result<&Arc<OwnedFd>, Errno> {
    levels.last().ok_or(Errno::BADF)?.fd()
}

/// Returns the path of `name` in the innermost of `levels`, from the top of the tree.
fn below_top(levels: &[Level], name: &CStr) -> PathBuf {
    let names = levels.iter().map(|level| level.name.as_c_str()).chain([name]);
    names.filter(|name| !name.is_empty()).map(|name| OsStr::from_bytes(name.to_bytes())).collect()
}
