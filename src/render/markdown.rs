//! Renders a run as Markdown for pull requests and CI summaries: counts first, then a table of the steps that need
//! attention, then the details. The text is written at the end of the run.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::Value;

use super::{deployment, output, with_target};
use crate::engine::event::{
    Action, Certainty, Counts, Deployment, Description, Event, Finished, FollowUp, OpenFollowUp, Planned, RunOutcome,
    Sink, StepFinished, StepPlanned,
};
use crate::text::{clean, file_word};

/// GitHub accepts comments of 65,536 characters. The rest is left for text that a caller adds.
const MAX_CHARS: usize = 65_000;
/// The maximum length of the table. The rest is for the details.
const MAX_TABLE_CHARS: usize = 30_000;
/// The maximum length of the details of one step.
const MAX_STEP_CHARS: usize = 12_000;
/// The maximum number of listed commits, and of listed files, of a repository's change.
const MAX_DEPLOYED: usize = 10;
/// Longer lines of a diff are truncated.
const MAX_LINE_CHARS: usize = 500;

/// Writes a run as Markdown.
#[derive(Default)]
pub struct Markdown(Mutex<Summary>);

/// What is known of the run so far.
#[derive(Default)]
struct Summary {
    command: String,
    plan: String,
    /// The plan file, as it was given.
    file: String,
    host: String,
    user: String,
    warnings: Vec<String>,
    steps: Vec<StepSummary>,
    follow_ups: Vec<FollowUp>,
    /// Those of earlier runs.
    open_follow_ups: Vec<OpenFollowUp>,
    saved: Option<String>,
}

/// The latest state of one step.
#[derive(Default)]
struct StepSummary {
    id: String,
    kind: String,
    title: String,
    word: &'static str,
    converged: bool,
    waits_for: Vec<String>,
    changes: Vec<Description>,
    drift: Vec<String>,
    reason: Option<String>,
    hint: Option<String>,
    why: Option<String>,
    remarks: Vec<String>,
    commands: Vec<String>,
}

impl Sink for Markdown {
    fn event(&self, event: &Event) {
        let mut summary = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = summary.add_event(event) {
            output::print_raw(text.as_bytes());
        }
    }
}

