//! Views that people made are not changed. Only a UNION ALL of the same columns of the tables belongs to the step.

use provision::resource::period_tables::PeriodTables;

use crate::cluster::shared;
use crate::kit::{DAY, apply, connect, periods, plan, summaries};

/// What a SELECT can have beside columns of its table.
const EXPRESSIONS: &[&str] = &[
    "now()",
    "current_user",
    "session_user",
    "user",
    "current_role",
    "current_catalog",
    "current_schema",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_timestamp(3)",
    "localtime",
    "localtimestamp",
    "clock_timestamp()",
    "random()",
    "current_setting('x', true)",
    "true",
    "false",
    "NULL::text",
    "NULL::integer",
    "1",
    "-1",
    "1.5",
    "'x'",
    "E'\\n'",
    "'a.b'",
    "'FROM s.x'",
    "interval '1 day'",
    "timestamp 'today'",
    "a::text",
    "a::bigint",
    "CAST(b AS varchar(3))",
    "b COLLATE \"C\"",
    "a + 1",
    "- a",
    "b || 'x'",
    "a IS NULL",
    "NOT (a > 1)",
    "a = ANY (ARRAY[1, 2])",
    "a IN (1, 2)",
    "a BETWEEN 1 AND 2",
    "b LIKE 'x%'",
    "b ~ 'x'",
    "b IS DISTINCT FROM 'x'",
    "upper(b)",
    "coalesce(b, 'x')",
    "nullif(b, 'x')",
    "greatest(a, 1)",
    "substring(b FROM 1 FOR 2)",
    "trim(b)",
    "position('x' IN b)",
    "extract(year FROM d)",
    "d AT TIME ZONE 'UTC'",
    "CASE WHEN a > 1 THEN b END",
    "CASE a WHEN 1 THEN b ELSE 'x' END",
    "ROW(a, b)::text",
    "ARRAY[a]",
    "(ARRAY[a])[1]",
    "to_jsonb(b) -> 'x'",
    "(SELECT max(a) FROM s.m)",
    "(SELECT b)",
    "EXISTS (SELECT 1 FROM s.m)",
    "row_number() OVER ()",
    "sum(a) OVER (PARTITION BY b ORDER BY d ROWS UNBOUNDED PRECEDING)",
    "lag(b) OVER (ORDER BY d)",
    "generate_series(1, 2)",
    "h::text",
    "(h.c).x",
    "(c).y",
    "tableoid",
    "ctid",
    "xmin::text",
    "h.tableoid",
];

