//! The changes of a text as lines of a unified diff.

use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};

use crate::text::escape_content;

/// The maximum size of a text that is kept to be shown, in bytes (256 KiB).
const MAX_TEXT_BYTES: usize = 256 << 10;
/// The maximum number of different lines, of both texts together, that are compared line by line.
const MAX_COMPARED_LINES: usize = 4_000;
/// The maximum number of lines of a diff that are shown. The others are only counted.
const MAX_SHOWN_LINES: usize = 100;
/// The maximum length of a line that is shown, in characters.
const MAX_LINE_CHARS: usize = 300;
/// The number of unchanged lines around a change, as in diff(1).
const CONTEXT: usize = 3;

/// What a plan may show of a file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "text", rename_all = "snake_case")]
pub enum Shown {
    Text(String),
    /// Not every user may read it, or its desired content has secrets.
    Private,
    Binary,
    /// It is too long to be compared line by line.
    Long,
}

/// Returns what a plan may show of bytes that every user may read.
pub(super) fn shown(bytes: &[u8]) -> Shown {
    match std::str::from_utf8(bytes) {
        _ if bytes.contains(&0) => Shown::Binary,
        Err(_) => Shown::Binary,
        Ok(_) if bytes.len() > MAX_TEXT_BYTES => Shown::Long,
        Ok(text) => Shown::Text(text.to_owned()),
    }
}

/// The difference between two texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TextChange {
    pub added: usize,
    pub removed: usize,
    /// The lines of a unified diff.
    pub lines: String,
}

/// Compares two texts. Returns `None` if too many lines differ.
pub(super) fn compare(old: &str, new: &str) -> Option<TextChange> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    if differing(&old, &new) > MAX_COMPARED_LINES {
        return None;
    }
    let diff = TextDiff::configure().diff_slices(&old, &new);
    let count = |wanted: ChangeTag| diff.iter_all_changes().filter(|change| change.tag() == wanted).count();
    let (added, removed) = (count(ChangeTag::Insert), count(ChangeTag::Delete));
    let mut lines = Lines::default();
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        lines.push("", &hunk.header().to_string());
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Equal => " ",
                ChangeTag::Delete => "-",
                ChangeTag::Insert => "+",
            };
            let value = change.value();
            lines.push(sign, value.strip_suffix('\n').unwrap_or(value));
            if !value.ends_with('\n') {
                lines.push("", "\\ No newline at end of file");
            }
        }
    }
    Some(TextChange { added, removed, lines: lines.finish() })
}

/// Returns how many lines of both texts remain without those that are the same at the start and at the end.
fn differing(old: &[&str], new: &[&str]) -> usize {
    let same = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let (old, new) = (&old[same..], &new[same..]);
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(one, other)| one == other).count();
    old.len() + new.len() - 2 * same
}

#[derive(Default)]
struct Lines {
    text: String,
    shown: usize,
    left_out: usize,
}

impl Lines {
    fn push(&mut self, sign: &str, line: &str) {
        if self.shown == MAX_SHOWN_LINES {
            self.left_out += 1;
            return;
        }
        self.shown += 1;
        let line = escape_content(line.as_bytes());
        let cut: String = line.chars().take(MAX_LINE_CHARS).collect();
        let more = if cut.len() < line.len() { "…" } else { "" };
        self.text.push_str(&format!("{sign}{cut}{more}\n"));
    }

    fn finish(mut self) -> String {
        if self.left_out > 0 {
            self.text.push_str(&format!("… {} more lines\n", self.left_out));
        }
        self.text
    }
}
