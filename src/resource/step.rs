//! One piece of desired state.

use super::AnyResource;

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
    pub resource: AnyResource,
}

/// The texts of a step for people. Missing texts are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prose {
    pub title: String,
    pub why: String,
    pub symptom: String,
    pub when: String,
}
