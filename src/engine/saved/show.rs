//! Shows a saved plan by the events of the run that made it.

use std::path::Path;

use super::{Saved, load};
use crate::engine::event::{Event, FORMAT, Sink};
use crate::engine::report::Report;
use crate::failure::Failure;
use crate::host::state::StateFolder;

/// Reports what the saved plan at `path` would do, with the events of the run that made it. If it cannot be applied any more,
/// that is a warning.
///
/// # Errors
/// The file cannot be read, is not as `plan --out` wrote it, belongs to another user, or is open to other users.
pub fn show_saved(path: &Path, folder: &StateFolder, sink: Box<dyn Sink>) -> Result<(), Failure> {
    let saved = load(path)?;
    let report = Report::new(sink);
    let body = saved.body.clone();
    report.event(&Event::RunStarted {
        format: FORMAT,
        command: "show".to_owned(),
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
    for event in &body.events {
        report.event(event);
    }
    report.event(&Event::RunFinished { outcome: report.outcome(), counts: report.counts(), reason: None, hint: None });
    Ok(())
}

impl Saved {
    /// Returns the same plan with its name and with the events that report it.
    pub fn telling(mut self, plan: &str, events: impl IntoIterator<Item = Event>) -> Self {
        self.body.plan = plan.to_owned();
        self.body.events = events.into_iter().collect();
        self
    }
}
