//! The problems of a plan file and their places.

use crate::text::nearest;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use serde::Serialize;

use crate::text::{Position, clean_lines, floor_char_boundary as floor};

/// Keys under which people write secrets by mistake. Errors do not show their values.
const SENSITIVE: [&str; 4] = ["value", "password", "source", "url"];
/// Parts of other keys that suggest a secret.
const TELLING: [&str; 6] = ["pass", "pwd", "secret", "token", "credential", "private"];

/// Returns whether the value of a key may be a secret. The key is one of [`SENSITIVE`], possibly misspelt, or contains a part
/// of [`TELLING`].
pub fn is_sensitive(key: &str) -> bool {
    nearest(&key.to_ascii_lowercase(), SENSITIVE).is_some() || is_telling(key)
}

/// Returns whether a name suggests that its value is a secret.
pub fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|part| name.contains(part))
}

/// Returns the byte at which the login of a URL with a password begins: after `://` in `scheme://user:password@host`.
pub fn login(text: &str) -> Option<usize> {
    let begins = text.match_indices("://").map(|(at, mark)| at + mark.len());
    begins.into_iter().find(|at| {
        let word = text[*at..].split(char::is_whitespace).next().unwrap_or_default();
        word.rfind('@').is_some_and(|end| word[..end].contains(':'))
    })
}

/// One problem, with its place in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// `None` if there is no single place (the file as a whole, the command line).
    pub span: Option<Range<usize>>,
    /// The file that the place is in, if it is not the plan file.
    pub file: Option<Arc<Source>>,
    pub message: String,
    /// Another place that is involved, with its label.
    pub related: Option<Box<(Range<usize>, String)>>,
    pub help: Option<String>,
    /// The environment variable that is not set, if that is the problem. The plan file may then be right.
    pub unset: Option<Box<str>>,
    /// The variable that is not declared, or declared wrongly, if its use is the problem.
    pub variable: Option<Box<str>>,
}

impl Diagnostic {
    /// Creates a problem at a place.
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span: Some(span), ..Self::of_file(message) }
    }

    /// Creates a problem of the file as a whole.
    pub fn of_file(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { span: None, file: None, message, related: None, help: None, unset: None, variable: None }
    }

    /// Returns the same problem in another file, which the plan file names at `named`.
    pub fn in_file(mut self, file: Arc<Source>, named: Range<usize>) -> Self {
        self.file = Some(file);
        self.related(named, "named here")
    }

    /// Returns the place of the problem in the plan file, or the place where the plan file names the problem's file.
    pub fn place(&self) -> Option<&Range<usize>> {
        match (&self.file, &self.related) {
            (Some(_), Some(related)) => Some(&related.0),
            (Some(_), None) => None,
            (None, _) => self.span.as_ref(),
        }
    }

    /// Returns the same problem with another place.
    pub fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related = Some(Box::new((span, label.into())));
        self
    }

    /// Returns the same problem, marked as the use of an undeclared variable.
    pub fn of_variable(mut self, name: &str) -> Self {
        self.variable = Some(name.into());
        self
    }

    /// Returns the same problem with its remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The text of a file, and how to show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The path of the file as the user gave it.
    pub path: String,
    pub text: String,
    /// The places that are hidden, in bytes.
    pub secrets: Vec<Range<usize>>,
}

/// Every problem of a plan file. The list is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    pub source: Source,
    pub list: Vec<Diagnostic>,
}

/// A problem for programs, with its place as line and column. The source line is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiagnosticPlace {
    pub message: String,
    pub help: Option<String>,
    /// The path of the file that the place is in, if it is not the plan file.
    pub file: Option<String>,
    /// The line, starting at 1. `None` if there is no single place.
    pub line: Option<usize>,
    /// The column in characters, starting at 1.
    pub column: Option<usize>,
}

impl Diagnostics {
    /// Returns the problems with their lines and columns.
    pub fn places(&self) -> Vec<DiagnosticPlace> {
        let place = |problem: &Diagnostic| {
            let source = problem.file.as_deref().unwrap_or(&self.source);
            let at = problem.span.as_ref().map(|span| Position::of(&source.text, span.start));
            DiagnosticPlace {
                message: problem.message.clone(),
                help: problem.help.clone(),
                file: problem.file.as_ref().map(|file| file.path.clone()),
                line: at.map(|at| at.line),
                column: at.map(|at| at.column),
            }
        };
        self.list.iter().map(place).collect()
    }
}

