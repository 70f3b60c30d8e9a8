//! The follow-ups of a run: planned ones, those of made changes, and those of earlier runs that are still open.

use jiff::Timestamp;

use super::Run;
use crate::engine::event::{Event, FollowUp, Sink as _};
use crate::engine::journal;
use crate::engine::lock::time;
use crate::engine::open_follow_ups::OpenFollowUps;
use crate::engine::survey::PlannedStep;

impl Run {
    /// Observes the steps outside this run that know about services. If an observation fails, its services are not
    /// mentioned.
    pub(super) async fn observe_related(&self) {
        for step in &self.observed_only {
            tokio::select! {
                actual = self.targets.observe(step) => drop(actual),
                () = self.stop.asked() => return,
            }
        }
    }

    /// Returns the open follow-ups of earlier runs, with those that interrupted runs left. Reports a warning and returns `None` if
    /// they cannot be read.
    pub(super) fn open_follow_ups(&self) -> Option<OpenFollowUps> {
        // A state folder that cannot be read was reported at the start of the run.
        let (interrupted, _) = journal::interrupted(&self.folder, &self.inputs.origin.file).ok()?;
        let list = OpenFollowUps::load(&self.folder, &self.inputs.path, &interrupted);
        list.map_err(|failure| self.report.event(&Event::warning(failure))).ok()
    }

    /// Reports the follow-ups of the changes that were made, and the open follow-ups of earlier runs.
    pub(super) async fn follow_up(&self) {
        if self.targets.follow_ups().is_needed() {
            self.observe_related().await;
        }
        let mut left = self.targets.follow_ups().of_made_changes();
        // Read only now that the lock is held: the apply that was waited for may have added to it.
        let Some(stored) = self.open_follow_ups() else {
            left.into_iter().for_each(|follow_up| self.report.event(&Event::FollowUp(follow_up)));
            return;
        };
        let mut list = stored.clone();
        let run = self.targets.run();
        if self.report.has_begun() {
            list.close_about(&self.targets.follow_ups().new_subjects());
        }
        for follow_up in &mut left {
            follow_up.id = Some(list.add(follow_up.clone(), run, &time(Timestamp::now())));
        }
        if list.is_changed
            && let Err(failure) = list.store(&self.folder, &self.inputs.path)
        {
            // Only what is stored can be closed by its number.
            list = stored;
            left.iter_mut().for_each(|follow_up| follow_up.id = None);
            self.report.event(&Event::warning(failure));
        }
        let new: Vec<Option<u32>> = left.iter().map(|follow_up| follow_up.id).collect();
        left.into_iter().for_each(|follow_up| self.report.event(&Event::FollowUp(follow_up)));
        for open in list.current().into_iter().filter(|open| !new.contains(&Some(open.id))) {
            self.report.event(&Event::FollowUpOpen(open));
        }
    }

    /// Returns the follow-ups of the planned changes.
    pub(super) fn plan_follow_ups(&self, planned: &[PlannedStep]) -> Vec<FollowUp> {
        let steps = self.steps.iter().zip(planned);
        let changes = steps.flat_map(|(step, planned)| planned.changes().iter().map(move |change| (step, change)));
        self.targets.follow_ups().of_planned_changes(changes)
    }
}
