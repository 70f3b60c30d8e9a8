//! What both kinds do, on each server that speaks their language: PostgreSQL, the dialect double, and a live Redshift
//! where `REDSHIFT_TEST_URL` names one.

use crate::kit::{DAY, apply, connect, periods, plan, summaries, table};
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
    let step = table(EXCEPTIONS, "");
    let done = apply(&step, &warehouse, DAY).await;
    assert_eq!(done, ["create table settlement_ods.order_tracking_exceptions"]);
    assert_eq!(apply(&step, &warehouse, DAY).await, Vec::<String>::new());
    let again = connect(&target.url);
    assert_eq!(summaries(&plan(&step, &again, DAY).await.unwrap()), Vec::<String>::new());
}

pub async fn history_tables_are_made_and_gaps_filled(target: &Target) {
    target.sql(MARTS).await;
    let warehouse = connect(&target.url);
    let step = periods(SERIES);
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 9);
    target.sql("DROP TABLE settlement_ods.hist_ecs_order_info_2026_h1").await;
    let done = apply(&step, &warehouse, DAY).await;
    let expected = "create table settlement_ods.hist_ecs_order_info_2026_h1 like settlement_ods.mart_ecs_order_info";
    assert_eq!(done, [expected]);
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
    let refusal = plan(&table(EXCEPTIONS, ""), &warehouse, DAY).await.unwrap_err();
    for part in [
        "column exception_type is character varying(32), wanted is character varying(64)",
        "column exception_type takes NULL, wanted is NOT NULL",
        "column notes VARCHAR(1024) is missing",
        "column order_id is at place 2, wanted is place 1",
        "column extra integer is not wanted",
    ] {
        assert!(refusal.reason.contains(part), "{}", refusal.reason);
    }
}

pub async fn what_has_taken_the_name_is_refused_with_its_kind(target: &Target) {
    target.sql("CREATE VIEW settlement_ods.order_tracking_exceptions AS SELECT 1 AS one").await;
    let warehouse = connect(&target.url);
    let refusal = plan(&table(EXCEPTIONS, ""), &warehouse, DAY).await.unwrap_err();
    assert_eq!(refusal.reason, "settlement_ods.order_tracking_exceptions exists, but is a view");
}

pub async fn a_missing_parent_or_schema_blocks(target: &Target) {
    let warehouse = connect(&target.url);
    let refusal = plan(&periods(SERIES), &warehouse, DAY).await.unwrap_err();
    assert!(refusal.reason.contains("parent settlement_ods.mart_ecs_order_info does not exist"), "{}", refusal.reason);
    let elsewhere = table("CREATE TABLE nowhere.t (id INT)", "");
    let refusal = plan(&elsewhere, &warehouse, DAY).await.unwrap_err();
    assert_eq!(refusal.reason, "schema nowhere does not exist");
}

pub async fn grants_and_owner_are_given_and_kept(target: &Target) {
    target.sql(MARTS).await;
    let (dbt, etl) = (&target.user, &target.group);
    let warehouse = connect(&target.url);
    let lines = format!(
        "{SERIES}grants: [{{ to: {dbt}, privileges: [insert, select] }}, {{ to: {{ group: {etl} }}, privileges: [select] }}]\n"
    );
    let step = periods(&lines);
    let done = apply(&step, &warehouse, DAY).await;
    assert_eq!(done.len(), 9 * 3, "{done:?}");
    assert_eq!(done[1], format!("grant select, insert on settlement_ods.hist_uni_tracking_info_2025_h2 to {dbt}"));
    target.sql(&format!("REVOKE INSERT ON settlement_ods.hist_uni_tracking_info_2026_h1 FROM {dbt}")).await;
    target.sql(&format!("GRANT DELETE ON settlement_ods.hist_uni_tracking_info_2026_h1 TO {dbt}")).await;
    let done = apply(&step, &warehouse, DAY).await;
    assert_eq!(done, [format!("grant insert on settlement_ods.hist_uni_tracking_info_2026_h1 to {dbt}")]);
    let owned = periods(&format!("{lines}owner: {dbt}\n"));
    let done = apply(&owned, &warehouse, DAY).await;
    assert_eq!(done.len(), 9, "{done:?}");
    let unknown = periods(&format!("{SERIES}owner: nobody_at_all\n"));
    let refusal = plan(&unknown, &warehouse, DAY).await.unwrap_err();
    assert_eq!(refusal.reason, "the server knows no user nobody_at_all");
}

pub async fn drift_is_reported_and_what_can_be_is_mended(target: &Target) {
    target.sql(MARTS).await;
    let warehouse = connect(&target.url);
    apply(&periods(SERIES), &warehouse, DAY).await;
    target.sql("ALTER TABLE settlement_ods.mart_uni_tracking_info ADD COLUMN weight REAL").await;
    target.sql("ALTER TABLE settlement_ods.mart_uni_tracking_info ADD COLUMN carrier VARCHAR(40)").await;
    target.sql("ALTER TABLE settlement_ods.mart_uni_tracking_spath ALTER COLUMN path TYPE VARCHAR(512)").await;
    let reported = plan(&periods(SERIES), &warehouse, DAY).await.unwrap();
    assert_eq!(summaries(&reported), Vec::<String>::new());
    assert_eq!(reported.warnings.len(), 9, "{:?}", reported.warnings);
    let mending = periods(&format!("{SERIES}on_drift: add_columns\n"));
    let done = apply(&mending, &warehouse, DAY).await;
    assert_eq!(done.len(), 9, "{done:?}");
    assert_eq!(done[0], "add column weight real to settlement_ods.hist_uni_tracking_info_2025_h2");
    assert_eq!(plan(&mending, &warehouse, DAY).await.unwrap().warnings, Vec::<String>::new());
}

pub async fn two_applies_at_once_both_end_well(target: &Target) {
    target.sql(MARTS).await;
    let lines = format!("{SERIES}grants: [{{ to: {}, privileges: [insert] }}]\n", target.user);
    let (one, other) = (connect(&target.url), connect(&target.url));
    let step = periods(&lines);
    let (first, second) = tokio::join!(apply(&step, &one, DAY), apply(&step, &other, DAY));
    assert!(first.len() + second.len() >= 18, "{first:?} {second:?}");
    assert_eq!(summaries(&plan(&step, &one, DAY).await.unwrap()), Vec::<String>::new());
}

pub async fn names_that_need_quotation_marks_work(target: &Target) {
    let warehouse = connect(&target.url);
    let step = table("CREATE TABLE settlement_ods.\"Or'der \"\"x\"\"\" (\"Sel\\ect\" INT, é INT)", "");
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 1);
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 0);
}

pub async fn a_plan_writes_nothing(target: &Target) {
    target.sql(MARTS).await;
    let before = target.fingerprint().await;
    let warehouse = connect(&target.url);
    assert_eq!(plan(&periods(SERIES), &warehouse, DAY).await.unwrap().changes.len(), 9);
    assert_eq!(plan(&table(EXCEPTIONS, ""), &warehouse, DAY).await.unwrap().changes.len(), 1);
    assert_eq!(target.fingerprint().await, before);
}
