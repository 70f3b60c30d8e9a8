//! Errors that end a command before it has a result.

use super::exit::Exit;
use crate::engine::run::NotPrepared;
use crate::engine::stop;
use crate::failure::Failure;
use crate::plan_file::Diagnostics;
use crate::render::output;
use crate::text::layout::Layout;

/// An error that ends a command before it has a result, as it is shown.
#[derive(Debug)]
pub struct Error {
    text: String,
    pub exit: Exit,
}

impl Error {
    /// Creates the error for a signal that came before there was anything to report.
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
        let layout = Layout { columns: output::error_columns() };
        let mut text = match layout.columns {
            Some(_) => layout.paragraph("error: ", 2, &failure.message),
            None => format!("error: {}\n", failure.message),
        };
        if let Some(hint) = failure.hint {
            text += &match layout.columns {
                Some(_) => layout.hint(2, &hint),
                None => format!("  hint: {hint}\n"),
            };
        }
        Self { text: text.trim_end_matches('\n').to_owned(), exit: Exit::Failed }
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
        Self { text: fitted(&diagnostics.to_string(), Layout { columns: output::error_columns() }), exit: Exit::Failed }
    }
}

/// Wraps messages and help. Lines of the plan file stay unchanged, because the marks below point into them.
fn fitted(text: &str, layout: Layout) -> String {
    let mut out = String::new();
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("error", message)) => out += &layout.paragraph("error: ", 2, message),
            Some((start, help)) if start.trim_start() == "= help" => {
                out += &layout.paragraph(&format!("{start}: "), start.len() + 2, help);
            }
            _ => {
                out += line;
                out.push('\n');
            }
        }
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}
