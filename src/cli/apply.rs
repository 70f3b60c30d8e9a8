//! `provision apply`

use std::time::Duration;

use super::args::{ApplyArguments, Format};
use super::confirm::confirm;
use super::{Error, Exit, inputs, metrics};
use crate::engine::lock::Wait;
use crate::engine::run::{Answer, Command, Question, prepare};
use crate::failure::Failure;
use crate::text::clean;

/// Shows the plan, asks for confirmation, and makes the changes.
pub async fn run(arguments: ApplyArguments) -> Result<Exit, Error> {
    let wait = match arguments.wait {
        None => Wait::No,
        Some(None) => Wait::Yes,
        Some(Some(seconds)) => Wait::AtMost(Duration::from_secs(seconds)),
    };
    if !arguments.yes && arguments.run.format.format() == Format::Markdown {
        let failure =
            Failure::new("apply cannot ask with --format markdown, because the summary is printed at the end");
        return Err(failure.hint("add --yes, or leave out --format markdown").into());
    }
    let file = arguments.file.as_deref();
    let ended = metrics::with_sink(&arguments.run, Command::Apply, file, async |sink| {
        let request = inputs::request(Command::Apply, file, &arguments.run)?;
        let run = prepare(request, sink).await?;
        Ok(if arguments.yes {
            run.apply(wait, async |_: Question<'_>| Answer::Yes).await
        } else {
            run.apply(wait, ask).await
        })
    });
    Ok(Exit::of_run(ended.await?, false))
}

async fn ask(question: Question<'_>) -> Answer {
    let Question { host, changes, stop } = question;
    let what = if changes == 1 { "this change".to_owned() } else { format!("these {changes} changes") };
    confirm(&format!("Apply {what} to {}?", clean(host)), stop).await
}
