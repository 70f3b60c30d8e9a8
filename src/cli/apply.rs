//! `provision apply`

use std::sync::Arc;
use std::time::Duration;

use super::args::ApplyArguments;
use super::confirm::{Answer, confirm};
use super::session::Session;
use super::{Error, Exit};
use crate::engine::apply::apply;
use crate::engine::event::{Event, Finished, RunOutcome, Sink};
use crate::engine::lock::Wait;
use crate::engine::stop;
use crate::engine::survey::PlannedStep;
use crate::resource::Failure;
use crate::text::clean;

/// Shows the plan, asks, and makes its changes. One at a time for a plan file: the lock is held from before the first look
/// to the end. What has nothing to change leaves no trace; else the journal is begun first.
pub async fn run(arguments: ApplyArguments) -> Result<Exit, Error> {
    let session = Session::open("apply", &arguments.run).await?;
    let wait = match arguments.wait {
        None => Wait::No,
        Some(None) => Wait::Yes,
        Some(Some(seconds)) => Wait::AtMost(Duration::from_secs(seconds)),
    };
    let mut lock = match session.lock(wait).await {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(stopped(&session).await),
        Err(failure) => return Ok(refused(&session, failure).await),
    };
    let Some(planned) = session.survey(true).await else { return Ok(stopped(&session).await) };
    if let Some(failure) = session.reach.unserved() {
        return Ok(refused(&session, failure).await);
    }
    if planned.iter().any(PlannedStep::has_changes) {
        let changes = planned.iter().map(PlannedStep::planned_changes).sum();
        let (counts, follow_ups) = (session.report.counts(), session.foresee(&planned));
        session.report.event(&Event::PlanFinished { counts, changes, follow_ups });
        let answer = if arguments.yes { Answer::Yes } else { ask(&session, changes).await };
        let failure = match answer {
            Answer::Yes => session.begin(&mut lock).err(),
            Answer::Stopped => return Ok(stopped(&session).await),
            Answer::No => Some(Failure::new("the plan was not confirmed")),
            Answer::None => Some(Failure::new("the question was not answered")),
            Answer::NoTerminal => Some(
                Failure::new("there is no terminal to ask on").hint("use --yes to make the changes without a question"),
            ),
        };
        if let Some(failure) = failure {
            return Ok(refused(&session, failure).await);
        }
    }
    carry_out(&session, planned).await;
    session.follow_up().await;
    if session.stop.signal().is_some() {
        return Ok(stopped(&session).await);
    }
    if session.report.outcome() == RunOutcome::Ok {
        session.settle();
    }
    let outcome = session.close(None, None).await;
    drop(lock);
    Ok(Exit::of(outcome, false))
}

/// Ends a run that is not to be, before anything was changed.
async fn refused(session: &Session, failure: Failure) -> Exit {
    session.close(Some(RunOutcome::Failed), Some(unchanged(failure))).await;
    Exit::Failed
}

/// Says first what matters most of a run that ends before its first change.
fn unchanged(failure: Failure) -> Failure {
    Failure { message: format!("nothing was changed: {}", failure.message), ..failure }
}

async fn carry_out(session: &Session, planned: Vec<PlannedStep>) {
    let sink: Arc<dyn Sink> = Arc::clone(&session.report) as Arc<dyn Sink>;
    for (id, kind) in &session.deselected {
        sink.event(&Event::StepFinished {
            step: id.clone(),
            kind,
            outcome: Finished::Skipped,
            drift: Vec::new(),
            reason: None,
            hint: None,
            why: None,
            notes: Vec::new(),
            warnings: Vec::new(),
            rescues: Vec::new(),
            ways_back: Vec::new(),
        });
    }
    let (graph, admit) = (&session.graph, &session.admit);
    apply(&session.reach, &session.steps, graph, planned, admit, &sink, &session.stop).await;
}

/// Ends a run that a signal stopped, and says what is left.
async fn stopped(session: &Session) -> Exit {
    let signal = session.stop.signal().unwrap_or(2);
    let name = stop::name(signal);
    let counts = session.report.counts();
    let left = counts.changes + counts.skipped.saturating_sub(session.deselected.len());
    let failure = if session.report.has_begun() {
        Failure::new(format!("stopped by {name}; steps left to do: {left}"))
            .hint("run apply again to do them: what is done already is found and left alone")
    } else {
        unchanged(Failure::new(format!("stopped by {name}")))
    };
    session.close(Some(RunOutcome::Failed), Some(failure)).await;
    Exit::by_signal(signal)
}

async fn ask(session: &Session, changes: usize) -> Answer {
    let what = if changes == 1 { "this change".to_owned() } else { format!("these {changes} changes") };
    confirm(&format!("Apply {what} to {}?", clean(session.host())), &session.stop).await
}
