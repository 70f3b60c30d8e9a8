//! The command line, from arguments to exit code. Each command has its own file.

mod apply;
mod args;
mod completions;
mod confirm;
mod diagnostics;
mod discover;
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
pub use exit::Exit;

use crate::engine::run::NotPrepared;
use crate::engine::stop;
use crate::failure::Failure;
use crate::host::signals::without_panic;
use crate::render::output;
use crate::telemetry;

/// Runs the program.
pub fn main(arguments: impl Iterator<Item = OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let error = tips::better(error);
            let printed = error.print();
            // Help goes to standard output and is a success. Everything else is a usage error.
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    output::record_write_error(printed);
                    with_all_output(Exit::Done)
                }
                _ => Exit::Failed,
            };
        }
    };
    if let Err(failure) = crate::host::process::leave_no_core_dump() {
        output::print_error(&format!("{}\n", Error::from(failure)));
        return Exit::Failed;
    }
    if let Err(failure) = diagnostics::start(&arguments.diagnostics) {
        output::print_error(&format!("{}\n", Error::from(failure)));
        return Exit::Failed;
    }
    let result = match arguments.command {
        Command::Worker(worker) => {
            crate::worker::serve(worker.user.as_deref()).map(|()| Exit::Done).map_err(Error::from)
        }
        Command::Plan(arguments) => with_runtime(plan::run(arguments)),
        Command::Apply(arguments) => with_runtime(apply::run(arguments)),
        Command::Show(arguments) => show::run(arguments),
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
    with_all_output(result.unwrap_or_else(|error| {
        output::print_error(&format!("{error}\n"));
        error.exit
    }))
}

/// Returns the command line without hidden commands, for completions and manual pages.
fn visible(command: clap::Command) -> clap::Command {
    let subcommands: Vec<clap::Command> =
        command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).cloned().collect();
    let about = command.get_about().cloned().unwrap_or_default();
    clap::Command::new("provision")
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .args(command.get_arguments().cloned())
        .propagate_version(true)
        .subcommand_required(true)
        .subcommands(subcommands)
}

/// A command fails if its result could not be written completely.
fn with_all_output(exit: Exit) -> Exit {
    match (output::write_error(), exit) {
        (Some(error), Exit::Done | Exit::Changes | Exit::Failed) => {
            output::print_error(&format!(
                "error: cannot write all output to standard output: {}\n  hint: to see what an apply did, run \
                 `provision history`\n",
                io_error_text(error)
            ));
            Exit::Failed
        }
        (_, exit) => exit,
    }
}

fn with_runtime(command: impl Future<Output = Result<Exit, Error>>) -> Result<Exit, Error> {
    let runtime = without_panic(|| tokio::runtime::Builder::new_current_thread().enable_all().build())
        .map_err(|error| Failure::new(format!("cannot start the runtime: {}", io_error_text(&error))))?;
    let result = runtime.block_on(command);
    // A lookup that was interrupted by a signal may still block a thread.
    runtime.shutdown_background();
    result
}

/// An error that ends a command before it has a result, as it is shown.
#[derive(Debug)]
pub struct Error {
    text: String,
    exit: Exit,
}

impl Error {
    /// A signal came before there was anything to report.
    fn stopped(signal: i32) -> Self {
        Self {
            text: format!("error: nothing was changed: stopped by {}", stop::name(signal)),
            exit: Exit::by_signal(signal),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let hint = failure.hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        Self { text: format!("error: {}{hint}", failure.message), exit: Exit::Failed }
    }
}

impl From<NotPrepared> for Error {
    fn from(error: NotPrepared) -> Self {
        match error {
            NotPrepared::Failure(failure) => failure.into(),
            NotPrepared::Diagnostics(diagnostics) => diagnostics.into(),
            NotPrepared::Stopped(signal) => Self::stopped(signal),
        }
    }
}

impl From<crate::plan_file::Diagnostics> for Error {
    fn from(diagnostics: crate::plan_file::Diagnostics) -> Self {
        Self { text: diagnostics.to_string(), exit: Exit::Failed }
    }
}
