//! The `.env` file beside a compose file, read and written as Compose does.
//!
//! The grammar is that of compose-go's `dotenv/parser.go`:
//! - `NAME=value` or `NAME: value`, with an optional `export` before it. A name alone stands for a variable of the shell.
//! - Text in single quotes is taken as it is, except `\'`.
//! - Double quotes have the escapes `\a \b \f \n \r \t \v \\ \" \$` and `\0NNN`, and variables are substituted.
//! - Without quotes, a value ends at ` #` or at the end of the line. Spaces at its end are dropped. Variables are substituted.
//! - The last value of a name counts.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use zeroize::{Zeroize, Zeroizing};

use super::document::Unreadable;
use super::interpolation::{self, Template};
use crate::text::Position;

/// One statement of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub value: Value,
    /// The bytes of the value with its quotes.
    pub range: Range<usize>,
    pub quote: Option<char>,
    /// From 1.
    pub line: usize,
}

/// The value of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// Compose substitutes variables in it, or refuses it.
    Expanded,
    /// The name stands alone. The value is that of the shell.
    Inherited,
}

/// The text may be a password.
impl Drop for Value {
    fn drop(&mut self) {
        if let Self::Text(text) = self {
            text.zeroize();
        }
    }
}

/// The text of a file. Compose takes any bytes, so those that are not UTF-8 become private characters, which no file has.
///
/// Returns `None` if the file has such a character.
pub fn decode(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for chunk in bytes.utf8_chunks() {
        if chunk.valid().contains(|c| FOREIGN.contains(&u32::from(c))) {
            return None;
        }
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(FOREIGN.start() + u32::from(*byte))));
    }
    Some(text)
}

