//! YAML text -> [`PlanFile`] -> the steps of one run. Pure: it touches neither the host nor the environment, and what is
//! wrong is said with its place.

mod de;
mod judge;
mod node;
mod problem;
mod read;
mod template;

use std::collections::BTreeMap;
use std::ops::Range;

pub use problem::{Problem, Problems};
pub use template::Inputs;

use node::Node;
use problem::suggest;
use template::Evaluator;

use crate::engine::step::{Prose, Step};
use crate::host::warehouse::ConnectionSpec;
use crate::resource::AnyResource;

/// A plan file as it was written: read and checked for shape, nothing evaluated yet.
#[derive(Debug, Clone)]
pub struct PlanFile {
    path: String,
    text: String,
    pub name: String,
    vars: BTreeMap<String, Node>,
    connections: BTreeMap<String, Node>,
    steps: Vec<WrittenStep>,
}

/// A step before its templates are evaluated.
#[derive(Debug, Clone)]
struct WrittenStep {
    id: String,
    /// Where the id stands: the place of what is wrong with the step as a whole.
    span: Range<usize>,
    title: Node,
    why: Node,
    symptom: Node,
    when: Node,
    run_as: Node,
    after: Vec<(String, Range<usize>)>,
    kind: &'static str,
    body: Node,
}

/// Which steps a run is about.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `--only`; empty: all.
    pub only: Vec<String>,
    /// `--skip`.
    pub skip: Vec<String>,
}

impl Selection {
    fn includes(&self, id: &str) -> bool {
        (self.only.is_empty() || self.only.iter().any(|only| only == id)) && !self.skip.iter().any(|skip| skip == id)
    }
}

/// A plan file whose selected steps are evaluated.
#[derive(Debug, Clone)]
pub struct Evaluated {
    pub name: String,
    /// The selected steps in document order.
    pub steps: Vec<Step>,
    /// The ids and kinds of the others.
    pub deselected: Vec<(String, &'static str)>,
    /// The connections that the selected steps use. One that wants an unset environment variable is the failure of its
    /// steps, not of the run.
    pub connections: BTreeMap<String, Result<ConnectionSpec, Problem>>,
}

impl PlanFile {
    /// Reads a plan file. `path` is how messages name it.
    ///
    /// # Errors
    /// Every problem of its shape: no YAML, unknown or missing keys, duplicate ids.
    pub fn parse(path: &str, text: &str) -> Result<Self, Problems> {
        read::plan_file(path, text).map_err(|problem| Problems {
            path: path.to_owned(),
            text: text.to_owned(),
            list: vec![problem],
        })
    }

