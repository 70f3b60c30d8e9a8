//! Allows only one apply of a plan file at a time on a host.
//!
//! Two flock(2) locks are taken. The kernel releases them when their holder ends, and they leave no trace:
//! - on the plan file itself, which is shared by every user who can read it: root's apply keeps out ubuntu's, and the
//!   reverse;
//! - on a file in the user's state folder, named after the path of the plan file. It keeps out a second apply by the
//!   same user after an editor or a git pull has replaced the plan file. It also records the holder.
//!
//! A plan file from standard input is identified by the path given for it. If there is no file at that path, only the
//! second lock is taken.

use crate::text::{io_error_text, storage_hint};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::event::Holder;
use super::stop::Stop;
use crate::failure::Failure;
use crate::host::fs::escape_path;
use crate::host::machine;
use crate::host::state::{self, Access, Locked, Part, StateFolder};
use crate::host::users::name_or_id;
use jiff::Timestamp;

/// The interval between two attempts to take the lock.
const PAUSE: Duration = Duration::from_millis(200);
/// The most bytes that are read of a holder's record.
const MAX_HOLDER: u64 = 4096;

/// How long to wait for a lock that another process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    No,
    Yes,
    AtMost(Duration),
}

/// What is locked: a plan file, identified by its canonical path.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub path: &'a Path,
    /// Whether the plan file was read from that path. Otherwise there may be no file there.
    pub is_there: bool,
}

/// The lock of a plan file. Dropping it releases the lock.
#[derive(Debug)]
pub struct Lock {
    folder: StateFolder,
    name: String,
    /// Both files are kept open for their locks.
    plan_file: Option<File>,
    state_file: Option<File>,
    registered: Option<File>,
}

