//! A saved plan shown again: the events by which it was told when it was made.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Saved, load};
use crate::engine::event::{Certainty, Event, FORMAT, FollowUp, Planned, Sink};
use crate::engine::report::Report;
use crate::failure::Failure;
use crate::host::state::StateFolder;
use crate::resource::{Description, KIND_NAMES};

/// What is kept of an event. Free of secrets, as events are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "most of them are steps")]
pub(super) enum Told {
    StepPlanned {
        step: String,
        kind: String,
        title: String,
        outcome: Planned,
        certainty: Certainty,
        waits_for: Vec<String>,
        changes: Vec<Description>,
        facts: serde_json::Map<String, serde_json::Value>,
        drift: Vec<String>,
        reason: Option<String>,
        hint: Option<String>,
        why: Option<String>,
        notes: Vec<String>,
        warnings: Vec<String>,
    },
    FollowUp(FollowUp),
}

impl Told {
    /// Keeps what a reader of the plan is told; `None` for the other events.
    pub(super) fn of(event: Event) -> Option<Self> {
        Some(match event {
            Event::StepPlanned {
                step,
                kind,
                title,
                outcome,
                certainty,
                waits_for,
                changes,
                facts,
                drift,
                reason,
                hint,
                why,
                notes,
                warnings,
            } => Self::StepPlanned {
                step,
                kind: kind.to_owned(),
                title,
                outcome,
                certainty,
                waits_for,
                changes,
                facts,
                drift,
                reason,
                hint,
                why,
                notes,
                warnings,
            },
            Event::FollowUp(follow_up) => Self::FollowUp(follow_up),
            _ => return None,
        })
    }

    fn event(self) -> Event {
        match self {
            Self::StepPlanned {
                step,
                kind,
                title,
                outcome,
                certainty,
                waits_for,
                changes,
                facts,
                drift,
                reason,
                hint,
                why,
                notes,
                warnings,
            } => Event::StepPlanned {
                step,
                kind: KIND_NAMES.iter().find(|known| **known == kind).copied().unwrap_or("unknown"),
                title,
                outcome,
                certainty,
                waits_for,
                changes,
                facts,
                drift,
                reason,
                hint,
                why,
                notes,
                warnings,
            },
            Self::FollowUp(follow_up) => Event::FollowUp(follow_up),
        }
    }
}

/// Reports what the saved plan at `path` would do, by the events of the plan that it was made from. What would keep it from
/// being applied is a warning.
///
/// # Errors
/// It is not as `plan --out` left it, or others could have had their hands on it.
pub fn show_saved(path: &Path, folder: &StateFolder, sink: Box<dyn Sink>) -> Result<(), Failure> {
    let saved = load(path)?;
    let report = Report::new(sink);
    let body = saved.body.clone();
    report.event(&Event::RunStarted {
        format: FORMAT,
        command: "show",
        plan: body.plan.clone(),
        file: body.origin.file.clone(),
        run: body.id.clone(),
        host: body.origin.host.clone(),
        user: body.origin.user.clone(),
        as_of: body.flags.as_of.to_string(),
        saved: Some(body.id.clone()),
    });
    if let Err(failure) = saved.check_unused(folder) {
        report.event(&Event::Warning { message: failure.message });
    }
    for told in body.told {
        report.event(&told.event());
    }
    report.event(&Event::RunFinished { outcome: report.outcome(), counts: report.counts(), reason: None, hint: None });
    Ok(())
}

impl Saved {
    /// The same plan with its name and with the events that tell of it.
    pub fn telling(mut self, plan: &str, events: impl IntoIterator<Item = Event>) -> Self {
        self.body.plan = plan.to_owned();
        self.body.told = events.into_iter().filter_map(Told::of).collect();
        self
    }
}
