//! Runs another program with limits on time, output and memory.
//!
//! A program is started in its own session. It has no terminal to prompt on, and everything that it starts is killed
//! with it.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, set_parent_process_death_signal, setsid, waitid,
};

/// How long a program may take to exit after it has closed its output.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of lines of standard error that are kept. The last lines contain the reason of a failure.
const MAX_LINES: usize = 40;

/// The maximum length of a kept line of standard error, in bytes.
const MAX_LINE_BYTES: usize = 1000;

/// The limits of a program.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum time without output on standard output or standard error.
    pub silence: Duration,
    /// The maximum total time.
    pub total: Duration,
    /// The maximum writable memory of each process in bytes (`RLIMIT_DATA`, setrlimit(2)).
    pub memory: Option<u64>,
}

/// Why a program was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It wrote nothing for this long.
    Silent(Duration),
    /// It took longer than this.
    Late(Duration),
    /// The reader of its output stopped it.
    Enough,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// Why it was killed, or `None` if it ended by itself.
    pub cut: Option<Cut>,
    /// The last lines of its standard error, without progress lines (which a carriage return overwrites).
    pub said: Vec<String>,
}

impl Ended {
    /// Returns whether it ended by itself with success.
    pub fn is_success(&self) -> bool {
        self.cut.is_none() && self.status.success()
    }
}

/// The process groups that this process has started. `None` when it is about to exit.
static LIVE: LazyLock<Mutex<Option<HashSet<Pid>>>> = LazyLock::new(|| Mutex::new(Some(HashSet::new())));

