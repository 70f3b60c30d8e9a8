//! What is left to a person after changes: something runs on this host that was made from what a step has changed.

use std::path::{Path, PathBuf};

/// Follow-ups of a kind to the changes of any step.
pub trait Reacts<A, C> {
    /// What the follow-ups are about (a compose file), if anything runs there. Of several steps about one subject, one
    /// answers.
    fn subject(&self, actual: &A) -> Option<PathBuf>;

    /// The parts of the subject that are out of date after `change`, a change of this very step.
    fn stale(&self, actual: &A, change: &C) -> Vec<String>;

    /// What the changes of one step leave to do.
    fn follow_ups(&self, actual: &A, cause: &Cause<'_>) -> Vec<Reaction>;
}

/// The changes of one step, as a step that reacts to them sees them.
pub struct Cause<'a> {
    /// Whether they put another file at the path, or took the one there away.
    pub replaced: &'a dyn Fn(&Path) -> bool,
    /// The parts that [`Reacts::stale`] names, where the step is about the same subject.
    pub stale: Option<&'a [String]>,
}

/// Something to do after changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    pub reason: String,
    /// Empty: whichever of the services it takes.
    pub services: Vec<String>,
    /// The program and its arguments.
    pub argv: Vec<String>,
}