impl std::error::Error for Diagnostics {}

impl std::fmt::Display for Diagnostics {
    /// Writes each problem as rustc does: message, file, line and column, source line, help.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&self.source.render(problem))?;
        }
        Ok(())
    }
}

impl Source {
    fn render(&self, problem: &Diagnostic) -> String {
        let message = clean_lines(&problem.message);
        let title = Level::ERROR.primary_title(message.as_str());
        let file = problem.file.as_deref().unwrap_or(self);
        let place = problem.span.as_ref().map(|span| file.place(span));
        let related = problem.related.as_deref().map(|(span, label)| (self.place(span), clean_lines(label)));
        let help;
        let snippet = |source: &'_ Source, place: &'_ Place| {
            Snippet::source(place.text.clone()).path(source.path.clone()).line_start(place.number)
        };
        let mut group = Group::with_title(title);
        match &place {
            None => group = group.element(annotate_snippets::Origin::path(file.path.as_str())),
            Some(place) => {
                let mut main = snippet(file, place).annotation(AnnotationKind::Primary.span(place.columns.clone()));
                let context = related.as_ref().map(|(other, label)| {
                    (other, AnnotationKind::Context.span(other.columns.clone()).label(label.as_str()))
                });
                match context {
                    Some((other, context)) if other.number == place.number && problem.file.is_none() => {
                        main = main.annotation(context);
                        group = group.element(main);
                    }
                    Some((other, context)) => {
                        group = group.element(main).element(snippet(self, other).annotation(context));
                    }
                    None => group = group.element(main),
                }
            }
        }
        if let Some(text) = &problem.help {
            help = clean_lines(text);
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::plain().render(&[group])
    }

    /// Returns the line of the first value that may be a password: the first hidden value that is not a URL without a login.
    pub fn written_secret(&self) -> Option<usize> {
        let is_secret = |span: &&Range<usize>| {
            let key = self.text[..span.start].trim_end().trim_end_matches(':');
            let is_url = nearest(last_word(key), ["url"]).is_some();
            login(&self.text[(*span).clone()]).is_some() || !is_url
        };
        let span = self.secrets.iter().filter(is_secret).min_by_key(|span| span.start)?;
        Some(self.text[..span.start].matches('\n').count() + 1)
    }

    /// Returns the line in which a span starts, with its secrets hidden, and the span within that line.
    fn place(&self, span: &Range<usize>) -> Place {
        let mut start = floor(&self.text, span.start);
        let mut end = floor(&self.text, span.end).max(start);
        if start == self.text.len() {
            // The end of the file is shown after the last line that is not empty.
            start = self.text.trim_end().len();
            end = start;
        }
        let begin = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let number = self.text[..start].matches('\n').count() + 1;
        let line = self.text[begin..line_end].trim_end_matches('\r');
        let columns = start - begin..(end.min(line_end) - begin).max(start - begin);
        let (text, columns) = self.hide(line, begin, columns);
        Place { number, columns, text }
    }

    /// Returns the line that begins at `begin` with its secrets hidden, and the new position of `columns`.
    fn hide(&self, line: &str, begin: usize, columns: Range<usize>) -> (String, Range<usize>) {
        let within = |secret: &Range<usize>| {
            let range = secret.start.max(begin)..secret.end.min(begin + line.len());
            (range.start < range.end).then(|| range.start - begin..range.end - begin)
        };
        let mut secrets: Vec<Range<usize>> = self.secrets.iter().filter_map(within).collect();
        // Overlapping secrets are hidden as one.
        secrets.sort_by_key(|secret| secret.start);
        secrets.dedup_by(|next, kept| {
            let is_within = next.start < kept.end;
            if is_within {
                kept.end = kept.end.max(next.end);
            }
            is_within
        });
        if secrets.is_empty() {
            let before = self.text[..begin].trim_end().rsplit('\n').next().unwrap_or("");
            let shown = mask(line, before);
            let columns = floor(&shown, columns.start)..floor(&shown, columns.end);
            return (shown, columns);
        }
        let (mut shown, mut at) = (String::new(), 0);
        for secret in &secrets {
            shown.push_str(&line[at..secret.start]);
            shown.push_str(HIDDEN);
            at = secret.end;
        }
        shown.push_str(&line[at..]);
        // A column inside a secret moves to the nearest end of the placeholder.
        let moved = |column: usize, border: usize| {
            secrets.iter().fold(column, |moved, secret| {
                if column >= secret.end {
                    moved + HIDDEN.len() - secret.len()
                } else if column > secret.start {
                    moved + border - (column - secret.start)
                } else {
                    moved
                }
            })
        };
        let columns = moved(columns.start, 0)..moved(columns.end, HIDDEN.len());
        (shown, columns)
    }
}

/// The placeholder for a secret.
const HIDDEN: &str = "(hidden)";

struct Place {
    number: usize,
    columns: Range<usize>,
    text: String,
}

/// Hides a value after a key for secrets, or in the line below such a key. Used for lines that could not be parsed. A mapping
/// (`{ env: NAME }`), a template and a null are not secrets and are shown.
fn mask(line: &str, before: &str) -> String {
    for (at, _) in line.match_indices(':') {
        let value = line[at + 1..].trim_start();
        let named = value.is_empty()
            || value.starts_with(['{', '#', '|', '>'])
            || value.trim_start_matches(['"', '\'']).starts_with("{{")
            || matches!(value.trim_end_matches([' ', '}', ',']), "null" | "~");
        if is_sensitive(last_word(&line[..at])) && line[at + 1..].starts_with([' ', '\t']) && !named {
            return format!("{} {HIDDEN}", &line[..=at]);
        }
    }
    let opened = before.trim_end().trim_end_matches(['|', '>', '-', '+']).trim_end().strip_suffix(':');
    let named = ["env:", "file:", "command:"].iter().any(|word| line.trim_start().starts_with(word));
    if opened.is_some_and(|before| is_sensitive(last_word(before))) && !named && !line.trim().is_empty() {
        return format!("{}{HIDDEN}", &line[..line.len() - line.trim_start().len()]);
    }
    match login(line) {
        Some(at) => format!("{}{HIDDEN}", &line[..at]),
        None => line.to_owned(),
    }
}

/// Returns the key before a colon.
fn last_word(before: &str) -> &str {
    let before = before.trim_end().trim_end_matches(['"', '\'']);
    before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("")
}

/// Returns "did you mean …", or the known words if none is similar.
pub fn suggest(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "none is declared".to_owned(),
        None => format!("known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_where_a_secret_would_stand_is_hidden() {
        for (line, before, shown) in [
            ("      value: hunter2", "", "      value: (hidden)"),
            ("    password: 'hunter2' # x", "", "    password: (hidden)"),
            ("  w: { url: x, password: hunter2 }", "", "  w: { url: (hidden)"),
            ("      value: { env: NAME }", "", "      value: { env: NAME }"),
            ("    url: \"{{ env_var('URL') }}\"", "", "    url: \"{{ env_var('URL') }}\""),
            ("  hunter2", "value: |-", "  (hidden)"),
            ("  hunter2: [", "  \"password\":", "  (hidden)"),
            ("  env: NAME", "value:", "  env: NAME"),
            ("  owner: x", "path:", "  owner: x"),
            ("    pasword: hunter2", "", "    pasword: (hidden)"),
            ("    SMTP_TOKEN: hunter2", "", "    SMTP_TOKEN: (hidden)"),
            ("  dw: postgresql://etl:hunter2@h/d", "", "  dw: postgresql://(hidden)"),
            ("  dw: https://h:8080/d", "", "  dw: https://h:8080/d"),
            ("  repo: ssh://git@h:22/d", "", "  repo: ssh://git@h:22/d"),
        ] {
            assert_eq!(mask(line, before), shown);
        }
    }

    #[test]
    fn a_place_within_a_line_with_secrets_stays_where_it_is() {
        let text = "a: { value: s3cret, password: other, key: 1 }\n";
        let secrets = vec![12..18, 30..35];
        let source = Source { path: "x".to_owned(), text: text.to_owned(), secrets };
        let shown = |word: &str| {
            let at = text.find(word).unwrap();
            let place = source.place(&(at..at + word.len()));
            place.text[place.columns].to_owned()
        };
        assert_eq!(shown("key"), "key");
        assert_eq!(shown("password"), "password");
        assert_eq!(shown("a:"), "a:");
        assert_eq!(shown("s3cret"), HIDDEN);
        assert_eq!(shown("other"), HIDDEN);
        assert_eq!(source.place(&(0..1)).text, "a: { value: (hidden), password: (hidden), key: 1 }");
    }

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("ownr", ["owner", "group"]), Some("owner"));
        assert_eq!(nearest("xyzzy", ["owner", "group"]), None);
    }
}
