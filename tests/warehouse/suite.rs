//! Both kinds on each supported server: PostgreSQL, the dialect double, and a live Redshift if `REDSHIFT_TEST_URL` is
//! set.

use provision::engine::adopt::{Request, adopt};

use crate::kit::{DAY, apply, connect, plan, summaries};
use crate::target::Target;

pub const EXCEPTIONS: &str = "CREATE TABLE settlement_ods.order_tracking_exceptions (
    order_id      VARCHAR(64),
    exception_type VARCHAR(64)   NOT NULL,
    detected_at   TIMESTAMP     NOT NULL,
    resolved_at   TIMESTAMP,
    notes         VARCHAR(1024)
)
DISTSTYLE ALL
SORTKEY (exception_type, detected_at);
";
const MARTS: &str = "CREATE TABLE settlement_ods.mart_uni_tracking_info (id BIGINT NOT NULL, state VARCHAR(32), at TIMESTAMP) DISTKEY (id) SORTKEY (at);
    CREATE TABLE settlement_ods.mart_ecs_order_info (id BIGINT NOT NULL, total NUMERIC(12,2) DEFAULT 0);
    CREATE TABLE settlement_ods.mart_uni_tracking_spath (id BIGINT, path VARCHAR(256))";
const SERIES: &str = "through: current
ahead: 1
tables:
  - { name: 'settlement_ods.hist_uni_tracking_info_{period}', like: settlement_ods.mart_uni_tracking_info }
  - { name: 'settlement_ods.hist_ecs_order_info_{period}', like: settlement_ods.mart_ecs_order_info }
  - { name: 'settlement_ods.hist_uni_tracking_spath_{period}', like: settlement_ods.mart_uni_tracking_spath }
";

pub async fn the_exceptions_table_is_made_once(target: &Target) {
    let warehouse = connect(&target.url);
    let step = target.table(EXCEPTIONS);
    let done = apply(&step, &warehouse, DAY).await;
    assert_eq!(done, [target.text("create table settlement_ods.order_tracking_exceptions")]);
    assert_eq!(apply(&step, &warehouse, DAY).await, Vec::<String>::new());
    let again = connect(&target.url);
    assert_eq!(summaries(&plan(&step, &again, DAY).await.unwrap()), Vec::<String>::new());
}

pub async fn history_tables_are_made_and_gaps_filled(target: &Target) {
    target.sql(MARTS).await;
    let warehouse = connect(&target.url);
    let step = target.periods(SERIES);
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 9);
    target.sql("DROP TABLE settlement_ods.hist_ecs_order_info_2026_h1").await;
    let done = apply(&step, &warehouse, DAY).await;
    let expected = "create table settlement_ods.hist_ecs_order_info_2026_h1 like settlement_ods.mart_ecs_order_info";
    assert_eq!(done, [target.text(expected)]);
    let later = plan(&step, &warehouse, "2026-07-01").await.unwrap();
    assert_eq!(later.changes.len(), 3, "{:?}", summaries(&later));
    assert_eq!(apply(&step, &warehouse, DAY).await, Vec::<String>::new());
}

pub async fn another_shape_is_refused_column_by_column(target: &Target) {
    target
        .sql(
            "CREATE TABLE settlement_ods.order_tracking_exceptions (exception_type VARCHAR(32), order_id VARCHAR(64), \
             detected_at TIMESTAMP NOT NULL, resolved_at TIMESTAMP, extra INT)",
        )
        .await;
    let warehouse = connect(&target.url);
    let refusal = plan(&target.table(EXCEPTIONS), &warehouse, DAY).await.unwrap_err();
    for part in [
        "column exception_type is character varying(32), expected character varying(64)",
        "column exception_type allows NULL, expected NOT NULL",
        "column notes VARCHAR(1024) is missing",
        "column order_id is at position 2, expected position 1",
        "column extra integer is unexpected",
    ] {
        assert!(refusal.message.contains(part), "{}", refusal.message);
    }
}

