//! The sources of secrets as written. A template in place of a source is refused, because the plan file would not know that its
//! value is a secret. A value that a template inserts into a command is not shown.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::node::{Node, Scalar, Style, Value};
use super::template::{Evaluator, environment_names, has_template};
use crate::host::secret::is_plain;
use crate::resource::REFERENCES;
use crate::resource::reference::{Reference, Shape};

/// Returns the reference of the keys of a kind.
pub(super) fn reference_of(kind: &str) -> &'static Reference {
    static NONE: Reference = Reference { summary: "", keys: &[], rules: &[] };
    REFERENCES.iter().find(|(name, _)| *name == kind).map_or(&NONE, |(_, reference)| reference)
}

/// Returns the problems of the sources in a mapping, as they are written.
pub(super) fn problems(
    mapping: &Node,
    reference: &'static Reference,
    vars: &BTreeMap<String, Node>,
) -> Vec<Diagnostic> {
    of(mapping, reference).into_iter().flat_map(|(_, source)| problem(source, vars)).collect()
}

/// Returns the sources in a mapping, each with its name. The name is that of its key, or the one in the mapping of sources
/// under that key.
pub(super) fn of<'a>(mapping: &'a Node, reference: &'static Reference) -> Vec<(&'a str, &'a Node)> {
    let mut found = Vec::new();
    for key in reference.keys {
        let Some(value) = mapping.get(key.name) else { continue };
        match key.shape {
            Shape::Source => found.push((key.name, value)),
            Shape::PathOrSource if matches!(value.value, Value::Mapping(_)) => found.push((key.name, value)),
            Shape::Keys(nested) => found.extend(of(value, nested)),
            Shape::Named(Shape::Source) => {
                let Value::Mapping(pairs) = &value.value else { continue };
                found.extend(pairs.iter().filter_map(|(name, source)| Some((name.text()?, source))));
            }
            _ => {}
        }
    }
    found
}

/// Returns the problems of named secrets that no text uses. `texts` are not evaluated. Without texts, nothing is reported.
pub(super) fn unused(mapping: &Node, reference: &'static Reference, texts: &[String]) -> Vec<Diagnostic> {
    let is_mentioned = |name: &str| {
        texts.iter().any(|text| {
            let by_name = ['\'', '"'].iter().any(|quote| text.contains(&format!("{quote}{name}{quote}")));
            // A template can get the name from a variable.
            let mut calls = text.split("secret(").skip(1);
            by_name || calls.any(|argument| !argument.trim_start().starts_with(['\'', '"']))
        })
    };
    let named = reference.keys.iter().filter(|key| matches!(key.shape, Shape::Named(Shape::Source)));
    let mappings = named.filter_map(|key| Some(&mapping.get(key.name)?.value));
    let pairs = mappings.flat_map(|value| if let Value::Mapping(pairs) = value { pairs.as_slice() } else { &[] });
    let unused = pairs.filter_map(|(name, _)| Some((name, name.text().filter(|_| !texts.is_empty())?)));
    unused
        .filter(|(_, name)| !is_mentioned(name))
        .map(|(node, name)| {
            Diagnostic::at(node.span.clone(), format!("the text does not use the secret `{name}`"))
                .help(format!("write {{{{ secret('{name}') }}}} where its value belongs, or remove it here"))
        })
        .collect()
}

/// Returns the problems of a source as written.
fn problem(source: &Node, vars: &BTreeMap<String, Node>) -> Vec<Diagnostic> {
    if let Some(text) = source.text().filter(|text| has_template(text)) {
        let help = match meant(source, text, vars) {
            Some(name) => format!("write `{{ env: {name} }}`"),
            None => "write { env: NAME }, { file: PATH } or { command: [PROGRAM, ARGUMENT, …] }".to_owned(),
        };
        let message = "a secret is given by its source, and a template cannot stand in its place";
        return vec![Diagnostic::at(source.span.clone(), message).help(help)];
    }
    if let Some(command) = source.get("command").filter(|command| matches!(command.value, Value::Mapping(_))) {
        let problem = Diagnostic::at(command.span.clone(), "expected a list, found a mapping");
        return vec![problem.help("write { command: [PROGRAM, ARGUMENT, …] }")];
    }
    let Some(name) = source.get("env") else { return Vec::new() };
    let meant = name.text().filter(|text| has_template(text)).and_then(|text| meant(name, text, vars));
    let refused = meant.map(|meant| {
        let message = "an environment variable is given by its name, without a template";
        Diagnostic::at(name.span.clone(), message).help(format!("did you mean `{meant}`?"))
    });
    refused.into_iter().collect()
}

