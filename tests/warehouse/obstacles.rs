//! An obstacle blocks only what depends on it, and is not mistaken for a concurrent session.

use std::time::{Duration, Instant};

use crate::cluster::shared;
use crate::kit::{DAY, apply, connect, observe_context, periods, plan, summaries, table, try_apply};

fn database(sql: &str) -> String {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s");
    shared().psql(&database, sql);
    database
}

const SERIES: &str = "through: current\nahead: 1\ntables: [{ name: 's.h_{period}', like: s.m }]\n";

#[tokio::test]
async fn a_view_instead_of_an_old_table_does_not_block_other_tables() {
    let database = database("CREATE TABLE s.m (a int); CREATE VIEW s.h_2025_h2 AS SELECT 1 AS a");
    let warehouse = connect(&shared().socket_url(&database));
    let found = plan(&periods(SERIES), &warehouse, DAY).await.unwrap();
    assert_eq!(found.obstacles[0].message, "s.h_2025_h2 exists, but is a view");
    assert_eq!(
        apply(&periods(SERIES), &warehouse, DAY).await,
        ["create table s.h_2026_h1 like s.m", "create table s.h_2026_h2 like s.m"]
    );
}

#[tokio::test]
async fn missing_marts_and_unknown_grantees_block_dependent_changes() {
    let database = database("CREATE TABLE s.m (a int)");
    let user = format!("known_{database}");
    shared().psql(&database, &format!("CREATE USER {user}"));
    let warehouse = connect(&shared().socket_url(&database));
    let two = format!(
        "through: 2025_h2\ntables: [{{ name: 's.g_{{period}}', like: s.gone }}, {{ name: 's.h_{{period}}', like: s.m }}]\n\
         grants: [{{ to: nobody_at_all, privileges: [select] }}, {{ to: {user}, privileges: [select] }}]\nowner: no_owner\n"
    );
    let found = plan(&periods(&two), &warehouse, DAY).await.unwrap();
    let messages: Vec<_> = found.obstacles.iter().map(|obstacle| obstacle.message.as_str()).collect();
    assert_eq!(
        messages,
        ["user no_owner, user nobody_at_all do not exist", "s.g_{period}: parent s.gone does not exist"]
    );
    let grant = format!("grant select on s.h_2025_h2 to {user}");
    assert_eq!(apply(&periods(&two), &warehouse, DAY).await, ["create table s.h_2025_h2 like s.m", &grant]);
}

/// A table whose last column was dropped is odd, but only affects its own step.
#[tokio::test]
async fn a_table_without_columns_fails_only_its_own_step() {
    let database = database("CREATE TABLE s.gone (a int); ALTER TABLE s.gone DROP COLUMN a");
    let warehouse = connect(&shared().socket_url(&database));
    let odd = table("CREATE TABLE s.gone (a int)", "");
    let start = Instant::now();
    let refusal = plan(&odd, &warehouse, DAY).await.unwrap_err();
    assert!(
        refusal.message.contains("column a INT is missing") || refusal.message.contains("column a int"),
        "{refusal:?}"
    );
    let fine = table("CREATE TABLE s.fine (a int)", "");
    assert_eq!(apply(&fine, &warehouse, DAY).await, ["create table s.fine"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// Something with the name is hidden by the catalog, so the first answer is final.
#[tokio::test]
async fn a_name_taken_by_an_invisible_relation_is_not_retried() {
    let database = database("");
    let warehouse = connect(&shared().socket_url(&database));
    let step = table("CREATE TABLE s.t (a int)", "");
    let planned = plan(&step, &warehouse, DAY).await.unwrap();
    // The type is created after the plan, and the error is reported without another read.
    shared().psql(&database, "CREATE TYPE s.t AS ENUM ('x')");
    let context = provision::resource::ExecuteContext::new(observe_context(&warehouse, DAY), "run");
    let start = Instant::now();
    let failure = provision::resource::Resource::execute(&step, &planned.changes[0], &context).await.unwrap_err();
    assert!(failure.message.contains("s.t exists, but is a type"), "{failure:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// The catalog hides rows, as Redshift's metadata security does.
#[tokio::test]
async fn an_invisible_table_is_reported_as_hidden() {
    let target = crate::target::Target::double().await;
    target.sql("CREATE TABLE settlement_ods.t (a INT)").await;
    let hide = "CREATE OR REPLACE VIEW shadow.pg_class AS SELECT c.oid, c.relname, c.relnamespace, c.relkind, c.relowner, \
                shadow.acl(c.relacl) AS relacl, c.relnatts, 9 AS reldiststyle FROM pg_catalog.pg_class c \
                WHERE c.relname <> 't'";
    target.shadow(hide);
    let warehouse = connect(&target.url);
    let step = target.table("CREATE TABLE settlement_ods.t (a INT)");
    let planned = plan(&step, &warehouse, DAY).await.unwrap();
    assert_eq!(summaries(&planned).len(), 1);
    let start = Instant::now();
    let failure = try_apply(&step, &warehouse, DAY).await.unwrap_err();
    assert!(failure.message.contains("already exists"), "{failure:?}");
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("does not show to you")), "{failure:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// Names that are looked up and not found are answered with the one that was probably meant.
#[tokio::test]
async fn a_missing_name_is_answered_with_the_one_like_it() {
    let database =
        database("CREATE TABLE s.events (a int); CREATE SCHEMA analytics; CREATE TABLE analytics.orders (a int)");
    let user = format!("loader_{database}");
    shared().psql(&database, &format!("CREATE USER {user}"));
    let warehouse = connect(&shared().socket_url(&database));
    for (step, expected) in [
        (table("CREATE TABLE s.t (LIKE s.evnts)", ""), "did you mean s.events?".to_owned()),
        (table("CREATE TABLE s.t (LIKE s.orders)", ""), "did you mean analytics.orders?".to_owned()),
        (
            table("CREATE TABLE s.t (LIKE s.nothing_like_it)", ""),
            "the table is created once its parent exists".to_owned(),
        ),
        (table("CREATE TABLE analitics.t (a int)", ""), "did you mean analytics?".to_owned()),
        (
            table("CREATE TABLE s.t (a int)", &format!("owner: {}", user.replace("er_", "re_"))),
            format!("did you mean {user}?"),
        ),
        (
            table("CREATE TABLE s.t (a int)", "grants: [{ to: nobody_of_that_name, privileges: [select] }]"),
            "create them on the server, or correct `grants` and `owner`".to_owned(),
        ),
    ] {
        let refusal = plan(&step, &warehouse, DAY).await.unwrap_err();
        assert_eq!(refusal.hint, Some(expected), "{refusal:?}");
    }
    let series = periods("through: current\ntables: [{ name: 's.h_{period}', like: s.evnts }]");
    let found = plan(&series, &warehouse, DAY).await.unwrap();
    assert_eq!(found.obstacles[0].hint.as_deref(), Some("did you mean s.events?"));
}

/// An index has the name of its constraint, and shares the names of tables.
#[tokio::test]
async fn a_name_of_a_constraint_that_another_table_has_is_named() {
    let database = database("CREATE TABLE s.one (a int CONSTRAINT only_once UNIQUE)");
    let warehouse = connect(&shared().socket_url(&database));
    let step = table("CREATE TABLE s.two (a int CONSTRAINT only_once UNIQUE)", "");
    let failure = try_apply(&step, &warehouse, DAY).await.unwrap_err();
    assert!(failure.message.contains("already exists"), "{failure:?}");
    let hint = failure.hint.unwrap_or_default();
    assert!(hint.contains("only_once") && hint.contains("give it another name"), "{hint}");
}
