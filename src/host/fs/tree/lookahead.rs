//! Looks up entries ahead of a walk, several at a time. On a file system with latency this hides most of the latency. On others it
//! uses all processors.
//!
//! The walk visits the entries one after another, in the order in which they are listed, and uses what has been looked up by then.
//! Helper threads take jobs from a queue: looking up some entries of a listed directory, and opening its next directories. The walk
//! itself does the jobs that are not yet started when it arrives.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::Scope;
use std::time::{Duration, Instant};

use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::super::FileKind;
use super::left_out::LeftOut;
use super::listing::{Batch, CHUNK, Counted, Opened, Seen, Slot, look, open_level};

/// The maximum number of directories of one listing that are opened ahead.
const OPENED_AHEAD: usize = 8;
/// The maximum number of directories that are opened ahead in all.
const MAX_OPENED_AHEAD: u64 = 64;
/// The number of entries that a walk looks up before it starts helpers. Most trees are small.
const ENTRIES_ALONE: usize = 512;
/// A file system is slow if a look-up takes longer. Then it does not wait for a processor.
const SLOW: Duration = Duration::from_micros(200);
/// The number of helpers on a slow file system.
const MAX_HELPERS: usize = 24;

/// A directory that was listed, for jobs on its entries.
#[derive(Clone)]
pub(super) struct Listing {
    pub fd: Arc<OwnedFd>,
    pub batch: Arc<Batch>,
    /// Its path below the top of the tree.
    pub path: Arc<PathBuf>,
}

impl Listing {
    fn downgrade(&self) -> WeakListing {
        let Self { fd, batch, path } = self;
        WeakListing { fd: Arc::downgrade(fd), batch: Arc::downgrade(batch), path: Arc::clone(path) }
    }
}

/// A listing that a job may find closed. Waiting jobs keep no descriptor open.
struct WeakListing {
    fd: Weak<OwnedFd>,
    batch: Weak<Batch>,
    path: Arc<PathBuf>,
}

impl WeakListing {
    fn upgrade(self) -> Option<Listing> {
        Some(Listing { fd: self.fd.upgrade()?, batch: self.batch.upgrade()?, path: self.path })
    }
}

enum Job {
    Look { listing: WeakListing, chunk: usize },
    Open { listing: WeakListing, index: usize, slot: Arc<Slot> },
}

/// Looks ahead of one walk.
pub(super) struct Lookahead<'walk> {
    left_out: &'walk LeftOut,
    top: Seen,
    queue: Mutex<Queue>,
    /// Wakes a helper.
    added: Condvar,
    /// Wakes the walk.
    done: Condvar,
    opened: Arc<AtomicUsize>,
    max_opened: usize,
    is_slow: AtomicBool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_ended: bool,
    /// Whether the walk waits for a job.
    is_awaited: bool,
}

/// The walk's side of the queue.
pub(super) struct Helpers<'scope, 'env> {
    ahead: &'scope Lookahead<'scope>,
    scope: &'scope Scope<'scope, 'env>,
    count: usize,
    /// The number of helpers that can be started.
    max_count: usize,
    looked: usize,
    started: Instant,
}