/// The bytes of a text from [`decode`].
pub fn encode(text: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    for c in text.chars() {
        match u8::try_from(u32::from(c).wrapping_sub(*FOREIGN.start())) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The last private characters, one for each byte.
const FOREIGN: RangeInclusive<u32> = 0x10_ff00..=0x10_ffff;

/// Reads all entries, in the order of the file.
pub fn read(text: &str) -> Result<Vec<Entry>, Unreadable> {
    let mut entries = Vec::new();
    let mut at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while let Some(start) = statement(text, at) {
        let (entry, next) = entry(text, start)?;
        entries.push(entry);
        at = next;
    }
    Ok(entries)
}

/// The entry that gives `name` its value.
pub fn last<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Entry> {
    entries.iter().rfind(|entry| entry.name == name && entry.value != Value::Inherited)
}

/// The values of all variables. `outer` has the values from outside of the file, which count more in substitutions.
///
/// # Errors
/// Compose refuses the text.
pub fn values(
    text: &str,
    outer: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, Zeroizing<String>>, Unreadable> {
    let mut values: BTreeMap<String, Zeroizing<String>> = BTreeMap::new();
    for entry in read(text)? {
        let value = match &entry.value {
            Value::Text(value) => Some(value.clone()),
            Value::Inherited => outer(&entry.name),
            Value::Expanded => {
                let inner = |name: &str| values.get(name).map(|value| value.to_string());
                interpolation::fill(&template(text, &entry), &|name| outer(name).or_else(|| inner(name)))
            }
        };
        values.extend(value.map(|value| (entry.name.clone(), Zeroizing::new(value))));
    }
    Ok(values)
}

/// The text of a value before substitution.
fn template(text: &str, entry: &Entry) -> String {
    let written = text.get(entry.range.clone()).unwrap_or_default();
    match entry.quote.and_then(|quote| quoted(written, quote)) {
        Some((inner, _)) => unescape(&inner),
        None => written.to_owned(),
    }
}

/// The other variables whose values use `name`.
pub fn holders(text: &str, entries: &[Entry], name: &str) -> Vec<String> {
    let holds = |entry: &&Entry| {
        let written = text.get(entry.range.clone()).unwrap_or_default();
        entry.value == Value::Expanded && interpolation::names(written).iter().any(|found| found == name)
    };
    let mut holders: Vec<String> = entries.iter().filter(holds).map(|entry| entry.name.clone()).collect();
    holders.retain(|holder| holder != name);
    holders.dedup();
    holders
}

/// Sets `name` to the value, in the place of its last value or at the end of the file. No other byte changes.
///
/// Returns `None` if the result does not read back as intended. No text without NUL should lead to that.
pub fn set(text: &str, name: &str, value: &str) -> Result<Option<String>, Unreadable> {
    let entries = read(text)?;
    let edited = match last(&entries, name) {
        Some(entry) => {
            let mut edited = text.to_owned();
            edited.replace_range(entry.range.clone(), &written(value, entry.quote, true));
            edited
        }
        None => {
            let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
            let gap = if text.is_empty() || text.ends_with('\n') || text == "\u{feff}" { "" } else { line_end };
            format!("{text}{gap}{name}={}{line_end}", written(value, None, false))
        }
    };
    let reread = read(&edited)?;
    let proven = last(&reread, name).is_some_and(|entry| entry.value == Value::Text(value.to_owned()));
    let others = |entries: &[Entry]| -> Vec<(String, Value)> {
        let kept = last(entries, name).map(|entry| entry.range.start);
        let entries = entries.iter().filter(|entry| Some(entry.range.start) != kept);
        entries.map(|entry| (entry.name.clone(), entry.value.clone())).collect()
    };
    Ok((proven && others(&entries) == others(&reread)).then_some(edited))
}

/// Writes a value: without quotes if the old value had none and none are needed, otherwise in quotes.
///
/// Of the forms that Compose reads as intended, it takes one that python-dotenv (podman-compose, docker-compose 1) reads alike.
/// Python resolves `\\` in single quotes, and does not resolve `\$` in double quotes.
fn written(value: &str, quote: Option<char>, was_there: bool) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if was_there && quote.is_none() && !value.is_empty() && value.chars().all(simple) {
        return value.to_owned();
    }
    // A backslash before a quote would escape it.
    let can_be_single = !value.contains("\\'") && !value.ends_with('\\') && !value.chars().any(char::is_control);
    let reads_alike_single = !value.contains("\\\\");
    let reads_alike_double = !value.contains('$');
    let prefers_double = value.contains('\'') || (quote == Some('"') && !value.contains(['"', '\\']));
    if can_be_single && (!reads_alike_double || (reads_alike_single && !prefers_double)) {
        return format!("'{}'", value.replace('\'', "\\'"));
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' | '$' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The start of the next statement, after blank space and lines that begin with `#`.
fn statement(text: &str, mut at: usize) -> Option<usize> {
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        match trimmed.chars().next()? {
            '#' => at += trimmed.find('\n')?,
            _ => return Some(at),
        }
    }
}

/// Reads the statement at `start`. Returns it and its end.
fn entry(text: &str, start: usize) -> Result<(Entry, usize), Unreadable> {
    let line = Position::of(text, start).line;
    let refuse = |message: &str, at: usize| Err(Unreadable::new(message, Position::of(text, at)));
    let mut key_start = start;
    if let Some(rest) = text[start..].strip_prefix("export")
        && rest.starts_with([' ', '\t', '\n', '\r', '\u{c}'])
    {
        key_start = skip_spaces(text, text.len() - rest.len());
    }
    let mut end = None;
    for (at, c) in text[key_start..].char_indices() {
        match c {
            '=' | ':' | '\n' => {
                end = Some((key_start + at, c));
                break;
            }
            c if is_space(c) || matches!(c, '_' | '.' | '-' | '[' | ']') || c.is_alphabetic() || c.is_numeric() => {}
            _ => return refuse("a character that a name cannot have", key_start + at),
        }
    }
    let (name, after) = end.map_or(("", key_start), |(at, _)| (text[key_start..at].trim_end(), at + 1));
    if name.contains(' ') {
        return refuse("a name with a space in it", key_start);
    }
    if name.is_empty() && !matches!(end, Some((_, '\n'))) {
        // If the file ends right after a name alone, Compose reports it as such a value too.
        return refuse("a value without a name", key_start);
    }
    let name = name.to_owned();
    let value_start = skip_spaces(text, after);
    if matches!(end, Some((_, '\n'))) {
        let entry = Entry { name, value: Value::Inherited, range: value_start..value_start, quote: None, line };
        return Ok((entry, value_start));
    }
    let rest = &text[value_start..];
    let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        let (raw, next) =
            rest.split_once('\n').map_or((rest, text.len()), |(raw, _)| (raw, value_start + raw.len() + 1));
        let raw = raw.split_once(" #").map_or(raw, |(value, _)| value).trim_end();
        let range = value_start..value_start + raw.len();
        return Ok((Entry { name, value: expand(raw), range, quote: None, line }, next));
    };
    let Some((inner, length)) = quoted(rest, quote) else {
        return refuse("a quoted value without an end", value_start);
    };
    let value = if quote == '"' { expand(&unescape(&inner)) } else { Value::Text(inner) };
    let end = value_start + length;
    Ok((Entry { name, value, range: value_start..end, quote: Some(quote), line }, end))
}

/// The text between the quotes, without a `\` before a quote, and the length with both quotes.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut inner = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            c if c == quote && !escaped => return Some((inner, at + 1)),
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            c if escaped && c != quote => inner.extend(['\\', c]),
            c => inner.push(c),
        }
        escaped = false;
    }
    None
}

/// Resolves the escapes of double quotes. A `\$` becomes `$$`, which the substitution of variables resolves.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else {
            plain.push('\\');
            break;
        };
        rest = &rest[c.len_utf8()..];
        match c {
            'a' => plain.push('\u{7}'),
            'b' => plain.push('\u{8}'),
            'f' => plain.push('\u{c}'),
            'n' => plain.push('\n'),
            'r' => plain.push('\r'),
            't' => plain.push('\t'),
            'v' => plain.push('\u{b}'),
            '\\' | '"' => plain.push(c),
            '$' => plain.push_str("$$"),
            '0' => {
                let length = rest.bytes().take(3).take_while(u8::is_ascii_digit).count();
                let code = (length == 3).then(|| u8::from_str_radix(&rest[..3], 8).ok()).flatten();
                match code {
                    Some(code) => {
                        plain.push(char::from(code));
                        rest = &rest[3..];
                    }
                    None => plain.push('\\'),
                }
            }
            c => plain.extend(['\\', c]),
        }
    }
    plain.push_str(rest);
    plain
}

fn expand(text: &str) -> Value {
    match interpolation::read(text) {
        Template::Literal(text) => Value::Text(text),
        Template::Reference { .. } | Template::Mixed => Value::Expanded,
    }
}

fn skip_spaces(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start_matches(is_space).len()
}

/// Whether the parser takes a character for blank space inside of a line.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}
