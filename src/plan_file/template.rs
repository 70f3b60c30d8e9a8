//! Evaluates Jinja in strings, as Airflow and dbt users write it, at the time a step needs the value.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Object, Rest};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Jinja};

use super::diagnostic::{Diagnostic, suggest};
use super::node::{Node, Scalar, Style, Value};
use crate::host::fs::Locator;
use crate::plan::claim::{Host, Unseen};

/// What templates can use besides the plan file itself.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// `--var K=V`.
    pub vars: BTreeMap<String, String>,
    /// The environment of the process that the user started.
    pub env: BTreeMap<String, String>,
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
    /// The host as claims see it.
    pub fn view(self) -> Box<dyn Host> {
        match self {
            Self::None => Box::new(Unseen),
            Self::Read => Box::new(Locator::default()),
        }
    }
}

/// Evaluates strings against the plan file's variables.
#[derive(Debug, Clone)]
pub struct Evaluator(Arc<Scope>);

#[derive(Debug, Clone)]
struct Scope {
    /// The text of the plan file, to find the place of a word in a template.
    text: Arc<str>,
    vars: BTreeMap<String, Node>,
    inputs: Inputs,
    /// If set, an unset environment variable is shown as this prefix, its name and `>`.
    placeholder: Option<&'static str>,
    /// Variables that have been evaluated. Each is evaluated once.
    known: Arc<Mutex<BTreeMap<String, Node>>>,
}

/// How deep variables may need each other. The evaluation recurses.
const MAX_DEPTH: usize = 32;
/// Bytes of an evaluated string (1 MiB): a few variables that double each other would fill the memory.
const MAX_LENGTH: usize = 1 << 20;
/// Instructions that a template may take, so that every loop ends.
const FUEL: u64 = 200_000;

impl Evaluator {
    /// An evaluator for the `vars` of a plan file and what the user gave.
    pub fn new(text: &str, vars: BTreeMap<String, Node>, inputs: Inputs) -> Self {
        Self(Arc::new(Scope { text: text.into(), vars, inputs, placeholder: None, known: Arc::default() }))
    }

    /// The same, with an unset environment variable shown as its name behind `placeholder` and before `>`.
    pub fn showing(&self, placeholder: Option<&'static str>) -> Self {
        Self(Arc::new(Scope { placeholder, known: Arc::default(), ..Scope::clone(&self.0) }))
    }

    /// The same tree with every template evaluated. A template that needs an unset environment variable becomes
    /// [`Value::Unset`], which is an error once it is read.
    ///
    /// # Errors
    /// If a template is wrong, a variable is unknown, or variables need each other.
    pub fn node(&self, node: &Node) -> Result<Node, Diagnostic> {
        self.0.node(node, &mut Vec::new())
    }

    /// The text of the plan file.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Prose with its templates evaluated, or as it is written if they cannot be evaluated.
    pub fn prose(&self, node: &Node) -> String {
        let evaluated = self.node(node);
        evaluated.ok().as_ref().and_then(Node::text).or(node.text()).unwrap_or_default().trim().to_owned()
    }
}

impl Scope {
    fn node(self: &Arc<Self>, node: &Node, inside: &mut Vec<String>) -> Result<Node, Diagnostic> {
        let value = match &node.value {
            Value::Scalar(Scalar { text, .. }) if has_template(text) => match self.render(text, &node.span, inside) {
                Ok(value) => value,
                Err(Diagnostic { unset: Some(name), .. }) => Value::Unset(name),
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

    fn variable(self: &Arc<Self>, name: &str, node: &Node, inside: &[String]) -> Result<Node, Diagnostic> {
        if let Some(node) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(node.clone());
        }
        let mut inside = inside.to_vec();
        inside.push(name.to_owned());
        let node = self.node(node, &mut inside)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), node.clone());
        Ok(node)
    }

    fn render(self: &Arc<Self>, text: &str, span: &Range<usize>, inside: &[String]) -> Result<Value, Diagnostic> {
        let look = Arc::new(Lookup {
            scope: Arc::clone(self),
            inside: inside.to_vec(),
            problem: Mutex::default(),
            unknown: Mutex::default(),
            given: Mutex::default(),
        });
        let mut jinja = Environment::new();
        jinja.set_undefined_behavior(UndefinedBehavior::Strict);
        jinja.set_fuel(Some(FUEL));
        let env = Arc::clone(&look);
        jinja.add_function("env_var", move |name: String, default: Rest<Jinja>| env.env_var(&name, &default));
        let within = Arc::clone(&look);
        jinja.set_formatter(move |out, state, value| {
            if value.is_none() {
                within.note(
                    Diagnostic::of_file("the template gives none in the middle of a text")
                        .help("give the variable a value (--var NAME=VALUE), or write a default: {{ name or '…' }}"),
                );
                return Err(Error::new(ErrorKind::InvalidOperation, "none in the middle of a text"));
            }
            minijinja::escape_formatter(out, state, value)
        });
        let context = Jinja::from_dyn_object(Arc::clone(&look));
        let value = match single_expression(text) {
            Some(expression) => jinja.compile_expression(expression).and_then(|compiled| compiled.eval(context)),
            None => jinja.render_str(text, context).map(Jinja::from),
        };
        value.and_then(|value| scalar(&value)).map_err(|error| look.explain(&error, span))
    }

