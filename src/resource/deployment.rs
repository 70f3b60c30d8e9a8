//! What an update of a checkout, or a clone, brings: commits and files, as a change's `after` has them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The commits and files of an update or a clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The newest first, up to a limit. A clone has only the newest.
    pub commits: Vec<DeployedCommit>,
    /// How many commits there are. `None` for a clone, which brings all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_count: Option<usize>,
    /// In order of path. A clone has only the first ones.
    pub files: Vec<DeployedFile>,
    /// How many files a clone has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_count: Option<usize>,
}

/// A commit that comes with an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedCommit {
    /// The full id in hexadecimal.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    pub author: String,
    /// When it was committed, in seconds since 1970 (UTC).
    pub time: i64,
}

/// A file that an update changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedFile {
    pub path: String,
    /// `added`, `modified` or `deleted`.
    pub change: String,
    /// The numbers of added and removed lines, if the file is text and not large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Lines>,
    /// Its modes, if they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<Modes>,
}

/// The modes of a file before and after an update, in octal: `0644` or `0755`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    pub before: String,
    pub after: String,
}

/// How many lines differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    pub added: usize,
    pub removed: usize,
}

impl Deployment {
    /// Reads the deployment in a change's `after`, if it has one.
    pub fn of(after: &Value) -> Option<Self> {
        after.get("commits").and_then(|_| Self::deserialize(after).ok())
    }
}
