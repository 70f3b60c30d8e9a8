//! A command on its own pseudo-terminal: its output byte by byte, the resulting screen, and typed input.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Run;

const ROWS: u16 = 50;
/// Nothing that is waited for takes this long.
const LIMIT: Duration = Duration::from_secs(20);

/// A terminal with a command on it.
pub struct Terminal {
    master: File,
    child: Child,
    columns: u16,
    seen: Arc<Mutex<Vec<u8>>>,
    closing: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Run<'_> {
    /// Starts in its own session, on a terminal with this many columns. `line` is a line of bash in which `"$@"` is the
    /// command, for redirecting streams.
    pub fn on_terminal(self, columns: u16, line: &str) -> Terminal {
        // openpty(3) is not used: other tests that start processes at this moment would inherit its descriptors and
        // keep the terminal open.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a pseudo-terminal");
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname_r(&master).unwrap();
        let no_control = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
        let slave = OpenOptions::new().read(true).write(true).custom_flags(no_control).open(path).unwrap();
        let stream = || Stdio::from(slave.try_clone().unwrap());
        let line = format!("stty rows {ROWS} cols {columns}; {line}");
        let mut command = self.in_session(&line).command();
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("it starts");
        drop((slave, command));
        let master = File::from(OwnedFd::from(master));
        let (seen, closing) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let reader = std::thread::spawn({
            let (output, seen, closing) = (master.try_clone().unwrap(), Arc::clone(&seen), Arc::clone(&closing));
            move || read_to_end(output, &seen, &closing)
        });
        Terminal { master, child, columns, seen, closing, reader }
    }
}

impl Terminal {
    /// Returns all output so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }

    fn emulator(&self) -> vt100::Parser {
        let size = |lines| NonZero::new(lines).unwrap();
        let mut emulator = vt100::Parser::new(size(ROWS), size(self.columns), 0);
        emulator.process(&self.bytes());
        emulator
    }

    /// Returns the lines of the screen without trailing spaces.
    pub fn screen(&self) -> Vec<String> {
        self.emulator().screen().rows(0, self.columns).map(|line| line.trim_end().to_owned()).collect()
    }

    /// Returns the last non-empty line, and whether the cursor is on it.
    pub fn last_line(&self) -> (String, bool) {
        let (screen, emulator) = (self.screen(), self.emulator());
        let last = screen.iter().rposition(|line| !line.is_empty()).unwrap_or_default();
        (screen[last].clone(), usize::from(emulator.screen().cursor_position().0) == last)
    }

    /// Waits until a text was written.
    #[track_caller]
    pub fn until(&self, text: &str) {
        self.until_it(text, |this| String::from_utf8_lossy(&this.bytes()).contains(text));
    }

    /// Waits until a condition holds.
    #[track_caller]
    pub fn until_it(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < LIMIT, "it did not come to this: {what:?}\n{self}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types a text.
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the end. Returns the exit code and all output.
    #[track_caller]
    pub fn wait(mut self) -> (i32, String) {
        let code = end(&mut self.child);
        drop(self.master);
        self.reader.join().unwrap();
        (code, String::from_utf8(Arc::try_unwrap(self.seen).unwrap().into_inner().unwrap()).unwrap())
    }

    /// Closes the terminal, as a lost connection does. Returns the exit code.
    #[track_caller]
    pub fn hang_up(mut self) -> i32 {
        self.closing.store(true, Ordering::SeqCst);
        self.reader.join().unwrap();
        drop(self.master);
        end(&mut self.child)
    }
}

/// Reads until the terminal's last process has ended or the terminal is closed.
fn read_to_end(mut output: File, seen: &Mutex<Vec<u8>>, closing: &AtomicBool) {
    let mut some = [0; 4096];
    while !closing.load(Ordering::SeqCst) {
        let mut wait = [PollFd::new(&output, PollFlags::IN)];
        let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        if poll(&mut wait, Some(&tick)).unwrap() == 0 {
            continue;
        }
        // The end of the last process is reported as an error (EIO).
        let Ok(count @ 1..) = output.read(&mut some) else { return };
        seen.lock().unwrap().extend_from_slice(&some[..count]);
    }
}

/// Death by signal n is 128 + n, as in a shell.
#[track_caller]
fn end(child: &mut Child) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| {
                128 + std::os::unix::process::ExitStatusExt::signal(&status).expect("a code or a signal")
            });
        }
        assert!(begun.elapsed() < LIMIT, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl std::fmt::Display for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--- screen\n{}\n--- bytes\n", self.screen().join("\n").trim_end())?;
        write!(f, "{}", self.bytes().escape_ascii())
    }
}
