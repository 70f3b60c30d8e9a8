//! Turns YAML text into a [`PlanFile`], and that into the steps of one run. Nothing here changes the host. Reads the files
//! beside the plan file, service files, and what shows whether two steps share something. Every problem is reported with its
//! place.

mod check;
mod code;
mod companion;
mod condition;
mod connection;
mod content;
mod dbt_profile;
mod de;
mod diagnostic;
mod document;
mod file;
mod keys;
mod literal;
mod lookup;
mod node;
mod origins;
mod place;
mod read;
pub mod reference;
mod remarks;
mod resolve;
mod secret_uses;
mod sources;
mod step;
mod template;
#[cfg(test)]
mod tests;
mod url_password;

/// The plan files of the project.
#[cfg(test)]
#[path = "../../fixtures/plans/list.rs"]
mod project;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

pub use check::Relations;
use check::{Claimed, Homes};
pub use companion::Folder;
pub use diagnostic::{Diagnostic, DiagnosticPlace, Diagnostics, is_telling, suggest};
pub use file::PlanFile;
pub use literal::literal;
pub use template::{HostAccess, Inputs};

use connection::{Problem, completed, is_of_environment, is_of_value, with_origins, without_environment};
use diagnostic::Source;
use file::StepSource;
use lookup::UrlSecrets;
use node::{Node, Value};
use origins::Origins;
use sources::reference_of;
use step::prose;
use template::Evaluator;

use crate::host::warehouse::ConnectionSpec;
use crate::plan::claim::{Claim, Unseen};
use crate::resource::{Prose, Step, kind_info};

/// A step as `explain` shows it.
#[derive(Debug, Clone)]
pub struct Described {
    pub id: String,
    pub kind: &'static str,
    pub prose: Prose,
    /// The step, or why it cannot be evaluated.
    pub step: Result<Step, Diagnostics>,
}

/// The steps that a run is about.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The ids of `--only`. Empty for all steps.
    pub only: Vec<String>,
    /// The ids of `--skip`.
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
    /// The ids and kinds of the other steps.
    pub deselected: Vec<(String, &'static str)>,
    /// The deselected steps that are observed because they may have follow-ups, if they can be evaluated.
    pub observed_only: Vec<Step>,
    /// The connections that the selected steps use. If a connection needs an unset environment variable, its steps fail and
    /// the run goes on.
    pub connections: BTreeMap<String, Result<ConnectionSpec, Diagnostic>>,
    /// The relations between the selected steps.
    pub relations: Relations,
}

impl PlanFile {
    /// Reads a plan file. Messages call it `path`.
    ///
    /// # Errors
    /// The text is not YAML. Other problems are reported by [`PlanFile::evaluate`] and [`PlanFile::validate`], together with
    /// those that they find.
    pub fn parse(path: &str, text: &str) -> Result<Self, Diagnostics> {
        let shape = read::shape(text);
        let source = Source { path: path.to_owned(), text: text.to_owned(), secrets: shape.secrets };
        if shape.ids.is_empty() && !shape.flaws.is_empty() {
            return Err(Diagnostics { source, list: shape.flaws });
        }
        let read::Shape { name, vars, misdeclared, connections, steps, ids, flaws, .. } = shape;
        Ok(Self { source, folder: Folder::Unread, name, vars, misdeclared, connections, steps, ids, flaws })
    }

    /// Evaluates the selected steps and checks them together. Environment variables of the other steps may be unset. Steps that
    /// cannot be evaluated for that reason are left out.
    ///
    /// # Errors
    /// The selected steps or the selection have problems, all of which are reported. An unset environment variable is a
    /// problem. Steps that would undo each other, or wait for each other, are a problem whether they are selected or not.
    pub fn evaluate(&self, inputs: &Inputs, selection: &Selection) -> Result<Evaluated, Diagnostics> {
        self.evaluate_beside(inputs, selection, true)
    }

    /// Does the same as [`PlanFile::evaluate`], but ignores problems of other steps, so that a rescue can be restored in spite
    /// of them.
    ///
    /// # Errors
    /// The selected steps or the selection have problems, all of which are reported.
    pub fn evaluate_alone(&self, inputs: &Inputs, selection: &Selection) -> Result<Evaluated, Diagnostics> {
        self.evaluate_beside(inputs, selection, false)
    }

