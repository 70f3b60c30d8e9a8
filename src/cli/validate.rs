//! `provision validate`

use std::path::Path;

use serde_json::json;

use super::args::{CheckFormat, ValidateArguments};
use super::{Error, Exit, inputs};
use crate::engine::event::FORMAT;
use crate::engine::run::NotPrepared;
use crate::plan_file::{DiagnosticPlace, PlanFile};
use crate::render::{Annotation, output, to_json_line};
use crate::text::plural;

/// Checks all given plan files. Of the host it reads only symlinks, compose files and service files, which
/// show whether two steps share something.
pub fn run(arguments: ValidateArguments) -> Result<Exit, Error> {
    let ValidateArguments { files, variables, format } = arguments;
    let given: Vec<Option<&Path>> =
        if files.is_empty() { vec![None] } else { files.iter().map(|file| Some(file.as_path())).collect() };
    let mut exit = Exit::Done;
    let mut issues = Vec::new();
    for file in given {
        let result = inputs::plan_file(file, "validate").and_then(|plan_file| {
            let inputs = inputs::inputs(&variables);
            plan_file.validate(&inputs)?;
            let remarks = plan_file.remarks(&inputs);
            Ok(Valid { plan_file, remarks })
        });
        if result.is_err() {
            exit = Exit::Failed;
        }
        match format.format() {
            CheckFormat::Json => output::print_raw(json_line(file, &result).as_bytes()),
            CheckFormat::Human => print_result(result),
            CheckFormat::Github => {
                for annotation in annotations(file, &result) {
                    output::print(&annotation.to_github());
                }
                print_result(result);
            }
            CheckFormat::Gitlab => issues.extend(annotations(file, &result).iter().map(Annotation::to_gitlab)),
        }
    }
    if format.format() == CheckFormat::Gitlab {
        output::print_raw(to_json_line(&issues).as_bytes());
    }
    Ok(exit)
}

/// A valid plan file.
struct Valid {
    plan_file: PlanFile,
    /// What is probably a mistake in it.
    remarks: Vec<DiagnosticPlace>,
}

fn print_result(result: Result<Valid, NotPrepared>) {
    match result {
        Ok(Valid { plan_file, remarks }) => {
            let (file, count) = (plan_file.path(), plan_file.ids().len());
            output::print(&format!("{file}: valid ({})\n", plural(count, "step")));
            for DiagnosticPlace { message, line, column, .. } in remarks {
                let place: String = [line, column].into_iter().flatten().map(|number| format!(":{number}")).collect();
                output::print(&format!("note: {message}\n --> {file}{place}\n"));
            }
        }
        Err(error) => output::print_error(&format!("{}\n", Error::from(error))),
    }
}

/// Returns what CI systems show beside the lines of a file.
fn annotations(file: Option<&Path>, result: &Result<Valid, NotPrepared>) -> Vec<Annotation> {
    let given = || file.map(|file| file.display().to_string()).unwrap_or_default();
    let with_help = |message: &str, help: Option<&str>| match help {
        Some(help) => format!("{message}\nhint: {help}"),
        None => message.to_owned(),
    };
    match result {
        Err(NotPrepared::Stopped(_)) => Vec::new(),
        Ok(Valid { plan_file, remarks }) => {
            let annotation = |remark: &DiagnosticPlace| Annotation {
                is_error: false,
                file: plan_file.path().to_owned(),
                line: remark.line,
                column: remark.column,
                message: remark.message.clone(),
            };
            remarks.iter().map(annotation).collect()
        }
        Err(NotPrepared::Failure(failure)) => vec![Annotation {
            is_error: true,
            file: given(),
            line: None,
            column: None,
            message: with_help(&failure.message, failure.hint.as_deref()),
        }],
        Err(NotPrepared::Diagnostics(problems)) => {
            let places = problems.places().into_iter();
            let annotation = |place: DiagnosticPlace| Annotation {
                is_error: true,
                message: with_help(&place.message, place.help.as_deref()),
                file: place.file.unwrap_or_else(|| problems.source.path.clone()),
                line: place.line,
                column: place.column,
            };
            places.map(annotation).collect()
        }
    }
}

/// Returns the JSON line for one file. Keys that do not apply are null.
fn json_line(file: Option<&Path>, result: &Result<Valid, NotPrepared>) -> String {
    let given = file.map(|file| file.display().to_string());
    let remarks: &[DiagnosticPlace] = result.as_ref().map_or(&[], |valid| &valid.remarks);
    let (file, name, steps, problems) = match result {
        Ok(Valid { plan_file, .. }) => {
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
        "remarks": remarks,
    });
    format!("{}\n", crate::render::escape_hidden(&line.to_string()))
}
