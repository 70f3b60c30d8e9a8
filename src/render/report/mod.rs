//! One report on the runs of many hosts. Hosts with the same result are grouped, and differences are named.

#[cfg(test)]
mod fleet_tests;
mod groups;
mod human;
mod json;
mod markdown;
#[cfg(test)]
mod tests;

use super::annotations::{data, disable_workflow_commands, property};
use crate::text::layout::Layout;
pub use groups::{ChangeText, Group, HostRun, NoResult, Report, StepResult};

impl Report {
    /// Returns the report for people: which hosts differ, and in what.
    pub fn human(&self, layout: Layout) -> String {
        human::short(self, layout)
    }

    /// Returns the report for people with all hosts, changes, hints and follow-ups.
    pub fn human_in_full(&self, layout: Layout) -> String {
        human::full(self, layout)
    }

    /// Returns the text of the report for GitHub Actions, with a workflow command for each step that needs attention and each file
    /// without a result.
    pub fn github(&self, text: String) -> String {
        let mut text = disable_workflow_commands(text);
        let mut command = |level: &str, title: &str, message: &str| {
            text += &format!("::{level} title={}::{}\n", property(title), data(message));
        };
        for missing in &self.without_result {
            command("error", &missing.name(), &format!("no result: {}", missing.why));
        }
        for group in self.groups.iter().filter(|group| !group.in_order) {
            let hosts = groups::host_list(&group.hosts);
            if let Some(reason) = &group.reason {
                command("error", &hosts, reason);
            }
            for step in group.steps.iter().filter(|step| !step.reasons.is_empty()) {
                let level = if group.failed { "error" } else { "warning" };
                command(level, &format!("{hosts}: {}", step.step), &step.reasons.join("; "));
            }
        }
        text
    }

    /// Returns the report as JSON lines: one for each group and each file without a result, and one for the total.
    pub fn json(&self) -> String {
        json::text(self)
    }

    /// Returns the report as Markdown.
    pub fn markdown(&self) -> String {
        markdown::text(self)
    }
}
