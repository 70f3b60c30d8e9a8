//! `provision report`

use std::path::Path;

use super::args::{Format, ReportArguments};
use super::{Error, Exit, inputs};
use crate::engine::run::read_lines;
use crate::render::output;
use crate::render::report::{HostRun, NoResult, Report};

/// Combines the JSON lines of runs on many hosts into one report. Files without a result are listed in it.
pub fn run(arguments: ReportArguments) -> Result<Exit, Error> {
    let (mut runs, mut without_result) = (Vec::new(), Vec::new());
    for file in &arguments.files {
        let text = if inputs::is_standard_input(file) { read_lines(None) } else { read_lines(Some(file)) };
        match text.map_err(|failure| failure.message).and_then(|text| HostRun::read(&text)) {
            Ok(found) => runs.extend(found),
            Err(why) => without_result.push(NoResult { file: name(file), why }),
        }
    }
    let report = Report::of(runs, without_result);
    match arguments.format.format() {
        Format::Human => output::print(&report.human()),
        Format::Json => output::print_raw(report.json().as_bytes()),
        Format::Markdown => output::print_raw(report.markdown().as_bytes()),
    }
    Ok(if report.is_ok() { Exit::Done } else { Exit::Failed })
}

fn name(file: &Path) -> String {
    if inputs::is_standard_input(file) { "standard input".to_owned() } else { file.display().to_string() }
}