pub async fn what_has_taken_the_name_is_refused_with_its_kind(target: &Target) {
    let warehouse = connect(&target.url);
    target.sql("CREATE TABLE settlement_ods.other (id INT)").await;
    let everywhere =
        [("VIEW", "AS SELECT 1 AS one", "a view"), ("MATERIALIZED VIEW", "AS SELECT 1 AS one", "a materialized view")];
    let on_postgresql = [
        ("SEQUENCE", "", "a sequence"),
        ("TYPE", "AS (id INT)", "a composite type"),
        ("TYPE", "AS ENUM ('x')", "a type"),
        ("DOMAIN", "AS INT", "a type"),
        ("INDEX", "ON settlement_ods.other (id)", "an index"),
        ("FOREIGN TABLE", "(id INT) SERVER elsewhere", "an external (foreign) table"),
    ];
    let ours = target.is_ours();
    if ours {
        target.sql("CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing").await;
    }
    for (what, body, kind) in everywhere.into_iter().chain(on_postgresql.into_iter().filter(|_| ours)) {
        if target.redshift && kind == "a type" {
            continue; // Redshift has no types of one's own.
        }
        // An index is created without a schema, because it has that of its table.
        let name = "settlement_ods.order_tracking_exceptions";
        let made = if what == "INDEX" { "order_tracking_exceptions" } else { name };
        target.sql(&format!("CREATE {what} {made} {body}")).await;
        let refusal = plan(&target.table(EXCEPTIONS), &warehouse, DAY).await.unwrap_err();
        assert_eq!(refusal.message, target.text(&format!("{name} exists, but is {kind}")));
        target.sql(&format!("DROP {what} {name}")).await;
    }
}

pub async fn a_missing_parent_or_schema_blocks(target: &Target) {
    let warehouse = connect(&target.url);
    let found = plan(&target.periods(SERIES), &warehouse, DAY).await.unwrap();
    assert_eq!((found.changes.len(), found.obstacles.len()), (0, 3), "{found:?}");
    let reason = target.text("parent settlement_ods.mart_ecs_order_info does not exist");
    assert!(found.obstacles[1].message.contains(&reason), "{found:?}");
    let elsewhere = target.table("CREATE TABLE nowhere.t (id INT)");
    let refusal = plan(&elsewhere, &warehouse, DAY).await.unwrap_err();
    assert_eq!(refusal.message, "schema nowhere does not exist");
}

pub async fn grants_and_owner_are_given_and_kept(target: &Target) {
    target.sql(MARTS).await;
    let (dbt, etl) = (&target.user, &target.group);
    let warehouse = connect(&target.url);
    let lines = format!(
        "{SERIES}grants: [{{ to: {dbt}, privileges: [insert, select] }}, {{ to: {{ group: {etl} }}, privileges: [select] }}]\n"
    );
    let step = target.periods(&lines);
    let done = apply(&step, &warehouse, DAY).await;
    assert_eq!(done.len(), 9 * 3, "{done:?}");
    let grant = format!("grant select, insert on settlement_ods.hist_uni_tracking_info_2025_h2 to {dbt}");
    assert_eq!(done[9], target.text(&grant), "all tables come before all grants");
    target.sql(&format!("REVOKE INSERT ON settlement_ods.hist_uni_tracking_info_2026_h1 FROM {dbt}")).await;
    target.sql(&format!("GRANT DELETE ON settlement_ods.hist_uni_tracking_info_2026_h1 TO {dbt}")).await;
    let done = apply(&step, &warehouse, DAY).await;
    assert_eq!(done, [target.text(&format!("grant insert on settlement_ods.hist_uni_tracking_info_2026_h1 to {dbt}"))]);
    let owned = target.periods(&format!("{lines}owner: {dbt}\n"));
    let done = apply(&owned, &warehouse, DAY).await;
    assert_eq!(done.len(), 9, "{done:?}");
    let unknown = target.periods(&format!("{SERIES}owner: nobody_at_all\n"));
    let found = plan(&unknown, &warehouse, DAY).await.unwrap();
    assert_eq!(found.obstacles[0].message, "user nobody_at_all does not exist");
}

pub async fn grants_to_roles_are_given_and_kept(target: &Target) {
    let warehouse = connect(&target.url);
    let role = &target.role;
    let step = target.table_with(EXCEPTIONS, &format!("grants: [{{ to: {{ role: {role} }}, privileges: [insert] }}]"));
    let grant = target.text(&format!("grant insert on settlement_ods.order_tracking_exceptions to role {role}"));
    assert_eq!(apply(&step, &warehouse, DAY).await.last(), Some(&grant));
    assert_eq!(apply(&step, &warehouse, DAY).await, Vec::<String>::new());
    let sort = if target.redshift { "ROLE " } else { "" };
    target.sql(&format!("REVOKE INSERT ON settlement_ods.order_tracking_exceptions FROM {sort}{role}")).await;
    assert_eq!(apply(&step, &warehouse, DAY).await, [grant]);
    let unknown = target.table_with(EXCEPTIONS, "grants: [{ to: { role: role_nobody }, privileges: [insert] }]");
    let refusal = plan(&unknown, &warehouse, DAY).await.unwrap_err();
    assert_eq!(refusal.message, "role role_nobody does not exist");
}

