//! What a command takes in: the plan file, the variables, the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::Variables;
use crate::host::fs;
use crate::plan_file::{Inputs, PlanFile};
use crate::resource::Failure;

use super::Error;

/// A plan file is prose and a few steps; a larger one is something else.
const MAX_PLAN_FILE: u64 = 4 << 20;

/// Finds and reads the plan file: the given one, else `./provision.yaml`, else the only `*.yaml` under `./plans`.
///
/// # Errors
/// Where there is none or several, it cannot be read, or its shape is wrong.
pub fn plan_file(given: Option<&Path>) -> Result<PlanFile, Error> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => find()?,
    };
    let shown = path.display().to_string();
    let cannot = |why: String| Failure::new(format!("cannot read the plan file {shown}: {why}"));
    let seen = fs::read_file(&path, MAX_PLAN_FILE).map_err(|error| {
        let failure = cannot(reason(&error));
        if error.kind() == std::io::ErrorKind::Other {
            failure
        } else {
            failure.hint("name the plan file: provision COMMAND FILE")
        }
    })?;
    let text = std::str::from_utf8(&seen.bytes)
        .map_err(|error| cannot(format!("byte {} is not UTF-8", error.valid_up_to())).hint("save the file as UTF-8"))?;
    Ok(PlanFile::parse(&shown, text.strip_prefix('\u{feff}').unwrap_or(text))?)
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
            let is_file =
                word.ends_with(".yaml") || word.ends_with(".yml") || word.contains('/') || Path::new(word).is_file();
            if is_file { (Some(word.into()), None) } else { (None, Some(word.clone())) }
        }
        [file, id, ..] => (Some(file.into()), Some(id.clone())),
    }
}

/// The variables and the environment that templates see.
pub fn inputs(variables: &Variables) -> Inputs {
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Inputs { vars: variables.vars.iter().cloned().collect::<BTreeMap<_, _>>(), env: env.collect() }
}

/// An I/O error in the tone of our own messages.
pub fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "it does not exist".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}
