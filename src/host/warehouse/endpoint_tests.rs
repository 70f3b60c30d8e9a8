use super::*;

fn read(text: &str) -> Endpoint {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn parses_urls_and_key_value_strings() {
    for text in [
        "postgresql://etl:p%40ss@db.example:5439/dev?sslmode=require&connect_timeout=7",
        "postgres://etl:p@ss@db.example:5439/dev?sslmode=require&connect_timeout=7",
        "host=db.example port=5439 user=etl password=p@ss dbname=dev sslmode=require connect_timeout=7",
        " host = 'db.example' port=5439 user=etl password = 'p@ss' dbname=dev sslmode='require' connect_timeout=7 ",
    ] {
        let endpoint = read(text);
        assert_eq!(endpoint.user(), "etl", "{text}");
        assert_eq!(endpoint.database(), "dev", "{text}");
        assert_eq!(endpoint.servers()[0].to_string(), "db.example:5439", "{text}");
        assert_eq!(endpoint.password.as_ref().unwrap().expose(), b"p@ss", "{text}");
        assert_eq!(endpoint.sslmode, Some(SslMode::Require), "{text}");
        assert_eq!(endpoint.config.get_connect_timeout(), Some(&Duration::from_secs(7)), "{text}");
        assert_eq!(endpoint.config.get_application_name(), Some("provision"), "{text}");
        assert_eq!(endpoint.config.get_password(), None, "{text}");
        assert!(!format!("{endpoint:?}").contains("ss@db"), "{endpoint:?}");
    }
}

#[test]
fn parses_sockets_lists_and_ipv6() {
    let socket = read("postgresql://u@%2Frun%2Fpg:5433/d").servers();
    assert_eq!(socket[0].to_string(), "/run/pg/.s.PGSQL.5433");
    assert!(socket[0].is_local());
    let list: Vec<_> = read("postgresql://u@one:1,two,[::1]:3/d").servers().iter().map(ToString::to_string).collect();
    assert_eq!(list, ["one:1", "two:5432", "[::1]:3"]);
    let pinned = read("host=db.example hostaddr=10.0.0.9 user=u").servers();
    assert_eq!(pinned[0].name.as_deref(), Some("db.example"));
    assert!(matches!(&pinned[0].host, Host::Tcp(address) if address == "10.0.0.9"));
}

#[test]
fn keeps_quotes_and_backslashes() {
    let endpoint = read(r"host=h user='o\'brien \\ co' dbname=a\ b");
    assert_eq!(endpoint.user(), r"o'brien \ co");
    assert_eq!(endpoint.database(), "a b");
}

#[test]
fn errors_contain_the_key_but_never_a_value() {
    for (text, reason) in [
        ("mysql://u:hunter2@h/d", "starts with postgresql://"),
        ("jdbc:redshift://h/d", "starts with postgresql://"),
        ("host=h sslmod=hunter2", "did you mean `sslmode`?"),
        ("host=h sslmode=hunter2", "`sslmode` has to be one of"),
        ("host=h port=hunter2", "`port`"),
        ("host=h connect_timeout=hunter2", "`connect_timeout`"),
        ("postgresql://u:hunter2/x@h/d", "as %2F"),
        ("postgresql://u:hunter2/x", "not a number"),
        ("postgresql://u:hunter2%@h/d", "write it as %25"),
        ("postgresql://u:hunter2@h:1,h:2,h:3/d?port=1,2", "neither one port"),
        ("host=h password='hunter2", "not closed"),
        ("hunter2", "neither a postgresql:// URL nor"),
        ("host=h sslrootcert=system sslmode=require", "needs `sslmode=verify-full`"),
        ("host=h sslcert=/c", "have to be given together"),
        ("host=h ssl=true", "write sslmode=require"),
        ("postgresql://u@h/d?ssl=false", "write sslmode=disable"),
        ("postgresql://u@h/d?ssl=hunter2", "write sslmode=require"),
        (
            "host=h target_session_attrs=hunter2",
            "has to be one of any, read-write, read-only, primary, standby, prefer-standby",
        ),
        ("host=h channel_binding=require sslmode=disable", "`channel_binding=require` needs TLS"),
        ("postgresql://h/d?hunter2", "as %3F and %26"),
        ("host=h servicefile=hunter2", "`servicefile` is not supported"),
        ("postgresql://u@h/d?sslcrl=hunter2", "`sslcrl` is not supported"),
        ("host=h hunter2zzzzzz=1", "an unknown option"),
    ] {
        let found = text.parse::<Endpoint>().unwrap_err().message;
        assert!(found.contains(reason), "{text}: {found}");
        assert!(!found.contains("hunter2"), "{text}: {found}");
    }
}

#[test]
fn urls_of_other_programs_are_rewritten_without_their_password() {
    for (text, url) in [
        (
            "redshift://etl:hunter2@db.example:5439/dw",
            "postgresql://etl@db.example:5439/dw, and the password under `password:`",
        ),
        (
            "jdbc:redshift://db.example:5439/dw?user=etl&password=hunter2&ssl=true",
            "postgresql://etl@db.example:5439/dw, and the password under `password:`",
        ),
        (
            "jdbc:redshift:iam://db.example:5439/dw;UID=etl;PWD=hunter2",
            "postgresql://etl@db.example:5439/dw, and the password under `password:`",
        ),
        ("jdbc:postgresql://db.example/dw", "postgresql://db.example/dw"),
        ("postgresql+psycopg2://e%40tl@db.example/d%20w", "postgresql://e%40tl@db.example/d%20w"),
        ("redshift+redshift_connector://etl@[::1]:5439/dw", "postgresql://etl@[::1]:5439/dw"),
    ] {
        let failure = text.parse::<Endpoint>().unwrap_err();
        assert_eq!(failure.hint, Some(format!("write {url}")), "{text}");
        let (pasted, _) = url.split_once(", and").unwrap_or((url, ""));
        assert_eq!(read(pasted).servers().len(), 1, "{text}");
    }
    for text in ["redshift://u:hunter2/x@h/d", "redshift://u:hunter2%@h/d", "mysql://u@h/d"] {
        assert_eq!(text.parse::<Endpoint>().unwrap_err().hint, None, "{text}");
    }
}

#[test]
fn ssl_of_jdbc_means_what_it_means_to_libpq() {
    assert_eq!(read("postgresql://u@h/d?ssl=true").sslmode, Some(SslMode::Require));
    assert_eq!(read("postgresql://u@h/d?sslmode=verify-ca&ssl=true").sslmode, Some(SslMode::VerifyCa));
}

proptest::proptest! {
    #[test]
    fn never_panics_and_never_shows_a_password(password in "[ -~]{8,20}") {
        let text = format!("postgresql://u:{password}@h:1/d");
        match text.parse::<Endpoint>() {
            Err(error) => {
                let shown = format!("{error:?}");
                proptest::prop_assert!(!shown.contains(&password), "{}", shown);
            }
            Ok(endpoint) => {
                let shown = format!("{endpoint:?}");
                proptest::prop_assert!(!shown.contains(&password), "{}", shown);
            }
        }
    }

    #[test]
    fn escaped_passwords_are_decoded(password in "\\PC{1,20}") {
        let escaped = percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC);
        let endpoint: Endpoint = format!("postgresql://u:{escaped}@h/d").parse().unwrap();
        let secret = endpoint.password.unwrap();
        proptest::prop_assert_eq!(secret.expose(), password.as_bytes());
    }
}
