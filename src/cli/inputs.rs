//! What a command takes in: the plan file, the variables, the environment.

use std::path::{Path, PathBuf};

use super::Error;
use super::args::{RunArguments, Variables};
use crate::engine::event::Sink;
use crate::engine::run::{Command, Request, Source, StdinRequest, read_plan_file, read_request};
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::state::StateFolder;
use crate::plan_file::{HostAccess, Inputs, PlanFile, Selection};
use crate::render::{Human, Json};
use crate::worker::current_user;

/// Reads the given file or standard input (`-`), else `./provision.yaml`, else the only `*.yaml` under `./plans`.
///
/// # Errors
/// There is none, there are several, or it cannot be read.
fn source(given: Option<&Path>, name: Option<&Path>) -> Result<Source, Failure> {
    if given.is_some_and(is_standard_input) {
        return read_plan_file(std::io::stdin().lock(), name.map(Path::to_owned));
    }
    if let Some(name) = name {
        let (name, file) = (name.display(), given.unwrap_or(Path::new("the default")).display());
        return Err(Failure::new(format!("--as {name} names a plan file from standard input, not {file}"))
            .hint("leave --as out, or give - in the place of the file"));
    }
    let path = match given {
        Some(path) => path.to_owned(),
        None => find()?,
    };
    Source::read(&path)
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// What plan or apply is asked to do.
///
/// # Errors
/// The plan file cannot be found or read.
pub fn request(command: Command, file: Option<&Path>, arguments: &RunArguments) -> Result<Request, Error> {
    let RunArguments { only, skip, variables, as_of, name, request, .. } = arguments;
    let (source, vars, environment) = if *request {
        let StdinRequest { source, vars, env } = read_request(std::io::stdin().lock())?;
        (source, vars, environment().with_given(env))
    } else {
        (source(file, name.as_deref())?, variables.vars.iter().cloned().collect(), environment())
    };
    let selection = Selection { only: only.clone(), skip: skip.clone() };
    Ok(Request { command, source, selection, vars, as_of: *as_of, environment })
}

/// Where the events of a run go.
pub fn sink(arguments: &RunArguments) -> Box<dyn Sink> {
    if arguments.json { Box::new(Json::default()) } else { Box::new(Human::new()) }
}

/// The environment of the process.
pub fn environment() -> Environment {
    std::env::vars_os().collect()
}

/// The acting user's state folder.
pub fn state_folder() -> StateFolder {
    environment().state_folder(current_user().home)
}

/// Finds and reads the plan file, as a run does.
///
/// # Errors
/// Where there is none or several, it cannot be read, or its shape is wrong.
pub fn plan_file(given: Option<&Path>) -> Result<PlanFile, Error> {
    Ok(source(given, None)?.plan_file()?)
}

fn find() -> Result<PathBuf, Failure> {
    let default = PathBuf::from("provision.yaml");
    if default.exists() {
        return Ok(default);
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir("plans")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::new("there is no plan file: neither ./provision.yaml nor a *.yaml under ./plans")
            .hint("name it: provision COMMAND FILE")),
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(Failure::new(format!("there are several plan files: {}", names.join(", ")))
                .hint(format!("name one: provision COMMAND {}", names[0])))
        }
    }
}

/// `[FILE] [ID]`: one word alone is a file where it looks like one, else an id.
pub fn file_and_id(words: &[String]) -> (Option<PathBuf>, Option<String>) {
    match words {
        [] => (None, None),
        [word] => {
            let is_file = word == "-"
                || word.ends_with(".yaml")
                || word.ends_with(".yml")
                || word.contains('/')
                || Path::new(word).is_file();
            if is_file { (Some(word.into()), None) } else { (None, Some(word.clone())) }
        }
        [file, id, ..] => (Some(file.into()), Some(id.clone())),
    }
}

/// The variables and the environment that templates see.
pub fn inputs(variables: &Variables) -> Inputs {
    Inputs { vars: variables.vars.iter().cloned().collect(), env: environment().texts(), host: HostAccess::Read }
}
