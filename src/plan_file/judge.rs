//! What can only be judged of all steps together.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use super::PlanFile;
use super::node::{Node, Value};
use super::problem::{Problem, suggest};
use crate::engine::order::Order;
use crate::engine::step::Step;
use crate::host::warehouse::ConnectionSpec;
use crate::resource::Handle;

impl PlanFile {
    /// What is wrong with these steps beside each other.
    pub(super) fn judge_together(&self, steps: &[Step]) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.references(steps, &mut problems);
        let mut owners: HashMap<Handle, &str> = HashMap::new();
        for step in steps {
            let provided = step.resource.provides();
            for handle in &provided {
                let wide = owners.iter().find(|(other, id)| **id != step.id && overlap(other, handle));
                let other = owners.get(handle).or(wide.map(|(_, id)| id));
                if let Some(other) = other {
                    let message = format!("steps `{other}` and `{}` both provide {handle}", step.id);
                    problems.push(Problem::at(self.place(&step.id), message).help("leave it to one of them"));
                }
            }
            owners.extend(provided.into_iter().map(|handle| (handle, step.id.as_str())));
        }
        if problems.is_empty()
            && let Err(cycle) = Order::of(steps)
        {
            let place = cycle.first().map_or(0..0, |id| self.place(id));
            let message = format!("steps wait for each other: {}", cycle.join(" -> "));
            problems.push(Problem::at(place, message).help("take one `after` out of the circle"));
        }
        problems
    }

    fn references(&self, steps: &[Step], problems: &mut Vec<Problem>) {
        let ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        let known: HashSet<&str> = ids.iter().copied().collect();
        for step in &self.steps {
            for (id, span) in &step.after {
                if *id == step.id {
                    let problem = Problem::at(span.clone(), format!("step `{id}` waits for itself"));
                    problems.push(problem.help("take it out of `after`"));
                } else if !known.contains(id.as_str()) {
                    let problem = Problem::at(span.clone(), format!("`after` names no step: `{id}`"));
                    problems.push(problem.help(suggest(id, &ids)));
                }
            }
        }
        let names: Vec<&str> = self.connections.keys().map(String::as_str).collect();
        for step in steps {
            if let Some(name) = step.resource.connection()
                && !self.connections.contains_key(name)
            {
                let message = format!("step `{}` uses a connection that is not declared: `{name}`", step.id);
                let place = self.key(&step.id, "connection").unwrap_or_else(|| self.place(&step.id));
                let help = if names.is_empty() {
                    format!("declare it: `connections:` at the top, with `{name}: {{ url: … }}` below it")
                } else {
                    suggest(name, &names)
                };
                problems.push(Problem::at(place, message).help(help));
            }
        }
    }

    /// Secret sources are asked once, before any step is run: what they read must not be what a step brings.
    pub(super) fn judge_sources<'a>(
        &self,
        steps: &[Step],
        connections: impl Iterator<Item = (&'a str, &'a ConnectionSpec)>,
    ) -> Vec<Problem> {
        let of_steps = steps.iter().filter_map(|step| {
            let source = step.resource.secret_source()?;
            let key = self.key(&step.id, "source").or_else(|| self.key(&step.id, "value"));
            Some((format!("step `{}`", step.id), key.unwrap_or_else(|| self.place(&step.id)), source))
        });
        let of_connections = connections.filter_map(|(name, spec)| {
            let place = self.connections.get(name).and_then(|node| value_of(node, "password")).unwrap_or(0..0);
            Some((format!("connection `{name}`"), place, spec.password.as_ref()?))
        });
        let mut problems = Vec::new();
        for (who, place, source) in of_steps.collect::<Vec<_>>().into_iter().chain(of_connections) {
            let brought = source.files().into_iter().find_map(|file| {
                let step = steps.iter().find(|step| brings(step, file))?;
                Some((file, step))
            });
            if let Some((file, step)) = brought {
                let (file, target) = (file.display(), step.resource.target());
                let message = format!("{who} takes its secret from {file}, which step `{}` brings", step.id);
                let help = format!(
                    "sources are asked before any step is run, so this would be what was there before: keep the source \
                     outside of {target}"
                );
                problems.push(Problem::at(place, message).help(help));
            }
        }
        problems
    }

    fn place(&self, id: &str) -> Range<usize> {
        self.steps.iter().find(|step| step.id == id).map_or(0..0, |step| step.span.clone())
    }

    /// Where the value of a key of a step's resource stands.
    fn key(&self, id: &str, name: &str) -> Option<Range<usize>> {
        let step = self.steps.iter().find(|step| step.id == id)?;
        value_of(&step.body, name)
    }
}

/// Where the value of a mapping's key stands.
fn value_of(node: &Node, name: &str) -> Option<Range<usize>> {
    let Value::Mapping(pairs) = &node.value else { return None };
    pairs.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value.span.clone())
}

/// Whether a step makes or changes the file at this path.
fn brings(step: &Step, path: &Path) -> bool {
    step.resource.makes_files()
        && step.resource.provides().iter().any(|handle| match handle {
            Handle::Path(provided) => path.starts_with(provided),
            _ => false,
        })
}

/// Whether two handles that are not equal name one thing all the same: a variable of one service and of all, a table
/// and the series that it is in.
fn overlap(one: &Handle, other: &Handle) -> bool {
    match (one, other) {
        (
            Handle::Variable { file, name, service },
            Handle::Variable { file: other_file, name: other_name, service: other_service },
        ) => file == other_file && name == other_name && (service.is_none() || other_service.is_none()),
        (Handle::Table { connection, name }, Handle::Table { connection: other_connection, name: other_name }) => {
            connection == other_connection && (is_of(name, other_name) || is_of(other_name, name))
        }
        _ => false,
    }
}

/// Whether a table's name is one of a series' (`ods.hist_{period}`).
fn is_of(table: &str, series: &str) -> bool {
    let Some((before, after)) = series.split_once("{period}") else { return false };
    let period = table.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    // 2025_h2, 2025_q3, 2025_07
    period.is_some_and(|period| {
        let letters = period.as_bytes();
        letters.len() == 7 && letters[..4].iter().all(u8::is_ascii_digit) && letters[4] == b'_'
    })
}
