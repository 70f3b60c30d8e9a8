//! The options for diagnostics.

use std::path::Path;

use super::args::{DiagnosticsArguments, LogFormat};
use crate::failure::Failure;
use crate::host::environment;
#[cfg(feature = "otlp")]
use crate::host::machine;
use crate::render::output;
use crate::telemetry::{self, Filter, Settings};

/// Starts the diagnostics that the options and PROVISION_LOG select. `metrics` is the file for metrics.
///
/// # Errors
/// The filter is invalid, a file cannot be written, or two options name one file.
pub fn start(arguments: &DiagnosticsArguments, metrics: Option<&Path>) -> Result<(), Failure> {
    let DiagnosticsArguments { verbose, quiet, log, log_format, log_file, timeline, color: _ } = arguments;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for (option, path) in [("--log-file", log_file), ("--timeline", timeline)] {
        if let (Some(path), Some(metrics)) = (path, metrics)
            && absolute(path) == absolute(metrics)
        {
            return Err(Failure::new(format!("--metrics and {option} name the same file")).hint("name two files"));
        }
    }
    if *quiet {
        output::set_quiet();
    }
    if *verbose > 0 {
        output::set_verbose();
    }
    let settings = Settings {
        filter: filter(*verbose, log.as_deref(), log_file.is_some())?,
        format: match log_format {
            LogFormat::Text => telemetry::LogFormat::Text,
            LogFormat::Json => telemetry::LogFormat::Json,
        },
        log_file: log_file.clone(),
        timeline: timeline.clone(),
        #[cfg(feature = "otlp")]
        otlp: telemetry::otlp::Otlp::of(&environment::text, &machine::host_name().unwrap_or_default()),
    };
    telemetry::start(settings, output::print_error)
}

/// Returns what is logged: by `--log`, else by PROVISION_LOG, else by `-v`.
fn filter(verbose: u8, log: Option<&str>, to_file: bool) -> Result<Option<Filter>, Failure> {
    let is_given = |text: &String| !text.trim().is_empty();
    if let Some(text) = log.map(str::to_owned).filter(is_given) {
        return Filter::parse(&text).map(Some);
    }
    // A value that is not UTF-8 is not a filter either.
    let of_environment = environment::variable("PROVISION_LOG").map(|value| value.to_string_lossy().into_owned());
    if let Some(text) = of_environment.filter(is_given) {
        let filter = Filter::parse(&text);
        return filter
            .map(Some)
            .map_err(|failure| Failure { message: format!("PROVISION_LOG: {}", failure.message), ..failure });
    }
    match verbose {
        0 if !to_file => Ok(None),
        1 => Filter::parse("info").map(Some),
        _ => Filter::parse("debug").map(Some),
    }
}