    /// The word with hyphens in a template that contains an undeclared name.
    fn hyphenated(&self, part: &str, span: &Range<usize>) -> Option<String> {
        let source = self.text.get(span.clone())?;
        let words = source.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'));
        let mut words = words.map(|word| word.trim_matches('-')).filter(|word| word.contains('-'));
        let is_meant = |word: &&str| {
            let mut names = word.split('-');
            names.clone().any(|name| name == part) && !names.any(|name| self.vars.contains_key(name))
        };
        words.find(is_meant).map(str::to_owned)
    }

    /// The place of a word in a template, or of the whole template if the word is not found.
    fn find(&self, word: &str, span: &Range<usize>) -> Range<usize> {
        let source = self.text.get(span.clone()).unwrap_or_default();
        let borders = |at: usize| {
            let letter = |c: char| c.is_alphanumeric() || c == '_';
            !source[..at].ends_with(letter) && !source[at + word.len()..].starts_with(letter)
        };
        let inside = source.find(['{']).unwrap_or(0);
        let found = source.match_indices(word).map(|(at, _)| at).find(|at| *at >= inside && borders(*at));
        found.filter(|_| !word.is_empty()).map_or(span.clone(), |at| {
            let start = span.start + at;
            start..start + word.len()
        })
    }
}

/// What one evaluation may look up, and what went wrong in it.
#[derive(Debug)]
struct Lookup {
    scope: Arc<Scope>,
    /// The variables whose evaluation led to this one.
    inside: Vec<String>,
    problem: Mutex<Option<Diagnostic>>,
    unknown: Mutex<Option<String>>,
    /// The values of environment variables that were used. One of them may be a secret.
    given: Mutex<Vec<String>>,
}

impl Lookup {
    fn variable(&self, name: &str) -> Result<Option<Jinja>, Diagnostic> {
        if let Some(value) = self.scope.inputs.vars.get(name) {
            return Ok(Some(Jinja::from(value.as_str())));
        }
        let Some(node) = self.scope.vars.get(name) else { return Ok(None) };
        if let Some(at) = self.inside.iter().position(|outer| outer == name) {
            let chain = [&self.inside[at..], &[name.to_owned()]].concat().join(" -> ");
            return Err(Diagnostic::at(node.span.clone(), format!("variables need each other: {chain}"))
                .help("give one of them a value of its own"));
        }
        if self.inside.len() >= MAX_DEPTH {
            return Err(Diagnostic::at(node.span.clone(), format!("variables need each other {MAX_DEPTH} deep"))
                .help("write some of them out"));
        }
        let node = self.scope.variable(name, node, &self.inside)?;
        Ok(Some(match &node.value {
            _ if node.is_null() => Jinja::from(()),
            Value::Scalar(scalar) => native(scalar),
            Value::Unset(variable) => return Err(unset(variable, &node.span)),
            _ => Jinja::from(()),
        }))
    }

    fn env_var(&self, name: &str, default: &[Jinja]) -> Result<Jinja, Error> {
        if let Some(value) = self.scope.inputs.env.get(name) {
            self.given.lock().unwrap_or_else(PoisonError::into_inner).push(value.clone());
            return Ok(Jinja::from(value.as_str()));
        }
        // A name that an expression gave may be a secret. A name that is written in the plan file is not.
        let is_written = ['\'', '"'].iter().any(|quote| self.scope.text.contains(&format!("{quote}{name}{quote}")));
        match default {
            [] if !is_written => {
                self.note(
                    Diagnostic::of_file("no environment variable has the name that the template gives to env_var")
                        .help("write the name itself, in quotes: env_var('NAME')"),
                );
                Err(Error::new(ErrorKind::UndefinedError, "an environment variable is not set"))
            }
            [] if self.scope.placeholder.is_some() => {
                Ok(Jinja::from(format!("{}{name}>", self.scope.placeholder.unwrap_or_default())))
            }
            [] => {
                self.note(unset(name, &(0..0)));
                Err(Error::new(ErrorKind::UndefinedError, format!("environment variable {name} is not set")))
            }
            [default] => Ok(default.clone()),
            _ => Err(Error::new(ErrorKind::TooManyArguments, "env_var takes a name and one default")),
        }
    }

