//! The inputs of a command: the plan file, the variables and the environment.

use std::path::{Path, PathBuf};

use super::Error;
use super::args::{Format, FormatArguments, RunArguments, Variables};
use super::discover::default_plan_file;
use crate::engine::event::Sink;
use crate::engine::run::{Command, NotPrepared, Request, Source, StdinRequest, read_plan_file, read_request};
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::state::StateFolder;
use crate::host::users::User;
use crate::host::warehouse::ClientDefaults;
use crate::plan_file::{HostAccess, Inputs, PlanFile, Selection};
use crate::render::{GitHub, Human, Json, Markdown};
use crate::text::{file_argument, shell_words};

/// Reads the given file or standard input (`-`), or else the default plan file.
///
/// # Errors
/// There is no plan file, there are several, or it cannot be read.
pub fn source(given: Option<&Path>, name: Option<&Path>, verb: &str) -> Result<Source, Failure> {
    if given.is_some_and(is_standard_input) {
        return read_plan_file(std::io::stdin().lock(), name.map(Path::to_owned));
    }
    if let Some(name) = name {
        let (name, file) = (name.display(), given.unwrap_or(Path::new("the default")).display());
        return Err(Failure::new(format!("--as {name} applies to a plan file from standard input, not to {file}"))
            .hint("remove --as, or replace the file by -"));
    }
    let path = match given {
        Some(path) => path.to_owned(),
        None => default_plan_file(verb)?,
    };
    Source::read(&path)
}

/// Returns whether a path stands for standard input.
pub fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Returns the request for a plan or an apply.
///
/// # Errors
/// The plan file cannot be found or read.
pub fn request(command: Command, file: Option<&Path>, arguments: &RunArguments) -> Result<Request, Error> {
    let RunArguments { only, skip, variables, as_of, name, request, .. } = arguments;
    let (source, vars, environment) = if *request {
        let StdinRequest { source, vars, env } = read_request(std::io::stdin().lock())?;
        (source, vars, environment().with_given(env))
    } else {
        let source = source(file, name.as_deref(), command.name());
        let source = source.map_err(|failure| match file {
            Some(path) => step_in_place_of_file(failure, path, only),
            None => failure,
        })?;
        (source, variables.vars.iter().cloned().collect(), environment())
    };
    let selection = Selection { only: only.clone(), skip: skip.clone() };
    Ok(Request { command, source, selection, vars, as_of: *as_of, environment })
}

/// Returns the renderer for the events of a run.
pub fn sink(arguments: &FormatArguments, apply: Option<String>) -> Box<dyn Sink> {
    match arguments.format() {
        Format::Human => Box::new(Human::new(apply)),
        Format::Json => Box::new(Json::default()),
        Format::Markdown => Box::new(Markdown::default()),
        Format::Github => Box::new(GitHub::new(apply)),
    }
}

/// Returns the command that applies a plan with these arguments. `None` if it needs standard input, or variables, which may be
/// secrets and are not repeated.
pub fn apply_command(file: Option<&Path>, arguments: &RunArguments) -> Option<String> {
    let RunArguments { only, skip, variables, as_of, request, .. } = arguments;
    let is_input = *request || file.is_some_and(is_standard_input);
    if is_input || !variables.vars.is_empty() || as_of.is_some() {
        return None;
    }
    let mut words = vec!["provision".to_owned(), "apply".to_owned()];
    words.extend(file.map(|file| file_argument(&file.display().to_string())));
    for (option, ids) in [("--only", only), ("--skip", skip)] {
        if !ids.is_empty() {
            words.extend([option.to_owned(), ids.join(",")]);
        }
    }
    Some(shell_words(&words))
}

/// Returns the environment of the process.
#[expect(clippy::disallowed_methods, reason = "the environment is read here, once")]
pub fn environment() -> Environment {
    std::env::vars_os().collect()
}

/// Returns the acting user's state folder.
pub fn state_folder() -> StateFolder {
    StateFolder::of_user(&environment(), User::acting().home)
}

/// Finds and reads the plan file, as a run does.
///
/// # Errors
/// There is no plan file, there are several, it cannot be read, or it is malformed.
pub fn plan_file(given: Option<&Path>, verb: &str) -> Result<PlanFile, NotPrepared> {
    source(given, None, verb)?.plan_file()
}

/// Parses `[FILE] [ID]` in either order. A single word is a file if it looks like one, and an id otherwise.
pub fn file_and_id(first: Option<String>, second: Option<String>) -> (Option<PathBuf>, Option<String>) {
    match (first, second) {
        (Some(word), None) if is_file_name(&word) => (Some(word.into()), None),
        (word, None) => (None, word),
        (Some(first), Some(second)) if is_file_name(&second) && !is_file_name(&first) => {
            (Some(second.into()), Some(first))
        }
        (first, second) => (first.map(PathBuf::from), second),
    }
}

fn is_file_name(word: &str) -> bool {
    word == "-" || word.ends_with(".yaml") || word.ends_with(".yml") || word.contains('/') || Path::new(word).is_file()
}

/// Replaces the failure if the word taken for a plan file is a step of the default plan file.
fn step_in_place_of_file(failure: Failure, path: &Path, only: &[String]) -> Failure {
    let Some(word) = path.to_str().filter(|word| !is_file_name(word) && !path.exists()) else { return failure };
    let Ok(default) = default_plan_file("plan") else { return failure };
    let plan_file = Source::read(&default).ok().and_then(|source| source.plan_file().ok());
    if !plan_file.is_some_and(|plan_file| plan_file.ids().contains(&word)) {
        return failure;
    }
    let mut ids = only.to_vec();
    ids.push(word.to_owned());
    Failure::new(format!("`{word}` is a step of {}, not a plan file", default.display()))
        .hint(format!("separate several ids by commas: --only {}", ids.join(",")))
}

/// Returns the variables and the environment for templates.
pub fn inputs(variables: &Variables) -> Inputs {
    let environment = environment();
    Inputs {
        vars: variables.vars.iter().cloned().collect(),
        env: environment.texts(),
        client: ClientDefaults::of(&environment),
        host: HostAccess::Read,
    }
}
