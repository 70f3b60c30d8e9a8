//! Rescues, as all kinds that keep them report them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ExecuteContext;
use crate::failure::Failure;

/// A named copy of work that a step moved aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescue {
    /// The argument for `rescue show` and `rescue restore`. It starts with the id of the run that made it.
    pub id: String,
    /// Where it is stored.
    pub place: String,
    /// A one-line summary.
    pub subject: String,
    /// Its files, for output. Empty if it contains commits.
    pub files: Vec<String>,
    /// The command that restores it, if `rescue restore` does not handle it: commits get a branch.
    pub way_back: Option<String>,
    /// The command that deletes it.
    pub delete: String,
}

/// A request to a step that may keep rescues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueRequest {
    List,
    Show(String),
    Restore(Restoring),
}

/// The rescue to restore, and what must not be overwritten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    pub id: String,
    /// The files and directories that other steps of the plan file own, with the step ids.
    pub claimed: Vec<(PathBuf, String)>,
}

/// A kind whose changes may move someone's work aside.
pub trait Rescues {
    /// Lists, shows or restores what the step's changes moved aside.
    ///
    /// # Errors
    /// There is no such rescue, or it cannot be read or restored.
    fn rescue(&self, request: &RescueRequest, cx: &ExecuteContext) -> Result<RescueAnswer, Failure>;
}

/// The answer to a [`RescueRequest`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueAnswer {
    List(Vec<Rescue>),
    /// A patch with the bytes of the files, or the bytes of the one file.
    Show(#[serde(with = "base64_text")] Vec<u8>),
    Restore {
        /// The restored paths, for output.
        paths: Vec<String>,
        /// What follows from the restore.
        notes: Vec<String>,
    },
}

/// Bytes as base64, because JSON has no bytes.
mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