fn live() -> MutexGuard<'static, Option<HashSet<Pid>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills all programs started by [`run`] with their children, and prevents new ones. Called when this process exits.
pub fn kill_all() {
    for group in live().take().into_iter().flatten() {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Runs `command` to its end. Passes its standard output to `take` in pieces; if `take` returns false, the program is
/// killed.
///
/// # Errors
/// The program cannot be started, or this process is about to exit.
pub fn run(mut command: Command, limits: Limits, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(command, limits.memory)?;
    let started = Instant::now();
    let (Some(mut output), Some(mut errors)) = (running.child.stdout.take(), running.child.stderr.take()) else {
        return Err(io::Error::other("the program was started without its pipes"));
    };
    let mut said = Lines::default();
    let mut cut = None;
    let mut open = [true, true];
    let mut heard = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    while open.contains(&true) && cut.is_none() {
        let until = (heard + limits.silence).min(started + limits.total);
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let descriptors = [output.as_fd(), errors.as_fd()];
        let mut polled: Vec<(usize, PollFd<'_>)> = (0..2)
            .filter(|number| open[*number])
            .map(|number| (number, PollFd::from_borrowed_fd(descriptors[number], PollFlags::IN)))
            .collect();
        let mut waited: Vec<PollFd<'_>> = polled.iter().map(|(_, fd)| fd.clone()).collect();
        match poll(&mut waited, Some(&left)) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let ready: Vec<usize> = polled
            .drain(..)
            .zip(&waited)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|((number, _), _)| number)
            .collect();
        for number in ready {
            let count = if number == 0 { output.read(&mut buffer) } else { errors.read(&mut buffer) };
            let count = match count {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            heard = Instant::now();
            match (count, number) {
                (0, _) => open[number] = false,
                (_, 0) if !take(&buffer[..count]) => cut = Some(Cut::Enough),
                (_, 0) => {}
                _ => said.take(&buffer[..count]),
            }
        }
        if started.elapsed() >= limits.total {
            cut = Some(Cut::Late(limits.total));
        } else if heard.elapsed() >= limits.silence {
            cut = Some(Cut::Silent(limits.silence));
        }
    }
    let status = running.status(cut.is_some())?;
    Ok(Ended { status, cut, said: said.finish() })
}

/// A running program that leads its process group.
struct Running {
    child: Child,
    /// `None` after the process was waited for, because its id can then be reused.
    group: Option<Pid>,
}

impl Running {
    #[expect(unsafe_code, reason = "there is no safe way to do something between fork and exec")]
    fn start(mut command: Command, memory: Option<u64>) -> io::Result<Self> {
        // SAFETY: between fork and exec only setsid(2), prctl(2) and setrlimit(2) are called. They are plain system
        // calls that touch no memory of this process.
        unsafe {
            command.pre_exec(move || {
                setsid()?;
                // It ends with the thread that waits for it, even if this process is killed.
                set_parent_process_death_signal(Some(Signal::TERM))?;
                if let Some(bytes) = memory {
                    setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?;
                }
                Ok(())
            });
        }
        let mut live = live();
        let live = live.as_mut().ok_or_else(|| io::Error::other("this process is about to exit"))?;
        let child = command.spawn()?;
        let group = Pid::from_raw(child.id().cast_signed());
        live.extend(group);
        Ok(Self { child, group })
    }

    /// Kills the program and its group, immediately or if the program has already exited.
    fn end(&mut self, at_once: bool) {
        let Some(group) = self.group else { return };
        let mut live = live();
        // The exit is only peeked at. Until the process is waited for, its id cannot be reused.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if at_once || !matches!(waitid(WaitId::Pid(group), look), Ok(None)) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
            self.group = None;
            if let Some(live) = live.as_mut() {
                live.remove(&group);
            }
        }
    }

    /// Waits for the program to exit, which it is about to do, and returns its status. Kills it if it takes too long.
    fn status(&mut self, at_once: bool) -> io::Result<ExitStatus> {
        let until = Instant::now() + EXIT_TIMEOUT;
        let mut pause = Duration::from_micros(100);
        loop {
            self.end(at_once || Instant::now() > until);
            if self.group.is_none() {
                return self.child.wait();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(true);
    }
}

/// The last lines of a program's standard error.
#[derive(Default)]
struct Lines {
    done: std::collections::VecDeque<Vec<u8>>,
    current: Vec<u8>,
    /// Whether a carriage return came last. A line feed then ends the line, and anything else overwrites it.
    returned: bool,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end(),
                b'\r' => self.returned = true,
                _ => {
                    if std::mem::take(&mut self.returned) {
                        self.current.clear();
                    }
                    if self.current.len() < MAX_LINE_BYTES {
                        self.current.push(*byte);
                    }
                }
            }
        }
    }

    fn end(&mut self) {
        self.returned = false;
        self.done.push_back(std::mem::take(&mut self.current));
        if self.done.len() > MAX_LINES {
            self.done.pop_front();
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end();
        let lines = self.done.iter().map(|line| String::from_utf8_lossy(line).trim_end().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { silence: Duration::from_secs(2), total: Duration::from_secs(30), memory: None };

    fn shell(script: &str, limits: Limits) -> (Ended, String) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut output = Vec::new();
        let ended = run(command, limits, |piece| {
            output.extend_from_slice(piece);
            output.len() < 1 << 20
        });
        (ended.unwrap(), String::from_utf8(output).unwrap())
    }

    #[test]
    fn output_and_the_last_lines_of_standard_error_are_kept() {
        let script =
            r"echo out; for n in $(seq 100); do echo line $n >&2; done; printf '1%%\r2%%\rdone\r\nlast' >&2; exit 3";
        let (ended, output) = shell(script, LIMITS);
        assert_eq!((output.as_str(), ended.status.code(), ended.cut), ("out\n", Some(3), None));
        assert_eq!(ended.said.len(), MAX_LINES);
        assert_eq!(ended.said[MAX_LINES - 3..], ["line 100", "done", "last"]);
    }

    #[test]
    fn silent_programs_are_killed() {
        let (ended, output) = shell("echo word; exec sleep 60", LIMITS);
        assert_eq!((output.as_str(), ended.cut), ("word\n", Some(Cut::Silent(LIMITS.silence))));
    }

    #[test]
    fn endless_output_is_limited_by_time_and_by_size() {
        let limits = Limits { total: Duration::from_secs(1), ..LIMITS };
        let (ended, _) = shell("while :; do echo more >&2; sleep 0.1; done", limits);
        assert_eq!(ended.cut, Some(Cut::Late(limits.total)));
        let (ended, _) = shell("while :; do echo more; done", LIMITS);
        assert_eq!(ended.cut, Some(Cut::Enough));
    }

    #[test]
    fn programs_that_do_not_exit_are_killed_with_their_children() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("exec >&- 2>&-; sleep 60 & echo $! > {}/child; sleep 60; true", folder.path().display());
        let (ended, _) = shell(&script, LIMITS);
        assert!(!ended.is_success());
        let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(10);
        while !state().is_empty() && !state().contains(") Z") {
            assert!(Instant::now() < until, "{}", state());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
