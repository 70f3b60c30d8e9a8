//! `provision plan`

use super::args::PlanArguments;
use super::{Error, Exit, inputs, metrics};
use crate::engine::run::{Command, prepare};
use crate::engine::saved::Target;

/// Shows the differences. Leaves no trace except the requested saved plan.
pub async fn run(arguments: PlanArguments) -> Result<Exit, Error> {
    // Problems with the target file are reported before the plan is made.
    let target = arguments.out.as_deref().map(Target::find).transpose()?;
    let file = arguments.file.as_deref();
    let ended = metrics::with_sink(&arguments.run, Command::Plan, file, async |sink| {
        let request = inputs::request(Command::Plan, file, &arguments.run)?;
        if target.is_some() {
            request.source.require_name("--out")?;
            request.source.require_no_files()?;
        }
        Ok(prepare(request, sink).await?.plan(target.as_ref()).await)
    });
    Ok(Exit::of_run(ended.await?, arguments.detailed_exitcode))
}
