//! `provision rescue`

use std::fmt::Write as _;
use std::path::PathBuf;

use super::args::{RescueArguments, RescueCommand};
use super::{Error, Exit, inputs};
use crate::engine::rescue::{Rescues, Restored};
use crate::failure::Failure;
use crate::render::output;
use crate::text::io_error_text;

/// Lists, shows or restores rescues.
pub async fn run(command: RescueCommand) -> Result<Exit, Error> {
    let (arguments, to) = match &command {
        RescueCommand::List(arguments) | RescueCommand::Show(arguments) => (arguments, None),
        RescueCommand::Restore(restore) => (&restore.rescue, restore.to.as_deref()),
    };
    let to = to.map(std::path::absolute).transpose();
    let to =
        to.map_err(|error| Failure::new(format!("cannot find the directory of --to: {}", io_error_text(&error))))?;
    let RescueArguments { file, id, variables } = arguments;
    let (file, id) = inputs::file_and_id(file.clone(), id.clone());
    let plan_file = inputs::plan_file(file.as_deref())?;
    let rescues = Rescues::new(plan_file, inputs::inputs(variables), &inputs::environment())?;
    let result = match (&command, id.as_deref()) {
        (RescueCommand::List(_), id) => list(&rescues, id).await,
        (RescueCommand::Show(_), Some(id)) => rescues.show(id).await.map_err(Error::from),
        (RescueCommand::Restore(_), Some(id)) => restore(&rescues, id, to).await,
        (RescueCommand::Show(_) | RescueCommand::Restore(_), None) => {
            Err(Failure::new("no rescue id given").hint("run `provision rescue list` to list the ids").into())
        }
    };
    rescues.end().await;
    match command {
        RescueCommand::Show(_) => output::print_content(&result?),
        RescueCommand::List(_) | RescueCommand::Restore(_) => output::print(&String::from_utf8_lossy(&result?)),
    }
    Ok(Exit::Done)
}

async fn list(rescues: &Rescues, step: Option<&str>) -> Result<Vec<u8>, Error> {
    let mut text = String::new();
    for (step, rescue) in rescues.list(step).await? {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{}  {step}  {}", rescue.id, rescue.subject);
        for file in &rescue.files {
            let _ = writeln!(text, "    {file}");
        }
    }
    if text.is_empty() {
        text.push_str("no rescues\n");
    }
    Ok(text.into_bytes())
}

async fn restore(rescues: &Rescues, id: &str, to: Option<PathBuf>) -> Result<Vec<u8>, Error> {
    let (word, is_extraction) = if to.is_some() { ("written ", true) } else { ("restored", false) };
    let Restored { paths, notes, delete } = match to {
        Some(to) => rescues.extract(id, to).await?,
        None => rescues.restore(id).await?,
    };
    let mut text: String = paths.iter().map(|path| format!("{word}  {path}\n")).collect();
    if paths.is_empty() && !is_extraction {
        text.push_str("nothing to restore: the files are the same as in the rescue\n");
    }
    for note in &notes {
        let _ = writeln!(text, "{note}");
    }
    let _ = writeln!(text, "\nthe rescue {id} is kept; to delete it: {delete}");
    Ok(text.into_bytes())
}
