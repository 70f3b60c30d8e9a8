//! Single YAML values: how Compose reads one, where its bytes are, and how a text is written in each style.

use std::ops::Range;

use crate::yaml::{Content, Node, Style, is_null};

/// Whether a plain scalar reaches a container as it is written.
///
/// Compose resolves plain scalars and prints the result (go-yaml's `resolve.go`): `1e3` arrives as `1000`, `0x1f` as `31`, `True`
/// as `true`, and a date is refused. What only looks like a number (`3f9a`, `1.2.3`, `12:34`) is a string and arrives unchanged,
/// and so do decimal numbers in their shortest form. If in doubt, the answer is no.
pub fn is_verbatim(text: &str) -> bool {
    let special = ["True", "TRUE", "False", "FALSE", "<<"];
    if is_null(text) || special.contains(&text) {
        return false;
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return true;
    }
    if is_date(text) {
        return false;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.eq_ignore_ascii_case(".inf") || text.eq_ignore_ascii_case(".nan") {
        return false;
    }
    // Underscores are dropped before a number is read.
    let digits = text.replace('_', "");
    if let Some(is_canonical) = integer(&digits) {
        return is_canonical && digits == text;
    }
    !is_float(&digits) || is_short_decimal(text)
}

/// Whether an integer is written as it is printed; `None` if the text is not an integer of 64 bits.
fn integer(text: &str) -> Option<bool> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' | b'-' => text.split_at(1),
        _ => ("", text),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match prefix.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` takes another sign.
    let value = u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']))?;
    let fits = match sign {
        "" => true,
        "+" => i64::try_from(value).is_ok(),
        _ => value <= i64::MIN.unsigned_abs(),
    };
    fits.then(|| text == if sign == "-" && value > 0 { format!("-{value}") } else { value.to_string() })
}

/// Whether the text is a number that YAML takes for a float: `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn is_float(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let is_mantissa = match mantissa.split_once('.') {
        None => is_digits(mantissa),
        Some(("", fraction)) => is_digits(fraction),
        Some((whole, fraction)) => is_digits(whole) && (fraction.is_empty() || is_digits(fraction)),
    };
    // A number that is too large stays a string.
    is_mantissa && exponent.is_none_or(is_digits) && unsigned.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether a decimal number is printed as it is written, such as `1.5`.
fn is_short_decimal(text: &str) -> bool {
    let Some((whole, fraction)) = text.strip_prefix('-').unwrap_or(text).split_once('.') else { return false };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole)
        && is_digits(fraction)
        && whole.len() + fraction.len() <= 15
        && !fraction.ends_with('0')
        && if whole == "0" { !fraction.starts_with("0000") } else { !whole.starts_with('0') }
}

/// Whether the text begins like a date: `2001-1-1`, alone or before a time.
fn is_date(text: &str) -> bool {
    let (date, rest) = text.split_at(text.find([' ', 't', 'T']).unwrap_or(text.len()));
    let parts: Vec<&str> = date.split('-').collect();
    let number = |part: &str| (1..=2).contains(&part.len()).then(|| part.parse::<u8>().ok()).flatten();
    let is_day = match parts[..] {
        [year, month, day] if year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit()) => {
            number(month).is_some_and(|month| (1..=12).contains(&month)) && number(day).is_some_and(|day| day <= 31)
        }
        _ => false,
    };
    is_day && (rest.is_empty() || rest.contains(':'))
}

/// The replacements that turn `node` into `text`. Each is a range of bytes and its new content.
///
/// `node` is a scalar or an alias of the document `source`. Its style is kept if it can hold the text; otherwise the new value
/// is double-quoted. Anchors, tags and comments stay. `None` if the bytes of the node cannot be found.
pub fn replace(source: &str, node: &Node, style: Option<Style>, text: &str) -> Option<Vec<(Range<usize>, String)>> {
    let Some(style) = style else {
        return Some(vec![(node.span.clone(), double_quoted(text))]);
    };
    let start = block_header(source, node).unwrap_or(node.value_start);
    match style {
        Style::Plain if start >= node.span.end => {
            // The node is a tag or an anchor without a value.
            Some(vec![(node.span.end..node.span.end, format!(" {}", double_quoted(text)))])
        }
        Style::Plain => {
            let new = if can_be_plain(text) { text.to_owned() } else { double_quoted(text) };
            Some(vec![(start..node.span.end, new)])
        }
        Style::SingleQuoted => {
            let new = if text.chars().all(is_visible) { single_quoted(text) } else { double_quoted(text) };
            Some(vec![(start..node.span.end, new)])
        }
        Style::DoubleQuoted => Some(vec![(start..node.span.end, double_quoted(text))]),
        Style::Literal | Style::Folded => replace_block(source, start, node.span.end, text),
    }
}

