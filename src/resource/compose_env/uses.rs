//! Where else a variable of `.env` is used.

use std::collections::{BTreeSet, HashSet};

use super::diff::place_at;
use super::interpolation;
use super::occurrences::{self, Occurrence, Reading};
use crate::yaml::{Content, Document, NodeId};

/// The places that use `name`, a variable of `.env`, besides the values of `variable`, in the order of the file.
pub fn elsewhere(document: &Document, variable: &str, name: &str) -> Vec<String> {
    let Some(root) = document.root() else { return Vec::new() };
    let sites = |variable| occurrences::find(document, variable, None).occurrences;
    let ours: HashSet<NodeId> = sites(variable).iter().map(|occurrence| occurrence.node).collect();
    let mut found = BTreeSet::new();
    let blocks = |key: &NodeId| document.text(*key).is_some_and(|key| key.starts_with("x-"));
    let entries = document.entries(root).iter().filter(|(key, _)| !blocks(key));
    let (mut seen, mut stack) = (HashSet::new(), entries.map(|(_, value)| *value).collect::<Vec<_>>());
    while let Some(node) = stack.pop() {
        if !seen.insert(node) {
            continue;
        }
        match &document.node(node).content {
            Content::Sequence(items) => stack.extend(items),
            Content::Mapping(entries) => stack.extend(entries.iter().map(|(_, value)| value)),
            _ => match document.text(node) {
                Some(text) if interpolation::names(text).iter().any(|found| found == name) => {
                    found.extend((!ours.contains(&node)).then_some(node));
                }
                Some(_) => {}
                None => stack.push(document.resolve(node)),
            },
        }
    }
    if variable != name {
        // Places that name the variable without a value.
        let of_itself = |occurrence: &Occurrence| {
            let reading = occurrences::read(document, occurrence, name);
            matches!(reading, Reading::Reference { name: found, .. } if found == name)
        };
        found.extend(sites(name).iter().filter(|occurrence| of_itself(occurrence)).map(|occurrence| occurrence.node));
    }
    // The values of secrets and configs are variables that are named without a `$`.
    for kind in ["secrets", "configs"] {
        let definitions = document.get(root, kind).map(|kind| document.entries(kind)).unwrap_or_default();
        let sources = definitions.iter().filter_map(|(_, definition)| document.get(*definition, "environment"));
        found.extend(sources.filter(|source| document.text(*source) == Some(name)));
    }
    let place = |node: NodeId| place_at(&occurrences::place(document, root, node), document.node(node).position.line);
    found.into_iter().map(place).collect()
}
