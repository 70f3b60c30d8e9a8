//! The plan knows what the server would refuse, and each remedy works when it is pasted.

use std::sync::Arc;

use provision::failure::Failure;
use provision::host::warehouse::Warehouse;
use provision::resource::Resource;

use crate::cluster::{Cluster, shared};
use crate::kit::{DAY, apply, connect, periods, plan, statement, summaries, table};

/// A user without rights of its own, and a connection as this user.
struct Poor {
    database: String,
    user: String,
    url: String,
}

impl Poor {
    /// Prepares a schema `s` in which the user can create tables.
    fn new(sql: &str) -> Self {
        let database = shared().database();
        // With a capital letter, so that a remedy without quotation marks would fail.
        let user = format!("Poor_{database}");
        let url = shared().socket_url(&database).replace("postgres@", &format!("{user}@"));
        let poor = Self { database, user, url };
        poor.sql("CREATE SCHEMA s; CREATE USER \"POOR\"; GRANT USAGE, CREATE ON SCHEMA s TO \"POOR\"");
        poor.sql(sql);
        poor
    }

    /// Runs SQL as the superuser. `POOR` stands for the user, and `OTHER` for another account.
    fn sql(&self, sql: &str) {
        shared().psql(&self.database, &self.text(sql));
    }

    fn text(&self, text: &str) -> String {
        text.replace("POOR", &self.user).replace("OTHER", &format!("other_{}", self.database))
    }

    fn warehouse(&self) -> Arc<Warehouse> {
        connect(&self.url)
    }
}

/// Returns what prevents a step, wholly or in part.
async fn obstacles<R: Resource>(step: &R, warehouse: &Arc<Warehouse>) -> Vec<Failure> {
    match plan(step, warehouse, DAY).await {
        Ok(found) => found.obstacles,
        Err(failure) => vec![failure],
    }
}

fn hint(failure: &Failure) -> &str {
    statement(failure.hint.as_deref().unwrap_or_default())
}

const SERIES: &str = "through: current\ntables: [{ name: 's.h_{period}', like: s.m }]\n";

#[tokio::test]
async fn a_parent_that_may_not_be_read_blocks_before_apply() {
    let poor = Poor::new("CREATE TABLE s.m (a int)");
    let warehouse = poor.warehouse();
    let steps = (table("CREATE TABLE s.t (LIKE s.m)", ""), periods(SERIES));
    for failures in [obstacles(&steps.0, &warehouse).await, obstacles(&steps.1, &warehouse).await] {
        assert_eq!(failures.len(), 1, "{failures:?}");
        let expected = poor.text("the connected user \"POOR\" has no SELECT privilege on s.m, which LIKE needs");
        assert!(failures[0].message.ends_with(&expected), "{failures:?}");
        assert_eq!(hint(&failures[0]), poor.text("GRANT SELECT ON \"s\".\"m\" TO \"POOR\";"));
    }
    poor.sql("GRANT SELECT ON s.m TO \"POOR\";");
    assert_eq!(apply(&steps.0, &warehouse, DAY).await.len(), 1);
    assert_eq!(apply(&steps.1, &warehouse, DAY).await.len(), 2);
    // A table that is there needs no SELECT on its parent.
    poor.sql("REVOKE SELECT ON s.m FROM \"POOR\"");
    assert_eq!(apply(&steps.1, &warehouse, DAY).await.len(), 0);
}

#[tokio::test]
async fn a_parent_in_a_closed_schema_blocks_before_apply() {
    let poor = Poor::new("CREATE SCHEMA closed; CREATE TABLE closed.m (a int); GRANT SELECT ON closed.m TO \"POOR\"");
    let warehouse = poor.warehouse();
    let step = table("CREATE TABLE s.t (LIKE closed.m)", "");
    let failures = obstacles(&step, &warehouse).await;
    assert_eq!(hint(&failures[0]), poor.text("GRANT USAGE ON SCHEMA closed TO \"POOR\";"), "{failures:?}");
    poor.sql(hint(&failures[0]));
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 1);
}

