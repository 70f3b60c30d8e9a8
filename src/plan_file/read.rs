//! Reads the plan file's own keys. The keys of a step's resource are read by its kind.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::condition;
use super::diagnostic::{Diagnostic, suggest};
use super::document;
use super::file::StepSource;
use super::node::{Node, Value};
use crate::resource::KIND_NAMES;
use crate::text::nearest;

pub(super) const TOP: [&str; 4] = ["name", "vars", "connections", "steps"];
pub(super) const STEP: [&str; 8] = ["id", "title", "why", "symptom", "when", "run_as", "after", "max_changes"];

/// The maximum number of steps. A longer plan file should be split.
const MAX_STEPS: usize = 2_000;

/// The part of a plan file that could be read, and what is wrong with its shape.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub name: String,
    pub vars: BTreeMap<String, Node>,
    /// Variables with a wrong declaration. Their uses are not reported as well.
    pub misdeclared: BTreeSet<String>,
    pub connections: BTreeMap<String, Node>,
    pub steps: Vec<StepSource>,
    /// Every id in the file, including those of steps that could not be read.
    pub ids: Vec<String>,
    pub flaws: Vec<Diagnostic>,
    pub secrets: Vec<Range<usize>>,
}

pub(super) fn shape(text: &str) -> Shape {
    let mut shape = Shape::default();
    let document = match document::parse(text) {
        Ok(document) => document,
        Err(broken) => {
            let (problem, secrets) = *broken;
            shape.flaws.push(problem);
            shape.secrets = secrets;
            return shape;
        }
    };
    shape.flaws = document.flaws;
    shape.secrets = document.secrets;
    if let Err(problem) = shape.top(&document.root, text) {
        shape.flaws.push(problem);
    }
    shape
}

impl Shape {
    fn top(&mut self, root: &Node, text: &str) -> Result<(), Diagnostic> {
        let mut keys = Keys::of(root, "the plan file").map_err(|problem| {
            problem.help("a plan file begins with `name: …`, and its steps are a list under `steps:`")
        })?;
        match keys.required("name").and_then(|name| identifier(&name, "name")) {
            Ok(name) => self.name = name,
            Err(problem) => self.flaws.push(problem),
        }
        if let Some(node) = keys.take("vars").filter(|node| !node.is_null()) {
            self.vars = self.named(&node, "vars", variable_name);
            if let Value::Mapping(pairs) = &node.value {
                let names = pairs.iter().filter_map(|(name, _)| name.text());
                self.misdeclared.extend(names.filter(|name| !self.vars.contains_key(*name)).map(str::to_owned));
            }
        }
        for (name, node) in &self.vars {
            if !matches!(node.value, Value::Scalar(_)) {
                let message = format!("variable `{name}` has to be a string, a number, a boolean or null");
                self.flaws.push(Diagnostic::at(node.span.clone(), message));
                self.misdeclared.insert(name.clone());
            }
        }
        self.vars.retain(|_, node| matches!(node.value, Value::Scalar(_)));
        if let Some(node) = keys.take("connections").filter(|node| !node.is_null()) {
            self.connections = self.named(&node, "connections", |name| identifier(name, "a connection's name"));
        }
        let steps = keys.required("steps");
        // A misspelt key has been reported already.
        let told = self.flaws.iter().chain(steps.as_ref().err()).filter_map(|flaw| flaw.span.clone());
        let told: Vec<_> = told.collect();
        self.flaws.extend(
            keys.others(&TOP).into_iter().filter(|other| other.span.as_ref().is_none_or(|span| !told.contains(span))),
        );
        let steps = steps?;
        let Value::Sequence(list) = &steps.value else {
            return Err(Diagnostic::at(steps.span, "`steps` has to be a list").help("start each step with `- id: …`"));
        };
        if list.is_empty() {
            return Err(Diagnostic::at(steps.span, "`steps` is empty: there is nothing to provision"));
        }
        if list.len() > MAX_STEPS {
            let message = format!("a plan file has at most {MAX_STEPS} steps, and this one has {}", list.len());
            return Err(Diagnostic::at(steps.span, message).help("split it into several plan files"));
        }
        self.read_steps(list, text);
        Ok(())
    }

