//! `provision validate`

use super::args::ValidateArguments;
use super::{Error, Exit, inputs};
use crate::render::output;

/// Judges the plan file without the host.
pub fn run(arguments: ValidateArguments) -> Result<Exit, Error> {
    let plan_file = inputs::plan_file(arguments.file.as_deref())?;
    plan_file.validate(&inputs::inputs(&arguments.variables))?;
    let count = plan_file.ids().len();
    output::print(&format!("{}: fine, {count} step{}\n", plan_file.path(), if count == 1 { "" } else { "s" }));
    Ok(Exit::Done)
}
