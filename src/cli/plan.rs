//! `provision plan`

use super::args::PlanArguments;
use super::{Error, Exit, inputs};
use crate::engine::run::{Command, prepare};
use crate::engine::saved::Target;

/// Shows what differs. Leaves no trace but the saved plan that was asked for.
pub async fn run(arguments: PlanArguments) -> Result<Exit, Error> {
    // What stands in its way is told before anybody waits for a plan.
    let target = arguments.out.as_deref().map(Target::find).transpose()?;
    let request = inputs::request(Command::Plan, arguments.file.as_deref(), &arguments.run)?;
    if target.is_some() {
        request.source.require_name("--out")?;
    }
    let run = prepare(request, inputs::sink(&arguments.run.format)).await?;
    Ok(Exit::of_run(run.plan(target.as_ref()).await, arguments.detailed_exitcode))
}
