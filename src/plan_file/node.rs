//! A value of a plan file, as written or as evaluated.

use std::ops::Range;

use crate::yaml;

/// A value with its place in the text, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Range<usize>,
    pub value: Value,
}

/// The value at a place.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
    /// A string whose template needs this environment variable, which is not set.
    Unset(String),
}

/// A scalar, and how it is written: `0400` and `"0400"` are not the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    pub text: String,
    pub style: Style,
}

/// How a scalar is written, or what a template evaluated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: null, a boolean, a number or a string, by YAML's core schema.
    Plain,
    /// In quotes or as a block. It is always a string.
    Quoted,
    /// The text that a template evaluated to. It can be read as a number or a boolean.
    Rendered,
    /// The number or boolean that a template evaluated to. It can be read as a string.
    Native,
    /// The none that a template evaluated to.
    RenderedNone,
}

impl Node {
    /// Creates a null for a missing key.
    pub fn null(span: Range<usize>) -> Self {
        Self { span, value: Value::Scalar(Scalar { text: String::new(), style: Style::Plain }) }
    }

    /// Returns whether this is a null of YAML's core schema, or the none of a template.
    pub fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar(Scalar { style: Style::RenderedNone, .. }) => true,
            Value::Scalar(Scalar { text, style: Style::Plain }) => yaml::is_null(text),
            _ => false,
        }
    }

    /// Returns the text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Returns the value under a key of a mapping.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Value::Mapping(pairs) = &self.value else { return None };
        pairs.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }
}
