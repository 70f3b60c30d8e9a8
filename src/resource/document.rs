//! Text that a step writes to its target, with placeholders for secrets. The plan file's templates have already been evaluated
//! in it. The values of the secrets are filled in where the text is written, by the step's worker.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::host::secret::Secret;

/// Text with placeholders for secrets. It does not contain their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document(Vec<Piece>);

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SentPiece", into = "SentPiece")]
pub enum Piece {
    Text(String),
    /// Text that is not shown, because a variable in it may be a secret.
    Hidden(String),
    /// The name of a secret, in place of its value.
    Secret(String),
}

/// A piece as it is sent to a worker: `{ text: … }`, `{ hidden: … }` or `{ secret: NAME }`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SentPiece {
    Text { text: String },
    Hidden { hidden: String },
    Secret { secret: String },
}

impl From<SentPiece> for Piece {
    fn from(piece: SentPiece) -> Self {
        match piece {
            SentPiece::Text { text } => Self::Text(text),
            SentPiece::Hidden { hidden } => Self::Hidden(hidden),
            SentPiece::Secret { secret } => Self::Secret(secret),
        }
    }
}

impl From<Piece> for SentPiece {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Text(text) => Self::Text { text },
            Piece::Hidden(hidden) => Self::Hidden { hidden },
            Piece::Secret(secret) => Self::Secret { secret },
        }
    }
}

impl Document {
    /// The document without text.
    pub const EMPTY: Self = Self(Vec::new());

    /// Creates a document from pieces. Adjacent texts are merged.
    pub fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut merged: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (merged.last_mut(), piece) {
                (_, Piece::Text(text) | Piece::Hidden(text)) if text.is_empty() => {}
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
                (_, piece) => merged.push(piece),
            }
        }
        Self(merged)
    }

    /// Returns the same document with its text hidden.
    pub fn hidden(self) -> Self {
        let hide = |piece| if let Piece::Text(text) = piece { Piece::Hidden(text) } else { piece };
        Self(self.0.into_iter().map(hide).collect())
    }

    /// Returns the pieces in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Returns the names of the secrets in it.
    pub fn secrets(&self) -> BTreeSet<&str> {
        let names = self.0.iter().filter_map(|piece| match piece {
            Piece::Secret(name) => Some(name.as_str()),
            Piece::Text(_) | Piece::Hidden(_) => None,
        });
        names.collect()
    }

    /// Returns the whole text, or `None` if it contains a secret or may contain one.
    pub fn text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns the whole text with `placeholder` for each secret.
    pub fn with_placeholder(&self, placeholder: &str) -> String {
        let texts = self.0.iter().map(|piece| match piece {
            Piece::Text(text) | Piece::Hidden(text) => text.as_str(),
            Piece::Secret(_) => placeholder,
        });
        texts.collect()
    }

    /// Returns the bytes with the values of the secrets, each by [`Secret::as_password`]: without the line ending that files
    /// and programs put at its end.
    ///
    /// # Errors
    /// `value_of` has no value for some secrets. The error contains their names.
    pub fn fill<'a>(&self, value_of: impl Fn(&str) -> Option<&'a Secret>) -> Result<Secret, Vec<String>> {
        let missing: Vec<String> =
            self.secrets().into_iter().filter(|name| value_of(name).is_none()).map(str::to_owned).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let parts: Vec<Part<'_>> = self
            .0
            .iter()
            .filter_map(|piece| match piece {
                Piece::Text(text) | Piece::Hidden(text) => Some(Part::Text(text)),
                Piece::Secret(name) => value_of(name).map(|secret| Part::Secret(secret.as_password())),
            })
            .collect();
        // The buffer has its final size, so it never moves and leaves no copy behind.
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.bytes().len()).sum());
        parts.iter().for_each(|part| bytes.extend_from_slice(part.bytes()));
        Ok(Secret::new(bytes))
    }
}

enum Part<'a> {
    Text(&'a str),
    Secret(Secret),
}

impl Part<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Secret(secret) => secret.expose(),
        }
    }
}

impl fmt::Display for Document {
    /// Writes the text with each secret as a template names it, and without hidden text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Hidden(_) => f.write_str("(hidden)"),
            Piece::Secret(name) => write!(f, "{{{{ secret('{name}') }}}}"),
        })
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.text() {
            Some(text) => to.serialize_str(text),
            None => self.0.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Document, E> {
                Ok(Document::new([Piece::Text(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Document, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = items.next_element::<Piece>()? {
                    pieces.push(piece);
                }
                if pieces.iter().any(|piece| matches!(piece, Piece::Secret(name) if name.is_empty())) {
                    return Err(A::Error::custom("a secret has a name"));
                }
                Ok(Document::new(pieces))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// A document from a template file beside the plan file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateFile {
    /// The name of the file as the plan file has it.
    pub file: String,
    pub text: Document,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn secret(name: &str) -> Piece {
        Piece::Secret(name.to_owned())
    }

    #[test]
    fn secrets_are_filled_in_without_their_line_endings() {
        let document = Document::new([text("a="), secret("a"), text("\nb="), secret("b"), text(";"), secret("a")]);
        let (a, b) = (Secret::copy_of(b"one\n"), Secret::copy_of(b"\xff\n\n"));
        let filled = document.fill(|name| Some(if name == "a" { &a } else { &b })).unwrap();
        assert_eq!(filled.expose(), b"a=one\nb=\xff\n;one");
        assert_eq!(document.fill(|name| (name == "a").then_some(&a)).unwrap_err(), ["b"]);
        assert_eq!(document.to_string(), "a={{ secret('a') }}\nb={{ secret('b') }};{{ secret('a') }}");
        assert_eq!(document.text(), None);
    }

    #[test]
    fn a_document_crosses_to_a_worker_as_it_is() {
        let hidden = Piece::Hidden("a".to_owned());
        for pieces in [
            vec![],
            vec![hidden, secret("a")],
            vec![text("a"), text("b")],
            vec![text(""), secret("a"), text("")],
            vec![secret("a")],
        ] {
            let document = Document::new(pieces);
            let sent: Document = serde_json::from_str(&serde_json::to_string(&document).unwrap()).unwrap();
            assert_eq!(sent, document);
        }
        assert_eq!(Document::new([text("a"), text("b")]).text(), Some("ab"));
        assert_eq!(Document::default().text(), Some(""));
    }
}
