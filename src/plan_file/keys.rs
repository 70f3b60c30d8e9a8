//! Reads a mapping key by key, so that all of its problems are reported at once, each at its place.

use std::ops::Range;

use super::de;
use super::diagnostic::Diagnostic;
use super::node::{Node, Value};
use super::template::Evaluator;
use crate::resource::{KeyError, Segment};
use crate::yaml;

/// Evaluates a mapping and reads it. A problem under one key does not hide a problem under another. A problem of the mapping as
/// a whole is reported at `whole`, and only if there is no other, because a key with a problem would be reported as missing
/// too. `value_of` evaluates the value of a key.
pub(super) fn by_key<T>(
    mapping: &Node,
    whole: &Range<usize>,
    evaluator: &Evaluator,
    value_of: impl Fn(&str, &Node) -> Result<Node, Diagnostic>,
    read: impl Fn(&Node) -> Result<Result<T, KeyError>, de::Error>,
) -> Result<T, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let value = match &mapping.value {
        Value::Mapping(pairs) => Value::Mapping(evaluate(pairs, value_of, &mut problems)),
        _ => evaluator.node(mapping).map_err(|problem| vec![problem])?.value,
    };
    let mut body = Node { span: mapping.span.clone(), value };
    loop {
        let (problem, entry) = match read(&body) {
            Ok(Ok(value)) if problems.is_empty() => return Ok(value),
            Ok(Ok(_)) => return Err(problems),
            Ok(Err(error)) => (diagnose(error, &body, whole, evaluator.text()), None),
            Err(de::Error { problem, entry: None, .. }) if matches!(body.value, Value::Mapping(_)) => {
                (Diagnostic { span: Some(whole.clone()), ..*problem }, None)
            }
            Err(de::Error { problem, entry, .. }) => (*problem, entry),
        };
        match (entry, &mut body.value) {
            (Some(index), Value::Mapping(pairs)) => {
                problems.push(problem);
                pairs.remove(index);
            }
            _ if problems.is_empty() => return Err(vec![problem]),
            _ => return Err(problems),
        }
    }
}

/// Returns the pairs whose values can be evaluated.
fn evaluate(
    pairs: &[(Node, Node)],
    value_of: impl Fn(&str, &Node) -> Result<Node, Diagnostic>,
    problems: &mut Vec<Diagnostic>,
) -> Vec<(Node, Node)> {
    let mut evaluated = Vec::new();
    for (key, value) in pairs {
        match value_of(key.text().unwrap_or_default(), value) {
            Ok(value) => evaluated.push((key.clone(), value)),
            Err(problem) => problems.push(problem),
        }
    }
    evaluated
}

/// Returns a kind's error at the place of the value that it is about. If that value is not written, the place is the last part
/// of the path to it that is.
pub(super) fn diagnose(error: KeyError, body: &Node, whole: &Range<usize>, source: &str) -> Diagnostic {
    let mut way = error.path.iter();
    let mut node = body;
    let mut span = whole;
    let all_written = way.all(|segment| {
        let next = match (segment, &node.value) {
            (Segment::Key(name), _) => node.get(name),
            (Segment::Item(index), Value::Sequence(items)) => items.get(*index),
            (Segment::Item(_), _) => None,
        };
        if let Some(next) = next {
            (node, span) = (next, &next.span);
        }
        next.is_some()
    });
    let word = error.position.filter(|_| all_written).zip(node.text());
    let word = word.and_then(|(position, text)| yaml::locate(source, span, text, position));
    let mut problem = Diagnostic::at(word.unwrap_or_else(|| span.clone()), error.failure.message);
    if let Some(other) = error.other.and_then(|key| body.get(key)) {
        problem = problem.related(other.span.clone(), "the other one");
    }
    error.failure.hint.into_iter().fold(problem, Diagnostic::help)
}
