//! What is wrong with the keys of a step, seen together.

use std::fmt;

use crate::failure::Failure;
use crate::text::Position;

/// A kind refuses the keys of a step.
///
/// The type of a value refuses what is wrong with it alone. This is for what shows only when several keys are compared, or when
/// the text under a key is read in the light of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError {
    /// The way from the step's keys to the value. If it is empty, the error is about all of them.
    pub path: Vec<Segment>,
    /// The place in the value, if it is a text of several words.
    pub position: Option<Position>,
    /// Another key that is involved.
    pub other: Option<&'static str>,
    pub failure: Failure,
}

/// One step of the way to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    Key(&'static str),
    /// An item of a list, from 0.
    Item(usize),
}

impl KeyError {
    /// An error about all keys.
    pub fn new(message: impl Into<String>) -> Self {
        Self { path: Vec::new(), position: None, other: None, failure: Failure::new(message) }
    }

    /// The same error, about the value at `path`.
    pub fn of(mut self, path: impl IntoIterator<Item = Segment>) -> Self {
        self.path = path.into_iter().collect();
        self
    }

    /// The same error, about the value under `key`, which the message then begins with.
    pub fn named(mut self, key: &'static str) -> Self {
        self.failure.message = format!("`{key}`: {}", self.failure.message);
        self.of([Segment::Key(key)])
    }

    /// The same error with the place in the value.
    pub fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// The same error, with the place of another key that is involved.
    pub fn beside(mut self, key: &'static str) -> Self {
        self.other = Some(key);
        self
    }

    /// The same error with its remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.failure = self.failure.hint(hint);
        self
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for KeyError {}

impl From<String> for KeyError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for KeyError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}
