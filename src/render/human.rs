//! Events as text: results on standard output, warnings and progress on standard error.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use anstyle::{AnsiColor, Style};

use super::output;
use crate::engine::event::{
    Action, Certainty, ChangeOutcome, Counts, Description, Event, Finished, FollowUp, InterruptedRun, OpenFollowUp,
    Planned, RunOutcome, Sink, StepFinished, StepPlanned,
};
use crate::text::{clean, shell_word};

const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();
const RED_PLAIN: Style = AnsiColor::Red.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// The indentation of lines that belong to a step.
const INDENT: &str = "             ";

/// Writes events as text.
pub struct Human(Mutex<State>);

struct State {
    command: String,
    /// The plan file, as it was given.
    file: String,
    /// A heading that is printed before any other output.
    heading: String,
    /// Steps that were planned as drifted, blocked or failed. Their end adds nothing new.
    reported: BTreeSet<String>,
    /// Whether any step has changes.
    changes: bool,
    /// Notes and warnings by step that were already shown, so that they are not repeated at the end of the step.
    shown: BTreeSet<(String, String)>,
}

impl Default for Human {
    fn default() -> Self {
        Self::new()
    }
}

impl Human {
    /// Creates a renderer.
    pub fn new() -> Self {
        Self(Mutex::new(State {
            command: "plan".to_owned(),
            file: String::new(),
            heading: String::new(),
            reported: BTreeSet::new(),
            changes: false,
            shown: BTreeSet::new(),
        }))
    }
}

impl Sink for Human {
    fn event(&self, event: &Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut out, err) = state.render(event);
        if output::is_quiet() {
            state.remove_routine(event, &mut out);
        }
        let mut parts = [(out, output::print as fn(&str)), (err, output::print_error)];
        if matches!(event, Event::RunFinished { .. }) {
            // The reason for an early end comes before the counts.
            parts.reverse();
        }
        for (text, write) in parts.iter().filter(|(text, _)| !text.is_empty()) {
            write(text);
        }
    }
}

impl State {
    /// Returns the text for standard output and for standard error. Writing to a `String` cannot fail.
    fn render(&mut self, event: &Event) -> (String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        match event {
            Event::RunStarted { command, plan, file, host, user, .. } => {
                self.file.clone_from(file);
                self.command.clone_from(command);
                let _ = writeln!(out, "{BOLD}{plan}{BOLD:#} on {host}, as {user}\n");
                output::show_activity("observing the host".to_owned());
            }
            Event::RunCutOff(run) => write_interrupted(run, &mut err),
            Event::RunWaiting { holder } => {
                let _ = writeln!(err, "waiting: the plan file is being applied by {}", clean(&holder.to_string()));
                output::show_activity("waiting".to_owned());
            }
            Event::Warning { message } => {
                let _ = writeln!(err, "{YELLOW}warning{YELLOW:#}: {}", clean(message));
            }
            Event::PlanSaved { path, .. } => {
                let path = clean(path);
                let effect = if self.changes { "applies exactly these changes, once" } else { "changes nothing" };
                let _ = writeln!(out, "\nsaved: `provision apply {path}` {effect}");
            }
            Event::StepPlanned(planned) => self.planned(planned, &mut out, &mut err),
            Event::ChangeStarted { step, summary, .. } => {
                let line = summary.lines().next().unwrap_or_default();
                output::show_activity(clean(&format!("{step}: {line}")));
            }
            Event::StepProgress { step, text } => output::show_activity(clean(&format!("{step}: {text}"))),
            Event::ChangeFinished { step, target, summary, outcome, .. } => {
                let (style, word) = match outcome {
                    ChangeOutcome::Changed => (GREEN, "done"),
                    ChangeOutcome::Failed => (RED, "failed"),
                };
                let _ = writeln!(out, "  {style}{word:<9}{style:#}  {step}: {}", clean(&with_target(target, summary)));
            }
            Event::StepFinished(StepFinished {
                step,
                outcome,
                drift,
                reason,
                hint,
                why,
                notes,
                warnings,
                restore_commands,
                ways_back,
                ..
            }) => {
                self.finished(step, *outcome, drift, (reason, hint, why), &mut out);
                for back in restore_commands.iter().chain(ways_back) {
                    let _ = writeln!(
                        out,
                        "  {GREEN}rescued{GREEN:#}    {step}: to restore what was moved out of the way: {}",
                        clean(back)
                    );
                }
                self.write_remarks(step, notes, warnings, &mut out, &mut err);
            }
            Event::PlanFinished { counts, follow_ups, .. } => {
                output::clear_activity();
                for follow_up in follow_ups {
                    write_follow_up(follow_up, &mut out);
                }
                let _ = writeln!(out, "\n{}", summary("plan", RunOutcome::Changes, counts));
            }
            Event::FollowUpOpen(open) => self.still_open(open, &mut out),
            Event::FollowUpsExpected { .. } => {}
            Event::FollowUp(follow_up) => {
                write_follow_up(follow_up, &mut out);
            }
            Event::RunFinished { outcome, counts, reason, hint } => {
                output::clear_activity();
                if let Some(reason) = reason {
                    let _ = writeln!(err, "{RED}error{RED:#}: {}", clean(reason));
                    if let Some(hint) = hint {
                        let _ = writeln!(err, "  hint: {}", clean(hint));
                    }
                }
                let _ = writeln!(out, "\n{}", summary(&self.command, *outcome, counts));
            }
        }
        (out, err)
    }