#[tokio::test]
async fn a_missing_right_on_the_schema_is_granted_by_the_hint() {
    let poor = Poor::new("CREATE SCHEMA \"Odd one\"");
    let warehouse = poor.warehouse();
    let step = table("CREATE TABLE \"Odd one\".t (a int)", "");
    let failures = obstacles(&step, &warehouse).await;
    poor.sql(hint(&failures[0]));
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 1);
}

/// The tables are made, and only the owner is not set.
#[tokio::test]
async fn an_owner_needs_membership_and_a_right_on_the_schema() {
    let poor = Poor::new("CREATE TABLE s.m (a int); GRANT SELECT ON s.m TO \"POOR\"; CREATE ROLE OTHER");
    let warehouse = poor.warehouse();
    let step = periods(&format!("{SERIES}owner: {}", poor.text("OTHER")));
    let found = plan(&step, &warehouse, DAY).await.unwrap();
    assert_eq!(summaries(&found), ["create table s.h_2025_h2 like s.m", "create table s.h_2026_h1 like s.m"]);
    assert_eq!(found.obstacles.len(), 1, "{:?}", found.obstacles);
    assert!(found.obstacles[0].message.ends_with(&poor.text("\"POOR\" is not a member of OTHER")), "{found:?}");
    poor.sql(hint(&found.obstacles[0]));
    let found = plan(&step, &warehouse, DAY).await.unwrap();
    assert_eq!(found.obstacles.len(), 1, "{:?}", found.obstacles);
    assert!(found.obstacles[0].message.contains("has no CREATE privilege on schema s"), "{found:?}");
    poor.sql(hint(&found.obstacles[0]));
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 4);
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 0);
}

#[tokio::test]
async fn grants_and_owners_of_another_users_table_are_blocked() {
    let poor = Poor::new("CREATE TABLE s.t (a int); CREATE ROLE OTHER; GRANT USAGE, CREATE ON SCHEMA s TO OTHER");
    let warehouse = poor.warehouse();
    let to = poor.text("OTHER");
    let grants = table("CREATE TABLE s.t (a int)", &format!("grants: [{{ to: {to}, privileges: [select, insert] }}]"));
    let owner = table("CREATE TABLE s.t (a int)", &format!("owner: {to}"));
    poor.sql("GRANT OTHER TO \"POOR\"");
    for (failures, doing) in
        [(obstacles(&grants, &warehouse).await, "grant"), (obstacles(&owner, &warehouse).await, "set owner")]
    {
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].message.starts_with(&format!("cannot {doing}")), "{failures:?}");
        assert!(failures[0].message.ends_with("s.t belongs to postgres"), "{failures:?}");
        poor.sql(hint(&failures[0]));
    }
    for step in [&grants, &owner] {
        assert_eq!(obstacles(step, &warehouse).await, []);
        assert_eq!(apply(step, &warehouse, DAY).await, Vec::<String>::new());
    }
}

/// Whoever holds a privilege with its grant option can pass it on without owning the table.
#[tokio::test]
async fn a_grant_option_is_enough_to_grant() {
    let poor = Poor::new("CREATE TABLE s.t (a int); GRANT SELECT ON s.t TO \"POOR\" WITH GRANT OPTION");
    poor.sql("CREATE ROLE OTHER");
    let warehouse = poor.warehouse();
    let step = |privileges: &str| {
        let lines = format!("grants: [{{ to: {}, privileges: [{privileges}] }}]", poor.text("OTHER"));
        table("CREATE TABLE s.t (a int)", &lines)
    };
    assert_eq!(obstacles(&step("select, insert"), &warehouse).await.len(), 1);
    assert_eq!(apply(&step("select"), &warehouse, DAY).await.len(), 1);
    assert_eq!(apply(&step("select"), &warehouse, DAY).await.len(), 0);
}

