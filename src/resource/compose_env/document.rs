//! A compose file as a YAML tree: what is refused because YAML readers do not agree about it, and merge keys.

use std::borrow::Cow;

use crate::text::Position;
use crate::yaml::{self, Broken, Content, Document, ErrorKind, Limits, NodeId};

/// Compose files of this size do not exist (bytes are limited by `host.rs`), and walks over the tree recurse.
const LIMITS: Limits = Limits { depth: 100, nodes: 500_000 };

/// How many tabs between a key's colon and its value are read.
const MAX_TABS: usize = 100;
const JOIN_DOCUMENTS: &str =
    "write one document: Compose merges the second one over the first, so it can go into an override file as it is";

/// Why a text cannot be edited. Holds nothing of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at {position}")]
pub struct Unreadable {
    pub message: String,
    pub position: Position,
    /// What to write instead.
    pub hint: Option<&'static str>,
}

impl Unreadable {
    pub fn new(message: impl Into<String>, position: Position) -> Self {
        Self { message: message.into(), position, hint: None }
    }

    pub fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

impl From<Box<Broken>> for Unreadable {
    fn from(broken: Box<Broken>) -> Self {
        let yaml::Error { kind, position, .. } = &broken.error;
        let hint = match kind {
            ErrorKind::Syntax { hint, .. } => *hint,
            ErrorKind::SecondDocument => Some(JOIN_DOCUMENTS),
            _ => None,
        };
        Self { hint, ..Self::new(kind.to_string(), *position) }
    }
}

/// Reads the one document of a compose file.
///
/// # Errors
/// If the text is not YAML, or has
/// - several documents, or a key twice in one mapping (Compose refuses the latter too)
/// - a control character, or a carriage return without a newline
/// - a line separator U+0085, U+2028 or U+2029, which ends a line for YAML 1.1 readers such as Compose's and not for YAML
///   1.2 readers.
pub fn parse(text: &str) -> Result<Document, Unreadable> {
    for (number, line) in text.lines().enumerate() {
        let refuse = |message: &str, column: usize, hint| {
            Err(Unreadable::new(message, Position { line: number + 1, column: column + 1 }).hint(hint))
        };
        if let Some(column) = line.chars().position(|c| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')) {
            return refuse(
                "a unicode line separator, which YAML readers do not agree about",
                column,
                "remove it, or write it in double quotes as \\u2028",
            );
        }
        // YAML ends a line there, and most other tools do not.
        if let Some(column) = line.chars().position(|c| c == '\r') {
            return refuse(
                "a carriage return without a newline, which is easily overlooked",
                column,
                "end the line there, or remove it; in a value, write it in double quotes as \\r",
            );
        }
        // YAML 1.2.2, section 5.1: not even in quotes. The parser takes some for letters and some for blanks.
        if let Some(column) = line.chars().position(|c| c.is_control() && c != '\t') {
            return refuse("a control character, which YAML does not allow", column, "remove it");
        }
    }
    let document = parse_with_tabs(text)?;
    if let Some(duplicate) = document.duplicates().first() {
        let (first, second) = (document.node(duplicate.first).position, document.node(duplicate.second).position);
        let message = format!("a key that the same mapping has already in line {}", first.line);
        return Err(Unreadable::new(message, second).hint("remove one of the two"));
    }
    Ok(document)
}

/// Reads a text whose keys may have tabs between their colons and their values. YAML 1.2.2, section 6.2, allows that, and the
/// parser refuses it, so it is given a space for each of them. The places of all nodes stay the same.
fn parse_with_tabs(text: &str) -> Result<Document, Box<Broken>> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MAX_TABS {
        let broken = match Document::parse(&text, LIMITS) {
            Err(broken) => broken,
            read => return read,
        };
        let Some(tabs) = separating_tabs(&text, broken.error.span.start) else { return Err(broken) };
        let spaces = " ".repeat(tabs.len());
        text.to_mut().replace_range(tabs, &spaces);
    }
    Document::parse(&text, LIMITS)
}

/// The tabs behind the colon at which, or right behind which, the parser stopped.
fn separating_tabs(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let start =
        (at.saturating_sub(2)..=at).rev().find(|at| text.get(*at..).is_some_and(|rest| rest.starts_with(":\t")))? + 1;
    let length = text[start..].bytes().take_while(|byte| *byte == b'\t').count();
    Some(start..start + length)
}

/// The mappings that `<<` merges into this one, the strongest first.
pub fn merged(document: &Document, mapping: NodeId) -> Vec<NodeId> {
    let Some(value) = document.get(mapping, "<<") else { return Vec::new() };
    match &document.node(document.resolve(value)).content {
        Content::Sequence(items) => items.iter().map(|item| document.resolve(*item)).collect(),
        _ => vec![document.resolve(value)],
    }
}
