//! Records: spans that open and close, and events within them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Values by name. Text, whole numbers and booleans.
pub type Fields = Map<String, Value>;

/// The importance of a record, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// Returns its name in capitals, as in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }
}

impl From<&tracing::Level> for Level {
    fn from(level: &tracing::Level) -> Self {
        match *level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

/// One record. Times are microseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A span begins.
    Open { id: u64, parent: Option<u64>, target: String, name: String, level: Level, at: u64, fields: Fields },
    /// A span ends. `fields` are those that were added after its start.
    Close { id: u64, at: u64, fields: Fields },
    /// Something happened within a span.
    Event { parent: Option<u64>, target: String, level: Level, at: u64, message: String, fields: Fields },
}
