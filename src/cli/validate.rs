//! `provision validate`

use super::args::ValidateArguments;
use super::{Error, Exit, inputs};

/// Judges the plan file without the host.
pub fn run(arguments: ValidateArguments) -> Result<Exit, Error> {
    let plan_file = inputs::plan_file(arguments.file.as_deref())?;
    plan_file.validate(&inputs::inputs(&arguments.variables))?;
    anstream::println!("{}: fine, {} steps", plan_file.path(), plan_file.ids().len());
    Ok(Exit::Done)
}
