//! Fits text to the width of the terminal: long lines are broken between words and keep their indentation.

use unicode_width::UnicodeWidthChar;

/// The smallest number of columns that text gets, however deep it is indented.
const MIN_COLUMNS: usize = 20;

/// The width that text is fitted to.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// `None`: lines are not broken.
    pub columns: Option<usize>,
}

impl Layout {
    /// Returns the lines of a text. The first line follows `first`, the others have `indent` spaces. A command in backticks
    /// is not broken, so that it can be copied.
    pub fn paragraph(self, first: &str, indent: usize, text: &str) -> String {
        let mut out = String::new();
        let mut lines = text.lines();
        self.line(&mut out, first, indent, lines.next().unwrap_or_default());
        for line in lines {
            let (line, own) = (line.trim_start(), line.len() - line.trim_start().len());
            self.line(&mut out, &" ".repeat(indent + own), indent + own, line);
        }
        out
    }

    /// Returns a shell command that can be copied, with a backslash at the end of a broken line.
    pub fn command(self, indent: usize, command: &str) -> String {
        let (mut out, mut column) = (" ".repeat(indent), indent);
        for (number, word) in split_outside(command, '\'').into_iter().enumerate() {
            // Two more columns for the blank and the backslash.
            if number > 0 && self.columns.is_some_and(|columns| column + 3 + width(word) > columns) {
                out.push_str(" \\\n");
                out.push_str(&" ".repeat(indent + 4));
                column = indent + 4;
            } else if number > 0 {
                out.push(' ');
                column += 1;
            }
            column += width(word);
            out.push_str(word);
        }
        out.push('\n');
        out
    }

    /// Returns a hint, in which commands are in backticks.
    pub fn hint(self, indent: usize, text: &str) -> String {
        self.paragraph(&format!("{}hint: ", " ".repeat(indent)), indent + 2, text)
    }

    fn line(self, out: &mut String, first: &str, indent: usize, text: &str) {
        out.push_str(first);
        let Some(columns) = self.columns else {
            out.push_str(text);
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            return;
        };
        let columns = columns.max(indent + MIN_COLUMNS);
        let mut column = width(first);
        let mut blank = false;
        for word in split_outside(text, '`') {
            let space = usize::from(blank);
            if column + space + width(word) > columns && column > indent {
                break_line(out, indent);
                column = indent;
            } else if blank {
                out.push(' ');
                column += 1;
            }
            blank = true;
            // A command is not divided, so that it can be copied.
            if word.contains('`') && word.contains(' ') {
                out.push_str(word);
                column += width(word);
                continue;
            }
            let mut rest = word;
            while column + width(rest) > columns {
                let (part, left) = split(rest, columns.saturating_sub(column).max(1));
                out.push_str(part);
                break_line(out, indent);
                (column, rest) = (indent, left);
            }
            out.push_str(rest);
            column += width(rest);
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
}

fn break_line(out: &mut String, indent: usize) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
    out.push_str(&" ".repeat(indent));
}

/// Splits at spaces. What is between a pair of quotes is one word.
fn split_outside(text: &str, quote: char) -> Vec<&str> {
    let (mut words, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            c if c == quote => quoted = !quoted && text[at + 1..].contains(quote),
            ' ' if !quoted => {
                words.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&text[start..]);
    words
}

/// Splits a word that does not fit: after the last `/`, `,`, `_` or `.` in these columns, or else anywhere. Escapes are not
/// split, because no styled word is this long.
fn split(word: &str, columns: usize) -> (&str, &str) {
    let (mut used, mut end, mut good) = (0, 0, 0);
    for (at, c) in word.char_indices() {
        used += c.width().unwrap_or_default();
        if used > columns {
            break;
        }
        end = at + c.len_utf8();
        if "/,_.".contains(c) {
            good = end;
        }
    }
    word.split_at(if good > 0 { good } else { end.max(word.chars().next().map_or(0, char::len_utf8)) })
}

/// Returns the number of columns that a text takes. Escapes for styles take none.
pub fn width(text: &str) -> usize {
    let (mut columns, mut escape) = (0, false);
    for c in text.chars() {
        match c {
            '\u{1b}' => escape = true,
            'm' if escape => escape = false,
            _ if escape => {}
            c => columns += c.width().unwrap_or_default(),
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NARROW: Layout = Layout { columns: Some(30) };

    #[test]
    fn lines_are_broken_between_words_and_keep_their_indentation() {
        let text = NARROW.paragraph("  ~ ", 6, "fast-forward jasleen_qa by 1 commit\nand more");
        assert_eq!(text, "  ~ fast-forward jasleen_qa by\n      1 commit\n      and more\n");
        let unlimited = Layout { columns: None }.paragraph("  ~ ", 6, "fast-forward jasleen_qa by 1 commit");
        assert_eq!(unlimited, "  ~ fast-forward jasleen_qa by 1 commit\n");
    }

    #[test]
    fn a_path_that_is_too_long_is_broken_after_a_slash_and_a_command_is_not() {
        let text = NARROW.paragraph("", 2, "see /home/ubuntu/etl/etl_dw/s3-redshift-backup-tool/logs");
        assert_eq!(
            text,
            "see\n  /home/ubuntu/etl/etl_dw/s3-\n  redshift-backup-tool/logs\n".replace("s3-\n  ", "\n  s3-")
        );
        let command = "`git -C /srv/app config --add safe.directory /srv/app`";
        assert_eq!(NARROW.paragraph("", 2, &format!("run {command}, once")), format!("run\n  {command},\n  once\n"));
    }

    #[test]
    fn a_command_continues_after_a_backslash() {
        let command = "docker compose -f '/srv/my app/compose.yml' up -d";
        assert_eq!(
            NARROW.command(2, command),
            "  docker compose -f \\\n      '/srv/my app/compose.yml' \\\n      up -d\n"
        );
    }

    #[test]
    fn a_command_in_a_hint_is_not_broken() {
        let hint = |text: &str| NARROW.hint(2, text);
        assert_eq!(hint("run plan to see the new plan"), "  hint: run plan to see the\n    new plan\n");
        let command = "`mv /srv/app/data /srv/app/data.old`";
        assert_eq!(
            hint(&format!("see whether it is needed; if not: {command}\nor: {command}; or wait")),
            format!(
                "  hint: see whether it is\n    needed; if not:\n    {command}\n    or:\n    {command};\n    or wait\n"
            )
        );
        let warning =
            NARROW.paragraph("warning: ", 2, "everybody can read it (`chmod o-r /srv/app/compose.yml`), or not");
        assert_eq!(warning, "warning: everybody can read it\n  (`chmod o-r /srv/app/compose.yml`),\n  or not\n");
        assert_eq!(hint("move it: `mv /a /b`"), "  hint: move it: `mv /a /b`\n");
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_letter_is_lost(text in "[a-z/ü漢]{1,90}( [a-z/]{1,40}){0,9}", columns in 40_usize..100) {
            let shown = Layout { columns: Some(columns) }.paragraph("  - ", 6, &text);
            for line in shown.lines() {
                prop_assert!(width(line) <= columns, "{line:?}");
            }
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&shown), letters(&format!("- {text}")));
        }
    }
}
