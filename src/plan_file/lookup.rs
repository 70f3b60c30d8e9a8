//! One evaluation of a template: what it can look up, what went wrong, and where.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Object, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value as Jinja};

use super::code;
use super::diagnostic::{Diagnostic, login, suggest};
use super::place::Place;
use super::secret_uses::{SecretUse, SecretUses};

/// The maximum number of instructions of a template, so that every loop ends.
const FUEL: u64 = 200_000;

/// The functions, which templates look up like variables.
const FUNCTIONS: [&str; 5] = ["env_var", "secret", "range", "dict", "namespace"];
/// A function of Jinja that writes out everything that it knows.
const DEBUG: &str = "debug";

/// The values from outside the plan file that are part of a password in a URL, by name. No template shows them elsewhere.
#[derive(Debug, Clone, Default)]
pub(super) struct UrlSecrets {
    pub environment: BTreeSet<String>,
    /// Values of `--var`.
    pub given: BTreeSet<String>,
}

/// The values that templates get from the plan file and from the user.
pub(super) trait Scope: fmt::Debug + Send + Sync {
    /// Returns the value of a variable, or `None` if no variable has the name. `inside` contains the variables whose evaluation
    /// led to the template that uses it.
    ///
    /// # Errors
    /// The variable's own template is wrong, or needs one of those in `inside`.
    fn variable(self: Arc<Self>, name: &str, inside: &[String]) -> Result<Option<Jinja>, Diagnostic>;

    /// Returns the variables that the plan file declares.
    fn declared(&self) -> Vec<&str>;

    /// Returns whether the plan file declares a variable.
    fn is_declared(&self, name: &str) -> bool;

    /// Returns whether a variable may contain a secret, by its name or by the values that it was made from.
    fn is_telling(&self, name: &str) -> bool;

    /// Returns what an environment variable is if it is a secret, and the only place where it can be used. Other templates must
    /// not show its value.
    fn secret_use(&self, name: &str) -> Option<(&'static str, &'static str)>;

    /// Returns the value of an environment variable if it is set.
    fn environment(&self, name: &str) -> Option<&str>;

    /// Returns the prefix of the placeholder for an unset environment variable: the prefix, the name and `>`. `None` if there
    /// is no placeholder.
    fn placeholder(&self) -> Option<&'static str>;

    /// Returns the value of every unset environment variable, and of a null inside a text.
    fn stand_in(&self) -> Option<&'static str>;
}

/// The context of one evaluation.
#[derive(Debug)]
pub(super) struct Lookup {
    scope: Arc<dyn Scope>,
    place: Place,
    /// The variables whose evaluation led to this one.
    inside: Vec<String>,
    /// The secrets that may be inserted. `None` if no secret may be.
    pub(super) secrets: Option<SecretUses>,
    /// The first problem, and the word of the template that it is about.
    problem: Mutex<Option<(Diagnostic, Option<String>)>>,
    unknown: Mutex<Option<String>>,
    /// The values of the environment variables that were used. Any of them may be a secret.
    given: Mutex<Vec<String>>,
    /// Whether the evaluation used a value whose name suggests a secret, or a URL with a password.
    is_telling: AtomicBool,
}

impl Lookup {
    /// Creates an evaluation of the template at `place`, inside the evaluation of the variables `inside`.
    pub(super) fn new(scope: Arc<dyn Scope>, place: Place, inside: &[String]) -> Arc<Self> {
        Arc::new(Self::of(scope, place, inside, None))
    }

    /// Creates an evaluation that can insert secrets.
    pub(super) fn with_secrets(scope: Arc<dyn Scope>, place: Place, secrets: SecretUses) -> Arc<Self> {
        Arc::new(Self::of(scope, place, &[], Some(secrets)))
    }

    fn of(scope: Arc<dyn Scope>, place: Place, inside: &[String], secrets: Option<SecretUses>) -> Self {
        let (problem, unknown, given) = (Mutex::default(), Mutex::default(), Mutex::default());
        let is_telling = AtomicBool::new(false);
        Self { scope, place, inside: inside.to_vec(), secrets, problem, unknown, given, is_telling }
    }

