//! One directory of a walk, with the entries that were listed last.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::{AtFlags, OFlags, RawDir, Statx, StatxAttributes, StatxFlags, statx};
use rustix::io::{Errno, retry_on_intr};

use super::super::FileKind;
use super::super::descriptor::open_quietly;
use super::left_out::{Extent, LeftOut};

/// The size of the buffer for a listing, in bytes. It holds some hundreds of names, and limits the memory of a walk.
const LISTED_BYTES: usize = 16 << 10;

/// How many entries one job looks at.
pub(super) const CHUNK: usize = 16;

const WANTED: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::UID)
    .union(StatxFlags::GID)
    .union(StatxFlags::INO)
    .union(StatxFlags::CTIME)
    .union(StatxFlags::BTIME);

/// What was seen of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub is_locked: bool,
    /// When it was created, in microseconds since 1970. If the file system does not know, when it was last changed.
    pub born: i64,
    inode: u64,
    device: (u32, u32),
    /// Whether something is mounted there. `None` if the kernel does not tell (before Linux 5.8).
    is_mount_root: Option<bool>,
}

impl Seen {
    fn of(stat: &Statx) -> Self {
        let attribute = |flag| stat.stx_attributes_mask.contains(flag).then(|| stat.stx_attributes.contains(flag));
        let known = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let time = if known { stat.stx_btime } else { stat.stx_ctime };
        Self {
            mode: stat.stx_mode,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            links: stat.stx_nlink,
            is_locked: stat.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND),
            born: time.tv_sec.saturating_mul(1_000_000).saturating_add(i64::from(time.tv_nsec / 1000)),
            inode: stat.stx_ino,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            is_mount_root: attribute(StatxAttributes::MOUNT_ROOT),
        }
    }

    pub(super) fn kind(&self) -> FileKind {
        FileKind::of(self.mode.into())
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.inode, self.device) == (other.inode, other.device)
    }

    /// Whether something is mounted there. The device does not show it: a bind mount can have the same device, and files
    /// of overlayfs have others. It is used if the kernel does not report mounts.
    pub(super) fn is_mount(&self, top: &Self) -> bool {
        self.is_mount_root.unwrap_or(self.device != top.device)
    }
}

pub(super) fn look(fd: impl AsFd, name: &CStr, flags: AtFlags) -> Result<Seen, Errno> {
    let flags = flags | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    retry_on_intr(|| statx(&fd, name, flags, WANTED)).map(|stat| Seen::of(&stat))
}

/// Returns whether something is mounted at an entry that cannot be looked at. The kernel tells without asking the file system.
pub(super) fn is_mount_root(fd: impl AsFd, name: &CStr) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = retry_on_intr(|| statx(&fd, name, flags, StatxFlags::empty()));
    found.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Looks at an open directory.
pub(super) fn look_at_open(fd: impl AsFd) -> Result<Seen, Errno> {
    look(fd, c"", AtFlags::EMPTY_PATH)
}

/// Entries of a directory that were listed together.
pub(super) struct Batch {
    /// The names, each with its NUL.
    names: Vec<u8>,
    entries: Vec<Listed>,
    /// Whether the listing ends with this batch.
    pub is_last: bool,
    /// What was looked up ahead of the walk.
    pub progress: Progress,
}

/// What was looked up ahead for the entries of one listing.
pub(super) struct Progress {
    pub chunks: Vec<Chunk>,
    pub directories: Mutex<Directories>,
}

/// Some entries that are looked at together.
#[derive(Default)]
pub(super) struct Chunk {
    pub is_taken: AtomicBool,
    pub seen: OnceLock<Vec<Result<Seen, Errno>>>,
}

/// The directories of one listing that are opened ahead, in order.
#[derive(Default)]
pub(super) struct Directories {
    /// The entry after the last one that was considered.
    pub considered: usize,
    pub slots: VecDeque<(usize, Arc<Slot>)>,
}

/// A directory that is opened ahead.
pub(super) struct Slot {
    pub is_taken: AtomicBool,
    pub opened: OnceLock<Mutex<Option<Result<Opened, Errno>>>>,
    pub _counted: Counted,
}

/// Counts a directory as opened ahead while it lives.
pub(super) struct Counted(pub Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Progress {
    pub(super) fn of(entries: usize) -> Self {
        let chunks = (0..entries.div_ceil(CHUNK)).map(|_| Chunk::default()).collect();
        Self { chunks, directories: Mutex::default() }
    }
}

/// An entry that was listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    at: u32,
    /// Where the listing continues after it.
    pub resume: u64,
    /// The node of what is left out there, if anything is.
    pub left_out: Option<usize>,
    /// Whether this program keeps something in it.
    pub is_own: bool,
}

