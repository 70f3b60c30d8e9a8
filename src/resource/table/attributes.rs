//! Analyses a statement by its tokens: whether it is one plain CREATE TABLE, what its Redshift attributes are, and the
//! statement without them.
//!
//! It uses tokens instead of the parser's tree because the tree supports few of the attributes, and because the
//! statement that is sent has to be the user's own text, byte for byte, apart from removed attributes.

use std::ops::Range;

use sqlparser::tokenizer::Token;

use super::clauses::Clauses;
use super::tokens::{Words, is_folded_by_locale, is_long, words};
use crate::host::warehouse::{Dist, Sort, TableName, fold};
use crate::resource::KeyError;

/// The result of the analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    pub table: TableName,
    pub dist: Option<Dist>,
    pub sort: Option<Sort>,
    /// The statement without attributes that only Redshift supports.
    pub without_attributes: String,
    /// The same with spaces in their place, so that all other tokens keep their line and column.
    pub blanked: String,
    /// Whether the statement has such attributes.
    pub has_attributes: bool,
    /// Every name and word of the statement that some server would truncate.
    pub long_words: Vec<String>,
    /// An unquoted word with capital letters outside ASCII. Servers with a single-byte encoding fold it by their locale.
    pub locale_word: Option<String>,
    /// The clauses of the statement besides columns and Redshift's attributes.
    pub clauses: Clauses,
}

/// Analyses one CREATE TABLE. The error contains the position.
pub fn outline(ddl: &str) -> Result<Outline, KeyError> {
    let tokens = words(ddl)?;
    let mut words = Words { ddl, tokens: &tokens, at: 0 };
    words.check_lengths()?;
    let table = words.head()?;
    words.body(table)
}

impl Words<'_> {
    /// Parses exactly `CREATE TABLE schema.name (`.
    fn head(&mut self) -> Result<TableName, KeyError> {
        if self.word().as_deref() != Some("CREATE") {
            return Err(self.unexpected("the DDL is not a CREATE TABLE;"));
        }
        self.at += 1;
        match self.word().as_deref() {
            Some("TABLE") => self.at += 1,
            Some("OR") => return Err(self.refused("CREATE OR REPLACE is not allowed: it would drop an existing table")),
            Some("TEMP" | "TEMPORARY" | "LOCAL" | "GLOBAL") => {
                return Err(
                    self.refused("temporary tables are not allowed: they end with the session that creates them")
                );
            }
            Some(kind @ ("EXTERNAL" | "UNLOGGED")) => {
                return Err(
                    self.refused(format!("CREATE {kind} TABLE is not allowed: only plain tables are supported"))
                );
            }
            _ => return Err(self.unexpected("the DDL is not a CREATE TABLE;")),
        }
        if self.word().as_deref() == Some("IF") {
            return Err(self.refused(
                "IF NOT EXISTS is not allowed: it accepts any existing table of that name; without it, the columns are \
                 compared, and the table is created only if it does not exist",
            ));
        }
        let begins = self.at;
        let mut parts = Vec::new();
        loop {
            match self.tokens.get(self.at).map(|token| &token.token) {
                Some(Token::Word(word)) if word.quote_style.is_some() => parts.push(word.value.clone()),
                Some(Token::Word(word)) => parts.push(fold(&word.value)),
                _ => return Err(self.unexpected("expected a table name at")),
            }
            self.at += 1;
            if !self.is(self.at, &Token::Period) {
                break;
            }
            self.at += 1;
        }
        let spec = parts.join(".");
        let [schema, name] = <[String; 2]>::try_from(parts).map_err(|parts| {
            self.at = begins;
            self.refused(match parts.len() {
                1 => format!("`{spec}` has no schema: write schema.table (the search_path is not used)"),
                _ => format!("`{spec}` has more than two parts: write schema.table"),
            })
        })?;
        if self.word().as_deref() == Some("AS") {
            return Err(self.refused("CREATE TABLE AS is not allowed: it copies rows"));
        }
        if !self.is(self.at, &Token::LParen) {
            return Err(self.unexpected("expected a list of columns at"));
        }
        Ok(TableName::new(schema, name))
    }

    /// Parses the columns and the attributes in and after them.
    fn body(&mut self, table: TableName) -> Result<Outline, KeyError> {
        let mut found = Attributes::default();
        let mut cuts = Vec::new();
        let mut clauses = Clauses::default();
        let mut blanks = Vec::new();
        let mut depth = 0usize;
        let mut column = String::new();
        while let Some(token) = self.tokens.get(self.at) {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => {
                    depth = depth.checked_sub(1).ok_or_else(|| self.unexpected("unexpected `)` at"))?;
                }
                _ => {}
            }
            let opens_column = depth == 1 && (self.is(self.at, &Token::Comma) || self.is(self.at, &Token::LParen));
            if opens_column && let Some(Token::Word(word)) = self.tokens.get(self.at + 1).map(|next| &next.token) {
                // A column may be named `encode`, so its name is never an attribute.
                column = if word.quote_style.is_some() { word.value.clone() } else { fold(&word.value) };
                self.at += 2;
                continue;
            }
            let length = match depth {
                0 if matches!(self.word().as_deref(), Some("AS" | "SELECT")) => {
                    return Err(self.refused("CREATE TABLE AS is not allowed: it copies rows"));
                }
                0 => self.table_attribute(&mut found)?,
                1 => self.column_attribute(&column, &mut found),
                _ => 0,
            };
            if length > 0 {
                cuts.push(self.bytes(self.at, self.at + length - 1)?);
            }
            let kept = match depth {
                _ if length > 0 => 0,
                0 => self.table_clause(&mut clauses),
                1 => self.column_clause(&column, &mut clauses),
                _ => 0,
            };
            if kept > 0 {
                blanks.push(self.bytes(self.at, self.at + kept - 1)?);
            }
            self.at += length.max(kept).max(1);
        }
        if depth > 0 {
            return Err("a `(` in the DDL is not closed".into());
        }
        let has_attributes = !cuts.is_empty();
        blanks.extend(cuts.iter().cloned());
        blanks.sort_by_key(|range| range.start);
        Ok(Outline {
            table,
            dist: found.dist(),
            sort: found.sort,
            without_attributes: cut(self.ddl, &cuts),
            blanked: blank_out(self.ddl, &blanks),
            clauses,
            has_attributes,
            long_words: self.names().map(|word| word.value.clone()).filter(|name| is_long(name)).collect(),
            locale_word: self.names().find(|word| is_folded_by_locale(word)).map(|word| word.value.clone()),
        })
    }

    /// Returns the number of tokens of an attribute after the columns, or 0.
    fn table_attribute(&self, found: &mut Attributes) -> Result<usize, KeyError> {
        let Some(word) = self.word() else { return Ok(0) };
        let next = self.word_at(self.at + 1);
        match (word.as_str(), next.as_deref()) {
            ("BACKUP", Some("YES" | "NO")) | ("ENCODE", Some("AUTO")) => Ok(2),
            ("SORTKEY", Some("AUTO")) => Ok(2),
            ("DISTSTYLE", Some(style @ ("AUTO" | "EVEN" | "ALL" | "KEY"))) => {
                found.style = Some(style.to_owned());
                Ok(2)
            }
            ("DISTSTYLE", _) => Err(self.unexpected("DISTSTYLE has to be AUTO, EVEN, KEY or ALL, at")),
            ("DISTKEY", _) => {
                let (columns, length) = self.columns_in_parentheses(self.at + 1)?;
                found.dist_key = columns.into_iter().next();
                Ok(1 + length)
            }
            ("COMPOUND" | "INTERLEAVED", Some("SORTKEY")) => {
                let (columns, length) = self.columns_in_parentheses(self.at + 2)?;
                found.sort = Some(Sort { columns, interleaved: word == "INTERLEAVED" });
                Ok(2 + length)
            }
            ("SORTKEY", _) => {
                let (columns, length) = self.columns_in_parentheses(self.at + 1)?;
                found.sort = Some(Sort { columns, interleaved: false });
                Ok(1 + length)
            }
            _ => Ok(0),
        }
    }

    /// Returns the number of tokens of an attribute of a column, or 0.
    fn column_attribute(&self, column: &str, found: &mut Attributes) -> usize {
        match self.word().as_deref() {
            Some("ENCODE") if self.word_at(self.at + 1).is_some() => 2,
            Some("DISTKEY") => {
                found.dist_key = Some(column.to_owned());
                1
            }
            Some("SORTKEY") => {
                found.sort = Some(Sort { columns: vec![column.to_owned()], interleaved: false });
                1
            }
            _ => 0,
        }
    }
}

