//! A run as metrics in Prometheus' text format, for node_exporter's textfile collector.
//!
//! Names and labels are a contract with dashboards and alert rules. Every series has the label `plan`. The HELP texts are
//! constant, because the collector rejects a metric with different texts in several files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::engine::event::{Counts, Event, Finished, Planned, RunOutcome, Sink, StepFinished, StepPlanned};
use crate::failure::Failure;

/// Collects metrics from events, and forwards the events.
pub struct Metrics {
    next: Box<dyn Sink>,
    run: Arc<Mutex<Run>>,
}

/// The data for the metrics of one run.
#[derive(Debug, Default)]
pub struct Run {
    /// The plan file's name. Empty if it could not be read.
    pub plan: String,
    command: String,
    /// The kind of each step, and whether it has drifted, by step id.
    steps: BTreeMap<String, (String, bool)>,
    /// The start of the first period without a table, by series.
    uncovered: BTreeMap<String, i64>,
    ended: Option<(RunOutcome, Counts)>,
}

impl Metrics {
    /// Creates a sink that forwards its events to `next`, and returns it with the data that it collects.
    pub fn new(next: Box<dyn Sink>) -> (Self, Arc<Mutex<Run>>) {
        let run = Arc::default();
        (Self { next, run: Arc::clone(&run) }, run)
    }
}

impl Sink for Metrics {
    fn event(&self, event: &Event) {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).take(event);
        self.next.event(event);
    }

    fn ready(&self) -> Result<(), Failure> {
        self.next.ready()
    }
}

impl Run {
    fn take(&mut self, event: &Event) {
        match event {
            Event::RunStarted { plan, command, .. } => {
                (self.plan, self.command) = (plan.clone(), command.clone());
            }
            Event::StepPlanned(StepPlanned { step, kind, outcome, facts, .. }) => {
                self.steps.insert(step.clone(), (kind.clone(), *outcome == Planned::Drifted));
                for series in facts.get("series").and_then(|list| list.as_array()).into_iter().flatten() {
                    let starts: Option<Date> = series["starts"].as_str().and_then(|text| text.parse().ok());
                    let starts = starts.and_then(|date| TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok());
                    if let (Some(name), Some(starts)) = (series["name"].as_str(), starts) {
                        self.uncovered.insert(name.to_owned(), starts.as_second());
                    }
                }
            }
            Event::StepFinished(StepFinished { step, kind, outcome, .. }) => {
                self.steps.insert(step.clone(), (kind.clone(), *outcome == Finished::Drifted));
            }
            Event::RunFinished { outcome, counts, .. } => self.ended = Some((*outcome, *counts)),
            _ => {}
        }
    }

    /// Returns the text of the file. `former` is the existing one. A run without a result keeps the known values, with
    /// success 0.
    pub fn text(&self, former: Option<&str>, plan_file: &str, command: &str, now: SystemTime) -> String {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        match (&self.ended, former) {
            (Some((outcome, counts)), _) => self.written(*outcome, counts, now),
            (None, Some(former)) if former.contains(&success_prefix(command)) => failed(former, command),
            (None, former) => {
                let known = former.and_then(known_plan);
                let plan = if self.plan.is_empty() { known.as_deref().unwrap_or(plan_file) } else { &self.plan };
                let mut families = Families::default();
                families.add(RUN_TIMESTAMP, &[("plan", plan), ("command", command)], now);
                families.add(RUN_SUCCESS, &[("plan", plan), ("command", command)], 0);
                let new = families.text();
                // Samples about other commands and steps are kept.
                match former {
                    Some(former) if !former.is_empty() && former.starts_with("# HELP provision_") => {
                        merged(former, &new)
                    }
                    _ => new,
                }
            }
        }
    }

