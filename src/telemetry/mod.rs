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
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::failure::Failure;
use crate::text::{file_word, io_error_text};

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
    timeline: Option<(PathBuf, Mutex<Timeline>)>,
    /// The log file, and the first error of a line that could not be written.
    log_error: Arc<Mutex<Option<(PathBuf, std::io::Error)>>>,
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
    let log_error = Arc::default();
    let mut files = Vec::new();
    let log = match filter {
        None => None,
        Some(filter) => {
            let write: Box<dyn FnMut(&str) + Send> = match log_file {
                Some(path) => {
                    let mut file = create(&path, Content::Log)?;
                    files.push(identity(&file));
                    let error: Arc<Mutex<Option<(PathBuf, std::io::Error)>>> = Arc::clone(&log_error);
                    // A log that cannot be written does not fail the run, which tells it at its end.
                    Box::new(move |line| {
                        if let Err(wrong) = file.write_all(line.as_bytes()) {
                            let mut error = error.lock().unwrap_or_else(PoisonError::into_inner);
                            error.get_or_insert_with(|| (path.clone(), wrong));
                        }
                    })
                }
                None => Box::new(standard_error),
            };
            Some(Mutex::new(Log::new(filter, format, write)))
        }
    };
    let timeline = match timeline {
        None => None,
        Some(path) => {
            let file = create(&path, Content::Timeline)?;
            if files.contains(&identity(&file)) {
                let shown = crate::text::clean(&path.display().to_string());
                return Err(
                    Failure::new(format!("cannot write log and timeline to one file, {shown}")).hint("name two files")
                );
            }
            Some((path, Mutex::new(Timeline::new(file))))
        }
    };
    let outputs = Outputs {
        log,
        timeline,
        log_error,
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
    if let Some((_, timeline)) = &outputs.timeline {
        timeline.lock().unwrap_or_else(PoisonError::into_inner).take(record);
    }
}

/// Stops recording, writes the timeline, and sends spans to the collector. Open spans end now. Returns error messages,
/// which do not fail the run.
pub fn finish() -> Vec<String> {
    let Some(outputs) = OUTPUTS.get() else { return Vec::new() };
    let mut wrong = Vec::new();
    let mut unwritten = |path: &Path, error: &std::io::Error| {
        wrong.push(format!("cannot write {}: {}", path.display(), io_error_text(error)));
    };
    if let Some((path, error)) = &*outputs.log_error.lock().unwrap_or_else(PoisonError::into_inner) {
        unwritten(path, error);
    }
    if let Some((path, timeline)) = &outputs.timeline
        && let Err(error) = timeline.lock().unwrap_or_else(PoisonError::into_inner).write()
    {
        unwritten(path, &error);
    }
    #[cfg(feature = "otlp")]
    if let Some(otlp) = &outputs.otlp
        && let Err(why) = otlp.lock().unwrap_or_else(PoisonError::into_inner).flush()
    {
        wrong.push(why);
    }
    wrong
}

/// What a file contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Appended to.
    Log,
    /// Replaced.
    Timeline,
}

impl Content {
    /// Returns whether a file with this beginning is one of these, so that no other file is overwritten by mistake.
    fn begins(self, head: &[u8]) -> bool {
        match self {
            Self::Timeline => head.starts_with(timeline::BEGINNING.as_bytes()),
            Self::Log => {
                let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
                let is_year = line.len() > 4 && line[..4].iter().all(u8::is_ascii_digit) && line[4] == b'-';
                is_year || (line.starts_with(b"{") && line.windows(8).any(|part| part == b"\"level\":"))
            }
        }
    }
}

fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|stat| (stat.dev(), stat.ino()))
}

/// How much of an existing file is read to recognise it, in bytes.
const HEAD_BYTES: u64 = 4096;

/// Creates a file that only its owner can read (0600), or opens an existing one with the same content.
#[expect(clippy::disallowed_methods, reason = "the user names the file")]
fn create(path: &Path, content: Content) -> Result<File, Failure> {
    let shown = crate::text::clean(&path.display().to_string());
    let cannot = |why: String| Failure::new(format!("cannot write {shown}: {why}"));
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.create(true).read(true).mode(0o600).custom_flags(flags);
    let file = options.append(content == Content::Log).write(true).truncate(false).open(path);
    let file = file.map_err(|error| {
        let failure = cannot(io_error_text(&error));
        match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => {
                cannot("it is a symlink".to_owned()).hint("name the file that it leads to, or another one")
            }
            Some(Errno::NOENT) => {
                let folder = path.parent().unwrap_or(path);
                failure.hint(format!("create the directory: `mkdir -p {}`", file_word(folder)))
            }
            Some(Errno::ISDIR) => failure.hint("name a file in it"),
            _ => failure.hint("name another file"),
        }
    })?;
    let stat = file.metadata().map_err(|error| cannot(io_error_text(&error)))?;
    if !stat.is_file() {
        return Err(cannot("it is not a regular file".to_owned()).hint("name another file"));
    }
    if stat.uid() != rustix::process::geteuid().as_raw() {
        return Err(cannot("it belongs to another user".to_owned()).hint("name another file"));
    }
    let mut head = Vec::new();
    (&file).take(HEAD_BYTES).read_to_end(&mut head).map_err(|error| cannot(io_error_text(&error)))?;
    if !head.is_empty() && !content.begins(&head) {
        let what = if content == Content::Log { "log" } else { "timeline" };
        return Err(cannot(format!("it already exists and is not a {what} of provision")).hint("name another file"));
    }
    if stat.mode() & 0o077 != 0 {
        return Err(cannot("it already exists, and others can read it".to_owned())
            .hint(format!("remove these permissions: `chmod 600 {}`", file_word(path))));
    }
    if content == Content::Timeline {
        file.set_len(0).map_err(|error| cannot(io_error_text(&error)))?;
    }
    Ok(file)
}
