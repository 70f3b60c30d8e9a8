//! The kinds of resource: the trait that they implement, and their list.
//!
//! A kind observes ([`Resource::observe`], which cannot write), decides ([`Resource::diff`], which is pure) and acts
//! ([`Resource::execute`], which decides nothing).

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

pub mod adopt;
pub mod attributes;
pub mod compose_env;
mod context;
mod deployment;
pub mod directory;
pub mod document;
pub mod file;
#[cfg(test)]
pub mod fixtures;
mod follow_up;
mod info;
mod key_error;
pub mod key_file;
mod kinds;
mod parents;
pub mod period_tables;
pub mod reference;
mod regular_file;
pub mod relation;
pub mod repository;
mod rescue;
mod step;
pub mod table;
pub mod value;
pub use crate::failure::Failure;
pub use crate::plan::claim::{Claim, Claims, Database, FileUse, Host, Need};
pub use context::{ExecuteContext, ObserveContext};
pub use deployment::{DeployedCommit, DeployedFile, Deployment, Lines, Modes};
pub use follow_up::{Cause, Reaction, Reacts, ReadSubject, SubjectState};
pub use info::{KindInfo, Site};
pub use key_error::{KeyError, Segment};
pub use kinds::{
    AnyActual, AnyChange, AnyResource, KIND_NAMES, KINDS, REFERENCES, adoptions_from_catalog, cleanup_on_exit,
    kind_info,
};
#[cfg(test)]
pub use kinds::{KindVisitor, visit_kinds};
pub use rescue::{Extraction, Rescue, RescueAnswer, RescueRequest, RescueStore, Rescues, Restoring};
pub use step::{Companion, Prose, Step};

/// One kind of desired state. The implementing type is the resource as written in the plan file, with evaluated
/// templates. It is parsed by `Deserialize`, which has to reject unknown keys.
pub trait Resource: Serialize + DeserializeOwned + Clone + Send + Sync {
    /// What is known of the kind before its steps are evaluated.
    const INFO: KindInfo;

    /// The documentation of its keys. A test compares it with `Deserialize`.
    const REFERENCE: &'static reference::Reference;

    /// How its steps are written from what a host has, if they can be.
    const ADOPTION: adopt::Adoption<Self, Self::Actual> = adopt::Adoption::None;

    /// Reads the current state of the subject of a follow-up, if the kind has follow-ups.
    const READ_SUBJECT: Option<ReadSubject> = None;

    /// What was observed of one step. Contains no secrets: it is sent between processes and printed by failing tests.
    type Actual: Serialize + DeserializeOwned + Clone + Send + Sync;

    /// One decided mutation, with its before and after.
    type Change: Change;

    /// Reads a step's keys. A kind that compares its keys overrides this, so that a [`KeyError`] keeps its place: an error
    /// of `Deserialize` keeps no more than its text.
    ///
    /// # Errors
    /// The outer error is about a single value or key, the inner one about several keys together.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Result<Self, KeyError>, D::Error> {
        Self::deserialize(from).map(Ok)
    }

    /// Returns what is valid in the plan file, but probably a mistake. `validate` reports it and succeeds.
    fn remarks(&self) -> Vec<KeyError> {
        Vec::new()
    }

    /// Returns where the step works, and what it needs there.
    fn site(&self) -> Site<'_>;

    /// Returns what the step owns, needs and must not share while it runs, as spelled in the plan file. `host` is only
    /// for claims that depend on a file of the host.
    fn claims(&self, host: &dyn Host) -> Claims;

    /// Returns the paths that the step reads in addition to what it needs, if they are there: files of its user, whose home is
    /// `home`, and of the system.
    fn reads(&self, _home: Option<&Path>, _host: &dyn Host) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Returns the text of the file that the step owns, with another text in place of each secret, if the plan file has it.
    fn text_of_file(&self) -> Option<String> {
        None
    }

    /// Returns what the step was observed to own, in addition to [`Resource::claims`].
    fn observed_claims(&self, _actual: &Self::Actual) -> Vec<Claim> {
        Vec::new()
    }

    /// Returns shell or SQL lines that do the same manually, for `explain`.
    fn manual(&self) -> Vec<String>;

    /// Reads the actual state. Leaves no trace: content and timestamps stay the same.
    fn observe(&self, cx: &ObserveContext) -> impl Future<Output = Result<Self::Actual, Failure>> + Send;

    /// Decides what has to change. It is pure: the same input gives the same changes.
    fn diff(&self, actual: &Self::Actual) -> Result<Diff<Self::Change>, Failure>;

    /// Returns how `change` may affect whatever is at `path`.
    fn effect(&self, _change: &Self::Change, _path: &Path) -> Effect {
        Effect::Alters
    }

    /// Makes one change that `diff` decided on.
    fn execute(&self, change: &Self::Change, cx: &ExecuteContext) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Returns the rescues of a kind whose changes may move someone's work aside.
    fn rescues(&self) -> Option<&dyn Rescues> {
        None
    }

    /// Returns the follow-ups of a kind that reacts to other steps' changes.
    fn reacts(&self) -> Option<&dyn Reacts<Self::Actual, Self::Change>> {
        None
    }

    /// Removes the temporary files of observations in this process and ends their programs. Called when the process
    /// exits without waiting for them.
    fn cleanup_on_exit() {}
}

