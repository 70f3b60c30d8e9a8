//! Folds the runs of hosts, and puts hosts with the same result together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::engine::event::{Counts, Event, FORMAT, OpenFollowUp, RunOutcome, StepFinished, StepPlanned};
use crate::text::plural;

/// The events that the result of a run consists of.
const RESULTS: [&str; 7] =
    ["run_started", "step_planned", "step_finished", "warning", "follow_up", "follow_up_open", "run_finished"];

/// The result of one run on one host, from its JSON lines.
#[derive(Debug, Clone, Default)]
pub struct HostRun {
    pub host: String,
    /// The file that its lines are from.
    pub file: String,
    pub plan: String,
    pub command: String,
    /// In the order of their events.
    steps: Vec<StepResult>,
    warnings: Vec<String>,
    follow_ups: Vec<String>,
    /// `None` if the lines end before the run does.
    ended: Option<(RunOutcome, Counts)>,
    reason: Option<String>,
}

/// The outcome of a step that is in order now, and may not be after the steps that it waits for.
const MAY_CHANGE: &str = "may_change";

/// The result of one step of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StepResult {
    pub step: String,
    pub title: String,
    /// The outcome as in events: `unchanged`, `changes`, `failed` and so on, or `may_change` for one that is in order until a
    /// step that it waits for is changed.
    pub outcome: String,
    pub changes: Vec<ChangeText>,
    /// Why it failed or is blocked, or what has drifted.
    pub reasons: Vec<String>,
    pub hint: Option<String>,
    pub warnings: Vec<String>,
}

/// One change, from its event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChangeText {
    pub action: String,
    pub target: String,
    pub summary: String,
}

/// Hosts with the same result.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    pub plan: String,
    pub command: String,
    /// Whether these hosts need no attention.
    pub in_order: bool,
    /// Whether a run failed, or a step failed, is blocked or has drifted.
    pub failed: bool,
    pub hosts: Vec<String>,
    /// The steps that need attention, from the first of the hosts.
    pub steps: Vec<StepResult>,
    /// The ids of steps with different texts on these hosts.
    pub differs: Vec<String>,
    pub reason: Option<String>,
    pub warnings: Vec<String>,
    pub follow_ups: Vec<String>,
}

/// A file, or a run in it, without a result.
#[derive(Debug, Clone, Serialize)]
pub struct NoResult {
    pub file: String,
    /// The host and the plan, if they are known.
    pub run: Option<(String, String)>,
    pub why: String,
}

/// The report on all files.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Groups that need attention come first, then by size.
    pub groups: Vec<Group>,
    pub without_result: Vec<NoResult>,
}

impl NoResult {
    /// Returns the host and the plan, or else the name of the file.
    pub fn name(&self) -> String {
        match &self.run {
            Some((host, plan)) => format!("{host} ({plan})"),
            None => {
                Path::new(&self.file).file_name().map_or(self.file.clone(), |name| name.to_string_lossy().into_owned())
            }
        }
    }
}