    fn note(&self, problem: Diagnostic) {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
    }

    fn explain(&self, error: &Error, span: &Range<usize>) -> Diagnostic {
        if let Some(mut problem) = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take() {
            match &problem.unset {
                Some(name) => problem.span = Some(self.scope.find(name, span)),
                None => drop(problem.span.get_or_insert_with(|| span.clone())),
            }
            return problem;
        }
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner).take();
        let known: Vec<&str> = self.scope.vars.keys().map(String::as_str).collect();
        // For Jinja `app-dir` is `app` minus `dir`; for its author it is a name.
        if let Some(name) = unknown.as_deref().and_then(|name| self.scope.hyphenated(name, span)) {
            let better = name.replace('-', "_");
            return Diagnostic::at(self.scope.find(&name, span), format!("a name cannot contain `-`: `{name}`"))
                .help(format!("call the variable `{better}`, here and under `vars:`"))
                .of_variable(&name);
        }
        match (error.kind(), unknown) {
            (ErrorKind::UndefinedError, Some(name)) => {
                let place = self.scope.find(&name, span);
                let before = self.scope.text.get(..place.start).unwrap_or_default().trim_end();
                let help = if before.ends_with("env_var(") {
                    format!("the name of an environment variable is in quotes: env_var('{name}')")
                } else if known.is_empty() {
                    format!("declare it: `vars:` at the top, with `{name}: …` below it")
                } else {
                    suggest(&name, &known)
                };
                return Diagnostic::at(place, format!("variable `{name}` is not declared"))
                    .help(help)
                    .of_variable(&name);
            }
            (ErrorKind::UnknownFunction, Some(name)) => {
                return Diagnostic::at(self.scope.find(&name, span), format!("there is no function `{name}`"))
                    .help("the functions are env_var(NAME) and env_var(NAME, DEFAULT)");
            }
            (ErrorKind::OutOfFuel, _) => {
                return Diagnostic::at(span.clone(), "the template takes too long").help("remove the loop");
            }
            _ => {}
        }
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let shows_one = |detail: &&str| given.iter().any(|value| !value.is_empty() && detail.contains(value.as_str()));
        let detail = error.detail().filter(|detail| !shows_one(detail)).unwrap_or("it cannot be evaluated");
        Diagnostic::at(span.clone(), format!("the template is wrong: {detail}"))
            .help("templates are Jinja: {{ name }}, {{ name or 'default' }}, {{ env_var('NAME') }}")
    }
}

impl Object for Lookup {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let name = key.as_str()?;
        match self.variable(name) {
            Ok(Some(value)) => Some(value),
            Ok(None) => {
                if name != "env_var" {
                    *self.unknown.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
                }
                None
            }
            Err(problem) => {
                self.note(problem);
                Some(Jinja::from(Error::new(ErrorKind::InvalidOperation, "a variable cannot be evaluated")))
            }
        }
    }
}

/// Collects the names in `env_var('NAME')` and in `{ env: NAME }`.
pub fn environment_names(node: &Node, names: &mut BTreeSet<String>) {
    match &node.value {
        Value::Scalar(Scalar { text, .. }) => {
            for (at, call) in text.match_indices("env_var") {
                let argument = text[at + call.len()..].trim_start().trim_start_matches('(').trim_start();
                let quote = argument.chars().next().filter(|c| matches!(c, '\'' | '"'));
                let name = quote.and_then(|quote| argument[1..].split(quote).next());
                names.extend(name.map(str::to_owned));
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| environment_names(item, names)),
        Value::Mapping(pairs) => {
            for (key, value) in pairs {
                match (key.text(), value.text()) {
                    (Some("env"), Some(name)) => names.extend([name.to_owned()]),
                    _ => environment_names(value, names),
                }
            }
        }
        Value::Unset(_) => {}
    }
}

fn unset(name: &str, span: &Range<usize>) -> Diagnostic {
    let mut problem = Diagnostic::at(span.clone(), format!("environment variable {name} is not set"))
        .help(format!("set {name}, or give a default: env_var('{name}', '…')"));
    problem.unset = Some(name.to_owned());
    problem
}

pub(super) fn has_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// The expression of a string that is one `{{ expression }}` and nothing else. Its value keeps its type, such as none.
fn single_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let plain = !["{{", "}}", "{%", "{#"].iter().any(|mark| inner.contains(mark));
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    plain.then(|| inner.strip_suffix('-').unwrap_or(inner).trim())
}

/// The value of a variable with its type in the plan file.
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
