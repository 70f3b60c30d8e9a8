//! Two tables' columns side by side.

use std::collections::BTreeMap;
use std::fmt;

use crate::host::warehouse::{Column, Dialect, Shown};

use super::types::canonical;

/// One column that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Wanted, and not there. `last` where only columns that are missing too would come after it.
    Missing { column: Column, last: bool },
    /// There, and not wanted.
    Extra { column: Column },
    /// Of another type, in the one spelling of both.
    Type { name: String, wanted: String, found: String },
    /// Takes NULL or not.
    Null { name: String, wanted: bool },
    /// At another place among the columns that both have, counted from one.
    Moved { name: String, wanted: usize, found: usize },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { column, .. } => {
                write!(f, "column {} {} is missing", Shown(&column.name), column.type_name)
            }
            Self::Extra { column } => write!(f, "column {} {} is not wanted", Shown(&column.name), column.type_name),
            Self::Type { name, wanted, found } => {
                write!(f, "column {} is {found}, wanted is {wanted}", Shown(name))
            }
            Self::Null { name, wanted: true } => write!(f, "column {} is NOT NULL, wanted is NULL", Shown(name)),
            Self::Null { name, wanted: false } => write!(f, "column {} takes NULL, wanted is NOT NULL", Shown(name)),
            Self::Moved { name, wanted, found } => {
                write!(f, "column {} is at place {found}, wanted is place {wanted}", Shown(name))
            }
        }
    }
}

/// What differs between the columns that are wanted and those that are there, in the wanted order, the surplus last.
pub fn columns(wanted: &[Column], found: &[Column], dialect: Dialect) -> Vec<Difference> {
    let fold = |column: &Column| match dialect {
        Dialect::Redshift => column.name.to_lowercase(),
        Dialect::Postgresql => column.name.clone(),
    };
    let there: BTreeMap<String, &Column> = found.iter().map(|column| (fold(column), column)).collect();
    let asked: BTreeMap<String, &Column> = wanted.iter().map(|column| (fold(column), column)).collect();
    let mut differences = Vec::new();
    let last_common = wanted.iter().rposition(|column| there.contains_key(&fold(column)));
    for (at, column) in wanted.iter().enumerate() {
        let Some(other) = there.get(&fold(column)) else {
            let last = last_common.is_none_or(|common| at > common);
            differences.push(Difference::Missing { column: column.clone(), last });
            continue;
        };
        let (want, have) = (spelling(&column.type_name, dialect), spelling(&other.type_name, dialect));
        if want != have {
            differences.push(Difference::Type { name: column.name.clone(), wanted: want, found: have });
        }
        if column.null != other.null {
            differences.push(Difference::Null { name: column.name.clone(), wanted: column.null });
        }
    }
    differences.extend(moved(wanted, found, &fold));
    let surplus = found.iter().filter(|column| !asked.contains_key(&fold(column)));
    differences.extend(surplus.map(|column| Difference::Extra { column: column.clone() }));
    differences
}

/// The columns that both have, where their order differs.
fn moved(wanted: &[Column], found: &[Column], fold: &impl Fn(&Column) -> String) -> Vec<Difference> {
    let order = |columns: &[Column], others: &[Column]| -> Vec<String> {
        let others: Vec<_> = others.iter().map(fold).collect();
        columns.iter().map(fold).filter(|name| others.contains(name)).collect()
    };
    let (want, have) = (order(wanted, found), order(found, wanted));
    let place =
        |name: &String, columns: &[Column]| columns.iter().position(|column| fold(column) == *name).map(|at| at + 1);
    want.iter()
        .zip(&have)
        .filter(|(want, have)| want != have)
        .filter_map(|(name, _)| {
            Some(Difference::Moved { name: name.clone(), wanted: place(name, wanted)?, found: place(name, found)? })
        })
        .collect()
}

/// A type's one spelling; a type that is not known is compared by its text.
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
        fn both_directions_see_as_much_missing_as_surplus(one in table(), other in table()) {
            let count = |found: &[Difference]| {
                let missing = found.iter().filter(|found| matches!(found, Difference::Missing { .. })).count();
                let extra = found.iter().filter(|found| matches!(found, Difference::Extra { .. })).count();
                (missing, extra)
            };
            let (missing, extra) = count(&columns(&one, &other, Dialect::Postgresql));
            prop_assert_eq!((extra, missing), count(&columns(&other, &one, Dialect::Postgresql)));
        }

        #[test]
        fn a_shuffle_is_moved_columns_and_nothing_else(table in table().prop_flat_map(|table| (Just(table.clone()), Just(table).prop_shuffle()))) {
            let (one, other) = table;
            for difference in columns(&one, &other, Dialect::Postgresql) {
                let moved = matches!(difference, Difference::Moved { .. });
                prop_assert!(moved);
            }
        }

        /// One change to a table is one column's difference, told by its name.
        #[test]
        fn each_single_change_is_told(table in table(), at in any::<prop::sample::Index>(), what in 0..6) {
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
            let told = columns(&table, &other, Dialect::Postgresql);
            let about = |wanted: &str| told.iter().filter(|one| one.to_string().contains(&format!("column {wanted} "))).count();
            match what {
                0 | 1 | 3 => prop_assert_eq!((told.len(), about(&name)), (1, 1), "{:?}", told),
                2 => prop_assert_eq!((told.len(), about(&name), about("x")), (2, 1, 1), "{:?}", told),
                4 => prop_assert_eq!((told.len(), about("x")), (1, 1), "{:?}", told),
                _ => prop_assert_eq!(told.len(), if table.len() == 1 { 0 } else { table.len() }, "{:?}", told),
            }
        }
    }
}
