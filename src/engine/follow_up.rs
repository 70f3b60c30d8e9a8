//! Follow-ups: what a person has to do after the changes, because services may still use the replaced files and values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::event::FollowUp;
use crate::resource::Step;
use crate::resource::{AnyActual, AnyChange, Cause, Effect, Reaction};

/// Collects observations and changes, and derives the follow-ups from them.
#[derive(Debug, Default)]
pub struct FollowUps(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    /// By the id of the step.
    seen: BTreeMap<String, Seen>,
    changes: Vec<Made>,
}

#[derive(Debug)]
struct Seen {
    step: Step,
    actual: AnyActual,
    /// What the step's follow-ups are about, if it has any.
    subject: Option<PathBuf>,
    /// Whether the subject existed when the step was first observed. Nothing uses yet what this run creates.
    from_before: bool,
}

#[derive(Debug)]
struct Made {
    step: Step,
    change: AnyChange,
    /// The parts of the step's own subject that are outdated after the change.
    stale: Vec<String>,
}

impl FollowUps {
    /// Records an observation.
    pub fn record_observation(&self, step: &Step, actual: &AnyActual) {
        let subject = step.resource.subject(actual);
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from_before = notes.seen.get(&step.id).map_or(subject.is_some(), |seen| seen.from_before);
        notes.seen.insert(step.id.clone(), Seen { step: step.clone(), actual: actual.clone(), subject, from_before });
    }

    /// Records a change that was made.
    pub fn record_change(&self, step: &Step, change: &AnyChange) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = notes.made(step, change);
        notes.changes.push(made);
    }

    /// Returns whether any change was recorded.
    pub fn is_needed(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).changes.is_empty()
    }

    /// Returns the subjects that this run created. Nothing that runs was started from them.
    pub fn new_subjects(&self) -> Vec<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = notes.seen.values().filter(|seen| !seen.from_before);
        new.filter_map(|seen| Some(seen.subject.as_ref()?.display().to_string())).collect()
    }

    /// Returns the follow-ups of the changes that were made, one entry for each step and reason.
    pub fn of_made_changes(&self) -> Vec<FollowUp> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.follow_ups(&notes.changes)
    }

    /// Returns the follow-ups that these changes would have.
    pub fn of_planned_changes<'a>(&self, changes: impl Iterator<Item = (&'a Step, &'a AnyChange)>) -> Vec<FollowUp> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changes: Vec<Made> = changes.map(|(step, change)| notes.made(step, change)).collect();
        notes.follow_ups(&changes)
    }
}

impl Notes {
    fn made(&self, step: &Step, change: &AnyChange) -> Made {
        let stale = self.seen.get(&step.id).map(|seen| step.resource.stale(&seen.actual, change));
        Made { step: step.clone(), change: change.clone(), stale: stale.unwrap_or_default() }
    }

    fn follow_ups(&self, changes: &[Made]) -> Vec<FollowUp> {
        // If several steps have the same subject, only one of them reacts.
        let mut subjects: BTreeMap<&PathBuf, &Seen> = BTreeMap::new();
        for seen in self.seen.values().filter(|seen| seen.from_before) {
            subjects.extend(seen.subject.as_ref().map(|subject| (subject, seen)));
        }
        let mut ids: Vec<&str> = Vec::new();
        for made in changes {
            if !ids.contains(&made.step.id.as_str()) {
                ids.push(&made.step.id);
            }
        }
        let mut found = Vec::new();
        for id in ids {
            let own = self.seen.get(id).and_then(|seen| seen.subject.as_ref());
            let changes: Vec<&Made> = changes.iter().filter(|made| made.step.id == id).collect();
            let replaced = |path: &Path| {
                changes.iter().any(|made| made.step.resource.effect(&made.change, path) == Effect::Replaces)
            };
            let stale: Vec<String> = changes.iter().flat_map(|made| made.stale.iter().cloned()).collect();
            for (subject, seen) in &subjects {
                let stale = (own == Some(*subject)).then_some(stale.as_slice());
                let cause = Cause { replaced: &replaced, stale };
                let reactions = seen.step.resource.follow_ups(&seen.actual, &cause).into_iter();
                found.extend(reactions.map(|reaction| follow_up(id, subject, reaction)));
            }
        }
        found
    }
}

fn follow_up(step: &str, subject: &Path, reaction: Reaction) -> FollowUp {
    let Reaction { reason, services, argv, command } = reaction;
    FollowUp {
        id: None,
        step: step.to_owned(),
        reason,
        services,
        command,
        argv,
        subject: Some(subject.display().to_string()),
    }
}
