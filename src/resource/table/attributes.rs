//! A statement's outline, by its words alone: is it one plain CREATE TABLE, what are its Redshift attributes, and how
//! does it read without them?
//!
//! This works on words rather than on the parser's tree because the tree knows few of the attributes, and because what
//! is sent has to stay the user's own text, byte for byte, but for what is cut out of it.

use std::ops::Range;

use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::host::warehouse::{Dist, Sort, TableName};
use crate::resource::KeyError;
use crate::text::Position;

/// What a statement's words say.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    pub table: TableName,
    pub dist: Option<Dist>,
    pub sort: Option<Sort>,
    /// The statement without the attributes that Redshift alone knows.
    pub without_attributes: String,
    /// The same with blanks in their place, so that every other word keeps its line and column.
    pub blanked: String,
    /// Whether it has any.
    pub has_attributes: bool,
}

/// Reads one CREATE TABLE. The error says where and what.
pub fn outline(ddl: &str) -> Result<Outline, KeyError> {
    let tokens = words(ddl)?;
    let mut words = Words { ddl, tokens: &tokens, at: 0 };
    let table = words.head()?;
    words.body(table)
}

/// The statement's tokens, blanks and comments left out.
fn words(ddl: &str) -> Result<Vec<TokenWithSpan>, KeyError> {
    let mut tokens = Tokenizer::new(&RedshiftSqlDialect {}, ddl).tokenize_with_location().map_err(|error| {
        let at = position(error.location);
        KeyError::new(format!("the DDL cannot be read at {at}: {}", error.message)).at(at)
    })?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
    while tokens.last().is_some_and(|token| token.token == Token::SemiColon) {
        tokens.pop();
    }
    match tokens.iter().position(|token| token.token == Token::SemiColon) {
        Some(index) => {
            let at = position(tokens[index].span.start);
            Err(KeyError::new(format!("the DDL holds more than one statement: the first ends at {at}")).at(at))
        }
        None if tokens.is_empty() => Err("the DDL is empty".into()),
        None => Ok(tokens),
    }
}

pub fn position(location: Location) -> Position {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Position { line: count(location.line), column: count(location.column) }
}

struct Words<'a> {
    ddl: &'a str,
    tokens: &'a [TokenWithSpan],
    at: usize,
}

