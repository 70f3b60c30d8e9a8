//! Names as the servers store them: folded, and within their limits.

use crate::cluster::shared;
use crate::kit::{DAY, apply, connect, periods, plan, summaries, table};
use crate::target::Target;

fn database(sql: &str) -> String {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s");
    shared().psql(&database, sql);
    database
}

/// Letters outside ASCII keep their case without quotation marks.
#[tokio::test]
async fn names_outside_ascii_are_stored_as_the_server_folds_them() {
    let database = database("CREATE TABLE s.MÄRT (ÄPFEL int, ÉtÉ int)");
    let warehouse = connect(&shared().socket_url(&database));
    for ddl in [
        "CREATE TABLE s.GRÖSSE (a int)",
        "CREATE TABLE s.u1 (ÄPFEL int, PRIMARY KEY (ÄPFEL))",
        "CREATE TABLE s.\"GRÖSSE\" (\"ÄPFEL\" int)",
        "CREATE TABLE s.OMÉGA (LIKE s.MÄRT)",
        "CREATE TABLE s.kleingröße (ü int)",
    ] {
        let step = table(ddl, "");
        assert_eq!(apply(&step, &warehouse, DAY).await.len(), 1, "{ddl}");
        assert_eq!(apply(&step, &warehouse, DAY).await.len(), 0, "{ddl}");
    }
    let step = periods("through: current\ntables: [{ name: 's.HÄ_{period}', like: s.MÄRT }]");
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 2);
    let made = shared().psql(&database, "SELECT count(*) FROM pg_class WHERE relname LIKE 'hÄ\\_2%'");
    assert_eq!(made, "2");
}

/// In a single-byte encoding the server folds by its locale, so quotation marks have to say what is meant.
#[tokio::test]
async fn a_single_byte_database_needs_quoted_names_outside_ascii() {
    let database = format!("latin_{}", shared().database());
    let create = format!("CREATE DATABASE {database} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    shared().psql("postgres", &create);
    shared().psql(&database, "CREATE SCHEMA s");
    let warehouse = connect(&shared().socket_url(&database));
    let refusal = plan(&table("CREATE TABLE s.GRÖSSE (a int)", ""), &warehouse, DAY).await.unwrap_err();
    assert!(refusal.message.contains("cannot know how the server folds `GRÖSSE`"), "{refusal:?}");
    assert!(refusal.hint.unwrap().ends_with("\"grösse\""));
    for ddl in ["CREATE TABLE s.\"GRÖSSE\" (a int)", "CREATE TABLE s.grösse (A int)"] {
        assert_eq!(apply(&table(ddl, ""), &warehouse, DAY).await.len(), 1, "{ddl}");
    }
}

/// PostgreSQL would truncate them, and then look for a name that is not there.
#[tokio::test]
async fn names_beyond_the_servers_limit_are_refused_before_anything_is_made() {
    let (x, y, umlauts) = ("x".repeat(70), "y".repeat(64), "ü".repeat(32));
    let parent = "z".repeat(63);
    let database = database(&format!("CREATE TABLE s.{parent} (a int)"));
    let warehouse = connect(&shared().socket_url(&database));
    let grants = |to: &str| format!("grants: [{{ to: {to}, privileges: [select] }}]");
    for (ddl, lines) in [
        (format!("CREATE TABLE s.{x} (a int)"), String::new()),
        (format!("CREATE TABLE s.\"{x}\" (a int)"), String::new()),
        (format!("CREATE TABLE {y}.t (a int)"), String::new()),
        (format!("CREATE TABLE s.t ({y} int)"), String::new()),
        (format!("CREATE TABLE s.t ({umlauts} int)"), String::new()),
        (format!("CREATE TABLE s.t (a int, CONSTRAINT {y} PRIMARY KEY (a))"), String::new()),
        (format!("CREATE TABLE s.t (LIKE s.{parent}zzzzzzz)"), String::new()),
        ("CREATE TABLE s.t (a int) INHERITS (s.p)".into(), format!("columns: [{{ name: {y}, type: int }}]")),
        ("CREATE TABLE s.t (a int)".into(), format!("owner: {y}")),
        ("CREATE TABLE s.t (a int)".into(), grants(&y)),
        ("CREATE TABLE s.t (a int)".into(), grants(&format!("{{ group: {y} }}"))),
    ] {
        let refusal = plan(&table(&ddl, &lines), &warehouse, DAY).await.unwrap_err();
        assert!(refusal.message.contains("PostgreSQL truncates names to 63"), "{ddl} {lines}: {refusal:?}");
    }
    let step = periods(&format!("through: current\ntables: [{{ name: 's.h_{{period}}', like: s.{parent}zzzzzzz }}]"));
    let found = plan(&step, &warehouse, DAY).await.unwrap();
    assert!(found.obstacles[0].message.contains("PostgreSQL truncates names to 63"), "{:?}", found.obstacles);
    assert_eq!(summaries(&found), Vec::<String>::new());
    // The limit itself is fine.
    let step = table(&format!("CREATE TABLE s.{} ({} int)", "t".repeat(63), "c".repeat(63)), "");
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 1);
}

/// Redshift folds quoted names too, in keys as in columns.
#[tokio::test]
async fn key_columns_are_compared_as_redshift_folds_them() {
    let target = Target::double().await;
    let warehouse = connect(&target.url);
    let made = "CREATE TABLE settlement_ods.a2 (id INT NOT NULL, name VARCHAR(5), \"order\" INT) DISTKEY (id) \
                SORTKEY (name, id)";
    target.sql(made).await;
    for ddl in [
        "CREATE TABLE settlement_ods.a2 (Id INT PRIMARY KEY, \"Name\" VARCHAR(5), \"ORDER\" INT) DISTKEY(ID) \
         SORTKEY(\"Name\", Id)",
        "CREATE TABLE settlement_ods.\"A2\" (\"ID\" INT NOT NULL, \"Name\" VARCHAR(5), \"Order\" INT) DISTSTYLE KEY \
         DISTKEY (\"Id\") COMPOUND SORTKEY (NAME, \"ID\")",
        "CREATE TABLE settlement_ods.a2 (\"Id\" INT NOT NULL DISTKEY, \"NAME\" VARCHAR(5), \"order\" INT)",
    ] {
        let found = plan(&target.table(ddl), &warehouse, DAY).await;
        let found = found.unwrap_or_else(|refusal| panic!("{ddl}: {refusal:?}"));
        assert_eq!(summaries(&found), Vec::<String>::new(), "{ddl}");
    }
    let other = "CREATE TABLE settlement_ods.a2 (id INT NOT NULL, name VARCHAR(5), \"order\" INT) SORTKEY (\"Order\")";
    let refusal = plan(&target.table(other), &warehouse, DAY).await.unwrap_err();
    let expected = "the sort key is SORTKEY (name, id), expected SORTKEY (\"Order\")";
    assert!(refusal.message.contains(expected), "{refusal:?}");
}
