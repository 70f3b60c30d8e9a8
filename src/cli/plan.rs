//! `provision plan`

use super::args::PlanArguments;
use super::session::Session;
use super::{Error, Exit};

/// Shows what differs. Leaves no trace.
pub async fn run(arguments: PlanArguments) -> Result<Exit, Error> {
    let session = Session::open("plan", &arguments.run).await?;
    if let Some(planned) = session.survey().await {
        session.foresee(&planned);
    }
    let outcome = session.close(None, None).await;
    Ok(match session.stop.signal() {
        Some(signal) => Exit::by_signal(signal),
        None => Exit::of(outcome, arguments.detailed_exitcode),
    })
}
