//! Makes untrusted text (file names, commits, server messages, plan files) safe for a terminal: it can neither control
//! the terminal nor change how the rest of a line looks.

#[cfg(test)]
mod commands;
pub mod layout;
mod nearest;
mod redacted_url;
mod shell;
mod stack;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

pub use nearest::nearest;
pub use redacted_url::{RedactedUrl, without_login};
pub use shell::{aside, aside_as, file_argument, file_word, shell_word, shell_words};
pub use stack::{MAX_CODE, with_stack_for};

/// Returns whether a character is invisible but has an effect: control characters, line and paragraph separators, and
/// Unicode's format characters (category Cf), which can reverse the order of a line (CVE-2021-42574).
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// Replaces hidden characters in part of a line, except tabs.
pub fn clean(text: &str) -> String {
    replace(text, "\t")
}

/// Replaces hidden characters in lines, except tabs and line ends.
pub fn clean_lines(text: &str) -> String {
    replace(text, "\t\n")
}

/// Replaces hidden characters in styled lines, except tabs, line ends and escapes. It is a second barrier: their parts
/// have been cleaned already.
pub fn clean_styled(text: &str) -> String {
    replace(text, "\t\n\u{1b}")
}

/// Returns the content of a file for a terminal: tabs and line ends stay, the other hidden characters and invalid UTF-8
/// become `\xNN` for each byte.
pub fn escape_content(bytes: &[u8]) -> String {
    escape(bytes, |c| is_hidden(c) && c != '\t' && c != '\n')
}

/// Returns the name of a file, without loss and in one line: hidden characters, backslashes, backticks and invalid UTF-8 become
/// `\xNN` for each byte. A name can neither control a terminal nor look like another name or the start of a command.
pub fn escape_name(bytes: &[u8]) -> String {
    escape(bytes, |c| is_hidden(c) || c == '\\' || c == '`')
}

/// Returns the bytes of a name from its text form ([`escape_name`]). `None` if it has an invalid escape.
pub fn unescape_name(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(rest.get(at + 2..at + 4)?, 16).ok()?);
        rest = &rest[at + 4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// Returns the path whose text form ([`escape_name`]) this is. A text with an invalid escape is the path itself.
pub fn path_of_name(text: &str) -> PathBuf {
    unescape_name(text).map_or_else(|| PathBuf::from(text), |bytes| OsString::from_vec(bytes).into())
}

fn escape(bytes: &[u8], is_escaped: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    let push = |text: &mut String, bytes: &[u8]| bytes.iter().for_each(|byte| *text += &format!("\\x{byte:02x}"));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_escaped(c) { push(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()) } else { text.push(c) }
        }
        push(&mut text, chunk.invalid());
    }
    text
}

/// Returns a count with its noun: `1 step`, `2 steps`.
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Returns the hint for a file that cannot be written: the limit on file sizes if that is the cause, or else `otherwise`.
pub fn storage_hint(error: &std::io::Error, otherwise: impl Into<String>) -> String {
    match error.kind() {
        std::io::ErrorKind::FileTooLarge => {
            "raise the limit on file sizes, then run again: `ulimit -f unlimited`".to_owned()
        }
        _ => otherwise.into(),
    }
}

/// Returns `directory /a` or `directories /a, /a/b`.
pub fn directories(paths: &[String]) -> String {
    format!("{} {}", if paths.len() == 1 { "directory" } else { "directories" }, paths.join(", "))
}

fn replace(text: &str, kept: &str) -> String {
    text.chars().map(|c| if is_hidden(c) && !kept.contains(c) { '\u{fffd}' } else { c }).collect()
}

/// Returns the text of a system error in lower case, without its number.
pub fn io_error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        // An abbreviation at the start keeps its capitals.
        Some(first) if !letters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// A place in a text as people count: the line and the column from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// The position of a byte. A byte inside of a character, or beyond the end, counts as the nearest character before it.
    pub fn of(text: &str, byte: usize) -> Self {
        let before = &text[..floor_char_boundary(text, byte)];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The nearest border of a character at or before a byte.
pub fn floor_char_boundary(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_format_and_control_character_is_hidden(text in "[\\p{Cf}\\p{Cc}\\p{Zl}\\p{Zp}]") {
            prop_assert!(text.chars().all(is_hidden), "{:?}", text);
        }

        #[test]
        fn visible_characters_are_kept(text in "[\\p{L}\\p{M}\\p{N}\\p{P}\\p{S} ]{0,20}") {
            prop_assert_eq!(clean(&text), text);
        }
    }

    #[test]
    fn escaped_content_is_distinguishable() {
        let escaped = escape_content(b"a\tb\n\x1b[31m\r\xff \xe2\x80\xae \xc2\x9b");
        assert_eq!(escaped, "a\tb\n\\x1b[31m\\x0d\\xff \\xe2\\x80\\xae \\xc2\\x9b");
    }

    #[test]
    fn positions_are_counted_in_characters_from_one() {
        let text = "a\n\u{e9}b\n";
        for (byte, line, column) in [(0, 1, 1), (1, 1, 2), (2, 2, 1), (3, 2, 1), (4, 2, 2), (6, 3, 1), (99, 3, 1)] {
            assert_eq!(Position::of(text, byte), Position { line, column }, "{byte}");
        }
        assert_eq!(Position { line: 3, column: 7 }.to_string(), "line 3, column 7");
    }
}
