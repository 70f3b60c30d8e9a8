//! What ends a command before it has a result.

use super::exit::Exit;
use crate::engine::run::NotPrepared;
use crate::engine::stop;
use crate::failure::Failure;
use crate::plan_file::Diagnostics;

/// An error that ends a command before it has a result, as it is shown.
#[derive(Debug)]
pub struct Error {
    text: String,
    pub exit: Exit,
}

impl Error {
    /// A signal came before there was anything to report.
    pub fn stopped(signal: i32) -> Self {
        Self {
            text: format!("error: nothing was changed: stopped by {}", stop::name(signal)),
            exit: Exit::by_signal(signal),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let hint = failure.hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        Self { text: format!("error: {}{hint}", failure.message), exit: Exit::Failed }
    }
}

impl From<Vec<Failure>> for Error {
    fn from(failures: Vec<Failure>) -> Self {
        let texts: Vec<String> = failures.into_iter().map(|failure| Self::from(failure).text).collect();
        Self { text: texts.join("\n"), exit: Exit::Failed }
    }
}

impl From<NotPrepared> for Error {
    fn from(error: NotPrepared) -> Self {
        match error {
            NotPrepared::Failure(failure) => failure.into(),
            NotPrepared::Diagnostics(diagnostics) => diagnostics.into(),
            NotPrepared::Stopped(signal) => Self::stopped(signal),
        }
    }
}

impl From<Diagnostics> for Error {
    fn from(diagnostics: Diagnostics) -> Self {
        Self { text: diagnostics.to_string(), exit: Exit::Failed }
    }
}
