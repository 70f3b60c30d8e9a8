//! Compares the columns of two tables.

use std::collections::BTreeMap;
use std::fmt;

use crate::host::warehouse::{Column, Dialect, Shown};

use super::types::canonical;

/// One column that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is expected but does not exist. `last` means that no existing column comes after it.
    Missing { column: Column, last: bool },
    /// It exists but is not expected.
    Extra { column: Column },
    /// The type differs. Both types have their canonical spelling.
    Type { name: String, expected: String, found: String },
    /// NULL is allowed or not.
    Null { name: String, expected: bool },
    /// The position differs among the columns that both have, counted from one.
    Moved { name: String, expected: usize, found: usize },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { column, .. } => {
                write!(f, "column {} {} is missing", Shown(&column.name), column.type_name)
            }
            Self::Extra { column } => write!(f, "column {} {} is unexpected", Shown(&column.name), column.type_name),
            Self::Type { name, expected, found } => {
                write!(f, "column {} is {found}, expected {expected}", Shown(name))
            }
            Self::Null { name, expected: true } => write!(f, "column {} is NOT NULL, expected NULL", Shown(name)),
            Self::Null { name, expected: false } => write!(f, "column {} allows NULL, expected NOT NULL", Shown(name)),
            Self::Moved { name, expected, found } => {
                write!(f, "column {} is at position {found}, expected position {expected}", Shown(name))
            }
        }
    }
}

/// Returns the differences between the expected and the actual columns, in the expected order, unexpected columns last.
pub fn columns(expected: &[Column], found: &[Column], dialect: Dialect) -> Vec<Difference> {
    let fold = |column: &Column| dialect.comparable(&column.name);
    let actual: BTreeMap<String, &Column> = found.iter().map(|column| (fold(column), column)).collect();
    let expected_names: BTreeMap<String, &Column> = expected.iter().map(|column| (fold(column), column)).collect();
    let mut differences = Vec::new();
    let last_common = expected.iter().rposition(|column| actual.contains_key(&fold(column)));
    for (at, column) in expected.iter().enumerate() {
        let Some(other) = actual.get(&fold(column)) else {
            let last = last_common.is_none_or(|common| at > common);
            differences.push(Difference::Missing { column: column.clone(), last });
            continue;
        };
        let (want, have) = (spelling(&column.type_name, dialect), spelling(&other.type_name, dialect));
        if want != have {
            differences.push(Difference::Type { name: column.name.clone(), expected: want, found: have });
        }
        if column.null != other.null {
            differences.push(Difference::Null { name: column.name.clone(), expected: column.null });
        }
    }
    differences.extend(moved(expected, found, &fold));
    let surplus = found.iter().filter(|column| !expected_names.contains_key(&fold(column)));
    differences.extend(surplus.map(|column| Difference::Extra { column: column.clone() }));
    differences
}

/// Returns the common columns whose order differs.
fn moved(expected: &[Column], found: &[Column], fold: &impl Fn(&Column) -> String) -> Vec<Difference> {
    let order = |columns: &[Column], others: &[Column]| -> Vec<String> {
        let others: Vec<_> = others.iter().map(fold).collect();
        columns.iter().map(fold).filter(|name| others.contains(name)).collect()
    };
    let (want, have) = (order(expected, found), order(found, expected));
    let place =
        |name: &String, columns: &[Column]| columns.iter().position(|column| fold(column) == *name).map(|at| at + 1);
    want.iter()
        .zip(&have)
        .filter(|(want, have)| want != have)
        .filter_map(|(name, _)| {
            Some(Difference::Moved { name: name.clone(), expected: place(name, expected)?, found: place(name, found)? })
        })
        .collect()
}

/// Returns the canonical spelling of a type. Unknown types are compared by their text.
pub fn spelling(type_name: &str, dialect: Dialect) -> String {
    canonical(type_name, dialect).unwrap_or_else(|| type_name.trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> impl Strategy<Value = Vec<Column>> {
        let column = ("[a-d]", "(integer|varchar\\(8\\)|varchar\\(9\\))", any::<bool>())
            .prop_map(|(name, type_name, null)| Column { name, type_name, null });
        prop::collection::vec(column, 1..5).prop_map(|mut columns| {
            let mut seen = std::collections::BTreeSet::new();
            columns.retain(|column| seen.insert(column.name.clone()));
            columns
        })
    }

    proptest! {
        #[test]
        fn no_difference_means_the_same_table(one in table(), other in table()) {
            let differences = columns(&one, &other, Dialect::Postgresql);
            prop_assert_eq!(differences.is_empty(), one == other, "{:?}", differences);
        }

        #[test]
        fn missing_and_extra_are_symmetric(one in table(), other in table()) {
            let count = |found: &[Difference]| {
                let missing = found.iter().filter(|found| matches!(found, Difference::Missing { .. })).count();
                let extra = found.iter().filter(|found| matches!(found, Difference::Extra { .. })).count();
                (missing, extra)
            };
            let (missing, extra) = count(&columns(&one, &other, Dialect::Postgresql));
            prop_assert_eq!((extra, missing), count(&columns(&other, &one, Dialect::Postgresql)));
        }

        #[test]
        fn shuffled_columns_are_only_moved(table in table().prop_flat_map(|table| (Just(table.clone()), Just(table).prop_shuffle()))) {
            let (one, other) = table;
            for difference in columns(&one, &other, Dialect::Postgresql) {
                let moved = matches!(difference, Difference::Moved { .. });
                prop_assert!(moved);
            }
        }

        /// One change to a table is one difference, which names its column.
        #[test]
        fn single_changes_are_reported(table in table(), at in any::<prop::sample::Index>(), what in 0..6) {
            let at = at.index(table.len());
            let mut other = table.clone();
            let name = table[at].name.clone();
            match what {
                0 => other[at].null = !table[at].null,
                1 => other[at].type_name = "date".into(),
                2 => other[at].name = "x".into(),
                3 => drop(other.remove(at)),
                4 => other.insert(at, Column { name: "x".into(), type_name: "date".into(), null: true }),
                _ => other.rotate_left(1),
            }
            let differences = columns(&table, &other, Dialect::Postgresql);
            let about = |name: &str| differences.iter().filter(|one| one.to_string().contains(&format!("column {name} "))).count();
            match what {
                0 | 1 | 3 => prop_assert_eq!((differences.len(), about(&name)), (1, 1), "{:?}", differences),
                2 => prop_assert_eq!((differences.len(), about(&name), about("x")), (2, 1, 1), "{:?}", differences),
                4 => prop_assert_eq!((differences.len(), about("x")), (1, 1), "{:?}", differences),
                _ => prop_assert_eq!(differences.len(), if table.len() == 1 { 0 } else { table.len() }, "{:?}", differences),
            }
        }
    }
}