    fn written(&self, outcome: RunOutcome, counts: &Counts, now: u64) -> String {
        let (plan, command) = (self.plan.as_str(), self.command.as_str());
        let mut families = Families::default();
        families.add(RUN_TIMESTAMP, &[("plan", plan), ("command", command)], now);
        families.add(RUN_SUCCESS, &[("plan", plan), ("command", command)], u64::from(outcome != RunOutcome::Failed));
        let Counts { unchanged, unchecked, changes, changed, skipped, drifted, blocked, failed, .. } = *counts;
        for (outcome, count) in [
            ("unchanged", unchanged),
            ("unchecked", unchecked),
            ("changes", changes),
            ("changed", changed),
            ("skipped", skipped),
            ("drifted", drifted),
            ("blocked", blocked),
            ("failed", failed),
        ] {
            families.add(STEPS, &[("plan", plan), ("outcome", outcome)], count);
        }
        for (step, (kind, drifted)) in &self.steps {
            families.add(STEP_DRIFTED, &[("plan", plan), ("step", step), ("kind", kind)], u64::from(*drifted));
        }
        for (series, starts) in &self.uncovered {
            families.add(PERIOD_UNCOVERED, &[("plan", plan), ("series", series)], starts);
        }
        families.add(BUILD_INFO, &[("plan", plan), ("version", env!("CARGO_PKG_VERSION"))], 1);
        families.text()
    }
}

/// The name and HELP text of a metric.
type Family = (&'static str, &'static str);

const RUN_TIMESTAMP: Family =
    ("provision_run_timestamp_seconds", "When the last run with a result ended, in seconds since 1970.");
const RUN_SUCCESS: Family =
    ("provision_run_success", "Whether the last run ended without a failed, blocked or drifted step.");
const STEPS: Family = ("provision_steps", "Steps of the last run with a result, by outcome.");
const STEP_DRIFTED: Family = ("provision_step_drifted", "Whether a step differs in a way that it does not repair.");
const PERIOD_UNCOVERED: Family = (
    "provision_period_uncovered_timestamp_seconds",
    "When the first period of a series without a table begins, in seconds since 1970.",
);
const BUILD_INFO: Family = ("provision_build_info", "The version of provision that made the last run.");

/// Metrics in the order in which they were added, each with its samples.
#[derive(Default)]
struct Families(Vec<(Family, Vec<String>)>);

impl Families {
    fn add(&mut self, family: Family, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let sample = format!("{}{{{}}} {value}", family.0, labels.join(","));
        match self.0.last_mut().filter(|(known, _)| *known == family) {
            Some((_, samples)) => samples.push(sample),
            None => self.0.push((family, vec![sample])),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for ((name, help), samples) in &self.0 {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{}", samples.join("\n"));
        }
        text
    }
}

/// Escapes the value of a label (Prometheus, "Exposition formats").
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Returns the end of the success line of a command, before its value.
fn success_prefix(command: &str) -> String {
    format!("command=\"{}\"}} ", escape(command))
}

/// Returns whether a file may be replaced by metrics: it is empty, or contains metrics of provision.
pub fn is_metrics_file(text: &str) -> bool {
    text.trim().is_empty() || text.starts_with("# HELP provision_")
}

/// Returns whether the labels of the file contain the `name` of the plan file. Until a run has a result, they can contain the name of
/// the file instead.
pub fn names_its_plan(former: &str) -> bool {
    former.lines().any(|line| line.strip_prefix(BUILD_INFO.0).is_some_and(|rest| rest.starts_with('{')))
}

/// Returns the plan that the existing file is about.
pub fn known_plan(former: &str) -> Option<String> {
    let line = former.lines().find_map(|line| line.strip_prefix(RUN_SUCCESS.0)?.strip_prefix("{plan=\""))?;
    let (label, _) = line.split_once("\",command=")?;
    let (mut plan, mut chars) = (String::new(), label.chars());
    while let Some(c) = chars.next() {
        plan.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                other => other,
            },
            other => other,
        });
    }
    Some(plan)
}

