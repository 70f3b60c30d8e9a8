//! `provision history`

use std::fmt::Write as _;

use super::args::HistoryArguments;
use super::{Error, Exit, inputs};
use crate::engine::event::Finished;
use crate::engine::journal::{Record, RunStatus, RunSummary, past};
use crate::failure::Failure;
use crate::host::fs::canonical;
use crate::render::{output, to_json_line, with_target};
use crate::text::clean;
use anstyle::Style;

const BOLD: Style = Style::new().bold();

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
    let text = match run {
        Some(id) => {
            let past = one(runs, &id)?;
            if arguments.json { records(&past) } else { show(&past) }
        }
        None if arguments.json => runs.iter().take(limit).map(to_json_line).collect(),
        None if runs.is_empty() => "no runs\n".to_owned(),
        None => list(&runs[..runs.len().min(limit)]),
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

fn list(runs: &[RunSummary]) -> String {
    let mut text = String::new();
    for past in runs {
        // Writing to a `String` cannot fail.
        let (run, started, plan) = (clean(&past.run), clean(&past.started), clean(&past.plan));
        let _ = writeln!(text, "{run}  {started}  {BOLD}{plan}{BOLD:#}  {}", ending(past));
    }
    text
}

fn show(past: &RunSummary) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{BOLD}{}{BOLD:#}  {}", clean(&past.run), ending(past));
    let mut rows = vec![
        ("plan", format!("{} ({})", past.plan, past.file)),
        ("by", format!("{} on {}", past.user, past.host)),
        ("started", past.started.clone()),
    ];
    rows.extend(past.finished.clone().map(|finished| ("finished", finished)));
    rows.extend(past.saved.clone().map(|saved| ("saved plan", saved)));
    rows.extend(past.reason.clone().map(|reason| ("reason", reason)));
    for (label, value) in rows {
        let _ = writeln!(text, "  {label:<10}  {}", clean(&value));
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
                let word = match outcome {
                    // Its changes already show that.
                    Finished::Changed => continue,
                    Finished::Unchanged => "unchanged",
                    Finished::Unchecked => "unchecked",
                    Finished::Skipped => "skipped",
                    Finished::Drifted => "drifted",
                    Finished::Blocked => "blocked",
                    Finished::Failed => "failed",
                };
                (at, word, step, reason.clone().unwrap_or_default())
            }
            Record::RunSettled { at, by } => {
                let _ = writeln!(text, "  {}  recovered  by run {}", clean(at), clean(by));
                continue;
            }
            _ => continue,
        };
        let what = if what.is_empty() { String::new() } else { format!(": {what}") };
        let _ = writeln!(text, "  {}  {word:<9}  {}", clean(at), clean(&format!("{step}{what}")));
    }
    for change in &past.unfinished {
        let what = if past.outcome == RunStatus::Running { "in progress" } else { "interrupted" };
        let _ = writeln!(
            text,
            "  {what}: {}",
            clean(&format!("{}: {}", change.step, with_target(&change.target, &change.summary)))
        );
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