    fn evaluate_beside(
        &self,
        inputs: &Inputs,
        selection: &Selection,
        others_matter: bool,
    ) -> Result<Evaluated, Diagnostics> {
        let mut problems = self.check_inputs(inputs, selection);
        let evaluator = self.evaluator(inputs);
        let mut steps = Vec::new();
        let mut deselected = Vec::new();
        let mut observed_only = Vec::new();
        for written in &self.steps {
            if !selection.includes(&written.id) {
                deselected.push((written.id.clone(), written.kind));
                if kind_info(written.kind).is_some_and(|kind| kind.reacts) {
                    observed_only.extend(self.step(written, &evaluator).ok());
                }
                continue;
            }
            match self.step(written, &evaluator) {
                Ok(step) => steps.push(step),
                Err(found) => problems.extend(found),
            }
        }
        let origins = self.origins(inputs);
        let mut connections = BTreeMap::new();
        for name in steps.iter().filter_map(|step| step.resource.connection()) {
            let Some(node) = self.connections.get(name) else { continue };
            let result = self.connection(node, &evaluator).map_err(|found| {
                let (of_value, wrong): (Vec<_>, Vec<_>) =
                    found.into_iter().partition(|problem| problem.unset.is_some() || is_of_value(node, problem));
                problems.extend(wrong);
                of_value.into_iter().next().map(|problem| with_origins(node, &origins, problem))
            });
            match result {
                Ok(spec) => match completed(node, spec, inputs) {
                    Ok(spec) => drop(connections.insert(name.to_owned(), Ok(spec))),
                    Err(Problem::OfHost(problem)) => drop(connections.insert(name.to_owned(), Err(*problem))),
                    Err(Problem::OfPlanFile(problem)) if is_of_value(node, &problem) => {
                        drop(connections.insert(name.to_owned(), Err(with_origins(node, &origins, *problem))));
                    }
                    Err(Problem::OfPlanFile(problem)) => problems.push(*problem),
                },
                Err(Some(unset)) => drop(connections.insert(name.to_owned(), Err(unset))),
                Err(None) => {}
            }
        }
        let (host, homes) = (inputs.host.view(), Homes::of(&inputs.client));
        let of_others: RefCell<BTreeMap<String, Option<ConnectionSpec>>> = RefCell::default();
        let connection = |name: &str| match connections.get(name) {
            Some(spec) => spec.as_ref().ok().cloned(),
            None => {
                let evaluate = || {
                    let node = self.connections.get(name)?;
                    completed(node, self.connection(node, &evaluator).ok()?, inputs).ok()
                };
                of_others.borrow_mut().entry(name.to_owned()).or_insert_with(evaluate).clone()
            }
        };
        let others = self.others(&steps, selection, &evaluator, &mut problems);
        let claimed = Claimed::new(&steps, &others, &connection, &homes, host.as_ref());
        let (found, relations) = self.check_steps(&claimed);
        problems.extend(found);
        if others_matter {
            add_new(&mut problems, self.check_all(&claimed));
        }
        let specs = connections.iter().filter_map(|(name, spec)| Some((name.as_str(), spec.as_ref().ok()?)));
        problems.extend(self.check_sources(&steps, specs, host.as_ref()));
        self.result_of(problems)?;
        Ok(Evaluated { name: self.name.clone(), steps, deselected, observed_only, connections, relations })
    }

    /// Returns the steps that are not selected, as far as they can be evaluated. A selected step that owns a whole tree leaves
    /// out what they own in the tree, so it is then a problem if one of them cannot be evaluated.
    fn others(
        &self,
        steps: &[Step],
        selection: &Selection,
        evaluator: &Evaluator,
        problems: &mut Vec<Diagnostic>,
    ) -> Vec<Step> {
        let whole = |step: &&Step| step.resource.claims(&Unseen).owns.iter().any(Claim::is_whole);
        let tree = steps.iter().find(whole);
        let mut others = Vec::new();
        for written in self.steps.iter().filter(|written| !selection.includes(&written.id)) {
            match self.step(written, evaluator) {
                Ok(step) => others.push(step),
                Err(_) if kind_info(written.kind).is_some_and(|kind| kind.on_warehouse) => {}
                Err(found) => problems.extend(found.into_iter().filter_map(|problem| {
                    let why = format!(
                        "step `{}` is not selected, but `{}` has to leave out what it owns",
                        written.id, tree?.id
                    );
                    Some(Diagnostic { message: format!("{why}: {}", problem.message), ..problem })
                })),
            }
        }
        others
    }

