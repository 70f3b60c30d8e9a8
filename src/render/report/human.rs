//! A report for people: which hosts differ, and in what.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::groups::{Group, NoResult, Report, StepResult, host_list, host_ranges};
use crate::render::with_target;
use crate::text::layout::Layout;
use crate::text::{clean, plural};

const BOLD: Style = Style::new().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();

/// The maximum number of names and ranges of hosts in a line. More hosts are only counted.
const MAX_RANGES: usize = 3;

/// The maximum number of lines for a group. Further steps are counted.
const MAX_LINES: usize = 4;

/// The column of hosts and findings in the short report: after an outcome and two spaces.
const INDENT: usize = 11;

/// The column of details in the full report.
const DETAILS: usize = 13;

/// Returns the short report: a line for each step that needs attention. If most hosts have the same changes, these come first, and
/// other hosts are compared with them.
pub fn short(report: &Report, layout: Layout) -> String {
    let mut out = Short { layout, text: String::new(), is_complete: true };
    let mut plans: Vec<Vec<&Group>> = Vec::new();
    for group in &report.groups {
        match plans.iter_mut().find(|plan| plan[0].is_of_plan(group)) {
            Some(plan) => plan.push(group),
            None => plans.push(vec![group]),
        }
    }
    let name = |group: &Group| format!("{} of {}", group.command, clean(&group.plan));
    let one = match plans.as_slice() {
        [plan] => format!(" ({})", name(plan[0])),
        _ => String::new(),
    };
    let title = format!("{BOLD}{}{BOLD:#}{one}: {}", report.hosts(), report.numbers());
    out.text += &layout.paragraph("", 2, &title);
    for (files, why) in by_reason(&report.without_result) {
        out.lines(&files, &[(RED, "no result".to_owned(), why)]);
    }
    for plan in &mut plans {
        if one.is_empty() {
            let _ = writeln!(out.text, "{BOLD}{}{BOLD:#}", name(plan[0]));
        }
        out.plan(plan);
    }
    if !out.is_complete {
        out.text.push_str("Add -v to see everything.\n");
    }
    out.text
}

/// Returns the names of files without a result, together if they have the same reason.
fn by_reason(missing: &[NoResult]) -> Vec<(Vec<String>, String)> {
    let mut reasons: Vec<(Vec<String>, String)> = Vec::new();
    for missing in missing {
        let (name, why) = (missing.name(), &missing.why);
        let name = name.strip_suffix(".jsonl").unwrap_or(&name).to_owned();
        match reasons.iter_mut().find(|(_, known)| known == why) {
            Some((names, _)) => names.push(name),
            None => reasons.push((vec![name], why.clone())),
        }
    }
    reasons
}

struct Short {
    layout: Layout,
    text: String,
    /// Whether nothing was left out.
    is_complete: bool,
}

/// A line about a group: the style, the outcome, and details.
type Line = (Style, String, String);

impl Short {
    /// Writes the groups of one plan file.
    fn plan(&mut self, groups: &mut Vec<&Group>) {
        // Failures first. Within an outcome, groups keep their order.
        groups.sort_by_key(|group| group.steps.iter().map(severity).chain([if group.failed { 3 } else { 5 }]).min());
        groups.sort_by_key(|group| group.in_order);
        let largest = groups.iter().copied().max_by_key(|group| group.hosts.len());
        let common = largest.filter(|group| !group.in_order && group.hosts.len() > 1 && groups.len() > 1);
        if let Some(common) = common {
            self.group(common, None);
            let others: usize = groups.iter().map(|group| group.hosts.len()).sum::<usize>() - common.hosts.len();
            let differ = if others == 1 { "1 host differs".to_owned() } else { format!("{others} hosts differ") };
            self.text += &self.layout.paragraph("", 2, &format!("{BOLD}{differ} from these:{BOLD:#}"));
        }
        for group in groups.iter().filter(|group| common.is_none_or(|common| !std::ptr::eq(common, **group))) {
            // The numbers at the top include them.
            if group.in_order && host_ranges(&group.hosts).len() > MAX_RANGES {
                self.is_complete = false;
            } else {
                self.group(group, common);
            }
        }
    }

    fn group(&mut self, group: &Group, common: Option<&Group>) {
        let mut lines: Vec<Line> = Vec::new();
        lines.extend(group.reason.iter().map(|reason| (RED, "error".to_owned(), reason.clone())));
        let of_common = common.map_or(&[][..], |common| &common.steps);
        let mut steps: Vec<&StepResult> =
            group.steps.iter().filter(|step| !of_common.iter().any(|other| step.is_like(other))).collect();
        steps.sort_by_key(|step| severity(step));
        lines.extend(steps.iter().map(|step| self.step(group, step)));
        let in_order = of_common.iter().filter(|other| group.steps.iter().all(|step| step.step != other.step));
        let in_order: Vec<&str> = in_order.map(|step| step.step.as_str()).collect();
        if group.in_order {
            lines.push((GREEN, "ok".to_owned(), String::new()));
        } else if !in_order.is_empty() {
            lines.push((GREEN, "in order".to_owned(), in_order.join(", ")));
        }
        lines.extend(self.first_of(YELLOW, "warning", &group.warnings));
        if common.is_none_or(|common| common.follow_ups != group.follow_ups) {
            lines.extend(self.first_of(Style::new(), "next", &group.follow_ups));
        }
        let rest = lines.len().saturating_sub(MAX_LINES);
        if rest > 0 {
            lines.truncate(MAX_LINES);
            lines.push((Style::new(), String::new(), format!("and {rest} more")));
            self.is_complete = false;
        }
        self.lines(&group.hosts, &lines);
    }