/// Whole definitions. `ONE` and `TWO` are the tables.
const DEFINITIONS: &[&str] = &[
    "SELECT a, b FROM ONE WHERE a > 1 UNION ALL SELECT a, b FROM TWO",
    "SELECT a, b FROM ONE UNION ALL SELECT a, b FROM TWO WHERE a > 1",
    "SELECT a, b FROM ONE UNION ALL SELECT a, b FROM TWO ORDER BY a",
    "SELECT a, b FROM ONE UNION ALL SELECT a, b FROM TWO ORDER BY 1 DESC NULLS LAST",
    "SELECT a, b FROM ONE UNION ALL SELECT a, b FROM TWO LIMIT 3",
    "SELECT a, b FROM ONE UNION ALL SELECT a, b FROM TWO OFFSET 3",
    "SELECT a, b FROM ONE UNION ALL SELECT a, b FROM TWO FETCH FIRST 3 ROWS ONLY",
    "(SELECT a, b FROM ONE LIMIT 3) UNION ALL (SELECT a, b FROM TWO LIMIT 3)",
    "(SELECT a, b FROM ONE ORDER BY a) UNION ALL SELECT a, b FROM TWO",
    "SELECT DISTINCT a, b FROM ONE",
    "SELECT DISTINCT a, b FROM ONE UNION ALL SELECT DISTINCT a, b FROM TWO",
    "SELECT DISTINCT ON (a) a, b FROM ONE UNION ALL SELECT a, b FROM TWO",
    "SELECT a, b FROM ONE UNION SELECT a, b FROM TWO",
    "SELECT a, b FROM ONE UNION DISTINCT SELECT a, b FROM TWO",
    "(SELECT a, b FROM ONE UNION SELECT a, b FROM TWO) UNION ALL SELECT a, b FROM TWO",
    "SELECT a, b FROM ONE UNION ALL (SELECT a, b FROM TWO UNION SELECT a, b FROM ONE)",
    "SELECT a, b FROM ONE INTERSECT ALL SELECT a, b FROM TWO",
    "SELECT a, b FROM ONE EXCEPT ALL SELECT a, b FROM TWO",
    "SELECT a, b FROM ONE UNION ALL (SELECT a, b FROM TWO EXCEPT SELECT a, b FROM ONE)",
    "SELECT a, b FROM ONE GROUP BY a, b UNION ALL SELECT a, b FROM TWO",
    "SELECT a FROM ONE GROUP BY a HAVING count(*) > 1",
    "SELECT a, b FROM ONE GROUP BY GROUPING SETS ((a), (b))",
    "SELECT a, b FROM ONLY ONE UNION ALL SELECT a, b FROM ONLY TWO",
    "SELECT a, b FROM ONE TABLESAMPLE system (10) UNION ALL SELECT a, b FROM TWO",
    "SELECT a, b FROM ONE FOR UPDATE",
    "SELECT a, b FROM ONE FOR SHARE SKIP LOCKED",
    "SELECT x, y FROM ONE AS h (x, y) UNION ALL SELECT a, b FROM TWO",
    "SELECT x AS a, y AS b FROM ONE AS h (y, x) UNION ALL SELECT b, a FROM TWO",
    "SELECT one.a, two.b FROM ONE one JOIN TWO two ON one.a = two.a",
    "SELECT one.a, one.b FROM ONE one LEFT JOIN TWO two USING (a)",
    "SELECT one.a, two.b FROM ONE one, TWO two",
    "SELECT one.a, two.b FROM ONE one CROSS JOIN TWO two",
    "SELECT a, b FROM ONE NATURAL JOIN TWO",
    "SELECT one.a, l.b FROM ONE one, LATERAL (SELECT one.b) l",
    "SELECT h.a, h.b FROM (SELECT a, b FROM ONE) h UNION ALL SELECT a, b FROM TWO",
    "SELECT h.a, h.b FROM (SELECT a, b FROM ONE UNION ALL SELECT a, b FROM TWO) h",
    "WITH h AS (SELECT a, b FROM ONE) SELECT a, b FROM h UNION ALL SELECT a, b FROM TWO",
    "WITH RECURSIVE h AS (SELECT a, b FROM ONE UNION ALL SELECT a + 1, b FROM h WHERE a < 3) SELECT a, b FROM h",
    "SELECT a, b FROM ONE UNION ALL VALUES (1, 'x')",
    "SELECT a, b FROM ONE UNION ALL SELECT 1, 'x'",
    "SELECT a, b FROM ONE UNION ALL SELECT a, b FROM s.m",
    "SELECT g.a, g.a::text AS b FROM generate_series(1, 2) g (a)",
    "SELECT a AS b, b AS a FROM ONE UNION ALL SELECT a AS b, b AS a FROM TWO",
    "SELECT a, b AS \"current_user\" FROM ONE UNION ALL SELECT a, b FROM TWO",
    "SELECT a, b FROM ONE UNION ALL SELECT a, e AS b FROM TWO",
    "SELECT a, b, e FROM ONE UNION ALL SELECT a, e, b FROM TWO",
    "SELECT FROM ONE UNION ALL SELECT FROM TWO",
];

struct Host {
    database: String,
    warehouse: std::sync::Arc<provision::host::warehouse::Warehouse>,
}

impl Host {
    fn new(tables: &str) -> Self {
        let database = shared().database();
        shared().psql(&database, &format!("CREATE SCHEMA s; {tables}"));
        let warehouse = connect(&shared().socket_url(&database));
        Self { database, warehouse }
    }

    fn psql(&self, sql: &str) -> String {
        shared().psql(&self.database, sql)
    }

    /// Returns whether the server accepts the view.
    fn has_view(&self, definition: &str) -> bool {
        let body = format!("DROP VIEW IF EXISTS s.h; CREATE VIEW s.h AS {definition}");
        let attempt = format!(
            "DO $do$ BEGIN EXECUTE $view${body}$view$; EXCEPTION WHEN OTHERS THEN DROP VIEW IF EXISTS s.h; END $do$; \
             SELECT to_regclass('s.h') IS NOT NULL"
        );
        self.psql(&attempt) == "t"
    }

    async fn assert_left_alone(&self, step: &PeriodTables, definition: &str) {
        let planned = plan(step, &self.warehouse, DAY).await.unwrap();
        assert_eq!(summaries(&planned), Vec::<String>::new(), "{definition}");
        let [obstacle] = planned.obstacles.as_slice() else { panic!("{definition}: {planned:?}") };
        assert!(obstacle.message.starts_with("view s.h exists, but "), "{definition}: {obstacle:?}");
        let hint = obstacle.hint.as_deref().unwrap();
        assert!(hint.contains("ALTER VIEW \"s\".\"h\" RENAME TO \"h_other\";") && !hint.contains("DROP"), "{hint}");
    }
}

fn step() -> PeriodTables {
    periods("on_drift: report\ntables: [{ name: 's.h_{period}', like: s.m, view: s.h }]")
}

