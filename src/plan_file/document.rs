//! Reads the text of a plan file as a [`Node`]. Finds the parts of YAML that plan files do not support, and the places where a
//! secret may be written.

use std::collections::HashSet;
use std::ops::Range;

use super::diagnostic::{Diagnostic, is_sensitive, login};
use super::node::{Node, Scalar, Style, Value};
use crate::yaml::{self, Broken, Content, Document as Tree, ErrorKind, Limits, NodeId, is_null};

/// No plan file needs more. The functions below recurse, so the depth is limited.
const LIMITS: Limits = Limits { depth: 64, nodes: 200_000 };

/// The prefix of the tags of YAML's core schema.
const CORE: &str = "tag:yaml.org,2002:";

/// The text of a plan file that could be read.
#[derive(Debug)]
pub struct Document {
    pub root: Node,
    /// The problems that did not prevent it from being read.
    pub flaws: Vec<Diagnostic>,
    /// The places of values where a secret would be if it were written into the plan file by mistake.
    pub secrets: Vec<Range<usize>>,
}

/// Why a text cannot be read, and the places of secrets in the part that was read.
pub type Refused = Box<(Diagnostic, Vec<Range<usize>>)>;

/// Reads the text of a plan file.
///
/// # Errors
/// The text is not YAML, has several documents or none, or is nested too deeply.
pub fn parse(text: &str) -> Result<Document, Refused> {
    let (tree, broken) = match Tree::parse(text, LIMITS) {
        Ok(tree) => (tree, None),
        Err(broken) => {
            let Broken { error, read } = *broken;
            (read, Some(error))
        }
    };
    let secrets = secrets(&tree);
    let wrong_key = wrong_key(text, &tree);
    if let Some(problem) = wrong_key.or_else(|| broken.as_ref().map(explain)) {
        return Err(Box::new((problem, secrets)));
    }
    let root = tree.root().map(|root| node(&tree, root)).filter(|root| !root.is_null());
    let Some(root) = root else {
        let empty = Diagnostic::of_file("the plan file is empty").help("it needs at least `name` and `steps`");
        return Err(Box::new((empty, secrets)));
    };
    Ok(Document { root, flaws: flaws(&tree), secrets })
}

fn explain(error: &yaml::Error) -> Diagnostic {
    let at = |message: String| Diagnostic::at(error.span.clone(), message);
    match &error.kind {
        ErrorKind::Syntax { message, hint } => {
            let problem = at(format!("not YAML: {message}"));
            hint.iter().fold(problem, |problem, hint| problem.help(*hint))
        }
        ErrorKind::SecondDocument => {
            at("a second YAML document starts here".to_owned()).help("a plan file is one document: write a second file")
        }
        ErrorKind::TooDeep { max } => at(format!("nested more than {max} levels deep")),
        ErrorKind::TooLarge { max } => at(format!("more than {max} values, aliases expanded")),
        ErrorKind::AliasInsideAnchor => at("this alias refers to a value that contains it".to_owned()),
    }
}

/// Returns the problem of a key that is a list or a mapping. Usually this is a template without quotes. The text after such a
/// template may not be YAML, so the part that was read of a broken text is searched too.
fn wrong_key(text: &str, tree: &Tree) -> Option<Diagnostic> {
    let is_template = |id: &NodeId| {
        let node = tree.node(*id);
        let start = node.span.start;
        matches!(node.content, Content::Mapping(_)) && text[..start].ends_with('{') && text[start..].starts_with('{')
    };
    let templates = (0..tree.nodes().len()).filter(is_template);
    let keys = tree.nodes().iter().flat_map(|node| match &node.content {
        Content::Mapping(entries) => entries.iter().map(|(key, _)| *key).collect(),
        _ => Vec::new(),
    });
    let id = templates.chain(keys.filter(|key| tree.text(*key).is_none())).min()?;
    let problem = Diagnostic::at(tree.node(id).span.clone(), "a key has to be a word");
    Some(if is_template(&id) { problem.help("a template has to be in quotes: \"{{ … }}\"") } else { problem })
}

