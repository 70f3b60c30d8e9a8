//! The only module that writes to standard output and standard error, which may be full or closed. It also owns the
//! spinner, so that output and spinner never mix.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Error, ErrorKind, IsTerminal, Result, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

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
    columns_of(&std::io::stdout())
}

/// As [`columns`], for standard error.
#[expect(clippy::disallowed_methods, reason = "this module is the streams' owner")]
pub fn error_columns() -> Option<usize> {
    columns_of(&std::io::stderr())
}

#[expect(clippy::disallowed_methods, reason = "the width belongs to the streams, which this module owns")]
fn columns_of(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    let given = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    given.or_else(|| {
        let terminal = |size: Winsize| if size.ws_col > 0 { usize::from(size.ws_col) } else { DEFAULT_COLUMNS };
        stream.is_terminal().then(|| tcgetwinsize(stream).map_or(DEFAULT_COLUMNS, terminal))
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

/// Shows the current activity until [`clear_activity`]: on a terminal with a spinner, and elsewhere as
/// [`report_activity`] does.
pub fn show_activity(message: String) {
    if !shows_spinner() {
        let mut activity = activity();
        match activity.as_mut() {
            Some(activity) => activity.message = message,
            None if is_quiet() => {}
            None => *activity = Some(Activity { message, begun: Instant::now(), reports: 0 }),
        }
        return;
    }
    let mut spinner = spinner();
    if spinner.is_none() {
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

/// The interval between reports of an activity if there is no spinner.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Long work that is reported if there is no spinner.
struct Activity {
    message: String,
    begun: Instant,
    reports: u32,
}

/// Reports the current activity periodically, as a line, if there is no spinner. Otherwise the log of a CI job would show no progress,
/// and some CI systems end a job that prints nothing.
pub async fn report_activity(write: impl Fn(&str)) -> Infallible {
    loop {
        let (line, wait) = report(activity().as_mut(), Instant::now());
        if let Some(line) = line {
            write(&line);
        }
        tokio::time::sleep(wait).await;
    }
}

/// Returns the line that is due, and the time until the next line may be due.
fn report(activity: Option<&mut Activity>, now: Instant) -> (Option<String>, Duration) {
    // There is no activity.
    let Some(activity) = activity else { return (None, Duration::from_secs(1)) };
    let (lasts, due) = (now.saturating_duration_since(activity.begun), REPORT_INTERVAL * (activity.reports + 1));
    if lasts < due {
        return (None, due - lasts);
    }
    activity.reports += 1;
    (Some(format!("{} ({} s)\n", activity.message, lasts.as_secs())), REPORT_INTERVAL)
}

fn activity() -> MutexGuard<'static, Option<Activity>> {
    static ACTIVITY: Mutex<Option<Activity>> = Mutex::new(None);
    ACTIVITY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the spinner, and ends the reports.
pub fn clear_activity() {
    activity().take();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_activity_is_reported_every_ten_seconds() {
        let begun = Instant::now();
        let mut activity = Activity { message: "observing the host: 1 step".to_owned(), begun, reports: 0 };
        let mut at = |seconds| {
            let (line, wait) = report(Some(&mut activity), begun + Duration::from_secs(seconds));
            activity.message = "observing the host: 2 steps".to_owned();
            (line, wait.as_secs())
        };
        assert_eq!(at(0), (None, 10));
        assert_eq!(at(9), (None, 1), "a short activity is not reported");
        assert_eq!(at(10), (Some("observing the host: 2 steps (10 s)\n".to_owned()), 10));
        assert_eq!(at(11), (None, 9), "the end of a step is not reported");
        assert_eq!(at(20), (Some("observing the host: 2 steps (20 s)\n".to_owned()), 10));
        assert_eq!(report(None, begun + Duration::from_secs(30)), (None, Duration::from_secs(1)));
    }
}
