//! The table of exit codes.

use std::process::ExitCode;

use crate::engine::event::RunOutcome;
use crate::engine::run::Ended;
use crate::render::output;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success. A plan with changes is a success too.
    Done,
    /// Anything failed or was blocked, or the command line was wrong.
    Failed,
    /// With `--detailed-exitcode`: the plan has changes.
    Changes,
    /// Stopped by SIGHUP: the terminal was closed.
    HungUp,
    /// Stopped by SIGINT.
    Interrupted,
    /// Stopped by SIGTERM.
    Terminated,
}

impl Exit {
    /// Returns the exit code of a run, which a signal may have stopped.
    pub fn of_run(ended: Ended, detailed: bool) -> Self {
        if let Some(failure) = ended.unrecorded {
            output::print_error(&format!("warning: {}\n", failure.message));
        }
        match ended.signal {
            Some(signal) => Self::by_signal(signal),
            None => Self::of(ended.outcome, detailed),
        }
    }

    /// Returns the exit code of a run that was not stopped.
    pub fn of(outcome: RunOutcome, detailed: bool) -> Self {
        match outcome {
            RunOutcome::Ok => Exit::Done,
            RunOutcome::Changes if detailed => Exit::Changes,
            RunOutcome::Changes => Exit::Done,
            RunOutcome::Failed => Exit::Failed,
        }
    }

    /// Returns the exit code of a run that was stopped by a signal: 128 plus the signal number, as in shells.
    pub fn by_signal(signal: i32) -> Self {
        match signal {
            1 => Exit::HungUp,
            2 => Exit::Interrupted,
            _ => Exit::Terminated,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Changes => 2,
            Exit::HungUp => 129,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        })
    }
}
