//! The tree of a document, and looking things up in it.

use std::collections::HashMap;
use std::ops::Range;

use zeroize::Zeroize;

use crate::text::Position;

/// Index of a node in its [`Document`]. Nodes are numbered in the order in which they begin in the text.
pub type NodeId = usize;

/// One YAML document.
#[derive(Debug, Default)]
pub struct Document {
    pub(super) nodes: Vec<Node>,
    pub(super) duplicates: Vec<Duplicate>,
}

/// A value, key or list item as it is written.
#[derive(Debug)]
pub struct Node {
    pub content: Content,
    /// The tag in full (`tag:yaml.org,2002:str`).
    pub tag: Option<String>,
    pub anchored: bool,
    /// The bytes of the node, blanks at its end left out. They begin with its anchor or tag if it has one, and those of a block
    /// scalar with its first line that is not empty.
    pub span: Range<usize>,
    /// Where the value begins in the span, behind an anchor and a tag. For a block scalar that has one of them, this is its
    /// `|` or `>`.
    pub value_start: usize,
    /// Where the span begins.
    pub position: Position,
}

/// What a node holds.
#[derive(Debug, PartialEq)]
pub enum Content {
    Scalar {
        text: String,
        style: Style,
    },
    Sequence(Vec<NodeId>),
    /// Keys with their values, duplicates included.
    Mapping(Vec<(NodeId, NodeId)>),
    /// The node that the alias stands for.
    Alias(NodeId),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    /// A block that begins with `|`.
    Literal,
    /// A block that begins with `>`.
    Folded,
}

/// A key that a mapping has twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    pub first: NodeId,
    pub second: NodeId,
}

impl Document {
    /// The topmost node; `None` if the text holds nothing but comments.
    pub fn root(&self) -> Option<NodeId> {
        (!self.nodes.is_empty()).then_some(0)
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The keys that a mapping has twice, in the order of the second ones. Keys are compared by their text.
    pub fn duplicates(&self) -> &[Duplicate] {
        &self.duplicates
    }

    /// The node that an alias stands for, and any other node itself.
    pub fn resolve(&self, id: NodeId) -> NodeId {
        match self.nodes[id].content {
            Content::Alias(target) => target,
            _ => id,
        }
    }

    /// The text of a scalar, or of the scalar that an alias stands for.
    pub fn text(&self, id: NodeId) -> Option<&str> {
        match &self.nodes[self.resolve(id)].content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The entries of a mapping, or of the mapping that an alias stands for; empty for anything else.
    pub fn entries(&self, id: NodeId) -> &[(NodeId, NodeId)] {
        match &self.nodes[self.resolve(id)].content {
            Content::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The value under a key of the mapping itself; values of merged mappings are not found.
    pub fn get(&self, mapping: NodeId, key: &str) -> Option<NodeId> {
        self.entries(mapping).iter().find(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value)
    }

    pub(super) fn find_duplicates(&mut self) {
        let mut duplicates = Vec::new();
        for node in &self.nodes {
            let Content::Mapping(entries) = &node.content else { continue };
            let mut seen = HashMap::new();
            for (key, _) in entries {
                let Some(text) = self.text(*key) else { continue };
                match seen.get(text) {
                    Some(first) => duplicates.push(Duplicate { first: *first, second: *key }),
                    None => drop(seen.insert(text, *key)),
                }
            }
        }
        duplicates.sort_by_key(|duplicate| duplicate.second);
        self.duplicates = duplicates;
    }
}

/// The texts may be passwords.
impl Drop for Document {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Content::Scalar { text, .. } = &mut node.content {
                text.zeroize();
            }
        }
    }
}
