//! YAML text as a tree whose every node knows where it stands.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::diagnostic::{Diagnostic, is_sensitive, login};

/// Nesting deeper than this is refused: no plan file needs it, and the reader is recursive.
const MAX_DEPTH: usize = 64;
/// More nodes than this, aliases expanded, are refused ("billion laughs").
const MAX_NODES: usize = 200_000;

/// A YAML document as it was read.
#[derive(Debug)]
pub struct Document {
    pub root: Node,
    /// What is wrong with it and did not keep it from being read.
    pub flaws: Vec<Diagnostic>,
    /// Values that stand where a secret would, were it written into the plan file by mistake.
    pub secrets: Vec<Range<usize>>,
}

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
    /// The number or boolean that a template gave: as good as its text where a string is wanted.
    Native,
    /// The none that a template gave.
    RenderedNone,
}

impl Node {
    /// A null without a place of its own, for a key that is not there.
    pub fn null(span: Range<usize>) -> Self {
        Self { span, value: Value::Scalar(Scalar { text: String::new(), style: Style::Plain }) }
    }

    /// Whether this is a null as YAML's core schema writes it, or the none of a template.
    pub fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar(Scalar { style: Style::RenderedNone, .. }) => true,
            Value::Scalar(Scalar { text, style: Style::Plain }) => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }
}

/// Why a text cannot be read, and the places of secrets in what was read of it.
pub type Broken = Box<(Diagnostic, Vec<Range<usize>>)>;

/// Reads one YAML document.
///
/// # Errors
/// Where the text is no YAML, has several documents or none, or is nested too deeply; with it, the places of secrets
/// in what was read.
pub fn parse(text: &str) -> Result<Document, Broken> {
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str(text),
        bytes: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        anchors: HashMap::new(),
        nodes: 0,
        flaws: Vec::new(),
        secrets: Vec::new(),
    };
    match reader.document() {
        Ok(root) => Ok(Document { root, flaws: reader.flaws, secrets: reader.secrets }),
        Err(problem) => Err(Box::new((problem, reader.secrets))),
    }
}

struct Reader<'text> {
    text: &'text str,
    parser: Parser<'text, saphyr_parser::StrInput<'text>>,
    /// The byte offset of each character: the parser counts characters.
    bytes: Vec<usize>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    flaws: Vec<Diagnostic>,
    secrets: Vec<Range<usize>>,
}

