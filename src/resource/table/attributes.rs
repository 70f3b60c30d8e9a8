//! Analyses a statement by its tokens: whether it is one plain CREATE TABLE, what its Redshift attributes are, and the
//! statement without them.
//!
//! It uses tokens instead of the parser's tree because the tree supports few of the attributes, and because the
//! statement that is sent has to be the user's own text, byte for byte, apart from removed attributes.

use std::ops::Range;

use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use crate::host::warehouse::{Dialect, Dist, MAX_IDENTIFIER_BYTES, Sort, TableName, fold};
use crate::resource::KeyError;
use crate::text::Position;

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
}

/// Every identifier up to this length is stored as it is.
fn is_long(name: &str) -> bool {
    name.len() > Dialect::Postgresql.max_identifier_bytes()
}

fn is_folded_by_locale(word: &Word) -> bool {
    word.quote_style.is_none() && word.value.chars().any(|letter| !letter.is_ascii() && letter.is_uppercase())
}

/// Analyses one CREATE TABLE. The error contains the position.
pub fn outline(ddl: &str) -> Result<Outline, KeyError> {
    let tokens = words(ddl)?;
    let mut words = Words { ddl, tokens: &tokens, at: 0 };
    words.check_lengths()?;
    let table = words.head()?;
    words.body(table)
}

/// Returns the statement's tokens without white space and comments.
fn words(ddl: &str) -> Result<Vec<TokenWithSpan>, KeyError> {
    let mut tokens = Tokenizer::new(&RedshiftSqlDialect {}, ddl).tokenize_with_location().map_err(|error| {
        let at = position(error.location);
        KeyError::new(format!("cannot parse the DDL at {at}: {}", error.message)).at(at)
    })?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
    while tokens.last().is_some_and(|token| token.token == Token::SemiColon) {
        tokens.pop();
    }
    match tokens.iter().position(|token| token.token == Token::SemiColon) {
        Some(index) => {
            let at = position(tokens[index].span.start);
            Err(KeyError::new(format!("the DDL contains more than one statement: the first ends at {at}")).at(at))
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
    /// Returns the current token in upper case if it is an unquoted word.
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

    fn names(&self) -> impl Iterator<Item = &Word> {
        self.tokens.iter().filter_map(|token| match &token.token {
            Token::Word(word) => Some(word),
            _ => None,
        })
    }

    fn check_lengths(&mut self) -> Result<(), KeyError> {
        let is_long = |token: &TokenWithSpan| match &token.token {
            Token::Word(word) => word.value.len() > MAX_IDENTIFIER_BYTES,
            _ => false,
        };
        let Some(at) = self.tokens.iter().position(is_long) else { return Ok(()) };
        self.at = at;
        let bytes = self.tokens.get(at).map_or(0, |token| token.token.to_string().trim_matches('"').len());
        Err(self.refused(format!("a name has {bytes} bytes, but the servers store at most {MAX_IDENTIFIER_BYTES}")))
    }

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

    /// Parses `(a, b)` at a token. Returns the columns and the number of tokens.
    fn columns_in_parentheses(&self, at: usize) -> Result<(Vec<String>, usize), KeyError> {
        let invalid = || {
            let expected = "expected a list of columns in parentheses in the DDL at";
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
                Some(Token::Word(word)) => columns.push(fold(&word.value)),
                _ => return Err(invalid()),
            }
            next += 2;
        }
        if columns.is_empty() || !self.is(next, &Token::RParen) {
            return Err(invalid());
        }
        Ok((columns, next + 1 - at))
    }

    /// Returns the byte range of the tokens from `first` to `last`.
    fn bytes(&self, first: usize, last: usize) -> Result<Range<usize>, KeyError> {
        let (Some(first), Some(last)) = (self.tokens.get(first), self.tokens.get(last)) else {
            return Err("an attribute at the end of the DDL is incomplete".into());
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

/// Converts a position in lines and characters to a byte offset.
fn byte_at(text: &str, place: Location) -> usize {
    let line = text.split_inclusive('\n').take(place.line.saturating_sub(1) as usize).map(str::len).sum::<usize>();
    let column = text[line..].chars().take(place.column.saturating_sub(1) as usize).map(char::len_utf8).sum::<usize>();
    line + column
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