    fn read_steps(&mut self, list: &[Node], text: &str) {
        let mut places: HashMap<String, usize> = HashMap::new();
        for node in list {
            let mut keys = match Keys::of(node, "a step") {
                Ok(keys) => keys,
                Err(problem) => {
                    self.flaws.push(problem.help("start each step with `- id: …`"));
                    continue;
                }
            };
            let id = keys.required("id").and_then(|id| Ok((identifier(&id, "id")?, id.span)));
            let (id, span) = match id {
                Ok(id) => id,
                Err(problem) => {
                    self.flaws.push(problem);
                    continue;
                }
            };
            self.ids.push(id.clone());
            if let Some(other) = places.insert(id.clone(), span.start) {
                let line = text[..other].matches('\n').count() + 1;
                let message = format!("two steps have the id `{id}`; the other is in line {line}");
                self.flaws.push(Diagnostic::at(span, message).help("give one of them another id"));
                continue;
            }
            if let Some(step) = self.step(id, span, keys) {
                self.steps.push(step);
            }
        }
    }

    fn step(&mut self, id: String, span: Range<usize>, mut keys: Keys) -> Option<StepSource> {
        let mut text = |name| match keys.take(name) {
            Some(node) if !matches!(node.value, Value::Scalar(_)) => {
                self.flaws.push(Diagnostic::at(node.span, format!("`{name}` has to be text")));
                Node::null(span.clone())
            }
            Some(node) => node,
            None => Node::null(span.clone()),
        };
        let [title, why, symptom, when, run_as] = ["title", "why", "symptom", "when", "run_as"].map(&mut text);
        if let Value::Scalar(scalar) = &when.value
            && condition::reads_like_one(&scalar.text)
        {
            let message = format!("`when` is text for people and is not evaluated: step `{id}` would always run");
            let help = format!("write in words when the step is needed; to leave it out of a run: `--skip {id}`");
            self.flaws.push(Diagnostic::at(when.span.clone(), message).help(help));
        }
        let after = self.after(keys.take("after"));
        let max_changes = keys.take("max_changes").unwrap_or_else(|| Node::null(span.clone()));
        let known = [STEP.as_slice(), KIND_NAMES].concat();
        let mut kinds = Vec::new();
        let mut misspelt = false;
        for (key, body) in keys.pairs {
            let word = key.text().unwrap_or_default();
            if let Some(kind) = KIND_NAMES.iter().find(|kind| **kind == word) {
                kinds.push((*kind, key.span, body));
                continue;
            }
            let meant = nearest(word, known.iter().copied());
            misspelt |= meant.is_none_or(|meant| KIND_NAMES.contains(&meant));
            let help = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("a step has {}, and one of {}", STEP.join(", "), KIND_NAMES.join(", ")),
            };
            let message = format!("unknown key `{word}` in step `{id}`");
            self.flaws.push(Diagnostic::at(key.span.clone(), message).help(help));
        }
        let mut kinds = kinds.into_iter();
        let Some((kind, kind_span, body)) = kinds.next() else {
            if !misspelt {
                let message = format!("step `{id}` has no resource");
                let help = format!("give it one of {}", KIND_NAMES.join(", "));
                self.flaws.push(Diagnostic::at(span, message).help(help));
            }
            return None;
        };
        for (other, span, _) in kinds {
            let message = format!("step `{id}` has two resources, `{kind}` and `{other}`");
            self.flaws.push(Diagnostic::at(span, message).help("a step has one resource: split the step in two"));
        }
        if !matches!(body.value, Value::Mapping(_)) {
            let problem = Diagnostic::at(
                if body.is_null() { kind_span } else { body.span },
                format!("`{kind}` has to be a mapping of keys"),
            );
            self.flaws.push(problem.help("write its keys below it, indented"));
            return None;
        }
        Some(StepSource { id, span, title, why, symptom, when, run_as, after, max_changes, kind, kind_span, body })
    }

    fn after(&mut self, node: Option<Node>) -> Vec<(String, Range<usize>)> {
        let items = match node {
            None => Vec::new(),
            Some(node) if node.is_null() => Vec::new(),
            Some(Node { value: Value::Sequence(items), .. }) => items,
            Some(one) => vec![one],
        };
        let mut after = Vec::new();
        for item in items {
            match identifier(&item, "after") {
                Ok(id) => after.push((id, item.span)),
                Err(problem) => self.flaws.push(problem.help("it is a step's id, or a list of ids")),
            }
        }
        after
    }

    fn named(
        &mut self,
        node: &Node,
        key: &str,
        name_of: impl Fn(&Node) -> Result<String, Diagnostic>,
    ) -> BTreeMap<String, Node> {
        let mut map = BTreeMap::new();
        let Value::Mapping(pairs) = &node.value else {
            self.flaws.push(Diagnostic::at(node.span.clone(), format!("`{key}` has to be a mapping of names")));
            return map;
        };
        for (name, value) in pairs {
            match name_of(name) {
                Ok(name) => drop(map.insert(name, value.clone())),
                Err(problem) => self.flaws.push(problem),
            }
        }
        map
    }
}

