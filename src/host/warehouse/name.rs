//! Qualified table names: parsed from text, folded like the servers do, and quoted for SQL.

use std::fmt;
use std::str::FromStr;

use postgres_protocol::escape::escape_identifier;
use serde::{Deserialize, Serialize};

/// The longest identifier of any supported server, in bytes: Redshift's. [`super::Dialect::max_identifier_bytes`] has the limit
/// of each.
pub const MAX_IDENTIFIER_BYTES: usize = 127;

/// Folds an unquoted identifier as the servers do: ASCII letters only. A database with a single-byte encoding also folds
/// other letters, by its locale.
pub fn fold(identifier: &str) -> String {
    identifier.to_ascii_lowercase()
}

/// A schema and a relation name, spelled as in the catalog: folded to lower case unless quoted.
///
/// A name without a schema is rejected, because its meaning would depend on the `search_path` of the connected user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

impl TableName {
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// Returns both parts as quoted identifiers, for SQL.
    pub fn sql(&self) -> String {
        format!("{}.{}", escape_identifier(&self.schema), escape_identifier(&self.name))
    }

    /// Returns the name for claims: as PostgreSQL stores it, with quotation marks only around parts that need them to be told apart.
    pub fn claimed(&self) -> String {
        let part = |part: &str| if part.contains(['.', '"']) { escape_identifier(part) } else { part.to_owned() };
        format!("{}.{}", part(&self.schema), part(&self.name))
    }

    /// Returns the name as Redshift stores it unless `enable_case_sensitive_identifier` is on: folded even if quoted.
    pub fn folded(&self) -> Self {
        Self::new(fold(&self.schema), fold(&self.name))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", Shown(&self.schema), Shown(&self.name))
    }
}

/// Displays an identifier as a person would write it: quoted only if necessary.
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.0.chars().enumerate().all(|(at, letter)| match letter {
            'a'..='z' | '_' => true,
            '0'..='9' | '$' => at > 0,
            _ => false,
        });
        if plain && !self.0.is_empty() { f.write_str(self.0) } else { f.write_str(&escape_identifier(self.0)) }
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for TableName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = Self::parse_template(text)?;
        for part in [&name.schema, &name.name] {
            if part.len() > MAX_IDENTIFIER_BYTES {
                let bytes = part.len();
                return Err(format!(
                    "`{part}` has {bytes} bytes, but the servers store at most {MAX_IDENTIFIER_BYTES}"
                ));
            }
        }
        Ok(name)
    }
}

impl TableName {
    /// Parses a name of any length, because what stands in it for a period may be longer than the period.
    ///
    /// # Errors
    /// The text is not `schema.table`.
    pub fn parse_template(text: &str) -> Result<Self, String> {
        let parts = identifiers(text)?;
        match <[String; 2]>::try_from(parts) {
            Ok([schema, name]) => Ok(Self { schema, name }),
            Err(parts) if parts.len() == 1 => {
                Err(format!("`{text}` has no schema: write schema.table (the search_path is not used)"))
            }
            Err(_) => Err(format!("`{text}` has more than two parts: write schema.table")),
        }
    }
}

/// Parses dotted identifiers, folded unless quoted.
fn identifiers(text: &str) -> Result<Vec<String>, String> {
    let invalid = |what: &str| format!("`{text}` is not a valid table name: {what}");
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let part;
        (part, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_identifier(quoted).ok_or_else(|| invalid("a quotation mark is not closed"))?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let (word, rest) = rest.split_at(end);
                if let Some(bad) = word.chars().find(|letter| !(letter.is_alphanumeric() || "_$".contains(*letter))) {
                    return Err(invalid(&format!("`{bad}` needs quotation marks around the name")));
                }
                if word.starts_with(|first: char| first.is_ascii_digit() || first == '$') {
                    return Err(invalid("a name has to start with a letter or an underscore"));
                }
                (fold(word), rest)
            }
        };
        if part.is_empty() {
            return Err(invalid("one of its parts is empty"));
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(parts),
            None => return Err(invalid("something follows the closing quotation mark")),
        }
    }
}

/// Returns the identifier up to its closing quotation mark (doubled ones are escapes), and the rest of the text.
fn quoted_identifier(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_unless_quoted() {
        let name: TableName = "Settlement_ODS.\"Hist \"\"x\"\"\"".parse().unwrap();
        assert_eq!(name, TableName::new("settlement_ods", "Hist \"x\""));
        assert_eq!(name.to_string(), "settlement_ods.\"Hist \"\"x\"\"\"");
        assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn only_ascii_letters_are_folded() {
        let name: TableName = "C.GRÖSSE".parse().unwrap();
        assert_eq!(name, TableName::new("c", "grÖsse"));
        assert_eq!(name.to_string(), "c.\"grÖsse\"");
        assert_eq!(TableName::new("É", "ÉA").folded(), TableName::new("É", "Éa"));
    }

    #[test]
    fn rejects_invalid_names() {
        for (text, reason) in [
            ("mart", "has no schema"),
            ("a.b.c", "more than two parts"),
            ("a.", "empty"),
            ("a.\"b", "not closed"),
            ("a.b;drop", "needs quotation marks"),
            ("a.1b", "start with"),
            ("\"a\"x.b", "follows the closing"),
            (&format!("a.{}", "é".repeat(64)), "has 128 bytes"),
        ] {
            let found = text.parse::<TableName>().unwrap_err();
            assert!(found.contains(reason), "{text}: {found}");
        }
    }

    proptest::proptest! {
        #[test]
        fn displayed_names_parse_back(schema in "[a-zA-Z\"._ é]{1,9}", name in "[a-zA-Z0-9\"._$ é]{1,9}") {
            let name = TableName::new(schema, name);
            proptest::prop_assert_eq!(name.to_string().parse(), Ok(name.clone()));
            proptest::prop_assert_eq!(name.sql().parse(), Ok(name));
        }
    }
}