    /// Removes output that needs no attention. The heading is printed before the first remaining output.
    fn remove_routine(&mut self, event: &Event, out: &mut String) {
        match event {
            Event::RunStarted { .. } => self.heading = std::mem::take(out),
            Event::StepPlanned(StepPlanned { outcome: Planned::Unchanged, .. }) => out.clear(),
            Event::RunFinished { outcome: RunOutcome::Ok, counts: Counts { changed: 0, .. }, .. } => out.clear(),
            _ if !out.is_empty() => out.insert_str(0, &std::mem::take(&mut self.heading)),
            _ => {}
        }
    }

    fn still_open(&self, open: &OpenFollowUp, out: &mut String) {
        let OpenFollowUp { id, since, steps, follow_up, .. } = open;
        let (reason, since, file) = (clean(&follow_up.reason), clean(since), shell_word(&self.file));
        let _ = writeln!(out, "\n  {YELLOW}open{YELLOW:#}       {BOLD}{}{BOLD:#}: {reason}", steps.join(", "));
        let _ = writeln!(out, "{INDENT}{}", clean(&follow_up.command));
        let _ = writeln!(
            out,
            "{INDENT}{DIM}since {since}; when it is done, run: provision follow-ups {} --done {id}{DIM:#}",
            clean(&file)
        );
    }

    fn planned(&mut self, planned: &StepPlanned, out: &mut String, err: &mut String) {
        let StepPlanned { step, outcome, certainty, waits_for, changes, drift, .. } = planned;
        let StepPlanned { reason, hint, why, notes, warnings, .. } = planned;
        self.changes |= !changes.is_empty();
        let (style, word) = match outcome {
            Planned::Unchanged => (GREEN, "ok"),
            Planned::Unchecked => (YELLOW, "unchecked"),
            Planned::Changes => (YELLOW, "change"),
            Planned::Drifted => (RED, "drifted"),
            Planned::Blocked => (RED, "blocked"),
            Planned::Failed => (RED, "failed"),
        };
        let provisional = match certainty {
            Certainty::Provisional => format!("  {DIM}(provisional: after {}){DIM:#}", waits_for.join(", ")),
            Certainty::Exact => String::new(),
        };
        let _ = writeln!(out, "  {style}{word:<9}{style:#}  {BOLD}{step}{BOLD:#}{provisional}");
        for change in changes {
            describe(out, change);
        }
        write_drift(out, drift);
        if matches!(outcome, Planned::Drifted | Planned::Blocked | Planned::Failed) {
            let reason = if *outcome == Planned::Drifted { &None } else { reason };
            explain(out, reason, hint, why);
            self.reported.insert(step.clone());
        }
        self.write_remarks(step, notes, warnings, out, err);
    }

    fn write_remarks(&mut self, step: &str, notes: &[String], warnings: &[String], out: &mut String, err: &mut String) {
        for note in notes {
            if self.shown.insert((step.to_owned(), note.clone())) {
                let _ = writeln!(out, "{INDENT}{DIM}{}{DIM:#}", clean(note));
            }
        }
        for warning in warnings {
            if self.shown.insert((step.to_owned(), warning.clone())) {
                warn(err, step, warning);
            }
        }
    }