/// Reads the name of a variable as Jinja allows it. In a template, `my-var` would be a subtraction.
fn variable_name(node: &Node) -> Result<String, Diagnostic> {
    let text = node.text().unwrap_or_default();
    if variable_name_fits(text) {
        return Ok(text.to_owned());
    }
    if text.contains('-') && variable_name_fits(&text.replace('-', "_")) {
        let message = format!("a variable's name cannot contain `-`: `{text}`");
        let better = text.replace('-', "_");
        return Err(Diagnostic::at(node.span.clone(), message)
            .help(format!("a template would read it as a subtraction: call it `{better}`, in templates too")));
    }
    Err(Diagnostic::at(node.span.clone(), "a variable cannot have this name")
        .help("a name starts with a letter or `_` and has letters, digits and `_`, so that templates can use it"))
}

fn variable_name_fits(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text != "env_var"
}

/// Reads an id or a name. They are used in output, file names and SQL comments, so they are limited to safe characters.
fn identifier(node: &Node, key: &str) -> Result<String, Diagnostic> {
    let text = node.text().filter(|_| !node.is_null()).unwrap_or_default();
    let fine = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && text.len() <= 100;
    if fine {
        return Ok(text.to_owned());
    }
    Err(Diagnostic::at(node.span.clone(), format!("`{key}` has to be one word"))
        .help("it starts with a letter or digit and has letters, digits, `-`, `_` and `.`, at most 100 of them"))
}

/// The keys of a mapping that have not been read yet.
struct Keys {
    pairs: Vec<(Node, Node)>,
    span: std::ops::Range<usize>,
    what: &'static str,
}

impl Keys {
    fn of(node: &Node, what: &'static str) -> Result<Self, Diagnostic> {
        match &node.value {
            Value::Mapping(pairs) => Ok(Self { pairs: pairs.clone(), span: node.span.clone(), what }),
            _ => Err(Diagnostic::at(node.span.clone(), format!("{what} has to be a mapping of keys"))),
        }
    }

    fn take(&mut self, name: &str) -> Option<Node> {
        let index = self.pairs.iter().position(|(key, _)| key.text() == Some(name))?;
        Some(self.pairs.remove(index).1)
    }

    fn required(&mut self, name: &str) -> Result<Node, Diagnostic> {
        if let Some(node) = self.take(name) {
            return Ok(node);
        }
        // A misspelt key is more likely than a missing one, and is reported at a better place.
        let close = self.pairs.iter().find(|(key, _)| nearest(key.text().unwrap_or_default(), [name]).is_some());
        Err(match close {
            Some((key, _)) => {
                Diagnostic::at(key.span.clone(), format!("unknown key `{}`", key.text().unwrap_or_default()))
                    .help(format!("did you mean `{name}`?"))
            }
            None => Diagnostic::at(self.span.clone(), format!("{} has no `{name}`", self.what))
                .help(format!("add the key `{name}`")),
        })
    }

    /// Reports the remaining keys as unknown.
    fn others(&self, known: &[&str]) -> Vec<Diagnostic> {
        let unknown = |(key, _): &(Node, Node)| {
            let word = key.text().unwrap_or_default();
            Diagnostic::at(key.span.clone(), format!("unknown key `{word}` in {}", self.what))
                .help(suggest(word, known))
        };
        self.pairs.iter().map(unknown).collect()
    }
}
