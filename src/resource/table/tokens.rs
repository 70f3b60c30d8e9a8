//! The tokens of a statement, and a position among them.

use std::ops::Range;

use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use crate::host::warehouse::{Dialect, MAX_IDENTIFIER_BYTES, TableName, fold};
use crate::resource::KeyError;
use crate::text::Position;

/// Returns the statement's tokens without white space and comments.
pub fn words(ddl: &str) -> Result<Vec<TokenWithSpan>, KeyError> {
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

/// Returns a valid statement with a `;` at its end, so that others can follow it.
pub fn terminated(ddl: &str) -> String {
    let ddl = ddl.trim();
    let mut tokens = Tokenizer::new(&RedshiftSqlDialect {}, ddl).tokenize().unwrap_or_default();
    tokens.retain(|token| *token != Token::EOF);
    let last = tokens.iter().rfind(|token| !matches!(token, Token::Whitespace(_)));
    match tokens.last() {
        _ if last == Some(&Token::SemiColon) => ddl.to_owned(),
        Some(Token::Whitespace(Whitespace::SingleLineComment { .. })) => format!("{ddl}\n;"),
        _ => format!("{ddl};"),
    }
}

pub fn position(location: Location) -> Position {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Position { line: count(location.line), column: count(location.column) }
}

/// Returns the tables that foreign keys refer to. They have to exist before the statement is executed.
pub fn referenced(ddl: &str) -> Vec<TableName> {
    let tokens = words(ddl).unwrap_or_default();
    let words = Words { ddl, tokens: &tokens, at: 0 };
    let part = |at: usize| match &tokens.get(at)?.token {
        Token::Word(word) if word.quote_style.is_some() => Some(word.value.clone()),
        Token::Word(word) => Some(fold(&word.value)),
        _ => None,
    };
    let name = |at: usize| {
        let is_qualified = words.word_at(at).as_deref() == Some("REFERENCES") && words.is(at + 2, &Token::Period);
        is_qualified.then(|| Some(TableName::new(part(at + 1)?, part(at + 3)?))).flatten()
    };
    (0..tokens.len()).filter_map(name).collect()
}

/// The tokens of a statement.
pub struct Words<'a> {
    pub ddl: &'a str,
    pub tokens: &'a [TokenWithSpan],
    pub at: usize,
}

impl Words<'_> {
    /// Returns the current token in upper case if it is an unquoted word.
    pub fn word(&self) -> Option<String> {
        self.word_at(self.at)
    }

    pub fn word_at(&self, at: usize) -> Option<String> {
        match &self.tokens.get(at)?.token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    pub fn is(&self, at: usize, token: &Token) -> bool {
        self.tokens.get(at).is_some_and(|found| found.token == *token)
    }

    /// Returns an error about the current word. Its message names the place of the word.
    pub fn unexpected(&self, expected: &str) -> KeyError {
        match self.tokens.get(self.at) {
            Some(token) => {
                let at = position(token.span.start);
                KeyError::new(format!("{expected} {at}: found {}", token.token)).at(at)
            }
            None => KeyError::new(format!("{expected} its end")),
        }
    }

    /// Returns an error about the current word.
    pub fn refused(&self, message: impl Into<String>) -> KeyError {
        let error = KeyError::new(message);
        match self.tokens.get(self.at) {
            Some(token) => error.at(position(token.span.start)),
            None => error,
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &Word> {
        self.tokens.iter().filter_map(|token| match &token.token {
            Token::Word(word) => Some(word),
            _ => None,
        })
    }

    pub fn check_lengths(&mut self) -> Result<(), KeyError> {
        let is_long = |token: &TokenWithSpan| match &token.token {
            Token::Word(word) => word.value.len() > MAX_IDENTIFIER_BYTES,
            _ => false,
        };
        let Some(at) = self.tokens.iter().position(is_long) else { return Ok(()) };
        self.at = at;
        let bytes = self.tokens.get(at).map_or(0, |token| token.token.to_string().trim_matches('"').len());
        Err(self.refused(format!("a name has {bytes} bytes, but the servers store at most {MAX_IDENTIFIER_BYTES}")))
    }

    /// Returns the number of tokens of a group in parentheses at a token, or 0 if there is none.
    pub fn group(&self, at: usize) -> usize {
        let mut depth = 0usize;
        for (length, token) in self.tokens.get(at..).unwrap_or_default().iter().enumerate() {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return if length == 0 { 0 } else { length + 1 };
            }
        }
        0
    }

    /// Parses `(a, b)` at a token. Returns the columns and the number of tokens.
    pub fn columns_in_parentheses(&self, at: usize) -> Result<(Vec<String>, usize), KeyError> {
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
    pub fn bytes(&self, first: usize, last: usize) -> Result<Range<usize>, KeyError> {
        let (Some(first), Some(last)) = (self.tokens.get(first), self.tokens.get(last)) else {
            return Err("an attribute at the end of the DDL is incomplete".into());
        };
        Ok(byte_at(self.ddl, first.span.start)..byte_at(self.ddl, last.span.end))
    }
}

/// Returns whether a name is longer than the identifiers that every server stores unchanged.
pub fn is_long(name: &str) -> bool {
    name.len() > Dialect::Postgresql.max_identifier_bytes()
}

pub fn is_folded_by_locale(word: &Word) -> bool {
    word.quote_style.is_none() && word.value.chars().any(|letter| !letter.is_ascii() && letter.is_uppercase())
}

/// Converts a position in lines and characters to a byte offset.
fn byte_at(text: &str, place: Location) -> usize {
    let line = text.split_inclusive('\n').take(place.line.saturating_sub(1) as usize).map(str::len).sum::<usize>();
    let column = text[line..].chars().take(place.column.saturating_sub(1) as usize).map(char::len_utf8).sum::<usize>();
    line + column
}
