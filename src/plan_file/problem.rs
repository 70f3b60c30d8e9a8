//! What is wrong with a plan file, and where.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Keys under which people put secrets, though they should not: their values are not shown in an error.
const SENSITIVE: [&str; 4] = ["value", "password", "source", "url"];

/// One thing that is wrong, with its place in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `None`: no single place (the file as a whole, the command line).
    pub span: Option<Range<usize>>,
    pub message: String,
    pub help: Option<String>,
    /// The problem is that this environment variable is not set: no fault of the plan file.
    pub unset: Option<String>,
}

impl Problem {
    /// A problem at a place.
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into(), help: None, unset: None }
    }

    /// A problem of the file as a whole.
    pub fn of_file(message: impl Into<String>) -> Self {
        Self { span: None, message: message.into(), help: None, unset: None }
    }

    /// The same problem with its remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All that is wrong with a plan file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The plan file as the user named it.
    pub path: String,
    pub text: String,
    pub list: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl std::fmt::Display for Problems {
    /// Each problem as rustc shows its own: message, file, line and column, the source line, the remedy.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&self.render(problem))?;
        }
        Ok(())
    }
}

impl Problems {
    fn render(&self, problem: &Problem) -> String {
        let title = Level::ERROR.primary_title(problem.message.as_str());
        let line;
        let mut group = match &problem.span {
            Some(span) => {
                let place = self.place(span);
                line = place.text;
                Group::with_title(title).element(
                    Snippet::source(line.as_str())
                        .path(self.path.as_str())
                        .line_start(place.number)
                        .annotation(AnnotationKind::Primary.span(place.columns)),
                )
            }
            None => Group::with_title(title).element(annotate_snippets::Origin::path(self.path.as_str())),
        };
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::plain().render(&[group])
    }

    /// The line that a span starts in, what may not be shown left out, and the span within that line.
    fn place(&self, span: &Range<usize>) -> Place {
        let start = span.start.min(self.text.len());
        let begin = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let shown = mask(&self.text[begin..end]);
        let from = (start - begin).min(shown.len());
        let to = (span.end.min(end).max(start) - begin).clamp(from, shown.len());
        let columns = if shown.is_char_boundary(from) && shown.is_char_boundary(to) { from..to } else { 0..0 };
        Place { number: self.text[..start].matches('\n').count() + 1, columns, text: shown }
    }

    /// Line and column (both from 1, in characters) of a problem.
    pub fn line_and_column(&self, problem: &Problem) -> Option<(usize, usize)> {
        let span = problem.span.as_ref()?;
        let start = span.start.min(self.text.len());
        let begin = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        Some((self.text[..start].matches('\n').count() + 1, self.text[begin..start].chars().count() + 1))
    }
}

struct Place {
    number: usize,
    columns: Range<usize>,
    text: String,
}

/// A source line without a value that stands where a secret would, were it written into the plan file by mistake. A
/// mapping (`{ env: NAME }`), a template and a null name a source and are shown.
fn mask(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    for (at, _) in line.match_indices(':') {
        let before = line[..at].trim_end_matches(['"', '\'']);
        let key = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("");
        let value = line[at + 1..].trim_start();
        let named = value.is_empty()
            || value.starts_with('{')
            || value.starts_with('#')
            || value.trim_start_matches('"').starts_with("{{")
            || matches!(value.trim_end_matches([' ', '}', ',']), "null" | "~");
        if SENSITIVE.contains(&key) && line[at + 1..].starts_with([' ', '\t']) && !named {
            return format!("{} (hidden)", &line[..=at]);
        }
    }
    line.to_owned()
}

/// The known word that is nearest to a wrong one, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean …", or else the words to choose from.
pub fn suggest(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "there is none to choose from".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_where_a_secret_would_stand_is_hidden() {
        assert_eq!(mask("      value: hunter2"), "      value: (hidden)");
        assert_eq!(mask("    password: 'hunter2' # x"), "    password: (hidden)");
        assert_eq!(mask("  w: { url: x, password: hunter2 }"), "  w: { url: (hidden)");
        assert_eq!(mask("      value: { env: NAME }"), "      value: { env: NAME }");
        assert_eq!(mask("    url: \"{{ env_var('URL') }}\""), "    url: \"{{ env_var('URL') }}\"");
    }

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("ownr", ["owner", "group"]), Some("owner"));
        assert_eq!(nearest("xyzzy", ["owner", "group"]), None);
    }
}
