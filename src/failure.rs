//! What went wrong, in the one form that every room uses.

use serde::{Deserialize, Serialize};

/// Something cannot be observed, decided or done: what was tried, what was found, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Lower case, no full stop: `cannot read /x/y: permission denied`.
    pub message: String,
    /// What the reader can do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure whose remedy is in its message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same failure with its remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Several failures as one, each message and each hint once. `None` if there are none.
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
