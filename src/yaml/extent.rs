//! The exact bytes of a scalar. The parser's begin with an anchor or a tag, and may end behind a comment.

use std::ops::Range;

/// Where a value begins, behind its anchor, its tag, and the blanks and comments after these.
pub(super) fn value_start(text: &str, span: &Range<usize>) -> usize {
    let mut at = span.start;
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        at += rest.len() - trimmed.len();
        if trimmed.starts_with("!<") {
            at += trimmed.find('>').map_or(trimmed.len(), |end| end + 1);
        } else if trimmed.starts_with(['&', '!']) {
            at += trimmed.find([' ', '\t', '\r', '\n', ',', ']', '}']).unwrap_or(trimmed.len());
        } else if trimmed.starts_with('#') && at < span.end {
            at += trimmed.find('\n').unwrap_or(trimmed.len());
        } else {
            return at;
        }
    }
}

/// The end of the quoted scalar that begins at `start`, its closing quote included.
pub(super) fn closing_quote(text: &str, start: usize) -> Option<usize> {
    let mut rest = text.get(start..)?.char_indices();
    let (_, quote) = rest.next()?;
    while let Some((at, c)) = rest.next() {
        if c == '\\' && quote == '"' {
            rest.next();
        } else if c == quote {
            if quote == '\'' && rest.as_str().starts_with('\'') {
                rest.next();
            } else {
                return Some(start + at + 1);
            }
        }
    }
    None
}