/// Returns a node with its aliases expanded. The parser has already checked the limits.
fn node(tree: &Tree, id: NodeId) -> Node {
    let written = tree.node(id);
    let value = match &written.content {
        Content::Scalar { text, style } => {
            let plain = *style == yaml::Style::Plain && !is_tagged_string(written);
            let style = if plain { Style::Plain } else { Style::Quoted };
            Value::Scalar(Scalar { text: text.clone(), style })
        }
        Content::Sequence(items) => Value::Sequence(items.iter().map(|item| node(tree, *item)).collect()),
        Content::Mapping(entries) => {
            let mut names = HashSet::new();
            let mut is_read = |key: NodeId| tree.text(key).is_some_and(|name| name != "<<" && names.insert(name));
            let entries = entries.iter().filter(|(key, _)| is_read(*key));
            Value::Mapping(entries.map(|(key, value)| (node(tree, *key), node(tree, *value))).collect())
        }
        Content::Alias(target) => node(tree, *target).value,
    };
    Node { span: written.span.clone(), value }
}

/// Returns the problems of YAML that plan files do not support.
fn flaws(tree: &Tree) -> Vec<Diagnostic> {
    let mut flaws = Vec::new();
    let mut keys = HashSet::new();
    for node in tree.nodes() {
        let is_read = |tag: &str| matches!(tag.strip_prefix(CORE), Some("str" | "map" | "seq"));
        if node.tag.as_deref().is_some_and(|tag| !is_read(tag)) {
            let problem = Diagnostic::at(node.span.clone(), "YAML tags (`!…`) are not read");
            flaws.push(problem.help("remove the tag"));
        }
        if let Content::Mapping(entries) = &node.content {
            keys.extend(entries.iter().map(|(key, _)| *key));
        }
    }
    for (id, node) in tree.nodes().iter().enumerate() {
        let span = node.span.clone();
        if keys.contains(&id) && tree.text(id) == Some("<<") {
            let problem = Diagnostic::at(span, "merge keys (`<<`) are not read");
            flaws.push(problem.help("write the keys out"));
        } else if !keys.contains(&id) && is_ambiguous_number(node) {
            let message = "a bare number with a leading zero is octal to some YAML readers and decimal to others \
                           (0400 is not 400)";
            let text = tree.text(id).unwrap_or("0400");
            flaws.push(Diagnostic::at(span, message).help(format!("write it in quotes: \"{text}\"")));
        }
    }
    for duplicate in tree.duplicates() {
        let name = tree.text(duplicate.second).unwrap_or_default();
        if name != "<<" {
            let span = |key: NodeId| tree.node(key).span.clone();
            let problem = Diagnostic::at(span(duplicate.second), format!("key `{name}` is given twice"));
            flaws.push(problem.related(span(duplicate.first), "the first one").help("keep one of them"));
        }
    }
    flaws
}

fn is_tagged_string(node: &yaml::Node) -> bool {
    node.tag.as_deref().and_then(|tag| tag.strip_prefix(CORE)) == Some("str")
}

/// Returns whether YAML readers disagree about a number: `0400` is 400 for some and 256 for others.
fn is_ambiguous_number(node: &yaml::Node) -> bool {
    let Content::Scalar { text, style: yaml::Style::Plain } = &node.content else { return false };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !is_tagged_string(node)
        && digits.len() > 1
        && digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the places, in bytes, of values that are written where a secret belongs.
fn secrets(tree: &Tree) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    for node in tree.nodes() {
        let Content::Mapping(entries) = &node.content else { continue };
        for (key, value) in entries {
            let Some(name) = tree.text(*key) else { continue };
            if is_sensitive(name) {
                hide(tree, *value, &mut secrets);
            } else if tree.text(*value).is_some_and(|text| login(text).is_some()) {
                secrets.push(tree.node(tree.resolve(*value)).span.clone());
            }
        }
    }
    secrets.sort_by_key(|secret| (secret.start, secret.end));
    secrets.dedup();
    secrets
}

/// Hides a value that is written where a secret belongs. The words of a secret source only name the secret, so they are shown.
fn hide(tree: &Tree, id: NodeId, secrets: &mut Vec<Range<usize>>) {
    match &tree.node(id).content {
        Content::Sequence(items) => items.iter().for_each(|item| hide(tree, *item, secrets)),
        Content::Mapping(entries) => {
            let shown = |key: NodeId| matches!(tree.text(key), Some("env" | "file" | "command" | "encoding" | "json"));
            entries.iter().filter(|(key, _)| !shown(*key)).for_each(|(_, value)| hide(tree, *value, secrets));
        }
        Content::Scalar { text, style } => {
            let is_null = *style == yaml::Style::Plain && is_null(text);
            // A template names a secret but does not contain it.
            if !is_null && !text.contains("{{") {
                secrets.push(tree.node(id).span.clone());
            }
        }
        Content::Alias(target) => hide(tree, *target, secrets),
    }
}
