//! Rescues, as every kind that keeps some tells of them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// A named copy of work that a step took out of the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescue {
    /// What `rescue show` and `rescue restore` take: it begins with the id of the run that made it.
    pub id: String,
    /// Where it is kept.
    pub place: String,
    /// One line on what it is.
    pub subject: String,
    /// The files in it, for output; none where it holds commits.
    pub files: Vec<String>,
    /// The command that brings it back, where `rescue restore` does not: commits get a branch.
    pub way_back: Option<String>,
    /// The command that deletes it.
    pub delete: String,
}

/// What is asked of a step that may keep rescues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueRequest {
    List,
    Show(String),
    Restore(Restoring),
}

/// Which rescue to bring back, and beside whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    pub id: String,
    /// The files and directories that other steps of the plan file see to, with the step's id.
    pub claimed: Vec<(PathBuf, String)>,
}

/// A kind whose changes may take somebody's work out of the way.
pub trait Rescues {
    /// Lists, shows or gives back what the step's changes took out of the way.
    ///
    /// # Errors
    /// There is no such rescue, or it cannot be read or given back.
    fn rescue(&self, request: &RescueRequest) -> Result<RescueAnswer, Failure>;
}

/// The answer to a [`RescueRequest`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueAnswer {
    List(Vec<Rescue>),
    /// A patch with the bytes of the files.
    Show(#[serde(with = "base64_text")] Vec<u8>),
    /// The paths that were brought back, for output.
    Restore(Vec<String>),
}

/// Bytes as base64: JSON has no bytes of its own.
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
