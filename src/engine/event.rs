//! Events: the only thing that leaves the engine. Human text, JSON lines and the exit code are folds of them.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};

pub use crate::resource::{Action, Description};

/// The version of the JSON lines. Within a number no key is renamed or removed; new ones may come.
pub const FORMAT: u32 = 1;

/// One thing that happened. Free of secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event.
    RunStarted {
        format: u32,
        command: &'static str,
        /// The plan file's `name`.
        plan: String,
        /// The plan file's path as the user gave it.
        file: String,
        run: String,
        host: String,
        user: String,
        /// The date (UTC, `YYYY-MM-DD`) that periods are counted by.
        as_of: String,
        /// The id of the saved plan that is applied, where one is.
        saved: Option<String>,
    },
    /// An earlier run of the same plan file, by the same user, that never came to its end.
    RunCutOff(InterruptedRun),
    /// Another apply of the same plan file is waited for.
    RunWaiting {
        holder: Holder,
    },
    /// Something that needs a person's attention and belongs to no step.
    Warning {
        message: String,
    },
    /// What is to be done for one step.
    StepPlanned {
        step: String,
        kind: &'static str,
        title: String,
        outcome: Planned,
        certainty: Certainty,
        /// The steps whose changes come first, where the certainty is provisional.
        waits_for: Vec<String>,
        changes: Vec<Description>,
        /// The kind's own numbers and dates.
        facts: serde_json::Map<String, serde_json::Value>,
        /// The differences that the step does not repair, each with its consequence.
        drift: Vec<String>,
        reason: Option<String>,
        hint: Option<String>,
        /// Why the step exists, by the plan file, where it has drifted, is blocked or failed.
        why: Option<String>,
        notes: Vec<String>,
        warnings: Vec<String>,
    },
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
    },
    /// The last event of a step, on apply.
    StepFinished {
        step: String,
        kind: &'static str,
        outcome: Finished,
        /// The differences that the step does not repair, each with its consequence.
        drift: Vec<String>,
        reason: Option<String>,
        hint: Option<String>,
        /// Why the step exists, by the plan file, where it has drifted, is blocked or failed.
        why: Option<String>,
        notes: Vec<String>,
        warnings: Vec<String>,
        /// The ids of the rescues that keep what was taken out of the way: `provision rescue restore ID` brings it back.
        rescues: Vec<String>,
        /// Of each of them the command that brings it back.
        restore_commands: Vec<String>,
        /// Of each rescue that `rescue restore` does not take, the command that brings it back: commits get a branch.
        ways_back: Vec<String>,
    },
    /// How far a long piece of work has come. For people who wait: it is in no record and not among the JSON lines.
    StepProgress {
        step: String,
        text: String,
    },
    /// All that an apply is about to do was told; it asks, or goes on.
    PlanFinished {
        counts: Counts,
        /// How many changes are planned.
        changes: usize,
        /// What will be left to a person once they are made.
        follow_ups: Vec<FollowUp>,
    },
    /// The plan was written to a file that `apply` takes.
    PlanSaved {
        id: String,
        path: String,
    },
    /// What is left to a person once the step's changes are made; on plan, once they will be.
    FollowUp(FollowUp),
    /// The last event.
    RunFinished {
        outcome: RunOutcome,
        counts: Counts,
        /// Why the run stopped early, where it did.
        reason: Option<String>,
        hint: Option<String>,
    },
}

impl Event {
    /// The last event of a step that was not selected.
    pub fn deselected(step: &str, kind: &'static str) -> Self {
        Self::StepFinished {
            step: step.to_owned(),
            kind,
            outcome: Finished::Skipped,
            drift: Vec::new(),
            reason: None,
            hint: None,
            why: None,
            notes: Vec::new(),
            warnings: Vec::new(),
            rescues: Vec::new(),
            restore_commands: Vec::new(),
            ways_back: Vec::new(),
        }
    }
}

/// A change that a run was in when it was cut off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InterruptedChange {
    pub step: String,
    pub action: Action,
    pub target: String,
    pub summary: String,
}

/// A run that was cut off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InterruptedRun {
    pub run: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub user: String,
    /// None: it was between two changes.
    pub changes: Vec<InterruptedChange>,
}

/// Who holds a lock, as far as it can be told.
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

/// What is left to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    pub step: String,
    pub reason: String,
    /// Empty: whichever of the project's services it takes.
    pub services: Vec<String>,
    /// A shell's line. Nothing runs it but the reader.
    pub command: String,
    /// The same command as a program and its arguments.
    pub argv: Vec<String>,
}

/// What a plan says of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Planned {
    Unchanged,
    /// What is there is left alone, since the secret to compare it with is not given.
    Unchecked,
    Changes,
    /// Something differs that the step does not repair. Its other changes, where it has any, are made all the same.
    Drifted,
    /// It cannot be done as things are. Changes that are listed all the same do not depend on what stands in the way,
    /// and are made.
    Blocked,
    /// It could not be observed.
    Failed,
}

/// Whether apply does just this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    Exact,
    /// Other steps come first and may alter what was observed; the step is planned again after them.
    Provisional,
}

/// How one change went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOutcome {
    Changed,
    Failed,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finished {
    Unchanged,
    /// As [`Planned::Unchecked`].
    Unchecked,
    Changed,
    /// Not selected, or the run was stopped before it.
    Skipped,
    /// All its changes are made, and something differs that it does not repair.
    Drifted,
    Blocked,
    Failed,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    Ok,
    /// A plan has changes, or an apply left some undone.
    Changes,
    Failed,
}

/// How many steps ended how; each step is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub unchanged: usize,
    pub unchecked: usize,
    pub changes: usize,
    pub changed: usize,
    pub skipped: usize,
    pub drifted: usize,
    pub blocked: usize,
    pub failed: usize,
}

impl std::fmt::Display for Counts {
    /// `1 failed, 2 changed`: what needs attention first, and nothing that did not occur.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { unchanged, unchecked, changes, changed, skipped, drifted, blocked, failed } = *self;
        let counts = [
            (failed, "failed"),
            (blocked, "blocked"),
            (drifted, "drifted"),
            (changed, "changed"),
            (changes, "to change"),
            (unchecked, "unchecked"),
            (unchanged, "unchanged"),
            (skipped, "skipped"),
        ];
        let mut between = "";
        for (count, word) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{between}{count} {word}")?;
            between = ", ";
        }
        Ok(())
    }
}

/// Takes events as they happen.
pub trait Sink: Send + Sync {
    /// Called once for each event, in order.
    fn event(&self, event: &Event);

    /// Whether what was told so far is kept as it has to be: the next change is made only then.
    ///
    /// # Errors
    /// Why it is not.
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
