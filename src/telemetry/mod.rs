//! Diagnostics: how a run spends its time, what it waits for, and what it retries.
//!
//! Events (`engine::event`) are the contract. Spans are for diagnosis, and off by default. Only [`spans`] calls the macros
//! of `tracing`, with typed fields, so that no secret can get into a log. Everything that is recorded becomes a
//! [`Record`]. A worker sends its records to the launcher, which writes them together with its own.

mod filter;
mod layer;
mod log;
#[cfg(feature = "otlp")]
pub mod otlp;
mod record;
pub mod spans;
#[cfg(test)]
mod tests;
mod timeline;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::failure::Failure;
use crate::text::io_error_text;

pub use filter::Filter;
use log::Log;
pub use log::LogFormat;
pub use record::Record;
use timeline::Timeline;

/// What to record, and where to send it.
#[derive(Default)]
pub struct Settings {
    /// The filter of the log. `None` disables the log.
    pub filter: Option<Filter>,
    pub format: LogFormat,
    /// The file for the log. `None` is standard error.
    pub log_file: Option<PathBuf>,
    /// The file for a timeline in Chrome's trace format.
    pub timeline: Option<PathBuf>,
    /// The connection to a collector.
    #[cfg(feature = "otlp")]
    pub otlp: Option<otlp::Otlp>,
}

/// The destinations of the records of this process, once recording is on.
static OUTPUTS: OnceLock<Outputs> = OnceLock::new();

struct Outputs {
    log: Option<Mutex<Log>>,
    timeline: Option<Mutex<Timeline>>,
    #[cfg(feature = "otlp")]
    otlp: Option<Mutex<otlp::Otlp>>,
    /// The filter for all records, here and in workers.
    filter: Filter,
}

/// Starts recording if the settings ask for it. `standard_error` prints a text on standard error.
///
/// # Errors
/// A file cannot be created, or others than its owner can read it.
pub fn start(settings: Settings, standard_error: fn(&str)) -> Result<(), Failure> {
    let all_spans = settings.timeline.is_some();
    #[cfg(feature = "otlp")]
    let all_spans = all_spans || settings.otlp.is_some();
    let Settings { filter, format, log_file, timeline, .. } = settings;
    let Some(all) = Filter::covering(filter.as_ref(), all_spans) else { return Ok(()) };
    let log = match filter {
        None => None,
        Some(filter) => {
            let write: Box<dyn FnMut(&str) + Send> = match log_file {
                Some(path) => {
                    let mut file = create(&path, true)?;
                    // A log that cannot be written must not fail the run.
                    Box::new(move |line| drop(file.write_all(line.as_bytes())))
                }
                None => Box::new(standard_error),
            };
            Some(Mutex::new(Log::new(filter, format, write)))
        }
    };
    let timeline =
        timeline.map(|path| Ok::<_, Failure>(Mutex::new(Timeline::new(create(&path, false)?)))).transpose()?;
    let outputs = Outputs {
        log,
        timeline,
        #[cfg(feature = "otlp")]
        otlp: settings.otlp.map(Mutex::new),
        filter: all.clone(),
    };
    if OUTPUTS.set(outputs).is_ok() {
        layer::install(all, 0, Arc::new(take));
    }
    Ok(())
}

/// Starts recording in a worker, which passes its records to `send`. `namespace` distinguishes its ids from those of other
/// processes.
pub fn start_in_worker(filter: Filter, namespace: u16, send: Arc<dyn Fn(Record) + Send + Sync>) {
    layer::install(filter, namespace, send);
}

/// Returns the filter for workers. `None` if they record nothing.
pub fn filter() -> Option<Filter> {
    OUTPUTS.get().map(|outputs| outputs.filter.clone())
}

/// Adds a record of this process or of a worker.
pub fn take(record: Record) {
    let Some(outputs) = OUTPUTS.get() else { return };
    if let Some(log) = &outputs.log {
        log.lock().unwrap_or_else(PoisonError::into_inner).take(&record);
    }
    #[cfg(feature = "otlp")]
    if let Some(otlp) = &outputs.otlp {
        otlp.lock().unwrap_or_else(PoisonError::into_inner).take(&record);
    }
    if let Some(timeline) = &outputs.timeline {
        timeline.lock().unwrap_or_else(PoisonError::into_inner).take(record);
    }
}

/// Stops recording, writes the timeline, and sends spans to the collector. Open spans end now. Returns error messages,
/// which do not fail the run.
pub fn finish() -> Vec<String> {
    let Some(outputs) = OUTPUTS.get() else { return Vec::new() };
    let mut wrong = Vec::new();
    if let Some(timeline) = &outputs.timeline
        && let Err(error) = timeline.lock().unwrap_or_else(PoisonError::into_inner).write()
    {
        wrong.push(format!("cannot write the timeline: {}", io_error_text(&error)));
    }
    #[cfg(feature = "otlp")]
    if let Some(otlp) = &outputs.otlp
        && let Err(why) = otlp.lock().unwrap_or_else(PoisonError::into_inner).flush()
    {
        wrong.push(format!("cannot send the trace to the OpenTelemetry collector: {why}"));
    }
    wrong
}

/// Creates a file that only its owner can read (0600). A log is appended to, a timeline is replaced.
#[expect(clippy::disallowed_methods, reason = "the user names the file")]
fn create(path: &Path, append: bool) -> Result<File, Failure> {
    let cannot =
        |why: String| Failure::new(format!("cannot write {}: {why}", crate::text::clean(&path.display().to_string())));
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600).custom_flags(flags);
    let file = options.append(append).write(true).truncate(false).open(path);
    let file = file.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => {
            cannot("it is a symlink".to_owned()).hint("name the file that it leads to, or another one")
        }
        _ => cannot(io_error_text(&error)),
    })?;
    let stat = file.metadata().map_err(|error| cannot(io_error_text(&error)))?;
    if !stat.is_file() {
        return Err(cannot("it is not a regular file".to_owned()));
    }
    let shown = crate::text::shell_word(&path.display().to_string());
    if stat.uid() != rustix::process::geteuid().as_raw() {
        return Err(cannot("it belongs to another user".to_owned()).hint("name another file"));
    }
    if stat.mode() & 0o077 != 0 {
        return Err(cannot("it already exists, and others can read it".to_owned()).hint(format!("chmod 600 {shown}")));
    }
    if !append {
        file.set_len(0).map_err(|error| cannot(io_error_text(&error)))?;
    }
    Ok(file)
}