/// How a change may affect a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    None,
    /// It may alter it, so a step that needs the path is provisional.
    Alters,
    /// It replaces or removes the inode there. Mounts of the old file keep the old inode.
    Replaces,
}

/// The type of changes of a kind.
pub trait Change: Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + Send + Sync {
    /// Describes the change for events, people and scripts.
    fn describe(&self) -> Description;

    /// Returns whether this is the `planned` change, or what remains of it after another step has created common
    /// parents.
    fn is_left_of(&self, planned: &Self) -> bool {
        is_left_of_with_parents(self, planned)
    }

    /// Returns whether everything that it changes was created after `time`.
    fn is_newer_than(&self, _time: SystemTime) -> bool {
        false
    }

    /// Returns the parents that the change creates, outermost first, if it creates any.
    fn parents(&mut self) -> Option<&mut Vec<String>> {
        None
    }

    /// Replaces the shown lines of a file by a remark if they contain a secret of the run.
    fn hide(&mut self, _has_secret: &dyn Fn(&str) -> bool) {}

    /// Returns the change without the lines that are only shown. These depend on the secrets of other steps, so changes are
    /// compared without them.
    fn without_lines(&self) -> Self {
        let mut change = self.clone();
        change.hide(&|_| true);
        change
    }

    /// Returns whether it cannot or must not be made after `failed`, an earlier change of the same step, has failed.
    fn depends_on(&self, _failed: &Self) -> bool {
        true
    }

    /// Returns the number of things that it alters, as counted by `max_changes`: the number of entries for a tree, and
    /// one otherwise.
    fn size(&self) -> u64 {
        1
    }
}

/// [`Change::is_left_of`] for a change of a single thing.
fn is_left_of_with_parents<C: Change>(change: &C, planned: &C) -> bool {
    let (mut left, mut all) = (change.without_lines(), planned.without_lines());
    let (Some(parents), Some(planned_parents)) = (left.parents(), all.parents()) else { return left == all };
    // Parents are listed outermost first, so those created by others are at the start.
    let fits = planned_parents.ends_with(parents);
    planned_parents.clone_from(parents);
    fits && left == all
}

/// The result of `diff`: the changes in order, and remarks for the reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diff<C> {
    /// Empty if the step has converged.
    pub changes: Vec<C>,
    /// Differences that the step does not repair, each with its consequence. The changes are still made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Failure>,
    /// What prevents a part of the step. The changes do not depend on it, and are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<Failure>,
    /// Whether an existing secret could not be compared because its source has no value. A note names the source.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
    /// Set if another run is changing the target, so that nothing was decided. A plan reports the step as unchecked, and an apply
    /// refuses or waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Failure>,
    /// The kind's own numbers and dates for programs, which notes and warnings express as prose.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// Remarks without consequences (`content not checked`, local changes that are kept).
    #[serde(default)]
    pub notes: Vec<String>,
    /// What needs a person's attention but is not a failure. Shown on stderr and in JSON.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl<C> Default for Diff<C> {
    fn default() -> Self {
        Self {
            changes: Vec::new(),
            drift: Vec::new(),
            obstacles: Vec::new(),
            unchecked: false,
            busy: None,
            facts: serde_json::Map::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// A change in the terms that all kinds share. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    pub action: Action,
    /// What is changed: a path, a table, a branch.
    pub target: String,
    /// One line for people, in the imperative ("create …", "set owner to …").
    pub summary: String,
    /// The observed state, or `null` if there was nothing.
    pub before: serde_json::Value,
    /// The state after the change.
    pub after: serde_json::Value,
    /// Why the change needs attention, if it does: for example, it moves someone's work aside.
    pub risk: Option<String>,
    /// What changes in a text: the lines of a unified diff, without its file names. Hidden characters are escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// How a change affects its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Update,
    Delete,
}

impl Action {
    /// Returns its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

pub use crate::host::secret::SecretSource;
