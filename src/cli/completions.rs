//! `provision completions`

use clap::CommandFactory;

use super::args::{Arguments, CompletionsArguments, visible};
use super::{Error, Exit};
use crate::render::output;

/// Prints the completion script for a shell.
pub fn run(arguments: CompletionsArguments) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut visible(Arguments::command()), "provision", &mut script);
    output::print_raw(&script);
    Ok(Exit::Done)
}
