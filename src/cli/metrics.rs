//! `--metrics FILE`: the destination of a run's metrics.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::args::RunArguments;
use super::{Error, inputs};
use crate::engine::event::Sink;
use crate::engine::run::{Command, Ended};
use crate::failure::Failure;
use crate::host::fs::{self, Attributes, Dir};
use crate::render::{Metrics, MetricsRun, is_metrics_file, known_plan, names_its_plan, output};
use crate::text::{clean, io_error_text, shell_word};

/// The maximum size of an existing metrics file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// The maximum number of attempts to replace a file that others write at the same time.
const MAX_ATTEMPTS: usize = 100;
/// Everyone may read metrics, because node_exporter runs as another user.
const ATTRIBUTES: Attributes = Attributes { uid: None, gid: None, mode: 0o644 };

/// The metrics file and its content.
struct MetricsFile {
    path: PathBuf,
    dir: Dir,
    command: Command,
    /// The name of a plan file that could not be read.
    plan_file: String,
    run: Arc<Mutex<MetricsRun>>,
}

/// Runs a command with a sink for the chosen output format. Writes its metrics if the arguments ask for them, however the
/// command ends.
///
/// # Errors
/// The command fails, or the directory for the metrics cannot be opened.
pub async fn with_sink(
    arguments: &RunArguments,
    command: Command,
    plan_file: Option<&Path>,
    run: impl AsyncFnOnce(Box<dyn Sink>) -> Result<Ended, Error>,
) -> Result<Ended, Error> {
    let sink = inputs::sink(&arguments.format, inputs::apply_command(plan_file, arguments));
    let Some(path) = &arguments.metrics else { return run(sink).await };
    let (metrics, sink) = MetricsFile::new(path, command, plan_file, sink)?;
    let ended = run(sink).await;
    metrics.write();
    ended
}

impl MetricsFile {
    /// Forwards events to `next` and collects them as metrics for the file at `path`.
    ///
    /// # Errors
    /// The directory of the file cannot be opened.
    fn new(
        path: &Path,
        command: Command,
        plan_file: Option<&Path>,
        next: Box<dyn Sink>,
    ) -> Result<(Self, Box<dyn Sink>), Failure> {
        let cannot = |why: String| {
            Failure::new(format!("cannot write metrics to {}: {why}", clean(&path.display().to_string())))
        };
        let absolute = std::path::absolute(path).map_err(|error| cannot(io_error_text(&error)))?;
        let (Some(parent), Some(_)) = (absolute.parent(), absolute.file_name()) else {
            return Err(cannot("the path has no file name".to_owned()));
        };
        let dir = Dir::open(parent).map_err(|error| {
            let hint = if error.is_missing() {
                format!("create the directory: `mkdir -p {}`", shell_word(parent))
            } else {
                "name a file in a directory that you can write to".to_owned()
            };
            cannot(Failure::from(error).message).hint(hint)
        })?;
        if let Some(denial) = dir.entry_denial()? {
            return Err(cannot(denial.reason()).hint("name a file in a directory that you can write to"));
        }
        let known = dir.read(absolute.file_name().unwrap_or_default(), MAX_FILE_BYTES);
        let known = known.map_err(|error| cannot(Failure::from(error).message).hint("name another file"))?;
        if known.is_some_and(|known| !is_metrics_file(&String::from_utf8_lossy(&known.bytes))) {
            return Err(
                cannot("it already exists and has no metrics of provision in it".to_owned()).hint("name another file")
            );
        }
        let plan_file = plan_file.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
        let (sink, run) = Metrics::new(next);
        let plan_file = plan_file.unwrap_or_else(|| "provision".to_owned());
        Ok((Self { path: absolute, dir, command, plan_file, run }, Box::new(sink)))
    }

    /// Replaces the file atomically. A failure causes only a warning, because the file is not a part of the run.
    fn write(&self) {
        if let Err(failure) = self.try_write() {
            let path = self.path.display().to_string();
            let hint = failure.hint.map(|hint| format!("\n  hint: {}", clean(&hint))).unwrap_or_default();
            let (path, message) = (clean(&path), clean(&failure.message));
            output::print_error(&format!("warning: cannot write metrics to {path}: {message}{hint}\n"));
        }
    }

    /// Writes the file. Runs at the same time can have the same file: each of them writes it, and the last one stays.
    fn try_write(&self) -> Result<(), Failure> {
        let mut attempts = 1;
        loop {
            match self.write_once() {
                Err(NotWritten::Changed(_)) if attempts < MAX_ATTEMPTS => attempts += 1,
                Err(NotWritten::Changed(failure) | NotWritten::Failed(failure)) => return Err(failure),
                Ok(()) => return Ok(()),
            }
        }
    }

    fn write_once(&self) -> Result<(), NotWritten> {
        let name = self.path.file_name().unwrap_or_default();
        let former = self.dir.read(name, MAX_FILE_BYTES)?;
        let text = former.as_ref().map(|former| String::from_utf8_lossy(&former.bytes).into_owned());
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        // A run that could not read its plan file has written a file without the plan's name.
        let text = text.filter(|text| run.plan.is_empty() || names_its_plan(text));
        if let Some(other) =
            text.as_deref().and_then(known_plan).filter(|known| !run.plan.is_empty() && *known != run.plan)
        {
            let file = shell_word(&self.path);
            let message = format!("it has the metrics of the plan `{other}`: each plan file needs a file of its own");
            let failure = Failure::new(message).hint(format!("name another file, or remove this one: `rm {file}`"));
            return Err(NotWritten::Failed(failure));
        }
        let text = run.text(text.as_deref(), &self.plan_file, self.command.name(), SystemTime::now());
        let written = match former {
            Some(former) => self.dir.replace(name, text.as_bytes(), &former.stat, ATTRIBUTES),
            None => self.dir.create(name, text.as_bytes(), ATTRIBUTES),
        };
        written.map_err(|error| match error.kind() {
            // None of these kinds is an error of the disk or of permissions.
            ErrorKind::Other | ErrorKind::AlreadyExists | ErrorKind::NotFound => NotWritten::Changed(error.into()),
            _ => NotWritten::Failed(error.into()),
        })
    }
}

/// Why the file was not written.
enum NotWritten {
    /// The file is no longer the one that was read.
    Changed(Failure),
    Failed(Failure),
}

impl From<fs::Error> for NotWritten {
    fn from(error: fs::Error) -> Self {
        Self::Failed(error.into())
    }
}
