//! Derives the counts and the outcome of a run from its events, so that the exit code matches the output.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::event::{
    Certainty, ChangeOutcome, Counts, Event, Finished, Planned, RunOutcome, Sink, StepFinished, StepPlanned,
};
use crate::failure::Failure;

/// Counts the events and passes them on.
pub struct Report {
    next: Box<dyn Sink>,
    steps: Mutex<BTreeMap<String, Latest>>,
    /// Whether a change was started.
    begun: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Planned(Planned, Certainty),
    Finished(Finished),
}

/// What is known of a step.
#[derive(Debug, Clone, Copy, Default)]
struct Latest {
    state: Option<State>,
    /// Whether one of its changes was made.
    is_changed: bool,
    /// Whether it has changes: in its plan, or at its end those that were made.
    has_changes: bool,
}

impl Report {
    /// Creates a report that passes its events on to `next`.
    pub fn new(next: Box<dyn Sink>) -> Self {
        Self { next, steps: Mutex::default(), begun: AtomicBool::new(false) }
    }

    /// Counts every step once, by its latest state.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for latest in self.steps.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let Latest { state: Some(state), has_changes, .. } = latest else { continue };
            if matches!(state, State::Planned(Planned::Unchanged, Certainty::Provisional)) {
                counts.may_change += 1;
            }
            *match state {
                State::Planned(Planned::Unchanged, _) | State::Finished(Finished::Unchanged) => &mut counts.unchanged,
                State::Planned(Planned::Unchecked, _) | State::Finished(Finished::Unchecked) => &mut counts.unchecked,
                State::Planned(Planned::Changes, _) => &mut counts.changes,
                State::Finished(Finished::Changed) => &mut counts.changed,
                State::Finished(Finished::Skipped) => &mut counts.skipped,
                State::Planned(Planned::Drifted, _) | State::Finished(Finished::Drifted) => &mut counts.drifted,
                State::Planned(Planned::Blocked, _) | State::Finished(Finished::Blocked) => &mut counts.blocked,
                State::Planned(Planned::Failed, _) | State::Finished(Finished::Failed) => &mut counts.failed,
            } += 1;
            match state {
                State::Planned(Planned::Drifted, _) | State::Finished(Finished::Drifted) if *has_changes => {
                    counts.drifted_in_part += 1;
                }
                State::Planned(Planned::Blocked, _) | State::Finished(Finished::Blocked) if *has_changes => {
                    counts.blocked_in_part += 1;
                }
                _ => {}
            }
        }
        counts
    }

    /// Returns whether anything may have been changed.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Returns the outcome of the run so far.
    pub fn outcome(&self) -> RunOutcome {
        match self.counts() {
            Counts { drifted: 0, blocked: 0, failed: 0, changes: 0, .. } => RunOutcome::Ok,
            Counts { drifted: 0, blocked: 0, failed: 0, .. } => RunOutcome::Changes,
            _ => RunOutcome::Failed,
        }
    }
}

impl Sink for Report {
    fn event(&self, event: &Event) {
        if matches!(event, Event::ChangeStarted { .. }) {
            self.begun.store(true, Ordering::SeqCst);
        }
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StepPlanned(StepPlanned { step, outcome, certainty, changes, .. }) => {
                let latest = steps.entry(step.clone()).or_default();
                latest.state = Some(State::Planned(*outcome, *certainty));
                latest.has_changes = !changes.is_empty();
            }
            Event::ChangeFinished { step, outcome: ChangeOutcome::Changed, .. } => {
                steps.entry(step.clone()).or_default().is_changed = true;
            }
            Event::StepFinished(StepFinished { step, outcome, .. }) => {
                let latest = steps.entry(step.clone()).or_default();
                latest.state = Some(State::Finished(*outcome));
                // A step that was blocked by another has made none of its changes.
                latest.has_changes = latest.is_changed;
            }
            _ => {}
        }
        drop(steps);
        self.next.event(event);
    }

    fn ready(&self) -> Result<(), Failure> {
        self.next.ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Action, Description};

    struct NullSink;

    impl Sink for NullSink {
        fn event(&self, _: &Event) {}
    }

    fn finished(step: &str, outcome: Finished) -> Event {
        Event::StepFinished(StepFinished::of(step, "period_tables", outcome))
    }

    #[test]
    fn a_step_that_may_change_is_not_in_order() {
        let report = Report::new(Box::new(NullSink));
        let unchanged = StepPlanned::of("one", "file", Planned::Unchanged);
        report.event(&Event::StepPlanned(unchanged.clone()));
        report.event(&Event::StepPlanned(StepPlanned {
            step: "two".to_owned(),
            certainty: Certainty::Provisional,
            ..unchanged
        }));
        assert_eq!(report.counts(), Counts { unchanged: 2, may_change: 1, ..Counts::default() });
        assert_eq!(report.counts().to_string(), "1 may change, 1 in order");
        report.event(&finished("two", Finished::Unchanged));
        assert_eq!(report.counts().to_string(), "2 in order");
    }

    #[test]
    fn a_step_that_is_blocked_in_part_has_changes() {
        let report = Report::new(Box::new(NullSink));
        let change = Description {
            action: Action::Update,
            target: "/srv/app".to_owned(),
            summary: "set owner root (0)".to_owned(),
            before: serde_json::Value::Null,
            after: serde_json::Value::Null,
            risk: None,
            diff: None,
        };
        let changes = vec![change];
        for (step, outcome, changes) in [
            ("one", Planned::Blocked, changes.clone()),
            ("two", Planned::Blocked, Vec::new()),
            ("three", Planned::Drifted, changes),
        ] {
            report.event(&Event::StepPlanned(StepPlanned { changes, ..StepPlanned::of(step, "directory", outcome) }));
        }
        let counts = report.counts();
        assert_eq!(counts.to_string(), "1 blocked, 1 blocked in part, 1 drifted in part");
        assert_eq!((counts.blocked, counts.drifted, counts.with_changes()), (2, 1, 2));
        let made = |step: &str, outcome| Event::ChangeFinished {
            step: step.to_owned(),
            action: Action::Update,
            target: "/srv/app".to_owned(),
            summary: "set owner root (0)".to_owned(),
            outcome,
            partial: false,
        };
        report.event(&made("one", ChangeOutcome::Changed));
        report.event(&finished("one", Finished::Blocked));
        // It waits for a step that has failed.
        report.event(&finished("three", Finished::Blocked));
        assert_eq!(report.counts().to_string(), "2 blocked, 1 blocked in part");
    }

    #[test]
    fn drift_has_its_own_count_and_fails_the_run() {
        let report = Report::new(Box::new(NullSink));
        report.event(&finished("one", Finished::Changed));
        assert_eq!(report.outcome(), RunOutcome::Ok);
        report.event(&finished("two", Finished::Drifted));
        assert_eq!(report.counts(), Counts { changed: 1, drifted: 1, ..Counts::default() });
        assert_eq!(
            (report.counts().to_string().as_str(), report.outcome()),
            ("1 drifted, 1 changed", RunOutcome::Failed)
        );
        // Records of older versions do not have this count.
        let old = r#"{"unchanged":1,"changes":0,"changed":0,"skipped":0,"blocked":0,"failed":0}"#;
        assert_eq!(serde_json::from_str::<Counts>(old).unwrap().unchanged, 1);
    }
}
