//! The differences between a table and its parent, their effect on `INSERT INTO history SELECT * FROM mart`, and which
//! of them may be repaired.
//!
//! The INSERT goes by position and ignores names: the first column's values go into the first column.

use super::PeriodTables;
use super::dependents::Drops;
use super::spec::{OnDrift, Series};
use crate::failure::Failure;
use crate::host::warehouse::{Catalog, Column, Computed, Dialect, Relation, Shown, TableName};
use crate::resource::relation::TableChange;
use crate::resource::relation::assignment::{Fit, fit};
use crate::resource::relation::compare::{self, Difference};
use crate::resource::relation::types::varchar_length;
use crate::resource::{Change as _, Diff};

/// A table and its parent.
struct Pair<'a> {
    table: &'a TableName,
    parent_name: &'a TableName,
    parent: &'a Relation,
    found: &'a Relation,
    /// The view of the step, which apply creates again if it is dropped.
    own_view: Option<&'a TableName>,
    dialect: Dialect,
}

/// One difference and its effect on an archive INSERT.
struct Drift {
    what: String,
    consequence: String,
    /// Whether the INSERT fails for some or all rows, or stores values in the wrong columns.
    harmful: bool,
    /// What ends the difference without losing data, if that is possible.
    remedy: Option<Remedy>,
}

struct Remedy {
    /// Statements, the last one without a semicolon.
    sql: String,
    /// What a person has to do after the statements.
    then: Option<String>,
}

impl From<String> for Remedy {
    fn from(sql: String) -> Self {
        Self { sql, then: None }
    }
}

impl PeriodTables {
    /// Adds to `diff` the differences between a period's table and its parent, and the repairs. `open` tells whether
    /// the period can still receive rows.
    pub(super) fn drift(
        &self,
        series: &Series,
        table: &TableName,
        (parent, found): (&Relation, &Relation),
        catalog: &Catalog,
        open: bool,
        diff: &mut Diff<TableChange>,
    ) {
        let repairs = match self.spec.on_drift {
            OnDrift::AddColumns => repairs(table, parent, found, catalog.dialect),
            OnDrift::Fail | OnDrift::Report => Vec::new(),
        };
        let own_view = series.view.as_ref().filter(|view| self.owns_view(series, view, catalog));
        let refusal = |change: &TableChange| match &found.partition_of {
            Some(root) => in_use(change, found, own_view).or_else(|| Some(only_at_root(change, root))),
            None => change.not_allowed(found, catalog).or_else(|| in_use(change, found, own_view)),
        };
        let (repairs, refused): (Vec<_>, Vec<_>) = repairs.into_iter().partition(|change| refusal(change).is_none());
        diff.obstacles.extend(refused.iter().filter_map(refusal));
        // The report describes the state after the repairs.
        let after = repaired(found, &repairs);
        diff.changes.extend(repairs);
        let pair =
            Pair { table, parent_name: &series.parent, parent, found: &after, own_view, dialect: catalog.dialect };
        for drift in pair.drifts() {
            let text = format!("{table} has drifted from {}: {}: {}", series.parent, drift.what, drift.consequence);
            match (drift.harmful, open && self.spec.on_drift != OnDrift::Report) {
                (false, _) => diff.notes.push(text),
                (true, false) => diff.warnings.push(text),
                (true, true) => diff.drift.push(Failure { message: text, hint: Some(pair.hint(drift.remedy)) }),
            }
        }
    }
}

/// Returns the changes that bring a table closer to its parent and remove nothing.
fn repairs(table: &TableName, parent: &Relation, found: &Relation, dialect: Dialect) -> Vec<TableChange> {
    let differences = compare::columns(&parent.columns, &found.columns, dialect);
    // A new column is added at the end. That is only correct if the other columns are in the parent's order.
    let in_order = !differences.iter().any(|one| {
        matches!(one, Difference::Extra { .. } | Difference::Moved { .. } | Difference::Missing { last: false, .. })
    });
    let repair = |difference| match difference {
        Difference::Missing { column, last: true } if in_order => {
            Some(TableChange::AddColumn { table: table.clone(), column })
        }
        Difference::Type { name, expected, found } if widens(&found, &expected, dialect) => {
            Some(TableChange::Widen { table: table.clone(), column: name, before: found, after: expected })
        }
        _ => None,
    };
    differences.into_iter().filter_map(repair).collect()
}

