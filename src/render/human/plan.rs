//! The plan as a screen: what needs attention step by step, and what is in order together.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::paths::Base;
use super::style::{BOLD, DIM, GREEN, RED, RED_PLAIN, YELLOW, of_action, of_step};
use crate::engine::event::{Certainty, Deployment, Description, FollowUp, Planned, StepPlanned};
use crate::render::deployment;
use crate::render::target::with_target;
use crate::text::layout::{Layout, width};
use crate::text::{clean, clean_lines, plural};

/// The indentation of the lines that belong to a step.
pub const INDENT: usize = 6;
/// The longest id that titles are aligned to.
const MAX_ID_COLUMNS: usize = 24;
/// The maximum number of changes of a step that are listed.
const MAX_CHANGES: usize = 10;
/// The maximum number of lines of a text's difference.
const MAX_DIFF_LINES: usize = 40;

/// How a plan is shown.
#[derive(Debug)]
pub struct Screen {
    pub layout: Layout,
    /// Lists the steps that are in order, with their notes, and shortens no list.
    pub is_verbose: bool,
    pub base: Base,
    /// The columns of the ids.
    pub ids: usize,
}

impl Screen {
    /// The screen before there is a plan.
    pub const EMPTY: Self = Self { layout: Layout { columns: None }, is_verbose: false, base: Base::NONE, ids: 0 };

    /// Prepares the screen of these steps.
    pub fn new(layout: Layout, is_verbose: bool, steps: &[StepPlanned]) -> Self {
        let shown = |step: &&StepPlanned| is_verbose || !is_routine(step);
        let changes = steps.iter().filter(shown).flat_map(|step| &step.changes);
        let base = Base::of(changes.map(|change| change.target.as_str()));
        let ids = steps.iter().filter(shown).map(|step| width(&step.step)).filter(|ids| *ids <= MAX_ID_COLUMNS);
        Self { layout, is_verbose, base, ids: ids.max().unwrap_or_default() }
    }

    /// Returns a line for a step: its sign, its id, and a text beside it.
    fn heading(&self, sign: (anstyle::Style, char), step: &str, text: &str) -> String {
        self.beside(sign, step, &clean(text))
    }

    fn beside(&self, (style, sign): (anstyle::Style, char), step: &str, text: &str) -> String {
        let blanks = " ".repeat(self.ids.saturating_sub(width(step)));
        let first = format!("  {style}{sign}{style:#} {BOLD}{}{BOLD:#}{blanks}  ", clean(step));
        let indent = if self.ids > 0 { 4 + self.ids + 2 } else { INDENT };
        // On a narrow terminal, or beside a long id, the text has the whole line.
        let is_narrow = self.layout.columns.is_some_and(|columns| columns < indent + 30);
        self.layout.paragraph(&first, if is_narrow { INDENT } else { indent }, text)
    }

    /// Returns the line for a step that has ended. The text is clean, and may be styled.
    pub fn result(&self, sign: (anstyle::Style, char), step: &str, text: &str) -> String {
        self.beside(sign, step, text)
    }

    /// Returns what was done, in the rest of one line: the plan has said it in full.
    pub fn done(&self, made: &str, took: &str) -> String {
        let Some(columns) = self.layout.columns else { return format!("{made}{took}") };
        let room = columns.saturating_sub(INDENT + self.ids + width(took)).max(20);
        if width(made) <= room {
            return format!("{made}{took}");
        }
        let mut cut = String::new();
        for c in made.chars() {
            if width(&cut) + width(c.encode_utf8(&mut [0; 4])) >= room {
                break;
            }
            cut.push(c);
        }
        format!("{}…{took}", cut.trim_end())
    }

    /// Returns a difference that a step does not repair.
    pub fn drift(&self, difference: &str) -> String {
        self.line(&format!("{RED}drifted:{RED:#} {}", self.text(difference)))
    }

    /// Returns a paragraph of a step.
    fn line(&self, text: &str) -> String {
        self.layout.paragraph(&" ".repeat(INDENT), INDENT + 2, text)
    }

