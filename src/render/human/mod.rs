//! Events as text: results on standard output, warnings and progress on standard error.
//!
//! A plan is shown when it is complete, so that paths can be shortened and steps that are in order take one line. After the
//! confirmation there is one line for each step, as it ends.

mod counts;
mod paths;
mod plan;
mod style;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::plan::{Screen, is_routine};
use self::style::{BOLD, DIM, GREEN, RED, YELLOW};
use super::output;
use super::target::with_target;
use crate::engine::event::{
    ChangeOutcome, Counts, Event, Finished, FollowUp, InterruptedRun, OpenFollowUp, Planned, RunOutcome, Sink,
    StepFinished, StepPlanned,
};
use crate::text::layout::Layout;
use crate::text::{clean, clean_lines, file_word, plural};

/// Writes events as text.
pub struct Human(Mutex<State>);

/// A piece of output.
#[derive(Debug, PartialEq)]
enum Part {
    /// For standard output.
    Result(String),
    /// For standard error.
    Message(String),
}

/// How the output is made.
#[derive(Debug, Clone)]
struct Settings {
    layout: Layout,
    is_verbose: bool,
    /// Only what needs attention is shown.
    is_quiet: bool,
    /// Both streams go to the same place, so a warning can be shown with its step.
    is_merged: bool,
    /// The command that applies the plan, if it can be shown without repeating values.
    apply: Option<String>,
}

struct State {
    settings: Settings,
    command: String,
    plan: String,
    /// The plan file, as it was given.
    file: String,
    host: String,
    user: String,
    /// The steps of a plan that is not complete.
    planned: Vec<StepPlanned>,
    /// The plan on the screen. `None` before it is complete.
    screen: Option<Screen>,
    /// Steps that were shown as drifted, blocked or failed. Their end adds nothing new.
    reported: BTreeSet<String>,
    /// Warnings and notes by step that were already shown, so that they are not repeated at the end of the step.
    shown: BTreeSet<(String, String)>,
    /// The warnings of steps that were planned again and have not ended.
    planned_again: BTreeMap<String, Vec<String>>,
    /// The changes of the running steps: when the first one began, and what was made.
    running: BTreeMap<String, (Instant, Vec<String>)>,
    begun: Option<Instant>,
    follow_ups: Vec<FollowUp>,
    /// Where the plan was saved.
    saved: Option<String>,
}

impl Human {
    /// Creates a renderer for the standard streams. `apply` is the command that applies the plan.
    pub fn new(apply: Option<String>) -> Self {
        Self(Mutex::new(State::new(Settings {
            layout: Layout { columns: output::columns() },
            is_verbose: output::is_verbose(),
            is_quiet: output::is_quiet(),
            is_merged: output::streams_are_one(),
            apply,
        })))
    }
}

impl Human {
    /// Prints an event. `adapt` is applied to each text.
    pub(super) fn print(&self, event: &Event, adapt: impl Fn(String) -> String) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for part in state.render(event) {
            match part {
                Part::Result(text) => output::print(&adapt(text)),
                Part::Message(text) => output::print_error(&adapt(text)),
            }
        }
    }
}

impl Sink for Human {
    fn event(&self, event: &Event) {
        self.print(event, |text| text);
    }
}

