//! What has come apart between a table and its parent, what that does to `INSERT INTO history SELECT * FROM mart`, and
//! what of it may be repaired.
//!
//! The INSERT goes by place alone and knows no names: the first column's values go into the first column.

use super::PeriodTables;
use super::spec::{OnDrift, Series};
use crate::failure::Failure;
use crate::host::warehouse::{Column, Computed, Dialect, Relation, Shown, TableName};
use crate::resource::Diff;
use crate::resource::relation::TableChange;
use crate::resource::relation::assignment::{Fit, fit};
use crate::resource::relation::compare::{self, Difference};
use crate::resource::relation::types::varchar_length;

/// A table and its parent, side by side.
struct Pair<'a> {
    table: &'a TableName,
    parent_name: &'a TableName,
    parent: &'a Relation,
    found: &'a Relation,
    dialect: Dialect,
}

/// One difference and what it does to an archive INSERT.
struct Drift {
    what: String,
    consequence: String,
    /// The INSERT fails, for some rows or for all, or values end up where they do not belong.
    harmful: bool,
    /// A statement that ends it, where there is one that loses nothing.
    remedy: Option<String>,
}

impl PeriodTables {
    /// Adds to `diff` what is to be said and done about the differences between a period's table and its parent. `open`:
    /// the period can still receive rows.
    pub(super) fn drift(
        &self,
        series: &Series,
        table: &TableName,
        (parent, found): (&Relation, &Relation),
        dialect: Dialect,
        open: bool,
        diff: &mut Diff<TableChange>,
    ) {
        let repairs = match self.spec.on_drift {
            OnDrift::AddColumns => repairs(table, parent, found, dialect),
            OnDrift::Fail | OnDrift::Report => Vec::new(),
        };
        // What is said is what is left once the changes are made.
        let after = repaired(found, &repairs);
        diff.changes.extend(repairs);
        let pair = Pair { table, parent_name: &series.parent, parent, found: &after, dialect };
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

/// The changes that bring a table nearer to its parent and take nothing away.
fn repairs(table: &TableName, parent: &Relation, found: &Relation, dialect: Dialect) -> Vec<TableChange> {
    let differences = compare::columns(&parent.columns, &found.columns, dialect);
    // A column that is added lands last: right only where nothing else stands where the parent has it.
    let in_order = !differences.iter().any(|one| {
        matches!(one, Difference::Extra { .. } | Difference::Moved { .. } | Difference::Missing { last: false, .. })
    });
    let repair = |difference| match difference {
        Difference::Missing { column, last: true } if in_order => {
            Some(TableChange::AddColumn { table: table.clone(), column })
        }
        Difference::Type { name, wanted, found } if widens(&found, &wanted) => {
            Some(TableChange::Widen { table: table.clone(), column: name, before: found, after: wanted })
        }
        _ => None,
    };
    differences.into_iter().filter_map(repair).collect()
}

/// The table as the changes leave it.
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

fn widens(from: &str, to: &str) -> bool {
    matches!((varchar_length(from), varchar_length(to)), (Some(from), Some(to)) if from < to)
}

impl Pair<'_> {
    fn drifts(&self) -> Vec<Drift> {
        let differences = compare::columns(&self.parent.columns, &self.found.columns, self.dialect);
        // A column that takes no value at all takes no NULL either.
        let told = |one: &&Difference| !matches!(one, Difference::Null { name, .. } if self.is_computed(name));
        let mut drifts: Vec<Drift> = differences.iter().filter(told).map(|one| self.drift_of(one)).collect();
        drifts.extend(self.computed());
        drifts.extend(self.guards());
        drifts
    }

    fn drift_of(&self, difference: &Difference) -> Drift {
        let (consequence, harmful) = match (difference, self.out_of_place()) {
            (Difference::Null { name, wanted: true }, _) if !self.receives_nothing(name) => {
                ("fails as soon as a value is NULL".to_owned(), true)
            }
            (Difference::Null { .. }, _) => ("still works".to_owned(), false),
            (Difference::Type { name, wanted, found }, _) if self.is_in_place(name) => match fit(wanted, found) {
                Fit::Keeps => ("still works".to_owned(), false),
                Fit::Fails(when) => (format!("fails {when}"), true),
                Fit::Changes(how) => (format!("changes values: {how}"), true),
                Fit::Unknown => ("fails, or changes the values".to_owned(), true),
            },
            (_, Some(consequence)) => (consequence, true),
            (Difference::Extra { column }, None) => self.surplus(column),
            // None of these can be where every column is in its place.
            (Difference::Missing { .. } | Difference::Moved { .. } | Difference::Type { .. }, None) => {
                ("still works".to_owned(), false)
            }
        };
        let consequence = format!("an archive INSERT {consequence}");
        Drift { what: self.seen_from_parent(difference), consequence, harmful, remedy: self.remedy(difference) }
    }

    /// What the order of the columns does, where not every value goes into the column that it is meant for.
    fn out_of_place(&self) -> Option<String> {
        let (values, columns) = (self.parent.columns.len(), self.found.columns.len());
        if values > columns {
            return Some(format!("fails, it has {values} values for {columns} columns"));
        }
        let mut misplaced = self.parent.columns.iter().zip(&self.found.columns);
        misplaced
            .any(|(value, column)| self.fold(&value.name) != self.fold(&column.name))
            .then(|| "fails, or puts values in the wrong columns".to_owned())
    }

    /// Whether the column is at the same place in both.
    fn is_in_place(&self, name: &str) -> bool {
        let at = |columns: &[Column]| columns.iter().position(|column| self.fold(&column.name) == self.fold(name));
        at(&self.parent.columns) == at(&self.found.columns)
    }

    /// A column after all those that the INSERT has values for.
    fn surplus(&self, column: &Column) -> (String, bool) {
        if column.null || self.has_value_of_its_own(&column.name) {
            ("still works".to_owned(), false)
        } else {
            ("fails, it has no value for a column that takes no NULL".to_owned(), true)
        }
    }

    fn has_value_of_its_own(&self, column: &str) -> bool {
        self.found.inserts.defaults.contains(column) || self.found.inserts.computed.contains_key(column)
    }

    /// Whether the column is beyond those that the INSERT has values for.
    fn receives_nothing(&self, name: &str) -> bool {
        let at = self.found.columns.iter().position(|column| self.fold(&column.name) == self.fold(name));
        at.is_some_and(|at| at >= self.parent.columns.len())
    }

    fn is_computed(&self, name: &str) -> bool {
        self.found.inserts.computed.keys().any(|column| self.fold(column) == self.fold(name))
    }

    /// Columns whose values the server makes, and whose place the INSERT has a value for.
    fn computed(&self) -> Vec<Drift> {
        let computed = |column: &Column| {
            let how = self.found.inserts.computed.get(&column.name)?;
            let (name, table) = (Shown(&column.name), self.table.sql());
            let (kind, drop) = match how {
                Computed::Identity => ("an identity column", "IDENTITY"),
                Computed::Generated => ("a generated column", "EXPRESSION"),
            };
            let column_name = column.sql_name();
            let takes_null =
                self.parent.columns.iter().any(|value| self.fold(&value.name) == self.fold(&column.name) && value.null);
            let null = if takes_null && !column.null {
                format!(", ALTER COLUMN {column_name} DROP NOT NULL")
            } else {
                String::new()
            };
            let remedy = (self.dialect == Dialect::Postgresql)
                .then(|| format!("ALTER TABLE {table} ALTER COLUMN {column_name} DROP {drop}{null}"));
            Some(Drift {
                what: format!("column {name} is {kind}"),
                consequence: "an archive INSERT fails, the column takes no value".to_owned(),
                harmful: true,
                remedy,
            })
        };
        self.found.columns.iter().take(self.parent.columns.len()).filter_map(computed).collect()
    }

    /// Constraints, triggers and rules that the parent does not have.
    fn guards(&self) -> Vec<Drift> {
        let guards = self.found.inserts.guards.difference(&self.parent.inserts.guards);
        guards
            .map(|guard| Drift {
                what: format!("it has {guard}, which the parent has not"),
                consequence: if guard.starts_with("RULE ") {
                    "an archive INSERT does what the rule says instead".to_owned()
                } else {
                    "an archive INSERT fails as soon as a row does not pass".to_owned()
                },
                harmful: true,
                remedy: None,
            })
            .collect()
    }

    /// Whether the server keeps the column NOT NULL, whoever asks for something else.
    fn is_in_primary_key(&self, name: &str) -> bool {
        let is_named = |list: &str| {
            let quoted = postgres_protocol::escape::escape_identifier(name);
            list.trim_end_matches(')').split(", ").any(|column| column == name || column == quoted)
        };
        let keys = self.found.inserts.guards.iter().filter_map(|guard| guard.strip_prefix("PRIMARY KEY ("));
        keys.into_iter().any(is_named)
    }

    fn fold(&self, name: &str) -> String {
        match self.dialect {
            Dialect::Redshift => name.to_lowercase(),
            Dialect::Postgresql => name.to_owned(),
        }
    }

    fn seen_from_parent(&self, difference: &Difference) -> String {
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

    /// A statement that ends one difference alone and loses nothing.
    fn remedy(&self, difference: &Difference) -> Option<String> {
        if self.found.columns.len() >= self.parent.columns.len() && self.out_of_place().is_some() {
            return None;
        }
        let column = |name: &str| {
            let there = self.found.columns.iter().find(|column| self.fold(&column.name) == self.fold(name));
            there.map(Column::sql_name)
        };
        let alter = format!("ALTER TABLE {}", self.table.sql());
        let postgresql = self.dialect == Dialect::Postgresql;
        match difference {
            Difference::Missing { column, last: true } => {
                Some(format!("{alter} ADD COLUMN {} {}", column.sql_name(), column.type_name))
            }
            Difference::Type { name, wanted, found }
                if widens(found, wanted) || (postgresql && fit(found, wanted) == Fit::Keeps) =>
            {
                Some(format!("{alter} ALTER COLUMN {} TYPE {wanted}", column(name)?))
            }
            Difference::Null { name, wanted: true } if postgresql && !self.is_in_primary_key(name) => {
                Some(format!("{alter} ALTER COLUMN {} DROP NOT NULL", column(name)?))
            }
            Difference::Extra { column } if postgresql && !self.is_in_primary_key(&column.name) => {
                Some(format!("{alter} ALTER COLUMN {} DROP NOT NULL", column.sql_name()))
            }
            _ => None,
        }
    }

    fn hint(&self, remedy: Option<String>) -> String {
        remedy.map_or_else(
            || {
                let aside = TableName::new(&self.table.schema, format!("{}_drifted", self.table.name));
                format!(
                    "ALTER TABLE {} RENAME TO {}; then run apply, which makes the table again like {}, and bring the rows \
                     of {aside} into it by their columns' names",
                    self.table.sql(),
                    postgres_protocol::escape::escape_identifier(&aside.name),
                    self.parent_name,
                )
            },
            |statement| format!("{statement};"),
        )
    }
}
