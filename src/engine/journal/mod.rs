//! The journal records each run that changes something, with its steps and changes, as JSON lines in the user's state
//! folder.
//!
//! Each run has its own file, so runs never mix. The file is `ID.running` from before the first change until the run
//! ends, then `ID.jsonl`. A run holds a lock on its file, so a `running` file without a lock belongs to an interrupted
//! run. A change is made only after its record has reached the disk. A run with nothing to change writes nothing.

mod past;
mod record;

use crate::text::{io_error_text, storage_hint};
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use past::{PastChange, RunStatus, RunSummary, interrupted, mark_recovered, past};
pub use record::{BadLine, FORMAT, Record, RescueStep, RescueSteps, parse};
use record::{ENDED, RUNNING, now};

use super::event::{Event, Sink, StepFinished, StepPlanned};
use crate::failure::Failure;
use crate::host::fs::{Dir, escape_path};
use crate::host::state::{self, Access, Locked, Part, StateFolder};

/// The number of runs that are kept. The oldest are removed first.
pub const MAX_RUNS: usize = 500;

/// Records the events of one run and passes them on.
pub struct Journal {
    next: Box<dyn Sink>,
    state: Mutex<State>,
}

struct State {
    /// The records from before the file was opened.
    heard: Vec<Record>,
    writer: Option<Writer>,
    /// Why no more records can be written.
    failure: Option<Failure>,
}

/// A run's open file.
struct Writer {
    dir: Dir,
    run: String,
    file: File,
    /// Whether the last write failed and may have left part of a line.
    torn: bool,
}

impl Journal {
    /// Creates the journal of the run that `started` describes.
    pub fn new(started: Record, next: Box<dyn Sink>) -> Self {
        Self { next, state: Mutex::new(State { heard: vec![started], writer: None, failure: None }) }
    }

    /// Creates the run's file and writes the records so far. Called when there is a change to make.
    ///
    /// # Errors
    /// The file cannot be created, written or synced.
    pub fn open(&self, folder: &StateFolder, run: &str) -> Result<(), Failure> {
        let mut state = self.state();
        let dir = folder.make(Part::Runs)?;
        past::prune(&dir, MAX_RUNS - 1);
        let name = format!("{run}.{RUNNING}");
        let file = state::open(&dir, &name, Access::New)?
            .ok_or_else(|| Failure::new(format!("{} exists already", escape_path(&dir.path_of(name.as_ref())))))?;
        // The only other process that can have opened the file is a reader that briefly tests its lock.
        for _ in 0..1000 {
            if state::try_lock(&file) != Locked::Theirs {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let mut writer = Writer { dir, run: run.to_owned(), file, torn: false };
        let heard = std::mem::take(&mut state.heard);
        if let Err(failure) = writer.write(&heard, true).and_then(|()| state::sync(&writer.dir)) {
            // Nothing was changed, so there is no run to record.
            drop(state::remove(&writer.dir, &name));
            return Err(failure);
        }
        state.writer = Some(writer);
        Ok(())
    }

    /// Returns why the run can no longer be recorded, if that is the case.
    pub fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Journal {
    fn event(&self, event: &Event) {
        if let Some(record) = record_of(event) {
            self.state().keep(record);
        }
        self.next.event(event);
    }

    fn ready(&self) -> Result<(), Failure> {
        self.failure().map_or_else(|| self.next.ready(), Err)
    }
}

impl State {
    fn keep(&mut self, record: Record) {
        let Some(writer) = &mut self.writer else {
            self.heard.push(record);
            return;
        };
        // The other records reach the disk with the next record of a change, or of the end of the run.
        let sync = matches!(
            record,
            Record::RunStarted { .. }
                | Record::ChangeStarted { .. }
                | Record::ChangeFinished { .. }
                | Record::RunFinished { .. }
                | Record::RunSettled { .. }
        );
        let ended = matches!(record, Record::RunFinished { .. });
        let mut kept = writer.write(&[record], sync);
        if ended {
            kept = kept.and_then(|()| writer.end());
        }
        if let Err(failure) = kept {
            self.failure.get_or_insert(failure);
        }
        if ended {
            self.writer = None;
        }
    }
}

impl Writer {
    /// Appends whole lines with a single write.
    fn write(&mut self, records: &[Record], sync: bool) -> Result<(), Failure> {
        let mut lines = if self.torn { vec![b'\n'] } else { Vec::new() };
        for record in records {
            serde_json::to_writer(&mut lines, record).map_err(|error| self.failed(&error.into()))?;
            lines.push(b'\n');
        }
        self.torn = true;
        self.file.write_all(&lines).map_err(|error| self.failed(&error))?;
        self.torn = false;
        if sync {
            self.file.sync_data().map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Failure> {
        state::rename(&self.dir, &format!("{}.{RUNNING}", self.run), &format!("{}.{ENDED}", self.run))?;
        state::sync(&self.dir)
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        let path = self.dir.path_of(format!("{}.{RUNNING}", self.run).as_ref());
        let hint = storage_hint(error, "check that file system, then run apply again");
        Failure::new(format!("cannot record the run in {}: {}", escape_path(&path), io_error_text(error))).hint(hint)
    }
}

/// Returns the record of an event, or `None` for events that are not recorded.
fn record_of(event: &Event) -> Option<Record> {
    let at = now();
    Some(match event.clone() {
        Event::StepPlanned(StepPlanned { step, kind, outcome, changes, reason, .. }) => {
            let changes = changes.into_iter().map(|change| change.summary).collect();
            Record::StepPlanned { at, step, kind, outcome, changes, reason }
        }
        Event::ChangeStarted { step, action, target, summary } => {
            Record::ChangeStarted { at, step, action, target, summary }
        }
        Event::ChangeFinished { step, action, target, summary, outcome, partial } => {
            Record::ChangeFinished { at, step, action, target, summary, outcome, partial }
        }
        Event::StepFinished(StepFinished { step, kind, outcome, reason, .. }) => {
            Record::StepFinished { at, step, kind, outcome, reason }
        }
        Event::FollowUpsExpected { follow_ups } => Record::FollowUpsExpected { at, follow_ups },
        Event::FollowUp(follow_up) => Record::FollowUp { at, follow_up },
        Event::RunFinished { outcome, counts, reason, .. } => Record::RunFinished { at, outcome, counts, reason },
        _ => return None,
    })
}
