//! Rescues, as every kind that keeps some tells of them.

use serde::{Deserialize, Serialize};

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
    Restore(String),
}

/// The answer to a [`RescueRequest`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueAnswer {
    List(Vec<Rescue>),
    Show(String),
    /// The paths that were brought back, for output.
    Restore(Vec<String>),
}
