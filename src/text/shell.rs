//! Commands that people paste into a shell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::is_hidden;

/// Quotes a word for the shell of a terminal if necessary. A word with hidden characters, invalid UTF-8 or a backtick gets the
/// form `$'…'` with escapes, which bash, zsh and ksh understand: the escapes survive a terminal, and a backtick would end the
/// command in a message.
pub fn shell_word(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:,@%=".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Ok(text) if !text.contains(|c| is_hidden(c) || c == '`') => format!("'{}'", text.replace('\'', r"'\''")),
        _ => ansi_quoted(bytes),
    }
}

fn ansi_quoted(bytes: &[u8]) -> String {
    let mut quoted = "$'".to_owned();
    let escape = |quoted: &mut String, bytes: &[u8]| bytes.iter().for_each(|byte| *quoted += &format!("\\x{byte:02x}"));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                '\\' | '\'' => quoted.extend(['\\', c]),
                c if is_hidden(c) || c == '`' => escape(&mut quoted, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => quoted.push(c),
            }
        }
        escape(&mut quoted, chunk.invalid());
    }
    quoted.push('\'');
    quoted
}

/// Returns the path of a file in a form that is not mistaken for an option. `-` alone is standard input.
pub fn file_argument(path: &str) -> String {
    if path.starts_with('-') && path != "-" { format!("./{path}") } else { path.to_owned() }
}

/// Returns the path of a file as [`file_argument`] does, quoted for a shell.
pub fn file_word(path: impl AsRef<OsStr>) -> String {
    let path = path.as_ref();
    let is_option = path.as_bytes().starts_with(b"-") && path != "-";
    shell_word(if is_option { Path::new(".").join(path).into_os_string() } else { path.to_owned() })
}

/// Returns a shell command line of these words.
pub fn shell_words(words: &[String]) -> String {
    words.iter().map(shell_word).collect::<Vec<_>>().join(" ")
}

/// Returns the command that renames what is at `path`. What has the new name already keeps its content under a name with a number
/// (mv(1), `--backup`).
pub fn aside(path: impl AsRef<OsStr>) -> String {
    let mut new = path.as_ref().to_owned();
    new.push(".aside");
    aside_as(path, new)
}

/// Returns the command that renames what is at `path` to `new`. What has that name already keeps its content as well.
pub fn aside_as(path: impl AsRef<OsStr>, new: impl AsRef<OsStr>) -> String {
    format!("mv -T --backup=numbered {} {}", shell_word(path), shell_word(new))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// Returns what a shell makes of a word.
    fn through(shell: &str, word: &str) -> Vec<u8> {
        Command::new(shell).args(["-c", &format!("printf %s {word}")]).output().unwrap().stdout
    }

    #[test]
    fn words_are_quoted_if_necessary() {
        for (word, quoted) in [
            ("/home/a-b", "/home/a-b"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("a b", "'a b'"),
            ("~/a", "'~/a'"),
            ("a\nb", r"$'a\nb'"),
            ("a`b", r"$'a\x60b'"),
            ("it's\t\\", r"$'it\'s\t\\'"),
            ("\u{1b}[2J", r"$'\x1b[2J'"),
            ("a\u{202e}b", r"$'a\xe2\x80\xaeb'"),
        ] {
            assert_eq!(shell_word(word), quoted);
            assert_eq!(through("bash", quoted), word.as_bytes(), "{quoted}");
        }
        assert_eq!(shell_word(OsStr::from_bytes(b"\xffab")), r"$'\xffab'");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_shell_gets_every_word_back(bytes in proptest::collection::vec(1_u8.., 0..20)) {
            let word = shell_word(OsStr::from_bytes(&bytes));
            prop_assert!(!word.contains(|c| is_hidden(c) || c == '`'), "{word}");
            prop_assert_eq!(through("bash", &word), bytes, "{}", word);
        }
    }
}
