//! YAML text as a tree whose every node knows where it stands.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::Problem;

/// Nesting deeper than this is refused: no plan file needs it, and the reader is recursive.
const MAX_DEPTH: usize = 64;
/// More nodes than this, aliases expanded, are refused ("billion laughs").
const MAX_NODES: usize = 200_000;

/// A value with its place in the text, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Range<usize>,
    pub value: Value,
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
    /// A string whose template wants an environment variable that is not set.
    Unset(String),
}

/// A scalar and how it was written, since `0400` and `"0400"` are not the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    pub text: String,
    pub style: Style,
}

/// How a scalar came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: null, a boolean, a number or a string, by YAML's core schema.
    Plain,
    /// Quoted or a block: always a string.
    Quoted,
    /// The text that a template gave: a string, which may stand for a number or a boolean.
    Rendered,
}

impl Node {
    /// A null without a place of its own, for a key that is not there.
    pub fn null(span: Range<usize>) -> Self {
        Self { span, value: Value::Scalar(Scalar { text: String::new(), style: Style::Plain }) }
    }

    /// Whether this is a null as YAML's core schema writes it.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { text, style: Style::Plain })
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }
}

/// Reads one YAML document.
///
/// # Errors
/// Where the text is no YAML, has several documents, a key twice, or is nested too deeply.
pub fn parse(text: &str) -> Result<Node, Problem> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        bytes: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let end = text.len()..text.len();
    let mut root = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => {}
            Event::DocumentStart(_) if root.is_some() => {
                return Err(Problem::at(reader.range(span), "a second YAML document starts here")
                    .help("a plan file is one document: write a second file"));
            }
            Event::DocumentStart(_) => {}
            event => root = Some(reader.node(event, span, 0)?),
        }
    }
    root.ok_or_else(|| Problem::at(end, "the plan file is empty").help("it needs at least `name` and `steps`"))
}

struct Reader<'text> {
    parser: Parser<'text, saphyr_parser::StrInput<'text>>,
    /// The byte offset of each character: the parser counts characters.
    bytes: Vec<usize>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<Option<(Event<'text>, Span)>, Problem> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let at = self.byte(error.marker().index());
                Err(Problem::at(at..at, format!("not YAML: {}", error.info())))
            }
        }
    }

    fn byte(&self, character: usize) -> usize {
        self.bytes.get(character).or(self.bytes.last()).copied().unwrap_or(0)
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }

    fn node(&mut self, event: Event<'text>, span: Span, depth: usize) -> Result<Node, Problem> {
        let start = self.range(span);
        if depth > MAX_DEPTH {
            return Err(Problem::at(start, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.nodes += 1;
        let (anchor, node) = match event {
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Problem::at(start, "this alias stands inside of its own anchor"));
                };
                self.nodes += size(&node);
                (0, Node { span: start.clone(), ..node })
            }
            Event::Scalar(text, style, anchor, _) => {
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
                let value = Value::Scalar(Scalar { text: text.into_owned(), style });
                (anchor, Node { span: start.clone(), value })
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                let end = loop {
                    match self.expect()? {
                        (Event::SequenceEnd, span) => break self.range(span).end,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                };
                (anchor, Node { span: start.start..end, value: Value::Sequence(items) })
            }
            Event::MappingStart(anchor, _) => {
                let mut pairs: Vec<(Node, Node)> = Vec::new();
                let end = loop {
                    let key = match self.expect()? {
                        (Event::MappingEnd, span) => break self.range(span).end,
                        (event, span) => self.node(event, span, depth + 1)?,
                    };
                    let Some(name) = key.text() else {
                        return Err(Problem::at(key.span, "a key has to be a word"));
                    };
                    if pairs.iter().any(|(other, _)| other.text() == Some(name)) {
                        let message = format!("key `{name}` is there twice");
                        return Err(Problem::at(key.span, message).help("keep one of them"));
                    }
                    let (event, span) = self.expect()?;
                    let value = self.node(event, span, depth + 1)?;
                    pairs.push((key, value));
                };
                (anchor, Node { span: start.start..end, value: Value::Mapping(pairs) })
            }
            _ => return Err(Problem::at(start, "not YAML: a value was expected here")),
        };
        if self.nodes > MAX_NODES {
            return Err(Problem::at(start, format!("more than {MAX_NODES} values, aliases expanded")));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn expect(&mut self) -> Result<(Event<'text>, Span), Problem> {
        let end = self.bytes.last().copied().unwrap_or(0);
        self.next()?.ok_or_else(|| Problem::at(end..end, "not YAML: the text ends in the middle of a value"))
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) | Value::Unset(_) => 1,
        Value::Sequence(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Mapping(pairs) => pairs.iter().map(|(_, value)| 1 + size(value)).sum::<usize>() + 1,
    }
}
