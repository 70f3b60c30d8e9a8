//! Evaluates Jinja in strings, as Airflow and dbt users write it, when a step needs the value.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::{Error, ErrorKind, Value as Jinja};

use super::code;
use super::diagnostic::{Diagnostic, is_telling};
use super::lookup::{Lookup, Scope, UrlSecrets, unset};
use super::node::{Node, Scalar, Style, Value};
use super::place::Place;
use crate::host::fs::Locator;
use crate::host::warehouse::ClientDefaults;
use crate::plan::claim::{Host, Unseen};

/// The values that templates can use besides the plan file itself.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The values of `--var`.
    pub vars: BTreeMap<String, String>,
    /// The environment of the process that the user started.
    pub env: BTreeMap<String, String>,
    /// The defaults that connections take from the same environment.
    pub client: ClientDefaults,
    /// Whether the host may be read to find out what two steps share: its symlinks and compose files.
    pub host: HostAccess,
}

/// Whether the host may be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostAccess {
    /// Only the text of the plan file is checked.
    #[default]
    None,
    Read,
}

impl HostAccess {
    /// Returns the host as claims see it.
    pub fn view(self) -> Box<dyn Host> {
        match self {
            Self::None => Box::new(Unseen),
            Self::Read => Box::new(Locator::default()),
        }
    }
}

/// Evaluates strings against the plan file's variables.
#[derive(Debug, Clone)]
pub struct Evaluator(pub(super) Arc<Templates>);

/// The data that all templates of a plan file use.
#[derive(Debug, Clone)]
pub(super) struct Templates {
    /// The text of the plan file, in which the place of a word of a template is found.
    text: Arc<str>,
    vars: BTreeMap<String, Node>,
    inputs: Inputs,
    /// If set, an unset environment variable is shown as this prefix, its name and `>`.
    placeholder: Option<&'static str>,
    /// If set, the value of every unset environment variable, and of a null in the middle of a text.
    stand_in: Option<&'static str>,
    /// Variables that have been evaluated. Each is evaluated once.
    known: Arc<Mutex<BTreeMap<String, Node>>>,
    /// The evaluated variables that may contain a secret, by the values that they were made from.
    telling: Arc<Mutex<BTreeSet<String>>>,
    /// Variables on the way to a cycle or to a chain that is too deep. They are reported once.
    entangled: Arc<Mutex<BTreeSet<String>>>,
    /// The environment variables that are sources of secrets.
    secret_sources: Arc<BTreeSet<String>>,
    url_secrets: Arc<UrlSecrets>,
}

/// The maximum depth to which variables need each other. The evaluation recurses.
const MAX_DEPTH: usize = 32;
/// The maximum size of an evaluated string, in bytes (1 MiB). A few variables that double each other would fill the memory.
pub(super) const MAX_LENGTH: usize = 1 << 20;

/// Stands for every value from outside the plan file.
pub(super) const OUTSIDE: &str = "\u{F8FF}";

impl Evaluator {
    /// Creates an evaluator for the `vars` of a plan file and the user's inputs.
    pub fn new(text: &str, vars: BTreeMap<String, Node>, inputs: Inputs) -> Self {
        Self(Arc::new(Templates {
            text: text.into(),
            vars,
            inputs,
            placeholder: None,
            stand_in: None,
            known: Arc::default(),
            telling: Arc::default(),
            entangled: Arc::default(),
            secret_sources: Arc::default(),
            url_secrets: Arc::default(),
        }))
    }

    /// Returns an evaluator whose templates cannot use these environment variables, nor the values that passwords in URLs
    /// consist of.
    pub fn without_secrets(&self, sources: BTreeSet<String>, url_secrets: UrlSecrets) -> Self {
        let (secret_sources, url_secrets, known) = (Arc::new(sources), Arc::new(url_secrets), Arc::default());
        Self(Arc::new(Templates { secret_sources, url_secrets, known, ..Templates::clone(&self.0) }))
    }

