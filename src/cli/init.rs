//! `provision init`

use super::args::InitArguments;
use super::{Error, Exit};
use crate::plan_file::reference;
use crate::render::output;

/// Prints a plan file as a starting point.
pub fn run(arguments: InitArguments) -> Result<Exit, Error> {
    output::print(&reference::example(&arguments.kinds)?);
    Ok(Exit::Done)
}
