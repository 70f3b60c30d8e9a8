//! From what the catalog shows to what is to be done about it.

use crate::failure::Failure;
use serde_json::json;

use super::spec::Series;
use super::{Actual, MOST_PERIODS, PeriodTables, longest};
use crate::host::warehouse::{Catalog, Dialect, Relation, RelationKind, TableName};
use crate::resource::Diff;
use crate::resource::relation::{TableChange, cannot_create_in};

/// PostgreSQL cuts longer names off (`NAMEDATALEN` less one); what is then there has another name than was asked for.
const LONGEST_POSTGRESQL_NAME: usize = 63;

pub(super) fn diff(tables: &PeriodTables, actual: &Actual) -> Result<Diff<TableChange>, Failure> {
    let catalog = &actual.catalog;
    let end = tables.end(actual.as_of);
    let count = tables.from.count_through(end);
    if count > MOST_PERIODS as usize {
        let reason = format!("{} to {end} are {count} periods, and at most {MOST_PERIODS} are taken", tables.from);
        return Err(Failure::new(reason).hint("correct `from`, or the day of `--as-of`"));
    }
    let mut diff = Diff::default();
    let unknown = tables.access().unknown(catalog);
    if !unknown.is_empty() {
        let refusal = Failure::new(format!("the server knows no {}", unknown.join(", no ")));
        diff.obstacles.push(refusal.hint("create them on the server, or correct `grants` and `owner`"));
    }
    let mut overdue = Vec::new();
    let mut facts = Vec::new();
    for series in &tables.series {
        let outlook = tables.outlook(series, actual);
        diff.notes.push(outlook.note);
        diff.warnings.extend(outlook.warnings);
        overdue.extend(outlook.overdue);
        facts.push(outlook.facts);
        if let Err(obstacle) = one_series(tables, series, actual, &mut diff) {
            diff.obstacles.push(obstacle);
        }
    }
    diff.warnings.splice(0..0, overdue);
    diff.facts.insert("series".to_owned(), json!(facts));
    diff.changes.sort_by_key(urgency);
    Ok(diff)
}

/// What is needed in time comes first, and what may be refused after it: a table that is not there when its period
/// begins is the worst. Who gives a table away can change nothing about it any more, so that is last.
fn urgency(change: &TableChange) -> u8 {
    match change {
        TableChange::Create { .. } => 0,
        TableChange::Grant { .. } => 1,
        TableChange::AddColumn { .. } | TableChange::Widen { .. } => 2,
        TableChange::SetOwner { .. } => 3,
    }
}

/// Decides on all tables of a series. An obstacle of one table is put down in `diff`.
///
/// # Errors
/// What keeps the whole series from being compared and made.
fn one_series(
    tables: &PeriodTables,
    series: &Series,
    actual: &Actual,
    diff: &mut Diff<TableChange>,
) -> Result<(), Failure> {
    let catalog = &actual.catalog;
    let parent = parent(series, catalog)?;
    let last_open = tables.current(actual.as_of).before();
    for period in tables.from.through(tables.end(actual.as_of)) {
        let table = series.table(period);
        match catalog.relation(&table) {
            None => match creation(series, &table, catalog) {
                Ok(create) => {
                    diff.changes.push(create);
                    diff.changes.extend(tables.access().changes(&table, None, catalog));
                }
                // What is wrong with one name or schema is wrong with all of them.
                Err(obstacle) if diff.obstacles.contains(&obstacle) => {}
                Err(obstacle) => diff.obstacles.push(obstacle),
            },
            Some(found) if !found.kind.is_table() => {
                let refusal = Failure::new(format!("{table} exists, but is {}", found.kind));
                diff.obstacles.push(refusal.hint("rename or drop it yourself if the table is to take its place"));
            }
            Some(found) => {
                tables.drift(series, &table, (parent, found), catalog.dialect, period >= last_open, diff);
                diff.changes.extend(tables.access().changes(&table, Some(found), catalog));
            }
        }
    }
    Ok(())
}

fn parent<'a>(series: &Series, catalog: &'a Catalog) -> Result<&'a Relation, Failure> {
    let (name, pattern) = (&series.parent, series.pattern());
    let missing = "the history tables are made when their parents are there";
    match catalog.relation(name) {
        None if catalog.schema(name).is_none() => {
            let reason = format!("{pattern}: parent {name} does not exist: there is no schema {}", name.schema);
            Err(Failure::new(reason).hint(missing))
        }
        None => Err(Failure::new(format!("{pattern}: parent {name} does not exist")).hint(missing)),
        Some(parent) if !can_be_parent(parent, catalog.dialect) => {
            let reason = format!("{pattern}: parent {name} is {}, and a table is not made like that", parent.kind);
            Err(Failure::new(reason).hint("name a table in `like`"))
        }
        Some(parent) => Ok(parent),
    }
}

/// PostgreSQL makes tables like views and foreign tables too.
fn can_be_parent(parent: &Relation, dialect: Dialect) -> bool {
    let like_a_table =
        matches!(parent.kind, RelationKind::View | RelationKind::MaterializedView | RelationKind::ForeignTable);
    parent.kind.is_table() || (dialect == Dialect::Postgresql && like_a_table)
}

fn creation(series: &Series, table: &TableName, catalog: &Catalog) -> Result<TableChange, Failure> {
    if let Some((reason, hint)) = cannot_create_in(catalog, table) {
        return Err(Failure::new(format!("{}: {reason}", series.pattern())).hint(hint));
    }
    if catalog.dialect == Dialect::Postgresql && longest(table) > LONGEST_POSTGRESQL_NAME {
        let pattern = series.pattern();
        let reason = format!("PostgreSQL would cut the names {pattern} off after {LONGEST_POSTGRESQL_NAME} bytes");
        return Err(Failure::new(reason).hint("shorten the name"));
    }
    let sql = format!("CREATE TABLE {} (LIKE {})", table.sql(), series.parent.sql());
    Ok(TableChange::Create { table: table.clone(), like: Some(series.parent.clone()), sql })
}