    /// Returns the evaluator for the `url` of a connection, which is never shown with its password.
    pub fn of_urls(&self) -> Self {
        self.without_secrets(BTreeSet::new(), UrlSecrets::default())
    }

    /// Returns the evaluator for the `url` of a remote, which is never shown with its password.
    pub fn of_remotes(&self) -> Self {
        self.without_secrets(BTreeSet::clone(&self.0.secret_sources), UrlSecrets::default())
    }

    /// Returns the values that templates can use besides the plan file itself.
    pub(super) fn inputs(&self) -> &Inputs {
        &self.0.inputs
    }

    /// Returns the same evaluator with other inputs.
    pub(super) fn with_inputs(&self, inputs: Inputs) -> Self {
        Self(Arc::new(Templates { inputs, known: Arc::default(), ..Templates::clone(&self.0) }))
    }

    /// Returns the same evaluator, which shows an unset environment variable as `placeholder`, its name and `>`.
    pub fn showing(&self, placeholder: Option<&'static str>) -> Self {
        Self(Arc::new(Templates { placeholder, known: Arc::default(), ..Templates::clone(&self.0) }))
    }

    /// Returns the same evaluator, with a replacement for missing values.
    pub(super) fn with_stand_in(&self, stand_in: &'static str) -> Self {
        Self(Arc::new(Templates { stand_in: Some(stand_in), known: Arc::default(), ..Templates::clone(&self.0) }))
    }

    /// Returns the same evaluator, with all values from outside the plan file replaced.
    pub(super) fn masked(&self) -> Self {
        let outside = |name: &String| (name.clone(), OUTSIDE.to_owned());
        let Inputs { vars, env, client, host } = &self.0.inputs;
        let inputs = Inputs {
            vars: vars.keys().map(outside).collect(),
            env: env.keys().map(outside).collect(),
            client: client.clone(),
            host: *host,
        };
        self.with_inputs(inputs)
    }

    /// Returns the same tree with every template evaluated. A template that needs an unset environment variable becomes
    /// [`Value::Unset`], which is an error when it is read.
    ///
    /// # Errors
    /// A template is wrong, a variable is unknown, or variables need each other.
    pub fn node(&self, node: &Node) -> Result<Node, Diagnostic> {
        self.0.node(node, &mut Vec::new())
    }

    /// Returns the problems of the variables. Variables that need each other are one problem, however many they are.
    pub fn problems_of_variables(&self) -> Vec<Diagnostic> {
        let templates = Arc::new(Templates { entangled: Arc::default(), ..Templates::clone(&self.0) });
        let mut problems: Vec<Diagnostic> = Vec::new();
        for (name, node) in &templates.vars {
            if templates.entangled.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
                continue;
            }
            let Err(problem) = templates.evaluated(name, node, &[]) else { continue };
            // A long chain of variables is too deep at many places.
            let is_same =
                |known: &Diagnostic| *known == problem || (known.message == problem.message && is_too_deep(&problem));
            if !problems.iter().any(is_same) {
                problems.push(problem);
            }
        }
        problems
    }

    /// Returns the text of the plan file.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Returns prose with its templates evaluated, or as written if they cannot be evaluated.
    pub fn prose(&self, node: &Node) -> String {
        let evaluated = self.node(node);
        evaluated.ok().as_ref().and_then(Node::text).or(node.text()).unwrap_or_default().trim().to_owned()
    }
}