impl Summary {
    /// Adds an event. The last event returns the whole text.
    fn add_event(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::RunStarted { command, plan, file, host, user, .. } => {
                (self.command, self.plan, self.file, self.host, self.user) =
                    (command.clone(), plan.clone(), file.clone(), host.clone(), user.clone());
            }
            Event::RunCutOff(run) => {
                let text = format!("run {}, started {} by {}, was interrupted", run.run, run.started, run.user);
                self.warnings.push(text);
            }
            Event::Warning { message } => self.warnings.push(message.clone()),
            Event::StepPlanned(planned) => {
                let word = match planned.outcome {
                    Planned::Unchanged if planned.may_change() => "may change",
                    Planned::Unchanged => "unchanged",
                    Planned::Unchecked => "unchecked",
                    Planned::Changes => "to change",
                    Planned::Drifted if !planned.changes.is_empty() => "drifted in part",
                    Planned::Drifted => "drifted",
                    Planned::Blocked if !planned.changes.is_empty() => "blocked in part",
                    Planned::Blocked => "blocked",
                    Planned::Failed => "failed",
                };
                let StepPlanned { step, kind, title, changes, drift, reason, hint, why, notes, warnings, .. } = planned;
                self.warn(step, warnings);
                let known = self.step(step, kind);
                (known.word, known.converged) = (word, planned.is_in_order());
                (known.title, known.changes, known.drift) = (title.clone(), changes.clone(), drift.clone());
                (known.reason, known.hint, known.why) = (reason.clone(), hint.clone(), why.clone());
                let is_provisional = planned.certainty == Certainty::Provisional;
                known.waits_for = if is_provisional { planned.waits_for.clone() } else { Vec::new() };
                add(&mut known.remarks, notes);
            }
            Event::StepFinished(StepFinished {
                step,
                kind,
                outcome,
                drift,
                reason,
                hint,
                why,
                notes,
                warnings,
                restore_commands,
                ways_back,
                restoring_undoes,
                ..
            }) => {
                let word = match outcome {
                    Finished::Unchanged => "unchanged",
                    Finished::Unchecked => "unchecked",
                    Finished::Changed => "changed",
                    Finished::Skipped => "skipped",
                    Finished::Drifted => "drifted",
                    Finished::Blocked => "blocked",
                    Finished::Failed => "failed",
                };
                self.warn(step, warnings);
                let known = self.step(step, kind);
                known.word = word;
                // A step that was not selected has no reason.
                let not_selected = *outcome == Finished::Skipped && reason.is_none();
                known.converged = *outcome == Finished::Unchanged || not_selected;
                (known.drift, known.waits_for) = (drift.clone(), Vec::new());
                (known.reason, known.hint, known.why) = (reason.clone(), hint.clone(), why.clone());
                add(&mut known.remarks, notes);
                add(&mut known.commands, restore_commands);
                add(&mut known.commands, ways_back);
                add(&mut known.remarks, restoring_undoes);
            }
            Event::FollowUp(follow_up) => self.follow_ups.push(follow_up.clone()),
            Event::FollowUpOpen(open) => self.open_follow_ups.push(open.clone()),
            Event::PlanSaved { path, .. } => self.saved = Some(path.clone()),
            Event::RunFinished { outcome, counts, reason, hint } => {
                return Some(self.text(*outcome, counts, reason.as_deref(), hint.as_deref()));
            }
            Event::RunWaiting { .. }
            | Event::StepProgress { .. }
            | Event::FollowUpsExpected { .. }
            | Event::ChangeStarted { .. }
            | Event::ChangeFinished { .. }
            | Event::PlanFinished { .. } => {}
        }
        None
    }

    fn step(&mut self, id: &str, kind: &str) -> &mut StepSummary {
        let at = self.steps.iter().position(|step| step.id == id).unwrap_or_else(|| {
            self.steps.push(StepSummary { id: id.to_owned(), kind: kind.to_owned(), ..StepSummary::default() });
            self.steps.len() - 1
        });
        &mut self.steps[at]
    }

    fn warn(&mut self, step: &str, warnings: &[String]) {
        let warnings: Vec<String> = warnings.iter().map(|warning| format!("{step}: {warning}")).collect();
        add(&mut self.warnings, &warnings);
    }

    fn text(&self, outcome: RunOutcome, counts: &Counts, reason: Option<&str>, hint: Option<&str>) -> String {
        let mut head = format!("<!-- provision:{}:{} -->\n", marker(&self.plan), marker(&self.host));
        let (command, plan, host, user) =
            (self.command.as_str(), inline(&self.plan), inline(&self.host), inline(&self.user));
        let _ = writeln!(head, "### provision {command}: {plan} on {host} as {user}\n");
        let all_converged = outcome == RunOutcome::Ok && self.steps.iter().all(|step| step.converged);
        let counts = match counts.to_string() {
            none if none.is_empty() => "no steps were evaluated".to_owned(),
            counts if all_converged => format!("nothing to change: {counts}"),
            counts => counts,
        };
        let _ = writeln!(head, "**{}: {}**", capital(command), inline(&counts));
        if let Some(reason) = reason {
            let _ = writeln!(head, "\n**Error:** {}", inline(reason));
            let _ = hint.map_or(Ok(()), |hint| writeln!(head, "\nHint: {}", inline(hint)));
        }
        let tail = self.tail();
        let shown: Vec<&StepSummary> = self.steps.iter().filter(|step| !step.converged).collect();
        head.push_str(&table(&shown));
        let room = MAX_CHARS.saturating_sub(length(&head) + length(&tail) + 200);
        head + &details(&shown, room) + &tail
    }

    /// Returns the text below the steps.
    fn tail(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.warnings.iter().map(|warning| format!("**Warning:** {}\n", inline(&cut(warning)))));
        let mut commands: Vec<&str> = Vec::new();
        for FollowUp { step, reason, command, .. } in &self.follow_ups {
            lines.push(format!("**Next:** {}: {}\n", inline(step), inline(&cut(reason))));
            if !commands.contains(&command.as_str()) {
                commands.push(command);
                lines.push(fence("sh", &clean(command)));
            }
        }
        for OpenFollowUp { id, since, steps, reasons, follow_up, .. } in &self.open_follow_ups {
            let FollowUp { reason, command, .. } = follow_up;
            let reasons = if reasons.is_empty() { reason.clone() } else { reasons.join("; ") };
            let steps = steps.join(", ");
            lines.push(format!(
                "**Still open** since {}: {}: {}\n",
                inline(since),
                inline(&steps),
                inline(&cut(&reasons))
            ));
            lines.push(fence("sh", &clean(command)));
            let done = format!("provision follow-ups {} --done {id}", file_word(&self.file));
            lines.push(format!("When it is done: {}\n", code(&clean(&done))));
        }
        lines.extend(
            self.saved.iter().map(|path| format!("Saved: {}\n", code(&format!("provision apply {}", file_word(path))))),
        );
        let (mut text, mut shown) = (String::new(), 0);
        for line in &lines {
            if length(&text) + length(line) > MAX_STEP_CHARS {
                break;
            }
            text = text + "\n" + line;
            shown += 1;
        }
        if shown < lines.len() {
            let _ = writeln!(text, "\n_{} more lines_", lines.len() - shown);
        }
        text
    }
}

