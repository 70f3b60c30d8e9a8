//! `provision validate`

use std::path::Path;

use serde_json::json;

use super::args::{CheckFormat, ValidateArguments};
use super::{Error, Exit, inputs};
use crate::engine::event::FORMAT;
use crate::engine::run::NotPrepared;
use crate::plan_file::PlanFile;
use crate::render::output;
use crate::text::plural;

/// Checks all given plan files without touching the host.
pub fn run(arguments: ValidateArguments) -> Result<Exit, Error> {
    let ValidateArguments { files, variables, format } = arguments;
    let given: Vec<Option<&Path>> =
        if files.is_empty() { vec![None] } else { files.iter().map(|file| Some(file.as_path())).collect() };
    let mut exit = Exit::Done;
    for file in given {
        let result = inputs::plan_file(file).and_then(|plan_file| {
            plan_file.validate(&inputs::inputs(&variables))?;
            Ok(plan_file)
        });
        if result.is_err() {
            exit = Exit::Failed;
        }
        match format.format() {
            CheckFormat::Json => output::print_raw(json_line(file, &result).as_bytes()),
            CheckFormat::Human => print_result(result),
        }
    }
    Ok(exit)
}

fn print_result(result: Result<PlanFile, NotPrepared>) {
    match result {
        Ok(plan_file) => {
            let count = plan_file.ids().len();
            output::print(&format!("{}: valid ({})\n", plan_file.path(), plural(count, "step")));
        }
        Err(error) => output::print_error(&format!("{}\n", Error::from(error))),
    }
}

/// Returns the JSON line for one file. Keys that do not apply are null.
fn json_line(file: Option<&Path>, result: &Result<PlanFile, NotPrepared>) -> String {
    let given = file.map(|file| file.display().to_string());
    let (file, name, steps, problems) = match result {
        Ok(plan_file) => {
            (Some(plan_file.path().to_owned()), Some(plan_file.name.as_str()), Some(plan_file.ids().len()), json!([]))
        }
        Err(NotPrepared::Diagnostics(problems)) => {
            (Some(problems.source.path.clone()), None, None, json!(problems.places()))
        }
        Err(NotPrepared::Failure(failure)) => {
            let problem = json!([{ "message": failure.message, "help": failure.hint, "line": null, "column": null }]);
            (given, None, None, problem)
        }
        Err(NotPrepared::Stopped(_)) => (given, None, None, json!([])),
    };
    let event = "plan_file_validated";
    let valid = result.is_ok();
    let line = json!({
        "event": event, "format": FORMAT, "file": file, "valid": valid, "plan": name, "steps": steps, "problems": problems,
    });
    format!("{}\n", crate::render::escape_hidden(&line.to_string()))
}