impl Templates {
    fn node(self: &Arc<Self>, node: &Node, inside: &mut Vec<String>) -> Result<Node, Diagnostic> {
        let value = match &node.value {
            Value::Scalar(Scalar { text, .. }) if has_template(text) => match self.render(text, &node.span, inside) {
                Ok(value) => value,
                Err(Diagnostic { unset: Some(name), .. }) => Value::Unset(name.into()),
                Err(problem) => return Err(problem),
            },
            Value::Sequence(items) => {
                Value::Sequence(items.iter().map(|item| self.node(item, inside)).collect::<Result<_, _>>()?)
            }
            Value::Mapping(pairs) => Value::Mapping(
                pairs
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), self.node(value, inside)?)))
                    .collect::<Result<_, Diagnostic>>()?,
            ),
            other => other.clone(),
        };
        Ok(Node { span: node.span.clone(), value })
    }

    /// Evaluates a variable once.
    fn evaluated(self: &Arc<Self>, name: &str, node: &Node, inside: &[String]) -> Result<Node, Diagnostic> {
        if let Some(node) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(node.clone());
        }
        let mut inside = inside.to_vec();
        inside.push(name.to_owned());
        let node = self.node(node, &mut inside)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), node.clone());
        Ok(node)
    }

    fn note_entangled(&self, inside: &[String]) {
        self.entangled.lock().unwrap_or_else(PoisonError::into_inner).extend(inside.iter().cloned());
    }

    /// Returns the place of a template in the plan file.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::new(Arc::clone(&self.text), span.clone())
    }

    fn render(self: &Arc<Self>, text: &str, span: &Range<usize>, inside: &[String]) -> Result<Value, Diagnostic> {
        let look = Lookup::new(self.clone(), self.place(span), inside);
        let jinja = look.environment();
        if let Some(problem) = look.problem_in(&jinja, text) {
            return Err(problem);
        }
        let context = Jinja::from_dyn_object(Arc::clone(&look));
        let value = code::with_stack(text, || match single_expression(text) {
            Some(expression) => jinja.compile_expression(expression).and_then(|compiled| compiled.eval(context)),
            None => jinja.render_str(text, context).map(Jinja::from),
        });
        if let Some(variable) = inside.last().filter(|_| look.may_hold_secret()) {
            self.telling.lock().unwrap_or_else(PoisonError::into_inner).insert(variable.clone());
        }
        value.and_then(|value| scalar(&value)).map_err(|error| look.explain(&error))
    }
}

impl Scope for Templates {
    fn variable(self: Arc<Self>, name: &str, inside: &[String]) -> Result<Option<Jinja>, Diagnostic> {
        if let Some(value) = self.inputs.vars.get(name) {
            if self.url_secrets.given.contains(name) {
                let span = self.vars.get(name).map_or(0..0, |node| node.span.clone());
                let message =
                    format!("variable `{name}` is part of a password in a URL, so a template cannot show its value");
                return Err(Diagnostic::at(span, message)
                    .help("use a variable that is not a secret; only a `url` can contain it"));
            }
            return Ok(Some(Jinja::from(value.as_str())));
        }
        let Some(node) = self.vars.get(name) else { return Ok(None) };
        if let Some(at) = inside.iter().position(|outer| outer == name) {
            self.note_entangled(inside);
            // A cycle is one problem, regardless of where the evaluation enters it.
            let mut members = inside[at..].to_vec();
            let first = (0..members.len()).min_by_key(|at| &members[*at]).unwrap_or(0);
            members.rotate_left(first);
            members.push(members[0].clone());
            let span = self.vars.get(&members[0]).map_or_else(|| node.span.clone(), |node| node.span.clone());
            return Err(Diagnostic::at(
                span,
                format!("variables refer to each other in a circle: {}", members.join(" -> ")),
            )
            .help("give one of them a value of its own"));
        }
        if inside.len() >= MAX_DEPTH {
            self.note_entangled(inside);
            return Err(Diagnostic::at(node.span.clone(), too_deep()).help("write some of them out"));
        }
        let node = self.evaluated(name, node, inside)?;
        Ok(Some(match &node.value {
            _ if node.is_null() => Jinja::from(()),
            Value::Scalar(scalar) => native(scalar),
            Value::Unset(variable) => return Err(unset(variable, &node.span)),
            _ => Jinja::from(()),
        }))
    }

    fn declared(&self) -> Vec<&str> {
        self.vars.keys().map(String::as_str).collect()
    }

    fn is_declared(&self, name: &str) -> bool {
        self.vars.contains_key(name)
    }

