//! The error type that all modules use.

use serde::{Deserialize, Serialize};

/// Something cannot be observed, decided or done: what was tried, what was found, and a hint.
///
/// Displays as its message. `{:#}` displays the hint instead, or the message if there is no hint: so the hint gets through
/// errors that keep no more of a value than what it displays (serde's).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Lower case, without a full stop: `cannot read /x/y: permission denied`.
    pub message: String,
    /// What the reader can do about it.
    pub hint: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.hint {
            Some(hint) if f.alternate() => f.write_str(hint),
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl Failure {
    /// Creates a failure without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Combines several failures into one, without repeating messages or hints. Returns `None` if there are none.
    pub fn join(failures: &[Self]) -> Option<Self> {
        let once = |texts: Vec<&str>, between: &str| {
            let mut kept: Vec<&str> = Vec::new();
            texts.into_iter().for_each(|text| {
                if !kept.contains(&text) {
                    kept.push(text)
                }
            });
            kept.join(between)
        };
        let message = once(failures.iter().map(|failure| failure.message.as_str()).collect(), "; ");
        let hint = once(failures.iter().filter_map(|failure| failure.hint.as_deref()).collect(), "\n");
        (!failures.is_empty()).then(|| Self { message, hint: Some(hint).filter(|hint| !hint.is_empty()) })
    }
}
