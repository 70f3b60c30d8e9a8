//! Builds the tree from the events of `saphyr-parser`. The limits are held here, because the parser has none.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::document::{Content, Document, Node, NodeId, Style};
use super::error::{Broken, Error, ErrorKind};
use super::extent;
use crate::text::Position;

/// How much a text may ask of its reader.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many lists and mappings may stand around a value, those around an alias's target included.
    pub depth: usize,
    /// How many keys, values and items there may be, with every alias counted as what it stands for ("billion laughs").
    pub nodes: usize,
}

impl Document {
    /// Reads a text that is one document, or none.
    ///
    /// # Errors
    /// If the text is not YAML, has a second document, has an alias inside of its own anchor, or exceeds the limits.
    pub fn parse(text: &str, limits: Limits) -> Result<Self, Box<Broken>> {
        let mut builder = Builder::new(text, limits);
        let mut events = Parser::new_from_str(text);
        while let Some(event) = events.next_event() {
            let result = match event {
                Ok((event, span)) => builder.event(event, &span),
                Err(error) => {
                    let at = builder.byte(error.marker());
                    let kind = ErrorKind::syntax(error.info());
                    Err(Error { kind, span: at..at, position: position(error.marker()) })
                }
            };
            if let Err(error) = result {
                return Err(Box::new(Broken { error, read: builder.into_document() }));
            }
        }
        let mut document = builder.into_document();
        document.find_duplicates();
        Ok(document)
    }
}

struct Builder<'text> {
    text: &'text str,
    nodes: Vec<Node>,
    /// How much each node is with its aliases expanded.
    extents: Vec<Extent>,
    /// The collections that are not closed yet, with the nodes in them.
    open: Vec<(NodeId, Vec<NodeId>)>,
    anchors: HashMap<usize, NodeId>,
    documents: usize,
    /// The sum of all nodes, aliases expanded.
    total: usize,
    limits: Limits,
    /// The byte offset of each character: the parser counts characters.
    offsets: Vec<usize>,
    /// Whether the last line has no line ending.
    unended: bool,
}

#[derive(Clone, Copy)]
struct Extent {
    nodes: usize,
    height: usize,
}

impl<'text> Builder<'text> {
    fn new(text: &'text str, limits: Limits) -> Self {
        Self {
            text,
            nodes: Vec::new(),
            extents: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            documents: 0,
            total: 0,
            limits,
            offsets: text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect(),
            unended: text.lines().next_back().is_some_and(|line| !line.trim().is_empty()) && !text.ends_with('\n'),
        }
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Error> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.error(ErrorKind::SecondDocument, span));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let mut text = text.into_owned();
                let style = read_style(style);
                let at_the_end = span.end.index() + 1 >= self.offsets.len();
                if at_the_end && self.unended && matches!(style, Style::Literal | Style::Folded) {
                    // The parser adds a line ending there; by YAML 1.2.2, section 8.1.1.2, there is none.
                    text.truncate(text.strip_suffix('\n').map_or(text.len(), str::len));
                }
                self.add(Content::Scalar { text, style }, anchor, tag.as_deref(), span)?;
            }
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).copied();
                let target = target.filter(|target| self.open.iter().all(|(id, _)| id != target));
                let target = target.ok_or_else(|| self.error(ErrorKind::AliasInsideAnchor, span))?;
                self.add(Content::Alias(target), 0, None, span)?;
            }
            Event::SequenceStart(anchor, tag) => {
                let id = self.add(Content::Sequence(Vec::new()), anchor, tag.as_deref(), span)?;
                self.open.push((id, Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                let id = self.add(Content::Mapping(Vec::new()), anchor, tag.as_deref(), span)?;
                self.open.push((id, Vec::new()));
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(Some(span)),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn add(&mut self, content: Content, anchor: usize, tag: Option<&Tag>, span: &Span) -> Result<NodeId, Error> {
        let extent = match content {
            Content::Alias(target) => self.extents[target],
            _ => Extent { nodes: 1, height: 0 },
        };
        if self.open.len() + extent.height > self.limits.depth {
            return Err(self.error(ErrorKind::TooDeep { max: self.limits.depth }, span));
        }
        self.total = self.total.saturating_add(extent.nodes);
        if self.total > self.limits.nodes {
            return Err(self.error(ErrorKind::TooLarge { max: self.limits.nodes }, span));
        }
        let mut range = self.trimmed(self.range(span));
        let has_properties = anchor != 0 || tag.is_some();
        let value_start = if has_properties { extent::value_start(self.text, &range) } else { range.start };
        if matches!(content, Content::Scalar { style: Style::SingleQuoted | Style::DoubleQuoted, .. }) {
            range.end = extent::closing_quote(self.text, value_start).unwrap_or(range.end);
        }
        let id = self.nodes.len();
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.nodes.push(Node {
            content,
            tag: tag.map(|tag| format!("{}{}", tag.handle, tag.suffix)),
            anchored: anchor != 0,
            span: range,
            value_start,
            position: position(&span.start),
        });
        self.extents.push(extent);
        if let Some((_, children)) = self.open.last_mut() {
            children.push(id);
        }
        Ok(id)
    }

    /// Closes the innermost collection, or takes what was read of it if the text ended inside of it.
    fn close(&mut self, end: Option<&Span>) {
        let Some((id, children)) = self.open.pop() else { return };
        if let Some(end) = end {
            let start = self.nodes[id].span.start;
            self.nodes[id].span = self.trimmed(start..self.byte(&end.end).max(start));
        }
        let within = children.iter().map(|child| self.extents[*child]);
        self.extents[id] = within.fold(Extent { nodes: 1, height: 0 }, |sum, child| Extent {
            nodes: sum.nodes.saturating_add(child.nodes),
            height: sum.height.max(child.height + 1),
        });
        match &mut self.nodes[id].content {
            Content::Mapping(entries) => *entries = children.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
            Content::Sequence(items) => *items = children,
            Content::Scalar { .. } | Content::Alias(_) => {}
        }
    }

    fn into_document(mut self) -> Document {
        while !self.open.is_empty() {
            self.close(None);
        }
        Document { nodes: self.nodes, duplicates: Vec::new() }
    }

    fn error(&self, kind: ErrorKind, span: &Span) -> Error {
        Error { kind, span: self.range(span), position: position(&span.start) }
    }

    fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        let written = self.text[range.clone()].trim_end_matches([' ', '\t', '\r', '\n']);
        range.start..range.start + written.len()
    }

    fn byte(&self, place: &Marker) -> usize {
        let last = self.offsets.len() - 1;
        self.offsets[place.index().min(last)]
    }

    fn range(&self, span: &Span) -> Range<usize> {
        let start = self.byte(&span.start);
        start..self.byte(&span.end).max(start)
    }
}

fn position(place: &Marker) -> Position {
    Position { line: place.line(), column: place.col() + 1 }
}

fn read_style(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
    }
}
