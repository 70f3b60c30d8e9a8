//! A CREATE TABLE statement as the plan file gives it, read far enough to know which columns it makes.
//!
//! The parser is an allow-list: what it cannot read is refused with the place, and `columns:` beside `ddl` then says what
//! to compare. It also takes some things that no server takes (attributes beside LIKE, LIKE among columns); they are
//! refused here.

use std::collections::BTreeSet;

use sqlparser::ast::{ColumnDef, ColumnOption, CreateTable, CreateTableLikeKind, Ident, Statement, TableConstraint};
use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::parser::{Parser, ParserError};

use super::attributes::{Outline, outline, position};
use crate::host::warehouse::{Column, Dialect, TableName};
use crate::resource::relation::types::{canonical, implies_not_null};
use crate::resource::{KeyError, Segment};
use crate::text::Position;

/// What a statement makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Ddl {
    pub outline: Outline,
    pub shape: Shape,
    /// Whether it says more of the columns than is compared: defaults, keys, checks.
    pub says_more: bool,
}

/// Which columns the table has.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// These; types as they are written.
    Columns(Vec<Column>),
    /// Those of another table.
    Like(TableName),
}

impl Ddl {
    /// Reads a statement. With `columns` it need not be readable further than that it is one CREATE TABLE.
    ///
    /// # Errors
    /// What is wrong under the keys `ddl` and `columns`.
    pub fn read(ddl: &str, columns: Option<&[Column]>) -> Result<Self, KeyError> {
        let outline = outline(ddl).map_err(|error| error.named("ddl"))?;
        let Some(columns) = columns else { return Self::parse(outline).map_err(|error| error.named("ddl")) };
        if columns.is_empty() {
            return Err(KeyError::new("no columns are listed").named("columns"));
        }
        if let Some((index, name)) = repeated(columns.iter().map(|column| column.name.as_str())) {
            let error = KeyError::new(format!("column `{name}` is listed twice")).named("columns");
            return Err(error.of([Segment::Key("columns"), Segment::Item(index), Segment::Key("name")]));
        }
        Ok(Self { outline, shape: Shape::Columns(columns.to_vec()), says_more: false })
    }

    fn parse(outline: Outline) -> Result<Self, KeyError> {
        let create = parse(&outline.blanked)?;
        if let Some(like) = &create.like {
            return Ok(Self { shape: Shape::Like(parent(&create, like, &outline)?), outline, says_more: false });
        }
        if create.columns.is_empty() {
            return Err("the DDL lists no columns".into());
        }
        only_what_is_known(&create)?;
        let mut says_more = !create.constraints.is_empty();
        let keys = primary_key(&create.constraints);
        let mut columns = Vec::new();
        for definition in &create.columns {
            let (column, more) = column(definition, &keys)?;
            says_more |= more;
            columns.push(column);
        }
        if let Some((index, name)) = repeated(columns.iter().map(|column| column.name.as_str())) {
            let error = KeyError::new(format!("column `{name}` is listed twice"));
            return Err(error.at(place_of(&create.columns[index].name)));
        }
        Ok(Self { outline, shape: Shape::Columns(columns), says_more })
    }

    /// The statement for a server: on Redshift as it is written, on PostgreSQL without what only Redshift knows.
    pub fn sql(&self, spec: &str, dialect: Dialect) -> String {
        match dialect {
            Dialect::Redshift => spec.trim().to_owned(),
            Dialect::Postgresql => self.outline.without_attributes.trim().to_owned(),
        }
    }
}

const HINT_COLUMNS: &str = "`columns:` beside `ddl` says what to compare where the DDL cannot be read";

fn parse(ddl: &str) -> Result<Box<CreateTable>, KeyError> {
    let statements = Parser::parse_sql(&RedshiftSqlDialect {}, ddl).map_err(|error| unreadable(&error))?;
    match <[Statement; 1]>::try_from(statements) {
        Ok([Statement::CreateTable(create)]) => Ok(Box::new(create)),
        _ => Err("the DDL is not one CREATE TABLE".into()),
    }
}

/// The parser gives the place at the end of its text and nowhere else.
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
            KeyError::new(format!("the DDL cannot be read at {at}: {what}")).at(at)
        }
        None => KeyError::new(format!("the DDL cannot be read: {text}")),
    };
    error.hint(HINT_COLUMNS)
}

fn place_of(name: &Ident) -> Position {
    position(name.span.start)
}

/// The parent in `(LIKE parent [INCLUDING DEFAULTS])`.
fn parent(create: &CreateTable, like: &CreateTableLikeKind, outline: &Outline) -> Result<TableName, KeyError> {
    let CreateTableLikeKind::Parenthesized(like) = like else {
        return Err("LIKE stands in parentheses: CREATE TABLE name (LIKE parent)".into());
    };
    if outline.has_attributes || !create.columns.is_empty() || !create.constraints.is_empty() {
        return Err(
            "nothing can stand beside LIKE: the dist style, the sort key and the columns are the parent's".into()
        );
    }
    let parts = like.name.0.iter().map(|part| part.as_ident().map(folded)).collect::<Option<Vec<_>>>();
    match parts.map(<[String; 2]>::try_from) {
        Some(Ok([schema, name])) => Ok(TableName::new(schema, name)),
        _ => Err(format!("`{}` after LIKE has to be written schema.table", like.name).into()),
    }
}

fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// Refuses every clause that is not accounted for: takes out what is, and what is left has to be nothing. Redshift's
/// attributes have been taken out before.
fn only_what_is_known(create: &CreateTable) -> Result<(), KeyError> {
    let Ok(mut bare) = parse("CREATE TABLE a.b (c INT)") else { return Err("the parser is broken".into()) };
    bare.name = create.name.clone();
    bare.columns = create.columns.clone();
    bare.constraints = create.constraints.clone();
    if *bare == *create {
        return Ok(());
    }
    Err(KeyError::new("the DDL has a clause after its columns whose meaning for them is not known").hint(HINT_COLUMNS))
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

/// A column, and whether its definition says more than is compared.
fn column(definition: &ColumnDef, keys: &BTreeSet<String>) -> Result<(Column, bool), KeyError> {
    let name = folded(&definition.name);
    let refused = |message: String| KeyError::new(message).at(place_of(&definition.name));
    if definition.name.quote_style.is_none() && name == "like" {
        return Err(refused("LIKE beside columns is refused: write out the columns, or LIKE alone".to_owned()));
    }
    let type_name = definition.data_type.to_string();
    // Known on either server will do here: which one it is, is not known yet.
    if [Dialect::Postgresql, Dialect::Redshift].iter().all(|dialect| canonical(&type_name, *dialect).is_none()) {
        let error = refused(format!("column `{name}` has the type {type_name}, which cannot be compared"));
        return Err(error.hint(HINT_COLUMNS));
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
                let error = refused(format!("column `{name}` has an option whose meaning is not known: {other}"));
                return Err(error.hint(HINT_COLUMNS));
            }
        }
    }
    Ok((Column { name, type_name, null }, more))
}

/// The first name that is there a second time, with its index.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    let mut seen = BTreeSet::new();
    names.enumerate().find(|(_, name)| !seen.insert(*name))
}

#[cfg(test)]
#[path = "ddl_tests.rs"]
mod tests;