/// Returns the table of the steps that need attention.
fn table(steps: &[&StepSummary]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let mut text = "\n| step | kind | state | what |\n|---|---|---|---|\n".to_owned();
    for (index, step) in steps.iter().enumerate() {
        let what = step.what();
        let after = if step.waits_for.is_empty() {
            String::new()
        } else {
            format!(" (provisional: after {})", step.waits_for.join(", "))
        };
        let (state, what) = (format!("{}{}", step.word, cut(&after)), inline(&cut(&what)));
        let row = format!("| {} | {} | {} | {what} |\n", code(&step.id), step.kind, inline(&state));
        if length(&text) + length(&row) > MAX_TABLE_CHARS {
            let _ = writeln!(text, "| … | | | {} more steps |", steps.len() - index);
            break;
        }
        text.push_str(&row);
    }
    text
}

/// Returns the details of as many steps as fit.
fn details(steps: &[&StepSummary], room: usize) -> String {
    let mut text = String::new();
    for (index, step) in steps.iter().enumerate() {
        let one = step.details();
        if length(&text) + length(&one) > room {
            let left = steps.len() - index;
            let plural = if left == 1 { "" } else { "s" };
            let _ = writeln!(text, "\n**{left} more step{plural}.** `--format json` has all of them.");
            break;
        }
        text.push_str(&one);
    }
    text
}

impl StepSummary {
    /// Returns what the step is about: its title, or else what stops it, its first change, or what is noted.
    fn what(&self) -> String {
        let change = || self.changes.first().map(|change| with_target(&change.target, &change.summary));
        let titled = Some(self.title.clone()).filter(|title| !title.is_empty());
        let remark = || self.drift.first().or(self.remarks.first()).cloned();
        let after = || (!self.waits_for.is_empty()).then(|| format!("depends on {}", self.waits_for.join(", ")));
        titled.or_else(|| self.reason.clone()).or_else(change).or_else(remark).or_else(after).unwrap_or_default()
    }

    fn details(&self) -> String {
        let mut diff = String::new();
        for (index, change) in self.changes.iter().enumerate() {
            let one = difference(change);
            if length(&diff) + length(&one) > MAX_STEP_CHARS {
                let _ = writeln!(diff, "# and {} more changes", self.changes.len() - index);
                break;
            }
            diff.push_str(&one);
        }
        for line in &self.drift {
            let _ = writeln!(diff, "! {}", cut(&clean(line)));
        }
        let mut body = String::new();
        if !diff.is_empty() {
            body.push_str(&fence("diff", diff.trim_end()));
        }
        let labelled = [("", &self.reason), ("Hint: ", &self.hint), ("Why it matters: ", &self.why)];
        let labelled = labelled.into_iter().filter_map(|(label, text)| Some((label, text.as_ref()?)));
        let drifted = |label: &str| label.is_empty() && !self.drift.is_empty();
        for (label, text) in labelled.filter(|(label, _)| !drifted(label)) {
            let _ = writeln!(body, "\n{label}{}", inline(&cut(text)));
        }
        for remark in &self.remarks {
            let _ = writeln!(body, "\n{}", inline(&cut(remark)));
        }
        if !self.commands.is_empty() {
            let _ = writeln!(body, "\nTo restore what was moved out of the way:\n");
            body.push_str(&fence("sh", &clean_lines(&self.commands)));
        }
        if body.is_empty() {
            return String::new();
        }
        let title = if self.title.is_empty() { String::new() } else { format!(" {}", html(&clean(&cut(&self.title)))) };
        let id = html(&clean(&self.id));
        format!("\n<details><summary><code>{id}</code>{title}</summary>\n\n{}\n\n</details>\n", body.trim())
    }
}

