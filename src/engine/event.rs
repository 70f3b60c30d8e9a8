//! Events: the only output of the engine. Human text, JSON lines and the exit code are derived from them.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};

pub use crate::resource::{Action, DeployedCommit, DeployedFile, Deployment, Description, Lines};

/// The version of the JSON lines. Within a version no key is renamed or removed, but keys may be added.
pub const FORMAT: u32 = 1;

/// One thing that happened. Contains no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event.
    RunStarted {
        format: u32,
        command: String,
        /// The plan file's `name`.
        plan: String,
        /// The plan file's path as the user gave it.
        file: String,
        run: String,
        host: String,
        user: String,
        /// The date (UTC, `YYYY-MM-DD`) that determines the current period.
        as_of: String,
        /// The id of the saved plan that is applied, if any.
        saved: Option<String>,
    },
    /// An earlier run of the same plan file by the same user that was interrupted.
    RunCutOff(InterruptedRun),
    /// The run waits for another apply of the same plan file, or for a run that changes what its steps change.
    RunWaiting {
        holder: Holder,
        /// The checkouts that the other run is changing, if it is a run of another plan file, or if they are still being
        /// changed after its end.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        targets: Vec<String>,
    },
    /// Something that needs a person's attention and is not about a step.
    Warning {
        message: String,
    },
    /// What one step needs.
    StepPlanned(StepPlanned),
    ChangeStarted {
        step: String,
        action: Action,
        target: String,
        summary: String,
    },
    ChangeFinished {
        step: String,
        action: Action,
        target: String,
        summary: String,
        outcome: ChangeOutcome,
        /// The change failed after a part of it was made, or may have been made.
        #[serde(default, skip_serializing_if = "is_false")]
        partial: bool,
    },
    /// The last event of a step, on apply.
    StepFinished(StepFinished),
    /// How far a long operation has come. It is shown to people only: neither recorded nor among the JSON lines.
    StepProgress {
        step: String,
        text: String,
    },
    /// The follow-ups that the next changes of a step will have. Recorded only in the journal, where they outlive an
    /// interrupted run.
    FollowUpsExpected {
        follow_ups: Vec<FollowUp>,
    },
    /// The whole plan of an apply has been reported. The apply now asks for confirmation, or starts.
    PlanFinished {
        counts: Counts,
        /// How many changes are planned.
        changes: usize,
        /// What a person has to do once the changes are made.
        follow_ups: Vec<FollowUp>,
    },
    /// The plan was saved to a file that `apply` accepts.
    PlanSaved {
        id: String,
        path: String,
    },
    /// What a person has to do after the step's changes. On plan, after the changes that would be made.
    FollowUp(FollowUp),
    /// A follow-up of an earlier run that is still open.
    FollowUpOpen(OpenFollowUp),
    /// The last event.
    RunFinished {
        outcome: RunOutcome,
        counts: Counts,
        /// Why the run stopped early, if it did.
        reason: Option<String>,
        hint: Option<String>,
    },
}

impl Event {
    /// Returns the warning about a failure that does not end the run.
    pub fn warning(failure: Failure) -> Self {
        let hint = failure.hint.map(|hint| format!("; hint: {hint}")).unwrap_or_default();
        Self::Warning { message: format!("{}{hint}", failure.message) }
    }
}

/// The plan of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepPlanned {
    pub step: String,
    pub kind: String,
    pub title: String,
    pub outcome: Planned,
    pub certainty: Certainty,
    /// The steps that run first, if the plan of this step is provisional.
    pub waits_for: Vec<String>,
    pub changes: Vec<Description>,
    /// The kind's own numbers and dates.
    #[serde(default)]
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// The differences that the step does not repair, each with its consequence.
    #[serde(default)]
    pub drift: Vec<String>,
    pub reason: Option<String>,
    pub hint: Option<String>,
    /// The plan file's reason for the step, if the step has drifted, is blocked or has failed.
    #[serde(default)]
    pub why: Option<String>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
}

impl StepPlanned {
    /// Returns whether the step has nothing to do, even after the steps before it have run.
    pub fn is_in_order(&self) -> bool {
        self.outcome == Planned::Unchanged && self.certainty == Certainty::Exact
    }