impl<'walk> Lookahead<'walk> {
    pub(super) fn new(left_out: &'walk LeftOut, top: Seen) -> Self {
        // Other parts of this process need descriptors too.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
        Self {
            left_out,
            top,
            queue: Mutex::default(),
            added: Condvar::new(),
            done: Condvar::new(),
            opened: Arc::default(),
            max_opened: usize::try_from(limit.min(MAX_OPENED_AHEAD)).unwrap_or_default(),
            is_slow: AtomicBool::new(false),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes jobs until the walk has ended.
    fn help(&self) {
        let mut queue = self.queue();
        while !queue.is_ended {
            let Some(job) = queue.jobs.pop_front() else {
                queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            self.run(job);
            queue = self.queue();
            if std::mem::take(&mut queue.is_awaited) {
                self.done.notify_one();
            }
        }
    }

    fn run(&self, job: Job) {
        match job {
            Job::Look { listing, chunk } => {
                // The walk has left the directory.
                let Some(listing) = listing.upgrade() else { return };
                if self.look_at(&listing, chunk) {
                    self.open_next(&listing);
                }
            }
            Job::Open { listing, index, slot } => {
                let Some(listing) = listing.upgrade() else { return };
                if slot.is_taken.swap(true, Ordering::AcqRel) {
                    return;
                }
                let opened = self.open(&listing, index);
                if let Ok((Opened { fd, batch, .. }, path)) = &opened {
                    self.add(
                        &Listing { fd: Arc::clone(fd), batch: Arc::clone(batch), path: Arc::clone(path) },
                        0,
                        false,
                    );
                }
                let _ = slot.opened.set(Mutex::new(Some(opened.map(|(opened, _)| opened))));
            }
        }
    }

    /// Looks up the entries of a chunk, unless another thread does. Returns whether it did.
    fn look_at(&self, listing: &Listing, chunk: usize) -> bool {
        let batch = &listing.batch;
        let Some(place) = batch.progress.chunks.get(chunk).filter(|chunk| !chunk.is_taken.swap(true, Ordering::AcqRel))
        else {
            return false;
        };
        let started = Instant::now();
        let entries = (chunk * CHUNK..batch.len().min((chunk + 1) * CHUNK)).filter_map(|index| batch.get(index));
        let seen: Vec<_> = entries.map(|(name, _)| look(&listing.fd, name, AtFlags::SYMLINK_NOFOLLOW)).collect();
        if started.elapsed() > SLOW * u32::try_from(seen.len()).unwrap_or(u32::MAX) {
            self.is_slow.store(true, Ordering::Relaxed);
        }
        let _ = place.seen.set(seen);
        true
    }

    fn open(&self, listing: &Listing, index: usize) -> Result<(Opened, Arc<PathBuf>), Errno> {
        let (name, entry) = listing.batch.get(index).ok_or(Errno::NOENT)?;
        let path = Arc::new(listing.path.join(OsStr::from_bytes(name.to_bytes())));
        let opened = open_level(&listing.fd, name, (self.left_out, entry.left_out), &|| path.to_path_buf())?;
        Ok((opened, path))
    }

    /// Queues jobs to look up the entries of a listing. With `is_next`, they come before all others.
    fn add(&self, listing: &Listing, from: usize, is_next: bool) {
        let chunks = listing.batch.progress.chunks.len();
        let mut queue = self.queue();
        let jobs = (from..chunks).map(|chunk| Job::Look { listing: listing.downgrade(), chunk });
        if is_next {
            jobs.rev().for_each(|job| queue.jobs.push_front(job));
        } else {
            queue.jobs.extend(jobs);
        }
        drop(queue);
        match chunks.saturating_sub(from) {
            0 => {}
            1 => self.added.notify_one(),
            _ => self.added.notify_all(),
        }
    }

    /// Queues jobs to open the next directories of a listing.
    fn open_next(&self, listing: &Listing) {
        let mut jobs = Vec::new();
        let progress = &listing.batch.progress;
        let mut directories = progress.directories.lock().unwrap_or_else(PoisonError::into_inner);
        while directories.slots.len() < OPENED_AHEAD && directories.considered < listing.batch.len() {
            let index = directories.considered;
            let Some(seen) = progress.chunks.get(index / CHUNK).and_then(|chunk| chunk.seen.get()) else { break };
            if let Some(Ok(seen)) = seen.get(index % CHUNK)
                && seen.kind() == FileKind::Directory
                && !seen.is_mount(&self.top)
            {
                if self.opened.fetch_add(1, Ordering::Relaxed) >= self.max_opened {
                    self.opened.fetch_sub(1, Ordering::Relaxed);
                    break;
                }
                let counted = Counted(Arc::clone(&self.opened));
                let slot = Slot { is_taken: AtomicBool::new(false), opened: OnceLock::new(), _counted: counted };
                let slot = Arc::new(slot);
                directories.slots.push_back((index, Arc::clone(&slot)));
                jobs.push(Job::Open { listing: listing.downgrade(), index, slot });
            }
            directories.considered += 1;
        }
        drop(directories);
        if !jobs.is_empty() {
            self.queue().jobs.extend(jobs);
            self.added.notify_all();
        }
    }

    /// Runs other jobs until `is_done`.
    fn wait(&self, is_done: impl Fn() -> bool) {
        let mut queue = self.queue();
        while !is_done() {
            match queue.jobs.pop_front() {
                Some(job) => {
                    drop(queue);
                    self.run(job);
                    queue = self.queue();
                }
                None => {
                    queue.is_awaited = true;
                    queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl<'scope, 'env> Helpers<'scope, 'env> {
    pub(super) fn new(ahead: &'scope Lookahead<'scope>, scope: &'scope Scope<'scope, 'env>) -> Self {
        Self { ahead, scope, count: 0, max_count: MAX_HELPERS, looked: 0, started: Instant::now() }
    }

    /// Returns what was looked up of an entry of a listing, or looks it up. `None` while there are no helpers.
    pub(super) fn look(
        &mut self,
        listing: impl Fn() -> Listing,
        batch: &Batch,
        index: usize,
    ) -> Option<Result<Seen, Errno>> {
        self.looked += 1;
        if self.count == 0 {
            let elapsed = || self.started.elapsed() / u32::try_from(self.looked).unwrap_or(u32::MAX);
            let is_slow = self.looked.is_multiple_of(8) && elapsed() > SLOW;
            if self.max_count == 0 || !is_slow && self.looked < ENTRIES_ALONE {
                return None;
            }
            self.ahead.is_slow.store(is_slow, Ordering::Relaxed);
            self.start();
            if self.count == 0 {
                return None;
            }
            self.listed(&listing(), index / CHUNK + 1);
        }
        let chunk = batch.progress.chunks.get(index / CHUNK)?;
        if chunk.seen.get().is_none() {
            let listing = listing();
            if self.ahead.look_at(&listing, index / CHUNK) {
                self.ahead.open_next(&listing);
            } else {
                self.ahead.wait(|| chunk.seen.get().is_some());
            }
            self.start();
        }
        chunk.seen.get()?.get(index % CHUNK).copied()
    }

    /// Returns the directory if it was opened ahead, and queues the next directories.
    pub(super) fn take_opened(&mut self, listing: impl Fn() -> Listing, index: usize) -> Option<Result<Opened, Errno>> {
        if self.count == 0 {
            return None;
        }
        let listing = &listing();
        let mut directories = listing.batch.progress.directories.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slot = None;
        while let Some((at, found)) = directories.slots.pop_front() {
            if at > index {
                directories.slots.push_front((at, found));
                break;
            }
            slot = Some(found).filter(|_| at == index);
        }
        directories.considered = directories.considered.max(index + 1);
        drop(directories);
        self.ahead.open_next(listing);
        let slot = slot.filter(|slot| slot.is_taken.swap(true, Ordering::AcqRel))?;
        self.ahead.wait(|| slot.opened.get().is_some());
        let opened = slot.opened.get()?.lock().unwrap_or_else(PoisonError::into_inner).take();
        // If descriptors run out, the walk opens the directory itself.
        opened.filter(|opened| !matches!(opened, Err(Errno::MFILE | Errno::NFILE)))
    }

    /// Queues the entries of a listing that the walk has reached, from this chunk on.
    pub(super) fn listed(&mut self, listing: &Listing, from: usize) {
        if self.count > 0 {
            self.ahead.add(listing, from, true);
        }
    }

    /// Returns whether helpers work.
    pub(super) fn are_working(&self) -> bool {
        self.count > 0
    }

    /// Starts as many helpers as are useful.
    fn start(&mut self) {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let of_use =
            if self.ahead.is_slow.load(Ordering::Relaxed) { MAX_HELPERS } else { processors.saturating_sub(1).max(1) };
        while self.count < of_use.min(self.max_count) {
            let ahead = self.ahead;
            match std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(self.scope, move || ahead.help()) {
                Ok(_) => self.count += 1,
                // Without helpers the walk does everything itself.
                Err(_) => self.max_count = self.count,
            }
        }
    }
}

impl Drop for Helpers<'_, '_> {
    fn drop(&mut self) {
        let mut queue = self.ahead.queue();
        queue.is_ended = true;
        queue.jobs.clear();
        drop(queue);
        self.ahead.added.notify_all();
    }
}
