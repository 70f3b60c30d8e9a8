//! One piece of desired state.

use super::AnyResource;

/// A step of the plan file, its templates evaluated.
#[derive(Debug, Clone)]
pub struct Step {
    pub id: String,
    pub prose: Prose,
    /// The user that the step acts as; `None`: whoever started the program.
    pub run_as: Option<String>,
    /// The steps that the plan file wants done before.
    pub after: Vec<String>,
    /// How many things one run may change; see [`super::Change::size`].
    pub max_changes: Option<u64>,
    pub resource: AnyResource,
}

/// What the plan file tells people about a step. Empty where it tells nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prose {
    pub title: String,
    pub why: String,
    pub symptom: String,
    pub when: String,
}