impl State {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            command: "plan".to_owned(),
            plan: String::new(),
            file: String::new(),
            host: String::new(),
            user: String::new(),
            planned: Vec::new(),
            screen: None,
            reported: BTreeSet::new(),
            shown: BTreeSet::new(),
            planned_again: BTreeMap::new(),
            running: BTreeMap::new(),
            begun: None,
            follow_ups: Vec::new(),
            saved: None,
        }
    }

    fn render(&mut self, event: &Event) -> Vec<Part> {
        let mut parts = Vec::new();
        match event {
            Event::RunStarted { command, plan, file, host, user, .. } => {
                for (field, value) in [
                    (&mut self.command, command),
                    (&mut self.plan, plan),
                    (&mut self.file, file),
                    (&mut self.host, host),
                    (&mut self.user, user),
                ] {
                    field.clone_from(value);
                }
                output::show_activity("observing the host".to_owned());
            }
            Event::RunCutOff(run) => parts.push(Part::Message(self.interrupted(run))),
            Event::RunWaiting { holder, targets } => {
                let what = if targets.is_empty() {
                    format!("the plan file is being applied by {}", clean(&holder.to_string()))
                } else {
                    format!("another run is changing {}", clean(&targets.join(", ")))
                };
                parts.push(Part::Message(self.settings.layout.paragraph("waiting: ", 2, &what)));
                output::show_activity("waiting".to_owned());
            }
            Event::Warning { message } => parts.push(Part::Message(self.warning(None, message))),
            Event::PlanSaved { path, .. } => self.saved = Some(clean(path)),
            Event::StepPlanned(planned) => match &self.screen {
                // A step that waited is planned again. What is new is shown when it ends.
                Some(_) => drop(self.planned_again.insert(planned.step.clone(), planned.warnings.clone())),
                None => {
                    self.planned.push(planned.clone());
                    output::show_activity(format!("observing the host: {}", plural(self.planned.len(), "step")));
                }
            },
            Event::ChangeStarted { step, summary, .. } => {
                self.show_plan(&mut parts);
                self.begun.get_or_insert_with(Instant::now);
                self.running.entry(step.clone()).or_insert_with(|| (Instant::now(), Vec::new()));
                let line = summary.lines().next().unwrap_or_default();
                output::show_activity(clean(&format!("{step}: {line}")));
            }
            Event::StepProgress { step, text } => output::show_activity(clean(&format!("{step}: {text}"))),
            Event::ChangeFinished { step, target, summary, outcome, partial, .. } => {
                if let Some((_, made)) = self.running.get_mut(step) {
                    match outcome {
                        ChangeOutcome::Changed => made.push(with_target(target, summary)),
                        _ if *partial => made.push(format!("{} (in part)", with_target(target, summary))),
                        _ => {}
                    }
                }
            }
            Event::StepFinished(finished) => {
                self.show_plan(&mut parts);
                self.finished(finished, &mut parts);
            }
            Event::PlanFinished { counts, follow_ups, .. } => {
                output::clear_activity();
                self.show_plan(&mut parts);
                let screen = self.screen();
                let mut out = screen.follow_ups("Next, after applying", follow_ups);
                let _ = writeln!(out, "\n{BOLD}Plan: {}.{BOLD:#}", counts::text(counts));
                if !self.settings.is_quiet {
                    out.push('\n');
                }
                parts.push(Part::Result(out));
            }
            Event::FollowUpsExpected { .. } => {}
            Event::FollowUp(follow_up) => self.follow_ups.push(follow_up.clone()),
            Event::FollowUpOpen(open) => {
                self.show_plan(&mut parts);
                self.show_follow_ups(&mut parts);
                let text = self.still_open(open);
                parts.push(Part::Result(text));
            }
            Event::RunFinished { outcome, counts, reason, hint } => {
                output::clear_activity();
                self.show_plan(&mut parts);
                self.show_follow_ups(&mut parts);
                if let Some(reason) = reason {
                    let layout = self.settings.layout;
                    let mut text = layout.paragraph(&format!("{RED}error{RED:#}: "), 2, &clean_lines(reason));
                    if let Some(hint) = hint {
                        text += &layout.hint(2, &clean_lines(hint));
                    }
                    parts.push(Part::Message(text));
                }
                if let Some(text) = self.last_line(*outcome, counts) {
                    parts.push(Part::Result(text));
                }
            }
        }
        parts
    }

    fn screen(&self) -> &Screen {
        static EMPTY: Screen = Screen::EMPTY;
        self.screen.as_ref().unwrap_or(&EMPTY)
    }

    /// Shows the plan, once.
    fn show_plan(&mut self, parts: &mut Vec<Part>) {
        if self.screen.is_some() {
            return;
        }
        let Settings { layout, is_verbose, is_quiet, .. } = self.settings;
        let steps = std::mem::take(&mut self.planned);
        let screen = Screen::new(layout, is_verbose, &steps);
        let is_shown = |step: &&StepPlanned| is_verbose || !is_routine(step);
        if is_quiet && !steps.iter().any(|step| is_shown(&step)) {
            self.screen = Some(screen);
            return;
        }
        let mut out = self.heading();
        if let Some(base) = screen.base.directory() {
            out += &layout.paragraph("", 2, &format!("Paths are relative to {}.", clean(base)));
        }
        parts.push(Part::Result(out));
        let mut reasons: BTreeMap<(&str, Option<&str>), &str> = BTreeMap::new();
        let mut blocks = Vec::new();
        for step in steps.iter().filter(is_shown) {
            let cause = step.reason.as_deref().map(|reason| (reason, step.hint.as_deref()));
            let same_as = cause.and_then(|cause| reasons.get(&cause).copied());
            if let Some(cause) = cause {
                reasons.entry(cause).or_insert(&step.step);
            }
            blocks.push((step, format!("\n{}", screen.step(step, same_as))));
        }
        self.screen = Some(screen);
        for (step, block) in blocks {
            parts.push(Part::Result(block));
            self.shown.extend(step.notes.iter().map(|note| (step.step.clone(), note.clone())));
            self.remarks(&step.step, &[], &step.warnings, parts);
            if matches!(step.outcome, Planned::Drifted | Planned::Blocked | Planned::Failed) {
                self.reported.insert(step.step.clone());
            }
        }
        let in_order: Vec<&str> = steps.iter().filter(|step| is_routine(step)).map(|step| step.step.as_str()).collect();
        if !is_verbose && !is_quiet && !in_order.is_empty() && in_order.len() < steps.len() {
            parts.push(Part::Result(format!("\n{}", self.screen().in_order(&in_order))));
        }
    }

    fn heading(&self) -> String {
        let Self { plan, file, host, user, .. } = self;
        let file = if file == "-" { "standard input" } else { file };
        let heading = format!(
            "{BOLD}{}{BOLD:#} on {} as {}  {DIM}({}){DIM:#}",
            clean(plan),
            clean(host),
            clean(user),
            clean(file)
        );
        self.settings.layout.paragraph("", 2, &heading)
    }

    /// Adds what is new about a step. A warning stands with its step where both streams go to the same place.
    fn remarks(&mut self, step: &str, notes: &[String], warnings: &[String], parts: &mut Vec<Part>) {
        for note in notes.iter().filter(|_| self.settings.is_verbose) {
            if self.shown.insert((step.to_owned(), note.clone())) {
                let text = format!("{DIM}{}{DIM:#}", self.screen().text(note));
                parts.push(Part::Result(self.settings.layout.paragraph(
                    &" ".repeat(plan::INDENT),
                    plan::INDENT + 2,
                    &text,
                )));
            }
        }
        for warning in warnings {
            if self.shown.insert((step.to_owned(), warning.clone())) {
                parts.push(if self.settings.is_merged {
                    Part::Result(self.screen().warning(warning))
                } else {
                    Part::Message(self.warning(Some(step), warning))
                });
            }
        }
    }

    fn warning(&self, step: Option<&str>, message: &str) -> String {
        let step = step.map(|step| format!("{step}: ")).unwrap_or_default();
        let text = format!("{step}{}", clean(message));
        self.settings.layout.paragraph(&format!("{YELLOW}warning{YELLOW:#}: "), 2, &text)
    }

    /// Adds the end of a step in an apply.
    fn finished(&mut self, finished: &StepFinished, parts: &mut Vec<Part>) {
        let StepFinished { step, outcome, drift, reason, hint, notes, warnings, restore_commands, .. } = finished;
        let (begun, made) = self.running.remove(step).map_or((None, Vec::new()), |(begun, made)| (Some(begun), made));
        let screen = self.screen();
        let took = begun.map(|begun| format!("  {DIM}{}{DIM:#}", seconds(begun.elapsed()))).unwrap_or_default();
        let made = match made.as_slice() {
            // A change that failed may have been made in part.
            [] => "no change was completed".to_owned(),
            [one] => screen.text(one.lines().next().unwrap_or_default()),
            [one, rest @ ..] => {
                format!(
                    "{}, and {}",
                    screen.text(one.lines().next().unwrap_or_default()),
                    plural(rest.len(), "more change")
                )
            }
        };
        let is_reported = self.reported.contains(step);
        let mut out = String::new();
        match outcome {
            Finished::Unchanged | Finished::Unchecked => {}
            Finished::Changed => out = screen.result((GREEN, '✓'), step, &screen.done(&made, &took)),
            Finished::Skipped => {
                if let Some(reason) = reason {
                    out = screen.result((YELLOW, '-'), step, &format!("skipped: {}", screen.text(reason)));
                }
            }
            Finished::Drifted => {
                if begun.is_some() {
                    // What was made did not fail. What remains is in the plan.
                    out = screen.result((RED, '✗'), step, &screen.done(&format!("{made}; it is still drifted"), &took));
                } else if !is_reported {
                    out = screen.result((RED, '✗'), step, "drifted");
                }
                for difference in drift.iter().filter(|_| !is_reported) {
                    out += &screen.drift(difference);
                }
            }
            Finished::Blocked | Finished::Failed if is_reported && begun.is_none() => {}
            Finished::Blocked | Finished::Failed => {
                let label = if *outcome == Finished::Failed { "failed: " } else { "blocked: " };
                let is_blocked = *outcome == Finished::Blocked;
                let rest = if is_blocked { "; the rest is blocked" } else { "" };
                let done = if begun.is_some() { screen.done(&format!("{made}{rest}"), &took) } else { String::new() };
                out = screen.result((RED, '✗'), step, &done);
                // The plan has the reason of what was not tried.
                let is_said = is_reported && (is_blocked || begun.is_none());
                if let Some(reason) = reason.as_deref().filter(|_| !is_said) {
                    out += &screen.reason(label, reason, hint.as_deref());
                }
            }
        }
        // What a restore undoes is below its command.
        for back in finished.ways_back.iter().chain(restore_commands) {
            out += &screen.way_back(back);
        }
        for text in &finished.restoring_undoes {
            out += &screen.undoes(text);
        }
        if !out.is_empty() {
            parts.push(Part::Result(out));
        }
        let of_its_plan = self.planned_again.remove(step).unwrap_or_default();
        self.remarks(step, &[], &of_its_plan, parts);
        self.remarks(step, notes, warnings, parts);
    }

    fn show_follow_ups(&mut self, parts: &mut Vec<Part>) {
        let follow_ups = std::mem::take(&mut self.follow_ups);
        if !follow_ups.is_empty() {
            let title = if self.command == "apply" { "Next" } else { "Next, after applying" };
            parts.push(Part::Result(self.screen().follow_ups(title, &follow_ups)));
        }
    }

    fn still_open(&mut self, open: &OpenFollowUp) -> String {
        let OpenFollowUp { id, since, steps, reasons, follow_up, .. } = open;
        let (layout, screen) = (self.settings.layout, self.screen());
        let first = format!("\n{YELLOW}Still open{YELLOW:#} ");
        let mut out = layout.paragraph(&first, 2, &format!("since {} ({})", clean(since), clean(&steps.join(", "))));
        let reasons = if reasons.is_empty() { std::slice::from_ref(&follow_up.reason) } else { reasons };
        for reason in reasons {
            out += &layout.paragraph("  ", 4, &screen.text(reason));
        }
        out += &screen.command(&follow_up.command);
        let done =
            format!("when it is done, run: `provision follow-ups {} --done {id}`", clean(&file_word(&self.file)));
        out + &layout.paragraph("  ", 4, &done)
    }

    fn interrupted(&self, run: &InterruptedRun) -> String {
        let InterruptedRun { run, started, user, changes, .. } = run;
        let changes = changes
            .iter()
            .map(|change| clean(&format!("{}: {}", change.step, with_target(&change.target, &change.summary))));
        let changes = changes.collect::<Vec<_>>().join("; ");
        let during = if changes.is_empty() { "between two changes".to_owned() } else { format!("during: {changes}") };
        let text = format!("run {run}, started {started} by {user}, was interrupted {during}");
        let hint = format!("run apply again to finish it; `provision history {}` shows what it did", clean(run));
        self.warning(None, &text) + &self.settings.layout.paragraph("  hint: ", 4, &hint)
    }

    fn last_line(&self, outcome: RunOutcome, counts: &Counts) -> Option<String> {
        let converged = outcome == RunOutcome::Ok && counts.changed == 0;
        if self.settings.is_quiet && converged {
            return None;
        }
        let style = if outcome == RunOutcome::Failed { RED } else { BOLD };
        let mut text = counts::last_line(&self.command, outcome, counts);
        if let Some(begun) = self.begun {
            text = format!("{}, in {}.", text.trim_end_matches('.'), seconds(begun.elapsed()));
        }
        let mut text = format!("{style}{text}{style:#}");
        match &self.saved {
            Some(path) => {
                let effect =
                    if counts.with_changes() > 0 { "applies exactly these changes, once" } else { "changes nothing" };
                let _ = write!(text, "\nsaved: `provision apply {}` {effect}", file_word(path));
            }
            None if self.command == "plan" && outcome == RunOutcome::Changes => {
                let sentence = match &self.settings.apply {
                    Some(command) => format!(" `{command}` makes these changes."),
                    None => " `provision apply` with the same plan file and variables makes these changes.".to_owned(),
                };
                text.push_str(&sentence);
            }
            None if converged && !self.settings.is_verbose && counts.unchanged > 0 => {
                text.push_str(if counts.unchanged == 1 { " (-v lists it)" } else { " (-v lists them)" })
            }
            None => {}
        }
        let lines = text.lines().map(|line| self.settings.layout.paragraph("", 2, line));
        Some(format!("\n{}", lines.collect::<String>()))
    }
}

/// Returns a time such as `0.1s` or `75s`.
fn seconds(time: Duration) -> String {
    if time.as_secs() < 10 { format!("{:.1}s", time.as_secs_f64()) } else { format!("{}s", time.as_secs()) }
}
