//! What can only be judged of all steps together.

use std::collections::HashMap;

use super::PlanFile;
use super::problem::{Problem, suggest};
use crate::engine::order::Order;
use crate::engine::step::Step;
use crate::resource::Handle;

impl PlanFile {
    /// What is wrong with these steps beside each other.
    pub(super) fn judge_together(&self, steps: &[Step]) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.references(steps, &mut problems);
        let mut owners: HashMap<Handle, &str> = HashMap::new();
        for step in steps {
            for handle in step.resource.provides() {
                if let Some(other) = owners.insert(handle.clone(), &step.id) {
                    let message = format!("steps `{other}` and `{}` both provide {}", step.id, handle);
                    problems.push(Problem::at(self.place(&step.id), message).help("leave it to one of them"));
                }
            }
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
        let ids = self.ids();
        for (id, span) in self.steps.iter().flat_map(|step| &step.after) {
            if !ids.contains(&id.as_str()) {
                problems
                    .push(Problem::at(span.clone(), format!("`after` names no step: `{id}`")).help(suggest(id, &ids)));
            }
        }
        let names: Vec<&str> = self.connections.keys().map(String::as_str).collect();
        for step in steps {
            if let Some(name) = step.resource.connection()
                && !self.connections.contains_key(name)
            {
                let message = format!("step `{}` uses a connection that is not declared: `{name}`", step.id);
                problems.push(Problem::at(self.place(&step.id), message).help(suggest(name, &names)));
            }
        }
    }

    fn place(&self, id: &str) -> std::ops::Range<usize> {
        self.steps.iter().find(|step| step.id == id).map_or(0..0, |step| step.span.clone())
    }
}
