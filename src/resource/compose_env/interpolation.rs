//! Compose's variable substitution, as far as an editor needs it.
//!
//! The grammar is the pattern in compose-go's `template/template.go`: `$$` is a dollar sign, `$NAME` and `${NAME}` are
//! replaced, with `:-`, `-`, `:?`, `?`, `:+`, `+` and a text inside the braces; names are `[_a-zA-Z][_a-zA-Z0-9]*`.
//! The value of a variable is inserted as it is and not substituted again.

/// How deep defaults may be nested. The substitution recurses, and a longer chain would exhaust the stack.
const MAX_DEPTH: usize = 100;

/// How Compose's substitution reads a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// A text without variables, as a container gets it.
    Literal(String),
    /// One variable and nothing else. The container gets the value of the variable.
    Reference {
        name: String,
        /// Whether an empty variable counts as unset (`:-`, `:?`).
        refuses_empty: bool,
    },
    /// Variables and other text, an alternative (`${NAME:+text}`), or something that Compose refuses.
    Mixed,
}

/// Reads a text of a compose file.
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

/// The text after substitution. A variable without a value is empty. `None` if the text requires a variable that has no
/// value, is refused by Compose, or has too many defaults in each other.
pub fn fill(text: &str, value: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    fill_within(text, value, MAX_DEPTH)
}

fn fill_within(text: &str, value: &dyn Fn(&str) -> Option<String>, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let fill = |text: &str| fill_within(text, value, depth);
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
            continue;
        }
        let length = match rest.strip_prefix('{') {
            Some(braced) => closing(braced)? + 2,
            None => name_length(rest),
        };
        let (inner, after) = rest.split_at(length);
        rest = after;
        let inner = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner);
        let (name, operator) = inner.split_at(name_length(inner));
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let found = value(name);
        let given = found.clone().filter(|value| !value.is_empty());
        match operator.split_at_checked(if operator.starts_with(':') { 2 } else { 1 }) {
            None if operator.is_empty() => filled.push_str(&found.unwrap_or_default()),
            Some((":-", default)) => filled.push_str(&given.or_else(|| fill(default))?),
            Some(("-", default)) => filled.push_str(&found.or_else(|| fill(default))?),
            Some((":+", other)) => filled.push_str(&given.map_or(Some(String::new()), |_| fill(other))?),
            Some(("+", other)) => filled.push_str(&found.map_or(Some(String::new()), |_| fill(other))?),
            Some((":?", _)) => filled.push_str(&given?),
            Some(("?", _)) => filled.push_str(&found?),
            _ => return None,
        }
    }
    filled.push_str(rest);
    Some(filled)
}

/// The variables that a text refers to, including those in defaults.
pub fn names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        rest = rest.strip_prefix('{').unwrap_or(rest);
        let (name, after) = rest.split_at(name_length(rest));
        if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
            names.push(name.to_owned());
        }
        rest = after;
    }
    names
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// The place of the brace that closes the one before `inner`.
fn closing(inner: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, c) in inner.char_indices() {
        match c {
            '{' if inner[..at].ends_with('$') => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
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
            // `${A}-${B}` has two references.
            let end = closing(braced).filter(|end| end + 1 == braced.len())?;
            &braced[..end]
        }
    };
    let (name, operator) = inner.split_at(name_length(inner));
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

    #[test]
    fn variables_are_put_in() {
        let value = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, filled) in [
            ("x", Some("x")),
            ("$A/${A}$$A", Some("a/a$A")),
            ("${NO}-${NO:-${A}/}x", Some("-a/x")),
            ("[${EMPTY:-d}][${EMPTY-d}][${NO-d}]", Some("[d][][d]")),
            ("${A:?told}${A?told}", Some("aa")),
            ("${NO:?told}", None),
            ("${EMPTY:?told}", None),
            ("${NO?told}", None),
            ("[${A:+b$A}][${EMPTY:+b}][${EMPTY+b}][${NO+b}]", Some("[ba][][b][]")),
            ("${A", None),
            ("$", None),
            ("$1", None),
            ("${A:}", None),
            ("${A\u{fc}}", None),
        ] {
            assert_eq!(fill(text, &value).as_deref(), filled, "{text}");
        }
    }

    #[test]
    fn defaults_may_be_in_each_other_up_to_a_depth() {
        let nested = |depth| format!("{}x{}", "${A:-".repeat(depth), "}".repeat(depth));
        assert_eq!(fill(&nested(MAX_DEPTH - 1), &|_| None).as_deref(), Some("x"));
        assert_eq!(fill(&nested(100_000), &|_| None), None);
    }

    #[test]
    fn the_variables_of_a_text_are_known() {
        assert_eq!(names("a"), [""; 0]);
        assert_eq!(names("$A ${B} ${C:-${D}}/$$E $1 ${F:+$G}"), ["A", "B", "C", "D", "F", "G"]);
    }
}
