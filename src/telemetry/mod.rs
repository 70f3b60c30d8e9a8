//! Diagnostics for the person who has the problem: what a run spends its time on, what it waits for, what it tries again.
//!
//! Events (`engine::event`) are the contract; spans are diagnosis, and off unless they are asked for. [`spans`] is the one
//! place that calls the macros of `tracing`, with typed fields, so that no secret can get into a log. Everything that is
//! recorded becomes a [`Record`]; a worker sends its records to the launcher, which writes them beside its own.

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

use crate::failure::Failure;
use crate::text::io_error_text;

pub use filter::Filter;
use log::Log;
pub use log::LogFormat;
pub use record::Record;
use timeline::Timeline;

/// What is recorded, and where it goes.
#[derive(Default)]
pub struct Settings {
    /// What is logged; `None`: nothing.
    pub filter: Option<Filter>,
    pub format: LogFormat,
    /// Where the log goes; `None`: standard error.
    pub log_file: Option<PathBuf>,
    /// Where a timeline in Chrome's trace format goes.
    pub timeline: Option<PathBuf>,
    /// What is sent to a collector.
    #[cfg(feature = "otlp")]
    pub otlp: Option<otlp::Otlp>,
}

/// Where the records of this process go, once that was asked for.
static OUTPUTS: OnceLock<Outputs> = OnceLock::new();

struct Outputs {
    log: Option<Mutex<Log>>,
    timeline: Option<Mutex<Timeline>>,
    #[cfg(feature = "otlp")]
    otlp: Option<Mutex<otlp::Otlp>>,
    /// What is recorded at all, here and in workers.
    filter: Filter,
}

/// Starts recording, if the settings ask for any. `standard_error` writes a text beside what else is shown there.
///
/// # Errors
/// A file cannot be created, or is not one that only its owner can read.
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
                    // A log that cannot be written is not worth a failed run.
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

/// Starts recording in a worker, which hands its records to `send`. `namespace` keeps its ids apart from those of other
/// processes.
pub fn start_in_worker(filter: Filter, namespace: u16, send: Arc<dyn Fn(Record) + Send + Sync>) {
    layer::install(filter, namespace, send);
}

/// What workers have to record; `None`: nothing.
pub fn filter() -> Option<Filter> {
    OUTPUTS.get().map(|outputs| outputs.filter.clone())
}

/// Takes in a record, of this process or of a worker.
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

/// Ends recording: writes the timeline, and sends what a collector is to get. Spans that are still open end now. Returns
/// what went wrong; none of it is a failure of the run.
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

/// Creates a file that its owner alone can read (0600). A log goes on where it ended; a timeline is replaced.
#[expect(clippy::disallowed_methods, reason = "the user names the file")]
fn create(path: &Path, append: bool) -> Result<File, Failure> {
    let cannot =
        |why: String| Failure::new(format!("cannot write {}: {why}", crate::text::clean(&path.display().to_string())));
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600).custom_flags(flags);
    let file = options.append(append).write(true).truncate(false).open(path);
    let file = file.map_err(|error| cannot(io_error_text(&error)))?;
    let stat = file.metadata().map_err(|error| cannot(io_error_text(&error)))?;
    if !stat.is_file() {
        return Err(cannot("it is not a regular file".to_owned()));
    }
    if stat.uid() != rustix::process::geteuid().as_raw() || stat.mode() & 0o077 != 0 {
        let shown = crate::text::shell_word(&path.display().to_string());
        return Err(
            cannot("it is there already, and others can read it".to_owned()).hint(format!("remove it: rm {shown}"))
        );
    }
    if !append {
        file.set_len(0).map_err(|error| cannot(io_error_text(&error)))?;
    }
    Ok(file)
}
