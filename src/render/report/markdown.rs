//! A report as Markdown.

use std::fmt::Write as _;

use super::groups::{Report, host_list};
use crate::render::markdown::{code, inline};
use crate::render::with_target;

/// The maximum number of listed changes of a step. Further changes are counted.
const MAX_CHANGES: usize = 10;

/// Writing to a `String` cannot fail.
pub fn text(report: &Report) -> String {
    let mut text = format!("**{}**\n", inline(&report.summary()));
    for missing in &report.without_result {
        let _ = writeln!(text, "\n**No result:** {}: {}", inline(&missing.name()), inline(&missing.why));
    }
    if report.groups.is_empty() {
        return text;
    }
    text += "\n| hosts | | command | plan | steps |\n|---|---|---|---|---|\n";
    for group in &report.groups {
        let word = if group.failed {
            "failed"
        } else if group.in_order {
            "ok"
        } else {
            "needs attention"
        };
        let steps: Vec<String> =
            group.steps.iter().map(|step| format!("{}: {}", inline(&step.step), inline(&step.word()))).collect();
        let (count, hosts) = (group.hosts.len(), inline(&host_list(&group.hosts)));
        let _ = writeln!(
            text,
            "| {count}: {hosts} | {word} | {} | {} | {} |",
            group.command,
            inline(&group.plan),
            steps.join(", ")
        );
    }
    for group in report.groups.iter().filter(|group| !group.in_order) {
        let _ = writeln!(text, "\n#### {}\n", inline(&host_list(&group.hosts)));
        if let Some(reason) = &group.reason {
            let _ = writeln!(text, "- **error**: {}", inline(reason));
        }
        for warning in &group.warnings {
            let _ = writeln!(text, "- **warning**: {}", inline(warning));
        }
        for step in &group.steps {
            let title = if step.title.is_empty() { String::new() } else { format!(": {}", inline(&step.title)) };
            let _ = writeln!(text, "- {} ({}){title}", code(&step.step), inline(&step.word()));
            let changes = step.changes.iter().map(|change| with_target(&change.target, &change.summary));
            let lines = changes.take(MAX_CHANGES).chain(step.reasons.iter().cloned());
            let lines = lines.chain(step.hint.iter().map(|hint| format!("hint: {hint}")));
            for line in lines.chain(step.warnings.iter().map(|warning| format!("warning: {warning}"))) {
                let _ = writeln!(text, "  - {}", inline(line.lines().next().unwrap_or_default()));
            }
            if step.changes.len() > MAX_CHANGES {
                let _ = writeln!(text, "  - and {} more", step.changes.len() - MAX_CHANGES);
            }
            if group.differs.contains(&step.step) {
                let _ = writeln!(text, "  - the details differ between these hosts");
            }
        }
        for command in &group.follow_ups {
            let _ = writeln!(text, "- next: {}", code(command));
        }
    }
    text
}
