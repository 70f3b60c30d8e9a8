//! The view over a series on a real PostgreSQL, and what keeps a column from being widened.

use provision::failure::Failure;
use provision::host::warehouse::Warehouse;
use provision::resource::period_tables::PeriodTables;
use provision::resource::relation::{TableChange, UnionType, union_type};
use provision::resource::{Change as _, Diff};

use crate::cluster::shared;
use crate::kit::{DAY, apply, connect, periods, plan, statement, summaries};

const VIEW: &str = "tables: [{ name: 's.h_{period}', like: s.m, view: s.h }]";

struct Database {
    name: String,
    warehouse: std::sync::Arc<Warehouse>,
}

impl Database {
    fn with(sql: &str) -> Self {
        let name = shared().database();
        shared().psql(&name, &format!("CREATE SCHEMA s; {sql}"));
        let warehouse = connect(&shared().socket_url(&name));
        Self { name, warehouse }
    }

    fn psql(&self, sql: &str) -> String {
        shared().psql(&self.name, sql)
    }

    async fn plan(&self, step: &PeriodTables) -> Diff<TableChange> {
        plan(step, &self.warehouse, DAY).await.unwrap()
    }

    async fn apply(&self, step: &PeriodTables) -> Vec<String> {
        apply(step, &self.warehouse, DAY).await
    }

    /// Runs the statements of the only obstacle's hint, and applies.
    async fn remedied(&self, step: &PeriodTables) -> Vec<String> {
        let planned = self.plan(step).await;
        let [obstacle] = planned.obstacles.as_slice() else { panic!("{planned:?}") };
        self.psql(statement(obstacle.hint.as_deref().unwrap()));
        let done = self.apply(step).await;
        assert_eq!(self.plan(step).await.obstacles, []);
        done
    }
}

fn obstacles(diff: &Diff<TableChange>) -> String {
    diff.obstacles.iter().map(|one| format!("{}\n", one.message)).collect()
}