/// Returns the problems outside the values that are refused as a whole.
pub(super) fn without_those_within(list: Vec<Diagnostic>, refused: &[Diagnostic]) -> Vec<Diagnostic> {
    let within = |place: &Range<usize>| {
        refused
            .iter()
            .filter_map(|problem| problem.span.as_ref())
            .any(|whole| whole.start <= place.start && place.end <= whole.end)
    };
    list.into_iter().filter(|problem| !problem.place().is_some_and(within)).collect()
}

/// Returns the evaluated value of a key. The command of a source also gets the words that may be shown, because a value that a
/// template inserts from outside the plan file can be a secret itself.
///
/// # Errors
/// A template is wrong.
pub(super) fn evaluated(written: &Node, shape: Option<Shape>, evaluator: &Evaluator) -> Result<Node, Diagnostic> {
    let mut value = evaluator.node(written)?;
    if let Some(shape) = shape {
        mask(written, &mut value, shape, evaluator);
    }
    Ok(value)
}

fn mask(written: &Node, value: &mut Node, shape: Shape, evaluator: &Evaluator) {
    let (Value::Mapping(before), Value::Mapping(pairs)) = (&written.value, &mut value.value) else { return };
    for ((key, value), (_, before)) in pairs.iter_mut().zip(before) {
        let Some(name) = key.text() else { continue };
        match shape {
            Shape::Source | Shape::PathOrSource if name == "command" => mask_words(before, value, evaluator),
            Shape::Keys(nested) => {
                if let Some(key) = nested.key(name) {
                    mask(before, value, key.shape, evaluator);
                }
            }
            Shape::Named(nested) => mask(before, value, *nested, evaluator),
            _ => {}
        }
    }
}

/// Adds to the words of a command the words that may be shown. A word with a value from outside is shown as written.
fn mask_words(written: &Node, value: &mut Node, evaluator: &Evaluator) {
    let (Value::Sequence(before), Value::Sequence(words)) = (&written.value, &value.value) else { return };
    if !before.iter().any(|word| word.text().is_some_and(has_template)) {
        return;
    }
    let masked = evaluator.masked();
    let is_outside = |before: &Node, word: &Node| {
        before.text().is_some_and(has_template)
            && masked.node(before).ok().is_none_or(|masked| masked.text() != word.text())
    };
    let (mut shown, mut is_masked) = (Vec::new(), false);
    for (before, word) in before.iter().zip(words) {
        let outside = is_outside(before, word);
        is_masked |= outside;
        let text = if outside { before.text() } else { word.text() };
        shown.push(text_node(text.unwrap_or_default(), word.span.clone()));
    }
    if is_masked {
        let span = value.span.clone();
        let shown = Node { span: span.clone(), value: Value::Sequence(shown) };
        let argv = Node { span: span.clone(), value: value.value.clone() };
        let pairs = vec![(text_node("argv", span.clone()), argv), (text_node("shown", span), shown)];
        value.value = Value::Mapping(pairs);
    }
}

fn text_node(text: &str, span: Range<usize>) -> Node {
    Node { span, value: Value::Scalar(Scalar { text: text.to_owned(), style: Style::Quoted }) }
}

/// Returns the environment variable that a template reads, or that its author mistook for a variable of the plan file.
fn meant(node: &Node, text: &str, vars: &BTreeMap<String, Node>) -> Option<String> {
    let mut names = BTreeSet::new();
    environment_names(node, &mut names);
    let bare = text.trim().strip_prefix("{{").and_then(|text| text.strip_suffix("}}")).map(str::trim);
    let undeclared = bare.filter(|name| is_plain(name) && !vars.contains_key(*name)).map(str::to_owned);
    names.into_iter().next().or(undeclared)
}
