//! YAML text as a tree of nodes that know which bytes they were written with.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use zeroize::Zeroize;

/// Index of a node in its [`Document`], in the order in which the nodes begin in the text.
pub type NodeId = usize;

/// Deeper nesting is refused: no compose file has it, and walks over the tree recurse.
const MAX_DEPTH: usize = 100;

/// One YAML document.
#[derive(Debug)]
pub struct Document {
    nodes: Vec<Node>,
}

/// A value, key or list item as it was written.
#[derive(Debug)]
pub struct Node {
    pub content: Content,
    /// The tag in full (`tag:yaml.org,2002:str`).
    pub tag: Option<String>,
    pub anchored: bool,
    /// Byte offsets; the beginning is that of an anchor or tag before the value. The end is exact for plain and block
    /// scalars and for aliases alone.
    pub start: usize,
    pub end: usize,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// What a node holds.
#[derive(Debug, PartialEq)]
pub enum Content {
    Scalar { text: String, style: ScalarStyle },
    Sequence(Vec<NodeId>),
    Mapping(Vec<(NodeId, NodeId)>),
    Alias(NodeId),
}

/// Why a text cannot be worked on. Holds nothing of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at line {line}, column {column}")]
pub struct Unreadable {
    pub message: String,
    /// Both from 1.
    pub line: usize,
    pub column: usize,
}

impl Unreadable {
    pub fn new(message: impl Into<String>, line: usize, column: usize) -> Self {
        Self { message: message.into(), line, column }
    }
}

impl Document {
    /// Reads the one document of `text`.
    ///
    /// Refused, beside what is no YAML: several documents, a key that stands twice in a mapping (Compose refuses it
    /// too), an alias inside of what it stands for, a tab right after a key's colon (valid, but the parser does not
    /// take it), a carriage return without a newline, and the line separators U+0085, U+2028 and U+2029, which YAML 1.1
    /// readers such as Compose's take for line ends and YAML 1.2 readers do not.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        for (number, line) in text.lines().enumerate() {
            if let Some(column) = line.chars().position(|c| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')) {
                let message = "a unicode line separator, which YAML readers do not agree about";
                return Err(Unreadable::new(message, number + 1, column + 1));
            }
            // A line end of its own to YAML, and none to most other tools.
            if let Some(column) = line.chars().position(|c| c == '\r') {
                let message = "a carriage return without a newline, which is easily overlooked";
                return Err(Unreadable::new(message, number + 1, column + 1));
            }
            // YAML 1.2.2, section 5.1: not even in quotes. The parser takes some for letters and some for blanks.
            if let Some(column) = line.chars().position(|c| c.is_control() && c != '\t') {
                let message = "a control character, which YAML does not allow";
                return Err(Unreadable::new(message, number + 1, column + 1));
            }
        }
        let mut builder = Builder::new(text);
        for event in Parser::new_from_str(text) {
            let (event, span) = event
                .map_err(|error| Unreadable::new(error.info(), error.marker().line(), error.marker().col() + 1))?;
            builder.event(event, span)?;
        }
        let document = Self { nodes: builder.nodes };
        document.refuse_duplicates()?;
        Ok(document)
    }

    /// The topmost node; none where the text holds comments alone.
    pub fn root(&self) -> Option<NodeId> {
        (!self.nodes.is_empty()).then_some(0)
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that an alias stands for, and any other node itself.
    pub fn resolve(&self, id: NodeId) -> NodeId {
        match self.nodes[id].content {
            Content::Alias(target) => target,
            _ => id,
        }
    }

    /// The text of a scalar, an alias of one included.
    pub fn text(&self, id: NodeId) -> Option<&str> {
        match &self.nodes[self.resolve(id)].content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The entries of a mapping, an alias of one included; none for anything else.
    pub fn entries(&self, id: NodeId) -> &[(NodeId, NodeId)] {
        match &self.nodes[self.resolve(id)].content {
            Content::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The value under `key` in a mapping itself, merged ones left out.
    pub fn get(&self, mapping: NodeId, key: &str) -> Option<NodeId> {
        self.entries(mapping).iter().find(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value)
    }

    /// The mappings that `<<` merges into this one, the strongest first.
    pub fn merged(&self, mapping: NodeId) -> Vec<NodeId> {
        let Some(value) = self.get(mapping, "<<") else { return Vec::new() };
        match &self.nodes[self.resolve(value)].content {
            Content::Sequence(items) => items.iter().map(|item| self.resolve(*item)).collect(),
            _ => vec![self.resolve(value)],
        }
    }

    fn refuse_duplicates(&self) -> Result<(), Unreadable> {
        for node in &self.nodes {
            let Content::Mapping(entries) = &node.content else { continue };
            let mut seen = HashMap::new();
            for (key, _) in entries {
                let Some(text) = self.text(*key) else { continue };
                if let Some(first) = seen.insert(text, *key) {
                    let (first, second) = (self.node(first), self.node(*key));
                    let what = format!("a key that the same mapping has already in line {}", first.line);
                    return Err(Unreadable::new(what, second.line, second.column));
                }
            }
        }
        Ok(())
    }
}

/// Its texts may be passwords.
impl Drop for Document {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Content::Scalar { text, .. } = &mut node.content {
                text.zeroize();
            }
        }
    }
}

/// Collections that are still open, and what has been read of them.
struct Builder {
    nodes: Vec<Node>,
    open: Vec<(NodeId, Vec<NodeId>)>,
    anchors: HashMap<usize, NodeId>,
    documents: usize,
    /// Byte offset of each character, for the parser counts characters.
    offsets: Vec<usize>,
    /// Whether the last line has no line ending.
    unended: bool,
}

impl Builder {
    fn new(text: &str) -> Self {
        let offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
        let unended = text.lines().next_back().is_some_and(|line| !line.trim().is_empty()) && !text.ends_with('\n');
        Self { nodes: Vec::new(), open: Vec::new(), anchors: HashMap::new(), documents: 0, offsets, unended }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Unreadable> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(unreadable("a second document, where only one is worked on", &span));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let mut text = text.into_owned();
                let at_the_end = span.end.index() + 1 >= self.offsets.len();
                if at_the_end && self.unended && matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    // The parser puts one there; Compose's reader does not.
                    text.truncate(text.strip_suffix('\n').map_or(text.len(), str::len));
                }
                self.add(Content::Scalar { text, style }, anchor, tag.as_deref(), &span);
            }
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).copied();
                let target = target.ok_or_else(|| unreadable("an alias of an unknown anchor", &span))?;
                if self.open.iter().any(|(id, _)| *id == target) {
                    return Err(unreadable("an alias inside of what it stands for", &span));
                }
                self.add(Content::Alias(target), 0, None, &span);
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Content::Sequence(Vec::new()), anchor, tag.as_deref(), &span)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Content::Mapping(Vec::new()), anchor, tag.as_deref(), &span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.finish(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn add(&mut self, content: Content, anchor: usize, tag: Option<&Tag>, span: &Span) -> NodeId {
        let id = self.nodes.len();
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        let last = self.offsets.len() - 1;
        self.nodes.push(Node {
            content,
            tag: tag.map(|tag| format!("{}{}", tag.handle, tag.suffix)),
            anchored: anchor != 0,
            start: self.offsets[span.start.index().min(last)],
            end: self.offsets[span.end.index().min(last)],
            line: span.start.line(),
            column: span.start.col() + 1,
        });
        if let Some((_, children)) = self.open.last_mut() {
            children.push(id);
        }
        id
    }

    fn begin(&mut self, content: Content, anchor: usize, tag: Option<&Tag>, span: &Span) -> Result<(), Unreadable> {
        if self.open.len() == MAX_DEPTH {
            return Err(unreadable("nesting too deep for a compose file", span));
        }
        let id = self.add(content, anchor, tag, span);
        self.open.push((id, Vec::new()));
        Ok(())
    }

    fn finish(&mut self) {
        let Some((id, children)) = self.open.pop() else { return };
        match &mut self.nodes[id].content {
            Content::Mapping(entries) => *entries = children.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
            Content::Sequence(items) => *items = children,
            Content::Scalar { .. } | Content::Alias(_) => {}
        }
    }
}

fn unreadable(message: &str, span: &Span) -> Unreadable {
    Unreadable::new(message, span.start.line(), span.start.col() + 1)
}
