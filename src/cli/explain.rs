//! `provision explain`

use std::fmt::Write as _;

use anstyle::Style;

use super::args::ExplainArguments;
use super::{Error, Exit, inputs};
use crate::plan_file::{Inputs, PlanFile};

const BOLD: Style = Style::new().bold();
/// Columns of running text.
const WIDTH: usize = 100;

/// Tells of one step, or of all.
pub fn run(arguments: ExplainArguments) -> Result<Exit, Error> {
    let (file, id) = inputs::file_and_id(&arguments.words);
    let plan_file = inputs::plan_file(file.as_deref())?;
    let inputs = inputs::inputs(&arguments.variables);
    let ids = match &id {
        Some(id) => vec![id.as_str()],
        None => plan_file.ids(),
    };
    let mut text = String::new();
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        explain(&plan_file, id, &inputs, &mut text)?;
    }
    anstream::print!("{text}");
    Ok(Exit::Done)
}

fn explain(plan_file: &PlanFile, id: &str, inputs: &Inputs, out: &mut String) -> Result<(), Error> {
    let Some((prose, kind, step)) = plan_file.describe(id, inputs) else {
        return Err(plan_file.unknown_step(id).into());
    };
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "{BOLD}{id}{BOLD:#} ({kind})");
    if !prose.title.is_empty() {
        let _ = writeln!(out, "  {}", prose.title);
    }
    for (label, body) in [("Why", &prose.why), ("If it is missing", &prose.symptom), ("When", &prose.when)] {
        if !body.is_empty() {
            let _ = writeln!(out, "\n  {BOLD}{label}{BOLD:#}");
            prose_lines(body, out);
        }
    }
    let _ = writeln!(out, "\n  {BOLD}By hand{BOLD:#}");
    match step {
        Ok(step) => {
            if let Some(user) = &step.run_as {
                let _ = writeln!(out, "    # as {user}");
            }
            for line in step.resource.by_hand() {
                for line in line.lines() {
                    let _ = writeln!(out, "    {line}");
                }
            }
        }
        Err(problem) => {
            let _ = writeln!(out, "    (cannot be told here: {})", problem.message);
        }
    }
    Ok(())
}

/// Wraps running text; lines that are indented in the plan file (commands, log lines) stay as they are.
fn prose_lines(body: &str, out: &mut String) {
    let mut line = String::new();
    let mut flush = |line: &mut String| {
        if !line.is_empty() {
            let _ = writeln!(out, "    {line}");
            line.clear();
        }
    };
    for source in body.lines() {
        if source.trim().is_empty() || source.starts_with([' ', '\t', '-']) {
            flush(&mut line);
            line.push_str(source.trim_end());
            flush(&mut line);
            continue;
        }
        for word in source.split_whitespace() {
            if line.chars().count() + word.chars().count() + 1 > WIDTH - 4 {
                flush(&mut line);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    flush(&mut line);
}
