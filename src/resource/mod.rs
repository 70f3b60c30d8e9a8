//! The kinds of resource: the trait that each implements, and the one list of them.
//!
//! A kind observes ([`Resource::observe`], which has no way to write), decides ([`Resource::diff`], which is pure) and
//! acts ([`Resource::execute`], which decides nothing).

use std::future::Future;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

pub mod attributes;
pub mod compose_env;
mod context;
pub mod directory;
#[cfg(test)]
pub mod fixtures;
mod follow_up;
mod info;
mod key_error;
pub mod key_file;
mod kinds;
pub mod period_tables;
pub mod reference;
pub mod relation;
pub mod repository;
mod rescue;
mod step;
pub mod table;
pub mod value;
pub use crate::failure::Failure;
pub use crate::plan::claim::{Claim, Claims, Database, Host, Need};
pub use context::{ExecuteContext, ObserveContext};
pub use follow_up::{Cause, Reaction, Reacts};
pub use info::{KindInfo, Site};
pub use key_error::{KeyError, Segment};
pub use kinds::{AnyActual, AnyChange, AnyResource, KIND_NAMES, KINDS, REFERENCES, cleanup_on_exit, kind_info};
pub use rescue::{Rescue, RescueAnswer, RescueRequest, Rescues, Restoring};
pub use step::{Prose, Step};

/// One kind of desired state. The implementing type is the resource as the plan file gives it, its templates
/// evaluated: `Deserialize` is the plan file's reading of it, so it must refuse what it does not know.
pub trait Resource: Serialize + DeserializeOwned + Clone + Send + Sync {
    /// What is known of the kind before a step of it is evaluated.
    const INFO: KindInfo;

    /// What its keys mean. A test holds it against `Deserialize`.
    const REFERENCE: &'static reference::Reference;

    /// What was observed of one step. Free of secrets: it crosses process borders and is printed when tests fail.
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

    /// Where the step does its work, and what it needs there.
    fn site(&self) -> Site<'_>;

    /// What the step owns, needs, and must not share at the same time, as the plan file spells it. A claim may depend
    /// on a file of the host, which is read through `host` for that alone.
    fn claims(&self, host: &dyn Host) -> Claims;

    /// What the step is seen to own once it was observed, beside what [`Resource::claims`] knows beforehand.
    fn observed_claims(&self, _actual: &Self::Actual) -> Vec<Claim> {
        Vec::new()
    }

    /// Shell or SQL lines that do the same by hand; `explain` prints them.
    fn manual(&self) -> Vec<String>;

    /// Reads the actual state. Leaves no trace: same bytes, same times.
    fn observe(&self, cx: &ObserveContext) -> impl Future<Output = Result<Self::Actual, Failure>> + Send;

    /// Decides what has to change. Pure and complete: the same input gives the same changes.
    fn diff(&self, actual: &Self::Actual) -> Result<Diff<Self::Change>, Failure>;

    /// What `change` may do to whatever is at `path`.
    fn effect(&self, _change: &Self::Change, _path: &Path) -> Effect {
        Effect::Alters
    }

    /// Makes one change that `diff` decided on.
    fn execute(&self, change: &Self::Change, cx: &ExecuteContext) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The rescues of a kind whose changes may take somebody's work out of the way.
    fn rescues(&self) -> Option<&dyn Rescues> {
        None
    }

    /// The follow-ups of a kind that has some to other steps' changes.
    fn reacts(&self) -> Option<&dyn Reacts<Self::Actual, Self::Change>> {
        None
    }

    /// Removes what observations of this process still have in temporary places, and ends the programs that work for them:
    /// it is about to end, and they are not waited for.
    fn cleanup_on_exit() {}
}

/// What a change may do to whatever is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    None,
    /// It may alter it: a step that needs the path is planned provisionally then.
    Alters,
    /// It puts another inode there, or takes the one there away: what mounts the file that was there keeps it.
    Replaces,
}

/// A kind's own type of change.
pub trait Change: Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + Send + Sync {
    /// The change as events, people and scripts see it.
    fn describe(&self) -> Description;

    /// Whether this is the `planned` change, or what is left of it once another step has made the parents that both lacked.
    fn is_left_of(&self, planned: &Self) -> bool {
        is_left_of_with_parents(self, planned)
    }

    /// Whether all that it is about has come to the host after `time`.
    fn is_newer_than(&self, _time: SystemTime) -> bool {
        false
    }

    /// The parents that are made on the way, the outermost first, where it makes any.
    fn parents(&mut self) -> Option<&mut Vec<String>> {
        None
    }

    /// Whether it cannot be made, or must not, once `failed`, an earlier change of the same step, could not be made.
    fn depends_on(&self, _failed: &Self) -> bool {
        true
    }

    /// How many things it alters, as `max_changes` counts them: each entry of a tree, and whatever is no tree as one.
    fn size(&self) -> u64 {
        1
    }
}

/// [`Change::is_left_of`] of a change that is about one thing.
fn is_left_of_with_parents<C: Change>(change: &C, planned: &C) -> bool {
    let (mut left, mut all) = (change.clone(), planned.clone());
    let (Some(parents), Some(planned_parents)) = (left.parents(), all.parents()) else { return change == planned };
    // The outermost come first, so what others have made is the beginning.
    let fits = planned_parents.ends_with(parents);
    planned_parents.clone_from(parents);
    fits && *change == all
}

/// What `diff` found: the changes in the order in which they are to be made, and what a reader should know besides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diff<C> {
    /// Empty where the step has converged.
    pub changes: Vec<C>,
    /// Differences that the step does not repair, each with its consequence. The changes are made all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Failure>,
    /// What keeps a part of the step from being done. The changes do not depend on it, and are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<Failure>,
    /// Whether a secret that was to be compared with what is there is not given; a note says which source lacks it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
    /// The kind's own numbers and dates, for programs: what stands in notes and warnings as prose.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// Remarks that change nothing (`content not checked`, local changes that are kept).
    #[serde(default)]
    pub notes: Vec<String>,
    /// What needs a person's attention, though it is no failure. Shown on stderr and in JSON.
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
            facts: serde_json::Map::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// A change in the terms that every kind shares. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    pub action: Action,
    /// What is changed: a path, a table, a branch.
    pub target: String,
    /// One line for people, in the imperative ("create …", "set owner to …").
    pub summary: String,
    /// The observed state, `null` where there was nothing.
    pub before: serde_json::Value,
    /// The state to be.
    pub after: serde_json::Value,
    /// Why the change deserves a second look, where it does: it takes somebody's work out of the way, say.
    pub risk: Option<String>,
}

/// What a change does to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Update,
    Delete,
}

pub use crate::host::secret::SecretSource;
