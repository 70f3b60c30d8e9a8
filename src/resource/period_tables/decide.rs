//! Decides from the catalog what has to be done.

use crate::failure::Failure;
use serde_json::json;
use std::collections::BTreeSet;

use super::actual::Actual;
use super::spec::{MAX_PERIODS, PeriodTables, Series};
use crate::host::warehouse::{Catalog, Dialect, Relation, RelationKind, TableName};
use crate::resource::Diff;
use crate::resource::relation::{
    TableChange, cannot_copy_from, cannot_create_in, missing_accounts, missing_parent, refuses_changes, truncated,
};

pub(super) fn diff(tables: &PeriodTables, actual: &Actual) -> Result<Diff<TableChange>, Failure> {
    let catalog = &actual.catalog;
    let end = tables.end(actual.as_of);
    let start = tables.start(actual.as_of);
    let count = start.count_through(end);
    if count > MAX_PERIODS as usize {
        let reason = format!("{start} to {end} are {count} periods, but at most {MAX_PERIODS} are allowed");
        return Err(
            Failure::new(reason).hint("correct `from` (`current-90` moves on with time), or the date of `--as-of`")
        );
    }
    let mut diff = Diff::default();
    let unknown = tables.access().unknown(catalog);
    diff.obstacles.extend(truncated(tables.access().names(), catalog.dialect));
    if diff.obstacles.is_empty() && !unknown.is_empty() {
        diff.obstacles.push(missing_accounts(&unknown, catalog));
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
    let views: BTreeSet<&TableName> = tables.series.iter().filter_map(|series| series.view.as_ref()).collect();
    diff.changes.sort_by_key(|change| priority(change, views.contains(change.table())));
    if let Some(failure) = refuses_changes(catalog)
        && !diff.changes.is_empty()
    {
        diff.obstacles.insert(0, failure);
        diff.changes.clear();
    }
    Ok(diff)
}

/// Tables come first, because a table that is missing when its period begins is the worst case. Repairs come later,
/// because they may be refused. Views need their tables and columns. Owners come last, because a user who has given a table
/// away can no longer change it.
fn priority(change: &TableChange, is_view: bool) -> u8 {
    match change {
        TableChange::Create { .. } => 0,
        TableChange::Grant { .. } if !is_view => 1,
        TableChange::AddColumn { .. } | TableChange::Widen { .. } => 2,
        TableChange::View { .. } => 3,
        TableChange::Grant { .. } => 4,
        TableChange::SetOwner { .. } => 5,
    }
}

/// Plans all tables of a series. An obstacle of one table is added to `diff`.
///
/// # Errors
/// Something prevents the whole series from being compared and created.
fn one_series(
    tables: &PeriodTables,
    series: &Series,
    actual: &Actual,
    diff: &mut Diff<TableChange>,
) -> Result<(), Failure> {
    let catalog = &actual.catalog;
    let parent = parent(series, catalog)?;
    let last_open = tables.current(actual.as_of).before();
    for period in tables.start(actual.as_of).through(tables.end(actual.as_of)) {
        let table = series.table(period);
        match catalog.relation(&table) {
            None => match creation(series, &table, parent, catalog) {
                Ok(create) => {
                    diff.changes.push(create);
                    tables.access().plan_access(&table, None, catalog, diff);
                }
                // A problem with a name or schema is the same for all tables of the series.
                Err(obstacle) if diff.obstacles.contains(&obstacle) => {}
                Err(obstacle) => diff.obstacles.push(obstacle),
            },
            Some(found) if !found.kind.is_table() => {
                let refusal = Failure::new(format!("{table} exists, but is {}", found.kind));
                diff.obstacles.push(refusal.hint("rename or drop it manually if the table should replace it"));
            }
            Some(found) => {
                tables.drift(series, &table, (parent, found), catalog, period >= last_open, diff);
                tables.access().plan_access(&table, Some(found), catalog, diff);
            }
        }
    }
    if let Err(obstacle) = tables.plan_view(series, parent, actual, diff) {
        diff.obstacles.push(obstacle);
    }
    Ok(())
}

fn parent<'a>(series: &Series, catalog: &'a Catalog) -> Result<&'a Relation, Failure> {
    let (name, pattern) = (&series.parent, series.pattern());
    let missing = "the tables are created once their parent exists";
    if let Some(failure) = truncated([name.schema.as_str(), &name.name], catalog.dialect) {
        return Err(Failure { message: format!("{pattern}: {}", failure.message), ..failure });
    }
    match catalog.relation(name) {
        None if catalog.schema(name).is_none() => {
            let reason = format!("{pattern}: parent {name} does not exist: schema {} does not exist", name.schema);
            let near = catalog.did_you_mean(&name.schema);
            Err(Failure::new(reason).hint(near.unwrap_or_else(|| missing.to_owned())))
        }
        None => {
            let failure = Failure::new(format!("{pattern}: parent {name} does not exist"));
            Err(failure.hint(missing_parent(catalog, name, missing)))
        }
        Some(parent) if !can_be_parent(parent, catalog.dialect) => {
            let reason = format!("{pattern}: parent {name} is {}, which LIKE does not support", parent.kind);
            Err(Failure::new(reason).hint("use a table in `like`"))
        }
        Some(parent) => Ok(parent),
    }
}

/// Returns whether a relation can be a parent. PostgreSQL also accepts views and foreign tables in LIKE.
fn can_be_parent(parent: &Relation, dialect: Dialect) -> bool {
    let like_a_table =
        matches!(parent.kind, RelationKind::View | RelationKind::MaterializedView | RelationKind::ForeignTable);
    parent.kind.is_table() || (dialect == Dialect::Postgresql && like_a_table)
}

fn creation(series: &Series, table: &TableName, parent: &Relation, catalog: &Catalog) -> Result<TableChange, Failure> {
    let limit = catalog.dialect.max_identifier_bytes();
    if table.schema.len().max(table.name.len()) > limit {
        let reason = format!("PostgreSQL would truncate the names {} to {limit} bytes", series.pattern());
        return Err(Failure::new(reason).hint("shorten the name"));
    }
    if let Some((reason, hint)) = cannot_create_in(catalog, table) {
        return Err(Failure::new(format!("{}: {reason}", series.pattern())).hint(hint));
    }
    if let Some(failure) = cannot_copy_from(catalog, &series.parent, parent) {
        return Err(Failure { message: format!("{}: {}", series.pattern(), failure.message), ..failure });
    }
    let sql = format!("CREATE TABLE {} (LIKE {})", table.sql(), series.parent.sql());
    Ok(TableChange::Create { table: table.clone(), like: Some(series.parent.clone()), sql })
}
