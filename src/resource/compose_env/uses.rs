//! Other uses of the variables of `.env`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::diff::place_at;
use super::interpolation;
use super::occurrences::{self, Reading};
use crate::yaml::{Content, Document, NodeId};

/// Returns the places that use each of `names`, which are variables of `.env`, in the order of the file. The values of
/// `variable` itself are left out.
pub fn elsewhere(document: &Document, variable: &str, names: &BTreeSet<&str>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<&str, BTreeSet<NodeId>> = names.iter().map(|name| (*name, BTreeSet::new())).collect();
    let Some(root) = document.root().filter(|_| !names.is_empty()) else { return BTreeMap::new() };
    let sites = |variable| occurrences::find(document, variable, None).occurrences;
    let ours: HashSet<NodeId> = sites(variable).iter().map(|occurrence| occurrence.node).collect();
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
                Some(_) if ours.contains(&node) => {}
                Some(text) => {
                    for name in interpolation::names(text) {
                        found.get_mut(name.as_str()).map(|places| places.insert(node));
                    }
                }
                None => stack.push(document.resolve(node)),
            },
        }
    }
    // These places name the variable without a value.
    let named = occurrences::variables(document);
    for (name, places) in found.iter_mut().filter(|(name, _)| **name != variable && named.contains(**name)) {
        for occurrence in sites(name) {
            match occurrences::read(document, &occurrence, name) {
                Reading::Reference { name: found, .. } if found == *name => drop(places.insert(occurrence.node)),
                _ => {}
            }
        }
    }
    // Secrets and configs name the variable that has their value without a `$`.
    for kind in ["secrets", "configs"] {
        let definitions = document.get(root, kind).map(|kind| document.entries(kind)).unwrap_or_default();
        for source in definitions.iter().filter_map(|(_, definition)| document.get(*definition, "environment")) {
            let places = document.text(source).and_then(|name| found.get_mut(name));
            places.map(|places| places.insert(source));
        }
    }
    let place = |node: NodeId| place_at(&occurrences::place(document, root, node), document.node(node).position.line);
    found.into_iter().map(|(name, nodes)| (name.to_owned(), nodes.into_iter().map(place).collect())).collect()
}

/// Returns the service of a place from [`elsewhere`], if the place is in a service.
pub fn service_of(place: &str) -> Option<String> {
    let (place, _) = place.rsplit_once(", line ")?;
    place.strip_prefix("service ").map(str::to_owned)
}
