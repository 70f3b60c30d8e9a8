use super::*;
use crate::host::warehouse::{Dist, Sort};

pub(super) const EXCEPTIONS: &str = "CREATE TABLE settlement_ods.order_tracking_exceptions (
    order_id      VARCHAR(64),
    exception_type VARCHAR(64)   NOT NULL,
    detected_at   TIMESTAMP     NOT NULL,
    resolved_at   TIMESTAMP,
    notes         VARCHAR(1024)
)
DISTSTYLE ALL
SORTKEY (exception_type, detected_at);
";

fn sort(columns: &[&str], interleaved: bool) -> Option<Sort> {
    Some(Sort { columns: columns.iter().map(ToString::to_string).collect(), interleaved })
}

#[test]
fn parses_the_exceptions_table() {
    let ddl = Ddl::parse(EXCEPTIONS, None).unwrap();
    assert_eq!(ddl.outline.table.to_string(), "settlement_ods.order_tracking_exceptions");
    assert_eq!(ddl.outline.dist, Some(Dist::All));
    assert_eq!(ddl.outline.sort, sort(&["exception_type", "detected_at"], false));
    let Shape::Columns(columns) = &ddl.shape else { panic!("{ddl:?}") };
    let found: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.type_name.as_str(), c.null)).collect();
    assert_eq!(
        found,
        [
            ("order_id", "VARCHAR(64)", true),
            ("exception_type", "VARCHAR(64)", false),
            ("detected_at", "TIMESTAMP", false),
            ("resolved_at", "TIMESTAMP", true),
            ("notes", "VARCHAR(1024)", true),
        ]
    );
    let (columns, _) = EXCEPTIONS.split_once("\nDISTSTYLE").unwrap();
    assert_eq!(ddl.sql(EXCEPTIONS, Dialect::Postgresql), format!("{columns};"));
    assert_eq!(ddl.sql(EXCEPTIONS, Dialect::Redshift), EXCEPTIONS.trim());
}

#[test]
fn rejects_everything_but_one_plain_create_table() {
    for (ddl, reason) in [
        ("", "empty"),
        ("-- nothing\n;", "empty"),
        ("DROP TABLE a.b", "not a CREATE TABLE"),
        ("CREATE VIEW a.b AS SELECT 1", "not a CREATE TABLE"),
        ("CREATE TABLE IF NOT EXISTS a.b (c INT)", "IF NOT EXISTS is not allowed"),
        ("CREATE OR REPLACE TABLE a.b (c INT)", "OR REPLACE is not allowed"),
        ("CREATE TEMP TABLE a.b (c INT)", "temporary tables are not allowed"),
        ("create local temporary table b (c INT)", "temporary tables are not allowed"),
        ("CREATE EXTERNAL TABLE a.b (c INT)", "CREATE EXTERNAL TABLE is not allowed"),
        ("CREATE TABLE a.b AS SELECT 1", "CREATE TABLE AS is not allowed"),
        ("CREATE TABLE a.b (c) AS SELECT 1", "CREATE TABLE AS is not allowed"),
        ("CREATE TABLE a.b (c INT); DROP TABLE a.c", "more than one statement: the first ends at line 1, column 25"),
        ("CREATE TABLE b (c INT)", "has no schema"),
        ("CREATE TABLE x.a.b (c INT)", "more than two parts"),
        ("CREATE TABLE a.b (c INT", "not closed"),
        ("CREATE TABLE a.b (c INT))", "unexpected `)`"),
        ("CREATE TABLE a.b ()", "no columns"),
        ("CREATE TABLE a.b (c INT, C INT)", "listed twice"),
        ("CREATE TABLE a.b (c INT) DISTSTYLE SOME", "DISTSTYLE has to be"),
        ("CREATE TABLE a.b (c INT) SORTKEY c", "list of columns in parentheses"),
        ("CREATE TABLE a.b (LIKE a.c) DISTSTYLE ALL", "LIKE cannot be combined with other clauses"),
        ("CREATE TABLE a.b (c INT, LIKE a.d)", "LIKE cannot be combined with columns"),
        ("CREATE TABLE a.b LIKE a.c", "expected a list of columns"),
        ("CREATE TABLE a.b (LIKE c)", "has to be written as schema.table"),
        ("CREATE TABLE a.b (c mood)", "the type mood, which is not a type that provision knows"),
        ("CREATE TABLE a.b (c xid)", "is not a type that provision knows"),
        ("CREATE TABLE a.b (c \"char\")", "is not a type that provision knows"),
        (
            "CREATE TABLE a.b (c timestamp(9))",
            "column `c` has the type TIMESTAMP(9), but the servers keep at most 6 digits",
        ),
        ("CREATE TABLE a.b (c time(9))", "at most 6 digits"),
        ("CREATE TABLE a.b (c timestamptz(7))", "at most 6 digits"),
        ("CREATE TABLE a.b (c timestamp(7) with time zone)", "at most 6 digits"),
        ("CREATE TABLE a.b (c timestamp(9)[])", "at most 6 digits"),
        ("CREATE TABLE a.b (c INT) INHERITS (a.c)", "an unsupported clause"),
        ("CREATE TABLE a.b (c INT 'unclosed)", "cannot parse the DDL at line 1"),
        ("CREATE TABLE a.b (\n  c INT DISTKEY mood)", "cannot parse the DDL at line 2, column 17"),
        ("CREATE TABLE a.b (c TEXT COMPRESSION pglz)", "`columns:` next to `ddl`"),
        ("CREATE TABLE a.b (c INT GENERATED ALWAYS AS (d))", "`columns:` next to `ddl`"),
        ("CREATE TABLE a.b (LIKE a.c INCLUDING MOOD)", "cannot parse the DDL"),
    ] {
        let error = Ddl::parse(ddl, None).unwrap_err();
        let found = format!("{error}\n{error:#}");
        assert!(found.contains(reason), "{ddl}\n  {found}");
    }
}

