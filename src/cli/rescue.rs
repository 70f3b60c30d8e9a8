//! `provision rescue`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::args::{RescueArguments, RescueCommand, Variables};
use super::{Error, Exit, inputs};
use crate::engine::rescue::{Rescues, Restored};
use crate::failure::Failure;
use crate::host::fs::canonical;
use crate::render::output;
use crate::text::layout::Layout;
use crate::text::{clean_lines, file_word, io_error_text, shell_word};

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
    let rescues = rescues(file.as_deref(), variables, &words(&command, id.as_deref()))?;
    let result = match (&command, id.as_deref()) {
        (RescueCommand::List(_), id) => list(&rescues, id).await,
        (RescueCommand::Show(_), Some(id)) => rescues.show(id).await.map_err(Error::from),
        (RescueCommand::Restore(_), Some(id)) => restore(&rescues, id, to).await,
        (RescueCommand::Show(_) | RescueCommand::Restore(_), None) => {
            let list = match &file {
                Some(file) => format!("provision rescue list {}", file_word(file)),
                None => "provision rescue list".to_owned(),
            };
            Err(Failure::new("no rescue id given").hint(format!("to list the ids, run: `{list}`")).into())
        }
    };
    rescues.end().await;
    match command {
        RescueCommand::Show(_) => output::print_content(&result?),
        RescueCommand::List(_) | RescueCommand::Restore(_) => output::print(&String::from_utf8_lossy(&result?)),
    }
    Ok(Exit::Done)
}

/// Returns the command with FILE for the plan file. The values of `--var` may be secrets, so they are left out.
fn words(command: &RescueCommand, id: Option<&str>) -> String {
    let verb = match command {
        RescueCommand::List(_) => "list",
        RescueCommand::Show(_) => "show",
        RescueCommand::Restore(_) => "restore",
    };
    let mut words = format!("rescue {verb} FILE");
    if let Some(id) = id {
        words += &format!(" {}", shell_word(id));
    }
    if let RescueCommand::Restore(super::args::RestoreArguments { to: Some(to), .. }) = command {
        words += &format!(" --to {}", shell_word(to));
    }
    words
}

/// Returns the steps of a plan file that keep rescues, and those that earlier runs have recorded. If the plan file is not on the
/// host, for example because it came from standard input, only the recorded ones are returned.
fn rescues(file: Option<&Path>, variables: &Variables, verb: &str) -> Result<Rescues, Error> {
    let environment = inputs::environment();
    if let Some(file) = file.filter(|file| !inputs::is_standard_input(file) && !file.exists())
        && let Some(recorded) = Rescues::recorded(&inputs::state_folder(), &canonical(file), &environment)?
    {
        return Ok(recorded);
    }
    let source = inputs::source(file, None, verb)?;
    let path = source.is_named().then(|| source.canonical_path());
    let (plan_file, folder) = (source.plan_file()?, inputs::state_folder());
    Ok(Rescues::new(plan_file, path.as_deref(), &folder, inputs::inputs(variables), &environment)?)
}

async fn list(rescues: &Rescues, step: Option<&str>) -> Result<Vec<u8>, Error> {
    let layout = Layout { columns: output::columns() };
    let mut text = String::new();
    let listed = rescues.list(step).await?;
    for Failure { message, hint } in listed.warnings {
        let hint = hint.map(|hint| format!("; hint: {hint}")).unwrap_or_default();
        output::print_error(&layout.paragraph("warning: ", 2, &clean_lines(&format!("{message}{hint}"))));
    }
    for (step, rescue) in listed.rescues {
        text += &layout.paragraph("", 4, &format!("{}  {step}  {}", rescue.id, rescue.subject));
        for file in &rescue.files {
            text += &layout.paragraph("    ", 6, file);
        }
        if let Some(undoes) = &rescue.undoes {
            text += &layout.paragraph("    ", 6, undoes);
        }
    }
    if !listed.failures.is_empty() {
        output::print(&text);
        return Err(listed.failures.into());
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
    let _ = writeln!(text, "\nthe rescue {id} is kept; to delete it: `{delete}`");
    Ok(text.into_bytes())
}