    fn finished(
        &mut self,
        step: &str,
        outcome: Finished,
        drift: &[String],
        (reason, hint, why): (&Option<String>, &Option<String>, &Option<String>),
        out: &mut String,
    ) {
        let (style, word) = match outcome {
            Finished::Unchanged | Finished::Unchecked | Finished::Changed => return,
            Finished::Drifted | Finished::Blocked | Finished::Failed if self.reported.contains(step) => return,
            Finished::Skipped if reason.is_none() => return,
            Finished::Skipped => (YELLOW, "skipped"),
            Finished::Drifted => (RED, "drifted"),
            Finished::Blocked => (RED, "blocked"),
            Finished::Failed => (RED, "failed"),
        };
        let _ = writeln!(out, "  {style}{word:<9}{style:#}  {BOLD}{step}{BOLD:#}");
        write_drift(out, drift);
        // The drift was already written line by line.
        let reason = if outcome == Finished::Drifted { &None } else { reason };
        explain(out, reason, hint, why);
    }
}

fn write_drift(out: &mut String, drift: &[String]) {
    for difference in drift {
        let _ = writeln!(out, "{INDENT}{RED}!{RED:#} {}", clean(difference));
    }
}

fn write_follow_up(follow_up: &FollowUp, out: &mut String) {
    let FollowUp { step, reason, command, .. } = follow_up;
    let _ = writeln!(out, "\n  {YELLOW}next     {YELLOW:#}  {BOLD}{step}{BOLD:#}: {}", clean(reason));
    let _ = writeln!(out, "{INDENT}{}", clean(command));
}

fn describe(out: &mut String, change: &Description) {
    let (style, sign) = match change.action {
        Action::Create => (GREEN, '+'),
        Action::Update => (YELLOW, '~'),
        Action::Delete => (RED, '-'),
    };
    let summary = with_target(&change.target, &change.summary);
    let mut lines = summary.lines();
    let _ = writeln!(out, "{INDENT}{style}{sign}{style:#} {}", clean(lines.next().unwrap_or_default()));
    for line in lines {
        let _ = writeln!(out, "{INDENT}  {}", clean(line));
    }
    for line in change.diff.iter().flat_map(|diff| diff.lines()) {
        let style = match line.as_bytes().first() {
            Some(b'+') => GREEN,
            Some(b'-') => RED_PLAIN,
            Some(b' ') | None => Style::new(),
            _ => DIM,
        };
        let _ = writeln!(out, "{INDENT}  {style}{}{style:#}", clean(line));
    }
    if let Some(risk) = &change.risk {
        let _ = writeln!(out, "{INDENT}  {YELLOW}risk{YELLOW:#}: {}", clean(risk));
    }
}

/// Prefixes a summary with its target, unless the summary mentions it.
pub fn with_target(target: &str, summary: &str) -> String {
    if summary.contains(target) { summary.to_owned() } else { format!("{target}: {summary}") }
}

fn explain(out: &mut String, reason: &Option<String>, hint: &Option<String>, why: &Option<String>) {
    for (label, text) in [("", reason), ("hint: ", hint), ("why it matters: ", why)] {
        let Some(text) = text else { continue };
        let mut label = label;
        for line in text.lines() {
            let _ = writeln!(out, "{INDENT}{label}{}", clean(line));
            label = "";
        }
    }
}

fn write_interrupted(run: &InterruptedRun, err: &mut String) {
    let InterruptedRun { run, started, user, changes, .. } = run;
    let (run, started, user) = (clean(run), clean(started), clean(user));
    let _ = write!(err, "{YELLOW}warning{YELLOW:#}: run {run}, started {started} by {user}, was interrupted");
    let _ = match changes.as_slice() {
        [] => writeln!(err, " between two changes"),
        changes => {
            let list: Vec<String> = changes
                .iter()
                .map(|change| clean(&format!("{}: {}", change.step, with_target(&change.target, &change.summary))))
                .collect();
            writeln!(err, " during: {}", list.join("; "))
        }
    };
    let _ = writeln!(err, "  hint: run apply again to finish it; `provision history {run}` shows what it did");
}

fn warn(err: &mut String, step: &str, warning: &str) {
    let _ = writeln!(err, "{YELLOW}warning{YELLOW:#}: {step}: {}", clean(warning));
}

fn summary(command: &str, outcome: RunOutcome, counts: &Counts) -> String {
    let style = if outcome == RunOutcome::Failed { RED } else { BOLD };
    if *counts == Counts::default() {
        return format!("{style}{command}{style:#}: no steps were evaluated");
    }
    let converged = outcome == RunOutcome::Ok && counts.changed == 0 && counts.unchecked == 0;
    let tail = if converged { ": nothing to change" } else { "" };
    format!("{style}{command}{style:#}: {counts}{tail}")
}