    /// Returns what is shown of one step, without its warnings.
    pub fn step(&self, planned: &StepPlanned, same_as: Option<&str>) -> String {
        let StepPlanned { step, title, outcome, certainty, waits_for, changes, drift, reason, hint, notes, .. } =
            planned;
        let mut out = self.heading(of_step(*outcome, *certainty, changes), step, title);
        let label = match outcome {
            Planned::Failed => "failed: ",
            Planned::Blocked => "blocked: ",
            Planned::Unchanged | Planned::Unchecked | Planned::Changes | Planned::Drifted => "",
        };
        for difference in drift {
            out += &self.drift(difference);
        }
        if let (false, Some(other)) = (label.is_empty(), same_as) {
            out += &self.line(&format!("{RED}{label}{RED:#}for the same reason as {other}"));
        } else if let (false, Some(reason)) = (label.is_empty(), reason) {
            out += &self.reason(label, reason, hint.as_deref());
        } else if let Some(hint) = hint.as_deref().filter(|_| *outcome == Planned::Drifted) {
            out += &self.hint(hint);
        }
        let listed = if self.is_verbose { changes.len() } else { changes.len().min(MAX_CHANGES) };
        for change in &changes[..listed] {
            self.change(&mut out, change, changes.len() > 1);
        }
        if changes.len() > listed {
            out += &self.line(&format!("and {} (-v lists them)", plural_more(changes.len() - listed, "change")));
        }
        if *certainty == Certainty::Provisional {
            let others = waits_for.join(", ");
            let text = match outcome {
                Planned::Unchanged => format!("no change so far; it may change after {others}"),
                _ => format!("planned again after {others}"),
            };
            out += &self.line(&format!("{DIM}provisional: {text}{DIM:#}"));
        }
        for note in notes {
            out += &self.line(&format!("{DIM}{}{DIM:#}", self.text(note)));
        }
        out
    }

    /// Returns a reason and what to do about it.
    pub fn reason(&self, label: &str, reason: &str, hint: Option<&str>) -> String {
        let mut out = self.line(&format!("{RED}{label}{RED:#}{}", self.text(reason)));
        if let Some(hint) = hint {
            out += &self.hint(hint);
        }
        out
    }

    /// Commands in hints have whole paths, so that they work anywhere.
    fn hint(&self, hint: &str) -> String {
        self.layout.hint(INDENT, &clean_lines(hint))
    }

    /// Returns a warning of a step.
    pub fn warning(&self, warning: &str) -> String {
        self.line(&format!("{YELLOW}warning:{YELLOW:#} {}", self.text(warning)))
    }

    /// Returns a text of the engine with short paths.
    pub fn text(&self, text: &str) -> String {
        clean_lines(&self.base.shorten(text))
    }

    /// Returns what a change does, in one line.
    pub fn summary(&self, target: &str, summary: &str) -> String {
        self.text(&with_target(target, summary))
    }

    fn change(&self, out: &mut String, change: &Description, signed: bool) {
        let (style, sign) = of_action(change.action);
        // What is not known yet has no other side: the step is planned again later.
        let later = change.before.is_null() && change.after.is_null();
        let summary = if later { self.text(&change.target) } else { self.summary(&change.target, &change.summary) };
        let sign = if signed { format!("{style}{sign}{style:#} ") } else { String::new() };
        *out += &self.line(&format!("{sign}{summary}"));
        if let Some(deployment) = Deployment::of(&change.after) {
            let most = if self.is_verbose { usize::MAX } else { MAX_CHANGES };
            for line in deployment::lines(&deployment, most, Timestamp::now()) {
                *out += &self.layout.paragraph(&" ".repeat(INDENT + 2), INDENT + 4, &clean(&line));
            }
        }
        let lines: Vec<&str> = change.diff.iter().flat_map(|diff| diff.lines()).collect();
        let listed = if self.is_verbose { lines.len() } else { lines.len().min(MAX_DIFF_LINES) };
        for line in &lines[..listed] {
            let style = match line.as_bytes().first() {
                Some(b'+') => GREEN,
                Some(b'-') => RED_PLAIN,
                Some(b' ') | None => anstyle::Style::new(),
                _ => DIM,
            };
            let first = format!("{}{style}", " ".repeat(INDENT + 2));
            let text = self.layout.paragraph(&first, INDENT + 4, &clean(line));
            let _ = writeln!(out, "{}{style:#}", text.trim_end_matches('\n'));
        }
        if lines.len() > listed {
            *out += &self.line(&format!("  and {} (-v shows them)", plural_more(lines.len() - listed, "line")));
        }
        if let Some(risk) = &change.risk {
            *out += &self.line(&format!("{YELLOW}risk:{YELLOW:#} {}", self.text(risk)));
        }
        for line in rescued(change).iter().filter(|_| self.is_verbose) {
            *out += &self.layout.paragraph(&" ".repeat(INDENT + 2), INDENT + 4, &clean(line));
        }
    }

