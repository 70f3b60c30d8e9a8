//! Reads earlier runs from their journals.

use crate::text::io_error_text;
use std::collections::BTreeSet;
use std::io::Write;

use serde::Serialize;

use super::record::{BadLine, ENDED, RUNNING, Record, RescueSteps, now, parse};
use crate::engine::event::{ChangeOutcome, Counts, FollowUp, InterruptedChange, InterruptedRun, RunOutcome};
use crate::failure::Failure;
use crate::host::fs::{Dir, escape_path};
use crate::host::machine;
use crate::host::state::{self, Access, Part, StateFolder};
use crate::resource::Action;

/// The maximum size of a journal, in bytes.
const MAX_JOURNAL: u64 = 64 << 20;

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummary {
    pub run: String,
    pub started: String,
    /// `None` if the run was interrupted or has not finished yet.
    pub finished: Option<String>,
    pub plan: String,
    pub file: String,
    pub saved: Option<String>,
    pub host: String,
    pub user: String,
    pub outcome: RunStatus,
    /// `None` until the run has finished.
    pub counts: Option<Counts>,
    pub reason: Option<String>,
    /// The changes that were made or failed, in order.
    pub changes: Vec<PastChange>,
    /// The changes that were started but not finished.
    pub unfinished: Vec<InterruptedChange>,
    /// The follow-ups of its changes.
    pub follow_ups: Vec<FollowUp>,
    #[serde(skip)]
    pub records: Vec<Record>,
}

impl RunSummary {
    /// Returns the steps of its plan file that keep rescues, if they were recorded.
    pub fn rescues(&self) -> Option<&RescueSteps> {
        self.records.iter().find_map(|record| match record {
            Record::RunStarted { rescues, .. } => rescues.as_deref(),
            _ => None,
        })
    }
}

/// A change of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PastChange {
    pub step: String,
    pub action: Action,
    pub target: String,
    /// The summary that the plan showed, with commits, fingerprints of keys, or columns.
    pub summary: String,
    pub outcome: ChangeOutcome,
    /// Whether it failed after a part of it was made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// How a run ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Ok,
    /// It left some changes undone.
    Changes,
    Failed,
    /// Its process is still running.
    Running,
    /// Its process ended before the run did.
    CutOff,
}

/// Returns all recorded runs, oldest first, and the problems of their files: invalid lines and files that cannot be
/// read.
///
/// # Errors
/// The state folder cannot be read or is not trusted.
pub fn past(folder: &StateFolder) -> Result<(Vec<RunSummary>, Vec<String>), Failure> {
    let Some(dir) = folder.existing(Part::Runs)? else { return Ok((Vec::new(), Vec::new())) };
    let (mut runs, mut wrong) = (Vec::new(), Vec::new());
    for name in state::names(&dir)? {
        if let Some((run, extension)) = name.split_once('.') {
            runs.extend(read(&dir, run, extension, &mut wrong));
        }
    }
    Ok((runs, wrong))
}

/// Returns the interrupted runs of the plan file at `file` on this host that no later run has recovered.
///
/// # Errors
/// As [`past`].
pub fn interrupted(folder: &StateFolder, file: &str) -> Result<(Vec<InterruptedRun>, Vec<String>), Failure> {
    let Some(dir) = folder.existing(Part::Runs)? else { return Ok((Vec::new(), Vec::new())) };
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    let host = machine::host_name().unwrap_or_default();
    for name in state::names(&dir)? {
        let Some(run) = name.strip_suffix(RUNNING).and_then(|name| name.strip_suffix('.')) else { continue };
        let past = read(&dir, run, RUNNING, &mut wrong);
        found.extend(
            past.filter(|past| past.outcome == RunStatus::CutOff && past.file == file && past.host == host).map(
                |past| InterruptedRun {
                    run: past.run,
                    started: past.started,
                    user: past.user,
                    changes: past.unfinished,
                    follow_ups: past.follow_ups,
                },
            ),
        );
    }
    Ok((found, wrong))
}

/// Records in the journals of interrupted runs that the run `by` has brought their plan file to convergence. A journal
/// that was interrupted before its first complete line, and so before any change, is closed as well.
///
/// # Errors
/// The state folder is not writable.
pub fn mark_recovered(folder: &StateFolder, runs: &[InterruptedRun], by: &str) -> Result<(), Failure> {
    let Some(dir) = folder.existing(Part::Runs)? else { return Ok(()) };
    for name in state::names(&dir)? {
        let Some(run) = name.strip_suffix(RUNNING).and_then(|name| name.strip_suffix('.')) else { continue };
        let Ok(Some(file)) = state::open(&dir, &name, Access::Read) else { continue };
        if state::is_locked(&file) {
            continue;
        }
        if runs.iter().any(|recovered| recovered.run == run) {
            append(&dir, &name, &Record::RunSettled { at: now(), by: by.to_owned() })?;
        } else if read(&dir, run, RUNNING, &mut Vec::new()).is_some() {
            continue;
        }
        state::rename(&dir, &name, &format!("{run}.{ENDED}"))?;
    }
    Ok(())
}

