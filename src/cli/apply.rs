//! `provision apply`

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use super::args::ApplyArguments;
use super::session::Session;
use super::{Error, Exit};
use crate::engine::apply::apply;
use crate::engine::event::{Event, Finished, Planned, RunOutcome, Sink};
use crate::engine::survey::PlannedStep;
use crate::resource::Failure;

/// Shows the plan, asks, and makes its changes.
pub async fn run(arguments: ApplyArguments) -> Result<Exit, Error> {
    let session = Session::open("apply", &arguments.run).await?;
    let Some(planned) = session.survey().await else { return Ok(stopped(&session).await) };
    if let Some(failure) = session.reach.unserved() {
        let failure = Failure { message: format!("nothing was changed: {}", failure.message), ..failure };
        session.close(Some(RunOutcome::Failed), Some(failure)).await;
        return Ok(Exit::Failed);
    }
    let changes = planned.iter().any(|step| step.outcome() == Planned::Changes);
    if changes && !arguments.yes {
        match ask(&session).await {
            Answer::Yes => {}
            Answer::Stopped => return Ok(stopped(&session).await),
            Answer::No => {
                let failure = Failure::new("nothing was changed: the plan was not confirmed");
                session.close(Some(RunOutcome::Failed), Some(failure)).await;
                return Ok(Exit::Failed);
            }
            Answer::NoTerminal => {
                let failure = Failure::new("nothing was changed: there is no terminal to ask on")
                    .hint("apply with --yes makes the changes without asking");
                session.close(Some(RunOutcome::Failed), Some(failure)).await;
                return Ok(Exit::Failed);
            }
        }
    }
    carry_out(&session, planned).await;
    session.follow_up().await;
    if session.stop.signal().is_some() {
        return Ok(stopped(&session).await);
    }
    let outcome = session.close(None, None).await;
    Ok(Exit::of(outcome, false))
}

async fn carry_out(session: &Session, planned: Vec<PlannedStep>) {
    let sink: Arc<dyn Sink> = Arc::clone(&session.report) as Arc<dyn Sink>;
    for (id, kind) in &session.deselected {
        sink.event(&Event::StepFinished {
            step: id.clone(),
            kind,
            outcome: Finished::Skipped,
            reason: None,
            hint: None,
            why: None,
            notes: Vec::new(),
            warnings: Vec::new(),
            rescues: Vec::new(),
        });
    }
    apply(&session.reach, &session.steps, &session.order, planned, &sink, &session.stop).await;
}

/// Ends a run that a signal stopped, and says what is left.
async fn stopped(session: &Session) -> Exit {
    let signal = session.stop.signal().unwrap_or(2);
    let name = if signal == 2 { "SIGINT" } else { "SIGTERM" };
    let counts = session.report.counts();
    let left = counts.changes + counts.skipped.saturating_sub(session.deselected.len());
    let failure = Failure::new(format!("stopped by {name}; steps left to do: {left}"))
        .hint("run apply again to do them: what is done already is found and left alone");
    session.close(Some(RunOutcome::Failed), Some(failure)).await;
    Exit::by_signal(signal)
}

enum Answer {
    Yes,
    No,
    NoTerminal,
    Stopped,
}

async fn ask(session: &Session) -> Answer {
    if !std::io::stdin().is_terminal() {
        return Answer::NoTerminal;
    }
    let mut err = std::io::stderr();
    drop(write!(err, "\nMake these changes? [y/N] ").and_then(|()| err.flush()));
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    tokio::select! {
        line = line => match line {
            Ok(Ok(line)) if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Answer::Yes,
            _ => Answer::No,
        },
        () = session.stop.asked() => Answer::Stopped,
    }
}