impl Words<'_> {
    /// The word at hand in upper case, unless it is quoted or no word at all.
    fn word(&self) -> Option<String> {
        self.word_at(self.at)
    }

    fn word_at(&self, at: usize) -> Option<String> {
        match &self.tokens.get(at)?.token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    fn is(&self, at: usize, token: &Token) -> bool {
        self.tokens.get(at).is_some_and(|found| found.token == *token)
    }

    /// An error about the word at hand, whose message ends with its place.
    fn unexpected(&self, expected: &str) -> KeyError {
        match self.tokens.get(self.at) {
            Some(token) => {
                let at = position(token.span.start);
                KeyError::new(format!("{expected} {at}: found {}", token.token)).at(at)
            }
            None => KeyError::new(format!("{expected} its end")),
        }
    }

    /// An error about the word at hand.
    fn refused(&self, message: impl Into<String>) -> KeyError {
        let error = KeyError::new(message);
        match self.tokens.get(self.at) {
            Some(token) => error.at(position(token.span.start)),
            None => error,
        }
    }

    /// `CREATE TABLE schema.name (`, and nothing else in its place.
    fn head(&mut self) -> Result<TableName, KeyError> {
        if self.word().as_deref() != Some("CREATE") {
            return Err(self.unexpected("the DDL is not a CREATE TABLE;"));
        }
        self.at += 1;
        match self.word().as_deref() {
            Some("TABLE") => self.at += 1,
            Some("OR") => return Err(self.refused("CREATE OR REPLACE is refused: it would drop a table that is there")),
            Some("TEMP" | "TEMPORARY" | "LOCAL" | "GLOBAL") => {
                return Err(self.refused("a temporary table is refused: it is gone with the session that makes it"));
            }
            Some(kind @ ("EXTERNAL" | "UNLOGGED")) => {
                return Err(self.refused(format!("CREATE {kind} TABLE is refused: only plain tables are made")));
            }
            _ => return Err(self.unexpected("the DDL is not a CREATE TABLE;")),
        }
        if self.word().as_deref() == Some("IF") {
            return Err(self.refused(
                "IF NOT EXISTS is refused: it takes any table of that name for the right one; without it, the columns \
                 are compared and the table is made only where it is missing",
            ));
        }
        let begins = self.at;
        let mut parts = Vec::new();
        loop {
            match self.tokens.get(self.at).map(|token| &token.token) {
                Some(Token::Word(word)) if word.quote_style.is_some() => parts.push(word.value.clone()),
                Some(Token::Word(word)) => parts.push(word.value.to_lowercase()),
                _ => return Err(self.unexpected("a table's name is expected at")),
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
                1 => format!("`{spec}` names no schema: write schema.table, the search_path is not consulted"),
                _ => format!("`{spec}` has more than two parts: write schema.table"),
            })
        })?;
        if self.word().as_deref() == Some("AS") {
            return Err(self.refused("CREATE TABLE AS is refused: it copies rows"));
        }
        if !self.is(self.at, &Token::LParen) {
            return Err(self.unexpected("the list of columns is expected at"));
        }
        Ok(TableName::new(schema, name))
    }

    /// The columns and what follows them, looked through for attributes.
    fn body(&mut self, table: TableName) -> Result<Outline, KeyError> {
        let mut found = Attributes::default();
        let mut cuts = Vec::new();
        let mut depth = 0usize;
        let mut column = String::new();
        while let Some(token) = self.tokens.get(self.at) {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => {
                    depth = depth.checked_sub(1).ok_or_else(|| self.unexpected("a `)` too many at"))?;
                }
                _ => {}
            }
            let opens_column = depth == 1 && (self.is(self.at, &Token::Comma) || self.is(self.at, &Token::LParen));
            if opens_column && let Some(Token::Word(word)) = self.tokens.get(self.at + 1).map(|next| &next.token) {
                // A column may be called `encode`: its name is never an attribute.
                column = if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() };
                self.at += 2;
                continue;
            }
            let length = match depth {
                0 if matches!(self.word().as_deref(), Some("AS" | "SELECT")) => {
                    return Err(self.refused("CREATE TABLE AS is refused: it copies rows"));
                }
                0 => self.table_attribute(&mut found)?,
                1 => self.column_attribute(&column, &mut found),
                _ => 0,
            };
            if length > 0 {
                cuts.push(self.bytes(self.at, self.at + length - 1)?);
            }
            self.at += length.max(1);
        }
        if depth > 0 {
            return Err("a `(` in the DDL is not closed".into());
        }
        let has_attributes = !cuts.is_empty();
        Ok(Outline {
            table,
            dist: found.dist(),
            sort: found.sort,
            without_attributes: cut(self.ddl, &cuts),
            blanked: blank_out(self.ddl, &cuts),
            has_attributes,
        })
    }

    /// How many tokens an attribute after the columns takes, none being zero.
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
            ("DISTSTYLE", _) => Err(self.unexpected("DISTSTYLE takes AUTO, EVEN, KEY or ALL, at")),
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

    /// How many tokens an attribute of a column takes, none being zero.
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

    /// `(a, b)` at a token: the columns, and how many tokens that is.
    fn columns_in_parentheses(&self, at: usize) -> Result<(Vec<String>, usize), KeyError> {
        let wrong = || {
            let expected = "a list of columns in parentheses is expected in the DDL at";
            match self.tokens.get(at).map(|token| position(token.span.start)) {
                Some(place) => KeyError::new(format!("{expected} {place}")).at(place),
                None => KeyError::new(format!("{expected} its end")),
            }
        };
        let mut columns = Vec::new();
        let mut next = at;
        while self.is(next, if next == at { &Token::LParen } else { &Token::Comma }) {
            match self.tokens.get(next + 1).map(|token| &token.token) {
                Some(Token::Word(word)) if word.quote_style.is_some() => columns.push(word.value.clone()),
                Some(Token::Word(word)) => columns.push(word.value.to_lowercase()),
                _ => return Err(wrong()),
            }
            next += 2;
        }
        if columns.is_empty() || !self.is(next, &Token::RParen) {
            return Err(wrong());
        }
        Ok((columns, next + 1 - at))
    }

    /// The bytes of the tokens from `first` to `last`.
    fn bytes(&self, first: usize, last: usize) -> Result<Range<usize>, KeyError> {
        let (Some(first), Some(last)) = (self.tokens.get(first), self.tokens.get(last)) else {
            return Err("an attribute at the end of the DDL is not complete".into());
        };
        Ok(byte_at(self.ddl, first.span.start)..byte_at(self.ddl, last.span.end))
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

/// The byte of a place that is counted in lines and characters.
fn byte_at(text: &str, place: Location) -> usize {
    let line = text.split_inclusive('\n').take(place.line.saturating_sub(1) as usize).map(str::len).sum::<usize>();
    let column = text[line..].chars().take(place.column.saturating_sub(1) as usize).map(char::len_utf8).sum::<usize>();
    line + column
}

/// The text without the ranges, and without the blanks before each.
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

/// Takes off blanks and line ends, but for one that may end a comment: what comes next would be part of it.
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

/// The text with blanks for every letter of the ranges; line ends stay.
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
