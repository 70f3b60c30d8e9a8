//! From a place in a scalar's text to the place in the source.

use std::ops::Range;

use crate::text::Position;

/// The word of the source that stands at `position` of a scalar's text.
///
/// `span` is the scalar's place in the source. The text up to the position has to be written there as it reads: in the
/// lines of a literal block, or in one line without escapes. A template or a folded line before the position gives `None`.
pub fn locate(source: &str, span: &Range<usize>, text: &str, position: Position) -> Option<Range<usize>> {
    let after_quote = source.get(span.start..)?.starts_with(['"', '\'']).then_some(span.start + 1);
    locate_from(source, span.start, text, position).or_else(|| locate_from(source, after_quote?, text, position))
}

fn locate_from(source: &str, start: usize, text: &str, position: Position) -> Option<Range<usize>> {
    // The span of a block begins with its first line that is not empty, behind the indentation.
    let empty = text.len() - text.trim_start_matches('\n').len();
    let count = position.line.checked_sub(empty)?;
    let lines: Vec<&str> = text.split('\n').skip(empty).take(count).collect();
    let (last, before) = lines.split_last().filter(|_| lines.len() == count)?;
    let indent = start - source[..start].rfind('\n').map_or(0, |end| end + 1);
    let mut at = start;
    for line in before {
        let (written, rest) = source[at..].split_once('\n')?;
        if written.trim_end_matches('\r') != *line {
            return None;
        }
        let blank = rest.len() - rest.trim_start_matches(' ').len();
        at += written.len() + 1 + blank.min(indent);
    }
    let offset =
        last.char_indices().map(|(offset, _)| offset).chain([last.len()]).nth(position.column.checked_sub(1)?)?;
    let word = last[offset..].find(char::is_whitespace).unwrap_or(last.len() - offset);
    let end = offset + word;
    source[at..].starts_with(&last[..end]).then_some(at + offset..at + end)
}
