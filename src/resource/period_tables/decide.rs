//! From what the catalog shows to what is to be done about it.

use std::collections::BTreeSet;

use super::written::{OnDrift, Series};
use super::{Actual, MOST_PERIODS, PeriodTables, longest};
use crate::host::warehouse::{Catalog, Dialect, Relation, RelationKind, Shown, TableName};
use crate::plan::period::{Period, days};
use crate::resource::relation::compare::{self, Difference};
use crate::resource::relation::types::varchar_length;
use crate::resource::relation::{TableChange, cannot_create_in};
use crate::resource::{Diff, Refusal};

/// PostgreSQL cuts longer names off (`NAMEDATALEN` less one); what is then there has another name than was asked for.
const LONGEST_POSTGRESQL_NAME: usize = 63;

pub(super) fn diff(tables: &PeriodTables, actual: &Actual) -> Result<Diff<TableChange>, Refusal> {
    let catalog = &actual.catalog;
    let end = tables.end(actual.as_of);
    let count = tables.from.count_through(end);
    if count > MOST_PERIODS as usize {
        let reason = format!("{} to {end} are {count} periods, and at most {MOST_PERIODS} are taken", tables.from);
        return Err(Refusal::new(reason).hint("correct `from`, or the day of `--as-of`"));
    }
    let mut blocked = Blocked::default();
    let unknown = tables.access().unknown(catalog);
    if !unknown.is_empty() {
        let hint = "create them on the server, or correct `grants` and `owner`";
        blocked.add(format!("the server knows no {}", unknown.join(", no ")), hint);
    }
    let mut diff = Diff::default();
    for series in &tables.series {
        one_series(tables, series, actual, &mut diff, &mut blocked);
    }
    // Missing tables first: a change to an old one that the server refuses must not keep them from being made in time.
    let made: BTreeSet<TableName> = diff.changes.iter().filter_map(TableChange::creates).cloned().collect();
    diff.changes.sort_by_key(|change| !made.contains(change.table()));
    blocked.verdict(diff)
}

/// What stands in the way, each reason once.
#[derive(Default)]
struct Blocked {
    reasons: Vec<String>,
    hint: Option<&'static str>,
}

impl Blocked {
    fn add(&mut self, reason: String, hint: &'static str) {
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
            self.hint.get_or_insert(hint);
        }
    }

    fn verdict<T>(self, fine: T) -> Result<T, Refusal> {
        match self.hint {
            None => Ok(fine),
            Some(hint) => Err(Refusal::new(self.reasons.join("; ")).hint(hint)),
        }
    }
}

fn one_series(
    tables: &PeriodTables,
    series: &Series,
    actual: &Actual,
    diff: &mut Diff<TableChange>,
    blocked: &mut Blocked,
) {
    let catalog = &actual.catalog;
    let parent = match catalog.relation(&series.parent) {
        None if catalog.schema(&series.parent).is_none() => {
            let reason =
                format!("parent {} does not exist: there is no schema {}", series.parent, series.parent.schema);
            return blocked.add(reason, "the history tables are made when their parents are there");
        }
        None => {
            let reason = format!("parent {} does not exist", series.parent);
            return blocked.add(reason, "the history tables are made when their parents are there");
        }
        Some(parent) if !can_be_parent(parent, catalog.dialect) => {
            let reason = format!("parent {} is {}, and a table is not made like that", series.parent, parent.kind);
            return blocked.add(reason, "name a table in `like`");
        }
        Some(parent) => parent,
    };
    for period in tables.from.through(tables.end(actual.as_of)) {
        let table = series.table(period);
        match catalog.relation(&table) {
            None => create(tables, series, table, catalog, diff, blocked),
            Some(found) if !found.kind.is_table() => {
                let hint = "rename or drop it yourself if the table is to take its place";
                blocked.add(format!("{table} exists, but is {}", found.kind), hint);
            }
            Some(found) => {
                drift(tables, &table, &series.parent, parent, found, catalog.dialect, diff);
                diff.changes.extend(tables.access().changes(&table, Some(found), catalog));
            }
        }
    }
    outlook(tables, series, actual, diff);
}

/// PostgreSQL makes tables like views and foreign tables too.
fn can_be_parent(parent: &Relation, dialect: Dialect) -> bool {
    let like_a_table =
        matches!(parent.kind, RelationKind::View | RelationKind::MaterializedView | RelationKind::ForeignTable);
    parent.kind.is_table() || (dialect == Dialect::Postgresql && like_a_table)
}

fn create(
    tables: &PeriodTables,
    series: &Series,
    table: TableName,
    catalog: &Catalog,
    diff: &mut Diff<TableChange>,
    blocked: &mut Blocked,
) {
    if let Some((reason, hint)) = cannot_create_in(catalog, &table) {
        return blocked.add(reason, hint);
    }
    if catalog.dialect == Dialect::Postgresql && longest(&table) > LONGEST_POSTGRESQL_NAME {
        let reason = format!("PostgreSQL would cut the name {table} off after {LONGEST_POSTGRESQL_NAME} bytes");
        return blocked.add(reason, "shorten the name");
    }
    let sql = format!("CREATE TABLE {} (LIKE {})", table.sql(), series.parent.sql());
    let access = tables.access().changes(&table, None, catalog);
    diff.changes.push(TableChange::Create { table, like: Some(series.parent.clone()), sql });
    diff.changes.extend(access);
}