/// Returns what prevents a column from being widened, if that is known. PostgreSQL does not alter a column that a view uses.
fn in_use(change: &TableChange, found: &Relation, own_view: Option<&TableName>) -> Option<Failure> {
    let TableChange::Widen { column, .. } = change else { return None };
    let users = found.used_by.get(column)?;
    let Drops { sql, then } = Drops::of(users, own_view);
    let verb = if users.len() == 1 { "uses" } else { "use" };
    let failure =
        Failure::new(format!("cannot {}: {} {verb} the column", change.describe().summary, users.join(" and ")));
    Some(failure.hint(format!("`{sql}`, {then}")))
}

/// Returns why a partition is left alone. PostgreSQL adds and alters columns only in all partitions together.
fn only_at_root(change: &TableChange, root: &TableName) -> Failure {
    let failure = Failure::new(format!("cannot {}: the table is a partition of {root}", change.describe().summary));
    failure.hint(format!("change the partitioned table: `{};`", change.clone().with_columns_of(root).sql()))
}

/// Returns the table after the changes.
fn repaired(found: &Relation, repairs: &[TableChange]) -> Relation {
    let mut after = found.clone();
    for change in repairs {
        match change {
            TableChange::AddColumn { column, .. } => after.columns.push(Column { null: true, ..column.clone() }),
            TableChange::Widen { column, after: wider, .. } => {
                let widened = after.columns.iter_mut().filter(|one| one.name == *column);
                widened.for_each(|one| one.type_name.clone_from(wider));
            }
            _ => {}
        }
    }
    after
}

/// Returns whether a VARCHAR gets longer, which neither server writes rows for. PostgreSQL also has types without a limit.
fn widens(from: &str, to: &str, dialect: Dialect) -> bool {
    let Some(length) = varchar_length(from) else { return false };
    let is_unlimited = dialect == Dialect::Postgresql && matches!(to, "text" | "character varying");
    is_unlimited || varchar_length(to).is_some_and(|longer| length < longer)
}