/// Returns the columns of a list like that of a CREATE TABLE.
fn columns(list: &str) -> Vec<Column> {
    let column = |text: &str| {
        let (name, type_name) = text.split_once(' ').unwrap();
        let named = type_name.strip_suffix(" NOT NULL");
        Column { name: name.into(), type_name: named.unwrap_or(type_name).into(), null: named.is_none() }
    };
    list.split(", ").map(column).collect()
}

#[test]
fn columns_do_not_contradict_a_ddl_that_can_be_parsed() {
    use Segment::{Item, Key};
    let whole = &[Key("columns")][..];
    let at = |index, key| [Key("columns"), Item(index), Key(key)];
    for (ddl, list, reason, path) in [
        ("a int, b int", "a int, b text", "column `b` has the type text, but int in the DDL", &at(1, "type")[..]),
        ("a int", "b int", "column `b` is not in the DDL", &at(0, "name")),
        ("a int, b int", "a int", "column `b` of the DDL is missing", whole),
        ("a int, b int", "b int, a int", "column `b` is at position 1, but at position 2 in the DDL", &at(0, "name")),
        ("a int", "a int NOT NULL", "column `a` is NOT NULL, but allows NULL in the DDL", &at(0, "null")),
    ] {
        let ddl = format!("CREATE TABLE s.t ({ddl})");
        let error = Ddl::parse(&ddl, Some(&columns(list))).unwrap_err();
        assert!(error.to_string().to_lowercase().contains(&reason.to_lowercase()), "{ddl} {list}: {error}");
        assert_eq!(error.path, path, "{ddl} {list}");
    }
    for (ddl, list) in [
        // Each is right on one of the servers.
        ("a int, b text", "A int, b varchar(256)"),
        ("\"Id\" int, PRIMARY KEY (id)", "Id int NOT NULL"),
        // Types of other schemas have a spelling that only the server knows.
        ("a s.mood", "a mood"),
        ("a int PRIMARY KEY, b timestamptz", "a integer NOT NULL, b timestamp with time zone"),
    ] {
        let ddl = format!("CREATE TABLE s.t ({ddl})");
        assert!(Ddl::parse(&ddl, Some(&columns(list))).is_ok(), "{ddl} {list}");
    }
    // What the DDL implies need not be repeated.
    for ddl in ["a int NOT NULL", "a int PRIMARY KEY", "a int GENERATED ALWAYS AS IDENTITY", "a int, PRIMARY KEY (a)"] {
        let parsed = Ddl::parse(&format!("CREATE TABLE s.t ({ddl})"), Some(&columns("a int"))).unwrap();
        assert_eq!(parsed.shape, Shape::Columns(columns("a int NOT NULL")), "{ddl}");
    }
    for ddl in ["CREATE TABLE s.t (a text COMPRESSION pglz)", "CREATE TABLE s.t (LIKE s.m)"] {
        assert!(Ddl::parse(ddl, Some(&columns("b int"))).is_ok(), "{ddl}");
    }
}

