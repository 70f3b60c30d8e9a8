//! Writes each event to the log too, so that a log is complete by itself.

use super::event::{ChangeOutcome, Event, Finished, Planned, Sink, StepFinished, StepPlanned};
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
            spans::event(step, &message);
        }
        self.next.event(event);
    }

    fn ready(&self) -> Result<(), Failure> {
        self.next.ready()
    }
}

/// Returns the text of an event and the step that it is about. `None` for events that only repeat others.
fn line(event: &Event) -> Option<(Option<&str>, String)> {
    Some(match event {
        Event::RunStarted { command, plan, run, host, user, .. } => {
            (None, format!("{command} of {plan} on {host} as {user}, run {run}"))
        }
        Event::RunCutOff(run) => (None, format!("the run {} of {} was interrupted", run.run, run.started)),
        Event::RunWaiting { holder } => (None, format!("waiting for {holder}")),
        Event::Warning { message } => (None, format!("warning: {message}")),
        Event::StepPlanned(StepPlanned { step, outcome, changes, reason, .. }) => {
            let changes = changes.iter().map(|change| change.summary.clone());
            let detail: Vec<String> = reason.clone().into_iter().chain(changes).collect();
            (Some(step), with_detail(planned(*outcome), &detail))
        }
        Event::ChangeStarted { step, summary, .. } => (Some(step), format!("begins: {summary}")),
        Event::ChangeFinished { step, summary, outcome, .. } => {
            let word = if *outcome == ChangeOutcome::Changed { "done" } else { "failed" };
            (Some(step), format!("{word}: {summary}"))
        }
        Event::StepFinished(StepFinished { step, outcome, reason, .. }) => {
            (Some(step), with_detail(finished(*outcome), reason.as_slice()))
        }
        Event::StepProgress { step, text } => (Some(step), text.clone()),
        Event::PlanSaved { path, .. } => (None, format!("plan saved to {path}")),
        Event::FollowUp(follow_up) => {
            (Some(&follow_up.step), format!("next: {}: {}", follow_up.reason, follow_up.command))
        }
        Event::FollowUpOpen(open) => (None, format!("still open: {}", open.follow_up.command)),
        Event::RunFinished { counts, reason, .. } => {
            (None, with_detail(&format!("ended: {counts}"), reason.as_slice()))
        }
        Event::FollowUpsExpected { .. } | Event::PlanFinished { .. } => return None,
    })
}

fn with_detail(text: &str, detail: &[String]) -> String {
    if detail.is_empty() { text.to_owned() } else { format!("{text}: {}", detail.join("; ")) }
}

fn planned(outcome: Planned) -> &'static str {
    match outcome {
        Planned::Unchanged => "unchanged",
        Planned::Unchecked => "unchecked",
        Planned::Changes => "to change",
        Planned::Drifted => "drifted",
        Planned::Blocked => "blocked",
        Planned::Failed => "failed",
    }
}

fn finished(outcome: Finished) -> &'static str {
    match outcome {
        Finished::Unchanged => "unchanged",
        Finished::Unchecked => "unchecked",
        Finished::Changed => "changed",
        Finished::Skipped => "skipped",
        Finished::Drifted => "drifted",
        Finished::Blocked => "blocked",
        Finished::Failed => "failed",
    }
}