    /// Returns Jinja with the functions of plan files.
    pub(super) fn environment(self: &Arc<Self>) -> Environment<'static> {
        let mut jinja = Environment::new();
        jinja.remove_global(DEBUG);
        jinja.set_undefined_behavior(UndefinedBehavior::Strict);
        jinja.set_fuel(Some(FUEL));
        let env = Arc::clone(self);
        jinja.add_function("env_var", move |name: String, default: Rest<Jinja>| env.env_var(&name, &default));
        if self.secrets.is_some() {
            let look = Arc::clone(self);
            jinja.add_function("secret", move |name: String| look.secret(&name));
        }
        let look = Arc::clone(self);
        jinja.set_formatter(move |out, state, value| look.format(out, state, value));
        jinja
    }

    fn format(&self, out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Jinja) -> Result<(), Error> {
        if let (Some(uses), Some(secret)) = (&self.secrets, value.downcast_object_ref::<SecretUse>()) {
            return uses.put_in(secret, out, state);
        }
        if value.is_none() {
            if let Some(stand_in) = self.scope.stand_in() {
                return out.write_str(stand_in).map_err(Error::from);
            }
            let problem = Diagnostic::of_file("a variable without a value is used inside a text")
                .help("give the variable a value (--var NAME=VALUE), or write a default: {{ name or '…' }}");
            self.note(problem, None);
            return Err(Error::new(ErrorKind::InvalidOperation, "none in the middle of a text"));
        }
        if !is_text(value) {
            let problem = Diagnostic::of_file("the template shows an object of Jinja, not a value")
                .help("name one of its attributes, as in {{ loop.index }}");
            self.note(problem, None);
            return Err(Error::new(ErrorKind::InvalidOperation, "an object of Jinja in the middle of a text"));
        }
        minijinja::escape_formatter(out, state, value)
    }

    /// Returns whether the evaluation may have used a secret through a variable.
    pub(super) fn may_hold_secret(&self) -> bool {
        self.is_telling.load(Ordering::Relaxed)
    }

    fn note_value(&self, name: &str, value: &Jinja) {
        let has_login = value.as_str().is_some_and(|value| login(value).is_some());
        self.is_telling.fetch_or(self.scope.is_telling(name) || has_login, Ordering::Relaxed);
    }

    fn env_var(&self, name: &str, default: &[Jinja]) -> Result<Jinja, Error> {
        if let Some((secret, only)) = self.scope.secret_use(name) {
            let message = format!("environment variable {name} is {secret}, so a template cannot show its value");
            let help = if self.secrets.is_some() {
                format!(
                    "name it under `secrets` of the step, secrets: {{ password: {{ env: {name} }} }}, and write \
                     {{{{ secret('password') }}}} here"
                )
            } else {
                format!("use a variable that is not a secret; only {only} can contain it")
            };
            self.note(Diagnostic::of_file(message).help(help), Some(name));
            return Err(Error::new(ErrorKind::InvalidOperation, "a secret cannot be used here"));
        }
        if let Some(value) = self.scope.environment(name) {
            self.given.lock().unwrap_or_else(PoisonError::into_inner).push(value.to_owned());
            let value = Jinja::from(value);
            self.note_value(name, &value);
            return Ok(value);
        }
        if let (true, Some(stand_in)) = (default.is_empty(), self.scope.stand_in()) {
            return Ok(Jinja::from(stand_in));
        }
        // A name that comes from an expression may be a secret. A name that is written in the file is not. In a YAML string in
        // double quotes, a double quote is escaped.
        let quotes = ["'", "\"", "\\\""];
        let is_written = quotes.iter().any(|quote| self.place.file_text().contains(&format!("{quote}{name}{quote}")));
        match default {
            [] if !is_written => {
                let message = "env_var is called with a name that no environment variable has";
                let help = "write the name itself, in quotes: env_var('NAME')";
                self.note(Diagnostic::of_file(message).help(help), None);
                Err(Error::new(ErrorKind::UndefinedError, "an environment variable is not set"))
            }
            [] => {
                if let Some(placeholder) = self.scope.placeholder() {
                    return Ok(Jinja::from(format!("{placeholder}{name}>")));
                }
                self.note(Diagnostic { span: None, ..unset(name, &(0..0)) }, Some(name));
                Err(Error::new(ErrorKind::UndefinedError, format!("environment variable {name} is not set")))
            }
            [default] => Ok(default.clone()),
            _ => Err(Error::new(ErrorKind::TooManyArguments, "env_var takes a name and one default")),
        }
    }

    fn secret(&self, name: &str) -> Result<Jinja, Error> {
        let Some(uses) = &self.secrets else { return Err(Error::from(ErrorKind::UnknownFunction)) };
        uses.take(name).map_err(|problem| {
            self.note(problem, Some(name));
            Error::new(ErrorKind::InvalidOperation, "there is no such secret")
        })
    }

    fn note(&self, problem: Diagnostic, word: Option<&str>) {
        let noted = (problem, word.map(str::to_owned));
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(noted);
    }

    /// Returns the problem of a template that is too large, or of the first name in it that is undeclared, or is a function that is
    /// not called. Jinja accepts an undeclared name under `default`, in `is defined`, and in a branch that is not taken, so a typing
    /// error would go unnoticed. It shows a function as the word "function". Returns `None` if the template cannot be parsed.
    pub(super) fn problem_in(&self, jinja: &Environment<'_>, text: &str) -> Option<Diagnostic> {
        if let Some(code::TooLarge { problem, help, at }) = code::too_large(text) {
            return Some(self.place.mark(Diagnostic::at(self.place.line_at(at), problem).help(help)));
        }
        let mut unknown = code::undeclared(jinja, text)?;
        // Jinja counts `self` as declared, but it has no value here.
        unknown.insert("self".to_owned());
        unknown.retain(|name| !self.is_declared(name));
        let is_function = |word: &str| FUNCTIONS.contains(&word);
        let is_misused =
            |name: &code::Name<'_>| unknown.contains(name.word) && !(name.is_called && is_function(name.word));
        let first = code::names(text).into_iter().find(is_misused)?;
        let whole = self.place.span();
        Some(self.place.mark(match first.is_called {
            true => self.unknown_function(first.word, &whole),
            false if is_function(first.word) => self.uncalled_function(first.word, &whole),
            false => self.unknown_name(first.word, &whole),
        }))
    }

    /// Returns the problem of the template, given the error of its evaluation.
    pub(super) fn explain(&self, error: &Error) -> Diagnostic {
        let part = self.place.part(error);
        let noted = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((problem, word)) = noted {
            // The problem of a variable already has its place in the plan file.
            if problem.span.is_some() && problem.unset.is_none() {
                return problem;
            }
            let word = word.or(problem.unset.as_deref().map(str::to_owned));
            let span = word.map_or(part.clone(), |word| self.place.find(&word, &part));
            return self.place.mark(Diagnostic { span: Some(span), ..problem });
        }
        let is_known = self.unknown.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if let Some(problem) = self.secrets.as_ref().filter(|_| is_known).and_then(SecretUses::misuse) {
            let span = self.place.find("secret", &part);
            return self.place.mark(Diagnostic { span: Some(span), ..problem });
        }
        self.place.mark(self.explain_at(error, &part))
    }

    fn explain_at(&self, error: &Error, part: &Range<usize>) -> Diagnostic {
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(problem) = unknown.as_deref().and_then(|name| self.hyphenated(name, part)) {
            return problem;
        }
        match (error.kind(), unknown) {
            (ErrorKind::UndefinedError, Some(name)) => return self.unknown_variable(&name, part),
            (ErrorKind::UndefinedError, None) if error.detail().is_none() => {
                return Diagnostic::at(part.clone(), "the template uses an attribute that does not exist")
                    .help("variables are texts, numbers, true or false, and have no parts: {{ name }}");
            }
            (ErrorKind::UnknownFunction, _) if self.secrets.is_none() && self.asks_for_secret(error) => {
                return self.misplaced_secret(part);
            }
            (ErrorKind::UnknownFunction, Some(name)) => return self.unknown_function(&name, part),
            (ErrorKind::MissingArgument, _) => {
                // With a filter or several calls, Jinja does not say which of them it is.
                let is_called = |name: &str| self.place.is_the_only_call(name, part);
                let help = if is_called("env_var") {
                    "the function is env_var(NAME) or env_var(NAME, DEFAULT)"
                } else if is_called("secret") {
                    "the function is secret(NAME), with a name under `secrets` of the step"
                } else {
                    "give the arguments that the function or filter of Jinja needs, as in {{ name | replace('a', 'b') }}"
                };
                return Diagnostic::at(part.clone(), "a function or filter in the template lacks an argument")
                    .help(help);
            }
            (ErrorKind::OutOfFuel, _) => {
                let help =
                    if self.place.has_loop() { "shorten the loop, or remove it" } else { "shorten the expression" };
                return Diagnostic::at(part.clone(), "evaluating the template takes too long").help(help);
            }
            _ => {}
        }
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let shows_one = |detail: &&str| given.iter().any(|value| !value.is_empty() && detail.contains(value.as_str()));
        let detail = error.detail().filter(|detail| !shows_one(detail)).unwrap_or("it cannot be evaluated");
        let help = if self.secrets.is_none() {
            "templates are Jinja: {{ name }}, {{ name or 'default' }}, {{ env_var('NAME') }}"
        } else {
            "the text is a Jinja template: {{ name }}, {{ secret('NAME') }}; what is to stay as it is goes between \
             {% raw %} and {% endraw %}"
        };
        let open = if detail.contains("end of comment") { self.place.open_comment() } else { None };
        Diagnostic::at(open.unwrap_or_else(|| part.clone()), format!("the template is wrong: {detail}")).help(help)
    }

    fn asks_for_secret(&self, error: &Error) -> bool {
        error.detail().is_some_and(|detail| detail.split_whitespace().any(|word| word == "secret"))
    }

    fn is_declared(&self, name: &str) -> bool {
        self.scope.is_declared(name)
    }

    fn unknown_function(&self, name: &str, part: &Range<usize>) -> Diagnostic {
        Diagnostic::at(self.place.find(name, part), format!("unknown function `{name}`"))
            .help("the functions are env_var(NAME) and env_var(NAME, DEFAULT)")
    }

    fn uncalled_function(&self, name: &str, part: &Range<usize>) -> Diagnostic {
        if name == "secret" && self.secrets.is_none() {
            return self.misplaced_secret(part);
        }
        let arguments = match name {
            "env_var" | "secret" => "'NAME'",
            "range" => "3",
            _ => "",
        };
        Diagnostic::at(
            self.place.find(name, part),
            format!("`{name}` is a function, and the template does not call it"),
        )
        .help(format!("call it: {name}({arguments})"))
    }

    fn misplaced_secret(&self, part: &Range<usize>) -> Diagnostic {
        Diagnostic::at(self.place.find("secret", part), "a secret cannot be used here").help(
            "a template puts a secret into text that a step writes, by the name under its `secrets`; elsewhere it is given \
             by its source: { env: NAME }",
        )
    }

    fn unknown_name(&self, name: &str, part: &Range<usize>) -> Diagnostic {
        self.hyphenated(name, part).unwrap_or_else(|| self.unknown_variable(name, part))
    }

    /// Returns the problem of a name with hyphens that contains `name`. Jinja reads `app-dir` as `app` minus `dir`, but its
    /// author means a name.
    fn hyphenated(&self, name: &str, part: &Range<usize>) -> Option<Diagnostic> {
        let name = self.place.hyphenated(name, part, |name| self.is_declared(name))?;
        let better = name.replace('-', "_");
        Some(
            Diagnostic::at(self.place.find(&name, part), format!("a name cannot contain `-`: `{name}`"))
                .help(format!("call the variable `{better}`, here and under `vars:`"))
                .of_variable(&name),
        )
    }

    fn unknown_variable(&self, name: &str, part: &Range<usize>) -> Diagnostic {
        let known = self.scope.declared();
        let place = self.place.find(name, part);
        let before = self.place.file_text().get(..place.start).unwrap_or_default().trim_end();
        let help = if before.ends_with("env_var(") {
            format!("the name of an environment variable is in quotes: env_var('{name}')")
        } else if before.ends_with("secret(") {
            format!("the name of a secret is in quotes: secret('{name}')")
        } else if known.is_empty() {
            format!("declare it: `vars:` at the top, with `{name}: …` below it")
        } else {
            suggest(name, &known)
        };
        Diagnostic::at(place, format!("variable `{name}` is not declared")).help(help).of_variable(name)
    }
}

