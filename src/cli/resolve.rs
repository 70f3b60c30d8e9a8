//! `provision resolve`

use super::args::ResolveArguments;
use super::{Error, Exit, inputs};
use crate::render::output;

/// Prints the evaluated plan file. The host is not touched.
pub fn run(arguments: ResolveArguments) -> Result<Exit, Error> {
    let plan_file = inputs::plan_file(arguments.file.as_deref(), "resolve")?;
    let text = plan_file.resolve(&inputs::inputs(&arguments.variables))?;
    // The exact bytes are printed, because a reader evaluates them again.
    output::print_content(text.as_bytes());
    Ok(Exit::Done)
}