    fn step(&mut self, group: &Group, step: &StepResult) -> Line {
        let changes: Vec<String> =
            step.changes.iter().map(|change| with_target(&change.target, &change.summary)).collect();
        let mut texts = step.reasons.iter().chain(&changes).chain(&step.warnings);
        let first = texts.next().map(String::as_str).unwrap_or_default();
        let rest = texts.count();
        let mut text = format!("{}: {}", step.step, first.lines().next().unwrap_or_default());
        if group.differs.contains(&step.step) {
            let _ = write!(text, " (on {}; differs on others)", group.hosts.first().map_or("", String::as_str));
        }
        if rest > 0 {
            let _ = write!(text, " (and {rest} more)");
        }
        self.is_complete &= rest == 0 && step.hint.is_none();
        (if severity(step) < 3 { RED } else { YELLOW }, step.word(), text)
    }

    fn first_of(&mut self, style: Style, word: &str, texts: &[String]) -> Option<Line> {
        let first = texts.first()?;
        let more = if texts.len() > 1 { format!(" (and {} more)", texts.len() - 1) } else { String::new() };
        self.is_complete &= texts.len() == 1;
        Some((style, word.to_owned(), format!("{first}{more}")))
    }

    /// Writes lines about these hosts, which the first line names.
    fn lines(&mut self, hosts: &[String], lines: &[Line]) {
        let mut names = Some(self.names(hosts));
        for (style, word, text) in lines {
            let first = format!("{style}{word:<10}{style:#} ");
            let text = clean(text);
            let text = match names.take() {
                Some(names) if text.is_empty() => names,
                Some(names) => format!("{names}  {text}"),
                None => format!("  {text}"),
            };
            self.text += &self.layout.paragraph(&first, INDENT + 2, &text);
        }
    }

    /// Returns the hosts' names, or their number if the list would be long.
    fn names(&mut self, hosts: &[String]) -> String {
        let ranges = host_ranges(hosts);
        if ranges.len() > MAX_RANGES {
            self.is_complete = false;
            return format!("{BOLD}{} hosts{BOLD:#}", hosts.len());
        }
        let list = clean(&ranges.join(", "));
        let count = if hosts.len() > ranges.len() { format!(" ({} hosts)", hosts.len()) } else { String::new() };
        format!("{BOLD}{list}{BOLD:#}{count}")
    }
}

/// Returns the place of an outcome in a report: failures come first.
fn severity(step: &StepResult) -> usize {
    ["failed", "blocked", "drifted"].iter().position(|word| step.outcome == *word).unwrap_or(4)
}

/// Returns the whole report. Writing to a `String` cannot fail.
pub fn full(report: &Report, layout: Layout) -> String {
    let mut text = layout.paragraph("", 2, &format!("{BOLD}{}{BOLD:#}", report.summary()));
    for missing in &report.without_result {
        let line = format!("{}: {}", clean(&missing.name()), clean(&missing.why));
        text += &layout.paragraph(&format!("\n{RED}no result{RED:#}  "), 2, &line);
    }
    for group in &report.groups {
        let style = if group.failed {
            RED
        } else if group.in_order {
            GREEN
        } else {
            YELLOW
        };
        let hosts = plural(group.hosts.len(), "host");
        let word = if group.in_order { " ok" } else { "" };
        let list = clean(&host_list(&group.hosts));
        let line = format!("{style}{hosts}{word}{style:#} ({} of {}): {list}", group.command, clean(&group.plan));
        text += &layout.paragraph("\n", 2, &line);
        details(group, layout, &mut text);
    }
    text
}

fn details(group: &Group, layout: Layout, text: &mut String) {
    if let Some(reason) = &group.reason {
        *text += &layout.paragraph(&format!("  {RED}error{RED:#}: "), 4, &clean(reason));
    }
    for warning in &group.warnings {
        *text += &layout.paragraph(&format!("  {YELLOW}warning{YELLOW:#}: "), 4, &clean(warning));
    }
    for step in &group.steps {
        let first = format!("  {:<10} {BOLD}{}{BOLD:#}  ", step.word(), clean(&step.step));
        *text += &layout.paragraph(&first, DETAILS, &clean(&step.title));
        let indent = " ".repeat(DETAILS);
        for change in &step.changes {
            let line = with_target(&change.target, &change.summary);
            *text += &layout.paragraph(&indent, DETAILS + 2, &clean(line.lines().next().unwrap_or_default()));
        }
        for reason in &step.reasons {
            *text += &layout.paragraph(&indent, DETAILS + 2, &clean(reason));
        }
        if let Some(hint) = &step.hint {
            *text += &layout.hint(DETAILS, &clean(hint));
        }
        for warning in &step.warnings {
            *text += &layout.paragraph(&format!("{indent}{YELLOW}warning{YELLOW:#}: "), DETAILS + 2, &clean(warning));
        }
        if group.differs.contains(&step.step) {
            let first = group.hosts.first().map(String::as_str).unwrap_or_default();
            let _ = writeln!(text, "{indent}(as on {}; the details differ on others)", clean(first));
        }
    }
    for command in &group.follow_ups {
        let _ = writeln!(text, "  next: {}", clean(command));
    }
}