    /// Returns the line for the steps that are in order.
    pub fn in_order(&self, steps: &[&str]) -> String {
        let are = if steps.len() == 1 { "1 step is".to_owned() } else { format!("{} steps are", steps.len()) };
        self.layout.paragraph("  ", 4, &format!("{GREEN}{are} in order:{GREEN:#} {}", clean(&steps.join(", "))))
    }

    /// Returns what a person has to do. A command that several steps need is printed once.
    pub fn follow_ups(&self, title: &str, follow_ups: &[FollowUp]) -> String {
        let mut groups: Vec<(&str, Vec<&FollowUp>)> = Vec::new();
        for follow_up in follow_ups {
            match groups.iter_mut().find(|(command, _)| *command == follow_up.command) {
                Some((_, group)) => group.push(follow_up),
                None => groups.push((&follow_up.command, vec![follow_up])),
            }
        }
        let mut out = String::new();
        for (command, group) in groups {
            let mut steps: Vec<&str> = group.iter().map(|follow_up| follow_up.step.as_str()).collect();
            steps.dedup();
            let first = format!("\n{YELLOW}{title}{YELLOW:#} ");
            out += &self.layout.paragraph(&first, 2, &format!("({}):", clean(&steps.join(", "))));
            let mut reasons: Vec<&str> = group.iter().map(|follow_up| follow_up.reason.as_str()).collect();
            reasons.dedup();
            for reason in reasons {
                out += &self.layout.paragraph("  ", 4, &self.text(reason));
            }
            out += &self.command(command);
        }
        out
    }

    /// Returns how to get back what a step has rescued. The command is not broken, so that it can be copied.
    pub fn way_back(&self, command: &str) -> String {
        let text = format!("{}{GREEN}rescued:{GREEN:#} to restore what was moved out of the way:", " ".repeat(INDENT));
        let command = clean(command);
        match self.layout.columns {
            Some(_) => format!("{text}\n{}{command}\n", " ".repeat(INDENT + 2)),
            None => format!("{text} {command}\n"),
        }
    }

    /// Returns what a restore undoes, below how to restore.
    pub fn undoes(&self, text: &str) -> String {
        self.layout.paragraph(&" ".repeat(INDENT + 2), INDENT + 4, &self.text(text))
    }

    /// Returns a command to copy.
    pub fn command(&self, command: &str) -> String {
        self.layout.command(4, &clean(command))
    }
}

/// Returns a line for each file that the change rescues and that its risk does not name.
fn rescued(change: &Description) -> Vec<String> {
    let files = change.before.get("in_the_way").and_then(Value::as_array);
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let lines = |file: &Value| {
        let lines = file.get("lines")?;
        Some(format!(", +{} -{}", lines.get("added")?, lines.get("removed")?))
    };
    let is_named = |path: &str| {
        change
            .risk
            .as_ref()
            .is_some_and(|risk| [": ", ", "].iter().any(|before| risk.contains(&format!("{before}{path} ("))))
    };
    let line = |file: &Value| {
        let (path, state) = (text(file, "path"), text(file, "state").replace('_', " "));
        let private = file.get("private").and_then(Value::as_bool).unwrap_or_default();
        let private = if private { ", private" } else { "" };
        (!is_named(&path)).then(|| format!("rescue {path} ({state}{}{private})", lines(file).unwrap_or_default()))
    };
    files.into_iter().flatten().filter_map(line).collect()
}

/// Whether nothing about a step needs attention.
pub fn is_routine(planned: &StepPlanned) -> bool {
    planned.is_in_order() && planned.warnings.is_empty() && planned.changes.is_empty()
}

/// Returns such as `1 more change` or `2,990 more changes`.
fn plural_more(count: usize, noun: &str) -> String {
    plural(count, &format!("more {noun}"))
}
