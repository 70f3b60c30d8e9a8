//! Drift and its consequences: drift called harmful makes an archive INSERT fail or misplace values, and drift called
//! harmless does neither. The INSERT is executed.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use provision::resource::relation::assignment::{Fit, fit};
use provision::resource::relation::types::canonical;
use provision::resource::{Change as _, Resource as _};

use crate::cluster::{Cluster, program, shared};
use crate::kit::{DAY, apply, connect, periods, plan};
use crate::target::Target;

/// A series with one table `s.h_2025_h2`, which can still receive rows on [`DAY`].
const SERIES: &str = "through: 2025_h2\ntables: [{ name: 's.h_{period}', like: s.m }]\n";

fn try_psql(cluster: &Cluster, database: &str, sql: &str) -> Result<String, String> {
    let output = std::process::Command::new(program("psql"))
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &cluster.socket_url(database), "-c", sql])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn database() -> String {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s");
    database
}

/// Plans the two tables. Returns whether they have drifted, and all messages.
async fn drifted(database: &str) -> (bool, String) {
    let found = plan(&periods(SERIES), &connect(&shared().socket_url(database)), DAY).await.unwrap();
    assert_eq!((found.changes.len(), found.obstacles.len()), (0, 0), "{found:?}");
    (!found.drift.is_empty(), format!("{found:?}"))
}

/// Types, with values at the limits of their ranges.
const TYPES: &[(&str, &[&str])] = &[
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "2147483647", "16777217"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    ("numeric(4,0)", &["9999", "-9999"]),
    ("numeric(9,0)", &["999999999"]),
    ("numeric(18,0)", &["999999999999999999"]),
    ("numeric(10,3)", &["9999999.999"]),
    ("numeric(12,2)", &["9999999999.99"]),
    ("numeric(12,3)", &["999999999.999"]),
    ("numeric", &["123456789012345678901234567890.123456789"]),
    ("real", &["3.4e38", "0.1", "16777216"]),
    ("double precision", &["1.7e308", "0.1", "9007199254740992"]),
    ("character varying(5)", &["abcde", "éèêëā", "a "]),
    ("character varying(36)", &["abcdefghijklmnopqrstuvwxyz0123456789"]),
    ("character varying", &["a ", "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijkl"]),
    ("text", &["a ", "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijkl"]),
    ("character(5)", &["abcde", "ab"]),
    ("character(8)", &["abcdefgh", "ab"]),
    ("date", &["2026-02-28"]),
    ("timestamp without time zone", &["2026-02-28 12:34:56.789012"]),
    ("timestamp(3) without time zone", &["2026-02-28 12:34:56.789"]),
    ("timestamp with time zone", &["2026-02-28 12:34:56.789012+05"]),
    ("time without time zone", &["12:34:56.789012"]),
    ("boolean", &["true", "false"]),
    ("uuid", &["00000000-0000-4000-8000-0123456789ab"]),
    ("json", &["{\"a\": 1, \"a\": 2}"]),
    ("jsonb", &["{\"a\": 1}"]),
];

