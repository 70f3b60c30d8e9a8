//! `provision plan`

use super::args::PlanArguments;
use super::saved::Target;
use super::session::Session;
use super::{Error, Exit};
use crate::engine::event::{Event, Sink};

/// Shows what differs. Leaves no trace but the saved plan that was asked for.
pub async fn run(arguments: PlanArguments) -> Result<Exit, Error> {
    // What stands in its way is told before anybody waits for a plan.
    let target = arguments.out.as_deref().map(Target::find).transpose()?;
    let session = Session::open("plan", &arguments.run).await?;
    let planned = session.survey(false).await;
    let mut refused = None;
    if let Some(planned) = &planned {
        for follow_up in session.foresee(planned) {
            session.report.event(&Event::FollowUp(follow_up));
        }
        refused = target.as_ref().and_then(|target| session.save(target, planned).err());
    }
    let outcome = session.close(None, refused).await;
    Ok(match session.stop.signal() {
        Some(signal) => Exit::by_signal(signal),
        None => Exit::of(outcome, arguments.detailed_exitcode),
    })
}
