//! The options for diagnostics.

use super::args::{DiagnosticsArguments, LogFormat};
use crate::failure::Failure;
use crate::host::environment;
#[cfg(feature = "otlp")]
use crate::host::machine;
use crate::render::output;
use crate::telemetry::{self, Filter, Settings};

/// Starts the diagnostics that the options and PROVISION_LOG select.
///
/// # Errors
/// The filter is invalid, or a file cannot be written.
pub fn start(arguments: &DiagnosticsArguments) -> Result<(), Failure> {
    let DiagnosticsArguments { verbose, quiet, log, log_format, log_file, timeline } = arguments;
    if *quiet {
        output::set_quiet();
    }
    let text = log.clone().or_else(|| environment::text("PROVISION_LOG")).filter(|filter| !filter.trim().is_empty());
    let text = text.or_else(|| match verbose {
        0 => log_file.is_some().then(|| "debug".to_owned()),
        1 => Some("info".to_owned()),
        _ => Some("debug".to_owned()),
    });
    let settings = Settings {
        filter: text.map(|text| Filter::parse(&text)).transpose()?,
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