impl<'text> Reader<'text> {
    fn document(&mut self) -> Result<Node, Diagnostic> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(Diagnostic::at(self.range(span), "a second YAML document starts here")
                        .help("a plan file is one document: write a second file"));
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        root.filter(|root| !root.is_null())
            .ok_or_else(|| Diagnostic::of_file("the plan file is empty").help("it needs at least `name` and `steps`"))
    }

    fn next(&mut self) -> Result<Option<(Event<'text>, Span)>, Diagnostic> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let at = self.byte(error.marker().index());
                let problem = Diagnostic::at(at..at, format!("not YAML: {}", error.info()));
                Err(match remedy(error.info()) {
                    Some(help) => problem.help(help),
                    None => problem,
                })
            }
        }
    }

    fn byte(&self, character: usize) -> usize {
        self.bytes.get(character).or(self.bytes.last()).copied().unwrap_or(0)
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }

    fn node(&mut self, event: Event<'text>, span: Span, depth: usize) -> Result<Node, Diagnostic> {
        let start = self.range(span);
        if depth > MAX_DEPTH {
            return Err(too_deep(start));
        }
        self.nodes += 1;
        let (anchor, node) = match event {
            Event::Alias(id) => (0, self.alias(id, start.clone(), depth)?),
            Event::Scalar(text, style, anchor, tag) => {
                let string = self.is_string(tag.as_ref(), &start);
                let span = self.trimmed(start.clone());
                let style = if style == ScalarStyle::Plain && !string { Style::Plain } else { Style::Quoted };
                let value = Value::Scalar(Scalar { text: text.into_owned(), style });
                (anchor, Node { span, value })
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_string(tag.as_ref(), &start);
                let mut items = Vec::new();
                let end = loop {
                    match self.expect()? {
                        (Event::SequenceEnd, span) => break self.range(span).end,
                        (event, span) => {
                            let item = self.node(event, span, depth + 1)?;
                            self.judge_number(&item);
                            items.push(item);
                        }
                    }
                };
                (anchor, Node { span: start.start..end, value: Value::Sequence(items) })
            }
            Event::MappingStart(anchor, tag) => {
                self.is_string(tag.as_ref(), &start);
                let (pairs, end) = self.pairs(depth)?;
                (anchor, Node { span: start.start..end, value: Value::Mapping(pairs) })
            }
            _ => return Err(Diagnostic::at(start, "not YAML: a value was expected here")),
        };
        if anchor != 0 {
            self.nodes += size(&node);
            self.anchors.insert(anchor, node.clone());
        }
        if self.nodes > MAX_NODES {
            return Err(Diagnostic::at(start, format!("more than {MAX_NODES} values, aliases expanded")));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Range<usize>, depth: usize) -> Result<Node, Diagnostic> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(Diagnostic::at(span, "this alias stands inside of its own anchor"));
        };
        if depth + height(node) > MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.nodes += size(node);
        if self.nodes > MAX_NODES {
            return Err(Diagnostic::at(span, format!("more than {MAX_NODES} values, aliases expanded")));
        }
        Ok(Node { span, ..node.clone() })
    }

    /// The pairs of a mapping up to its end, and where that is.
    fn pairs(&mut self, depth: usize) -> Result<(Vec<(Node, Node)>, usize), Diagnostic> {
        let mut pairs: Vec<(Node, Node)> = Vec::new();
        let mut names = HashSet::new();
        loop {
            let key = match self.expect()? {
                (Event::MappingEnd, span) => return Ok((pairs, self.range(span).end)),
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let Some(name) = key.text().map(str::to_owned) else {
                let problem = Diagnostic::at(key.span.clone(), "a key has to be a word");
                let template =
                    self.text[..key.span.start].ends_with('{') && self.text[key.span.start..].starts_with('{');
                return Err(if template {
                    problem.help("a template has to be in quotes: \"{{ … }}\"")
                } else {
                    problem
                });
            };
            let (event, span) = self.expect()?;
            let value = self.node(event, span, depth + 1)?;
            self.judge_number(&value);
            if name == "<<" {
                self.flaws.push(Diagnostic::at(key.span, "merge keys (`<<`) are not read").help("write the keys out"));
                continue;
            }
            if is_sensitive(&name) {
                self.hide(&value);
            } else if value.text().is_some_and(|text| login(text).is_some()) {
                self.secrets.push(value.span.clone());
            }
            if names.insert(name.clone()) {
                pairs.push((key, value));
            } else {
                let message = format!("key `{name}` is there twice");
                self.flaws.push(Diagnostic::at(key.span, message).help("keep one of them"));
            }
        }
    }

    /// Hides what is written out at a place for secrets. A source's words name one, and are shown.
    fn hide(&mut self, node: &Node) {
        match &node.value {
            Value::Sequence(items) => items.iter().for_each(|item| self.hide(item)),
            Value::Mapping(pairs) => {
                let shown = |key: &Node| matches!(key.text(), Some("env" | "file" | "command" | "encoding" | "json"));
                pairs.iter().filter(|(key, _)| !shown(key)).for_each(|(_, value)| self.hide(value));
            }
            _ if is_written_out(node) => self.secrets.push(node.span.clone()),
            _ => {}
        }
    }

    /// The span of a scalar without the blanks after it.
    fn trimmed(&self, span: Range<usize>) -> Range<usize> {
        let text = self.text.get(span.clone()).unwrap_or_default();
        span.start..span.start + text.trim_end().len()
    }

    /// Whether a tag makes a string of a scalar; any other tag is a flaw, since nobody would heed it.
    fn is_string(&mut self, tag: Option<&Cow<'_, Tag>>, span: &Range<usize>) -> bool {
        let Some(tag) = tag else { return false };
        if tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "str" | "map" | "seq") {
            return tag.suffix == "str";
        }
        self.flaws.push(Diagnostic::at(span.clone(), "YAML tags (`!…`) are not read").help("take the tag away"));
        false
    }

    /// `0400` is 400 for one YAML reader and 256 for another, and whoever writes it means neither.
    fn judge_number(&mut self, node: &Node) {
        let Value::Scalar(Scalar { text, style: Style::Plain }) = &node.value else { return };
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = "a bare number with a leading zero is octal to some YAML readers and decimal to others \
                           (0400 is not 400)";
            self.flaws.push(Diagnostic::at(node.span.clone(), message).help("write it in quotes, such as \"0400\""));
        }
    }

    fn expect(&mut self) -> Result<(Event<'text>, Span), Diagnostic> {
        let end = self.bytes.last().copied().unwrap_or(0);
        self.next()?.ok_or_else(|| Diagnostic::at(end..end, "not YAML: the text ends in the middle of a value"))
    }
}

/// What helps against the slips that are made most, by what the parser says of them.
fn remedy(info: &str) -> Option<&'static str> {
    let remedies = [
        ("tab", "indent with spaces: YAML takes no tabs there"),
        (
            "mapping values are not allowed",
            "a text with `: ` in it has to be in quotes, and keys of one mapping line up",
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
    remedies.into_iter().find(|(slip, _)| info.contains(slip)).map(|(_, help)| help)
}

fn too_deep(span: Range<usize>) -> Diagnostic {
    Diagnostic::at(span, format!("nested more than {MAX_DEPTH} levels deep"))
}

/// Whether a value is text of its own: neither null nor a template, which name no secret.
fn is_written_out(node: &Node) -> bool {
    !node.is_null() && node.text().is_some_and(|text| !text.contains("{{"))
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) | Value::Unset(_) => 1,
        Value::Sequence(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Mapping(pairs) => pairs.iter().map(|(_, value)| 1 + size(value)).sum::<usize>() + 1,
    }
}

fn height(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) | Value::Unset(_) => 0,
        Value::Sequence(items) => items.iter().map(height).max().unwrap_or(0) + 1,
        Value::Mapping(pairs) => pairs.iter().map(|(_, value)| height(value)).max().unwrap_or(0) + 1,
    }
}