pub async fn an_external_schema_is_refused(target: &Target) {
    if !target.is_ours() || !target.redshift {
        return;
    }
    target.sql("CREATE SCHEMA spectrum").await;
    let step = target.table("CREATE TABLE spectrum.t (id INT)");
    let refusal = plan(&step, &connect(&target.url), DAY).await.unwrap_err();
    assert_eq!(refusal.message, "schema spectrum is an external schema: its tables are outside the warehouse");
}

pub async fn drift_is_reported_and_what_can_be_is_mended(target: &Target) {
    target.sql(MARTS).await;
    let warehouse = connect(&target.url);
    apply(&target.periods(SERIES), &warehouse, DAY).await;
    target.sql("ALTER TABLE settlement_ods.mart_uni_tracking_info ADD COLUMN weight REAL").await;
    target.sql("ALTER TABLE settlement_ods.mart_uni_tracking_info ADD COLUMN carrier VARCHAR(40)").await;
    target.sql("ALTER TABLE settlement_ods.mart_uni_tracking_spath ALTER COLUMN path TYPE VARCHAR(512)").await;
    let reported = plan(&target.periods(SERIES), &warehouse, DAY).await.unwrap();
    assert_eq!(summaries(&reported), Vec::<String>::new());
    assert_eq!((reported.drift.len(), reported.warnings.len()), (9, 0), "{reported:?}");
    let reported = target.periods(&format!("{SERIES}on_drift: report\n"));
    let reported = plan(&reported, &warehouse, DAY).await.unwrap();
    assert_eq!((reported.drift.len(), reported.warnings.len()), (0, 9), "{reported:?}");
    // Half a year later the first of the three periods receives no more rows.
    let later = plan(&target.periods(SERIES), &warehouse, "2026-07-10").await.unwrap();
    let old = |texts: &[String]| texts.iter().filter(|text| text.contains("_2025_h2 has drifted")).count();
    assert_eq!((later.drift.len(), old(&later.warnings), later.changes.len()), (6, 3, 3), "{later:?}");
    let repairing = target.periods(&format!("{SERIES}on_drift: add_columns\n"));
    let done = apply(&repairing, &warehouse, DAY).await;
    assert_eq!(done.len(), 9, "{done:?}");
    assert_eq!(done[0], target.text("add column weight real to settlement_ods.hist_uni_tracking_info_2025_h2"));
    let after = plan(&repairing, &warehouse, DAY).await.unwrap();
    assert_eq!((after.drift.len(), after.warnings.len()), (0, 0), "{after:?}");
}

pub async fn dist_and_sort_count_on_redshift(target: &Target) {
    target.sql(&EXCEPTIONS.replace("SORTKEY (exception_type, detected_at)", "SORTKEY (detected_at)")).await;
    let warehouse = connect(&target.url);
    let found = plan(&target.table(EXCEPTIONS), &warehouse, DAY).await;
    if target.redshift {
        let reason = "the sort key is SORTKEY (detected_at), expected SORTKEY (exception_type, detected_at)";
        assert!(found.as_ref().is_err_and(|refusal| refusal.message.contains(reason)), "{found:?}");
    } else {
        assert_eq!(summaries(&found.unwrap()), Vec::<String>::new());
    }
}

pub async fn two_applies_at_once_both_end_well(target: &Target) {
    target.sql(MARTS).await;
    let lines = format!("{SERIES}grants: [{{ to: {}, privileges: [insert] }}]\n", target.user);
    let (one, other) = (connect(&target.url), connect(&target.url));
    let step = target.periods(&lines);
    let (first, second) = tokio::join!(apply(&step, &one, DAY), apply(&step, &other, DAY));
    assert!(first.len() + second.len() >= 18, "{first:?} {second:?}");
    assert_eq!(summaries(&plan(&step, &one, DAY).await.unwrap()), Vec::<String>::new());
}

pub async fn names_that_need_quotation_marks_work(target: &Target) {
    let warehouse = connect(&target.url);
    let step = target.table("CREATE TABLE settlement_ods.\"Or'der \"\"x\"\"\" (\"Sel\\ect\" INT, é INT)");
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 1);
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 0);
}