/// Each value of a type is inserted into a column of each other type in one time zone, and read back in another.
#[test]
fn reported_type_differences_match_real_inserts() {
    let database = database();
    let mut wrong = Vec::new();
    for (from, values) in TYPES {
        for (to, _) in TYPES {
            let values: Vec<_> = values.iter().map(|value| format!("('{value}'::{from})")).collect();
            let is = |name: &str, kinds: &[&str]| kinds.iter().any(|kind| name.starts_with(kind));
            let float = ["real", "double"];
            let number = ["smallint", "integer", "bigint", "numeric", "real", "double"];
            let same = if is(from, &float) && is(to, &float) {
                "v.c = h.c".to_owned()
            } else if is(from, &number) {
                "v.c::text::numeric = h.c::text::numeric".to_owned()
            } else if is(from, &["json"]) {
                "v.c::text = h.c::text".to_owned()
            } else {
                format!("v.c = h.c::text::{from}")
            };
            let keeps = try_psql(
                shared(),
                &database,
                &format!(
                    "SET TimeZone = 'Asia/Tokyo'; DROP TABLE IF EXISTS s.v, s.h; \
                     CREATE TABLE s.v (n serial, c {from}); CREATE TABLE s.h (n int, c {to}); \
                     INSERT INTO s.v (c) VALUES {}; INSERT INTO s.h SELECT * FROM s.v; SET TimeZone = 'UTC'; \
                     SELECT coalesce(bool_and({same}), false) \
                     FROM s.v v JOIN s.h h USING (n)",
                    values.join(", ")
                ),
            );
            let keeps = keeps.is_ok_and(|answer| answer == "t");
            assert_eq!(canonical(from, provision::host::warehouse::Dialect::Postgresql).as_deref(), Some(*from));
            let reported = fit(from, to);
            // What is called harmless has to be harmless. A text that can be read back may be called changed.
            let text = ["text", "character"].iter().any(|kind| to.starts_with(kind)) && !from.starts_with("char");
            if reported == Fit::Keeps && !keeps || keeps && reported != Fit::Keeps && !text {
                wrong.push(format!(
                    "{from} into {to}: said {reported:?}, and it {}",
                    if keeps { "keeps" } else { "does not keep" }
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// A column of a generated table: name, type, NOT NULL.
type Generated = (String, &'static str, bool);

fn table() -> impl Strategy<Value = Vec<Generated>> {
    let type_name = prop::sample::select(&["integer", "bigint", "varchar(8)", "varchar(9)", "date"][..]);
    prop::collection::vec(("[a-e]", type_name, prop::bool::weighted(0.3)), 1..5).prop_map(|mut columns| {
        let mut seen = std::collections::BTreeSet::new();
        columns.retain(|(name, ..)| seen.insert(name.clone()));
        columns
    })
}

/// Edits of one of two equal tables: at the front, in the middle, at the end.
#[derive(Debug, Clone)]
enum Edit {
    Swap(prop::sample::Index),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, &'static str, bool),
    Rename(prop::sample::Index),
    Retype(prop::sample::Index, &'static str),
    Null(prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<prop::sample::Index>;
    let type_name = || prop::sample::select(&["integer", "bigint", "varchar(8)", "varchar(9)", "text", "date"][..]);
    prop_oneof![
        at().prop_map(Edit::Swap),
        at().prop_map(Edit::Remove),
        (at(), type_name(), any::<bool>()).prop_map(|(at, name, not_null)| Edit::Insert(at, name, not_null)),
        at().prop_map(Edit::Rename),
        (at(), type_name()).prop_map(|(at, name)| Edit::Retype(at, name)),
        at().prop_map(Edit::Null),
    ]
}

fn edited(mut columns: Vec<Generated>, edits: &[Edit]) -> Vec<Generated> {
    for (number, edit) in edits.iter().enumerate() {
        let count = columns.len();
        match edit {
            Edit::Swap(at) => columns.swap(at.index(count), 0),
            Edit::Remove(at) if count > 1 => drop(columns.remove(at.index(count))),
            Edit::Remove(_) => {}
            Edit::Insert(at, name, not_null) => {
                columns.insert(at.index(count + 1), (format!("x{number}"), name, *not_null))
            }
            Edit::Rename(at) => columns[at.index(count)].0 = format!("y{number}"),
            Edit::Retype(at, name) => columns[at.index(count)].1 = name,
            Edit::Null(at) => columns[at.index(count)].2 ^= true,
        }
    }
    columns
}

fn create(name: &str, columns: &[Generated]) -> String {
    let column = |(name, type_name, not_null): &Generated| {
        format!("{name} {type_name}{}", if *not_null { " NOT NULL" } else { "" })
    };
    format!(
        "DROP TABLE IF EXISTS {name}; CREATE TABLE {name} ({})",
        columns.iter().map(column).collect::<Vec<_>>().join(", ")
    )
}

/// A row of values at the limits of the columns, all different.
fn row(columns: &[Generated], null: bool) -> String {
    let value = |(at, (_, type_name, not_null)): (usize, &Generated)| match *type_name {
        _ if null && !not_null => "NULL".to_owned(),
        "integer" => format!("{}", 2_147_483_640 + at),
        "bigint" => format!("{}", 9_000_000_000_000_000_000_u64 + at as u64),
        "varchar(8)" => format!("'abcdefg{at}'"),
        "varchar(9)" => format!("'abcdefgh{at}'"),
        _ => format!("'2026-01-0{}'", at + 1),
    };
    format!("({})", columns.iter().enumerate().map(value).collect::<Vec<_>>().join(", "))
}

/// Returns whether an archive INSERT works and stores every value in the column with its name.
fn archives(database: &str, mart: &[Generated]) -> bool {
    let same: Vec<_> =
        mart.iter().map(|(name, ..)| format!("m.{name}::text IS NOT DISTINCT FROM h.{name}::text")).collect();
    let answer = try_psql(
        shared(),
        database,
        &format!(
            "INSERT INTO s.m VALUES {}, {}; INSERT INTO s.h_2025_h2 SELECT * FROM s.m; \
             SELECT count(*) FROM (SELECT *, row_number() OVER () AS n FROM s.m) m \
             JOIN (SELECT *, row_number() OVER () AS n FROM s.h_2025_h2) h ON m.n = h.n WHERE {}",
            row(mart, false),
            row(mart, true),
            same.join(" AND ")
        ),
    );
    answer.is_ok_and(|matching| matching == "2")
}

#[test]
fn tables_are_drifted_if_an_archive_insert_fails_or_misplaces() {
    let database = database();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: 120, failure_persistence: None, ..Config::default() };
    let case = (table(), prop::collection::vec(edit(), 0..3));
    let outcome = TestRunner::new(config).run(&case, |(mart, edits)| {
        let history = edited(mart.clone(), &edits);
        shared().psql(&database, &format!("{}; {}", create("s.m", &mart), create("s.h_2025_h2", &history)));
        let (drifted, reported) = runtime.block_on(drifted(&database));
        let works = archives(&database, &mart);
        prop_assert_eq!(!drifted, works, "{:?} {:?}: {}", mart, history, reported);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// What rejects rows apart from the names, types, order and NOT NULL of columns.
#[tokio::test]
async fn a_table_that_rejects_archived_rows_has_drifted() {
    let database = database();
    for (parent, history, works) in [
        ("(a int, b int)", "(a int generated always as identity, b int)", false),
        ("(a int not null, b int)", "(a int generated by default as identity, b int)", true),
        ("(a int, b int)", "(a int, b int generated always as (a * 2) stored)", false),
        ("(a int, b int)", "(a int, b int, c int generated always as identity)", true),
        ("(a int, b int)", "(a int, b int, c int not null default 1)", true),
        ("(a int, b int)", "(a int, b int, c int not null)", false),
        ("(a int, b int)", "(a int, b int check (b > 100))", false),
        ("(a int, b int check (b > 0))", "(like s.m including all)", true),
        ("(a int, b int)", "(a int, b int, unique (b))", false),
        ("(a int primary key, b int)", "(like s.m including all)", true),
        ("(a int generated always as identity, b int)", "(like s.m including all)", false),
        ("(a int generated always as identity, b int)", "(like s.m)", true),
        ("(a int, b int)", "(a int, b int) partition by range (a)", false),
    ] {
        shared().psql(
            &database,
            &format!(
                "DROP TABLE IF EXISTS s.m, s.h_2025_h2; CREATE TABLE s.m {parent}; CREATE TABLE s.h_2025_h2 {history}"
            ),
        );
        let (drifted, reported) = drifted(&database).await;
        let insert = "INSERT INTO s.m (b) VALUES (1); INSERT INTO s.m (b) VALUES (1)";
        let insert = if parent.contains("identity") { insert } else { "INSERT INTO s.m VALUES (1, 1), (2, 1)" };
        let done = try_psql(shared(), &database, &format!("{insert}; INSERT INTO s.h_2025_h2 SELECT * FROM s.m"));
        assert_eq!(done.is_ok(), works, "{history}: {done:?}");
        assert_eq!(drifted, !works, "{history}: {reported}");
    }
    shared().psql(
        &database,
        "DROP TABLE s.h_2025_h2; CREATE TABLE s.h_2025_h2 (LIKE s.m); \
         CREATE FUNCTION s.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; \
         CREATE TRIGGER no BEFORE INSERT ON s.h_2025_h2 FOR EACH ROW EXECUTE FUNCTION s.no()",
    );
    let (drifted, reported) = drifted(&database).await;
    assert!(drifted && reported.contains("TRIGGER no"), "{reported}");
    for (sql, expected) in [
        ("CREATE RULE no AS ON INSERT TO s.h_2025_h2 DO INSTEAD NOTHING", "RULE no for INSERT"),
        ("ALTER TABLE s.h_2025_h2 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", "row-level security"),
    ] {
        shared().psql(&database, &format!("DROP TABLE s.h_2025_h2; CREATE TABLE s.h_2025_h2 (LIKE s.m); {sql}"));
        let (drifted, reported) = self::drifted(&database).await;
        assert!(drifted && reported.contains(expected), "{sql}: {reported}");
    }
}

/// No statement can make a column of a primary key nullable.
#[tokio::test]
async fn no_hint_is_given_that_a_primary_key_rejects() {
    let database = database();
    let tables = "CREATE TABLE s.m (\"A b\" int, b int); CREATE TABLE s.h_2025_h2 (\"A b\" int primary key, b int)";
    shared().psql(&database, tables);
    let found = plan(&periods(SERIES), &connect(&shared().socket_url(&database)), DAY).await.unwrap();
    assert!(!found.drift.is_empty());
    assert!(!format!("{found:?}").contains("DROP NOT NULL"), "{found:?}");
}

/// The statement in a hint ends the difference without losing data.
#[tokio::test]
async fn the_hint_for_drift_works_when_pasted() {
    let database = database();
    for (parent, history) in [
        ("(a int, b int)", "(a int generated always as identity, b int)"),
        ("(a int, b int)", "(a int, b int generated always as (a * 2) stored)"),
        ("(a int, b int)", "(a int not null, b int)"),
        ("(a int, b varchar(9))", "(a int, b varchar(8))"),
        ("(a bigint, b int)", "(a int, b int)"),
        ("(a int, b int, \"C d\" date)", "(a int, b int)"),
        ("(a int, b int)", "(a int, b int, c int not null)"),
        ("(a int, b int)", "(b int, a int)"),
    ] {
        shared().psql(
            &database,
            &format!(
                "DROP TABLE IF EXISTS s.m, s.h_2025_h2, s.h_2025_h2_drifted; CREATE TABLE s.m {parent}; \
                 CREATE TABLE s.h_2025_h2 {history}"
            ),
        );
        let step = periods(SERIES);
        let warehouse = connect(&shared().socket_url(&database));
        let found = plan(&step, &warehouse, DAY).await.unwrap();
        let hint = found.drift.first().and_then(|drift| drift.hint.clone()).unwrap();
        shared().psql(&database, crate::kit::statement(&hint));
        crate::kit::apply(&step, &warehouse, DAY).await;
        let after = plan(&step, &warehouse, DAY).await.unwrap();
        assert_eq!(after.drift, vec![], "{history}: {hint}");
    }
}

/// On Redshift an identity column is a default of a special kind.
#[tokio::test]
async fn an_identity_column_of_redshift_has_drifted() {
    let target = Target::double().await;
    target.sql("CREATE TABLE settlement_ods.m (a INT, b INT)").await;
    target.sql("CREATE TABLE settlement_ods.h_2025_h2 (a INT GENERATED ALWAYS AS IDENTITY, b INT DEFAULT 7)").await;
    let step =
        target.periods("through: 2025_h2\ntables: [{ name: 'settlement_ods.h_{period}', like: settlement_ods.m }]\n");
    let found = plan(&step, &connect(&target.url), DAY).await.unwrap();
    let expected: Vec<_> = found.drift.iter().map(|drift| drift.message.as_str()).collect();
    assert!(expected.iter().any(|expected| expected.contains("column a is an identity column")), "{found:?}");
}

/// One refusal does not keep the other columns and tables from being repaired.
#[tokio::test]
async fn a_refused_column_leaves_the_repairs_of_other_tables() {
    let database = database();
    shared().psql(
        &database,
        "CREATE SCHEMA n; CREATE DOMAIN n.code AS int NOT NULL; CREATE TABLE n.m (a varchar(5), b n.code); \
         CREATE TABLE n.h_2025_h2 (a varchar(5)); INSERT INTO n.h_2025_h2 VALUES ('x')",
    );
    let warehouse = connect(&shared().socket_url(&database));
    let step = periods("through: current\non_drift: add_columns\ntables: [{ name: 'n.h_{period}', like: n.m }]");
    let planned = plan(&step, &warehouse, DAY).await.unwrap();
    let add = planned.changes.iter().find(|change| change.describe().summary.contains("add column")).unwrap();
    let context = provision::resource::ExecuteContext::new(crate::kit::observe_context(&warehouse, DAY), "run");
    let failure = step.execute(add, &context).await.unwrap_err();
    assert!(
        failure.hint.as_deref().unwrap_or_default().contains("add the column manually, with a DEFAULT"),
        "{failure:?}"
    );
}

/// PostgreSQL adds no column to a partition and widens none there: only the whole table can be altered.
#[tokio::test]
async fn a_partition_is_altered_at_its_root() {
    let database = database();
    shared().psql(
        &database,
        "CREATE SCHEMA n; CREATE TABLE n.m (a int, b varchar(9), c int); \
         CREATE TABLE n.\"All\" (a int, b varchar(5)) PARTITION BY RANGE (a); \
         CREATE TABLE n.half PARTITION OF n.\"All\" DEFAULT PARTITION BY RANGE (a); \
         CREATE TABLE n.h_2025_h2 PARTITION OF n.half DEFAULT",
    );
    let warehouse = connect(&shared().socket_url(&database));
    for on_drift in ["add_columns", "fail"] {
        let step = format!("through: 2025_h2\non_drift: {on_drift}\ntables: [{{ name: 'n.h_{{period}}', like: n.m }}]");
        let found = plan(&periods(&step), &warehouse, DAY).await.unwrap();
        assert!(found.changes.is_empty(), "{found:?}");
        let refusals = if on_drift == "fail" { &found.drift } else { &found.obstacles };
        let hints: String = refusals.iter().filter_map(|refusal| refusal.hint.as_deref()).collect();
        for remedy in ["ADD COLUMN \"c\" integer;", "ALTER COLUMN \"b\" TYPE character varying(9);"] {
            assert!(hints.contains(&format!("`ALTER TABLE \"n\".\"All\" {remedy}`")), "{hints}");
        }
    }
    shared().psql(
        &database,
        "ALTER TABLE \"n\".\"All\" ADD COLUMN \"c\" integer; \
         ALTER TABLE \"n\".\"All\" ALTER COLUMN \"b\" TYPE character varying(9);",
    );
    let step = periods("through: 2025_h2\non_drift: add_columns\ntables: [{ name: 'n.h_{period}', like: n.m }]");
    let found = plan(&step, &warehouse, DAY).await.unwrap();
    assert!(found.changes.is_empty() && found.obstacles.is_empty() && found.drift.is_empty(), "{found:?}");
}

/// PostgreSQL stores a text without a limit in the same way, so a column is widened to it.
#[tokio::test]
async fn a_varchar_is_widened_to_text() {
    let database = database();
    shared().psql(
        &database,
        "CREATE SCHEMA n; CREATE TABLE n.m (a text, b varchar); CREATE TABLE n.h_2025_h2 (a varchar(5), b varchar(7)); \
         CREATE TABLE n.h_2026_h1 (a text, b varchar)",
    );
    let warehouse = connect(&shared().socket_url(&database));
    let step = periods("through: current\non_drift: add_columns\ntables: [{ name: 'n.h_{period}', like: n.m }]");
    let expected = [
        "widen column a of n.h_2025_h2 from character varying(5) to text",
        "widen column b of n.h_2025_h2 from character varying(7) to character varying",
    ];
    assert_eq!(apply(&step, &warehouse, DAY).await, expected);
}
