//! Generated tables on PostgreSQL: the parsed DDL agrees with the table that the server creates, and later changes of
//! the table are detected.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::cluster::shared;
use crate::kit::{DAY, apply, connect, plan, summaries, table};

/// Types as people write them.
const TYPES: &[&str] = &[
    "smallint",
    "INT2",
    "INTEGER",
    "int",
    "int4",
    "BIGINT",
    "int8",
    "real",
    "float4",
    "DOUBLE PRECISION",
    "float8",
    "FLOAT",
    "float(10)",
    "float(53)",
    "numeric",
    "NUMERIC(10)",
    "decimal(12, 2)",
    "dec(3)",
    "boolean",
    "BOOL",
    "varchar",
    "VARCHAR(64)",
    "character varying(5)",
    "char",
    "CHAR(7)",
    "character(3)",
    "text",
    "date",
    "timestamp",
    "TIMESTAMP(3)",
    "timestamp without time zone",
    "timestamp with time zone",
    "timestamptz",
    "time",
    "time with time zone",
    "timetz",
    "bytea",
    "uuid",
    "json",
    "jsonb",
    "interval",
];

#[derive(Debug, Clone)]
struct Generated {
    /// Quoted names, types, and whether NOT NULL is written.
    columns: Vec<(String, &'static str, bool)>,
    key: bool,
    /// The column that is changed, and how.
    at: prop::sample::Index,
    change: usize,
}

fn generated() -> impl Strategy<Value = Generated> {
    let column = ("[a-zA-Z_é][a-zA-Z0-9 é.\"']{0,9}", prop::sample::select(TYPES), any::<bool>());
    let columns = prop::collection::vec(column, 1..8).prop_map(|mut columns| {
        let mut seen = std::collections::BTreeSet::new();
        columns.retain(|(name, ..)| seen.insert(name.clone()));
        columns
    });
    (columns, any::<bool>(), any::<prop::sample::Index>(), 0usize..4).prop_map(|(columns, key, at, change)| Generated {
        columns,
        key,
        at,
        change,
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Generated {
    /// JSON has no order, so it cannot be a key.
    fn has_key(&self) -> bool {
        self.key && self.columns[0].1 != "json"
    }

    fn ddl(&self, name: &str) -> String {
        let column = |(name, type_name, not_null): &(String, &str, bool)| {
            format!("{} {type_name}{}", quoted(name), if *not_null { " NOT NULL" } else { "" })
        };
        let mut lines: Vec<_> = self.columns.iter().map(column).collect();
        if self.has_key() {
            lines.push(format!("PRIMARY KEY ({})", quoted(&self.columns[0].0)));
        }
        format!("CREATE TABLE {name} (\n  {}\n)", lines.join(",\n  "))
    }

    /// Returns one change, and the name of its column.
    fn altered(&self, table: &str) -> (String, String) {
        let at = self.at.index(self.columns.len());
        let (name, type_name, not_null) = &self.columns[at];
        let column = quoted(name);
        let not_null = *not_null || (at == 0 && self.has_key());
        let (sql, name) = match self.change {
            0 if not_null && !self.has_key() => (format!("ALTER COLUMN {column} DROP NOT NULL"), name.clone()),
            0 | 1 if !not_null => (format!("ALTER COLUMN {column} SET NOT NULL"), name.clone()),
            2 if *type_name != "text" => (format!("ALTER COLUMN {column} TYPE text USING NULL"), name.clone()),
            3 => (format!("RENAME {column} TO renamed"), "renamed".into()),
            _ => ("ADD COLUMN added INT".into(), "added".into()),
        };
        (format!("ALTER TABLE {table} {sql}"), name)
    }
}

#[test]
fn parsed_ddl_matches_the_created_table() {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let warehouse = connect(&shared().socket_url(&database));
    let number = std::cell::Cell::new(0);
    // The table of a failed case remains, and a shrunken one is another table.
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&generated(), |case| {
        number.set(number.get() + 1);
        let name = format!("s.t{}", number.get());
        let step = table(&case.ddl(&name), "");
        runtime.block_on(async {
            prop_assert_eq!(apply(&step, &warehouse, DAY).await, [format!("create table {name}")]);
            let again = plan(&step, &warehouse, DAY).await.unwrap();
            prop_assert_eq!(summaries(&again), Vec::<String>::new());
            let (sql, column) = case.altered(&name);
            shared().psql(&database, &sql);
            let refusal = plan(&step, &warehouse, DAY).await.map(|diff| summaries(&diff)).unwrap_err();
            let shown = provision::host::warehouse::Shown(&column).to_string();
            prop_assert!(refusal.message.contains(&format!("column {shown} ")), "{}: {}", sql, refusal.message);
            Ok(())
        })
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