#[tokio::test]
async fn columns_of_another_users_table_are_not_added() {
    let poor = Poor::new("CREATE TABLE s.m (a int, b int); CREATE TABLE s.h_2025_h2 (a int)");
    poor.sql("GRANT SELECT ON s.m TO \"POOR\"");
    let warehouse = poor.warehouse();
    let step = periods(&format!("{SERIES}on_drift: add_columns\n"));
    let found = plan(&step, &warehouse, DAY).await.unwrap();
    assert_eq!(summaries(&found), ["create table s.h_2026_h1 like s.m"]);
    assert!(found.obstacles[0].message.ends_with("s.h_2025_h2 belongs to postgres"), "{found:?}");
    poor.sql(hint(&found.obstacles[0]));
    assert_eq!(obstacles(&step, &warehouse).await, []);
}

/// A privilege that its holder cannot use is worth a warning, whether it is granted now or was before.
#[tokio::test]
async fn a_grant_without_usage_on_the_schema_is_a_warning() {
    let poor = Poor::new("CREATE ROLE OTHER");
    let warehouse = poor.warehouse();
    let to = poor.text("OTHER");
    let step = table("CREATE TABLE s.t (a int)", &format!("grants: [{{ to: {to}, privileges: [insert, select] }}]"));
    let expected = format!(
        "{to} cannot use privileges on tables of schema s without USAGE on the schema: `GRANT USAGE ON SCHEMA s TO \
         \"{to}\";`"
    );
    for changes in [2, 0] {
        let found = plan(&step, &warehouse, DAY).await.unwrap();
        assert_eq!((found.warnings.as_slice(), found.changes.len()), (std::slice::from_ref(&expected), changes));
        apply(&step, &warehouse, DAY).await;
    }
    poor.sql(statement(&expected));
    assert_eq!(plan(&step, &warehouse, DAY).await.unwrap().warnings, Vec::<String>::new());
    let public = table("CREATE TABLE s.t (a int)", "grants: [{ to: PUBLIC, privileges: SELECT }]");
    let found = plan(&public, &warehouse, DAY).await.unwrap();
    assert!(found.warnings[0].ends_with("`GRANT USAGE ON SCHEMA s TO PUBLIC;`"), "{:?}", found.warnings);
    // A series warns once for all of its tables.
    poor.sql("REVOKE USAGE ON SCHEMA s FROM OTHER; CREATE TABLE s.m (a int); GRANT SELECT ON s.m TO \"POOR\"");
    let series = periods(&format!("{SERIES}grants: [{{ to: {to}, privileges: [select] }}]"));
    let warnings = plan(&series, &warehouse, DAY).await.unwrap().warnings;
    assert_eq!(warnings.iter().filter(|warning| warning.contains("USAGE")).count(), 1, "{warnings:?}");
    // Everyone's privilege is enough.
    poor.sql("GRANT USAGE ON SCHEMA s TO PUBLIC");
    assert_eq!(plan(&step, &warehouse, DAY).await.unwrap().warnings, Vec::<String>::new());
}

