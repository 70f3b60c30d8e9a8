//! Handles hosts that change while a plan is made and applied: what appears later is left to the next apply.

use std::time::SystemTime;

use crate::resource::{AnyChange, Description, Diff};

/// Keeps the changes of `diff` that were planned. A change that only concerns entries newer than `since` is left out
/// with a warning.
///
/// # Errors
/// Returns the first change that was not planned and concerns older entries too.
pub fn keep_planned(
    diff: &mut Diff<AnyChange>,
    planned: &[AnyChange],
    since: SystemTime,
) -> Result<(), Box<AnyChange>> {
    let was_planned = |change: &AnyChange| planned.iter().any(|planned| change.is_left_of(planned));
    if let Some(other) = diff.changes.iter().find(|change| !was_planned(change) && !change.is_newer_than(since)) {
        return Err(Box::new(other.clone()));
    }
    leave_out(diff, |change| !was_planned(change));
    Ok(())
}

/// Leaves out the changes of `diff` that only concern entries newer than `since`, with a warning.
pub fn leave_out_newer(diff: &mut Diff<AnyChange>, since: SystemTime) {
    leave_out(diff, |change| change.is_newer_than(since));
}

fn leave_out(diff: &mut Diff<AnyChange>, newer: impl Fn(&AnyChange) -> bool) {
    let (left, kept) = std::mem::take(&mut diff.changes).into_iter().partition(|change| newer(change));
    diff.changes = kept;
    let left: Vec<AnyChange> = left;
    diff.warnings.extend(left.iter().map(|change| {
        let Description { target, summary, .. } = change.describe();
        format!("entries that appeared in {target} after it was planned are left to the next apply: {summary}")
    }));
}
