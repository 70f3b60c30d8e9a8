//! A plan file as it was written.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::diagnostic::{Diagnostic, Source};
use super::node::Node;

/// A plan file as it is written. Nothing is evaluated yet.
#[derive(Debug, Clone)]
pub struct PlanFile {
    pub(super) source: Source,
    pub name: String,
    pub(super) vars: BTreeMap<String, Node>,
    /// Variables with a wrong declaration.
    pub(super) misdeclared: BTreeSet<String>,
    pub(super) connections: BTreeMap<String, Node>,
    pub(super) steps: Vec<StepSource>,
    /// Every id in the file, including those of steps that could not be read.
    pub(super) ids: Vec<String>,
    /// What is wrong with its shape. Every use of a plan file with flaws fails with an error that lists them all.
    pub(super) flaws: Vec<Diagnostic>,
}

/// A step before its templates are evaluated.
#[derive(Debug, Clone)]
pub(super) struct StepSource {
    pub(super) id: String,
    /// The place of the id. Problems of the step as a whole are reported there.
    pub(super) span: Range<usize>,
    pub(super) title: Node,
    pub(super) why: Node,
    pub(super) symptom: Node,
    pub(super) when: Node,
    pub(super) run_as: Node,
    pub(super) after: Vec<(String, Range<usize>)>,
    pub(super) max_changes: Node,
    pub(super) kind: &'static str,
    pub(super) kind_span: Range<usize>,
    pub(super) body: Node,
}
