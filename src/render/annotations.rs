//! Annotations: what CI systems show beside a line of a file.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::{Human, output};
use crate::engine::event::{Event, Finished, Planned, Sink, StepFinished, StepPlanned};

/// A remark about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    pub is_error: bool,
    pub file: String,
    /// From 1, if there is a single place.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    pub message: String,
}

impl Annotation {
    /// Returns a workflow command of GitHub Actions.
    pub fn to_github(&self) -> String {
        let Self { is_error, file, line, column, message } = self;
        let level = if *is_error { "error" } else { "warning" };
        let mut properties = format!("file={}", property(file));
        for (name, number) in [("line", line), ("col", column)] {
            if let Some(number) = number {
                properties += &format!(",{name}={number}");
            }
        }
        format!("::{level} {properties}::{}\n", data(message))
    }

    /// Returns an issue of GitLab's code quality report.
    pub fn to_gitlab(&self) -> Value {
        let Self { is_error, file, line, message, .. } = self;
        let line = line.unwrap_or(1);
        let fingerprint = blake3::hash(format!("{file}\0{line}\0{message}").as_bytes()).to_hex().to_string();
        json!({
            "description": message,
            "check_name": "provision-validate",
            "fingerprint": fingerprint,
            "severity": if *is_error { "major" } else { "minor" },
            "location": { "path": file, "lines": { "begin": line } },
        })
    }
}

/// Escapes the message of a workflow command, which is one line.
pub(super) fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a workflow command.
pub(super) fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Disables the workflow commands in a text, which may contain lines of a file. The runner accepts a command at the start of a line
/// and, in the old form, anywhere.
pub(super) fn disable_workflow_commands(text: String) -> String {
    let is_command = |line: &str| line.trim_start().starts_with("::") || line.contains("##[");
    let mut token = [0; 16];
    if !text.lines().any(is_command) || openssl::rand::rand_bytes(&mut token).is_err() {
        return text;
    }
    let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("::stop-commands::{token}\n{}\n::{token}::\n", text.trim_end_matches('\n'))
}

/// Writes a run as text, with workflow commands of GitHub Actions for what needs attention.
pub struct GitHub {
    human: Human,
    file: Mutex<String>,
    /// The annotations that were printed. An apply reports a step that cannot be planned twice.
    printed: Mutex<BTreeSet<String>>,
}

impl GitHub {
    /// Creates a renderer for the standard streams. `apply` is the command that applies the plan.
    pub fn new(apply: Option<String>) -> Self {
        Self { human: Human::new(apply), file: Mutex::default(), printed: Mutex::default() }
    }
}

impl Sink for GitHub {
    fn event(&self, event: &Event) {
        self.human.print(event, disable_workflow_commands);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::RunStarted { file: given, .. } = event {
            file.clone_from(given);
        }
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        for (is_error, message) in remarks(event) {
            let annotation = Annotation { is_error, file: file.clone(), line: None, column: None, message };
            let line = annotation.to_github();
            if printed.insert(line.clone()) {
                output::print(&line);
            }
        }
    }
}

/// Returns the errors and warnings of an event.
fn remarks(event: &Event) -> Vec<(bool, String)> {
    let remark = |step: &str, failed: bool, drift: &[String], reason: &Option<String>, warnings: &[String]| {
        let mut found: Vec<(bool, String)> = drift.iter().map(|drift| (true, format!("{step}: {drift}"))).collect();
        if failed && found.is_empty() {
            found.extend(reason.iter().map(|reason| (true, format!("{step}: {reason}"))));
        }
        found.extend(warnings.iter().map(|warning| (false, format!("{step}: {warning}"))));
        found
    };
    match event {
        Event::Warning { message } => vec![(false, message.clone())],
        Event::StepPlanned(StepPlanned { step, outcome, drift, reason, warnings, .. }) => {
            remark(step, matches!(outcome, Planned::Blocked | Planned::Failed), drift, reason, warnings)
        }
        Event::StepFinished(StepFinished { step, outcome: Finished::Failed, reason, .. }) => {
            remark(step, true, &[], reason, &[])
        }
        Event::RunFinished { reason: Some(reason), .. } => vec![(true, reason.clone())],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation() -> Annotation {
        let message = "100% wrong\nhint: `a`".to_owned();
        Annotation { is_error: true, file: "plans/a,b:c.yaml".into(), line: Some(3), column: Some(5), message }
    }

    #[test]
    fn a_workflow_command_is_one_escaped_line() {
        let expected = "::error file=plans/a%2Cb%3Ac.yaml,line=3,col=5::100%25 wrong%0Ahint: `a`\n";
        assert_eq!(annotation().to_github(), expected);
        let warning = Annotation { is_error: false, line: None, column: None, ..annotation() };
        assert!(warning.to_github().starts_with("::warning file=plans/a%2Cb%3Ac.yaml::"));
    }

    #[test]
    fn lines_of_a_file_are_not_taken_for_commands() {
        assert_eq!(disable_workflow_commands("  + a::b\n".to_owned()), "  + a::b\n");
        for line in ["   ::add-mask::x", "  + ##[group]x"] {
            let text = disable_workflow_commands(format!("a\n{line}\n"));
            let token = text.lines().next().unwrap().strip_prefix("::stop-commands::").unwrap().to_owned();
            assert_eq!((text.lines().count(), text.lines().last().unwrap()), (4, &*format!("::{token}::")), "{text}");
            assert_eq!(token.len(), 32);
        }
    }

    #[test]
    fn a_code_quality_issue_has_the_keys_that_gitlab_requires() {
        let issue = annotation().to_gitlab();
        assert_eq!(issue["location"], json!({ "path": "plans/a,b:c.yaml", "lines": { "begin": 3 } }));
        assert_eq!((&issue["severity"], issue["fingerprint"].as_str().unwrap().len()), (&json!("major"), 64));
    }
}
