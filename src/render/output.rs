//! The only module that writes to standard output and standard error, which may be full or closed. It also owns the
//! spinner, so that output and spinner never mix.

use std::fs::File;
use std::io::{Error, ErrorKind, IsTerminal, Result, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::fs::{FileType, fstat};
use rustix::termios::{Winsize, tcgetwinsize};

use crate::text::{clean_styled, escape_content};

/// The width of a terminal that does not say it.
const DEFAULT_COLUMNS: usize = 80;

/// The first error of a write to standard output. Both the stream and this are per process.
static WRITE_ERROR: OnceLock<Error> = OnceLock::new();

/// The spinner, while it is shown.
static SPINNER: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Prints a result, styled if standard output supports styles, and without hidden characters. A failed write is
/// recorded for [`write_error`].
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn print(text: &str) {
    suspend_spinner(|| {
        let mut out = anstream::stdout().lock();
        record_write_error(out.write_all(clean_styled(text).as_bytes()).and_then(|()| out.flush()));
    });
}

/// Prints a result byte for byte. A failed write is recorded as in [`print`].
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn print_raw(bytes: &[u8]) {
    suspend_spinner(|| {
        let mut out = std::io::stdout().lock();
        record_write_error(out.write_all(bytes).and_then(|()| out.flush()));
    });
}

/// Prints the content of files: the exact bytes, or on a terminal escaped text that cannot control it.
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn print_content(bytes: &[u8]) {
    if std::io::stdout().is_terminal() { print(&escape_content(bytes)) } else { print_raw(bytes) }
}

/// Prints a message on standard error. A failed write is ignored, because there is nowhere left to report it.
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn print_error(text: &str) {
    suspend_spinner(|| {
        let mut err = anstream::stderr().lock();
        drop(err.write_all(clean_styled(text).as_bytes()).and_then(|()| err.flush()));
    });
}

/// Records a failed write to standard output. A closed reader (EPIPE) is not an error.
pub fn record_write_error(written: Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Only the first error is kept.
        let _ = WRITE_ERROR.set(error);
    }
}

/// Returns why some output could not be written to standard output, if so.
pub fn write_error() -> Option<&'static Error> {
    WRITE_ERROR.get()
}

/// Whether output is limited to what needs attention.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Limits output to what needs attention.
pub fn set_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Returns whether output is limited to what needs attention.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Whether lists are shown in full.
static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Shows lists in full, and the steps that are in order.
pub fn set_verbose() {
    VERBOSE.store(true, Ordering::Relaxed);
}

/// Returns whether lists are shown in full.
pub fn is_verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

/// Returns the number of columns that text is fitted to: COLUMNS, or that of the terminal. `None` where standard output is
/// not a terminal: lines of a log are searched, and are not broken.
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn columns() -> Option<usize> {
    let given = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    given.or_else(|| {
        let out = std::io::stdout();
        let terminal = |size: Winsize| if size.ws_col > 0 { usize::from(size.ws_col) } else { DEFAULT_COLUMNS };
        out.is_terminal().then(|| tcgetwinsize(out).map_or(DEFAULT_COLUMNS, terminal))
    })
}

/// Returns whether both streams go to the same place.
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn streams_are_one() -> bool {
    match (fstat(std::io::stdout()), fstat(std::io::stderr())) {
        (Ok(out), Ok(err)) => (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino),
        _ => false,
    }
}

/// Shows the current activity with a spinner until [`clear_activity`]. Only on a terminal.
pub fn show_activity(message: String) {
    let mut spinner = spinner();
    if spinner.is_none() && shows_spinner() {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        *spinner = Some(bar);
    }
    if let Some(bar) = spinner.as_ref() {
        bar.set_message(message);
    }
}

/// Removes the spinner.
pub fn clear_activity() {
    if let Some(bar) = spinner().take() {
        bar.finish_and_clear();
    }
}

/// Returns whether one of the streams is a pipe. Its reader may write to the terminal.
pub fn is_piped() -> bool {
    pipes().next().is_some()
}

/// Returns whether a pipe contains data that its reader has not read yet.
pub fn is_unread() -> bool {
    pipes().any(|pipe| rustix::io::ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0))
}

fn suspend_spinner(write: impl FnOnce()) {
    match spinner().as_ref() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn spinner() -> MutexGuard<'static, Option<ProgressBar>> {
    SPINNER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The spinner is drawn on standard error. If standard output is a pipe, its reader (`tee`, `less`) may write to the
/// same terminal at any time, so no spinner is shown.
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
fn shows_spinner() -> bool {
    !is_quiet()
        && std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
        && !is_fifo(&std::io::stdout())
}

#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
fn pipes() -> impl Iterator<Item = File> {
    let out = std::io::stdout().as_fd().try_clone_to_owned();
    let err = std::io::stderr().as_fd().try_clone_to_owned();
    [out, err].into_iter().flatten().filter(is_fifo).map(File::from)
}

fn is_fifo(stream: &impl AsFd) -> bool {
    fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}
