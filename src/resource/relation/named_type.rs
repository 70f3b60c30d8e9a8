//! Types that are not built in: domains, enums, composite types, and types of extensions. The server knows their names in the
//! catalog.

use std::collections::BTreeSet;

use postgres_protocol::escape::escape_identifier;

use super::types::canonical;
use crate::host::warehouse::{Catalog, Column, Dialect, fold};

/// A type as it is written: a name with or without a schema, modifiers, and whether it is an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedType {
    path: Vec<String>,
    /// `(3)` and the like, without spaces.
    modifiers: String,
    is_array: bool,
}

impl NamedType {
    /// Parses `schema.name`, `"Schema"."Name"(3)`, `name[]`. Returns `None` for a built-in type and for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if [Dialect::Postgresql, Dialect::Redshift].iter().any(|dialect| canonical(text, *dialect).is_some()) {
            return None;
        }
        let (mut path, mut rest) = (Vec::new(), text.trim());
        loop {
            let (part, after) = identifier(rest)?;
            path.push(part);
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None => {
                    rest = after.trim_start();
                    break;
                }
            }
        }
        let mut modifiers = String::new();
        if let Some(inside) = rest.strip_prefix('(') {
            let (inside, after) = inside.split_once(')')?;
            modifiers = format!("({})", inside.split_whitespace().collect::<String>());
            rest = after.trim_start();
        }
        let is_array = !rest.is_empty();
        while let Some(inside) = rest.strip_prefix('[') {
            let (digits, after) = inside.split_once(']')?;
            if !digits.trim().bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            rest = after.trim_start();
        }
        let is_complete = rest.is_empty() || rest.eq_ignore_ascii_case("array");
        (is_complete && path.len() <= 2).then_some(Self { path, modifiers, is_array })
    }

    /// Returns whether the name has a schema.
    pub fn is_qualified(&self) -> bool {
        self.path.len() == 2
    }

    /// Returns the name of the type, or of the elements of the array, for the server.
    pub fn sql(&self) -> String {
        self.path.iter().map(|part| escape_identifier(part)).collect::<Vec<_>>().join(".")
    }

    /// Returns the spelling of the catalog, if the type exists.
    fn spelling(&self, catalog: &Catalog) -> Option<String> {
        let name = catalog.types.get(&self.sql())?;
        Some(format!("{name}{}{}", self.modifiers, if self.is_array { "[]" } else { "" }))
    }
}

/// Returns the types of the columns that are not built in, for a query of the catalog.
pub fn named_types(columns: &[Column]) -> BTreeSet<String> {
    columns.iter().filter_map(|column| NamedType::parse(&column.type_name)).map(|named| named.sql()).collect()
}

/// Returns the columns with their types in the spelling of the catalog. A type that does not exist stays as it is.
pub fn with_catalog_spelling(columns: &[Column], catalog: &Catalog) -> Vec<Column> {
    let spelled = |column: &Column| {
        let spelling = NamedType::parse(&column.type_name).and_then(|named| named.spelling(catalog));
        Column { type_name: spelling.unwrap_or_else(|| column.type_name.clone()), ..column.clone() }
    };
    columns.iter().map(spelled).collect()
}

/// Returns the identifier at the start of a text, folded unless quoted, and the rest.
fn identifier(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        loop {
            let (part, after) = rest.split_once('"')?;
            name.push_str(part);
            match after.strip_prefix('"') {
                Some(more) => {
                    name.push('"');
                    rest = more;
                }
                None => return (!name.is_empty()).then_some((name, after)),
            }
        }
    }
    let end = text.find(|letter: char| !(letter.is_alphanumeric() || "_$".contains(letter))).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    name.starts_with(|first: char| first.is_alphabetic() || first == '_').then(|| (fold(name), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_modifiers_and_arrays_are_told_apart() {
        let catalog = |sql: &str| Catalog {
            types: [(sql.to_owned(), "s.it".to_owned())].into(),
            ..Catalog::empty(Dialect::Postgresql, "etl".into())
        };
        for (text, sql, spelling) in [
            ("s.mood", "\"s\".\"mood\"", "s.it"),
            ("S.Mood [3][]", "\"s\".\"mood\"", "s.it[]"),
            ("s.\"My \"\"type\"", "\"s\".\"My \"\"type\"", "s.it"),
            ("public.geometry( Point, 4326 )", "\"public\".\"geometry\"", "s.it(Point,4326)"),
            ("vector(3)[]", "\"vector\"", "s.it(3)[]"),
            ("mood array", "\"mood\"", "s.it[]"),
        ] {
            let named = NamedType::parse(text).unwrap();
            assert_eq!(named.sql(), sql, "{text}");
            assert_eq!(named.is_qualified(), text.contains('.'), "{text}");
            assert_eq!(named.spelling(&catalog(sql)).as_deref(), Some(spelling), "{text}");
            assert_eq!(named.spelling(&Catalog::empty(Dialect::Postgresql, "etl".into())), None);
        }
        for text in
            ["integer", "varchar(5)", "int[]", "a.b.c", "int unsigned", "s.", "", "s.mood(", "s.mood]", "1x", "\"x"]
        {
            assert_eq!(NamedType::parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_type_or_not(text in "\\PC{0,20}|([a-z]|\\.|\"|\\(|\\)|\\[|\\]| ){0,12}") {
            let _either = NamedType::parse(&text);
        }
    }
}