    /// Checks the whole plan file. Environment variables may be unset.
    ///
    /// # Errors
    /// The plan file has problems, all of which are reported.
    pub fn validate(&self, inputs: &Inputs) -> Result<(), Diagnostics> {
        let mut problems = self.check_inputs(inputs, &Selection::default());
        let evaluator = self.evaluator(inputs);
        problems.extend(evaluator.of_urls().problems_of_variables());
        let origins = self.origins(inputs);
        let mut specs = Vec::new();
        for (name, node) in &self.connections {
            let mut found = match self.connection(node, &evaluator) {
                Ok(spec) => {
                    // Without its service, the connection is compared by the settings in the plan file.
                    let complete = completed(node, spec.clone(), inputs);
                    let problem = match &complete {
                        Err(Problem::OfPlanFile(problem)) => vec![(**problem).clone()],
                        _ => Vec::new(),
                    };
                    specs.push((name.as_str(), complete.unwrap_or(spec)));
                    problem
                }
                Err(found) => found,
            };
            // Only the plan file is checked, and not the environment that it is checked in.
            if found.iter().any(|problem| is_of_environment(node, problem, &origins, inputs)) {
                let inputs = without_environment(node, &origins, inputs);
                let connection = self.connection(node, &self.evaluator(&inputs));
                found = match connection.map(|spec| completed(node, spec, &inputs)) {
                    Ok(Err(Problem::OfPlanFile(problem))) => vec![*problem],
                    Ok(_) => Vec::new(),
                    Err(found) => found,
                };
            }
            problems.extend(found.into_iter().map(|problem| with_origins(node, &origins, problem)));
        }
        let mut steps = Vec::new();
        for written in &self.steps {
            match self.step(written, &evaluator) {
                Ok(step) => steps.push(step),
                Err(found) => problems.extend(found),
            }
        }
        problems.retain(|problem| problem.unset.is_none());
        let (host, homes) = (inputs.host.view(), Homes::of(&inputs.client));
        let connection = |name: &str| specs.iter().find(|(known, _)| *known == name).map(|(_, spec)| spec.clone());
        let claimed = Claimed::new(&steps, &[], &connection, &homes, host.as_ref());
        problems.extend(self.check_steps(&claimed).0);
        add_new(&mut problems, self.check_all(&claimed));
        problems.extend(self.check_sources(&steps, specs.iter().map(|(name, spec)| (*name, spec)), host.as_ref()));
        self.result_of(problems)
    }

