//! `provision rescue`

use crate::failure::Failure;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::args::{RescueArguments, RescueCommand};
use super::{Error, Exit, inputs};
use crate::engine::run::{RunSecrets, today};
use crate::engine::targets::Targets;
use crate::host::secret::Digester;
use crate::plan::claim::{Claim, Unseen};
use crate::plan_file::{Evaluated, Selection};
use crate::render::output;
use crate::resource::{RescueAnswer, RescueRequest, Restoring, Step};

/// Lists, shows or restores rescues.
pub async fn run(command: RescueCommand) -> Result<Exit, Error> {
    let (RescueCommand::List(arguments) | RescueCommand::Show(arguments) | RescueCommand::Restore(arguments)) =
        &command;
    let (file, id) = inputs::file_and_id(arguments.file.clone(), arguments.id.clone());
    let plan = evaluate(arguments, file.as_deref())?;
    let digester = Digester::fresh().map_err(|error| Failure::new(format!("cannot get random numbers: {error}")))?;
    let (secrets, environment) = (RunSecrets::default(), inputs::environment());
    let targets =
        Targets::new("rescue".to_owned(), today(), digester, &plan, &secrets, &environment, Arc::new(|_, _| ()));
    let steps = plan.steps;
    let result = match (&command, id) {
        (RescueCommand::List(_), None) => list(&targets, &steps).await,
        (RescueCommand::List(_), Some(id)) => list(&targets, &only(steps, &id)?).await,
        (RescueCommand::Show(_), Some(id)) => show(&targets, &steps, id).await.map(|content| {
            output::print_content(&content);
            String::new()
        }),
        (RescueCommand::Restore(_), Some(id)) => match claimed(arguments, file.as_deref()) {
            Ok(claimed) => restore(&targets, &steps, &claimed, id).await,
            Err(error) => Err(error),
        },
        (RescueCommand::Show(_) | RescueCommand::Restore(_), None) => {
            Err(Failure::new("no rescue id given").hint("run `provision rescue list` to list the ids").into())
        }
    };
    targets.end().await;
    output::print(&result?);
    Ok(Exit::Done)
}

/// Evaluates only the steps that keep rescues.
fn evaluate(arguments: &RescueArguments, file: Option<&std::path::Path>) -> Result<Evaluated, Error> {
    let plan_file = inputs::plan_file(file)?;
    let selection = Selection { only: plan_file.ids_that_keep_rescues(), skip: Vec::new() };
    if selection.only.is_empty() {
        return Err(Failure::new("the plan file has no step that keeps rescues").into());
    }
    Ok(plan_file.evaluate(&inputs::inputs(&arguments.variables), &selection)?)
}

/// Returns the paths that other steps claim, with the step ids, as far as they are known without the values that only
/// an apply needs. Checkouts are left out: their steps are the ones that keep rescues.
fn claimed(arguments: &RescueArguments, file: Option<&std::path::Path>) -> Result<Vec<(PathBuf, String)>, Error> {
    let described = inputs::plan_file(file)?.describe(&[], &inputs::inputs(&arguments.variables))?;
    let mut found = Vec::new();
    for step in described {
        let Ok(described) = step.step else { continue };
        for claim in described.resource.claims(&Unseen).owns {
            match claim {
                Claim::File(path)
                | Claim::Directory { path, .. }
                | Claim::EditedFile { path, .. }
                | Claim::Variable { file: path, .. }
                | Claim::EnvVariable { file: path, .. } => found.push((path, step.id.clone())),
                Claim::Checkout(_) | Claim::Table { .. } | Claim::Series { .. } => {}
            }
        }
    }
    Ok(found)
}

fn only(steps: Vec<Step>, id: &str) -> Result<Vec<Step>, Failure> {
    let steps: Vec<Step> = steps.into_iter().filter(|step| step.id == id).collect();
    if steps.is_empty() {
        return Err(Failure::new(format!("no step `{id}` keeps rescues")).hint("omit the id to list all rescues"));
    }
    Ok(steps)
}

async fn list(targets: &Targets, steps: &[Step]) -> Result<String, Error> {
    let mut text = String::new();
    for step in steps {
        let RescueAnswer::List(mut rescues) = targets.rescue(step, RescueRequest::List).await? else { continue };
        // Ids start with the time, so this puts the newest first.
        rescues.sort_by(|one, other| other.id.cmp(&one.id));
        for rescue in rescues {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{}  {}  {}", rescue.id, step.id, rescue.subject);
            for file in &rescue.files {
                let _ = writeln!(text, "    {file}");
            }
        }
    }
    if text.is_empty() {
        text.push_str("no rescues\n");
    }
    Ok(text)
}

/// Returns the step that has the rescue, and the command that deletes the rescue.
async fn owner<'a>(targets: &Targets, steps: &'a [Step], id: &str) -> Result<(&'a Step, String), Error> {
    let mut known = Vec::new();
    for step in steps {
        let RescueAnswer::List(rescues) = targets.rescue(step, RescueRequest::List).await? else { continue };
        if let Some(rescue) = rescues.iter().find(|rescue| rescue.id == id) {
            return Ok((step, rescue.delete.clone()));
        }
        known.extend(rescues.into_iter().map(|rescue| rescue.id));
    }
    let hint = if known.is_empty() {
        "there are no rescues".to_owned()
    } else {
        format!("the rescues are {}", known.join(", "))
    };
    Err(Failure::new(format!("no such rescue: {id}")).hint(hint).into())
}

async fn show(targets: &Targets, steps: &[Step], id: String) -> Result<Vec<u8>, Error> {
    let (step, _) = owner(targets, steps, &id).await?;
    match targets.rescue(step, RescueRequest::Show(id)).await? {
        RescueAnswer::Show(content) => Ok(content),
        _ => Ok(Vec::new()),
    }
}

async fn restore(
    targets: &Targets,
    steps: &[Step],
    claimed: &[(PathBuf, String)],
    id: String,
) -> Result<String, Error> {
    let (step, delete) = owner(targets, steps, &id).await?;
    let claimed = claimed.iter().filter(|(_, owner)| *owner != step.id).cloned().collect();
    let restoring = Restoring { id: id.clone(), claimed };
    let RescueAnswer::Restore(paths) = targets.rescue(step, RescueRequest::Restore(restoring)).await? else {
        return Ok(String::new());
    };
    let mut text = String::new();
    for path in &paths {
        let _ = writeln!(text, "restored  {path}");
    }
    if paths.is_empty() {
        let _ = writeln!(text, "nothing to restore: the files are the same as in the rescue");
    }
    let _ = writeln!(text, "\nthe rescue {id} is kept; to delete it: {delete}");
    Ok(text)
}
