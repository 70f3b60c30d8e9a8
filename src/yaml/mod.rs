//! YAML text as a tree whose nodes know where they stand. Plan files and compose files are both read by it.
//!
//! ```text
//! document.rs   the tree, and looking things up in it     parse.rs    text -> tree, within limits
//! error.rs      why a text cannot be read, and where      extent.rs   the exact bytes of a scalar
//! locate.rs     a place in a value -> a place in the source
//! ```
//!
//! The tree is the text as it is written: an alias stays an alias, merge keys (`<<`) and tags are kept, and a scalar keeps
//! its style. What these mean is decided by the room that reads the tree.

mod document;
mod error;
mod extent;
mod locate;
mod parse;
#[cfg(test)]
mod tests;

pub use document::{Content, Document, Duplicate, Node, NodeId, Style};
pub use error::{Broken, Error, ErrorKind};
pub use locate::locate;
pub use parse::Limits;

/// Whether a plain scalar is null by YAML's core schema (YAML 1.2.2, section 10.3.2).
pub fn is_null(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}
