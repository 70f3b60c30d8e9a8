//! Events: the only thing that leaves the engine. Human text, JSON lines and the exit code are folds of them.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};

pub use crate::resource::{Action, Description};

/// The version of the JSON lines. Within a number no key is renamed or removed; new ones may come.
pub const FORMAT: u32 = 1;

/// One thing that happened. Free of secrets.
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
    },
    /// The last event of a step, on apply.
    StepFinished(StepFinished),
    /// How far a long piece of work has come. For people who wait: it is in no record and not among the JSON lines.
    StepProgress {
        step: String,
        text: String,
    },
    /// What the changes of a step, which are made next, will leave to a person. For the journal alone, where it outlives
    /// a run that is interrupted.
    FollowUpsExpected {
        follow_ups: Vec<FollowUp>,
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
    /// A follow-up of an earlier run that nobody has reported as done.
    FollowUpOpen(OpenFollowUp),
    /// The last event.
    RunFinished {
        outcome: RunOutcome,
        counts: Counts,
        /// Why the run stopped early, where it did.
        reason: Option<String>,
        hint: Option<String>,
    },
}

/// What is to be done for one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepPlanned {
    pub step: String,
    pub kind: String,
    pub title: String,
    pub outcome: Planned,
    pub certainty: Certainty,
    /// The steps whose changes come first, where the certainty is provisional.
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
    /// Why the step exists, by the plan file, where it has drifted, is blocked or failed.
    #[serde(default)]
    pub why: Option<String>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
}

/// How a step ended, on apply.
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
    /// Why the step exists, by the plan file, where it has drifted, is blocked or failed.
    #[serde(default)]
    pub why: Option<String>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
    /// The ids of the rescues that keep what was taken out of the way: `provision rescue restore ID` brings it back.
    pub rescues: Vec<String>,
    /// Of each of them the command that brings it back.
    #[serde(default)]
    pub restore_commands: Vec<String>,
    /// Of each rescue that `rescue restore` does not take, the command that brings it back: commits get a branch.
    #[serde(default)]
    pub ways_back: Vec<String>,
}

impl StepFinished {
    /// The end of a step of which nothing more is known.
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
        }
    }
}

/// A change that a run was in when it was cut off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterruptedChange {
    pub step: String,
    pub action: Action,
    pub target: String,
    pub summary: String,
}

/// A run that was cut off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterruptedRun {
    pub run: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub user: String,
    /// None: it was between two changes.
    pub changes: Vec<InterruptedChange>,
    /// What the changes that it made or had begun leave to a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_ups: Vec<FollowUp>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUp {
    /// The number of the open follow-up that stands for it, once its step was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    pub step: String,
    pub reason: String,
    /// Empty: whichever of the project's services it takes.
    pub services: Vec<String>,
    /// A shell's line. Nothing runs it but the reader.
    pub command: String,
    /// The same command as a program and its arguments.
    #[serde(default)]
    pub argv: Vec<String>,
    /// The path of what it is about: a compose file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// A follow-up that nobody has reported as done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFollowUp {
    /// Its number among those of the plan file.
    pub id: u32,
    /// The last run that left it.
    pub run: String,
    /// When that was: RFC 3339, UTC.
    pub since: String,
    /// The steps whose changes left it.
    pub steps: Vec<String>,
    #[serde(flatten)]
    pub follow_up: FollowUp,
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
