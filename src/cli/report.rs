//! `provision report`

use std::io::Read;
use std::path::Path;

use super::args::{Format, ReportArguments};
use super::{Error, Exit, inputs};
use crate::failure::Failure;
use crate::render::output;
use crate::render::report::{HostRun, NoResult, Report};
use crate::text::io_error_text;
use crate::text::layout::Layout;

/// The maximum size of a file of JSON lines, which is read completely.
const MAX_LINES_BYTES: u64 = 256 << 20;

/// Combines the JSON lines of runs on many hosts into one report. Files without a result are listed in it.
pub fn run(arguments: ReportArguments) -> Result<Exit, Error> {
    let (mut runs, mut without_result) = (Vec::new(), Vec::new());
    for file in &arguments.files {
        let text = if inputs::is_standard_input(file) { read_lines(None) } else { read_lines(Some(file)) };
        match text.map_err(|failure| failure.message).and_then(|text| HostRun::read(&text, &name(file))) {
            Ok(found) => runs.extend(found),
            Err(why) => {
                let why = error_output(file).unwrap_or(why);
                without_result.push(NoResult { file: name(file), run: None, why });
            }
        }
    }
    let report = Report::of(runs, without_result);
    match arguments.format.format() {
        Format::Human => output::print(&human(&report)),
        Format::Github => output::print(&report.github(human(&report))),
        Format::Json => output::print_raw(report.json().as_bytes()),
        Format::Markdown => output::print_raw(report.markdown().as_bytes()),
    }
    Ok(if report.is_ok() { Exit::Done } else { Exit::Failed })
}

fn human(report: &Report) -> String {
    let layout = Layout { columns: output::columns() };
    if output::is_verbose() { report.human_in_full(layout) } else { report.human(layout) }
}

/// Returns why an empty `FILE.jsonl` has no result. `FILE.err` beside it has what the command wrote to standard error. The
/// reason is its first line with an error, or else its last line.
fn error_output(file: &Path) -> Option<String> {
    if file.extension()? != "jsonl" || !read_lines(Some(file)).ok()?.trim().is_empty() {
        return None;
    }
    let text = read_lines(Some(&file.with_extension("err"))).ok()?;
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().find(|line| line.starts_with("error: ")).or_else(|| lines().next_back()).map(str::to_owned)
}

fn name(file: &Path) -> String {
    if inputs::is_standard_input(file) { "standard input".to_owned() } else { file.display().to_string() }
}

/// Reads the JSON lines of runs from a file, or from standard input if it is `None`.
///
/// # Errors
/// The lines cannot be read, are too large, or are not text.
#[expect(clippy::disallowed_methods, reason = "the user names the file")]
fn read_lines(file: Option<&Path>) -> Result<String, Failure> {
    let limit = MAX_LINES_BYTES + 1;
    let mut bytes = Vec::new();
    let read = match file {
        None => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
        Some(file) => std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::new(format!("cannot read it: {}", io_error_text(&error))))?;
    if bytes.len() as u64 == limit {
        return Err(Failure::new(format!("it is larger than {} MiB", MAX_LINES_BYTES >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| Failure::new("it is not UTF-8 text"))
}