/// What has come apart between a table and its parent, and what of it may be mended.
fn drift(
    tables: &PeriodTables,
    table: &TableName,
    parent_name: &TableName,
    parent: &Relation,
    found: &Relation,
    dialect: Dialect,
    diff: &mut Diff<TableChange>,
) {
    let mend = tables.written.on_drift == OnDrift::AddColumns;
    let differences = compare::columns(&parent.columns, &found.columns, dialect);
    // A column that is added lands last: right only where nothing else stands where the parent has it.
    let in_order = !differences.iter().any(|one| {
        matches!(one, Difference::Extra { .. } | Difference::Moved { .. } | Difference::Missing { last: false, .. })
    });
    for difference in differences {
        match &difference {
            Difference::Missing { column, last: true } if mend && in_order => {
                diff.changes.push(TableChange::AddColumn { table: table.clone(), column: column.clone() });
                if !column.null {
                    let name = Shown(&column.name);
                    diff.warnings.push(format!(
                        "{table}: column {name} is NOT NULL in {parent_name} and is added without it: the rows that \
                         are there have no value for it"
                    ));
                }
            }
            Difference::Type { name, wanted, found } if mend && widens(found, wanted) => {
                diff.changes.push(TableChange::Widen {
                    table: table.clone(),
                    column: name.clone(),
                    before: found.clone(),
                    after: wanted.clone(),
                });
            }
            _ => diff.warnings.push(format!(
                "{table} has drifted from {parent_name}: {}: {}",
                seen_from_parent(&difference),
                consequence(&difference)
            )),
        }
    }
}

fn widens(from: &str, to: &str) -> bool {
    matches!((varchar_length(from), varchar_length(to)), (Some(from), Some(to)) if from < to)
}

fn seen_from_parent(difference: &Difference) -> String {
    match difference {
        Difference::Missing { column, .. } => {
            format!("column {} {} is in the parent alone", Shown(&column.name), column.type_name)
        }
        Difference::Extra { column } => {
            format!("column {} {} is not in the parent any more", Shown(&column.name), column.type_name)
        }
        Difference::Type { name, wanted, found } => {
            format!("column {} is {found}, in the parent {wanted}", Shown(name))
        }
        Difference::Null { name, wanted: true } => {
            format!("column {} is NOT NULL, in the parent it takes NULL", Shown(name))
        }
        Difference::Null { name, wanted: false } => {
            format!("column {} takes NULL, in the parent it is NOT NULL", Shown(name))
        }
        Difference::Moved { name, wanted, found } => {
            format!("column {} is at place {found}, in the parent at place {wanted}", Shown(name))
        }
    }
}

/// What the difference does to `INSERT INTO history SELECT * FROM mart`, which goes by position alone.
fn consequence(difference: &Difference) -> &'static str {
    match difference {
        Difference::Missing { last: true, .. } => "an archive INSERT fails, it has more values than columns",
        Difference::Missing { last: false, .. } | Difference::Extra { .. } | Difference::Moved { .. } => {
            "an archive INSERT fails, or puts values in the wrong columns"
        }
        Difference::Type { wanted, found, .. } if widens(found, wanted) => {
            "an archive INSERT fails as soon as a value is longer"
        }
        Difference::Type { wanted, found, .. } if widens(wanted, found) => "an archive INSERT still works",
        Difference::Type { .. } => "an archive INSERT fails, or changes the values",
        Difference::Null { wanted: true, .. } => "an archive INSERT fails as soon as a value is NULL",
        Difference::Null { wanted: false, .. } => "an archive INSERT still works",
    }
}

/// The periods that a series has, and when it runs out of tables.
fn outlook(tables: &PeriodTables, series: &Series, actual: &Actual, diff: &mut Diff<TableChange>) {
    let pattern = series.pattern();
    let (as_of, current, end) = (actual.as_of, tables.current(actual.as_of), tables.end(actual.as_of));
    let last_seen = tables.horizon(as_of);
    let exists = |period: &Period| actual.catalog.relation(&series.table(*period)).is_some();
    let there: Vec<String> = tables.from.through(last_seen).filter(exists).map(|period| period.to_string()).collect();
    let there = if there.is_empty() { "no period".to_owned() } else { there.join(", ") };
    // One that has begun without a table: said here only where nothing makes it.
    if current > end && tables.from <= current && !exists(&current) {
        let since = days(current.start(), as_of);
        diff.warnings.push(format!(
            "{pattern}: {current} began {since} days ago and has no table; `through` and `ahead` end at {end}"
        ));
    }
    let next = tables.from.through(last_seen).find(|period| period.start() > as_of && !exists(period));
    let Some(next) = next else {
        diff.notes.push(format!("{pattern}: has {there}; nothing after {last_seen} was looked at"));
        return;
    };
    let left = days(as_of, next.start());
    let unit = if left == 1 { "day" } else { "days" };
    let text = format!("the next period without a table is {next}, it begins on {} in {left} {unit}", next.start());
    diff.notes.push(format!("{pattern}: has {there}; {text}"));
    if left <= i32::from(tables.written.warn_days) {
        diff.warnings.push(format!("{pattern}: {text}"));
    }
}
