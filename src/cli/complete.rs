//! Completion while a command line is typed: plan files, and the steps of the plan file with their titles.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};

use super::discover::default_plan_file;
use crate::engine::run::Source;
use crate::plan_file::{PlanFile, reference};
use crate::text::clean;

/// Completes the path of a plan file.
pub fn plan_files(current: &OsStr) -> Vec<CompletionCandidate> {
    let is_plan_file = |path: &Path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    PathCompleter::any().filter(is_plan_file).complete(current)
}

/// Completes a step. The list of steps has already been split at its commas.
pub fn steps(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let ids = ids().into_iter().filter(|(id, _)| id.starts_with(current.as_ref()));
    ids.map(|(id, title)| candidate(id, title)).collect()
}

/// Completes what can be explained: a plan file, a step, or a kind.
pub fn subjects(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = plan_files(current);
    found.extend(steps(current));
    let word = current.to_string_lossy();
    let kinds = reference::topics().into_iter().map(|(topic, _)| topic).filter(|kind| kind.starts_with(word.as_ref()));
    found.extend(kinds.map(|kind| candidate(kind.to_owned(), "the keys of it".to_owned())));
    found
}

fn candidate(value: String, help: String) -> CompletionCandidate {
    CompletionCandidate::new(value).help((!help.is_empty()).then(|| help.into()))
}

/// Returns the ids and titles of the steps, or nothing if there is no valid plan file.
fn ids() -> Vec<(String, String)> {
    let Some(path) = typed_plan_file().or_else(|| default_plan_file("plan").ok()) else { return Vec::new() };
    let plan_file = Source::read(&path).ok().and_then(|source| source.plan_file().ok());
    plan_file.as_ref().map(titles).unwrap_or_default()
}

fn titles(plan_file: &PlanFile) -> Vec<(String, String)> {
    let steps = plan_file.titles().into_iter();
    steps.map(|(id, title)| (clean(id), clean(title.lines().next().unwrap_or_default()))).collect()
}

/// Returns the plan file on the command line that is being typed.
#[expect(clippy::disallowed_methods, reason = "completers are not given the rest of the command line")]
fn typed_plan_file() -> Option<PathBuf> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(2).map(PathBuf::from);
    words
        .into_iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") && path.is_file())
}
