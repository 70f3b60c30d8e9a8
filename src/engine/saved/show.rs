//! Shows a saved plan by the events of the run that made it.

use std::path::Path;

use super::{Saved, load};
use crate::engine::event::{Event, FORMAT, Sink};
use crate::engine::report::Report;
use crate::failure::Failure;
use crate::host::state::StateFolder;

/// Reports what the saved plan at `path` would do, by the events of the plan that it was made from. What would keep it from
/// being applied is a warning.
///
/// # Errors
/// It is not as `plan --out` left it, or others could have had their hands on it.
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
    /// The same plan with its name and with the events that tell of it.
    pub fn telling(mut self, plan: &str, events: impl IntoIterator<Item = Event>) -> Self {
        self.body.plan = plan.to_owned();
        self.body.events = events.into_iter().collect();
        self
    }
}