impl Batch {
    /// The end of a listing.
    pub(super) fn end() -> Self {
        Self { names: Vec::new(), entries: Vec::new(), is_last: true, progress: Progress::of(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<(&CStr, Listed)> {
        let entry = *self.entries.get(index)?;
        let name = CStr::from_bytes_until_nul(self.names.get(entry.at as usize..)?).ok()?;
        Some((name, entry))
    }
}

/// A directory that was opened.
pub(super) struct Opened {
    pub fd: Arc<OwnedFd>,
    pub seen: Seen,
    pub batch: Arc<Batch>,
}

/// Opens the directory `name` of `dir` and lists the first of its entries.
pub(super) fn open_level(
    dir: impl AsFd,
    name: &CStr,
    left_out: (&LeftOut, Option<usize>),
    path: &dyn Fn() -> PathBuf,
) -> Result<Opened, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let fd = open_quietly(dir, OsStr::from_bytes(name.to_bytes()), flags)?;
    let seen = look_at_open(&fd)?;
    let batch = Arc::new(list(&fd, left_out, path)?);
    Ok(Opened { fd: Arc::new(fd), seen, batch })
}

/// Lists the next entries of a directory, without those that are left out with everything below them. `path` returns the
/// directory's path below the top of the tree.
pub(super) fn list(
    fd: &OwnedFd,
    (left_out, node): (&LeftOut, Option<usize>),
    path: &dyn Fn() -> PathBuf,
) -> Result<Batch, Errno> {
    let mut buffer = [MaybeUninit::uninit(); LISTED_BYTES];
    let mut listing = RawDir::new(fd, &mut buffer);
    let (mut names, mut entries, mut is_last) = (Vec::new(), Vec::new(), true);
    while let Some(entry) = listing.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            // The directory was removed after it was opened (getdents(2)).
            Err(Errno::NOENT) => break,
            other => other?,
        };
        let (name, resume) = (entry.file_name(), entry.next_entry_cookie());
        let place = left_out.below(node, name);
        let in_path = || path().join(OsStr::from_bytes(name.to_bytes()));
        if !matches!(name.to_bytes(), b"." | b"..")
            && left_out.extent(place) != Some(Extent::Whole)
            && !left_out.excludes(name, in_path)
        {
            let at = u32::try_from(names.len()).map_err(|_| Errno::OVERFLOW)?;
            names.extend_from_slice(name.to_bytes_with_nul());
            entries.push(Listed { at, resume, left_out: place, is_own: left_out.is_own(fd, name) });
        }
        // All entries of the last system call are taken. The next call would read more.
        if listing.is_buffer_empty() {
            is_last = false;
            break;
        }
    }
    let progress = Progress::of(entries.len());
    Ok(Batch { names, entries, is_last, progress })
}

/// A directory that is being walked.
pub(super) struct Level {
    pub name: CString,
    pub seen: Seen,
    /// Closed while the walk is far below.
    pub fd: Option<Arc<OwnedFd>>,
    pub batch: Arc<Batch>,
    /// The next entry of the batch.
    pub next: usize,
    /// Where the listing continues after the entry that was visited last.
    pub resume: u64,
    /// The node of what is left out of it, if anything is.
    pub left_out: Option<usize>,
    /// What this program keeps there.
    pub own: Own,
}

/// Whether an entry of a tree is where this program keeps something, or below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    No,
    /// It is such a folder.
    Folder,
    Below,
}

impl Own {
    /// Returns what an entry of a directory is. `is_own` is taken from its listing.
    pub(super) fn of_entry(self, is_own: bool) -> Self {
        match self {
            Self::No if is_own => Self::Folder,
            Self::No => Self::No,
            Self::Folder | Self::Below => Self::Below,
        }
    }
}

impl Level {
    pub(super) fn new(name: CString, opened: Opened, left_out: Option<usize>, own: Own) -> Self {
        let Opened { fd, seen, batch } = opened;
        Self { name, seen, fd: Some(fd), batch, next: 0, resume: 0, left_out, own }
    }

    /// Closes it until the walk returns to it, and forgets what was listed after the entry that was visited last.
    pub(super) fn close(&mut self) {
        self.fd = None;
        self.batch = Arc::new(Batch { is_last: false, ..Batch::end() });
        self.next = 0;
    }

    pub(super) fn fd(&self) -> Result<&Arc<OwnedFd>, Errno> {
        self.fd.as_ref().ok_or(Errno::BADF)
    }
}
