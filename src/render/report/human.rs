//! A report for people.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::groups::{Group, Report, host_list};
use crate::render::with_target;
use crate::text::clean;

const BOLD: Style = Style::new().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();

/// The maximum number of listed changes of a step. Further changes are counted.
const MAX_CHANGES: usize = 6;

/// Writing to a `String` cannot fail.
pub fn text(report: &Report) -> String {
    let mut text = format!("{BOLD}{}{BOLD:#}\n", report.summary());
    for missing in &report.without_result {
        let _ = writeln!(text, "\n{RED}no result{RED:#}  {}: {}", clean(&missing.file), clean(&missing.why));
    }
    for group in &report.groups {
        let style = if group.failed {
            RED
        } else if group.in_order {
            GREEN
        } else {
            YELLOW
        };
        let count = group.hosts.len();
        let hosts = if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") };
        let word = if group.in_order { " ok" } else { "" };
        let list = clean(&host_list(&group.hosts));
        let _ = writeln!(text, "\n{style}{hosts}{word}{style:#} ({} of {}): {list}", group.command, clean(&group.plan));
        details(group, &mut text);
    }
    text
}

fn details(group: &Group, text: &mut String) {
    if let Some(reason) = &group.reason {
        let _ = writeln!(text, "  {RED}error{RED:#}: {}", clean(reason));
    }
    for warning in &group.warnings {
        let _ = writeln!(text, "  {YELLOW}warning{YELLOW:#}: {}", clean(warning));
    }
    for step in &group.steps {
        let _ = writeln!(text, "  {:<9}  {BOLD}{}{BOLD:#}  {}", step.outcome, clean(&step.step), clean(&step.title));
        for change in step.changes.iter().take(MAX_CHANGES) {
            let line = with_target(&change.target, &change.summary);
            let _ = writeln!(text, "             {}", clean(line.lines().next().unwrap_or_default()));
        }
        if step.changes.len() > MAX_CHANGES {
            let _ = writeln!(text, "             and {} more", step.changes.len() - MAX_CHANGES);
        }
        for reason in &step.reasons {
            let _ = writeln!(text, "             {}", clean(reason));
        }
        if let Some(hint) = &step.hint {
            let _ = writeln!(text, "             hint: {}", clean(hint));
        }
        for warning in &step.warnings {
            let _ = writeln!(text, "             {YELLOW}warning{YELLOW:#}: {}", clean(warning));
        }
        if group.differs.contains(&step.step) {
            let first = group.hosts.first().map(String::as_str).unwrap_or_default();
            let _ = writeln!(text, "             (as on {}; the details differ on others)", clean(first));
        }
    }
    for command in &group.follow_ups {
        let _ = writeln!(text, "  next: {}", clean(command));
    }
}
