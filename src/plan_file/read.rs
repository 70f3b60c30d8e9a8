//! The plan file's own keys; each step's resource is left to its kind.

use std::collections::BTreeMap;

use super::node::{self, Node, Value};
use super::problem::{Problem, nearest, suggest};
use super::{PlanFile, WrittenStep};
use crate::resource::KINDS;

const TOP: [&str; 4] = ["name", "vars", "connections", "steps"];
const STEP: [&str; 7] = ["id", "title", "why", "symptom", "when", "run_as", "after"];

pub(super) fn plan_file(path: &str, text: &str) -> Result<PlanFile, Problem> {
    let root = node::parse(text)?;
    let mut keys = Keys::of(&root, "the plan file")?;
    let name = keys.required("name")?;
    let name = identifier(&name, "name")?;
    let vars = match keys.take("vars") {
        Some(node) if !node.is_null() => named(&node, "vars")?,
        _ => BTreeMap::new(),
    };
    for (name, node) in &vars {
        if !matches!(node.value, Value::Scalar(_)) {
            let message = format!("variable `{name}` has to be a string, a number, a boolean or null");
            return Err(Problem::at(node.span.clone(), message));
        }
    }
    let connections = match keys.take("connections") {
        Some(node) if !node.is_null() => named(&node, "connections")?,
        _ => BTreeMap::new(),
    };
    let list = keys.required("steps")?;
    keys.none_left(&TOP)?;
    let Value::Sequence(list) = &list.value else {
        return Err(Problem::at(list.span, "`steps` has to be a list").help("start each step with `- id: …`"));
    };
    if list.is_empty() {
        return Err(Problem::at(root.span, "`steps` is empty: there is nothing to provision"));
    }
    let mut steps: Vec<WrittenStep> = Vec::new();
    for node in list {
        let step = step(node)?;
        if let Some(other) = steps.iter().find(|other| other.id == step.id) {
            let line = text[..other.span.start].matches('\n').count() + 1;
            let message = format!("two steps have the id `{}`; the other is in line {line}", step.id);
            return Err(Problem::at(step.span, message).help("give one of them another id"));
        }
        steps.push(step);
    }
    Ok(PlanFile { path: path.to_owned(), text: text.to_owned(), name, vars, connections, steps })
}

fn step(node: &Node) -> Result<WrittenStep, Problem> {
    let mut keys = Keys::of(node, "a step")?;
    let id = keys.required("id")?;
    let span = id.span.clone();
    let id = identifier(&id, "id")?;
    let mut prose = |name| match keys.take(name) {
        Some(node) if !matches!(node.value, Value::Scalar(_)) => {
            Err(Problem::at(node.span, format!("`{name}` has to be text")))
        }
        Some(node) => Ok(node),
        None => Ok(Node::null(span.clone())),
    };
    let (title, why, symptom, when) = (prose("title")?, prose("why")?, prose("symptom")?, prose("when")?);
    let run_as = prose("run_as")?;
    let after = match keys.take("after") {
        None => Vec::new(),
        Some(Node { value: Value::Sequence(items), .. }) => items.iter().map(reference).collect::<Result<_, _>>()?,
        Some(one) => vec![reference(&one)?],
    };
    let mut kinds = Vec::new();
    for (key, body) in std::mem::take(&mut keys.pairs) {
        let word = key.text().unwrap_or_default();
        match KINDS.iter().find(|kind| **kind == word) {
            Some(kind) => kinds.push((*kind, key.span, body)),
            None => {
                let known = [STEP.as_slice(), KINDS].concat();
                let help = match nearest(word, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("a step has {}, and one of {}", STEP.join(", "), KINDS.join(", ")),
                };
                let message = format!("unknown key `{word}` in step `{id}`");
                return Err(Problem::at(key.span.clone(), message).help(help));
            }
        }
    }
    let mut kinds = kinds.into_iter();
    let Some((kind, _, body)) = kinds.next() else {
        return Err(Problem::at(span, format!("step `{id}` says nothing of what it provides"))
            .help(format!("give it one of {}", KINDS.join(", "))));
    };
    if let Some((other, span, _)) = kinds.next() {
        let message = format!("step `{id}` is a `{kind}` and a `{other}`");
        return Err(Problem::at(span, message).help("a step has one resource: make two steps of it"));
    }
    Ok(WrittenStep { id, span, title, why, symptom, when, run_as, after, kind, body })
}

fn reference(node: &Node) -> Result<(String, std::ops::Range<usize>), Problem> {
    Ok((identifier(node, "after")?, node.span.clone()))
}

/// Ids and names go into output, file names and SQL comments: letters, digits, `-`, `_` and `.` are enough.
fn identifier(node: &Node, key: &str) -> Result<String, Problem> {
    let text = node.text().filter(|_| !node.is_null()).unwrap_or_default();
    let fine = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && text.len() <= 100;
    if fine {
        return Ok(text.to_owned());
    }
    Err(Problem::at(node.span.clone(), format!("`{key}` has to be one word"))
        .help("it starts with a letter or digit and has letters, digits, `-`, `_` and `.`, at most 100 of them"))
}

fn named(node: &Node, key: &str) -> Result<BTreeMap<String, Node>, Problem> {
    let Value::Mapping(pairs) = &node.value else {
        return Err(Problem::at(node.span.clone(), format!("`{key}` has to be a mapping of names")));
    };
    pairs.iter().map(|(name, value)| Ok((identifier(name, key)?, value.clone()))).collect()
}

/// The keys of a mapping that nobody has asked for yet.
struct Keys {
    pairs: Vec<(Node, Node)>,
    span: std::ops::Range<usize>,
    what: &'static str,
}

impl Keys {
    fn of(node: &Node, what: &'static str) -> Result<Self, Problem> {
        match &node.value {
            Value::Mapping(pairs) => Ok(Self { pairs: pairs.clone(), span: node.span.clone(), what }),
            _ => Err(Problem::at(node.span.clone(), format!("{what} has to be a mapping of keys"))),
        }
    }

    fn take(&mut self, name: &str) -> Option<Node> {
        let index = self.pairs.iter().position(|(key, _)| key.text() == Some(name))?;
        Some(self.pairs.remove(index).1)
    }

    fn required(&mut self, name: &str) -> Result<Node, Problem> {
        if let Some(node) = self.take(name) {
            return Ok(node);
        }
        // A misspelt key is the likelier mistake than a forgotten one, and its place is the better one.
        let close = self.pairs.iter().find(|(key, _)| nearest(key.text().unwrap_or_default(), [name]).is_some());
        Err(match close {
            Some((key, _)) => {
                Problem::at(key.span.clone(), format!("unknown key `{}`", key.text().unwrap_or_default()))
                    .help(format!("did you mean `{name}`?"))
            }
            None => Problem::at(self.span.clone(), format!("{} has no `{name}`", self.what)),
        })
    }

    fn none_left(&self, known: &[&str]) -> Result<(), Problem> {
        let Some((key, _)) = self.pairs.first() else { return Ok(()) };
        let word = key.text().unwrap_or_default();
        Err(Problem::at(key.span.clone(), format!("unknown key `{word}` in {}", self.what)).help(suggest(word, known)))
    }
}
