//! Plans the plan file that was written, before it is printed.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::civil::Date;

use super::request::NotAdopted;
use super::write::PlanText;
use crate::engine::event::{Event, Planned, Sink, StepPlanned};
use crate::engine::run::{self, Command, NotPrepared, Source, prepare};
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::plan_file::Selection;
use crate::resource::adopt::cannot;

/// Collects the plan of each step.
#[derive(Debug, Clone, Default)]
struct Collected(Arc<Mutex<Vec<StepPlanned>>>);

impl Sink for Collected {
    fn event(&self, event: &Event) {
        if let Event::StepPlanned(planned) = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(planned.clone());
        }
    }
}

/// Plans the plan file in an environment without its secrets.
///
/// # Errors
/// The plan shows anything other than that every step is in order.
pub async fn plans_empty(written: &PlanText, environment: Environment, as_of: Date) -> Result<(), NotAdopted> {
    let request = run::Request {
        command: Command::Plan,
        source: Source::of_input(written.text.clone().into_bytes(), None),
        selection: Selection::default(),
        vars: Default::default(),
        as_of: Some(as_of),
        environment,
    };
    let collected = Collected::default();
    let ended = match prepare(request, Box::new(collected.clone())).await {
        Ok(run) => run.plan(None).await,
        Err(NotPrepared::Failure(failure)) => return Err(failure.into()),
        Err(NotPrepared::Stopped(signal)) => return Err(NotAdopted::Stopped(signal)),
        Err(NotPrepared::Diagnostics(problems)) => {
            let failure = |problem: &crate::plan_file::Diagnostic| Failure {
                message: format!("the steps cannot be in one plan file: {}", problem.message),
                hint: problem.help.clone(),
            };
            return Err(problems.list.iter().map(failure).collect::<Vec<_>>().into());
        }
    };
    if let Some(signal) = ended.signal {
        return Err(NotAdopted::Stopped(signal));
    }
    let planned = std::mem::take(&mut *collected.0.lock().unwrap_or_else(PoisonError::into_inner));
    let mut failures = Vec::new();
    for (id, subject) in &written.steps {
        let Some(step) = planned.iter().find(|step| step.step == *id) else {
            failures.push(cannot(subject, Failure::new("its step was not planned")));
            continue;
        };
        failures.extend(not_in_order(step).map(|failure| cannot(subject, failure)));
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.into()) }
}

/// Returns why the step does not match the host, if it does not.
fn not_in_order(step: &StepPlanned) -> Option<Failure> {
    match step.outcome {
        Planned::Unchanged | Planned::Unchecked => None,
        Planned::Changes => {
            let changes: Vec<&str> = step.changes.iter().map(|change| change.summary.as_str()).collect();
            Some(
                Failure::new(format!("a plan would change it: {}", changes.join("; ")))
                    .hint("bring it into that state first, then adopt it again"),
            )
        }
        Planned::Drifted | Planned::Blocked | Planned::Failed => Some(Failure {
            message: step.reason.clone().unwrap_or_else(|| "a plan of it fails".to_owned()),
            hint: step.hint.clone(),
        }),
    }
}
