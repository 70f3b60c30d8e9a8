//! Refuses templates in the place of a secret's source: the plan file would not know that their values are secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::node::{Node, Value};
use super::template::{environment_names, has_template};
use crate::host::secret::is_plain;
use crate::resource::REFERENCES;
use crate::resource::reference::{Reference, Shape};

/// What the keys of a kind mean.
pub(super) fn reference_of(kind: &str) -> &'static Reference {
    static NONE: Reference = Reference { summary: "", keys: &[], rules: &[] };
    REFERENCES.iter().find(|(name, _)| *name == kind).map_or(&NONE, |(_, reference)| reference)
}

/// The problems of the sources under the keys of a mapping, as they are written.
pub(super) fn problems(
    mapping: &Node,
    reference: &'static Reference,
    vars: &BTreeMap<String, Node>,
) -> Vec<Diagnostic> {
    of(mapping, reference).into_iter().flat_map(|(_, source)| problem(source, vars)).collect()
}

/// The sources in a mapping, each with its name: its key, or the one in the mapping of sources under that key.
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
            // A template can take the name from a variable.
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

/// The problems of a source as it is written.
fn problem(source: &Node, vars: &BTreeMap<String, Node>) -> Vec<Diagnostic> {
    if let Some(text) = source.text().filter(|text| has_template(text)) {
        let help = match meant(source, text, vars) {
            Some(name) => format!("write `{{ env: {name} }}`"),
            None => "write { env: NAME }, { file: PATH } or { command: [PROGRAM, ARGUMENT, …] }".to_owned(),
        };
        let message = "a secret is given by its source, and a template cannot stand in its place";
        return vec![Diagnostic::at(source.span.clone(), message).help(help)];
    }
    let Some(name) = source.get("env") else { return Vec::new() };
    let meant = name.text().filter(|text| has_template(text)).and_then(|text| meant(name, text, vars));
    let refused = meant.map(|meant| {
        let message = "an environment variable is given by its name, without a template";
        Diagnostic::at(name.span.clone(), message).help(format!("did you mean `{meant}`?"))
    });
    refused.into_iter().collect()
}

/// The problems that are not inside of a value that is refused as a whole.
pub(super) fn without_those_within(list: Vec<Diagnostic>, refused: &[Diagnostic]) -> Vec<Diagnostic> {
    let within = |place: &Range<usize>| {
        refused
            .iter()
            .filter_map(|problem| problem.span.as_ref())
            .any(|whole| whole.start <= place.start && place.end <= whole.end)
    };
    list.into_iter().filter(|problem| !problem.place().is_some_and(within)).collect()
}

/// The environment variable that a template reads, or that its author mistook for a variable of the plan file.
fn meant(node: &Node, text: &str, vars: &BTreeMap<String, Node>) -> Option<String> {
    let mut names = BTreeSet::new();
    environment_names(node, &mut names);
    let bare = text.trim().strip_prefix("{{").and_then(|text| text.strip_suffix("}}")).map(str::trim);
    let undeclared = bare.filter(|name| is_plain(name) && !vars.contains_key(*name)).map(str::to_owned);
    names.into_iter().next().or(undeclared)
}
