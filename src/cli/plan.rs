//! `provision plan`

use super::args::PlanArguments;
use super::{Error, Exit, inputs, metrics};
use crate::engine::run::{Command, prepare};
use crate::engine::saved::Target;

/// Shows what differs. Leaves no trace but the saved plan that was asked for.
pub async fn run(arguments: PlanArguments) -> Result<Exit, Error> {
    // What stands in its way is told before anybody waits for a plan.
    let target = arguments.out.as_deref().map(Target::find).transpose()?;
    let file = arguments.file.as_deref();
    let ended = metrics::with_sink(&arguments.run, Command::Plan, file, async |sink| {
        let request = inputs::request(Command::Plan, file, &arguments.run)?;
        if target.is_some() {
            request.source.require_name("--out")?;
        }
        Ok(prepare(request, sink).await?.plan(target.as_ref()).await)
    });
    Ok(Exit::of_run(ended.await?, arguments.detailed_exitcode))
}