impl HostRun {
    /// Parses the runs in the lines of the file with this name. A file can contain several, one after the other.
    ///
    /// # Errors
    /// A line is not an event, or the first one does not start a run.
    pub fn read(text: &str, file: &str) -> Result<Vec<Self>, String> {
        let mut runs: Vec<Self> = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let number = number + 1;
            let value: serde_json::Value = match serde_json::from_str(line) {
                Ok(value) => value,
                // The connection to the host was lost: the run has no end.
                Err(_) if !runs.is_empty() && text.ends_with(line) => continue,
                Err(_) => return Err(format!("line {number} is not JSON; create the file with `--format json`")),
            };
            let name = value["event"].as_str().unwrap_or_default().to_owned();
            let event = match serde_json::from_value::<Event>(value) {
                Ok(event) => event,
                Err(_) if runs.is_empty() => return Err(format!("line {number} does not start a run")),
                // What belongs to the result must not be left out of it.
                Err(_) if RESULTS.contains(&name.as_str()) => {
                    let version = env!("CARGO_PKG_VERSION");
                    return Err(format!("provision {version} does not understand line {number}; use a newer one"));
                }
                // A later version may have more events.
                Err(_) => continue,
            };
            match (&event, runs.last_mut()) {
                (Event::RunStarted { format, .. }, _) if *format != FORMAT => {
                    let version = env!("CARGO_PKG_VERSION");
                    return Err(format!("provision {version} does not understand format {format}; use a newer one"));
                }
                (Event::RunStarted { host, plan, command, .. }, _) => runs.push(Self {
                    host: host.clone(),
                    plan: plan.clone(),
                    command: command.clone(),
                    file: file.to_owned(),
                    ..Self::default()
                }),
                (_, Some(run)) => run.take(event),
                (_, None) => return Err(format!("line {number} does not start a run")),
            }
        }
        if runs.is_empty() { Err("it is empty".to_owned()) } else { Ok(runs) }
    }

    /// Returns whether the lines include the end of the run.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::StepPlanned(planned) => {
                let after = planned.may_change().then(|| format!("after {}", planned.waits_for.join(", ")));
                let outcome = if planned.may_change() { MAY_CHANGE } else { planned.outcome.name() }.to_owned();
                let StepPlanned { step, title, changes, drift, reason, hint, warnings, .. } = planned;
                let changes = changes.into_iter().map(|change| ChangeText {
                    action: change.action.name().to_owned(),
                    target: change.target,
                    summary: change.summary,
                });
                let changes = changes.collect();
                let reasons = if drift.is_empty() { reason.or(after).into_iter().collect() } else { drift };
                self.set(StepResult { step, title, outcome, changes, reasons, hint, warnings });
            }
            Event::StepFinished(StepFinished { step, outcome, drift, reason, hint, warnings, .. }) => {
                let known = self.steps.iter().find(|known| known.step == step).cloned();
                let (title, changes) = known.map(|known| (known.title, known.changes)).unwrap_or_default();
                let reasons = if drift.is_empty() { reason.into_iter().collect() } else { drift };
                let outcome = outcome.name().to_owned();
                self.set(StepResult { step, title, outcome, changes, reasons, hint, warnings });
            }
            Event::Warning { message } => self.warnings.push(message),
            Event::RunCutOff(run) => {
                self.warnings.push(format!("the run {} of {} was interrupted", run.run, run.started))
            }
            Event::FollowUp(follow_up) => self.follow_ups.push(follow_up.command),
            Event::FollowUpOpen(OpenFollowUp { follow_up, .. }) => self.follow_ups.push(follow_up.command),
            Event::RunFinished { outcome, counts, reason, .. } => {
                (self.ended, self.reason) = (Some((outcome, counts)), reason);
            }
            _ => {}
        }
    }

    fn set(&mut self, result: StepResult) {
        match self.steps.iter_mut().find(|known| known.step == result.step) {
            Some(known) => *known = result,
            None => self.steps.push(result),
        }
    }

    fn is_in_order(&self) -> bool {
        self.noteworthy().next().is_none()
            && self.reason.is_none()
            && self.follow_ups.is_empty()
            && self.warnings.is_empty()
    }

    /// Returns the steps that need attention.
    fn noteworthy(&self) -> impl Iterator<Item = &StepResult> {
        self.steps.iter().filter(|step| {
            !["unchanged", "skipped"].contains(&step.outcome.as_str())
                || !step.warnings.is_empty()
                || (step.outcome == "skipped" && !step.reasons.is_empty())
        })
    }

    /// Returns what the hosts of one group have in common: the actions and their targets. Texts are left out, because they
    /// can contain a commit or a fingerprint of the host.
    fn signature(&self) -> impl Ord + Clone + use<> {
        let steps: Vec<_> = self
            .noteworthy()
            .map(|step| {
                let changes = step.changes.iter().map(|change| (change.action.clone(), change.target.clone()));
                (step.step.clone(), step.outcome.clone(), changes.collect::<Vec<_>>())
            })
            .collect();
        (
            self.plan.clone(),
            self.command.clone(),
            steps,
            self.reason.is_some(),
            self.follow_ups.clone(),
            self.warnings.is_empty(),
        )
    }
}

impl Report {
    /// Groups the runs. Of several runs of one plan file in one file, the last one counts. Hosts with the same name in several files
    /// are distinguished by their files.
    pub fn of(runs: Vec<HostRun>, mut without_result: Vec<NoResult>) -> Self {
        let mut last: BTreeMap<(String, String, String), HostRun> = BTreeMap::new();
        for run in runs {
            last.insert((run.plan.clone(), run.host.clone(), run.file.clone()), run);
        }
        let mut names: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (plan, host, _) in last.keys() {
            *names.entry((plan.clone(), host.clone())).or_default() += 1;
        }
        for ((plan, host, file), run) in &mut last {
            if names.get(&(plan.clone(), host.clone())).is_some_and(|count| *count > 1) {
                run.host = format!("{host} ({file})");
            }
        }
        let mut groups = BTreeMap::new();
        for run in last.into_values() {
            if run.has_ended() {
                groups.entry(run.signature()).or_insert_with(Vec::new).push(run);
            } else {
                let why = "the lines end before the run does".to_owned();
                without_result.push(NoResult { file: run.file, run: Some((run.host, run.plan)), why });
            }
        }
        let mut groups: Vec<Group> = groups.into_values().filter_map(Group::of).collect();
        groups.sort_by_key(|group| (!group.failed, group.in_order, std::cmp::Reverse(group.hosts.len())));
        Self { groups, without_result }
    }

