//! One report on the runs of many hosts. Hosts with the same result are grouped, and differences are named.

#[cfg(test)]
mod fleet_tests;
mod groups;
mod human;
mod json;
mod markdown;
#[cfg(test)]
mod tests;

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

    /// Returns the report as JSON lines: one for each group and each file without a result, and one for the total.
    pub fn json(&self) -> String {
        json::text(self)
    }

    /// Returns the report as Markdown.
    pub fn markdown(&self) -> String {
        markdown::text(self)
    }
}