fn host_with_tables() -> Host {
    let columns = "a int, b text, d timestamptz, e text, c s.pair";
    Host::new(&format!(
        "CREATE TYPE s.pair AS (x int, y text); CREATE TABLE s.m ({columns}); CREATE TABLE s.h_2025_h2 ({columns}); \
         CREATE TABLE s.h_2026_h1 ({columns})"
    ))
}

#[tokio::test]
async fn a_view_with_an_expression_is_left_alone() {
    let host = host_with_tables();
    let step = step();
    for expression in EXPRESSIONS {
        let alone = format!("SELECT h.a, {expression} AS x FROM s.h_2025_h2 h");
        assert!(host.has_view(&alone), "{alone}");
        host.assert_left_alone(&step, &alone).await;
        for definition in [
            format!("SELECT h.a, {expression} FROM s.h_2025_h2 h"),
            format!(
                "SELECT h.a, {expression} AS x FROM s.h_2025_h2 h UNION ALL SELECT h.a, {expression} FROM s.h_2026_h1 h"
            ),
            format!(
                "SELECT h.a, {expression} AS b FROM s.h_2025_h2 h UNION ALL SELECT h.a, {expression} AS b FROM s.h_2026_h1 h"
            ),
            // In the second SELECT only, where its type fits.
            format!("SELECT h.a, h.b FROM s.h_2025_h2 h UNION ALL SELECT h.a, {expression} FROM s.h_2026_h1 h"),
        ] {
            if host.has_view(&definition) {
                host.assert_left_alone(&step, &definition).await;
            }
        }
    }
}

#[tokio::test]
async fn a_view_with_any_other_clause_is_left_alone() {
    let host = host_with_tables();
    let step = step();
    for definition in DEFINITIONS {
        let definition = definition.replace("ONE", "s.h_2025_h2").replace("TWO", "s.h_2026_h1");
        host.psql(&format!("DROP VIEW IF EXISTS s.h; CREATE VIEW s.h AS {definition}"));
        host.assert_left_alone(&step, &definition).await;
    }
}

/// A value without parentheses, for example CURRENT_USER, is not a column, even if the result has its name.
#[tokio::test]
async fn no_keyword_is_taken_for_a_column() {
    let host = host_with_tables();
    let step = step();
    let keywords = host.psql("SELECT word FROM pg_get_keywords() ORDER BY word");
    let mut values = Vec::new();
    for keyword in keywords.lines() {
        let definition = format!(
            "SELECT a, {keyword} AS \"{keyword}\" FROM s.h_2025_h2 UNION ALL SELECT a, {keyword} FROM s.h_2026_h1"
        );
        if host.has_view(&definition) {
            host.assert_left_alone(&step, &definition).await;
            values.push(keyword);
        }
    }
    assert!(values.len() > 9 && values.contains(&"current_user") && values.contains(&"localtime"), "{values:?}");
}

/// Tables and columns may have the names of keywords. The server quotes them.
#[tokio::test]
async fn the_steps_own_view_is_recognised_with_any_names() {
    let host = Host::new("");
    let keywords = host.psql("SELECT string_agg(quote_ident(word) || ' int', ', ') FROM pg_get_keywords()");
    host.psql(&format!(
        "CREATE TABLE s.m ({keywords}, \"A b\" int, \"a.b\" int, \"a\"\"b\" int, \"f(x)\" int, \"Now()\" int, \"ä\" int)"
    ));
    for name in ["s.h_{period}", "public.\"select {period}\"", "public.\"from.{period}\"", "s.\"({period})\""] {
        let step = periods(&format!("tables: [{{ name: '{name}', like: s.m, view: 's.\"union {}\"' }}]", name.len()));
        assert_eq!(apply(&step, &host.warehouse, DAY).await.len(), 3, "{name}");
        let planned = plan(&step, &host.warehouse, DAY).await.unwrap();
        assert!(planned.changes.is_empty() && planned.obstacles.is_empty(), "{name}: {planned:?}");
    }
}

/// No hint says that apply creates a person's view again.
#[tokio::test]
async fn a_persons_view_in_the_way_of_a_repair_is_to_be_kept() {
    let host = Host::new(
        "CREATE TABLE s.m (a varchar(9), b text); CREATE TABLE s.h_2025_h2 (a varchar(5), b text); \
         CREATE VIEW s.h AS SELECT a, now() FROM s.h_2025_h2",
    );
    let step =
        periods("on_drift: add_columns\nthrough: 2025_h2\ntables: [{ name: 's.h_{period}', like: s.m, view: s.h }]");
    let planned = plan(&step, &host.warehouse, DAY).await.unwrap();
    let hint = planned.obstacles[0].hint.as_deref().unwrap();
    assert!(hint.ends_with("`, then run apply, and create VIEW s.h again (keep its definition)"), "{planned:?}");
}