pub async fn a_plan_writes_nothing(target: &Target) {
    target.sql(MARTS).await;
    let before = target.fingerprint().await;
    let warehouse = connect(&target.url);
    assert_eq!(plan(&target.periods(SERIES), &warehouse, DAY).await.unwrap().changes.len(), 9);
    assert_eq!(plan(&target.table(EXCEPTIONS), &warehouse, DAY).await.unwrap().changes.len(), 1);
    assert_eq!(target.fingerprint().await, before);
}

/// What `adopt` prints it has planned itself, with nothing to change.
pub async fn what_is_there_is_adopted(target: &Target) {
    const QUOTED: &str = "settlement_ods.\"Or'der \"\"x\"\"\"";
    target.sql(MARTS).await;
    let warehouse = connect(&target.url);
    let today = provision::engine::run::today().to_string();
    let grants = format!(
        "grants: [{{ to: {}, privileges: [insert] }}, {{ to: {{ group: {} }}, privileges: [select] }}]\n",
        target.user, target.group
    );
    apply(&target.periods(&format!("{SERIES}{grants}")), &warehouse, &today).await;
    apply(&target.table_with(EXCEPTIONS, &grants), &warehouse, &today).await;
    apply(&target.table(&format!("CREATE TABLE {QUOTED} (\"Sel\\ect\" INT, \"order\" INT)")), &warehouse, &today).await;
    let name = |name: &str| target.text(&format!("settlement_ods.{name}"));
    let tables = ["order_tracking_exceptions", "mart_uni_tracking_info", "mart_ecs_order_info"].map(name);
    let series = ["uni_tracking_info", "ecs_order_info", "uni_tracking_spath"];
    let request = Request {
        tables: tables.iter().chain([&target.text(QUOTED)]).map(|table| table.parse().unwrap()).collect(),
        series: series.map(|series| (name(&format!("hist_{series}_{{period}}")), None)).into(),
        url_env: "URL".to_owned(),
        environment: [("URL".into(), target.url.clone().into())].into_iter().collect(),
        ..Request::default()
    };
    let before = target.fingerprint().await;
    let text = adopt(request.clone()).await.unwrap();
    assert_eq!(target.fingerprint().await, before);
    assert_eq!(adopt(request).await.unwrap(), text, "adopting again gives the same text");
    assert_eq!(text.matches("period_tables:").count(), 1, "one step says all series:\n{text}");
    let group = if target.redshift { format!("group: {}", target.group) } else { format!("to: {}", target.group) };
    for part in ["ahead: 1", "total has a default", &name("mart_uni_tracking_spath"), &target.user, &group] {
        assert!(text.contains(part), "{part:?} was to be read\n{text}");
    }
    for part in ["DISTSTYLE ALL", "COMPOUND SORTKEY (exception_type, detected_at)", "DISTSTYLE KEY DISTKEY (id)"] {
        assert_eq!(text.contains(part), target.redshift, "{part:?}\n{text}");
    }
}

pub async fn a_view_over_a_series_is_made_and_kept_right(target: &Target) {
    target.sql("CREATE TABLE settlement_ods.mart (id BIGINT NOT NULL, state VARCHAR(32), at TIMESTAMP) DISTKEY (id) SORTKEY (at)").await;
    let warehouse = connect(&target.url);
    let step = |ahead: u8| {
        target.periods(&format!(
            "ahead: {ahead}
tables: [{{ name: 'settlement_ods.hist_{{period}}', like: settlement_ods.mart, view: settlement_ods.hist }}]
grants: [{{ to: {}, privileges: [select] }}]",
            target.user
        ))
    };
    let done = apply(&step(0), &warehouse, DAY).await;
    let ends = |done: &[String], expected: [String; 2]| assert_eq!(done[done.len() - 2..], expected, "{done:?}");
    let granted = target.text(&format!("grant select on settlement_ods.hist to {}", target.user));
    ends(&done, [target.text("create view settlement_ods.hist over 2 tables"), granted.clone()]);
    assert_eq!(apply(&step(0), &connect(&target.url), DAY).await, Vec::<String>::new());
    let done = apply(&step(1), &warehouse, DAY).await;
    assert_eq!(done.len(), 3, "{done:?}");
    assert_eq!(done[2], target.text("replace view settlement_ods.hist over 3 tables"));
    let planned = plan(&step(1), &connect(&target.url), DAY).await.unwrap();
    assert_eq!((summaries(&planned), planned.obstacles.len()), (Vec::new(), 0), "{planned:?}");
    target.sql("DROP VIEW settlement_ods.hist").await;
    let done = apply(&step(1), &warehouse, DAY).await;
    assert_eq!(done, [target.text("create view settlement_ods.hist over 3 tables"), granted]);
}
