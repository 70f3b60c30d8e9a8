//! Writes each event to the log too, so that a log is complete by itself.

use super::event::{ChangeOutcome, Counts, Event, Finished, Planned, RunOutcome, Sink, StepFinished, StepPlanned};
use crate::failure::Failure;
use crate::telemetry::spans;

/// Forwards events and records them.
pub struct EventLog {
    next: Box<dyn Sink>,
}

impl EventLog {
    /// Creates a sink that forwards its events to `next`.
    pub fn new(next: Box<dyn Sink>) -> Self {
        Self { next }
    }
}

impl Sink for EventLog {
    fn event(&self, event: &Event) {
        if spans::is_recording()
            && let Some((step, message)) = line(event)
        {
            spans::event(step, &message, needs_attention(event));
        }
        self.next.event(event);
    }

    fn ready(&self) -> Result<(), Failure> {
        self.next.ready()
    }
}

/// Returns whether a person has to look at what the event reports.
fn needs_attention(event: &Event) -> bool {
    match event {
        Event::Warning { .. } | Event::RunCutOff(_) => true,
        Event::StepPlanned(step) => matches!(step.outcome, Planned::Drifted | Planned::Blocked | Planned::Failed),
        Event::StepFinished(step) => matches!(step.outcome, Finished::Drifted | Finished::Blocked | Finished::Failed),
        Event::ChangeFinished { outcome, .. } => *outcome == ChangeOutcome::Failed,
        Event::RunFinished { outcome, .. } => *outcome == RunOutcome::Failed,
        _ => false,
    }
}

/// Returns the text of an event and the step that it is about. `None` for events whose content is in others.
fn line(event: &Event) -> Option<(Option<&str>, String)> {
    Some(match event {
        Event::RunStarted { command, plan, run, host, user, .. } => {
            (None, format!("{command} of {plan} on {host} as {user}, run {run}"))
        }
        Event::RunCutOff(run) => (None, format!("the run {} of {} was interrupted", run.run, run.started)),
        Event::RunWaiting { holder, targets } if targets.is_empty() => (None, format!("waiting for {holder}")),
        Event::RunWaiting { holder, targets } => {
            (None, format!("waiting for {holder}, which changes {}", targets.join(", ")))
        }
        Event::Warning { message } => (None, format!("warning: {message}")),
        Event::StepPlanned(StepPlanned { step, outcome, changes, reason, .. }) => {
            let changes = changes.iter().map(|change| change.summary.clone());
            let detail: Vec<String> = reason.clone().into_iter().chain(changes).collect();
            (Some(step), with_detail(outcome.name(), &detail))
        }
        Event::ChangeStarted { step, summary, .. } => (Some(step), format!("begins: {summary}")),
        Event::ChangeFinished { step, summary, outcome, partial, .. } => {
            (Some(step), format!("{}: {summary}", outcome.word(*partial)))
        }
        Event::StepFinished(StepFinished { step, outcome, reason, .. }) => {
            (Some(step), with_detail(outcome.name(), reason.as_slice()))
        }
        Event::StepProgress { step, text } => (Some(step), text.clone()),
        Event::PlanSaved { path, .. } => (None, format!("plan saved to {path}")),
        Event::FollowUp(follow_up) => {
            (Some(&follow_up.step), format!("next: {}: {}", follow_up.reason, follow_up.command))
        }
        Event::FollowUpOpen(open) => (None, format!("still open: {}", open.follow_up.command)),
        Event::RunFinished { counts, reason, .. } => {
            let ended = if *counts == Counts::default() { "ended".to_owned() } else { format!("ended: {counts}") };
            (None, with_detail(&ended, reason.as_slice()))
        }
        Event::FollowUpsExpected { .. } | Event::PlanFinished { .. } => return None,
    })
}

fn with_detail(text: &str, detail: &[String]) -> String {
    if detail.is_empty() { text.to_owned() } else { format!("{text}: {}", detail.join("; ")) }
}
