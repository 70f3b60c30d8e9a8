//! A compose file as a YAML tree: what is refused because YAML readers do not agree about it, and merge keys.

use crate::text::Position;
use crate::yaml::{self, Broken, Content, Document, Limits, NodeId};

/// Compose files of this size do not exist (bytes are limited by `host.rs`), and walks over the tree recurse.
const LIMITS: Limits = Limits { depth: 100, nodes: 500_000 };

/// Why a text cannot be edited. Holds nothing of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at {position}")]
pub struct Unreadable {
    pub message: String,
    pub position: Position,
}

impl Unreadable {
    pub fn new(message: impl Into<String>, position: Position) -> Self {
        Self { message: message.into(), position }
    }
}

impl From<Box<Broken>> for Unreadable {
    fn from(broken: Box<Broken>) -> Self {
        let yaml::Error { kind, position, .. } = &broken.error;
        Self::new(kind.to_string(), *position)
    }
}

/// Reads the one document of a compose file.
///
/// # Errors
/// If the text is not YAML, or has
/// - several documents, or a key twice in one mapping (Compose refuses that too)
/// - a tab right after a key's colon (valid, but the parser does not take it)
/// - a control character, or a carriage return without a newline
/// - a line separator U+0085, U+2028 or U+2029, which ends a line for YAML 1.1 readers such as Compose's and not for YAML
///   1.2 readers.
pub fn parse(text: &str) -> Result<Document, Unreadable> {
    for (number, line) in text.lines().enumerate() {
        let refuse = |message: &str, column: usize| {
            Err(Unreadable::new(message, Position { line: number + 1, column: column + 1 }))
        };
        if let Some(column) = line.chars().position(|c| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')) {
            return refuse("a unicode line separator, which YAML readers do not agree about", column);
        }
        // YAML ends a line there, and most other tools do not.
        if let Some(column) = line.chars().position(|c| c == '\r') {
            return refuse("a carriage return without a newline, which is easily overlooked", column);
        }
        // YAML 1.2.2, section 5.1: not even in quotes. The parser takes some for letters and some for blanks.
        if let Some(column) = line.chars().position(|c| c.is_control() && c != '\t') {
            return refuse("a control character, which YAML does not allow", column);
        }
    }
    let document = Document::parse(text, LIMITS)?;
    if let Some(duplicate) = document.duplicates().first() {
        let (first, second) = (document.node(duplicate.first).position, document.node(duplicate.second).position);
        let message = format!("a key that the same mapping has already in line {}", first.line);
        return Err(Unreadable::new(message, second));
    }
    Ok(document)
}

/// The mappings that `<<` merges into this one, the strongest first.
pub fn merged(document: &Document, mapping: NodeId) -> Vec<NodeId> {
    let Some(value) = document.get(mapping, "<<") else { return Vec::new() };
    match &document.node(document.resolve(value)).content {
        Content::Sequence(items) => items.iter().map(|item| document.resolve(*item)).collect(),
        _ => vec![document.resolve(value)],
    }
}