#[tokio::test]
async fn a_view_reads_each_table_by_column_name() {
    let database = Database::with(
        "CREATE TABLE s.m (a int, \"B c\" text, d date);
         CREATE TABLE s.h_2025_h2 (d date, a int, \"B c\" text); INSERT INTO s.h_2025_h2 VALUES ('2025-12-31', 1, 'old')",
    );
    let step = periods(&format!("on_drift: report\n{VIEW}"));
    let done = database.apply(&step).await;
    assert_eq!(done, ["create table s.h_2026_h1 like s.m", "create view s.h over 2 tables"]);
    database.psql("INSERT INTO s.h_2026_h1 VALUES (2, 'new', '2026-01-01')");
    assert_eq!(database.psql("SELECT * FROM s.h ORDER BY a"), "1|old|2025-12-31\n2|new|2026-01-01");
    assert_eq!(database.apply(&step).await, Vec::<String>::new());
}

/// The server leaves out a schema that is on the search path.
#[tokio::test]
async fn views_in_the_schema_public_are_recognised() {
    let database = Database::with("CREATE TABLE public.m (a int, \"select\" int)");
    let step = periods("tables: [{ name: 'public.\"H {period}\"', like: public.m, view: 'public.\"All\"' }]");
    let done = database.apply(&step).await;
    assert_eq!(done.last().unwrap(), "create view public.\"All\" over 2 tables");
    assert_eq!(database.plan(&step).await.changes, []);
}

#[tokio::test]
async fn a_column_that_not_every_table_has_is_left_out_and_said() {
    let database = Database::with("CREATE TABLE s.m (a int, b int); CREATE TABLE s.h_2025_h2 (a int)");
    let step = periods(&format!("on_drift: report\n{VIEW}"));
    database.apply(&step).await;
    assert_eq!(database.psql("SELECT array_agg(attname) FROM pg_attribute WHERE attrelid = 's.h'::regclass"), "{a}");
    let notes = database.plan(&step).await.notes;
    let expected = "view s.h leaves out column b, because not every table has it: s.h_2025_h2";
    assert!(notes.contains(&expected.to_owned()), "{notes:?}");
    // A column at the end is added to the view.
    let repairing = periods(&format!("on_drift: add_columns\n{VIEW}"));
    let done = database.apply(&repairing).await;
    assert_eq!(done, ["add column b integer to s.h_2025_h2", "replace view s.h over 2 tables"]);
}

#[tokio::test]
async fn other_relations_with_the_name_are_left_alone() {
    for (existing, expected_obstacle) in [
        (
            "CREATE VIEW s.h AS SELECT 1 AS a",
            "view s.h exists, but is not a UNION ALL of the columns of tables s.h_{period}",
        ),
        ("CREATE VIEW s.h AS SELECT a FROM s.m", "is not a UNION ALL of the columns of tables s.h_{period}"),
        ("CREATE VIEW s.h AS SELECT a FROM s.m WHERE a > 1", "is not a UNION ALL"),
        ("CREATE TABLE s.h (a int)", "s.h exists, but is a table and not the view of the series"),
        ("CREATE MATERIALIZED VIEW s.h AS SELECT a FROM s.m", "is a materialized view and not the view"),
    ] {
        let database = Database::with(&format!("CREATE TABLE s.m (a int); {existing}"));
        let definition = "SELECT oid, relkind, xmin FROM pg_class WHERE oid = 's.h'::regclass";
        let before = database.psql(definition);
        let step = periods(VIEW);
        let planned = database.plan(&step).await;
        assert!(obstacles(&planned).contains(expected_obstacle), "{existing}: {planned:?}");
        assert_eq!(summaries(&planned).len(), 2, "the tables are made all the same");
        database.apply(&step).await;
        assert_eq!(database.psql(definition), before, "{existing}");
        if !existing.contains("MATERIALIZED") {
            let hint = planned.obstacles[0].hint.clone().unwrap();
            database.psql(statement(&hint));
            assert_eq!(database.apply(&step).await, ["create view s.h over 2 tables"]);
        }
    }
}

/// What CREATE OR REPLACE VIEW refuses is said by plan, and the remedy works.
#[tokio::test]
async fn a_replacement_that_will_fail_is_reported_by_plan() {
    for (change, expected_obstacle) in [
        (
            "ALTER TABLE s.m RENAME COLUMN b TO c; ALTER TABLE s.h_2025_h2 RENAME COLUMN b TO c; \
             ALTER TABLE s.h_2026_h1 RENAME COLUMN b TO c",
            "view s.h exists, but gives other names to columns of tables s.h_{period}",
        ),
        (
            "ALTER TABLE s.m ALTER COLUMN b TYPE varchar(9)",
            "its column b is character varying(5), and would be character varying",
        ),
        ("CREATE TABLE s.n (a int, x int, b varchar(5)); DROP TABLE s.m; ALTER TABLE s.n RENAME TO m", ""),
        ("ALTER TABLE s.m ALTER COLUMN a TYPE bigint", "its column a is integer, and would be bigint"),
        (
            "ALTER TABLE s.m ALTER COLUMN a TYPE bigint; CREATE VIEW s.\"by a\" AS SELECT count(*) AS n FROM s.h; \
             CREATE VIEW s.all AS SELECT a, n FROM s.h, s.\"by a\"; CREATE MATERIALIZED VIEW s.kept AS SELECT * FROM s.all",
            "its column a is integer, and would be bigint",
        ),
        (
            "ALTER TABLE s.m ALTER COLUMN a TYPE text",
            "view s.h cannot be replaced: column a is integer in s.h_2025_h2, but text in s.h_2026_h2, and a UNION ALL needs a \
             common type",
        ),
        (
            "ALTER TABLE s.m ALTER COLUMN a TYPE text; CREATE VIEW s.v AS SELECT a FROM s.h_2025_h2; \
             CREATE VIEW s.w AS SELECT v.a FROM s.v, s.h",
            "view s.h cannot be replaced: column a is integer in s.h_2025_h2",
        ),
    ] {
        let database = Database::with("CREATE TABLE s.m (a int, b varchar(5))");
        let step = periods(&format!("on_drift: report\n{VIEW}"));
        database.apply(&step).await;
        database.psql(change);
        let later = periods(&format!("on_drift: report\nahead: 1\n{VIEW}"));
        let planned = database.plan(&later).await;
        assert!(
            obstacles(&planned).contains(expected_obstacle)
                && planned.obstacles.len() == usize::from(!expected_obstacle.is_empty()),
            "{planned:?}"
        );
        if expected_obstacle.is_empty() {
            assert_eq!(database.apply(&later).await.len(), 2, "the view keeps the columns that all tables have");
        } else {
            let done = database.remedied(&later).await;
            assert_eq!(done, ["create table s.h_2026_h2 like s.m", "create view s.h over 3 tables"]);
        }
    }
}

/// PostgreSQL alters no column that a view uses: plan says so, and makes everything else.
#[tokio::test]
async fn a_column_in_use_is_not_planned_to_be_widened() {
    let set_up =
        "CREATE TABLE s.m (a varchar(9), b varchar(9), c int); CREATE TABLE s.h_2025_h2 (a varchar(5), b varchar(5));";
    let step = periods("on_drift: add_columns\nthrough: 2025_h2\ntables: [{ name: 's.h_{period}', like: s.m }]");
    for (user, expected_obstacle) in [
        ("CREATE VIEW s.\"V 1\" AS SELECT a FROM s.h_2025_h2", "VIEW s.\"V 1\" uses the column"),
        ("CREATE MATERIALIZED VIEW s.v AS SELECT upper(a) FROM s.h_2025_h2", "MATERIALIZED VIEW s.v uses the column"),
        ("CREATE POLICY p ON s.h_2025_h2 USING (a = 'x')", "POLICY p ON s.h_2025_h2 uses the column"),
        (
            "CREATE RULE r AS ON UPDATE TO s.h_2025_h2 WHERE old.a = 'x' DO INSTEAD NOTHING",
            "RULE r ON s.h_2025_h2 uses",
        ),
        (
            "CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; \
             CREATE TRIGGER t BEFORE UPDATE OF a ON s.h_2025_h2 FOR EACH ROW EXECUTE FUNCTION s.f()",
            "TRIGGER t ON s.h_2025_h2 uses the column",
        ),
        (
            "CREATE VIEW s.v AS SELECT a FROM s.h_2025_h2; CREATE VIEW s.a AS SELECT * FROM s.v; \
             CREATE MATERIALIZED VIEW s.z AS SELECT count(*) FROM s.a",
            "MATERIALIZED VIEW s.z and VIEW s.a and VIEW s.v use the column",
        ),
    ] {
        let database = Database::with(set_up);
        database.psql(user);
        let planned = database.plan(&step).await;
        let expected = format!(
            "cannot widen column a of s.h_2025_h2 from character varying(5) to character varying(9): {expected_obstacle}"
        );
        assert!(obstacles(&planned).contains(&expected), "{user}: {planned:?}");
        let done = database.apply(&step).await;
        assert_eq!(done.len(), 2, "{done:?}");
        let done = database.remedied(&step).await;
        assert_eq!(done, ["widen column a of s.h_2025_h2 from character varying(5) to character varying(9)"], "{user}");
    }
}

/// The step's own view is in the way as well, and is created again.
#[tokio::test]
async fn a_column_of_the_steps_own_view_is_widened_after_the_view_is_dropped() {
    let database = Database::with("CREATE TABLE s.m (a varchar(5))");
    let step = periods(&format!("on_drift: add_columns\nthrough: 2025_h2\n{VIEW}"));
    database.apply(&step).await;
    database.psql("ALTER TABLE s.m ALTER COLUMN a TYPE varchar(9)");
    let planned = database.plan(&step).await;
    assert!(planned.obstacles[0].hint.as_deref().unwrap().ends_with("`, then run apply, which creates the view again"));
    let done = database.remedied(&step).await;
    assert_eq!(
        done,
        [
            "widen column a of s.h_2025_h2 from character varying(5) to character varying(9)",
            "create view s.h over 1 table"
        ]
    );
}

/// PostgreSQL alters no column that a view reads, so the hint drops the step's view and what reads that.
#[tokio::test]
async fn a_drifted_column_of_the_view_is_repaired_by_the_hint() {
    let database = Database::with("CREATE TABLE s.m (a int)");
    let step = periods(VIEW);
    database.apply(&step).await;
    database.psql("ALTER TABLE s.m ALTER COLUMN a TYPE bigint; CREATE VIEW s.reader AS SELECT a FROM s.h");
    let drift = |planned: &Diff<TableChange>| planned.drift.first().map(|one| one.hint.clone().unwrap());
    let hint = drift(&database.plan(&step).await).unwrap();
    let then = "then run apply, which creates the view again, and create VIEW s.reader again (keep its definition)";
    assert!(hint.ends_with(then), "{hint}");
    database.psql(statement(&hint));
    while let Some(hint) = drift(&database.plan(&step).await) {
        database.psql(statement(&hint));
    }
    assert_eq!(database.apply(&step).await, ["create view s.h over 2 tables"]);
}

/// A view that does not exist yet can be impossible, too.
#[tokio::test]
async fn a_union_of_types_without_a_common_one_is_reported_by_plan() {
    for (types, remedied) in [
        (["integer", "text"], &["create view s.h over 2 tables"][..]),
        (["text", "integer"], &["create table s.h_2025_h2 like s.m", "create view s.h over 2 tables"]),
        (["date", "timestamp"], &[]),
    ] {
        let [old, new] = types;
        let database = Database::with(&format!("CREATE TABLE s.m (a {new}); CREATE TABLE s.h_2025_h2 (a {old})"));
        let step = periods(&format!("on_drift: report\n{VIEW}"));
        if remedied.is_empty() {
            assert_eq!(database.apply(&step).await.len(), 2);
            continue;
        }
        let planned = database.plan(&step).await;
        let expected = format!("column a is {old} in s.h_2025_h2, but {new} in s.h_2026_h1");
        assert!(obstacles(&planned).contains(&expected), "{planned:?}");
        assert_eq!(database.apply(&step).await, ["create table s.h_2026_h1 like s.m"]);
        assert_eq!(database.remedied(&step).await, remedied);
    }
}

/// The rules for the types of a UNION are those of the server.
#[tokio::test]
async fn the_server_makes_the_predicted_types_of_a_union() {
    const TYPES: [&str; 22] = [
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "numeric(9,2)",
        "real",
        "double precision",
        "character(5)",
        "character(9)",
        "character varying",
        "character varying(5)",
        "text",
        "date",
        "timestamp without time zone",
        "timestamp(3) without time zone",
        "timestamp with time zone",
        "time without time zone",
        "time with time zone",
        "interval",
        "boolean",
        "uuid",
        "jsonb",
    ];
    let database = Database::with(
        "CREATE FUNCTION s.union_of(VARIADIC types text[]) RETURNS text LANGUAGE plpgsql AS $$ DECLARE made text; BEGIN \
         EXECUTE 'CREATE TEMP VIEW u AS ' || (SELECT string_agg('SELECT NULL::' || one || ' AS a', ' UNION ALL ' ORDER BY at) \
         FROM unnest(types) WITH ORDINALITY AS listed(one, at)); \
         SELECT format_type(atttypid, atttypmod) INTO made FROM pg_attribute WHERE attrelid = 'pg_temp.u'::regclass; \
         DROP VIEW u; RETURN made; EXCEPTION WHEN datatype_mismatch OR cannot_coerce THEN RETURN 'none'; END $$",
    );
    let mut asked = Vec::new();
    for left in TYPES {
        for right in TYPES {
            asked.extend(["integer", "text", "timestamp with time zone"].map(|third| [left, right, third]));
        }
    }
    let calls: Vec<String> = asked.iter().map(|types| format!("(s.union_of('{}'))", types.join("', '"))).collect();
    let found = database.psql(&format!("VALUES {}", calls.join(", ")));
    assert_eq!(found.lines().count(), asked.len());
    for (types, found) in asked.iter().zip(found.lines()) {
        let expected = match union_type(types) {
            UnionType::Of(name) => name,
            UnionType::None(..) => "none".to_owned(),
            UnionType::Unknown => panic!("{types:?} have no rule"),
        };
        assert_eq!(found, expected, "{types:?}");
    }
}

/// A member of the owner who does not inherit its rights cannot replace the view, and another GRANT of the role changes nothing.
#[tokio::test]
async fn a_member_without_the_rights_of_the_owner_is_given_them_by_the_hint() {
    let database = Database::with("CREATE TABLE s.m (a int)");
    let name = &database.name;
    let (maker, owner) = (format!("\"Maker_{name}\""), format!("owner_{name}"));
    database.psql(&format!(
        "CREATE USER {maker} NOINHERIT; CREATE ROLE {owner}; GRANT USAGE, CREATE ON SCHEMA s TO {maker}, {owner}; \
         GRANT SELECT ON s.m TO {maker}"
    ));
    let url = shared().socket_url(name).replace("postgres@", &format!("Maker_{name}@"));
    let connection = connect(&url);
    apply(&periods(VIEW), &connection, DAY).await;
    database.psql(&format!("ALTER VIEW s.h OWNER TO {owner}"));
    let later = periods(&format!("ahead: 1\n{VIEW}"));
    database.psql(&format!("GRANT {owner} TO {maker}"));
    let planned = plan(&later, &connection, DAY).await.unwrap();
    let [obstacle] = planned.obstacles.as_slice() else { panic!("{planned:?}") };
    let expected =
        format!("s.h belongs to {owner}, and {maker} is a member of {owner} that does not inherit its rights");
    assert!(obstacle.message.ends_with(&expected), "{obstacle:?}");
    let remedy = |obstacle: &Failure| obstacle.hint.as_deref().unwrap().rsplit('`').nth(1).unwrap().to_owned();
    database.psql(&remedy(obstacle));
    let done = apply(&later, &connection, DAY).await;
    assert!(done.contains(&"replace view s.h over 3 tables".to_owned()), "{done:?}");
    // Neither a member, nor one who would inherit as a member.
    database
        .psql(&format!("ALTER VIEW s.h OWNER TO {owner}; REVOKE {owner} FROM {maker}; ALTER ROLE {maker} NOINHERIT"));
    let last = periods(&format!("ahead: 2\n{VIEW}"));
    let planned = plan(&last, &connection, DAY).await.unwrap();
    database.psql(&remedy(&planned.obstacles[0]));
    let done = apply(&last, &connection, DAY).await;
    assert!(done.contains(&"replace view s.h over 4 tables".to_owned()), "{done:?}");
}

#[tokio::test]
async fn the_view_has_the_owner_and_the_grants_of_the_tables() {
    let database = Database::with("CREATE TABLE s.m (a int)");
    let (name, reader, owner) =
        (&database.name, format!("reader_{}", database.name), format!("owner_{}", database.name));
    database.psql(&format!(
        "CREATE USER maker_{name}; CREATE ROLE {reader}; CREATE ROLE {owner}; CREATE ROLE other_{name}; \
         GRANT {owner} TO maker_{name}; GRANT CREATE, USAGE ON SCHEMA s TO {owner}, maker_{name}; \
         GRANT USAGE ON SCHEMA s TO {reader}; GRANT SELECT ON s.m TO maker_{name}"
    ));
    let url = shared().socket_url(name).replace("postgres@", &format!("maker_{name}@"));
    let maker = connect(&url);
    let lines = |ahead: u8| {
        format!("ahead: {ahead}\n{VIEW}\nowner: {owner}\ngrants: [{{ to: {reader}, privileges: [select] }}]")
    };
    let done = apply(&periods(&lines(0)), &maker, DAY).await;
    assert!(done.contains(&format!("set owner of s.h to {owner}")), "{done:?}");
    database.psql("INSERT INTO s.h_2025_h2 VALUES (1)");
    assert_eq!(database.psql(&format!("SET ROLE {reader}; SELECT a FROM s.h")), "1");
    // As a member of the owner, the user can replace it.
    let done = apply(&periods(&lines(1)), &maker, DAY).await;
    assert!(done.contains(&"replace view s.h over 3 tables".to_owned()), "{done:?}");
    // Nobody else can.
    database.psql(&format!("ALTER VIEW s.h OWNER TO other_{name}"));
    let planned = plan(&periods(&lines(2)), &maker, DAY).await.unwrap();
    let expected = format!("cannot replace view s.h over 4 tables: s.h belongs to other_{name}");
    assert!(obstacles(&planned).contains(&expected), "{planned:?}");
}

#[tokio::test]
async fn two_applies_at_once_make_the_view_once() {
    let database = Database::with("CREATE TABLE s.m (a int)");
    let url = shared().socket_url(&database.name);
    let step = periods(VIEW);
    let (one, other) = (connect(&url), connect(&url));
    let (_first, _second) = tokio::join!(apply(&step, &one, DAY), apply(&step, &other, DAY));
    assert_eq!(database.plan(&step).await.changes, []);
    assert_eq!(database.psql("SELECT count(*) FROM s.h"), "0");
}

/// A table that was unloaded can be dropped after the series begins later.
#[tokio::test]
async fn a_period_before_the_first_leaves_the_view() {
    let database = Database::with("CREATE TABLE s.m (a int)");
    database.apply(&periods(VIEW)).await;
    let later: PeriodTables =
        serde_yaml::from_str(&format!("connection: warehouse\nevery: half_year\nfrom: 2026_h1\n{VIEW}")).unwrap();
    let planned = database.plan(&later).await;
    assert_eq!(summaries(&planned), ["replace view s.h over 1 table"]);
    let described = planned.changes[0].describe();
    assert_eq!(described.before["tables"], serde_json::json!(["s.h_2025_h2", "s.h_2026_h1"]));
    database.apply(&later).await;
    database.psql("DROP TABLE s.h_2025_h2");
    assert_eq!(database.plan(&later).await.changes, []);
}

/// CREATE OR REPLACE VIEW resets the options that it does not name.
#[tokio::test]
async fn a_replaced_view_keeps_its_options() {
    let database = Database::with("CREATE TABLE s.m (a int)");
    database.apply(&periods(VIEW)).await;
    database.psql("ALTER VIEW s.h SET (security_barrier, security_invoker = on)");
    let options = "SELECT reloptions FROM pg_class WHERE oid = 's.h'::regclass";
    let before = database.psql(options);
    assert_eq!(database.plan(&periods(VIEW)).await.changes, []);
    let done = database.apply(&periods(&format!("ahead: 1\n{VIEW}"))).await;
    assert_eq!(done, ["create table s.h_2026_h2 like s.m", "replace view s.h over 3 tables"]);
    assert_eq!(database.psql(options), before);
}

/// The server has this option for views over one table only.
#[tokio::test]
async fn a_check_option_that_a_union_cannot_have_is_reported() {
    let database = Database::with("CREATE TABLE s.m (a int)");
    database.apply(&periods(&format!("through: 2025_h2\n{VIEW}"))).await;
    database.psql("ALTER VIEW s.h SET (check_option = local)");
    let step = periods(VIEW);
    let planned = database.plan(&step).await;
    assert_eq!(
        obstacles(&planned),
        "view s.h cannot be replaced: a view over several tables cannot have its option check_option\n"
    );
    database.psql("DROP TABLE IF EXISTS s.h_2026_h1");
    let done = database.remedied(&step).await;
    assert_eq!(done, ["create table s.h_2026_h1 like s.m", "replace view s.h over 2 tables"]);
}