#[derive(Default)]
struct Attributes {
    style: Option<String>,
    dist_key: Option<String>,
    sort: Option<Sort>,
}

impl Attributes {
    fn dist(&self) -> Option<Dist> {
        match (self.style.as_deref(), &self.dist_key) {
            (None | Some("KEY"), Some(column)) => Some(Dist::Key { column: column.clone() }),
            (Some("EVEN"), _) => Some(Dist::Even),
            (Some("ALL"), _) => Some(Dist::All),
            (Some("AUTO"), _) => Some(Dist::Auto),
            _ => None,
        }
    }
}

/// Returns the text without the ranges, and without the white space before each.
fn cut(text: &str, ranges: &[Range<usize>]) -> String {
    let mut kept = String::new();
    let mut from = 0;
    for range in ranges {
        kept.push_str(trim_end(&text[from..range.start]));
        from = range.end;
    }
    kept.push_str(&text[from..]);
    kept
}

/// Removes trailing white space, except a line end after a comment, because the next token would become part of the
/// comment.
fn trim_end(mut text: &str) -> &str {
    loop {
        text = text.trim_end_matches([' ', '\t']);
        let Some(rest) = text.strip_suffix('\n') else { return text };
        if rest.rsplit('\n').next().is_some_and(|line| line.contains("--")) {
            return text;
        }
        text = rest.strip_suffix('\r').unwrap_or(rest);
    }
}

/// Returns the text with spaces for the characters of the ranges. Line ends are kept.
fn blank_out(text: &str, ranges: &[Range<usize>]) -> String {
    let mut kept = String::new();
    let mut from = 0;
    for range in ranges {
        kept.push_str(&text[from..range.start]);
        kept.extend(text[range.clone()].chars().map(|letter| if letter == '\n' { letter } else { ' ' }));
        from = range.end;
    }
    kept.push_str(&text[from..]);
    kept
}
