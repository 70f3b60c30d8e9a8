//! One piece of desired state.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::AnyResource;
use crate::host::fs::escape_path;

/// A step of the plan file, with evaluated templates.
#[derive(Debug, Clone)]
pub struct Step {
    pub id: String,
    pub prose: Prose,
    /// The user that the step runs as. `None` is the user who started the program.
    pub run_as: Option<String>,
    /// The steps in its `after`.
    pub after: Vec<String>,
    /// The maximum number of things that one run may change. See [`super::Change::size`].
    pub max_changes: Option<u64>,
    /// The files beside the plan file that went into it.
    pub companions: Vec<Companion>,
    pub resource: AnyResource,
}

/// A file beside the plan file that a step depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Where it was read.
    pub path: PathBuf,
    /// BLAKE3 of its bytes, in hexadecimal digits.
    pub hash: String,
    /// The environment variables that it names.
    pub environment: BTreeSet<String>,
}

impl Companion {
    /// Its path as messages have it.
    pub fn shown(&self) -> String {
        escape_path(&self.path)
    }
}

/// The texts of a step for people. Missing texts are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prose {
    pub title: String,
    pub why: String,
    pub symptom: String,
    pub when: String,
}