fn append(dir: &Dir, name: &str, record: &Record) -> Result<(), Failure> {
    let Some(mut file) = state::open(dir, name, Access::Append)? else { return Ok(()) };
    // The last line may be incomplete.
    let mut line = vec![b'\n'];
    line.extend(serde_json::to_vec(record).unwrap_or_default());
    line.push(b'\n');
    file.write_all(&line).and_then(|()| file.sync_data()).map_err(|error| {
        let path = escape_path(&dir.path_of(name.as_ref()));
        Failure::new(format!("cannot write {path}: {}", io_error_text(&error)))
    })
}

/// Removes the oldest journals beyond `kept`, except those of active runs. Ignores files that cannot be removed.
pub(super) fn prune(dir: &Dir, kept: usize) {
    let names = state::names(dir).unwrap_or_default();
    for name in names.iter().take(names.len().saturating_sub(kept)) {
        let running = name.ends_with(RUNNING)
            && state::open(dir, name, Access::Read).is_ok_and(|file| file.is_some_and(|file| state::is_locked(&file)));
        if !running {
            drop(state::remove(dir, name));
        }
    }
}

fn read(dir: &Dir, run: &str, extension: &str, wrong: &mut Vec<String>) -> Option<RunSummary> {
    let name = format!("{run}.{extension}");
    if ![RUNNING, ENDED].contains(&extension) {
        wrong.push(format!("{} is not a journal", escape_path(&dir.path_of(name.as_ref()))));
        return None;
    }
    // The lock is tested before the records are read, so that a run that ends in between does not look interrupted.
    let file = state::open(dir, &name, Access::Read).ok().flatten();
    let alive = extension == RUNNING && file.as_ref().is_some_and(state::is_locked);
    drop(file);
    let bytes = match state::read(dir, &name, MAX_JOURNAL) {
        Ok(bytes) => bytes?,
        Err(failure) => {
            wrong.push(failure.message);
            return None;
        }
    };
    let (records, damages) = parse(&bytes);
    let path = escape_path(&dir.path_of(name.as_ref()));
    wrong.extend(damages.into_iter().map(|BadLine { line, why }| format!("{path}:{line} is ignored: {why}")));
    let past = fold(run, records, alive);
    if past.is_none() && !bytes.is_empty() {
        wrong.push(format!("{path} is ignored: it is not the journal of that run"));
    }
    past
}

