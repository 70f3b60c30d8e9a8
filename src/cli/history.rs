//! `provision history`

use super::args::HistoryArguments;
use super::{Error, Exit, inputs};
use crate::engine::event::{ChangeOutcome, Finished};
use crate::engine::journal::{PastChange, Record, RunStatus, RunSummary, past};
use crate::failure::Failure;
use crate::host::fs::canonical;
use crate::render::{output, to_json_line, with_target};
use crate::text::layout::Layout;
use crate::text::{clean, plural};
use anstyle::Style;

const BOLD: Style = Style::new().bold();
/// The maximum number of lines for the changes of one step of a run.
const MAX_LINES: usize = 3;

/// Lists runs, or shows one. Reads only the acting user's state folder.
pub fn run(arguments: HistoryArguments) -> Result<Exit, Error> {
    let (file, run) = inputs::file_and_id(arguments.file, arguments.run);
    let folder = inputs::state_folder();
    let (mut runs, wrong) = past(&folder)?;
    for message in wrong {
        output::print_error(&format!("warning: {}\n", clean(&message)));
    }
    if let Some(file) = file {
        // A plan file that was deleted still has a history under its former path.
        let path = canonical(&file).display().to_string();
        runs.retain(|past| past.file == path);
    }
    // Newest first.
    runs.reverse();
    let limit = arguments.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let layout = Layout { columns: output::columns() };
    let text = match run {
        Some(id) => {
            let past = one(runs, &id)?;
            if arguments.json { records(&past) } else { show(&past, layout) }
        }
        None if arguments.json => runs.iter().take(limit).map(to_json_line).collect(),
        None if runs.is_empty() => "no runs\n".to_owned(),
        None => list(&runs[..runs.len().min(limit)], layout),
    };
    output::print(&text);
    Ok(Exit::Done)
}

/// Returns the run whose id starts with `id`. The match has to be unique.
fn one(runs: Vec<RunSummary>, id: &str) -> Result<RunSummary, Failure> {
    let mut found: Vec<RunSummary> = runs.into_iter().filter(|past| past.run.starts_with(id)).collect();
    if found.len() > 1 {
        let ids: Vec<&str> = found.iter().map(|past| past.run.as_str()).collect();
        return Err(
            Failure::new(format!("several runs start with `{id}`")).hint(format!("their ids are {}", ids.join(", ")))
        );
    }
    found.pop().ok_or_else(|| {
        Failure::new(format!("no run `{id}` in this user's history"))
            .hint("run `provision history` to list the runs; each user has a separate history")
    })
}

fn records(past: &RunSummary) -> String {
    past.records.iter().map(to_json_line).collect()
}

/// Lists runs with their changes: commits, keys, tables.
fn list(runs: &[RunSummary], layout: Layout) -> String {
    let mut text = String::new();
    for past in runs {
        let (run, plan) = (clean(&past.run), clean(&past.plan));
        let started = clean(&past.started).replace('T', " ");
        text += &layout.paragraph("", 4, &format!("{BOLD}{run}{BOLD:#}  {started}  {plan}  {}", ending(past)));
        for (step, lines) in by_step(past) {
            let mut first = format!("    {}: ", clean(step));
            for line in lines.iter().take(MAX_LINES) {
                text += &layout.paragraph(&first, 8, line);
                first = " ".repeat(6);
            }
            if lines.len() > MAX_LINES {
                let more = plural(lines.len() - MAX_LINES, "more change");
                text += &layout.paragraph(&first, 6, &format!("and {more}: `provision history {run}`"));
            }
        }
    }
    text
}

/// Returns the changes and failures of a run by step, in the order in which the steps began.
fn by_step(past: &RunSummary) -> Vec<(&str, Vec<String>)> {
    let mut steps: Vec<(&str, Vec<String>)> = Vec::new();
    let mut add = |step, line| match steps.iter_mut().find(|(known, _)| *known == step) {
        Some((_, lines)) => lines.push(line),
        None => steps.push((step, vec![line])),
    };
    for PastChange { step, target, summary, outcome, partial, .. } in &past.changes {
        let what = clean(first_line(&with_target(target, summary)));
        add(
            step.as_str(),
            if *outcome == ChangeOutcome::Changed { what } else { format!("{}: {what}", outcome.word(*partial)) },
        );
    }
    for record in &past.records {
        if let Record::StepFinished { step, reason: Some(reason), outcome, .. } = record
            && matches!(outcome, Finished::Failed | Finished::Blocked | Finished::Drifted)
        {
            add(step.as_str(), clean(&format!("{}: {}", word(*outcome), first_line(reason))));
        }
    }
    steps
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn word(outcome: Finished) -> &'static str {
    match outcome {
        Finished::Changed => "changed",
        Finished::Unchanged => "unchanged",
        Finished::Unchecked => "unchecked",
        Finished::Skipped => "skipped",
        Finished::Drifted => "drifted",
        Finished::Blocked => "blocked",
        Finished::Failed => "failed",
    }
}

fn show(past: &RunSummary, layout: Layout) -> String {
    let mut text = layout.paragraph("", 4, &format!("{BOLD}{}{BOLD:#}  {}", clean(&past.run), ending(past)));
    let mut rows = vec![
        ("plan", format!("{} ({})", past.plan, past.file)),
        ("by", format!("{} on {}", past.user, past.host)),
        ("started", past.started.clone()),
    ];
    rows.extend(past.finished.clone().map(|finished| ("finished", finished)));
    rows.extend(past.saved.clone().map(|saved| ("saved plan", saved)));
    rows.extend(past.reason.clone().map(|reason| ("reason", reason)));
    for (label, value) in rows {
        text += &layout.paragraph(&format!("  {label:<10}  "), 14, &clean(&value));
    }
    text.push('\n');
    for record in &past.records {
        let (at, word, step, what) = match record {
            Record::ChangeStarted { at, step, target, summary, .. } => {
                (at, "started", step, with_target(target, summary))
            }
            Record::ChangeFinished { at, step, target, summary, outcome, partial, .. } => {
                (at, outcome.word(*partial), step, with_target(target, summary))
            }
            Record::StepFinished { at, step, outcome, reason, .. } => {
                // Its changes already show that.
                if *outcome == Finished::Changed {
                    continue;
                }
                (at, word(*outcome), step, reason.clone().unwrap_or_default())
            }
            Record::RunSettled { at, by } => {
                text += &layout.paragraph("  ", 6, &format!("{}  recovered  by run {}", clean(at), clean(by)));
                continue;
            }
            _ => continue,
        };
        let what = if what.is_empty() { String::new() } else { format!(": {what}") };
        let line = format!("{}  {word:<9}  {}", clean(at), clean(&format!("{step}{what}")));
        text += &layout.paragraph("  ", 6, &line);
    }
    for change in &past.unfinished {
        let what = if past.outcome == RunStatus::Running { "in progress" } else { "interrupted" };
        let change = format!("{}: {}", change.step, with_target(&change.target, &change.summary));
        text += &layout.paragraph("  ", 6, &format!("{what}: {}", clean(&change)));
    }
    text
}

fn ending(past: &RunSummary) -> String {
    let word = match past.outcome {
        RunStatus::Ok => "ok",
        RunStatus::Changes => "changes left",
        RunStatus::Failed => "failed",
        RunStatus::Running => "running",
        RunStatus::CutOff => "interrupted",
    };
    past.counts.map_or_else(|| word.to_owned(), |counts| format!("{word}: {counts}"))
}