#[test]
fn columns_have_no_digits_that_the_servers_cut_off() {
    let error = Ddl::parse("CREATE TABLE s.t (a timestamp(9) COMPRESSION x)", Some(&columns("a timestamp(9)")));
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("column `a` has the type timestamp(9), but the servers keep at most 6"),
        "{error}"
    );
    assert_eq!(error.path, [Segment::Key("columns"), Segment::Item(0), Segment::Key("type")]);
    assert!(Ddl::parse("CREATE TABLE s.t (a interval(7))", Some(&columns("a interval(7)"))).is_err());
    assert!(Ddl::parse("CREATE TABLE s.t (a timestamp(6), b time(0), c numeric(9))", None).is_ok());
}

#[test]
fn with_columns_only_the_outline_is_parsed() {
    for (names, ddl, dist, sort_key, plain) in [
        (
            "c int, encode int",
            "CREATE TABLE a.b (c INT ENCODE az64 DISTKEY, \"encode\" INT) INTERLEAVED SORTKEY (c, \"encode\") ENCODE AUTO",
            Some(Dist::Key { column: "c".into() }),
            sort(&["c", "encode"], true),
            "CREATE TABLE a.b (c INT, \"encode\" INT)",
        ),
        (
            "encode int NOT NULL, distkey int",
            "CREATE TABLE a.b (encode INT SORTKEY /* é */ NOT NULL, distkey INT)\nBACKUP NO DISTSTYLE KEY DISTKEY(distkey);",
            Some(Dist::Key { column: "distkey".into() }),
            sort(&["encode"], false),
            "CREATE TABLE a.b (encode INT /* é */ NOT NULL, distkey INT);",
        ),
        (
            "c text",
            "CREATE TABLE a.b (c TEXT DEFAULT encode('é', 'hex')) SORTKEY AUTO DISTSTYLE AUTO",
            Some(Dist::Auto),
            None,
            "CREATE TABLE a.b (c TEXT DEFAULT encode('é', 'hex'))",
        ),
    ] {
        let read = Ddl::parse(ddl, Some(&columns(names))).unwrap();
        assert_eq!((read.outline.dist.clone(), read.outline.sort.clone()), (dist, sort_key), "{ddl}");
        assert_eq!(read.sql(ddl, Dialect::Postgresql), plain);
        assert_eq!(read.sql(ddl, Dialect::Redshift), ddl);
    }
    assert!(Ddl::parse("DROP TABLE a.b", Some(&columns("c int"))).is_err());
    assert!(Ddl::parse("CREATE TABLE a.b (c INT)", Some(&[])).unwrap_err().to_string().contains("no columns"));
}

#[test]
fn redshift_attributes_need_no_explicit_columns() {
    let ddl = "CREATE TABLE a.b (
        id INT ENCODE az64 NOT NULL DISTKEY, -- the key
        at TIMESTAMP SORTKEY,
        name VARCHAR(10) ENCODE zstd DEFAULT 'x'
    ) INTERLEAVED SORTKEY (id, at) BACKUP NO";
    let read = Ddl::parse(ddl, None).unwrap();
    let Shape::Columns(columns) = &read.shape else { panic!("{read:?}") };
    let found: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.type_name.as_str(), c.null)).collect();
    assert_eq!(found, [("id", "INT", false), ("at", "TIMESTAMP", true), ("name", "VARCHAR(10)", true)]);
    assert_eq!(read.outline.dist, Some(Dist::Key { column: "id".into() }));
    assert_eq!(read.outline.sort, sort(&["id", "at"], true));
    assert_eq!(read.sql(ddl, Dialect::Redshift), ddl);
}