/// Summarises the records of a run. Returns `None` if they do not begin with the start of this run.
fn fold(id: &str, records: Vec<Record>, alive: bool) -> Option<RunSummary> {
    let mut found: Option<RunSummary> = None;
    let (mut expected, mut begun): (Vec<FollowUp>, BTreeSet<String>) = Default::default();
    for record in &records {
        if let Record::RunStarted { at, run, plan, file, saved, host, user, .. } = record
            && found.is_none()
            && run == id
        {
            found = Some(RunSummary {
                run: run.clone(),
                started: at.clone(),
                finished: None,
                plan: plan.clone(),
                file: file.clone(),
                saved: saved.clone(),
                host: host.clone(),
                user: user.clone(),
                outcome: if alive { RunStatus::Running } else { RunStatus::CutOff },
                counts: None,
                reason: None,
                changes: Vec::new(),
                unfinished: Vec::new(),
                follow_ups: Vec::new(),
                records: Vec::new(),
            });
            continue;
        }
        let past = found.as_mut()?;
        match record {
            Record::FollowUpsExpected { follow_ups, .. } => expected.extend(follow_ups.iter().cloned()),
            Record::FollowUp { follow_up, .. } => past.follow_ups.push(follow_up.clone()),
            Record::ChangeStarted { step, action, target, summary, .. } => {
                past.unfinished.push(InterruptedChange {
                    step: step.clone(),
                    action: *action,
                    target: target.clone(),
                    summary: summary.clone(),
                });
                begun.insert(step.clone());
            }
            // A step makes one change at a time, so this ends the step's only unfinished change.
            Record::ChangeFinished { step, action, target, summary, outcome, partial, .. } => {
                past.unfinished.retain(|change| change.step != *step);
                past.changes.push(PastChange {
                    step: step.clone(),
                    action: *action,
                    target: target.clone(),
                    summary: summary.clone(),
                    outcome: *outcome,
                    partial: *partial,
                });
            }
            Record::RunFinished { at, outcome, counts, reason } => {
                past.finished = Some(at.clone());
                past.counts = Some(*counts);
                past.reason.clone_from(reason);
                past.outcome = match outcome {
                    RunOutcome::Ok => RunStatus::Ok,
                    RunOutcome::Changes => RunStatus::Changes,
                    RunOutcome::Failed => RunStatus::Failed,
                };
            }
            _ => {}
        }
    }
    let mut past = found?;
    if past.finished.is_none() && past.follow_ups.is_empty() {
        past.follow_ups = expected.into_iter().filter(|follow_up| begun.contains(&follow_up.step)).collect();
    }
    Some(RunSummary { records, ..past })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(run: &str) -> Record {
        Record::RunStarted {
            at: "2026-03-01T12:00:00Z".into(),
            format: super::super::FORMAT,
            run: run.into(),
            plan: "small".into(),
            file: "/plan.yaml".into(),
            saved: None,
            version: "0.1.0".into(),
            host: "throwaway".into(),
            user: "ubuntu".into(),
            pid: 7,
            rescues: None,
        }
    }

    fn change(step: &str, finished: bool) -> Record {
        let (at, step, action) = ("2026-03-01T12:00:01Z".to_owned(), step.to_owned(), Action::Create);
        let (target, summary) = (format!("/{step}"), format!("create /{step}"));
        if finished {
            Record::ChangeFinished {
                at,
                step,
                action,
                target,
                summary,
                outcome: ChangeOutcome::Changed,
                partial: false,
            }
        } else {
            Record::ChangeStarted { at, step, action, target, summary }
        }
    }

    #[test]
    fn a_run_without_an_end_was_in_the_changes_that_it_had_begun() {
        let records = vec![started("a"), change("x", false), change("y", false), change("x", true), change("z", false)];
        let past = fold("a", records.clone(), false).unwrap();
        assert_eq!(past.outcome, RunStatus::CutOff);
        let steps: Vec<_> = past.unfinished.iter().map(|change| change.step.as_str()).collect();
        assert_eq!(steps, ["y", "z"]);
        assert_eq!(fold("a", records, true).unwrap().outcome, RunStatus::Running);
    }

    #[test]
    fn a_file_of_another_run_is_not_taken_for_this_one() {
        assert!(fold("a", vec![started("b"), change("x", false)], false).is_none());
        assert!(fold("a", vec![change("x", false), started("a")], false).is_none());
        assert!(fold("a", vec![], false).is_none());
    }

    #[test]
    fn the_oldest_runs_go_first_and_living_ones_stay() {
        let folder = crate::host::testing::folder();
        let state = StateFolder::at(folder.path().join("provision"));
        let dir = state.make(Part::Runs).unwrap();
        let path = |name: &str| folder.path().join("provision/runs").join(name);
        for name in ["1.running", "2.jsonl", "3.running", "4.jsonl", "5.jsonl"] {
            std::fs::write(path(name), "").unwrap();
        }
        let living = std::fs::File::open(path("1.running")).unwrap();
        assert_eq!(state::try_lock(&living), state::Locked::Mine);
        prune(&dir, 2);
        assert_eq!(state::names(&dir).unwrap(), ["1.running", "4.jsonl", "5.jsonl"]);
    }

    #[test]
    fn a_run_that_was_cut_off_before_it_began_is_put_to_rest_by_the_next() {
        let folder = crate::host::testing::folder();
        let state = StateFolder::at(folder.path().join("provision"));
        let dir = state.make(Part::Runs).unwrap();
        let path = |name: &str| folder.path().join("provision/runs").join(name);
        let mut whole = serde_json::to_vec(&started("3")).unwrap();
        whole.push(b'\n');
        for (name, bytes) in [("1.running", &b""[..]), ("2.running", &whole[..9]), ("3.running", &whole)] {
            std::fs::write(path(name), bytes).unwrap();
        }
        mark_recovered(&state, &[], "4").unwrap();
        assert_eq!(state::names(&dir).unwrap(), ["1.jsonl", "2.jsonl", "3.running"]);
        let cut_off = InterruptedRun {
            run: "3".into(),
            started: String::new(),
            user: String::new(),
            changes: Vec::new(),
            follow_ups: Vec::new(),
        };
        mark_recovered(&state, &[cut_off], "4").unwrap();
        let (runs, _) = past(&state).unwrap();
        let [run] = runs.try_into().unwrap();
        assert!(matches!(run.records.last(), Some(Record::RunSettled { by, .. }) if by == "4"));
    }
}
