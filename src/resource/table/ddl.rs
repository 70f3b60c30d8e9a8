//! Parses the CREATE TABLE statement of a plan file as far as needed to know its columns.
//!
//! The parser is an allow-list: unsupported syntax is rejected with its position, and `columns:` next to `ddl` then
//! defines what to compare. The parser also accepts syntax that no server supports (attributes with LIKE, LIKE among
//! columns), which is rejected here.

use std::collections::BTreeSet;

use sqlparser::ast::{ColumnDef, ColumnOption, CreateTable, CreateTableLikeKind, Ident, Statement, TableConstraint};
use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::parser::{Parser, ParserError};

use super::attributes::{Outline, outline};
use super::tokens::position;
use crate::host::warehouse::{Column, Dialect, TableName, fold};
use crate::resource::relation::NamedType;
use crate::resource::relation::compare::{self, Difference};
use crate::resource::relation::types::{MAX_DIGITS, canonical, has_too_many_digits, implies_not_null};
use crate::resource::{KeyError, Segment};
use crate::text::{MAX_CODE, Position, with_stack_for};

/// A parsed statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Ddl {
    pub outline: Outline,
    pub shape: Shape,
    /// Whether it defines more than is compared: defaults, keys, checks.
    pub says_more: bool,
    /// The columns of the statement, if `columns` are given although it can be parsed.
    pub parsed: Option<Vec<Column>>,
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
        let mut columns_given = columns.iter().enumerate();
        if let Some((index, column)) = columns_given.find(|(_, column)| has_too_many_digits(&column.type_name)) {
            let error = too_many_digits(KeyError::new, &column.name, &column.type_name).named("columns");
            return Err(error.of([Segment::Key("columns"), Segment::Item(index), Segment::Key("type")]));
        }
        let parsed = match Self::from_outline(outline.clone()) {
            Ok(Self { shape: Shape::Columns(parsed), .. }) => Some(parsed),
            _ => None,
        };
        let mut columns = columns.to_vec();
        if let Some(parsed) = &parsed {
            let folded = |column: &Column| Dialect::Redshift.comparable(&column.name);
            let is_same = |one: &Column, other: &Column| folded(one) == folded(other);
            // A column that is NOT NULL in the statement, or by a key or IDENTITY in it, need not be listed so.
            for column in &mut columns {
                column.null &= parsed.iter().find(|found| is_same(found, column)).is_none_or(|found| found.null);
            }
            // Which of the servers it is for is not known yet.
            let on_redshift = contradictions(&columns, parsed, Dialect::Redshift);
            let on_both =
                contradictions(&columns, parsed, Dialect::Postgresql).into_iter().find(|one| on_redshift.contains(one));
            if let Some(contradiction) = on_both {
                return Err(contradiction.into_error());
            }
        }
        Ok(Self { outline, shape: Shape::Columns(columns), says_more: false, parsed })
    }

    fn from_outline(outline: Outline) -> Result<Self, KeyError> {
        if outline.blanked.len() > MAX_CODE {
            return Err(KeyError::new("the DDL is longer than 128 KiB").hint(HINT_COLUMNS));
        }
        with_stack_for(outline.blanked.len(), || Self::from_statement(outline))
    }

    fn from_statement(outline: Outline) -> Result<Self, KeyError> {
        let create = parse(&outline.blanked)?;
        if let Some(like) = &create.like {
            return Ok(Self {
                shape: Shape::Like(parent(&create, like, &outline)?),
                outline,
                says_more: false,
                parsed: None,
            });
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
        Ok(Self { outline, shape: Shape::Columns(columns), says_more, parsed: None })
    }

    /// Returns the first difference between `columns` and the statement on this server. With one, the table would be created and never
    /// match.
    pub fn contradiction(&self, dialect: Dialect) -> Option<KeyError> {
        let (Some(parsed), Shape::Columns(columns)) = (&self.parsed, &self.shape) else { return None };
        contradictions(columns, parsed, dialect).into_iter().next().map(Contradiction::into_error)
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

/// One difference between `columns` and the statement.
#[derive(Debug, PartialEq)]
struct Contradiction {
    message: String,
    /// The column and its key, if the column is listed.
    place: Option<(usize, &'static str)>,
}

impl Contradiction {
    fn into_error(self) -> KeyError {
        let error = KeyError::new(self.message).named("columns");
        let error = error.hint("correct `columns`, or remove them: the columns of this DDL are known");
        match self.place {
            Some((index, key)) => error.of([Segment::Key("columns"), Segment::Item(index), Segment::Key(key)]),
            None => error,
        }
    }
}

/// Compares `columns` with those of the statement, as far as their types can be compared.
fn contradictions(columns: &[Column], parsed: &[Column], dialect: Dialect) -> Vec<Contradiction> {
    let find = |among: &[Column], name: &str| {
        among.iter().position(|column| dialect.comparable(&column.name) == dialect.comparable(name))
    };
    let contradiction = |difference| {
        let (name, key, what) = match difference {
            Difference::Missing { column, .. } => (column.name, "name", "is not in the DDL".to_owned()),
            Difference::Extra { column } => {
                let message = format!("column `{}` of the DDL is missing", column.name);
                return Some(Contradiction { message, place: None });
            }
            Difference::Type { name, expected, found } => {
                canonical(&expected, dialect).and(canonical(&found, dialect))?;
                let (listed, written) = (&columns[find(columns, &name)?], &parsed[find(parsed, &name)?]);
                let what = format!("has the type {}, but {} in the DDL", listed.type_name, written.type_name);
                (name, "type", what)
            }
            Difference::Null { name, expected: true } => {
                (name, "name", "allows NULL, but is NOT NULL in the DDL".to_owned())
            }
            // Redshift folds quoted names, so a key can spell the name of the column differently.
            Difference::Null { name, .. } if dialect.comparable(&name) != name => return None,
            Difference::Null { name, .. } => (name, "null", "is NOT NULL, but allows NULL in the DDL".to_owned()),
            Difference::Moved { name, expected, found } => {
                (name, "name", format!("is at position {expected}, but at position {found} in the DDL"))
            }
        };
        let place = columns.iter().position(|column| column.name == name).map(|index| (index, key));
        Some(Contradiction { message: format!("column `{name}` {what}"), place })
    };
    compare::columns(columns, parsed, dialect).into_iter().filter_map(contradiction).collect()
}

const HINT_COLUMNS: &str = "add `columns:` next to `ddl` to define what to compare if the DDL cannot be parsed";

fn parse(ddl: &str) -> Result<Box<CreateTable>, KeyError> {
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

/// Returns the error for a time with more digits than the servers keep.
fn too_many_digits(refused: impl FnOnce(String) -> KeyError, name: &str, type_name: &str) -> KeyError {
    let what = format!(
        "column `{name}` has the type {type_name}, but the servers keep at most {MAX_DIGITS} digits of a second"
    );
    refused(what).hint(format!("write {MAX_DIGITS}, or leave the number out"))
}

/// Returns the first repeated name, with the index of its repetition.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    let mut seen = BTreeSet::new();
    names.enumerate().find(|(_, name)| !seen.insert(*name))
}

#[cfg(test)]
#[path = "ddl_tests.rs"]
mod tests;
