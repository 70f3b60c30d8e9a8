//! Which step waits for which: what `after` says, and what is inside what.

use std::path::Path;

use super::step::Step;
use crate::resource::{AnyChange, Handle, Need};

/// Why a step waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The plan file says so.
    After,
    /// It works inside what the other provides, or on it.
    Needs(Need),
    /// Both edit files in one directory, and each must see what the other left.
    Beside,
}

/// The steps as a graph without circles, by their places in document order.
#[derive(Debug, Clone)]
pub struct Order {
    edges: Vec<Vec<(usize, Reason)>>,
    sequence: Vec<usize>,
}

impl Order {
    /// Makes the graph.
    ///
    /// # Errors
    /// The ids of steps that wait for each other, the first one again at the end.
    pub fn of(steps: &[Step]) -> Result<Self, Vec<String>> {
        let provides: Vec<Vec<Handle>> = steps.iter().map(|step| step.resource.provides()).collect();
        let edges: Vec<Vec<(usize, Reason)>> =
            steps.iter().enumerate().map(|(index, step)| edges(index, step, steps, &provides)).collect();
        let mut sequence = Vec::new();
        let mut marks = vec![Mark::New; steps.len()];
        for index in 0..steps.len() {
            visit(index, &edges, &mut marks, &mut sequence, &mut Vec::new())
                .map_err(|cycle| cycle.into_iter().map(|index| steps[index].id.clone()).collect::<Vec<_>>())?;
        }
        Ok(Self { edges, sequence })
    }

    /// The steps that the one at `index` waits for, and why: a step comes once for each reason.
    pub fn before(&self, index: usize) -> &[(usize, Reason)] {
        &self.edges[index]
    }

    /// All steps, each after those that it waits for, else in document order.
    pub fn sequence(&self) -> &[usize] {
        &self.sequence
    }
}

impl Reason {
    /// Whether a planned change of the earlier step may alter what was observed of the later one.
    pub fn is_touched_by(&self, earlier: &Step, change: &AnyChange) -> bool {
        match self {
            Reason::After => true,
            Reason::Beside => false,
            Reason::Needs(Need::Inside(path)) => earlier.resource.touches(change, path),
            Reason::Needs(Need::Is(_)) => true,
        }
    }
}

fn edges(index: usize, step: &Step, steps: &[Step], provides: &[Vec<Handle>]) -> Vec<(usize, Reason)> {
    let mut edges: Vec<(usize, Reason)> = Vec::new();
    let mut add = |other: usize, reason: Reason| {
        let edge = (other, reason);
        if other != index && !edges.contains(&edge) {
            edges.push(edge);
        }
    };
    let needs = step.resource.needs();
    for (other, handles) in provides.iter().enumerate() {
        for need in &needs {
            if handles.iter().any(|handle| satisfies(handle, need)) {
                add(other, Reason::Needs(need.clone()));
            }
        }
    }
    for id in &step.after {
        if let Some(other) = steps.iter().position(|step| step.id == *id) {
            add(other, Reason::After);
        }
    }
    for (other, handles) in provides.iter().enumerate().take(index) {
        if handles.iter().any(|handle| provides[index].iter().any(|own| beside(handle, own))) {
            add(other, Reason::Beside);
        }
    }
    edges
}

/// Whether what a step provides is what another needs, or has it inside.
fn satisfies(handle: &Handle, need: &Need) -> bool {
    match (handle, need) {
        (Handle::Path(provided), Need::Inside(path)) => path.starts_with(provided) && path != provided,
        (provided, Need::Is(wanted)) => provided == wanted,
        _ => false,
    }
}

fn beside(one: &Handle, other: &Handle) -> bool {
    match (one, other) {
        (Handle::Variable { file: one, .. }, Handle::Variable { file: other, .. }) => {
            one.parent().map(Path::to_path_buf) == other.parent().map(Path::to_path_buf)
        }
        _ => false,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

fn visit(
    index: usize,
    edges: &[Vec<(usize, Reason)>],
    marks: &mut [Mark],
    sequence: &mut Vec<usize>,
    path: &mut Vec<usize>,
) -> Result<(), Vec<usize>> {
    match marks[index] {
        Mark::Done => return Ok(()),
        Mark::Open => {
            let from = path.iter().position(|other| *other == index).unwrap_or(0);
            let mut cycle = path[from..].to_vec();
            cycle.push(index);
            return Err(cycle);
        }
        Mark::New => {}
    }
    marks[index] = Mark::Open;
    path.push(index);
    for (other, _) in &edges[index] {
        visit(*other, edges, marks, sequence, path)?;
    }
    path.pop();
    marks[index] = Mark::Done;
    sequence.push(index);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::step::Prose;
    use crate::resource::AnyResource;

    fn step(id: &str, after: &[&str], resource: &str) -> Step {
        let resource: AnyResource = serde_json::from_str(resource).unwrap();
        let after = after.iter().map(ToString::to_string).collect();
        Step { id: id.into(), prose: Prose::default(), run_as: None, after, max_changes: None, resource }
    }

    #[test]
    fn every_reason_to_wait_is_kept() {
        let steps = [
            step("code", &[], r#"{"directory": {"path": "/srv/code"}}"#),
            step("logs", &["code"], r#"{"directory": {"path": "/srv/code/logs"}}"#),
        ];
        let order = Order::of(&steps).unwrap();
        let reasons: Vec<&Reason> = order.before(1).iter().map(|(_, reason)| reason).collect();
        assert_eq!(reasons, [&Reason::Needs(Need::Inside("/srv/code/logs".into())), &Reason::After]);
    }

    #[test]
    fn steps_that_wait_for_each_other_are_named() {
        let steps = [
            step("a", &["b"], r#"{"directory": {"path": "/srv/a"}}"#),
            step("b", &["a"], r#"{"directory": {"path": "/srv/b"}}"#),
        ];
        assert_eq!(Order::of(&steps).unwrap_err(), ["a", "b", "a"]);
    }
}
