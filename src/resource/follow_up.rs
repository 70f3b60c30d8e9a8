//! Follow-ups: what a person has to do after changes, because something on this host still uses the old state.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A kind that has follow-ups to changes of any step.
pub trait Reacts<A, C> {
    /// Returns what the follow-ups are about (a compose file), if anything runs there. If several steps have the same
    /// subject, only one of them reacts.
    fn subject(&self, actual: &A) -> Option<PathBuf>;

    /// Returns the parts of the subject that are outdated after `change`, which is a change of this step.
    fn stale(&self, actual: &A, change: &C) -> Vec<String>;

    /// Returns the follow-ups of the changes of one step.
    fn follow_ups(&self, actual: &A, cause: &Cause<'_>) -> Vec<Reaction>;
}

/// The changes of one step, for a step that reacts to them.
pub struct Cause<'a> {
    /// Returns whether the changes replaced or removed the file at a path.
    pub replaced: &'a dyn Fn(&Path) -> bool,
    /// The parts returned by [`Reacts::stale`], if the step has the same subject.
    pub stale: Option<&'a [String]>,
}

/// Something to do after changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    pub reason: String,
    /// Empty if any of the services may be affected.
    pub services: Vec<String>,
    /// The program and its arguments. They do not depend on the current directory.
    pub argv: Vec<String>,
    /// The same as a shell command line, as people would write it.
    pub command: String,
}

/// What is there now of the subject of an earlier follow-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectState {
    /// It does not exist any more.
    Gone,
    /// Its parts, such as the services of a compose file.
    Parts(BTreeSet<String>),
    /// It cannot be read.
    Unknown,
}

/// Reads the current state of a subject, with the program and the arguments of the follow-up.
pub type ReadSubject = fn(&Path, &[String]) -> SubjectState;