    /// Returns whether the step has nothing to do now, but may have something to do after the steps before it.
    pub fn may_change(&self) -> bool {
        self.outcome == Planned::Unchanged && self.certainty == Certainty::Provisional
    }
}

#[cfg(test)]
impl StepPlanned {
    /// Creates the exact plan of a step without further details.
    pub fn of(step: &str, kind: &str, outcome: Planned) -> Self {
        Self {
            step: step.to_owned(),
            kind: kind.to_owned(),
            title: String::new(),
            outcome,
            certainty: Certainty::Exact,
            waits_for: Vec::new(),
            changes: Vec::new(),
            facts: serde_json::Map::new(),
            drift: Vec::new(),
            reason: None,
            hint: None,
            why: None,
            notes: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// The end of a step in an apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFinished {
    pub step: String,
    pub kind: String,
    pub outcome: Finished,
    /// The differences that the step does not repair, each with its consequence.
    #[serde(default)]
    pub drift: Vec<String>,
    pub reason: Option<String>,
    pub hint: Option<String>,
    /// The plan file's reason for the step, if the step has drifted, is blocked or has failed.
    #[serde(default)]
    pub why: Option<String>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
    /// The ids of the rescues of this step. `provision rescue restore ID` restores one.
    pub rescues: Vec<String>,
    /// The command that restores each of them.
    #[serde(default)]
    pub restore_commands: Vec<String>,
    /// The commands that bring back what `rescue restore` does not handle. For commits, they create a branch.
    #[serde(default)]
    pub ways_back: Vec<String>,
    /// What restoring the rescues undoes.
    #[serde(default)]
    pub restoring_undoes: Vec<String>,
}

impl StepFinished {
    /// Creates the end of a step without further details.
    pub fn of(step: &str, kind: &str, outcome: Finished) -> Self {
        Self {
            step: step.to_owned(),
            kind: kind.to_owned(),
            outcome,
            drift: Vec::new(),
            reason: None,
            hint: None,
            why: None,
            notes: Vec::new(),
            warnings: Vec::new(),
            rescues: Vec::new(),
            restore_commands: Vec::new(),
            ways_back: Vec::new(),
            restoring_undoes: Vec::new(),
        }
    }
}

/// A change that an interrupted run had started and not finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterruptedChange {
    pub step: String,
    pub action: Action,
    pub target: String,
    pub summary: String,
}

/// A run that was interrupted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterruptedRun {
    pub run: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub user: String,
    /// Empty if the run was between two changes.
    pub changes: Vec<InterruptedChange>,
    /// The follow-ups of the changes that it made or started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_ups: Vec<FollowUp>,
}

/// Who holds a lock, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub user: Option<String>,
    pub pid: Option<u32>,
    pub host: Option<String>,
    pub run: Option<String>,
    /// RFC 3339, UTC.
    pub since: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.user.as_deref().unwrap_or("another process"))?;
        let mut details = Vec::new();
        details.extend(self.pid.map(|pid| format!("pid {pid}")));
        details.extend(self.host.as_ref().map(|host| format!("host {host}")));
        details.extend(self.run.as_ref().map(|run| format!("run {run}")));
        if !details.is_empty() {
            write!(f, " ({})", details.join(", "))?;
        }
        self.since.as_ref().map_or(Ok(()), |since| write!(f, " since {since}"))
    }
}

/// What a person has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUp {
    /// The number of its open follow-up, once its step was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    pub step: String,
    pub reason: String,
    /// Empty if any of the project's services may be affected.
    pub services: Vec<String>,
    /// A shell command line. It is only shown, never run.
    pub command: String,
    /// The same command as a program and its arguments.
    #[serde(default)]
    pub argv: Vec<String>,
    /// The path of its subject: a compose file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// An open follow-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFollowUp {
    /// Its number in the list of the plan file.
    pub id: u32,
    /// The last run that added to it.
    pub run: String,
    /// The time of that run: RFC 3339, UTC.
    pub since: String,
    /// The steps whose changes caused it.
    pub steps: Vec<String>,
    /// The different reasons of these steps; `reason` has all of them.
    pub reasons: Vec<String>,
    #[serde(flatten)]
    pub follow_up: FollowUp,
}

