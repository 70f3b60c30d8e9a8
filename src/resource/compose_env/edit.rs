//! Sets a variable in the text of a compose file without changing any other byte.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::document::{self, Unreadable};
use super::interpolation;
use super::occurrences::{self, Occurrence, Reading};
use super::scalar;
use crate::yaml::{Content, Document, NodeId};

/// Why a text cannot be edited. Contains neither the old value nor the new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The edit would change something else, or does not read back. This is a bug of this program.
    #[error("the edit of line {line} does not read back as intended")]
    Unproven { line: usize },
    #[error("line {line}: {reason}")]
    Entangled { line: usize, reason: String },
}

/// Sets `variable` to `value` wherever `source` sets it to another value, for all services or one.
///
/// References to other variables are not changed. The result has been read back and differs from `source` only in the values
/// that had to change. It is equal to `source` if nothing had to change.
pub fn set(source: &str, variable: &str, service: Option<&str>, value: &str) -> Result<String, EditError> {
    let document = document::parse(source)?;
    let occurrences = occurrences::find(&document, variable, service).occurrences;
    let sharing = Sharing::of(&document, &occurrences);
    let mut targets: BTreeMap<NodeId, String> = BTreeMap::new();
    for occurrence in &occurrences {
        match occurrences::read(&document, occurrence, variable) {
            Reading::Reference { .. } => continue,
            Reading::Literal(old) if old == value => continue,
            Reading::Literal(_) | Reading::Retyped | Reading::Mixed => {}
            Reading::Foreign(why) => return Err(entangled(occurrence, format!("the value {why}"))),
        }
        let target = sharing.target(occurrence, service).map_err(|why| entangled(occurrence, why))?;
        let escaped = interpolation::escape(value);
        let text = if occurrence.item { format!("{variable}={escaped}") } else { escaped };
        targets.insert(target, text);
    }
    let mut replacements: Vec<(Range<usize>, String)> = Vec::new();
    for (target, text) in &targets {
        let node = document.node(*target);
        let style = match &node.content {
            Content::Scalar { style, .. } => Some(*style),
            _ => None,
        };
        let found = scalar::replace(source, node, style, text);
        replacements.extend(found.ok_or(EditError::Unproven { line: node.position.line })?);
    }
    let edited = splice(source, replacements);
    prove(&document, &edited, &targets)?;
    Ok(edited)
}

/// What else uses the nodes that set a variable.
pub struct Sharing<'a> {
    document: &'a Document,
    /// The nodes of the occurrences. The flag tells whether a node is an item of a list.
    ours: HashSet<(NodeId, bool)>,
    /// For each definition, the first alias of it that is not an occurrence.
    foreign: HashMap<(NodeId, bool), NodeId>,
}

impl<'a> Sharing<'a> {
    pub fn of(document: &'a Document, occurrences: &[Occurrence]) -> Self {
        let ours: HashSet<_> = occurrences.iter().map(|occurrence| (occurrence.node, occurrence.item)).collect();
        let mut foreign = HashMap::new();
        for (id, node) in document.nodes().iter().enumerate() {
            let Content::Alias(definition) = node.content else { continue };
            for item in [false, true] {
                if !ours.contains(&(id, item)) {
                    foreign.entry((definition, item)).or_insert(id);
                }
            }
        }
        Self { document, ours, foreign }
    }

    /// The node whose bytes have to change to give an occurrence a new value, or why no node can be changed.
    ///
    /// This is the definition behind an alias if nothing but this variable uses it, and otherwise the alias itself.
    pub fn target(&self, occurrence: &Occurrence, service: Option<&str>) -> Result<NodeId, String> {
        if let Some(service) = service {
            let others: Vec<&str> =
                occurrence.services.iter().map(String::as_str).filter(|name| *name != service).collect();
            if !others.is_empty() {
                return Err(format!("service {service} shares its value with {}", others.join(", ")));
            }
        }
        let definition = self.document.resolve(occurrence.node);
        let foreign = self.foreign.get(&(definition, occurrence.item));
        if definition == occurrence.node {
            return match foreign {
                None => Ok(definition),
                Some(other) => {
                    let line = self.document.node(*other).position.line;
                    Err(format!("the value is also used for something else, in line {line}"))
                }
            };
        }
        let ours = self.ours.contains(&(definition, occurrence.item)) || only_holds(self.document, definition);
        Ok(if foreign.is_some() || !ours { occurrence.node } else { definition })
    }
}

/// Whether a node is the value of a top-level `x-` key, which Compose ignores.
fn only_holds(document: &Document, node: NodeId) -> bool {
    let Some(root) = document.root() else { return false };
    let holder = document.entries(root).iter().find(|(_, value)| *value == node);
    holder.and_then(|(key, _)| document.text(*key)).is_some_and(|key| key.starts_with("x-"))
}

fn entangled(occurrence: &Occurrence, reason: String) -> EditError {
    EditError::Entangled { line: occurrence.line, reason }
}

/// Makes the replacements in the text. They must not overlap.
pub fn splice(source: &str, mut replacements: Vec<(Range<usize>, String)>) -> String {
    replacements.sort_by_key(|(range, _)| range.start);
    let mut edited = String::with_capacity(source.len());
    let mut at = 0;
    for (range, text) in replacements {
        edited.push_str(source.get(at..range.start).unwrap_or_default());
        edited.push_str(&text);
        at = range.end;
    }
    edited.push_str(source.get(at..).unwrap_or_default());
    edited
}

/// Reads the edited text and compares each node with the old one or with its new value.
pub fn prove(old: &Document, edited: &str, targets: &BTreeMap<NodeId, String>) -> Result<(), EditError> {
    let first = targets.keys().next().map_or(1, |id| old.node(*id).position.line);
    let unproven = |line| EditError::Unproven { line };
    let new = document::parse(edited).map_err(|_| unproven(first))?;
    if old.nodes().len() != new.nodes().len() {
        return Err(unproven(first));
    }
    for (id, (before, after)) in old.nodes().iter().zip(new.nodes()).enumerate() {
        let same = match targets.get(&id) {
            Some(text) => matches!(&after.content, Content::Scalar { text: found, .. } if found == text),
            None => before.content == after.content,
        };
        if !same || before.tag != after.tag || before.anchored != after.anchored {
            return Err(unproven(before.position.line));
        }
    }
    Ok(())
}
