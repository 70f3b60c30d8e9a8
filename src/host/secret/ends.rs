//! Finds invisible characters at the ends of a secret. A copied or exported value often has them.

use super::{Secret, SecretSource};
use crate::text::is_hidden;

/// Returns a warning if a password ([`Secret::as_password`]) begins or ends with invisible characters, which are used with it. A value
/// of several lines, such as a key or a certificate, is a text and may begin and end with them.
pub fn ends_warning(source: &SecretSource, password: &Secret) -> Option<String> {
    // Only text has invisible characters.
    let text = std::str::from_utf8(password.expose()).ok()?;
    let is_invisible = |c: char| c.is_whitespace() || is_hidden(c);
    let core = text.trim_matches(is_invisible);
    if core.contains(['\n', '\r']) {
        return None;
    }
    let place = source.place();
    if core.is_empty() {
        return (!text.is_empty()).then(|| format!("the secret from {place} has nothing but invisible characters"));
    }
    let first = text.chars().next().filter(|c| is_invisible(*c)).map(|c| format!("begins with {}", name(c)));
    let last = text.chars().next_back().filter(|c| is_invisible(*c)).map(|c| match c {
        // `as_password` has removed one line ending already.
        '\n' => "ends with several line endings".to_owned(),
        c => format!("ends with {}", name(c)),
    });
    let ends: Vec<String> = [first, last].into_iter().flatten().collect();
    (!ends.is_empty()).then(|| {
        let ends = ends.join(" and ");
        format!(
            "the secret from {place} {ends}, and is used with that; remove it there unless it belongs to the secret"
        )
    })
}

fn name(c: char) -> String {
    let known = match c {
        ' ' => return "a space".to_owned(),
        '\t' => return "a tab".to_owned(),
        '\n' => return "a line ending".to_owned(),
        '\r' => return "a carriage return".to_owned(),
        '\u{a0}' => "a no-break space",
        '\u{200b}' => "a zero-width space",
        '\u{feff}' => "a byte order mark",
        _ => "an invisible character",
    };
    format!("{known} (U+{:04X})", u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(source: &str, value: &[u8]) -> Option<String> {
        ends_warning(&serde_yaml::from_str(source).unwrap(), &Secret::copy_of(value).as_password())
    }

    #[test]
    fn invisible_characters_at_the_ends_of_a_secret_are_reported() {
        for (value, ends) in [
            (" pw ", "begins with a space and ends with a space"),
            ("\tpw\n", "begins with a tab"),
            ("pw\r", "ends with a carriage return"),
            ("pw\u{a0}\n", "ends with a no-break space (U+00A0)"),
            ("pw\n\n", "ends with several line endings"),
            ("pw\r\n\r\n", "ends with several line endings"),
            ("\npw", "begins with a line ending"),
            ("pw \r\n", "ends with a space"),
            ("pw\u{200b}", "ends with a zero-width space (U+200B)"),
            ("pw\u{feff}", "ends with a byte order mark (U+FEFF)"),
            ("\u{feff}\u{2060}pw", "begins with an invisible character (U+2060)"),
            ("pw\0", "ends with an invisible character (U+0000)"),
        ] {
            let found = warning("{ env: PW }", value.as_bytes()).unwrap_or_default();
            let expected = format!(
                "the secret from environment variable PW {ends}, and is used with that; remove it there unless it belongs to the \
                 secret"
            );
            assert_eq!(found, expected, "{value:?}");
        }
        let nothing = "the secret from /srv/pw has nothing but invisible characters";
        assert_eq!(warning("{ file: /srv/pw }", b" \t\n").as_deref(), Some(nothing));
        let json = warning("{ command: [vault, read], json: /pw }", b"pw ").unwrap();
        assert!(json.starts_with("the secret from /pw in the output of vault ends with a space"), "{json}");
    }

    #[test]
    fn ordinary_ends_texts_and_binary_secrets_are_not_reported() {
        for value in ["", "pw", "pw\n", "pw\r\n", "\u{feff}pw\n", "p w", "a\nb\n\n", " a\r\nb "] {
            assert_eq!(warning("{ env: PW }", value.as_bytes()), None, "{value:?}");
        }
        assert_eq!(warning("{ env: PW }", b" \xff "), None);
    }
}
