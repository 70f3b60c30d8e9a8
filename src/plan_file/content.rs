//! Text that a step writes to its target, from the plan file or from a template beside it. The whole text is a template, which
//! can name the step's secrets. It keeps its last line ending.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value as Jinja;

use super::companion::Folder;
use super::diagnostic::{Diagnostic, Source};
use super::lookup::Lookup;
use super::node::{Node, Scalar, Style, Value};
use super::place::Place;
use super::secret_uses::SecretUses;
use super::template::{Evaluator, MAX_LENGTH, has_template};
use super::{code, de};
use crate::resource::Companion;
use crate::resource::document::{Document, Piece};

impl Evaluator {
    /// Evaluates a text of the plan file. The declared secrets become placeholders.
    ///
    /// # Errors
    /// The value is not a text, its template is wrong, or it names a secret that is not declared.
    pub fn document(&self, node: &Node, declared: &BTreeSet<String>) -> Result<Node, Diagnostic> {
        let text = match &node.value {
            Value::Scalar(Scalar { text, .. }) if has_template(text) => text,
            Value::Scalar(_) | Value::Unset(_) => return Ok(node.clone()),
            Value::Sequence(_) | Value::Mapping(_) => {
                return Err(Diagnostic::at(node.span.clone(), "expected a string, found a list or a mapping"));
            }
        };
        let place = self.0.place(&node.span).of_text(text);
        Ok(as_node(self.render_document(text, place, declared)?, &node.span))
    }

    /// Returns the evaluated text of the template file that a node names, and its unevaluated text if `folder` allows reading it.
    ///
    /// # Errors
    /// As [`Evaluator::document`], or the file cannot be read.
    pub fn template_file(
        &self,
        node: &Node,
        declared: &BTreeSet<String>,
        folder: &Folder,
    ) -> Result<(Node, Option<(Companion, String)>), Diagnostic> {
        let name = self.node(node)?;
        if name.is_null() || matches!(name.value, Value::Unset(_)) {
            return Ok((name, None));
        }
        let file: String = de::from_node(&name).map_err(|error| *error.problem)?;
        let read = folder.read(&file).map_err(|failure| {
            let problem = Diagnostic::at(node.span.clone(), failure.message);
            Diagnostic { help: failure.hint, ..problem }
        })?;
        let (document, companion) = match read {
            None => (Document::default(), None),
            Some((companion, text)) => {
                let source = Arc::new(Source { path: companion.shown(), text, secrets: Vec::new() });
                let place = Place::of_file(Arc::clone(&source), node.span.clone());
                (self.render_document(&source.text, place, declared)?, Some((companion, source.text.clone())))
            }
        };
        let key = |word: &str| text_node(word, &node.span);
        let pairs = vec![(key("file"), key(&file)), (key("text"), as_node(document, &node.span))];
        Ok((Node { span: node.span.clone(), value: Value::Mapping(pairs) }, companion))
    }

    fn render_document(&self, text: &str, place: Place, declared: &BTreeSet<String>) -> Result<Document, Diagnostic> {
        if !has_template(text) {
            return Ok(Document::new([Piece::Text(text.to_owned())]));
        }
        let span = place.span();
        let look = Lookup::with_secrets(self.0.clone(), place.clone(), SecretUses::new(declared));
        let mut jinja = look.environment();
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        jinja.set_syntax(syntax.map_err(|error| look.explain(&error))?);
        if let Some(problem) = look.problem_in(&jinja, text) {
            return Err(problem);
        }
        let context = Jinja::from_dyn_object(Arc::clone(&look));
        let rendered = code::with_stack(text, || jinja.render_str(text, context));
        let rendered = rendered.map_err(|error| look.explain(&error))?;
        if rendered.len() > MAX_LENGTH {
            return Err(place.mark(Diagnostic::at(span, "the template gives more than 1 MiB of text")));
        }
        let Some(uses) = &look.secrets else { return Ok(Document::default()) };
        let document = uses.document(&rendered).map_err(|problem| {
            let at = place.find("secret", &place.span());
            place.mark(Diagnostic { span: Some(at), ..problem })
        })?;
        Ok(if look.may_hold_secret() { document.hidden() } else { document })
    }
}

fn text_node(text: &str, span: &Range<usize>) -> Node {
    let scalar = Scalar { text: text.to_owned(), style: Style::Quoted };
    Node { span: span.clone(), value: Value::Scalar(scalar) }
}

/// Returns a document in the form that its kind reads.
fn as_node(document: Document, span: &Range<usize>) -> Node {
    if let Some(text) = document.text() {
        return text_node(text, span);
    }
    let piece = |piece: &Piece| {
        let (key, text) = match piece {
            Piece::Text(text) => ("text", text),
            Piece::Hidden(text) => ("hidden", text),
            Piece::Secret(name) => ("secret", name),
        };
        Node { span: span.clone(), value: Value::Mapping(vec![(text_node(key, span), text_node(text, span))]) }
    };
    Node { span: span.clone(), value: Value::Sequence(document.pieces().iter().map(piece).collect()) }
}
