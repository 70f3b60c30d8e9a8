//! The secrets that a template inserts into text: what stands for each while Jinja evaluates, and which uses are errors.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Object, ObjectRepr, Value as Jinja};
use minijinja::{AutoEscape, Error, ErrorKind, Output, State};

use super::diagnostic::{Diagnostic, suggest};
use crate::resource::document::{Document, Piece};

/// Encloses the number of a secret in Jinja's output. It is a noncharacter (Unicode 23.7), so no text contains it.
const MARK: char = '\u{10fffe}';
/// Precedes the number. A filter such as `upper` changes it, which reveals the misuse.
const WORD: &str = "sEcRet";

/// The secrets that a template can insert, and where it has inserted them.
///
/// Jinja never handles the value itself. A template that does more with a secret than insert it would therefore produce
/// something other than its author means. Each such use is a problem.
#[derive(Debug)]
pub(super) struct SecretUses {
    declared: BTreeSet<String>,
    taken: Mutex<Vec<Arc<SecretUse>>>,
    /// The names of the inserted secrets, in the order of their numbers.
    put_in: Mutex<Vec<String>>,
}

/// The result of `secret('NAME')`.
#[derive(Debug)]
pub(super) struct SecretUse {
    name: String,
    is_put_in: AtomicBool,
    is_misused: AtomicBool,
}

impl SecretUses {
    /// Creates the uses of these secrets. None of them is inserted yet.
    pub(super) fn new(declared: &BTreeSet<String>) -> Self {
        Self { declared: declared.clone(), taken: Mutex::default(), put_in: Mutex::default() }
    }

    /// Returns the secret of this name for the template.
    ///
    /// # Errors
    /// The secret is not declared.
    pub(super) fn take(&self, name: &str) -> Result<Jinja, Diagnostic> {
        if !self.declared.contains(name) {
            let known: Vec<&str> = self.declared.iter().map(String::as_str).collect();
            let help = if known.is_empty() {
                format!("declare it in the step's `file`: secrets: {{ {name}: {{ env: NAME }} }}")
            } else {
                suggest(name, &known)
            };
            return Err(Diagnostic::of_file(format!("secret `{name}` is not declared")).help(help));
        }
        let flags = (AtomicBool::new(false), AtomicBool::new(false));
        let taken = Arc::new(SecretUse { name: name.to_owned(), is_put_in: flags.0, is_misused: flags.1 });
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&taken));
        Ok(Jinja::from_dyn_object(taken))
    }

    /// Writes the placeholder of the secret.
    pub(super) fn put_in(&self, secret: &SecretUse, out: &mut Output<'_>, state: &State<'_, '_>) -> Result<(), Error> {
        if !matches!(state.auto_escape(), AutoEscape::None) {
            secret.is_misused.store(true, Ordering::Relaxed);
        }
        let mut put_in = self.put_in.lock().unwrap_or_else(PoisonError::into_inner);
        secret.is_put_in.store(true, Ordering::Relaxed);
        put_in.push(secret.name.clone());
        write!(out, "{MARK}{WORD}{}{MARK}", put_in.len() - 1).map_err(|_| Error::from(ErrorKind::WriteFailure))
    }

    /// Returns the problem of a template that failed because it did more with a secret than insert it.
    pub(super) fn misuse(&self) -> Option<Diagnostic> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().find(|used| !used.is_put_in.load(Ordering::Relaxed)).map(|used| misuse(&used.name))
    }

    /// Returns the output of a template, with the secrets in their places.
    pub(super) fn document(&self, rendered: &str) -> Result<Document, Diagnostic> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wrong =
            |used: &&Arc<SecretUse>| used.is_misused.load(Ordering::Relaxed) || !used.is_put_in.load(Ordering::Relaxed);
        if let Some(wrong) = taken.iter().find(is_wrong) {
            return Err(misuse(&wrong.name));
        }
        let names = self.put_in.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = names.first() else { return Ok(Document::new([Piece::Text(rendered.to_owned())])) };
        let mut left: BTreeSet<usize> = (0..names.len()).collect();
        let mut pieces = Vec::new();
        for (index, part) in rendered.split(MARK).enumerate() {
            if index % 2 == 0 {
                pieces.push(Piece::Text(part.to_owned()));
                continue;
            }
            let number: Option<usize> = part.strip_prefix(WORD).and_then(|number| number.parse().ok());
            match number.filter(|number| left.remove(number)).and_then(|number| names.get(number)) {
                Some(name) => pieces.push(Piece::Secret(name.clone())),
                None => return Err(misuse(first)),
            }
        }
        // A block was captured and dropped.
        if !left.is_empty() {
            return Err(misuse(first));
        }
        Ok(Document::new(pieces))
    }
}

fn misuse(name: &str) -> Diagnostic {
    Diagnostic::of_file(format!("secret `{name}` can only be put into the text as it is: {{{{ secret('{name}') }}}}"))
        .help("a filter, a comparison, an escape or a block that is set would need its value, which no template sees")
}

impl Object for SecretUse {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.is_misused.store(true, Ordering::Relaxed);
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.is_misused.store(true, Ordering::Relaxed);
        f.write_str("secret")
    }
}