    /// Returns the environment variables that the plan file reads. Some contain secrets, so no child process inherits them.
    pub fn environment_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.nodes().for_each(|node| template::environment_names(node, &mut names));
        names
    }

    /// Returns the environment variables that are sources of secrets, also of steps that are not selected.
    pub fn secret_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.nodes().for_each(|node| template::secret_names(node, &mut names));
        names
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.vars.values().chain(self.connections.values()).chain(self.steps.iter().map(|step| &step.body))
    }

    /// Returns the ids of the steps in document order.
    pub fn ids(&self) -> Vec<&str> {
        self.steps.iter().map(|step| step.id.as_str()).collect()
    }

    /// Returns the ids and titles of the steps in document order. A template in a title is not evaluated.
    pub fn titles(&self) -> Vec<(&str, &str)> {
        let mut titles = Vec::new();
        for step in &self.steps {
            let title = if let Value::Scalar(scalar) = &step.title.value { scalar.text.as_str() } else { "" };
            titles.push((step.id.as_str(), title));
        }
        titles
    }

    /// Returns the ids of the steps that may make rescues.
    pub fn ids_that_keep_rescues(&self) -> Vec<String> {
        self.steps
            .iter()
            .filter(|step| kind_info(step.kind).is_some_and(|kind| kind.keeps_rescues))
            .map(|step| step.id.clone())
            .collect()
    }

    /// Returns the steps with these ids, or all steps if there are no ids, as `explain` shows them. An unset environment
    /// variable is shown as its name in angle brackets.
    ///
    /// # Errors
    /// The plan file has flaws, or an id or a variable is unknown.
    pub fn describe(&self, ids: &[String], inputs: &Inputs) -> Result<Vec<Described>, Diagnostics> {
        let mut problems = self.unknown_variables(inputs);
        problems.extend(self.unknown_steps(ids, ""));
        self.result_of(problems)?;
        // A placeholder for a value that has to be a path begins with a slash.
        let evaluators = [None, Some("<"), Some("/<")].map(|placeholder| self.evaluator(inputs).showing(placeholder));
        let describe = |written: &StepSource| {
            let mut tries = evaluators.iter().map(|evaluator| self.step(written, evaluator));
            let mut step = tries.next()?;
            if step.as_ref().is_err_and(|problems| problems.iter().any(|problem| problem.unset.is_some())) {
                step = tries.find(Result::is_ok).unwrap_or(step);
            }
            let step = step.map_err(|list| self.problems(list));
            Some(Described { id: written.id.clone(), kind: written.kind, prose: prose(written, &evaluators[1]), step })
        };
        let wanted = |step: &&StepSource| ids.is_empty() || ids.contains(&step.id);
        Ok(self.steps.iter().filter(wanted).filter_map(describe).collect())
    }

    fn origins(&self, inputs: &Inputs) -> Origins {
        Origins::new(&self.vars, inputs.vars.keys().cloned())
    }

    fn evaluator(&self, inputs: &Inputs) -> Evaluator {
        let plain = Evaluator::new(&self.source.text, self.vars.clone(), inputs.clone());
        let sources = self.secret_environment(&plain);
        let of_steps = self.steps.iter().filter_map(|step| step.body.get("url"));
        let urls = self.connections.values().filter_map(|node| node.get("url")).chain(of_steps);
        let url_secrets = UrlSecrets::find(urls, &self.vars, &plain);
        plain.without_secrets(sources, url_secrets)
    }

    /// Returns the environment variables that are sources of secrets of any step, selected or not.
    fn secret_environment(&self, evaluator: &Evaluator) -> BTreeSet<String> {
        let of_steps = self.steps.iter().flat_map(|step| sources::of(&step.body, reference_of(step.kind)));
        let of_connections = self.connections.values().flat_map(|node| sources::of(node, &reference::CONNECTION));
        let names = of_steps.chain(of_connections).filter_map(|(_, source)| {
            let name = evaluator.node(source.get("env")?).ok()?;
            name.text().map(str::to_owned)
        });
        names.collect()
    }

    fn check_inputs(&self, inputs: &Inputs, selection: &Selection) -> Vec<Diagnostic> {
        let mut problems = self.unknown_variables(inputs);
        problems.extend(self.unknown_steps(&selection.only, "--only "));
        problems.extend(self.unknown_steps(&selection.skip, "--skip "));
        if problems.is_empty() && !self.ids.iter().any(|id| selection.includes(id)) {
            let (message, help) = if selection.only.is_empty() {
                ("no steps are selected: --skip leaves out all steps", "remove a step from --skip")
            } else {
                ("no steps are selected: --skip leaves out every step that --only names", "correct --only or --skip")
            };
            problems.push(Diagnostic::of_file(message).help(help));
        }
        problems
    }

    fn unknown_variables(&self, inputs: &Inputs) -> Vec<Diagnostic> {
        let known: Vec<&str> = self.vars.keys().map(String::as_str).collect();
        let unknown = inputs.vars.keys().filter(|name| !self.vars.contains_key(*name));
        let problem = |name: &String| {
            Diagnostic::of_file(format!("variable {name}: the plan file declares no such variable"))
                .help(suggest(name, &known))
        };
        unknown.map(problem).collect()
    }

    fn unknown_steps(&self, ids: &[String], flag: &str) -> Vec<Diagnostic> {
        let known = self.ids();
        let unknown = ids.iter().filter(|id| !self.ids.contains(id));
        let problem =
            |id: &String| Diagnostic::of_file(format!("{flag}{id}: there is no such step")).help(suggest(id, &known));
        unknown.map(problem).collect()
    }
}

/// Adds the problems that are not in the list yet.
fn add_new(problems: &mut Vec<Diagnostic>, more: Vec<Diagnostic>) {
    for problem in more {
        if !problems.iter().any(|known| known.message == problem.message) {
            problems.push(problem);
        }
    }
}