/// The outcome of a step in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Planned {
    Unchanged,
    /// The target exists and was left alone, because the secret to compare it with is not set.
    Unchecked,
    Changes,
    /// Something differs that the step does not repair. Its other changes, if any, are still made.
    Drifted,
    /// Something prevents the step. Changes that are still listed do not depend on the obstacle, and are made.
    Blocked,
    /// The step could not be observed.
    Failed,
}

impl Planned {
    /// Returns its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Unchecked => "unchecked",
            Self::Changes => "changes",
            Self::Drifted => "drifted",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }
}

/// Whether apply makes exactly these changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    Exact,
    /// Other steps run first and may alter what was observed. The step is planned again after them.
    Provisional,
}

/// How one change went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOutcome {
    Changed,
    Failed,
}

impl ChangeOutcome {
    /// Returns the word for lists.
    pub fn word(self, partial: bool) -> &'static str {
        match self {
            Self::Changed => "done",
            Self::Failed if partial => "in part",
            Self::Failed => "failed",
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finished {
    Unchanged,
    /// As [`Planned::Unchecked`].
    Unchecked,
    Changed,
    /// It was not selected, or the run was stopped before it.
    Skipped,
    /// All its changes were made, but something differs that the step does not repair.
    Drifted,
    Blocked,
    Failed,
}

impl Finished {
    /// Returns its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Unchecked => "unchecked",
            Self::Changed => "changed",
            Self::Skipped => "skipped",
            Self::Drifted => "drifted",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    Ok,
    /// A plan has changes, or an apply left some of them undone.
    Changes,
    Failed,
}

/// The number of steps with each outcome. Each step is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub unchanged: usize,
    /// How many of the unchanged steps have a provisional plan: the steps before them may alter what they need.
    #[serde(skip_serializing_if = "is_zero")]
    pub may_change: usize,
    pub unchecked: usize,
    pub changes: usize,
    pub changed: usize,
    pub skipped: usize,
    pub drifted: usize,
    /// How many of the drifted steps have changes all the same.
    #[serde(skip_serializing_if = "is_zero")]
    pub drifted_in_part: usize,
    pub blocked: usize,
    /// How many of the blocked steps have changes all the same.
    #[serde(skip_serializing_if = "is_zero")]
    pub blocked_in_part: usize,
    pub failed: usize,
}

impl Counts {
    /// Returns the number of steps with changes in a plan, also of those that are blocked or drifted in part.
    pub fn with_changes(&self) -> usize {
        self.changes + self.blocked_in_part + self.drifted_in_part
    }

    /// Returns each count that is not zero, with its word. What needs attention comes first.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &'static str)> {
        let Self { unchanged, may_change, unchecked, changes, changed, skipped, drifted, blocked, failed, .. } = *self;
        let Self { blocked_in_part, drifted_in_part, .. } = *self;
        let counts = [
            (failed, "failed"),
            (blocked.saturating_sub(blocked_in_part), "blocked"),
            (blocked_in_part, "blocked in part"),
            (drifted.saturating_sub(drifted_in_part), "drifted"),
            (drifted_in_part, "drifted in part"),
            (changed, "changed"),
            (changes, "to change"),
            (may_change, "may change"),
            (unchecked, "unchecked"),
            (unchanged.saturating_sub(may_change), "in order"),
            (skipped, "skipped"),
        ];
        counts.into_iter().filter(|(count, _)| *count > 0)
    }
}

impl std::fmt::Display for Counts {
    /// Writes the counts as in `1 failed, 2 changed`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.parts().map(|(count, word)| format!("{count} {word}")).collect();
        f.write_str(&parts.join(", "))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// Receives events as they happen.
pub trait Sink: Send + Sync {
    /// Receives one event. Called once for each event, in order.
    fn event(&self, event: &Event);

    /// Checks that the events so far were recorded. The next change is made only if this succeeds.
    ///
    /// # Errors
    /// The events could not be recorded.
    fn ready(&self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<T: Sink + ?Sized> Sink for std::sync::Arc<T> {
    fn event(&self, event: &Event) {
        (**self).event(event);
    }

    fn ready(&self) -> Result<(), Failure> {
        (**self).ready()
    }
}