    /// Returns the number of hosts with a result.
    pub fn host_count(&self) -> usize {
        self.groups.iter().map(|group| group.hosts.len()).sum()
    }

    /// Returns whether every host has a result without a failure.
    pub fn is_ok(&self) -> bool {
        self.without_result.is_empty() && !self.groups.iter().any(|group| group.failed)
    }

    /// Returns a text such as `200 hosts`. A file without a result counts as a host.
    pub fn hosts(&self) -> String {
        plural(self.host_count() + self.without_result.len(), "host")
    }

    /// Returns a line such as `200 hosts: 2 failed, 8 to change, 190 ok`.
    pub fn summary(&self) -> String {
        format!("{}: {}", self.hosts(), self.numbers())
    }

    /// Returns the numbers of hosts: `2 failed, 8 to change, 190 ok`.
    pub fn numbers(&self) -> String {
        let mut counts = vec![("without a result", self.without_result.len())];
        for verdict in ["failed", "changed", "to change", "to look at", "ok"] {
            let groups = self.groups.iter().filter(|group| group.verdict() == verdict);
            counts.push((verdict, groups.map(|group| group.hosts.len()).sum()));
        }
        let counts = counts.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}"));
        counts.collect::<Vec<String>>().join(", ")
    }
}

impl StepResult {
    /// Returns the outcome in words.
    pub fn word(&self) -> String {
        self.outcome.replace('_', " ")
    }

    /// Returns whether another host's step has the same outcome with the same changes. Their texts can differ.
    pub fn is_like(&self, other: &Self) -> bool {
        self.step == other.step && self.outcome == other.outcome && self.actions() == other.actions()
    }

    fn actions(&self) -> Vec<(&str, &str)> {
        self.changes.iter().map(|change| (change.action.as_str(), change.target.as_str())).collect()
    }
}

impl Group {
    /// Returns the hosts' result in a word or two. Steps that are unchecked, warnings and follow-ups are to look at.
    fn verdict(&self) -> &'static str {
        let has = |outcome: &str| self.steps.iter().any(|step| step.outcome == outcome);
        match () {
            () if self.failed => "failed",
            () if self.in_order => "ok",
            () if has("changed") => "changed",
            () if has("changes") => "to change",
            () => "to look at",
        }
    }

    /// Returns whether both groups are of the same command and plan file.
    pub fn is_of_plan(&self, other: &Self) -> bool {
        (&self.plan, &self.command) == (&other.plan, &other.command)
    }

    fn of(runs: Vec<HostRun>) -> Option<Self> {
        let first = runs.first()?;
        let steps: Vec<StepResult> = first.noteworthy().cloned().collect();
        let differs = |step: &&StepResult| runs.iter().any(|run| !run.noteworthy().any(|other| other == *step));
        let failed = runs.iter().any(|run| run.ended.is_some_and(|(outcome, _)| outcome == RunOutcome::Failed));
        let warnings: BTreeSet<String> = runs.iter().flat_map(|run| run.warnings.iter().cloned()).collect();
        let mut hosts: Vec<String> = runs.iter().map(|run| run.host.clone()).collect();
        hosts.sort();
        Some(Self {
            plan: first.plan.clone(),
            command: first.command.clone(),
            in_order: first.is_in_order(),
            failed,
            hosts,
            differs: steps.iter().filter(differs).map(|step| step.step.clone()).collect(),
            reason: first.reason.clone(),
            warnings: warnings.into_iter().collect(),
            follow_ups: first.follow_ups.clone(),
            steps,
        })
    }
}

/// Returns a list of host names for people.
pub fn host_list(hosts: &[String]) -> String {
    host_ranges(hosts).join(", ")
}

/// Returns the names of hosts. Consecutive names form a range: `web001 to web190`.
pub fn host_ranges(hosts: &[String]) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut at = 0;
    while at < hosts.len() {
        let mut end = at;
        while end + 1 < hosts.len() && follows(&hosts[end], &hosts[end + 1]) {
            end += 1;
        }
        if end >= at + 2 {
            parts.push(format!("{} to {}", hosts[at], hosts[end]));
        } else {
            parts.extend(hosts[at..=end].iter().cloned());
        }
        at = end + 1;
    }
    parts
}

/// Returns whether a name follows the other one by a number of the same width in it.
fn follows(one: &str, next: &str) -> bool {
    let numbered = |name: &str| {
        let digits = name.rfind(|c: char| c.is_ascii_digit())? + 1;
        let begin = name[..digits].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
        let number: u64 = name[begin..digits].parse().ok()?;
        Some((name[..begin].to_owned(), number, digits - begin, name[digits..].to_owned()))
    };
    let (Some(one), Some(next)) = (numbered(one), numbered(next)) else { return false };
    one.0 == next.0 && one.3 == next.3 && one.2 == next.2 && one.1 + 1 == next.1
}