impl Object for Lookup {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let name = key.as_str()?;
        match Arc::clone(&self.scope).variable(name, &self.inside) {
            Ok(Some(value)) => {
                self.note_value(name, &value);
                Some(value)
            }
            Ok(None) => {
                if !FUNCTIONS.contains(&name) {
                    *self.unknown.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
                }
                None
            }
            Err(problem) => {
                self.note(problem, None);
                Some(Jinja::from(Error::new(ErrorKind::InvalidOperation, "a variable cannot be evaluated")))
            }
        }
    }
}

/// Returns whether a template can write out a value. Functions and loops have only a description.
fn is_text(value: &Jinja) -> bool {
    let begins_with = |mark: char| value.to_string().starts_with(mark);
    match value.kind() {
        ValueKind::Plain => false,
        ValueKind::Map => begins_with('{'),
        ValueKind::Seq | ValueKind::Iterable => begins_with('['),
        _ => true,
    }
}

/// Returns the problem of an environment variable that is not set.
pub(super) fn unset(name: &str, span: &Range<usize>) -> Diagnostic {
    let mut problem = Diagnostic::at(span.clone(), format!("environment variable {name} is not set"))
        .help(format!("set {name}, or give a default: env_var('{name}', '…')"));
    problem.unset = Some(name.into());
    problem
}
