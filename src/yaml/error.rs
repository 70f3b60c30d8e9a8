//! Why a text cannot be read as YAML, and where.

use std::ops::Range;

use super::document::Document;
use crate::text::Position;

/// Why a text cannot be read. Holds nothing of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at {position}")]
pub struct Error {
    pub kind: ErrorKind,
    /// In bytes.
    pub span: Range<usize>,
    /// Where the span begins.
    pub position: Position,
}

/// What is wrong, as a phrase that a place may follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The parser's own words, and a remedy for a frequent mistake.
    #[error("{message}")]
    Syntax { message: String, hint: Option<&'static str> },
    #[error("a second document, but only one is expected,")]
    SecondDocument,
    #[error("nesting of more than {max} levels")]
    TooDeep { max: usize },
    #[error("more than {max} values, aliases expanded,")]
    TooLarge { max: usize },
    #[error("an alias inside of its own anchor")]
    AliasInsideAnchor,
}

/// An error, with the part of the document that was read before it.
#[derive(Debug)]
pub struct Broken {
    pub error: Error,
    pub read: Document,
}

impl ErrorKind {
    /// A syntax error in the parser's words, which are all that it gives.
    pub(super) fn syntax(message: &str) -> Self {
        let hints = [
            ("tab", "indent with spaces: YAML takes no tabs there"),
            (
                "mapping values are not allowed",
                "a text with `: ` in it has to be in quotes, and keys of one mapping line up",
            ),
            (
                "after a closing quotation mark",
                "put all of the text in quotes; in single quotes, write an apostrophe twice",
            ),
            ("quoted scalar", "is a closing quotation mark missing?"),
            (
                "did not find expected key",
                "keys of one mapping line up, and a text that begins with a quotation mark ends with it",
            ),
            ("parsing a flow", "is a closing bracket, or a comma, missing?"),
            (
                "unknown anchor",
                "`*name` repeats what `&name` marks further up; a text that begins with `*` has to be in quotes",
            ),
        ];
        // The parser says so of single quotes, too.
        let message = message
            .replace("invalid trailing content after double-quoted scalar", "text after a closing quotation mark");
        let hint = hints.into_iter().find(|(words, _)| message.contains(words)).map(|(_, hint)| hint);
        Self::Syntax { message, hint }
    }
}
