//! `provision completions`

use std::ffi::OsString;

use clap::CommandFactory;
use clap_complete::env::{CompleteEnv, Shells};

use super::args::{Arguments, CompletionsArguments, visible};
use super::{Error, Exit};
use crate::failure::Failure;
use crate::render::output;
use crate::text::io_error_text;

/// The variable that names the shell that asks for completions. The script of `--dynamic` sets it.
const VARIABLE: &str = "PROVISION_COMPLETE";

/// Answers a shell that asks for completions. Returns whether one has asked.
///
/// # Errors
/// The shell is unknown, or the answer cannot be written.
pub fn answer(arguments: Vec<OsString>) -> Result<bool, clap::Error> {
    let here = std::path::absolute(".").ok();
    CompleteEnv::with_factory(|| visible(Arguments::command())).var(VARIABLE).try_complete(arguments, here.as_deref())
}

/// Prints the completion script for a shell.
pub fn run(arguments: CompletionsArguments) -> Result<Exit, Error> {
    let mut script = Vec::new();
    if arguments.dynamic {
        let name = arguments.shell.to_string();
        let shells = Shells::builtins();
        let shell = shells
            .completer(&name)
            .ok_or_else(|| Failure::new(format!("there is no dynamic completion for {name}")))?;
        let written = shell.write_registration(VARIABLE, "provision", "provision", "provision", &mut script);
        written.map_err(|error| Failure::new(format!("cannot make the script: {}", io_error_text(&error))))?;
        output::print_raw(&script);
        return Ok(Exit::Done);
    }
    clap_complete::generate(arguments.shell, &mut visible(Arguments::command()), "provision", &mut script);
    output::print_raw(&script);
    Ok(Exit::Done)
}
