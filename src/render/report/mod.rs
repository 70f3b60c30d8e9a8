//! One report on the runs of many hosts. Hosts with the same result are grouped, and differences are named.

mod groups;
mod human;
mod json;
mod markdown;
#[cfg(test)]
mod tests;

pub use groups::{ChangeText, Group, HostRun, NoResult, Report, StepResult};

impl Report {
    /// Returns the report for people.
    pub fn human(&self) -> String {
        human::text(self)
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