/// Returns the existing file, with success 0 for the command.
fn failed(former: &str, command: &str) -> String {
    let (name, end) = (format!("{}{{", RUN_SUCCESS.0), success_prefix(command));
    let line = |line: &str| match line.rfind(&end).filter(|_| line.starts_with(&name)) {
        Some(at) => format!("{}0\n", &line[..at + end.len()]),
        None => format!("{line}\n"),
    };
    former.lines().map(line).collect()
}

/// Merges the samples of `new` into `former`, under the existing headings.
fn merged(former: &str, new: &str) -> String {
    let mut text = String::new();
    for line in former.lines() {
        text += line;
        text.push('\n');
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" gauge")) {
            let begin = format!("{name}{{");
            new.lines().filter(|sample| sample.starts_with(&begin)).for_each(|sample| {
                text += sample;
                text.push('\n');
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn run(ended: Option<RunOutcome>) -> Run {
        let mut run = Run::default();
        run.take(&Event::RunStarted {
            format: 1,
            command: "plan".into(),
            plan: "a \"quoted\" \\ name".into(),
            file: "x.yaml".into(),
            run: "r".into(),
            host: "h".into(),
            user: "u".into(),
            as_of: "2026-11-29".into(),
            saved: None,
        });
        let facts = serde_json::json!({ "series": [
            { "name": "s.h_{period}", "periods": ["2026_h2"], "next_missing": "2027_h2", "starts": "2027-07-01" },
            { "name": "s.done_{period}", "periods": [], "next_missing": null, "starts": null },
        ] });
        let facts = facts.as_object().unwrap().clone();
        run.take(&Event::StepPlanned(StepPlanned {
            facts,
            ..StepPlanned::of("tables", "period_tables", Planned::Drifted)
        }));
        if let Some(outcome) = ended {
            let counts = Counts { drifted: 1, ..Counts::default() };
            run.take(&Event::RunFinished { outcome, counts, reason: None, hint: None });
        }
        run
    }

    #[test]
    fn a_run_has_every_metric() {
        let text = run(Some(RunOutcome::Failed)).text(None, "x.yaml", "plan", at(1_795_910_400));
        let plan = r#"plan="a \"quoted\" \\ name""#;
        for line in [
            format!("provision_run_timestamp_seconds{{{plan},command=\"plan\"}} 1795910400"),
            format!("provision_run_success{{{plan},command=\"plan\"}} 0"),
            format!("provision_steps{{{plan},outcome=\"drifted\"}} 1"),
            format!("provision_steps{{{plan},outcome=\"failed\"}} 0"),
            format!("provision_step_drifted{{{plan},step=\"tables\",kind=\"period_tables\"}} 1"),
            format!("provision_period_uncovered_timestamp_seconds{{{plan},series=\"s.h_{{period}}\"}} 1814400000"),
            format!("provision_build_info{{{plan},version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(!text.contains("s.done"), "a series without missing periods has no deadline");
        assert_eq!(text.matches("# HELP").count(), 6);
    }

    #[test]
    fn a_run_without_a_result_keeps_the_known_values() {
        let former = run(Some(RunOutcome::Ok)).text(None, "x.yaml", "plan", at(1));
        let text = Run::default().text(Some(&former), "x.yaml", "plan", at(2));
        assert_eq!(
            text,
            former
                .replace("command=\"plan\"} 1\n# HELP provision_steps", "command=\"plan\"} 0\n# HELP provision_steps")
        );
        assert_ne!(text, former);
        // There are no values of another command yet.
        let text = Run::default().text(Some(&former), "x.yaml", "apply", at(2));
        assert!(
            text.contains("provision_run_success{plan=\"a \\\"quoted\\\" \\\\ name\",command=\"apply\"} 0\n"),
            "{text}"
        );
        assert!(former.lines().all(|line| text.contains(line)), "{text}");
        assert_eq!(text.matches("# HELP provision_run_success ").count(), 1);
        let text = Run::default().text(None, "x.yaml", "apply", at(2));
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 2, "{text}");
    }
}
