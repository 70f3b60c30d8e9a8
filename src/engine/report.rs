//! Derives the counts and the outcome of a run from its events, so that the exit code matches the output.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::event::{Certainty, Counts, Event, Finished, Planned, RunOutcome, Sink, StepFinished, StepPlanned};
use crate::failure::Failure;

/// Counts the events and passes them on.
pub struct Report {
    next: Box<dyn Sink>,
    steps: Mutex<BTreeMap<String, State>>,
    /// Whether a change was started.
    begun: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Planned(Planned, Certainty),
    Finished(Finished),
}

impl Report {
    /// Creates a report that passes its events on to `next`.
    pub fn new(next: Box<dyn Sink>) -> Self {
        Self { next, steps: Mutex::default(), begun: AtomicBool::new(false) }
    }

    /// Counts every step once, by its latest state.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for state in self.steps.lock().unwrap_or_else(PoisonError::into_inner).values() {
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
        let state = match event {
            Event::StepPlanned(StepPlanned { step, outcome, certainty, .. }) => {
                Some((step, State::Planned(*outcome, *certainty)))
            }
            Event::StepFinished(StepFinished { step, outcome, .. }) => Some((step, State::Finished(*outcome))),
            _ => None,
        };
        if matches!(event, Event::ChangeStarted { .. }) {
            self.begun.store(true, Ordering::SeqCst);
        }
        if let Some((step, state)) = state {
            self.steps.lock().unwrap_or_else(PoisonError::into_inner).insert(step.clone(), state);
        }
        self.next.event(event);
    }

    fn ready(&self) -> Result<(), Failure> {
        self.next.ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