/// On Redshift, groups are in the schema's access list, and roles in a view of their own.
#[tokio::test]
async fn usage_of_users_groups_and_roles_of_redshift_is_known() {
    let target = crate::target::Target::double().await;
    let warehouse = connect(&target.url);
    let (user, group, role) = (&target.user, &target.group, &target.role);
    let grants = format!(
        "grants: [{{ to: {user}, privileges: [select] }}, {{ to: {{ group: {group} }}, privileges: [select] }}, \
         {{ to: {{ role: {role} }}, privileges: [select] }}]"
    );
    let step = target.table_with("CREATE TABLE settlement_ods.t (a INT)", &grants);
    let warnings = plan(&step, &warehouse, DAY).await.unwrap().warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (warning, to) in
        warnings.iter().zip([format!("\"{user}\""), format!("GROUP \"{group}\""), format!("ROLE \"{role}\"")])
    {
        assert!(warning.ends_with(&format!("`GRANT USAGE ON SCHEMA settlement_ods TO {to};`")), "{warning}");
    }
    target.shadow(&format!("GRANT USAGE ON SCHEMA settlement_ods TO {user}, {group}, {role}"));
    assert_eq!(plan(&step, &warehouse, DAY).await.unwrap().warnings, Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_accepts_no_changes_blocks_what_would_change() {
    let database = shared().database();
    let user = format!("reader_{database}");
    shared().psql(&database, &format!("CREATE ROLE {user} SUPERUSER LOGIN"));
    shared().psql(&database, "CREATE SCHEMA s; CREATE TABLE s.m (a int); CREATE TABLE s.old (a int)");
    shared().psql(&database, &format!("ALTER ROLE {user} SET default_transaction_read_only = on"));
    let url = shared().socket_url(&database).replace("postgres@", &format!("{user}@"));
    let warehouse = connect(&url);
    let steps = (table("CREATE TABLE s.t (a int)", ""), periods(SERIES));
    for failures in [obstacles(&steps.0, &warehouse).await, obstacles(&steps.1, &warehouse).await] {
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert_eq!(failures[0].message, "the server accepts no changes: default_transaction_read_only is on");
    }
    // What is as it should be needs no change.
    assert_eq!(obstacles(&table("CREATE TABLE s.old (a int)", ""), &warehouse).await, []);
    let failures = obstacles(&steps.0, &warehouse).await;
    shared().psql(&database, hint(&failures[0]));
    assert_eq!(apply(&steps.0, &connect(&url), DAY).await.len(), 1);

    // For the whole database, and for the connection alone.
    shared().psql("postgres", &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
    let failures = obstacles(&steps.1, &connect(&url)).await;
    shared().psql("postgres", hint(&failures[0]));
    let own = format!("{url}?options=-c%20default_transaction_read_only%3Don");
    let failures = obstacles(&steps.1, &connect(&own)).await;
    assert!(hint(&failures[0]).contains("`options` of the connection"), "{failures:?}");
    assert_eq!(apply(&steps.1, &connect(&url), DAY).await.len(), 2);
}

#[tokio::test]
async fn a_standby_blocks_what_would_change() {
    let primary = Cluster::start(&[]);
    primary.psql("postgres", "CREATE SCHEMA s; CREATE TABLE s.old (a int)");
    let standby = primary.standby();
    let warehouse = connect(&standby.socket_url("postgres"));
    let failures = obstacles(&table("CREATE TABLE s.t (a int)", ""), &warehouse).await;
    assert_eq!(failures[0].message, "the server is a standby, which accepts no changes");
    // libpq's words for the two, in either order of the hosts.
    let both = |attrs: &str| {
        let folders = format!("{},{}", standby.folder.display(), primary.folder.display());
        let ports = format!("{},{}", standby.port, primary.port);
        connect(&format!("host={folders} port={ports} user=postgres dbname=postgres target_session_attrs={attrs}"))
    };
    for (attrs, blocked) in
        [("any", 1), ("primary", 0), ("read-write", 0), ("standby", 1), ("read-only", 1), ("prefer-standby", 1)]
    {
        let found = obstacles(&table("CREATE TABLE s.t (a int)", ""), &both(attrs)).await;
        assert_eq!(found.len(), blocked, "{attrs}: {found:?}");
    }
    let alone = connect(&format!("{}?target_session_attrs=primary", standby.socket_url("postgres")));
    let failure = alone.catalog().await.unwrap_err();
    assert!(failure.message.ends_with("is a standby, but the URL has target_session_attrs=primary"), "{failure:?}");
    let alone = connect(&format!("{}?target_session_attrs=prefer-standby", primary.socket_url("postgres")));
    alone.catalog().await.unwrap();
    assert_eq!(obstacles(&table("CREATE TABLE s.old (a int)", ""), &warehouse).await, []);
}
