//! Parses the CREATE TABLE statement of a plan file as far as needed to know its columns.
//!
//! The parser is an allow-list: unsupported syntax is rejected with its position, and `columns:` next to `ddl` then
//! defines what to compare. The parser also accepts syntax that no server supports (attributes with LIKE, LIKE among
//! columns), which is rejected here.

use std::collections::BTreeSet;

use sqlparser::ast::{ColumnDef, ColumnOption, CreateTable, CreateTableLikeKind, Ident, Statement, TableConstraint};
use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use super::attributes::{Outline, outline};
use super::tokens::position;
use crate::host::warehouse::{Column, Dialect, TableName, fold};
use crate::resource::relation::NamedType;
use crate::resource::relation::types::{MAX_DIGITS, canonical, has_too_many_digits, implies_not_null};
use crate::resource::{KeyError, Segment};
use crate::text::Position;

/// A parsed statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Ddl {
    pub outline: Outline,
    pub shape: Shape,
    /// Whether it defines more than is compared: defaults, keys, checks.
    pub says_more: bool,
}

/// The columns of the table.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// These columns. Types are spelled as written.
    Columns(Vec<Column>),
    /// The columns of another table.
    Like(TableName),
}

impl Ddl {
    /// Parses a statement. With `columns`, it only has to be recognisable as one CREATE TABLE.
    ///
    /// # Errors
    /// The values of `ddl` or `columns` are invalid.
    pub fn parse(ddl: &str, columns: Option<&[Column]>) -> Result<Self, KeyError> {
        let outline = outline(ddl).map_err(|error| error.named("ddl"))?;
        let Some(columns) = columns else { return Self::from_outline(outline).map_err(|error| error.named("ddl")) };
        if columns.is_empty() {
            return Err(KeyError::new("no columns are listed").named("columns"));
        }
        if let Some((index, name)) = repeated(columns.iter().map(|column| column.name.as_str())) {
            let error = KeyError::new(format!("column `{name}` is listed twice")).named("columns");
            return Err(error.of([Segment::Key("columns"), Segment::Item(index), Segment::Key("name")]));
        }
        for (index, column) in columns.iter().enumerate().filter(|(_, column)| has_too_many_digits(&column.type_name)) {
            let error = too_many_digits(KeyError::new, &column.name, &column.type_name).named("columns");
            return Err(error.of([Segment::Key("columns"), Segment::Item(index), Segment::Key("type")]));
        }
        Ok(Self { outline, shape: Shape::Columns(columns.to_vec()), says_more: false })
    }

    fn from_outline(outline: Outline) -> Result<Self, KeyError> {
        let create = parse(&outline.blanked)?;
        if let Some(like) = &create.like {
            return Ok(Self { shape: Shape::Like(parent(&create, like, &outline)?), outline, says_more: false });
        }
        if create.columns.is_empty() {
            return Err("the DDL lists no columns".into());
        }
        reject_unknown_clauses(&create)?;
        let mut says_more = !create.constraints.is_empty() || outline.clauses.any;
        let keys = primary_key(&create.constraints);
        let mut columns = Vec::new();
        for definition in &create.columns {
            let (mut column, more) = column(definition, &keys)?;
            column.null &= !outline.clauses.identity.contains(&column.name);
            says_more |= more;
            columns.push(column);
        }
        if let Some((index, name)) = repeated(columns.iter().map(|column| column.name.as_str())) {
            let error = KeyError::new(format!("column `{name}` is listed twice"));
            return Err(error.at(place_of(&create.columns[index].name)));
        }
        Ok(Self { outline, shape: Shape::Columns(columns), says_more })
    }

    /// Returns the statement for a server: unchanged on Redshift, and on PostgreSQL without parts that only Redshift
    /// supports.
    pub fn sql(&self, spec: &str, dialect: Dialect) -> String {
        match dialect {
            Dialect::Redshift => spec.trim().to_owned(),
            Dialect::Postgresql => self.outline.without_attributes.trim().to_owned(),
        }
    }
}

const HINT_COLUMNS: &str = "add `columns:` next to `ddl` to define what to compare if the DDL cannot be parsed";

/// The maximum number of tokens of one column, and of what follows the columns. The parser and what it returns work by recursion.
const MAX_TOKENS: usize = 2000;

/// Whether a column has too many tokens.
fn is_too_long(ddl: &str) -> bool {
    let tokens = Tokenizer::new(&RedshiftSqlDialect {}, ddl).tokenize().unwrap_or_default();
    let of_columns = tokens.split(|token| *token == Token::Comma);
    let mut counts =
        of_columns.map(|column| column.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count());
    counts.any(|count| count > MAX_TOKENS)
}

fn parse(ddl: &str) -> Result<Box<CreateTable>, KeyError> {
    if is_too_long(ddl) {
        let error = KeyError::new(format!("cannot parse the DDL: a column has more than {MAX_TOKENS} words and signs"));
        return Err(error.hint(HINT_COLUMNS));
    }
    let statements = Parser::parse_sql(&RedshiftSqlDialect {}, ddl).map_err(|error| unreadable(&error))?;
    match <[Statement; 1]>::try_from(statements) {
        Ok([Statement::CreateTable(create)]) => Ok(Box::new(create)),
        _ => Err("the DDL is not one CREATE TABLE".into()),
    }
}

