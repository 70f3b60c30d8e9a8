//! The one way to standard output and standard error, which may be full, closed or gone, and the one owner of the
//! spinner. Whatever is written while it turns is written here, so the two never mix.

use std::fs::File;
use std::io::{Error, ErrorKind, IsTerminal, Result, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::fs::{FileType, fstat};

use crate::text::{clean_styled, escape_bytes};

/// Why standard output lost something; the first reason that came up. The stream is the process's own, and so is this.
static LOST: OnceLock<Error> = OnceLock::new();

/// The spinner, while it turns.
static SPINNER: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Prints a result, styled where standard output takes styles, and without hidden characters. What cannot be written is remembered: see [`lost`].
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn print(text: &str) {
    beside_spinner(|| {
        let mut out = anstream::stdout().lock();
        remember(out.write_all(clean_styled(text).as_bytes()).and_then(|()| out.flush()));
    });
}

/// Prints a result byte for byte, as [`print`].
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn print_raw(bytes: &[u8]) {
    beside_spinner(|| {
        let mut out = std::io::stdout().lock();
        remember(out.write_all(bytes).and_then(|()| out.flush()));
    });
}

/// Prints the content of files: its exact bytes, but on a terminal as text that cannot control it.
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn print_content(bytes: &[u8]) {
    if std::io::stdout().is_terminal() { print(&escape_bytes(bytes)) } else { print_raw(bytes) }
}

/// Prints a message on standard error. Where that cannot be written, there is nowhere left to say so.
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn tell(text: &str) {
    beside_spinner(|| {
        let mut err = anstream::stderr().lock();
        drop(err.write_all(clean_styled(text).as_bytes()).and_then(|()| err.flush()));
    });
}

/// Takes note of how a write to standard output went. A reader that went away (EPIPE) has seen what it wanted.
pub fn remember(written: Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Only the first reason is kept.
        let _ = LOST.set(error);
    }
}

/// Why some of the output did not reach standard output, where a reader still waited for it.
pub fn lost() -> Option<&'static Error> {
    LOST.get()
}

/// Whether only what is not in order is shown.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on only what is not in order is shown.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether only what is not in order is to be shown.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Shows what is being done, with a spinner, until [`idle`]. Only on a terminal.
pub fn busy(message: String) {
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

/// Takes the spinner away: from now on nothing is drawn that was not asked for.
pub fn idle() {
    if let Some(bar) = spinner().take() {
        bar.finish_and_clear();
    }
}

/// Whether one of the streams is a pipe, whose reader may show on the terminal what it reads.
pub fn is_piped() -> bool {
    pipes().next().is_some()
}

/// Whether a reader has not taken all of what was written to a pipe.
pub fn is_unread() -> bool {
    pipes().any(|pipe| rustix::io::ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0))
}

fn beside_spinner(write: impl FnOnce()) {
    match spinner().as_ref() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn spinner() -> MutexGuard<'static, Option<ProgressBar>> {
    SPINNER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A spinner is drawn on standard error. Where standard output is a pipe, its reader (`tee`, `less`) may write to the
/// same terminal at any time.
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
