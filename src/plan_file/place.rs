//! The place of a template: in the plan file, or in a file beside it.

use std::ops::Range;
use std::sync::Arc;

use minijinja::Error;

use super::diagnostic::{Diagnostic, Source};
use crate::text::Position;
use crate::yaml;

/// A template's place in a file, which finds the places within the template.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The text of the whole file.
    text: Arc<str>,
    span: Range<usize>,
    holds: Holds,
}

/// The content of a place.
#[derive(Debug, Clone)]
enum Holds {
    /// A string of the plan file.
    String,
    /// A longer text of the plan file, with its value. Places in it are found by line.
    Text(Arc<str>),
    /// A separate file, and the place where the plan file names it.
    File(Arc<Source>, Range<usize>),
}

impl Place {
    /// Creates the place of a string in the plan file.
    pub(super) fn new(text: Arc<str>, span: Range<usize>) -> Self {
        Self { text, span, holds: Holds::String }
    }

    /// Returns the same place for a longer text with the value `text`. Places in it are found by line.
    pub(super) fn of_text(self, text: &str) -> Self {
        Self { holds: Holds::Text(text.into()), ..self }
    }

    /// Creates the place of a file that the plan file names at `named`.
    pub(super) fn of_file(file: Arc<Source>, named: Range<usize>) -> Self {
        Self { text: file.text.as_str().into(), span: 0..file.text.len(), holds: Holds::File(file, named) }
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns the text of the whole file.
    pub(super) fn file_text(&self) -> &str {
        &self.text
    }

    /// Returns the same problem, marked as a problem of this file.
    pub(super) fn mark(&self, problem: Diagnostic) -> Diagnostic {
        match &self.holds {
            Holds::File(file, named) => problem.in_file(Arc::clone(file), named.clone()),
            Holds::String | Holds::Text(_) => problem,
        }
    }

    /// Returns the part that an error is about, or else the whole place.
    pub(super) fn part(&self, error: &Error) -> Range<usize> {
        self.line(|template| {
            let before = error.line()?.checked_sub(1)?;
            Some(template.split_inclusive('\n').take(before).map(str::len).sum())
        })
    }

    /// Returns the line of the template that contains a position in it, or else the whole place.
    pub(super) fn line_at(&self, position: usize) -> Range<usize> {
        self.line(|template| Some(template.get(..position)?.rfind('\n').map_or(0, |end| end + 1)))
    }

    /// Returns the line that begins where `start` says, or else the whole place.
    fn line(&self, start: impl Fn(&str) -> Option<usize>) -> Range<usize> {
        let line = |template: &str| trimmed_line(template, start(template)?);
        let part = match &self.holds {
            Holds::String => None,
            Holds::Text(text) => line(text).and_then(|line| self.in_text(text, &line)),
            Holds::File(file, _) => line(&file.text),
        };
        part.unwrap_or_else(|| self.span.clone())
    }

    /// Returns whether a part of the template calls a function, and neither another one nor a filter.
    pub(super) fn is_the_only_call(&self, function: &str, part: &Range<usize>) -> bool {
        self.text.get(part.clone()).is_some_and(|source| {
            let calls: Vec<&str> = source.split_inclusive('(').filter(|text| text.ends_with('(')).collect();
            let is_own = |text: &str| text.trim_end_matches('(').trim_end().ends_with(function);
            matches!(calls[..], [one] if is_own(one)) && !source.contains('|')
        })
    }

    /// Returns the place of a line of the text in the plan file.
    fn in_text(&self, text: &str, line: &Range<usize>) -> Option<Range<usize>> {
        let first = yaml::locate(&self.text, &self.span, text, Position::of(text, line.start))?;
        let shown = self.text[first.start..].lines().next()?;
        Some(first.start..first.start + line.len().min(shown.len()))
    }

    /// Returns the place of the start of a comment that is not closed, if there is one.
    pub(super) fn open_comment(&self) -> Option<Range<usize>> {
        let source = self.text.get(self.span.clone())?;
        let mut from = 0;
        loop {
            let opened = from + source[from..].find("{#")?;
            match source[opened..].find("#}") {
                Some(closed) => from = opened + closed,
                None => return Some(self.span.start + opened..self.span.start + opened + 2),
            }
        }
    }

    /// Returns whether the template has a loop.
    pub(super) fn has_loop(&self) -> bool {
        let source = self.text.get(self.span.clone()).unwrap_or_default();
        source.split("{%").skip(1).any(|code| code.trim_start_matches(['-', '+']).trim_start().starts_with("for "))
    }

    /// Returns the place of a word of the template within a part of it, or else that part.
    pub(super) fn find(&self, word: &str, part: &Range<usize>) -> Range<usize> {
        let source = self.text.get(part.clone()).unwrap_or_default();
        let borders = |at: usize| {
            let letter = |c: char| c.is_alphanumeric() || c == '_';
            !source[..at].ends_with(letter) && !source[at + word.len()..].starts_with(letter)
        };
        // Code is in an expression or a block, and not in the text around them.
        let is_code = |at: usize| {
            let before = &source[..at];
            let opened = before.rfind("{{").max(before.rfind("{%"));
            opened.is_some() && opened > before.rfind("}}").max(before.rfind("%}"))
        };
        let inside = source.find(['{']).unwrap_or(0);
        let all = || source.match_indices(word).map(|(at, _)| at).filter(|at| borders(*at));
        let found = all().find(|at| is_code(*at)).or_else(|| all().find(|at| *at >= inside));
        match found.filter(|_| !word.is_empty()) {
            Some(at) => part.start + at..part.start + at + word.len(),
            // Sometimes the line of an error is the one where a block begins.
            None if *part != self.span => self.find(word, &self.span),
            None => part.clone(),
        }
    }

    /// Returns a word with hyphens in the template that contains an undeclared name.
    pub(super) fn hyphenated(
        &self,
        part: &str,
        within: &Range<usize>,
        is_declared: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let source = self.text.get(within.clone())?;
        let words = source.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'));
        let mut words = words.map(|word| word.trim_matches('-')).filter(|word| word.contains('-'));
        let is_meant = |word: &&str| {
            let mut names = word.split('-');
            names.clone().any(|name| name == part) && !names.any(&is_declared)
        };
        words.find(is_meant).map(str::to_owned)
    }
}

/// Returns the line of a template that begins at `start`, without the spaces around it.
fn trimmed_line(template: &str, start: usize) -> Option<Range<usize>> {
    let line = template.get(start..)?.lines().next()?;
    let start = start + line.len() - line.trim_start().len();
    Some(start..start + line.trim().len())
}
