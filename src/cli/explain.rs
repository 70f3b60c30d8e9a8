//! `provision explain`

use std::fmt::Write as _;

use anstyle::Style;

use super::args::ExplainArguments;
use super::{Error, Exit, discover, inputs};
use crate::failure::Failure;
use crate::plan_file::{Described, reference, suggest};
use crate::render::output;
use crate::text::layout::Layout;
use crate::text::{clean, clean_lines, shell_word};

const BOLD: Style = Style::new().bold();
/// The width of running text if there is no terminal.
const DEFAULT_COLUMNS: usize = 80;

/// Explains one step or all steps, a kind, or a key of a kind. A word that is both a step of the default plan file and
/// a kind is explained as both.
pub fn run(arguments: ExplainArguments) -> Result<Exit, Error> {
    let (file, id) = inputs::file_and_id(arguments.file, arguments.id);
    let layout = Layout { columns: Some(output::columns().unwrap_or(DEFAULT_COLUMNS)) };
    let topic = if file.is_none() { id.as_deref().and_then(|word| reference::explain(word, layout)) } else { None };
    let plan_file = match (inputs::plan_file(file.as_deref(), "explain"), topic) {
        (Ok(plan_file), Some(topic)) if id.as_deref().is_some_and(|id| plan_file.ids().contains(&id)) => {
            output::print(&format!("{}\n", topic?));
            plan_file
        }
        (_, Some(topic)) => {
            output::print(&topic?);
            return Ok(Exit::Done);
        }
        (Err(_), None) if file.is_none() && id.is_some() && discover::default_plan_file("explain").is_err() => {
            return Err(neither_kind_nor_step(&id.unwrap_or_default()).into());
        }
        (plan_file, None) => plan_file?,
    };
    let ids: Vec<String> = id.into_iter().collect();
    let steps = plan_file.describe(&ids, &inputs::inputs(&arguments.variables))?;
    let mut text = String::new();
    for (index, step) in steps.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        explain(step, layout, &mut text);
    }
    output::print(&text);
    // A missing environment variable is not an error of the plan file. Other errors of a step are reported after all
    // steps.
    let wrong = steps.into_iter().filter_map(|step| step.step.err());
    match wrong.into_iter().find(|diagnostics| diagnostics.list.iter().any(|diagnostic| diagnostic.unset.is_none())) {
        Some(diagnostics) => Err(diagnostics.into()),
        None => Ok(Exit::Done),
    }
}

/// Returns the error for a word that is not a kind, if there is no plan file that could have a step of that name.
fn neither_kind_nor_step(word: &str) -> Failure {
    let topics: Vec<&str> = reference::topics().into_iter().map(|(name, _)| name).collect();
    let word = clean(word);
    Failure::new(format!("`{word}` is not a kind, and there is no plan file here with a step of that name")).hint(
        format!(
            "a step is explained with its plan file: `provision explain PATH {}`; {}",
            shell_word(&word),
            suggest(&word, &topics)
        ),
    )
}

fn explain(described: &Described, layout: Layout, out: &mut String) {
    let Described { id, kind, prose, step } = described;
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "{BOLD}{id}{BOLD:#} ({kind})");
    if !prose.title.is_empty() {
        *out += &layout.paragraph("  ", 2, &clean(&prose.title));
    }
    for (label, body) in [("Why", &prose.why), ("If it is missing", &prose.symptom), ("When", &prose.when)] {
        if !body.is_empty() {
            let _ = writeln!(out, "\n  {BOLD}{label}{BOLD:#}");
            prose_lines(&clean_lines(body), layout, out);
        }
    }
    let _ = writeln!(out, "\n  {BOLD}By hand{BOLD:#}");
    match step {
        Ok(step) => {
            if let Some(user) = &step.run_as {
                let _ = writeln!(out, "    # as {user}");
            }
            if let Some(connection) = step.resource.connection() {
                let _ = writeln!(out, "    -- in psql, on the connection {connection}");
            }
            for line in step.resource.manual() {
                for line in line.lines() {
                    let line = if step.run_as.as_deref() == Some("root") { without_sudo(line) } else { line };
                    let _ = writeln!(out, "    {}", clean(line));
                }
            }
        }
        Err(diagnostics) => {
            for diagnostic in &diagnostics.list {
                *out += &layout.paragraph("    ", 4, &format!("(not available here: {})", clean(&diagnostic.message)));
            }
        }
    }
}

/// Returns the command for someone who is already root.
fn without_sudo(line: &str) -> &str {
    line.strip_prefix("sudo ").unwrap_or(line)
}

/// Wraps running text. Lines that are indented in the plan file (commands, log lines) are kept as they are.
fn prose_lines(body: &str, layout: Layout, out: &mut String) {
    let mut text = String::new();
    for source in body.lines().chain([""]) {
        if source.trim().is_empty() || source.starts_with([' ', '\t', '-']) {
            if !text.is_empty() {
                *out += &layout.paragraph("    ", 4, &text);
                text.clear();
            }
            if !source.trim().is_empty() {
                let _ = writeln!(out, "    {}", source.trim_end());
            }
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text += source.trim();
    }
}