#[test]
fn comments_before_attributes_are_kept() {
    let columns = [Column { name: "b".into(), type_name: "int".into(), null: false }];
    for (ddl, plain) in [
        (
            "CREATE TABLE a.c (b INT -- must be there\n ENCODE az64 NOT NULL\n)",
            "CREATE TABLE a.c (b INT -- must be there\n NOT NULL\n)",
        ),
        (
            "CREATE TABLE a.c (b INT NOT NULL) -- x\r\n\nDISTSTYLE ALL TABLESPACE pg_default;",
            "CREATE TABLE a.c (b INT NOT NULL) -- x\r\n TABLESPACE pg_default;",
        ),
        (
            "CREATE TABLE a.c (b INT NOT NULL)\n\tSORTKEY -- x\n (b) TABLESPACE pg_default;",
            "CREATE TABLE a.c (b INT NOT NULL) TABLESPACE pg_default;",
        ),
        (
            "CREATE TABLE a.c (b INT ENCODE/* é */zstd\tNOT NULL) -- ENCODE x",
            "CREATE TABLE a.c (b INT\tNOT NULL) -- ENCODE x",
        ),
    ] {
        assert_eq!(Ddl::parse(ddl, Some(&columns)).unwrap().sql(ddl, Dialect::Postgresql), plain);
    }
}

#[test]
fn parses_keys_defaults_and_like() {
    let read = Ddl::parse(
        "CREATE TABLE a.b (id INT, \"Name\" TEXT NULL DEFAULT 'x', k INT PRIMARY KEY, PRIMARY KEY (id))",
        None,
    );
    let read = read.unwrap();
    assert!(read.says_more);
    let Shape::Columns(columns) = read.shape else { panic!() };
    let found: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.null)).collect();
    assert_eq!(found, [("id", false), ("Name", true), ("k", false)]);
    let read = Ddl::parse("create table A.\"B\" (like A.mart including defaults)", None).unwrap();
    assert_eq!(read.shape, Shape::Like(TableName::new("a", "mart")));
    assert_eq!(read.outline.table, TableName::new("a", "B"));
}

#[test]
fn tables_that_foreign_keys_refer_to_are_found() {
    let found =
        |ddl: &str| crate::resource::table::tokens::referenced(ddl).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        found("CREATE TABLE c.ch (a INT REFERENCES C.Par (id), b INT references c.\"Odd\")"),
        ["c.par", "c.\"Odd\""]
    );
    assert_eq!(found("CREATE TABLE c.ch (a INT, FOREIGN KEY (a) /* x */ REFERENCES c . par)"), ["c.par"]);
    assert!(found("CREATE TABLE c.ch (a TEXT DEFAULT 'REFERENCES c.par', \"references\" INT)").is_empty());
    assert!(found("CREATE TABLE c.ch (a INT REFERENCES par)").is_empty(), "the search path decides");
}

#[test]
fn an_expression_with_thousands_of_operators_is_parsed_or_refused() {
    // A stack overflow ends the process, and all tests with it.
    let with_default = |value: &str| Ddl::parse(&format!("CREATE TABLE a.b (c INT DEFAULT ({value}))"), None);
    let read = with_default(&("1 + ".repeat(30_000) + "1")).unwrap();
    assert!(matches!(read.shape, Shape::Columns(columns) if columns.len() == 1));
    let nested = format!("{}1{}", "(".repeat(20_000), ")".repeat(20_000));
    for (value, problem) in [("1 + ".repeat(60_000) + "1", "longer than 128 KiB"), (nested, "nested too deeply")] {
        let refused = with_default(&value).unwrap_err().failure.message;
        assert!(refused.contains(problem), "{refused}");
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(ddl in "(CREATE TABLE a.b )?[a-zA-Z(),.;'\"\\[ \né*/-]{0,60}") {
        let _read = Ddl::parse(&ddl, None);
        let columns = [Column { name: "c".into(), type_name: "int".into(), null: true }];
        let _read = Ddl::parse(&ddl, Some(&columns));
    }
}