/// Replaces a block (`|` or `>`): a header with an optional comment, then lines.
fn replace_block(source: &str, header: usize, end: usize, text: &str) -> Option<Vec<(Range<usize>, String)>> {
    let after = source.get(header..)?.strip_prefix(['|', '>'])?;
    let options: String = after.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '+' | '-')).collect();
    let header_end = header + 1 + options.len();
    // A block without lines may end at its header.
    let end = end.max(header_end);
    let line_end = source[header_end..].find('\n').map_or(source.len(), |at| header_end + at);
    let line_end = header_end + source[header_end..line_end].trim_end_matches('\r').len();
    let body_start = source[line_end..].find('\n').map_or(source.len(), |at| line_end + at + 1);
    let body = source.get(body_start..end).unwrap_or_default();
    let body_end = body_start + body.trim_end_matches([' ', '\t', '\r', '\n']).len();
    // Blanks at the end of the last line and on the lines after it are part of the value. The indentation of the next node
    // is not.
    let after = &source[body_end..];
    let after = &after[..after
        .find(|c| !matches!(c, ' ' | '\t' | '\r' | '\n'))
        .map_or(after.len(), |next| after[..next].rfind('\n').map_or(next, |at| at + 1))];
    let core = match options.as_str() {
        "-" => Some(text),
        // If the file ends without a line ending, so does the value.
        "" if !after.is_empty() => text.strip_suffix('\n'),
        _ => None,
    };
    let core = core.filter(|_| !after.contains([' ', '\t']));
    let first = body.lines().find(|line| !line.trim().is_empty());
    if let (Some(core), Some(first)) = (core, first)
        && !core.is_empty()
        && core.chars().all(is_visible)
        && core.trim_matches([' ', '\u{a0}']) == core
    {
        let indent = &first[..first.len() - first.trim_start_matches(' ').len()];
        return Some(vec![(body_start..body_end, format!("{indent}{core}"))]);
    }
    let mut replacements = vec![(header..header_end, double_quoted(text))];
    if body_end > body_start {
        replacements.push((line_end..body_end, String::new()));
    }
    Some(replacements)
}

/// The place of the `|` or `>` of a block without an anchor or a tag. The span of the block begins with its first line, and only
/// blank lines are between that and the line of the header.
fn block_header(source: &str, node: &Node) -> Option<usize> {
    let Content::Scalar { style: Style::Literal | Style::Folded, .. } = node.content else {
        return None;
    };
    if node.value_start > node.span.start {
        return None;
    }
    let before = source[..node.span.start].trim_end_matches([' ', '\t', '\r', '\n']);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    // The rest of the line after it is a header: options, then nothing or a comment.
    let line = &before[line_start..];
    line.char_indices()
        .filter(|(_, c)| matches!(c, '|' | '>'))
        .map(|(at, _)| line_start + at)
        .find(|at| header_at(source, *at))
}

fn header_at(source: &str, at: usize) -> bool {
    let line = source[at + 1..].lines().next().unwrap_or_default();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
    let separated = source[..at].ends_with([' ', '\t', '\n']) || at == 0;
    let comment = rest.trim_start();
    separated && (comment.is_empty() || (comment.starts_with('#') && comment.len() < rest.len()))
}

/// Whether every YAML reader reads `text`, written plain in block or flow context, as this string. Compose's reader, for
/// example, ends a plain scalar of a flow collection at a question mark.
fn can_be_plain(text: &str) -> bool {
    let unmistakable = |c: char| c.is_ascii_alphabetic() && !"abcdefABCDEFxXoOtTzZ".contains(c);
    let Some(first) = text.chars().next() else { return false };
    let word = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"];
    (first.is_ascii_alphanumeric() || "_$/^(;".contains(first))
        && (!first.is_ascii_digit() || text.chars().any(unmistakable))
        && text.chars().all(|c| c.is_ascii_graphic() && !"#:?,[]{}\"'`".contains(c))
        && !word.contains(&text.to_ascii_lowercase().as_str())
}

fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if is_visible(c) => quoted.push(c),
            c => quoted.push_str(&match u32::from(c) {
                code @ ..=0xff => format!("\\x{code:02X}"),
                code @ 0x100..=0xffff => format!("\\u{code:04X}"),
                code => format!("\\U{code:08X}"),
            }),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a character may be written as it is in quotes. These are YAML's printable characters, except line ends, tabs, and
/// those that an editor does not show (byte order marks, joiners, directions).
fn is_visible(c: char) -> bool {
    !matches!(u32::from(c),
        ..0x20 | 0x7f..=0xa0 | 0xad | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
        | 0xe000..=0xf8ff | 0xfdd0..=0xfdef | 0xfeff | 0xfff0..=0xffff | 0xe0000..)
        && u32::from(c) & 0xfffe != 0xfffe
}
