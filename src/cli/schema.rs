//! `provision schema`

use super::{Error, Exit};
use crate::plan_file::reference;
use crate::render::output;

/// Prints the JSON Schema of plan files.
pub fn run() -> Result<Exit, Error> {
    output::print(&format!("{:#}\n", reference::schema()));
    Ok(Exit::Done)
}
