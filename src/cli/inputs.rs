//! What a command takes in: the plan file, the variables, the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::Variables;
use crate::engine::saved::Saved;
use crate::host::fs;
use crate::plan_file::{HostAccess, Inputs, PlanFile};
use crate::resource::Failure;

use super::Error;

/// A plan file is prose and a few steps; a larger one is something else.
const MAX_PLAN_FILE: usize = 4 << 20;
const MAX_SAVED: u64 = 64 << 20;

/// A file as it was read: a plan file, or a saved plan.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user gave it.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Source {
    /// Reads the given file, else `./provision.yaml`, else the only `*.yaml` under `./plans`.
    ///
    /// # Errors
    /// Where there is none or several, or it cannot be read.
    pub fn read(given: Option<&Path>) -> Result<Self, Failure> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => find()?,
        };
        // A saved plan holds as many changes as a plan file can bring about: more than it has bytes.
        let seen = fs::read_file(&path, MAX_SAVED).map_err(|error| {
            let failure = cannot(&path, &reason(&error));
            if error.kind() == std::io::ErrorKind::Other {
                failure
            } else {
                failure.hint("name the plan file: provision COMMAND FILE")
            }
        })?;
        Ok(Self { path, bytes: seen.bytes.to_vec() })
    }

    /// The plan file in it.
    ///
    /// # Errors
    /// Where it is none, or its shape is wrong.
    pub fn plan_file(&self) -> Result<PlanFile, Error> {
        if Saved::is_one(&self.bytes) {
            let shown = self.path.display();
            return Err(cannot(&self.path, "it is a saved plan")
                .hint(format!("a saved plan is for apply: provision apply {shown}"))
                .into());
        }
        if self.bytes.len() > MAX_PLAN_FILE {
            return Err(cannot(&self.path, &format!("it has {} bytes, more than 4 MiB", self.bytes.len())).into());
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|error| {
            cannot(&self.path, &format!("byte {} is not UTF-8", error.valid_up_to())).hint("save the file as UTF-8")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(PlanFile::parse(&self.path.display().to_string(), text)?)
    }
}

fn cannot(path: &Path, why: &str) -> Failure {
    Failure::new(format!("cannot read the plan file {}: {why}", path.display()))
}

/// Finds and reads the plan file, as [`Source::read`] finds it.
///
/// # Errors
/// Where there is none or several, it cannot be read, or its shape is wrong.
pub fn plan_file(given: Option<&Path>) -> Result<PlanFile, Error> {
    Source::read(given)?.plan_file()
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
    Inputs {
        vars: variables.vars.iter().cloned().collect::<BTreeMap<_, _>>(),
        env: env.collect(),
        host: HostAccess::Read,
    }
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