/// Renders a change as lines of a diff.
fn difference(change: &Description) -> String {
    let sign = match change.action {
        Action::Create => '+',
        Action::Update => '!',
        Action::Delete => '-',
    };
    let mut text = String::new();
    let summary = with_target(&change.target, &change.summary);
    for (index, line) in summary.lines().enumerate() {
        let sign = if index == 0 { sign } else { ' ' };
        let _ = writeln!(text, "{sign} {}", cut(&clean(line)));
    }
    if change.action == Action::Update {
        for (sign, value, other) in [('-', &change.before, &change.after), ('+', &change.after, &change.before)] {
            for line in lines(value, other) {
                let _ = writeln!(text, "{sign}   {}", cut(&clean(&line)));
            }
        }
    }
    if let Some(deployment) = Deployment::of(&change.after) {
        for line in deployment::lines(&deployment, MAX_DEPLOYED, Timestamp::now()) {
            let _ = writeln!(text, "    {}", cut(&clean(&line)));
        }
    }
    let lines: Vec<&str> = change.diff.iter().flat_map(|diff| diff.lines()).collect();
    for (index, line) in lines.iter().enumerate() {
        let line = cut(&clean(line));
        if length(&text) + length(&line) > MAX_STEP_CHARS / 2 {
            let _ = writeln!(text, "# and {} more lines", lines.len() - index);
            break;
        }
        let _ = writeln!(text, "{line}");
    }
    if let Some(risk) = &change.risk {
        let _ = writeln!(text, "! risk: {}", cut(&clean(risk)));
    }
    text
}

/// The keys of a checkout's change that are for programs.
const SAID_IN_WORDS: [&str; 9] = [
    "behind",
    "changed_paths",
    "commit_count",
    "commits",
    "detached_commits",
    "files",
    "in_the_way",
    "local_commits",
    "stashed",
];

/// Returns the keys of a value that the other value lacks or has with another value.
fn lines(value: &Value, other: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Null => Vec::new(),
        Value::Object(keys) => keys
            .iter()
            // What is deployed has its own lines. The summary and the risk say the rest in words.
            .filter(|(key, _)| !SAID_IN_WORDS.contains(&key.as_str()))
            .filter(|(key, value)| other.get(key.as_str()) != Some(*value))
            .map(|(key, value)| format!("{key}: {}", text(value)))
            .collect(),
        value => vec![text(value)],
    }
}

fn add(list: &mut Vec<String>, more: &[String]) {
    for text in more {
        if !list.contains(text) {
            list.push(text.clone());
        }
    }
}

/// Returns a name for an HTML comment. Nothing in it can end the comment.
fn marker(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(plain).collect::<String>().replace("--", "-_")
}

/// Escapes text for Markdown. Text that could mention a person or an issue (`@`, `#`) is rendered as code.
pub(super) fn inline(text: &str) -> String {
    let text = clean(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    let calls = text.contains(['@', '#']);
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '!' | '|' | '~' | '&' | '$') {
            let _ = write!(escaped, "&#{};", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    if calls { format!("<code>{escaped}</code>") } else { escaped }
}

/// Renders text as inline code.
pub(super) fn code(text: &str) -> String {
    let text = inline(text);
    if text.starts_with("<code>") { text } else { format!("<code>{text}</code>") }
}

fn html(text: &str) -> String {
    inline(text)
}

/// Renders a code block. Nothing in its text can end the block.
fn fence(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let ticks = "`".repeat(longest.max(2) + 1);
    format!("{ticks}{language}\n{text}\n{ticks}\n")
}

fn clean_lines(lines: &[String]) -> String {
    lines.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n")
}

fn cut(text: &str) -> String {
    if length(text) <= MAX_LINE_CHARS {
        return text.to_owned();
    }
    text.chars().take(MAX_LINE_CHARS).chain(['…']).collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn capital(word: &str) -> String {
    let mut rest = word.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
