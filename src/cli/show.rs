//! `provision show`

use super::args::ShowArguments;
use super::{Error, Exit, inputs};
use crate::engine::run::show_saved;
use crate::text::file_word;

/// Shows what a saved plan would do. Reads only the saved plan, the plan file and the acting user's state folder.
pub fn run(arguments: ShowArguments) -> Result<Exit, Error> {
    let apply = format!("provision apply {}", file_word(&arguments.saved));
    show_saved(&arguments.saved, &inputs::state_folder(), inputs::sink(&arguments.format, Some(apply)))?;
    Ok(Exit::Done)
}