impl Pair<'_> {
    fn drifts(&self) -> Vec<Drift> {
        let differences = compare::columns(&self.parent.columns, &self.found.columns, self.dialect);
        // A column that accepts no value at all is already reported for that.
        let reported = |one: &&Difference| !matches!(one, Difference::Null { name, .. } if self.is_computed(name));
        let mut drifts: Vec<Drift> = differences.iter().filter(reported).map(|one| self.drift_of(one)).collect();
        drifts.extend(self.computed());
        drifts.extend(self.guards());
        drifts
    }

    fn drift_of(&self, difference: &Difference) -> Drift {
        let (consequence, harmful) = match (difference, self.out_of_place()) {
            (Difference::Null { name, expected: true }, _) if !self.receives_nothing(name) => {
                ("fails if a value is NULL".to_owned(), true)
            }
            (Difference::Null { .. }, _) => ("still works".to_owned(), false),
            (Difference::Type { name, expected, found }, _) if self.is_in_place(name) => match fit(expected, found) {
                Fit::Keeps => ("still works".to_owned(), false),
                Fit::Fails(when) => (format!("fails {when}"), true),
                Fit::Changes(how) => (format!("changes values: {how}"), true),
                Fit::Unknown => ("fails, or changes the values".to_owned(), true),
            },
            (_, Some(consequence)) => (consequence, true),
            (Difference::Extra { column }, None) => self.surplus(column),
            // None of these is possible if every column is in its place.
            (Difference::Missing { .. } | Difference::Moved { .. } | Difference::Type { .. }, None) => {
                ("still works".to_owned(), false)
            }
        };
        let consequence = format!("an archive INSERT {consequence}");
        Drift { what: self.seen_from_parent(difference), consequence, harmful, remedy: self.remedy(difference) }
    }

    /// Returns the effect of the column order, if a value goes into the wrong column.
    fn out_of_place(&self) -> Option<String> {
        let (values, columns) = (self.parent.columns.len(), self.found.columns.len());
        if values > columns {
            let plural = if columns == 1 { "" } else { "s" };
            return Some(format!("fails because it has {values} values for {columns} column{plural}"));
        }
        let mut misplaced = self.parent.columns.iter().zip(&self.found.columns);
        misplaced
            .any(|(value, column)| self.fold(&value.name) != self.fold(&column.name))
            .then(|| "fails, or puts values in the wrong columns".to_owned())
    }

    /// Returns whether the column is at the same position in both.
    fn is_in_place(&self, name: &str) -> bool {
        let at = |columns: &[Column]| columns.iter().position(|column| self.fold(&column.name) == self.fold(name));
        at(&self.parent.columns) == at(&self.found.columns)
    }

    /// Returns the effect of a column after all those that the INSERT has values for.
    fn surplus(&self, column: &Column) -> (String, bool) {
        if column.null || self.has_value_of_its_own(&column.name) {
            ("still works".to_owned(), false)
        } else {
            ("fails because it has no value for a NOT NULL column".to_owned(), true)
        }
    }

    fn has_value_of_its_own(&self, column: &str) -> bool {
        self.found.inserts.defaults.contains(column) || self.found.inserts.computed.contains_key(column)
    }

    /// Returns whether the column comes after all those that the INSERT has values for.
    fn receives_nothing(&self, name: &str) -> bool {
        let at = self.found.columns.iter().position(|column| self.fold(&column.name) == self.fold(name));
        at.is_some_and(|at| at >= self.parent.columns.len())
    }

    fn is_computed(&self, name: &str) -> bool {
        self.found.inserts.computed.keys().any(|column| self.fold(column) == self.fold(name))
    }

    /// Returns the columns whose values the server computes although the INSERT has values for them.
    fn computed(&self) -> Vec<Drift> {
        let computed = |column: &Column| {
            let how = self.found.inserts.computed.get(&column.name)?;
            let name = Shown(&column.name);
            let (kind, drop, table) = match how {
                // A partition has its own: before PostgreSQL 17, identity is not inherited.
                Computed::Identity => ("an identity column", "IDENTITY", self.table.sql()),
                Computed::Generated => ("a generated column", "EXPRESSION", self.altered().sql()),
            };
            let column_name = column.sql_name();
            let allows_null =
                self.parent.columns.iter().any(|value| self.fold(&value.name) == self.fold(&column.name) && value.null);
            // A partition cannot allow NULL where its root does not.
            let is_free = self.found.partition_of.is_none();
            let null = if allows_null && !column.null && is_free {
                format!(", ALTER COLUMN {column_name} DROP NOT NULL")
            } else {
                String::new()
            };
            let remedy = (self.dialect == Dialect::Postgresql)
                .then(|| format!("ALTER TABLE {table} ALTER COLUMN {column_name} DROP {drop}{null}").into());
            Some(Drift {
                what: format!("column {name} is {kind}"),
                consequence: "an archive INSERT fails because the column accepts no value".to_owned(),
                harmful: true,
                remedy,
            })
        };
        self.found.columns.iter().take(self.parent.columns.len()).filter_map(computed).collect()
    }

    /// Returns the constraints, triggers and rules that the parent does not have.
    fn guards(&self) -> Vec<Drift> {
        let guards = self.found.inserts.guards.difference(&self.parent.inserts.guards);
        guards
            .map(|guard| Drift {
                what: format!("it has {guard}, which the parent does not have"),
                consequence: if guard.starts_with("RULE ") {
                    "an archive INSERT runs the rule instead".to_owned()
                } else {
                    "an archive INSERT fails for rows that violate it".to_owned()
                },
                harmful: true,
                remedy: None,
            })
            .collect()
    }

    /// Returns the table whose columns can be altered. For a partition, that is the whole partitioned table.
    fn altered(&self) -> &TableName {
        self.found.partition_of.as_ref().unwrap_or(self.table)
    }

    /// Returns whether the column is in the primary key, which keeps it NOT NULL.
    fn is_in_primary_key(&self, name: &str) -> bool {
        let is_named = |list: &str| {
            let quoted = postgres_protocol::escape::escape_identifier(name);
            list.trim_end_matches(')').split(", ").any(|column| column == name || column == quoted)
        };
        let keys = self.found.inserts.guards.iter().filter_map(|guard| guard.strip_prefix("PRIMARY KEY ("));
        keys.into_iter().any(is_named)
    }

    fn fold(&self, name: &str) -> String {
        self.dialect.comparable(name)
    }

    fn seen_from_parent(&self, difference: &Difference) -> String {
        match difference {
            Difference::Missing { column, .. } => {
                format!("only the parent has column {} {}", Shown(&column.name), column.type_name)
            }
            Difference::Extra { column } => {
                format!("column {} {} is no longer in the parent", Shown(&column.name), column.type_name)
            }
            Difference::Type { name, expected, found } => {
                format!("column {} is {found}, but {expected} in the parent", Shown(name))
            }
            Difference::Null { name, expected: true } => {
                format!("column {} is NOT NULL, but allows NULL in the parent", Shown(name))
            }
            Difference::Null { name, expected: false } => {
                format!("column {} allows NULL, but is NOT NULL in the parent", Shown(name))
            }
            Difference::Moved { name, expected, found } => {
                format!("column {} is at position {found}, but at position {expected} in the parent", Shown(name))
            }
        }
    }

    /// Returns what ends this difference without losing data.
    fn remedy(&self, difference: &Difference) -> Option<Remedy> {
        if self.found.columns.len() >= self.parent.columns.len() && self.out_of_place().is_some() {
            return None;
        }
        let column = |name: &str| {
            let found = self.found.columns.iter().find(|column| self.fold(&column.name) == self.fold(name));
            found.map(Column::sql_name)
        };
        let alter = format!("ALTER TABLE {}", self.altered().sql());
        let postgresql = self.dialect == Dialect::Postgresql;
        match difference {
            Difference::Missing { column, last: true } => {
                Some(format!("{alter} ADD COLUMN {} {}", column.sql_name(), column.type_name).into())
            }
            Difference::Type { name, expected, found }
                if widens(found, expected, self.dialect) || (postgresql && fit(found, expected) == Fit::Keeps) =>
            {
                let sql = format!("{alter} ALTER COLUMN {} TYPE {expected}", column(name)?);
                let users = self.found.used_by.iter().find(|(column, _)| self.fold(column) == self.fold(name));
                Some(match users {
                    None => sql.into(),
                    Some((_, users)) => {
                        let drops = Drops::of(users, self.own_view);
                        Remedy { sql: format!("{} {sql}", drops.sql), then: Some(drops.then) }
                    }
                })
            }
            Difference::Null { name, expected: true } if postgresql && !self.is_in_primary_key(name) => {
                Some(format!("{alter} ALTER COLUMN {} DROP NOT NULL", column(name)?).into())
            }
            Difference::Extra { column } if postgresql && !self.is_in_primary_key(&column.name) => {
                Some(format!("{alter} ALTER COLUMN {} DROP NOT NULL", column.sql_name()).into())
            }
            _ => None,
        }
    }

    fn hint(&self, remedy: Option<Remedy>) -> String {
        remedy.map_or_else(
            || {
                let aside = TableName::new(&self.table.schema, format!("{}_drifted", self.table.name));
                format!(
                    "`ALTER TABLE {} RENAME TO {};`, then run apply to create the table again like {}, and copy the rows \
                     of {aside} into it by column name",
                    self.table.sql(),
                    postgres_protocol::escape::escape_identifier(&aside.name),
                    self.parent_name,
                )
            },
            |Remedy { sql, then }| match then {
                None => format!("run `{sql};`"),
                Some(then) => format!("run `{sql};`, {then}"),
            },
        )
    }
}
