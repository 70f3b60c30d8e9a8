//! Evaluates one step of a plan file by itself.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::companion::Folder;
use super::de;
use super::diagnostic::Diagnostic;
use super::file::{PlanFile, StepSource};
use super::keys::by_key;
use super::node::{Node, Value};
use super::sources::{self, reference_of};
use super::template::Evaluator;
use crate::resource::reference::{Reference, Shape};
use crate::resource::{AnyResource, Companion, Prose, Step};

impl PlanFile {
    /// Returns a step with its templates evaluated, or every problem of the step by itself.
    pub(super) fn step(&self, written: &StepSource, evaluator: &Evaluator) -> Result<Step, Vec<Diagnostic>> {
        let run_as = evaluator.node(&written.run_as).and_then(|node| run_as(&node));
        let max_changes = evaluator.node(&written.max_changes).and_then(|node| max_changes(&node));
        let sources = sources::problems(&written.body, reference_of(written.kind), &self.vars);
        let companions = RefCell::default();
        let resource = match self.resource(written, evaluator, &companions) {
            Ok(resource) if sources.is_empty() => Ok(resource),
            Ok(_) => Err(sources),
            Err(found) => Err([sources::without_those_within(found, &sources), sources].concat()),
        };
        match (run_as, max_changes, resource) {
            (Ok(run_as), Ok(max_changes), Ok(resource)) => Ok(Step {
                id: written.id.clone(),
                prose: prose(written, evaluator),
                run_as,
                after: written.after.iter().map(|(id, _)| id.clone()).collect(),
                max_changes,
                companions: companions.into_inner(),
                resource,
            }),
            (run_as, max_changes, resource) => {
                let of_step = run_as.err().into_iter().chain(max_changes.err());
                Err(of_step.chain(resource.err().into_iter().flatten()).collect())
            }
        }
    }

    /// Returns the resource of a step. Adds the files beside the plan file that it needs to `companions`.
    fn resource(
        &self,
        written: &StepSource,
        evaluator: &Evaluator,
        companions: &RefCell<Vec<Companion>>,
    ) -> Result<AnyResource, Vec<Diagnostic>> {
        let reference = reference_of(written.kind);
        let named = sources::of(&written.body, reference).into_iter().map(|(name, _)| name.to_owned());
        let secrets: BTreeSet<String> = named.collect();
        // The texts before they are evaluated.
        let texts = RefCell::new(Vec::new());
        // If the plan file contains the text, a template beside it is an error, whatever it contains.
        let folder = if has_document(&written.body, reference) { &Folder::Unread } else { &self.folder };
        let value_of = |key: &str, value: &Node| match reference.key(key).map(|key| key.shape) {
            Some(Shape::Document) => {
                texts.borrow_mut().extend(value.text().map(str::to_owned));
                evaluator.document(value, &secrets)
            }
            Some(Shape::TemplateFile) => {
                let (node, read) = evaluator.template_file(value, &secrets, folder)?;
                if let Some((companion, text)) = read {
                    companions.borrow_mut().push(companion);
                    texts.borrow_mut().push(text);
                }
                Ok(node)
            }
            _ if key == "url" => evaluator.of_remotes().node(value),
            shape => sources::evaluated(value, shape, evaluator),
        };
        let read = |body: &Node| de::with_seed(body, AnyResource::seed(written.kind));
        let resource = by_key(&written.body, &written.kind_span, evaluator, value_of, read)?;
        let unused = sources::unused(&written.body, reference, &texts.into_inner());
        if unused.is_empty() { Ok(resource) } else { Err(unused) }
    }
}

fn run_as(node: &Node) -> Result<Option<String>, Diagnostic> {
    let name: Option<String> = de::from_node(node).map_err(|error| *error.problem)?;
    match name {
        Some(name) if name.trim().is_empty() => Err(Diagnostic::at(node.span.clone(), "`run_as` is empty")
            .help("give a user's name, or leave `run_as` out: the step then runs as the user who starts the program")),
        name => Ok(name),
    }
}

fn max_changes(node: &Node) -> Result<Option<u64>, Diagnostic> {
    de::from_node(node).map_err(|error| match error.problem.unset {
        Some(_) => *error.problem,
        None => Diagnostic::at(node.span.clone(), "`max_changes` has to be a whole number, 0 or more")
            .help("the step is blocked if it would change more things than that; leave it out for no limit"),
    })
}

/// Returns whether a body contains its text under a key of its own.
fn has_document(body: &Node, reference: &Reference) -> bool {
    let Value::Mapping(pairs) = &body.value else { return false };
    pairs.iter().any(|(key, value)| {
        let shape = key.text().and_then(|key| reference.key(key)).map(|key| key.shape);
        matches!(shape, Some(Shape::Document)) && matches!(value.value, Value::Scalar(_)) && !value.is_null()
    })
}

/// Returns the texts of a step that are written for people.
pub(super) fn prose(written: &StepSource, evaluator: &Evaluator) -> Prose {
    Prose {
        title: evaluator.prose(&written.title),
        why: evaluator.prose(&written.why),
        symptom: evaluator.prose(&written.symptom),
        when: evaluator.prose(&written.when),
    }
}