    /// Evaluates the selected steps and judges them together. Steps that are not selected are left alone, so that what
    /// they need may be missing.
    ///
    /// # Errors
    /// Everything that is wrong with the selected steps, unset environment variables included, and with the selection.
    pub fn evaluate(&self, inputs: &Inputs, selection: &Selection) -> Result<Evaluated, Problems> {
        let mut problems = self.check_inputs(inputs, selection);
        let evaluator = Evaluator::new(self.vars.clone(), inputs.clone());
        let mut steps = Vec::new();
        let mut deselected = Vec::new();
        for written in &self.steps {
            if !selection.includes(&written.id) {
                deselected.push((written.id.clone(), written.kind));
                continue;
            }
            match self.step(written, &evaluator) {
                Ok(step) => steps.push(step),
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(self.judge_together(&steps));
        if !problems.is_empty() {
            return Err(self.problems(problems));
        }
        let used: Vec<&str> = steps.iter().filter_map(|step| step.resource.connection()).collect();
        let connections = used
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), self.connection(self.connections.get(name)?, &evaluator))))
            .collect();
        Ok(Evaluated { name: self.name.clone(), steps, deselected, connections })
    }

    /// Judges the whole plan file, without the host: an environment variable that is not set here is no problem.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn validate(&self, inputs: &Inputs) -> Result<(), Problems> {
        let mut problems = self.check_inputs(inputs, &Selection::default());
        let evaluator = Evaluator::new(self.vars.clone(), inputs.clone());
        for node in self.vars.values() {
            problems.extend(evaluator.node(node).err());
        }
        for node in self.connections.values() {
            problems.extend(self.connection(node, &evaluator).err());
        }
        let mut steps = Vec::new();
        for written in &self.steps {
            match self.step(written, &evaluator) {
                Ok(step) => steps.push(step),
                Err(problem) => problems.push(problem),
            }
        }
        problems.retain(|problem| problem.unset.is_none());
        problems.extend(self.judge_together(&steps));
        problems.dedup();
        if problems.is_empty() { Ok(()) } else { Err(self.problems(problems)) }
    }

    /// The path as the user gave it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The environment variables that the plan file reads, secrets among them: no child inherits one.
    pub fn environment_names(&self) -> std::collections::BTreeSet<String> {
        let mut names = std::collections::BTreeSet::new();
        let nodes = self.vars.values().chain(self.connections.values()).chain(self.steps.iter().map(|step| &step.body));
        for node in nodes {
            template::environment_names(node, &mut names);
        }
        names
    }

    /// The steps' ids in document order.
    pub fn ids(&self) -> Vec<&str> {
        self.steps.iter().map(|step| step.id.as_str()).collect()
    }

    /// The steps of kinds that may take somebody's work out of the way.
    pub fn ids_that_keep_rescues(&self) -> Vec<String> {
        self.steps
            .iter()
            .filter(|step| AnyResource::kind_keeps_rescues(step.kind))
            .map(|step| step.id.clone())
            .collect()
    }

    /// What the plan file says of a step in prose, and the step itself where it can be evaluated here.
    pub fn describe(&self, id: &str, inputs: &Inputs) -> Option<(Prose, &'static str, Result<Step, Problem>)> {
        let written = self.steps.iter().find(|step| step.id == id)?;
        let evaluator = Evaluator::new(self.vars.clone(), inputs.clone());
        Some((prose(written, &evaluator), written.kind, self.step(written, &evaluator)))
    }

    /// The error to show for `id` where no step has it.
    pub fn unknown_step(&self, id: &str) -> Problems {
        let problem = Problem::of_file(format!("there is no step `{id}`")).help(suggest(id, &self.ids()));
        self.problems(vec![problem])
    }

    fn check_inputs(&self, inputs: &Inputs, selection: &Selection) -> Vec<Problem> {
        let known: Vec<&str> = self.vars.keys().map(String::as_str).collect();
        let vars = inputs.vars.keys().filter(|name| !self.vars.contains_key(*name)).map(|name| {
            Problem::of_file(format!("--var {name}: the plan file declares no such variable"))
                .help(suggest(name, &known))
        });
        let ids = self.ids();
        let steps = [("--only", &selection.only), ("--skip", &selection.skip)].into_iter().flat_map(|(flag, list)| {
            let ids = ids.clone();
            list.iter()
                .filter(move |id| !self.steps.iter().any(|step| step.id == **id))
                .map(move |id| Problem::of_file(format!("{flag} {id}: there is no such step")).help(suggest(id, &ids)))
        });
        vars.chain(steps).collect()
    }

    fn step(&self, written: &WrittenStep, evaluator: &Evaluator) -> Result<Step, Problem> {
        let run_as = evaluator.node(&written.run_as)?;
        let run_as: Option<String> = de::from_node(&run_as)?;
        let resource = de::with_seed(&evaluator.node(&written.body)?, AnyResource::seed(written.kind))?;
        Ok(Step {
            id: written.id.clone(),
            prose: prose(written, evaluator),
            run_as,
            after: written.after.iter().map(|(id, _)| id.clone()).collect(),
            resource,
        })
    }

    fn connection(&self, node: &Node, evaluator: &Evaluator) -> Result<ConnectionSpec, Problem> {
        de::from_node(&evaluator.node(node)?)
    }

    fn problems(&self, list: Vec<Problem>) -> Problems {
        Problems { path: self.path.clone(), text: self.text.clone(), list }
    }
}

fn prose(written: &WrittenStep, evaluator: &Evaluator) -> Prose {
    Prose {
        title: evaluator.prose(&written.title),
        why: evaluator.prose(&written.why),
        symptom: evaluator.prose(&written.symptom),
        when: evaluator.prose(&written.when),
    }
}