    fn is_telling(&self, name: &str) -> bool {
        is_telling(name) || self.telling.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn secret_use(&self, name: &str) -> Option<(&'static str, &'static str)> {
        if self.secret_sources.contains(name) {
            return Some(("the source of a secret", "the `url` of a connection"));
        }
        self.url_secrets.environment.contains(name).then_some(("part of a password in a URL", "a `url`"))
    }

    fn environment(&self, name: &str) -> Option<&str> {
        self.inputs.env.get(name).map(String::as_str)
    }

    fn placeholder(&self) -> Option<&'static str> {
        self.placeholder
    }

    fn stand_in(&self) -> Option<&'static str> {
        self.stand_in
    }
}

fn too_deep() -> String {
    format!("variables refer to each other more than {MAX_DEPTH} levels deep")
}

fn is_too_deep(problem: &Diagnostic) -> bool {
    problem.message == too_deep()
}

/// Collects the names in `env_var('NAME')`.
pub(super) fn environment_names_in(text: &str, names: &mut BTreeSet<String>) {
    for (at, call) in text.match_indices("env_var") {
        let argument = text[at + call.len()..].trim_start().trim_start_matches('(').trim_start();
        let quote = argument.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let name = quote.and_then(|quote| argument[1..].split(quote).next());
        names.extend(name.map(str::to_owned));
    }
}

/// Collects the names in `env_var('NAME')` and in `{ env: NAME }`.
pub fn environment_names(node: &Node, names: &mut BTreeSet<String>) {
    collect_names(node, true, names);
}

/// Collects the names in `{ env: NAME }`, which are sources of secrets.
pub fn secret_names(node: &Node, names: &mut BTreeSet<String>) {
    collect_names(node, false, names);
}

fn collect_names(node: &Node, in_templates: bool, names: &mut BTreeSet<String>) {
    match &node.value {
        Value::Scalar(Scalar { text, .. }) if in_templates => environment_names_in(text, names),
        Value::Sequence(items) => items.iter().for_each(|item| collect_names(item, in_templates, names)),
        Value::Mapping(pairs) => {
            for (key, value) in pairs {
                match (key.text(), value.text()) {
                    (Some("env"), Some(name)) => names.extend([name.to_owned()]),
                    _ => collect_names(value, in_templates, names),
                }
            }
        }
        Value::Scalar(_) | Value::Unset(_) => {}
    }
}

pub(super) fn has_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// Returns the expression of a string that is one `{{ expression }}` and nothing else. Its value keeps its type, such as none.
fn single_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let plain = !["{{", "}}", "{%", "{#"].iter().any(|mark| inner.contains(mark));
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    plain.then(|| inner.strip_suffix('-').unwrap_or(inner).trim())
}

/// Returns the value of a variable with its type in the plan file.
fn native(scalar: &Scalar) -> Jinja {
    if matches!(scalar.style, Style::Plain | Style::Native) {
        if let Ok(number) = scalar.text.parse::<i64>() {
            return Jinja::from(number);
        }
        match scalar.text.as_str() {
            "true" | "True" | "TRUE" => return Jinja::from(true),
            "false" | "False" | "FALSE" => return Jinja::from(false),
            _ => {}
        }
    }
    Jinja::from(scalar.text.as_str())
}

fn scalar(value: &Jinja) -> Result<Value, Error> {
    use minijinja::value::ValueKind;
    let (text, style) = match value.kind() {
        ValueKind::None => (String::new(), Style::RenderedNone),
        ValueKind::Bool | ValueKind::Number => (value.to_string(), Style::Native),
        ValueKind::String if value.as_str().is_some_and(|text| text.len() > MAX_LENGTH) => {
            return Err(Error::new(ErrorKind::InvalidOperation, "it gives more than 1 MiB of text"));
        }
        ValueKind::String => (value.to_string(), Style::Rendered),
        ValueKind::Undefined => return Err(Error::new(ErrorKind::UndefinedError, "there is no such value")),
        other => {
            return Err(Error::new(ErrorKind::InvalidOperation, format!("a {other} cannot stand for a string")));
        }
    };
    Ok(Value::Scalar(Scalar { text, style }))
}