impl Lock {
    /// Takes the lock of the plan file, or waits for it and calls `busy` once with its holder. Returns `None` if a
    /// signal comes first. Writes nothing.
    ///
    /// # Errors
    /// Another process holds the lock for longer than `wait`, or the plan file cannot be opened.
    pub async fn take(
        subject: Subject<'_>,
        folder: &StateFolder,
        wait: Wait,
        stop: &Stop,
        busy: &mut dyn FnMut(&Holder),
    ) -> Result<Option<Lock>, Failure> {
        let path = subject.path;
        let began = std::time::Instant::now();
        let mut told = false;
        loop {
            let holder = match Self::attempt(subject, folder)? {
                Ok(lock) => return Ok(Some(lock)),
                Err(holder) => holder,
            };
            let waited = began.elapsed();
            match wait {
                Wait::AtMost(bound) if waited >= bound => {
                    return Err(refusal(
                        path,
                        &holder,
                        &format!(", which did not finish within {} s", bound.as_secs()),
                    ));
                }
                Wait::No => return Err(refusal(path, &holder, "")),
                Wait::Yes | Wait::AtMost(_) => {}
            }
            if !std::mem::replace(&mut told, true) {
                busy(&holder);
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.asked() => return Ok(None),
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the user names the plan file")]
    fn attempt(subject: Subject<'_>, folder: &StateFolder) -> Result<Result<Lock, Holder>, Failure> {
        let path = subject.path;
        let flags = i32::try_from((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits()).unwrap_or(0);
        let plan_file = match File::options().read(true).custom_flags(flags).open(path) {
            Ok(file) => Some(file),
            Err(_) if !subject.is_there => None,
            Err(error) => {
                let (path, why) = (escape_path(path), io_error_text(&error));
                return Err(Failure::new(format!("cannot open the plan file {path} to lock it: {why}")));
            }
        };
        let name = format!("{}.lock", state::name_for(path));
        let dir = folder.existing(Part::Locks).ok().flatten();
        // Problems with the state folder are reported when it is needed: before the first change.
        let state_file = dir.and_then(|dir| state::open(&dir, &name, Access::Read).ok().flatten());
        for file in [plan_file.as_ref(), state_file.as_ref()].into_iter().flatten() {
            if state::try_lock(file) == Locked::Theirs {
                return Ok(Err(holder(file, state_file.as_ref())));
            }
        }
        Ok(Ok(Lock { folder: folder.clone(), name, plan_file, state_file, registered: None }))
    }

    /// Records in the state folder who holds the lock, for others to read. Called before the first change.
    ///
    /// # Errors
    /// The state folder is not writable, or another apply by this user started at the same time on another file at the
    /// same path.
    pub fn register(&mut self, holder: &Holder) -> Result<(), Failure> {
        let dir = self.folder.make(Part::Locks)?;
        let gone = || Failure::new(format!("{} has disappeared", escape_path(&dir.path_of(self.name.as_ref()))));
        let mut file = state::open(&dir, &self.name, Access::Keep)?.ok_or_else(gone)?;
        if self.state_file.is_none() {
            let mine = file
                .try_clone()
                .map_err(|error| Failure::new(format!("cannot keep the lock: {}", io_error_text(&error))))?;
            if state::try_lock(&mine) == Locked::Theirs {
                return Err(Failure::new("another apply of the same plan file started at the same time")
                    .hint("run apply again when it has finished, or use --wait"));
            }
            self.state_file = Some(mine);
        }
        let line = serde_json::to_vec(holder).unwrap_or_default();
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&line)).map_err(|error| {
            Failure::new(format!(
                "cannot write {}: {}",
                escape_path(&dir.path_of(self.name.as_ref())),
                io_error_text(&error)
            ))
            .hint(storage_hint(&error, format!("check the file system of {}", escape_path(self.folder.path()))))
        })?;
        self.registered = Some(file);
        Ok(())
    }

    /// Returns whether the locked plan file still has these bytes. It may have changed during a long wait.
    pub fn is_on(&self, bytes: &[u8]) -> bool {
        let Some(plan_file) = &self.plan_file else { return true };
        let mut found = vec![0; bytes.len()];
        let same_length = plan_file.metadata().is_ok_and(|stat| stat.len() == bytes.len() as u64);
        same_length && plan_file.read_exact_at(&mut found, 0).is_ok() && found == bytes
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = &self.registered {
            // A record that remains is recognised as stale by its pid.
            drop(file.set_len(0));
        }
    }
}

fn refusal(path: &Path, holder: &Holder, tail: &str) -> Failure {
    Failure::new(format!("{} is being applied by {holder}{tail}", escape_path(path)))
        .hint("run apply again when it has finished, or wait for it with --wait or --wait=SECONDS")
}

/// Returns who holds the lock of `file`. The kernel's answer decides; the holder's own record is used if it is of the
/// same process.
fn holder(file: &File, state_file: Option<&File>) -> Holder {
    let written = state_file.and_then(|file| {
        let mut text = String::new();
        let mut file = file.try_clone().ok()?;
        file.rewind().ok()?;
        file.take(MAX_HOLDER).read_to_string(&mut text).ok()?;
        serde_json::from_str::<Holder>(&text).ok()
    });
    let found = locker(file);
    match (written, found) {
        (Some(written), Some(pid)) if written.pid == Some(pid) => written,
        (Some(written), None) => written,
        (_, Some(pid)) => process(pid),
        (None, None) => Holder::default(),
    }
}

/// Returns the process that holds the flock of a file: the line of proc_locks(5) with its device and inode.
#[expect(clippy::disallowed_methods, reason = "a file in /proc")]
fn locker(file: &File) -> Option<u32> {
    let stat = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(stat.dev()), rustix::fs::minor(stat.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", stat.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let line = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut of_file = line.filter(|words| words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&file.as_str()));
    // A process of another PID namespace is shown as 0.
    of_file.next()?.get(4)?.parse().ok().filter(|pid| *pid != 0)
}

/// Describes a process by what /proc shows to every user.
#[expect(clippy::disallowed_methods, reason = "a file in /proc")]
fn process(pid: u32) -> Holder {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let user = std::fs::metadata(&folder).ok().map(|stat| name_or_id(stat.uid()));
    Holder { user, pid: Some(pid), host: machine::host_name(), run: None, since: started(&folder).map(time) }
}

/// Returns the start time of a process: field 22 of /proc/PID/stat, in clock ticks since the boot time in /proc/stat
/// (proc_pid_stat(5)).
#[expect(clippy::disallowed_methods, reason = "a file in /proc")]
fn started(folder: &Path) -> Option<Timestamp> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: i64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let per_second = i64::try_from(rustix::param::clock_ticks_per_second()).ok().filter(|rate| *rate > 0)?;
    Timestamp::from_second(boot + ticks / per_second).ok()
}

/// Formats a time for records and messages: RFC 3339, UTC, in whole seconds.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
