//! Compose's variable substitution, as far as an editor has to know it.
//!
//! The grammar is the pattern in compose-go's `template/template.go`: `$$` is a dollar sign, `$NAME` and `${NAME}` are
//! replaced, with `:-`, `-`, `:?`, `?`, `:+`, `+` and a text inside the braces; names are `[_a-zA-Z][_a-zA-Z0-9]*`.
//! What a variable holds is put in as it is and never looked through again.

/// A text of the compose file, as Compose's substitution reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// No variable in it; the text that a container gets.
    Literal(String),
    /// One variable and nothing else, so what the container gets is that variable's value.
    Reference {
        name: String,
        /// `:-` and `:?` treat an empty variable as if it were not there.
        refuses_empty: bool,
    },
    /// Variables and other text, an alternative (`${NAME:+text}`), or something that Compose refuses.
    Mixed,
}

/// Reads a text that stands in a compose file.
pub fn read(text: &str) -> Template {
    if let Some(reference) = reference(text) {
        return reference;
    }
    let mut literal = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..=at]);
        match rest[at + 1..].strip_prefix('$') {
            Some(after) => rest = after,
            None => return Template::Mixed,
        }
    }
    literal.push_str(rest);
    Template::Literal(literal)
}

/// The text that substitution turns into `value`.
pub fn escape(value: &str) -> String {
    value.replace('$', "$$")
}

fn reference(text: &str) -> Option<Template> {
    let body = text.strip_prefix('$')?;
    let inner = match body.strip_prefix('{') {
        None => body,
        Some(braced) => {
            let inner = braced.strip_suffix('}')?;
            closes_at_end(inner).then_some(inner)?
        }
    };
    let length = inner.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
    let (name, operator) = inner.split_at(length);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let refuses_empty = match operator {
        "" => false,
        _ if !body.starts_with('{') => return None,
        _ if operator.starts_with(":-") || operator.starts_with(":?") => true,
        _ if operator.starts_with('-') || operator.starts_with('?') => false,
        _ => return None,
    };
    Some(Template::Reference { name: name.to_owned(), refuses_empty })
}

/// Whether the brace before `inner` is closed by the one after it: `${A}-${B}` is two references.
fn closes_at_end(inner: &str) -> bool {
    let mut open = 0_usize;
    for (at, c) in inner.char_indices() {
        match c {
            '{' if inner[..at].ends_with('$') => open += 1,
            '}' if open == 0 => return false,
            '}' => open -= 1,
            _ => {}
        }
    }
    open == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_reference(text: &str, to: &str, strict: bool) -> bool {
        read(text) == Template::Reference { name: to.to_owned(), refuses_empty: strict }
    }

    #[test]
    fn one_variable_and_nothing_else_is_a_reference() {
        for (text, strict) in [
            ("$A_1", false),
            ("${A_1}", false),
            ("${A_1-x}", false),
            ("${A_1?x}", false),
            ("${A_1:-}", true),
            ("${A_1:-${B:-c}}", true),
            ("${A_1:?say ${B}}", true),
        ] {
            assert!(is_reference(text, "A_1", strict), "{text}");
        }
    }

    #[test]
    fn other_dollar_signs_make_a_mixed_text() {
        for text in
            ["a$A", "$A$B", "${A}${B}", "${A}-${B}", "${A:+b}", "${A+b}", "${}", "$", "$1", "a$$b$", "${A", "$A-b"]
        {
            assert_eq!(read(text), Template::Mixed, "{text}");
        }
    }

    #[test]
    fn two_dollar_signs_are_one() {
        assert_eq!(read("$$A$$$$"), Template::Literal("$A$$".to_owned()));
        assert_eq!(read(""), Template::Literal(String::new()));
        assert_eq!(read("{A}"), Template::Literal("{A}".to_owned()));
        assert_eq!(read(&escape("$${A}$")), Template::Literal("$${A}$".to_owned()));
    }
}
