//! Runs another program to its end, bounded in time, in what it may say, and in memory.
//!
//! A program is started in a session of its own: it has no terminal to ask a person at, and everything that it starts is
//! ended with it.

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

/// How long a program may take to end that has closed its output.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many lines of standard error are kept: the last, where the reason of a failure stands.
const MAX_LINES: usize = 40;

/// How much of a line of standard error is kept, in bytes.
const MAX_LINE_BYTES: usize = 1000;

/// What a program may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Between two signs of life on its standard output or error.
    pub silence: Duration,
    /// From its start to its end.
    pub total: Duration,
    /// Bytes of writable memory for each process (`RLIMIT_DATA`, setrlimit(2)).
    pub memory: Option<u64>,
}

/// Why a program was ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It said nothing for so long.
    Silent(Duration),
    /// It took longer than this.
    Late(Duration),
    /// The reader of its output had enough.
    Enough,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// None where it ended by itself.
    pub cut: Option<Cut>,
    /// The last lines of its standard error, without lines of progress (those that a carriage return overwrites).
    pub said: Vec<String>,
}

impl Ended {
    /// Whether it ended by itself, and reported success.
    pub fn is_success(&self) -> bool {
        self.cut.is_none() && self.status.success()
    }
}

/// The process groups that this process has started; none once it ends.
static LIVE: LazyLock<Mutex<Option<HashSet<Pid>>>> = LazyLock::new(|| Mutex::new(Some(HashSet::new())));

fn live() -> MutexGuard<'static, Option<HashSet<Pid>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every program that [`run`] has started, with all that they started, and has it start no more. For the end of this
/// process.
pub fn kill_all() {
    for group in live().take().into_iter().flatten() {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Runs `command` to its end. Its standard output is given to `take` piece by piece; false ends the program.
///
/// # Errors
/// Where it cannot be started, or this process is about to end.
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

/// A program at the head of a process group.
struct Running {
    child: Child,
    /// None once the process was waited for, and its number can be another's.
    group: Option<Pid>,
}

impl Running {
    #[expect(unsafe_code, reason = "there is no safe way to do something between fork and exec")]
    fn start(mut command: Command, memory: Option<u64>) -> io::Result<Self> {
        // SAFETY: between fork and exec only setsid(2), prctl(2) and setrlimit(2) are called, which are system calls
        // alone and touch no memory of this process.
        unsafe {
            command.pre_exec(move || {
                setsid()?;
                // It ends with this thread, which waits for it: also where this process is killed.
                set_parent_process_death_signal(Some(Signal::TERM))?;
                if let Some(bytes) = memory {
                    setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?;
                }
                Ok(())
            });
        }
        let mut live = live();
        let live = live.as_mut().ok_or_else(|| io::Error::other("this process ends"))?;
        let child = command.spawn()?;
        let group = Pid::from_raw(child.id().cast_signed());
        live.extend(group);
        Ok(Self { child, group })
    }

    /// Ends the program, at once or if it has ended by itself; what is left of its group ends with it.
    fn end(&mut self, at_once: bool) {
        let Some(group) = self.group else { return };
        let mut live = live();
        // Looked at and not yet waited for: until it is, nobody else gets the number.
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

    /// How the program ended, which is about to, or is ended now.
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
    /// A carriage return came: a line feed ends the line, anything else begins it anew.
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
    fn silence_is_not_waited_out() {
        let (ended, output) = shell("echo word; exec sleep 60", LIMITS);
        assert_eq!((output.as_str(), ended.cut), ("word\n", Some(Cut::Silent(LIMITS.silence))));
    }

    #[test]
    fn endless_talk_is_cut_off_by_time_and_by_size() {
        let limits = Limits { total: Duration::from_secs(1), ..LIMITS };
        let (ended, _) = shell("while :; do echo more >&2; sleep 0.1; done", limits);
        assert_eq!(ended.cut, Some(Cut::Late(limits.total)));
        let (ended, _) = shell("while :; do echo more; done", LIMITS);
        assert_eq!(ended.cut, Some(Cut::Enough));
    }

    #[test]
    fn a_program_that_stays_after_it_closed_its_output_is_ended_with_its_children() {
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