/// Converts a parser error. Its position is only in the message, at the end.
fn unreadable(error: &ParserError) -> KeyError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "it is nested too deeply",
    };
    let placed = text.rsplit_once(" at Line: ").and_then(|(what, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((what, Position { line: line.parse().ok()?, column: column.parse().ok()? }))
    });
    let error = match placed {
        Some((what, at)) => {
            let what = what.replacen("Expected", "expected", 1);
            KeyError::new(format!("cannot parse the DDL at {at}: {what}")).at(at)
        }
        None => KeyError::new(format!("cannot parse the DDL: {text}")),
    };
    error.hint(HINT_COLUMNS)
}

fn place_of(name: &Ident) -> Position {
    position(name.span.start)
}

/// Returns the parent in `(LIKE parent [INCLUDING DEFAULTS])`.
fn parent(create: &CreateTable, like: &CreateTableLikeKind, outline: &Outline) -> Result<TableName, KeyError> {
    let CreateTableLikeKind::Parenthesized(like) = like else {
        return Err("LIKE has to be in parentheses: CREATE TABLE name (LIKE parent)".into());
    };
    if outline.has_attributes || !create.columns.is_empty() || !create.constraints.is_empty() {
        return Err(
            "LIKE cannot be combined with other clauses: the dist style, the sort key and the columns come from the parent".into()
        );
    }
    let parts = like.name.0.iter().map(|part| part.as_ident().map(folded)).collect::<Option<Vec<_>>>();
    match parts.map(<[String; 2]>::try_from) {
        Some(Ok([schema, name])) => Ok(TableName::new(schema, name)),
        _ => Err(format!("`{}` after LIKE has to be written as schema.table", like.name).into()),
    }
}

fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { fold(&name.value) }
}

/// Rejects every clause that is not handled: after removing the handled ones, nothing may be left. Redshift's
/// attributes have already been removed.
fn reject_unknown_clauses(create: &CreateTable) -> Result<(), KeyError> {
    let Ok(mut bare) = parse("CREATE TABLE a.b (c INT)") else { return Err("the parser is broken".into()) };
    bare.name = create.name.clone();
    bare.columns = create.columns.clone();
    bare.constraints = create.constraints.clone();
    if *bare == *create {
        return Ok(());
    }
    Err(KeyError::new("the DDL has an unsupported clause after its columns").hint(HINT_COLUMNS))
}

fn primary_key(constraints: &[TableConstraint]) -> BTreeSet<String> {
    let mut columns = BTreeSet::new();
    for constraint in constraints {
        if let TableConstraint::PrimaryKey(key) = constraint {
            columns.extend(key.columns.iter().filter_map(|column| match &column.column.expr {
                sqlparser::ast::Expr::Identifier(name) => Some(folded(name)),
                _ => None,
            }));
        }
    }
    columns
}

/// Parses a column. Also returns whether its definition contains more than is compared.
fn column(definition: &ColumnDef, keys: &BTreeSet<String>) -> Result<(Column, bool), KeyError> {
    let name = folded(&definition.name);
    let refused = |message: String| KeyError::new(message).at(place_of(&definition.name));
    if definition.name.quote_style.is_none() && name == "like" {
        return Err(refused("LIKE cannot be combined with columns: list the columns, or use LIKE alone".to_owned()));
    }
    let type_name = definition.data_type.to_string();
    if has_too_many_digits(&type_name) {
        return Err(too_many_digits(refused, &name, &type_name));
    }
    // The type has to be known on one of the servers, because the dialect is not known yet.
    if [Dialect::Postgresql, Dialect::Redshift].iter().all(|dialect| canonical(&type_name, *dialect).is_none()) {
        match NamedType::parse(&type_name) {
            Some(named) if named.is_qualified() => {}
            Some(_) => {
                let error = refused(format!(
                    "column `{name}` has the type {type_name}, which is not a type that provision knows"
                ));
                return Err(error.hint(
                    "correct the type, or write it with its schema (public.citext, pg_catalog.xid): any type that PostgreSQL has is known by that name",
                ));
            }
            None => {
                let error = refused(format!("column `{name}` has the type {type_name}, which cannot be compared"));
                return Err(error.hint(HINT_COLUMNS));
            }
        }
    }
    let mut null = !(keys.contains(&name) || implies_not_null(&type_name));
    let mut more = false;
    for option in &definition.options {
        match &option.option {
            ColumnOption::NotNull => null = false,
            ColumnOption::Null => {}
            ColumnOption::PrimaryKey(_) => {
                null = false;
                more = true;
            }
            ColumnOption::Default(_)
            | ColumnOption::Unique(_)
            | ColumnOption::ForeignKey(_)
            | ColumnOption::Check(_)
            | ColumnOption::Collation(_) => more = true,
            other => {
                let error = refused(format!("column `{name}` has an unsupported option: {other}"));
                return Err(error.hint(HINT_COLUMNS));
            }
        }
    }
    Ok((Column { name, type_name, null }, more))
}

/// The refusal of a time with more digits than the servers keep.
fn too_many_digits(refused: impl FnOnce(String) -> KeyError, name: &str, type_name: &str) -> KeyError {
    let what = format!(
        "column `{name}` has the type {type_name}, but the servers keep at most {MAX_DIGITS} digits of a second"
    );
    refused(what).hint(format!("write {MAX_DIGITS}, or leave the number out"))
}

/// The first name that is there a second time, with its index.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    let mut seen = BTreeSet::new();
    names.enumerate().find(|(_, name)| !seen.insert(*name))
}

#[cfg(test)]
#[path = "ddl_tests.rs"]
mod tests;
