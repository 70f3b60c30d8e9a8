//! The command line, from arguments to exit code. Each command has its own file.

mod adopt;
mod adopt_words;
mod apply;
mod args;
mod color;
mod complete;
mod completions;
mod confirm;
mod diagnostics;
mod discover;
mod error;
mod exit;
mod explain;
mod follow_ups;
mod history;
mod init;
mod inputs;
mod man;
mod metrics;
mod plan;
mod report;
mod rescue;
mod resolve;
mod schema;
mod show;
mod tips;
mod validate;

use crate::text::{clean, io_error_text};
use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

pub use args::Arguments;
use args::Command;
use error::Error;
pub use exit::Exit;

use crate::host::signals::{not_possible, without_panic};
use crate::render::output;
use crate::telemetry;
use crate::worker::{self, Role};

/// Runs the program.
pub fn main(arguments: impl Iterator<Item = OsString>) -> Exit {
    if let Err(failure) = crate::host::process::check_stack() {
        output::print_error(&format!("{}\n", Error::from(failure)));
        return Exit::Failed;
    }
    let arguments: Vec<OsString> = arguments.collect();
    match completions::answer(arguments.clone()) {
        Ok(false) => {}
        // The shell shows no message while a command line is typed.
        answered => return if answered.is_ok() { Exit::Done } else { Exit::Failed },
    }
    color::choose(&arguments);
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let error = tips::better(error);
            let printed = error.print();
            // Help goes to standard output and is a success. Everything else is a usage error.
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    output::record_write_error(printed);
                    with_all_output(Exit::Done, false)
                }
                _ => Exit::Failed,
            };
        }
    };
    crate::host::process::report_large_files();
    if let Err(failure) = crate::host::process::leave_no_core_dump() {
        output::print_error(&format!("{}\n", Error::from(failure)));
        return Exit::Failed;
    }
    if uses_workers(&arguments.command) && worker::fork_own() == Role::Worker {
        return serve(None);
    }
    let exit = run(arguments);
    worker::end_own();
    exit
}

/// Returns whether this command observes or executes steps.
fn uses_workers(command: &Command) -> bool {
    matches!(command, Command::Plan(_) | Command::Apply(_) | Command::Adopt(_) | Command::Rescue { .. })
}

fn serve(user: Option<&str>) -> Exit {
    match worker::serve(user) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            output::print_error(&format!("{}\n", Error::from(failure)));
            Exit::Failed
        }
    }
}

fn run(arguments: Arguments) -> Exit {
    let is_apply = matches!(arguments.command, Command::Apply(_));
    let metrics = match &arguments.command {
        Command::Plan(plan) => plan.run.metrics.as_deref(),
        Command::Apply(apply) => apply.run.metrics.as_deref(),
        _ => None,
    };
    if let Err(failure) = diagnostics::start(&arguments.diagnostics, metrics) {
        output::print_error(&format!("{}\n", Error::from(failure)));
        return Exit::Failed;
    }
    let result = match arguments.command {
        Command::Worker(arguments) => return serve(arguments.user.as_deref()),
        Command::Plan(arguments) => with_runtime(plan::run(arguments)),
        Command::Apply(arguments) => with_runtime(apply::run(arguments)),
        Command::Show(arguments) => show::run(arguments),
        Command::Adopt(arguments) => with_runtime(adopt::run(arguments)),
        Command::Validate(arguments) => validate::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::History(arguments) => history::run(arguments),
        Command::FollowUps(arguments) => with_runtime(follow_ups::run(arguments)),
        Command::Resolve(arguments) => resolve::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Schema => schema::run(),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Man(arguments) => man::run(arguments),
        Command::Rescue { command } => with_runtime(rescue::run(command)),
    };
    output::clear_activity();
    for warning in telemetry::finish() {
        output::print_error(&format!("warning: {}\n", clean(&warning)));
    }
    let exit = result.unwrap_or_else(|error| {
        output::print_error(&format!("{error}\n"));
        error.exit
    });
    with_all_output(exit, is_apply)
}

/// Returns the exit code of a command, which fails if its result could not be written completely.
fn with_all_output(exit: Exit, is_apply: bool) -> Exit {
    match (output::write_error(), exit) {
        (Some(error), Exit::Done | Exit::Changes | Exit::Failed) => {
            let hint = match is_apply {
                true => "to see what it did, run `provision history`",
                false => "write it to another place, or free space there",
            };
            let why = io_error_text(error);
            output::print_error(&format!("error: cannot write all output to standard output: {why}\n  hint: {hint}\n"));
            Exit::Failed
        }
        (_, exit) => exit,
    }
}

fn with_runtime(command: impl Future<Output = Result<Exit, Error>>) -> Result<Exit, Error> {
    let runtime = without_panic(|| tokio::runtime::Builder::new_current_thread().enable_all().build())
        .map_err(|error| not_possible("start the runtime", &error))?;
    let reports = output::report_activity(output::print_error);
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            result = command => result,
            never = reports => match never {},
        }
    });
    // A lookup that was interrupted by a signal may still block a thread.
    runtime.shutdown_background();
    result
}
