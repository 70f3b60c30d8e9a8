//! How services and variables complete a connection string.

use super::*;

const FILE: &str = "\
# comment
[other]
host=other.example
 [wh]
host=db.example
port=5439
   user=etl
dbname=d w
# comment = with
client_encoding=utf8

password=hunter2 = x
port=1
[wh]
sslmode=disable
[nested]
service=wh
[typo]
prot=hunter2
[rest]
hunter2
[strict]
require_auth=scram-sha-256
";

fn defaults(variables: &[(&str, &str)]) -> ClientDefaults {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    ClientDefaults::of(&variables.collect())
}

fn completed(text: &str, variables: &[(&str, &str)]) -> Result<Endpoint, Failure> {
    from(text, &defaults(variables)).map_err(Failure::from)
}

#[test]
fn variables_complete_the_url() {
    let all = [
        ("PGHOST", "env.example"),
        ("PGPORT", "6432"),
        ("PGUSER", "env_user"),
        ("PGDATABASE", "env_db"),
        ("PGSSLMODE", "require"),
        ("PGSSLROOTCERT", "/env.pem"),
        ("PGOPTIONS", "-c a=b"),
        ("PGPASSWORD", "hunter2"),
    ];
    for (text, shown) in [
        ("postgresql://", "Endpoint(env_user@env.example:6432/env_db)"),
        ("postgresql:///dw", "Endpoint(env_user@env.example:6432/dw)"),
        ("dbname=dw", "Endpoint(env_user@env.example:6432/dw)"),
        ("postgresql://etl@db.example/dw", "Endpoint(etl@db.example:6432/dw)"),
        ("postgresql://etl@db.example:5439/dw", "Endpoint(etl@db.example:5439/dw)"),
        ("postgresql://etl@one:1,two/dw", "Endpoint(etl@one:1,two:5432/dw)"),
    ] {
        let endpoint = completed(text, &all).unwrap();
        assert_eq!(format!("{endpoint:?}"), shown, "{text}");
        assert_eq!(endpoint.settings["sslmode"], "require");
        assert_eq!(endpoint.settings["options"], "-c a=b");
        assert_eq!(endpoint.password.as_ref().unwrap().expose(), b"hunter2");
        assert!(!format!("{:?}{:?}", endpoint.settings, defaults(&all)).contains("hunter2"));
    }
    let given = completed("postgresql://u:own@h/d?sslmode=disable", &all).unwrap();
    assert_eq!(given.settings["sslmode"], "disable");
    assert_eq!(given.password.unwrap().expose(), b"own");
}

#[test]
fn variables_do_not_redirect_a_url_with_a_host() {
    let variables = [("PGHOST", "evil.example"), ("PGHOSTADDR", "10.6.6.6")];
    for text in ["postgresql://etl@db.example:5439/dw", "host=db.example", "hostaddr=10.0.0.9", "host=/run/pg"] {
        let (with, without) = (completed(text, &variables).unwrap(), completed(text, &[]).unwrap());
        assert_eq!(with.settings, without.settings, "{text}");
    }
    let addressed = completed("postgresql:///dw", &variables).unwrap();
    assert_eq!(addressed.settings["hostaddr"], "10.6.6.6");
}

#[test]
fn empty_variables_are_ignored() {
    let failure = completed("postgresql:///dw", &[("PGHOST", ""), ("PGSERVICE", "")]).unwrap_err();
    assert_eq!(failure.message, "the connection has no host: write postgresql://USER@HOST:PORT/DATABASE");
}

#[test]
fn a_wrong_value_is_reported_with_its_source() {
    let failure = completed("postgresql://u@h/d", &[("PGSSLMODE", "hunter2"), ("PGPORT", "1")]).unwrap_err();
    assert!(failure.message.contains("`sslmode` has to be one of"), "{failure:?}");
    assert!(failure.message.ends_with("(settings also come from PGPORT, PGSSLMODE)"), "{failure:?}");
    assert!(!failure.message.contains("hunter2"), "{failure:?}");
}

fn from(text: &str, defaults: &ClientDefaults) -> Result<Endpoint, Incomplete> {
    defaults.complete(&text.parse().unwrap())
}

struct Files {
    folder: tempfile::TempDir,
    defaults: ClientDefaults,
}

/// Creates a home directory with the service file.
fn files() -> Files {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".pg_service.conf"), FILE).unwrap();
    let defaults = ClientDefaults {
        home: Some(folder.path().to_owned()),
        system_folder: Some(folder.path().join("etc")),
        ..ClientDefaults::default()
    };
    Files { folder, defaults }
}

#[test]
fn a_service_completes_the_connection_string() {
    let Files { folder: _folder, defaults } = files();
    for (text, shown) in [
        ("service=wh", "Endpoint(etl@db.example:5439/d w)"),
        ("postgresql:///?service=wh", "Endpoint(etl@db.example:5439/d w)"),
        ("postgresql://dbt@/dw?service=wh", "Endpoint(dbt@db.example:5439/dw)"),
        ("host=near.example service=wh", "Endpoint(etl@near.example:5439/d w)"),
    ] {
        let endpoint = from(text, &defaults).unwrap();
        assert_eq!(format!("{endpoint:?}"), shown, "{text}");
        assert_eq!(endpoint.password.as_ref().unwrap().expose(), b"hunter2 = x");
        assert!(!endpoint.settings.contains_key("sslmode"), "only the first section counts");
        assert!(!endpoint.settings.contains_key("password"));
    }
    let by_variable = ClientDefaults { service: Some("wh".into()), ..defaults };
    assert_eq!(format!("{:?}", from("dbname=dw", &by_variable).unwrap()), "Endpoint(etl@db.example:5439/dw)");
    let kept = from("postgresql://dbt@mine.example/dw", &by_variable).unwrap();
    assert_eq!(kept.servers()[0].to_string(), "mine.example:5439");
}

#[test]
fn the_users_file_comes_before_the_systems() {
    let Files { folder, defaults } = files();
    let etc = folder.path().join("etc");
    std::fs::create_dir(&etc).unwrap();
    std::fs::write(etc.join("pg_service.conf"), "[wh]\nhost=system\n[system]\nhost=system\n").unwrap();
    let host = |text: &str, defaults: &ClientDefaults| from(text, defaults).unwrap().settings["host"].clone();
    assert_eq!(host("service=wh", &defaults), "db.example");
    assert_eq!(host("service=system", &defaults), "system");
    let named = folder.path().join("named");
    std::fs::write(&named, "[named]\nhost=named\n").unwrap();
    let with_file = ClientDefaults { service_file: Some(named), ..defaults.clone() };
    assert_eq!(host("service=named", &with_file), "named");
    // `PGSERVICEFILE` takes the place of the user's own file, but not of the system's.
    assert_eq!(host("service=wh", &with_file), "system");
    let absent = ClientDefaults { service_file: Some(folder.path().join("absent")), ..defaults };
    assert!(Failure::from(from("service=wh", &absent).unwrap_err()).message.ends_with("absent does not exist"));
}

#[test]
fn errors_name_the_line_and_never_the_value() {
    let Files { folder: _folder, defaults } = files();
    for (text, reason) in [
        ("service=absent", "service `absent` is not defined in "),
        ("service=nested", ".pg_service.conf:17: a service cannot name another service"),
        ("service=typo", ".pg_service.conf:19: unknown connection option `prot`: did you mean `port`?"),
        ("service=rest", ".pg_service.conf:21: expected key=value"),
        ("service=strict", ".pg_service.conf:23: the connection option `require_auth` is not supported: remove it"),
    ] {
        let failure = Failure::from(from(text, &defaults).unwrap_err());
        assert!(failure.message.contains(reason), "{text}: {failure:?}");
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    }
    let nowhere = from("service=wh", &ClientDefaults::default());
    assert!(Failure::from(nowhere.unwrap_err()).message.contains("`wh` is not defined"));
    let by_variable = ClientDefaults { service: Some("absent".into()), ..defaults };
    let failure = Failure::from(from("dbname=dw", &by_variable).unwrap_err());
    assert!(failure.message.starts_with("service `absent`, which PGSERVICE names, is not defined in"), "{failure:?}");
}

/// A service that only `PGSERVICE` names does not lead a connection elsewhere, and its password stays with its own server.
#[test]
fn a_services_password_is_only_for_the_services_own_server() {
    let Files { folder: _folder, defaults } = files();
    let write = |text: &str| std::fs::write(defaults.home.as_ref().unwrap().join(".pg_service.conf"), text).unwrap();
    let by_variable = ClientDefaults { service: Some("s".into()), ..defaults.clone() };
    for (service, url, is_sent) in [
        // The service's own server, named or not.
        ("host=db.example\nport=5439", "dbname=dw", true),
        ("host=db.example\nport=5439", "postgresql://me@db.example/dw", true),
        ("host=db.example\nport=5439", "postgresql://me@db.example:5439/dw", true),
        ("host=db.example", "postgresql://me@db.example:5432/dw", true),
        ("host=DB.example", "postgresql://me@db.example/dw", true),
        ("hostaddr=10.0.0.9", "hostaddr=10.0.0.9 dbname=dw", true),
        ("host=a.example,b.example", "postgresql://me@a.example,b.example/dw", true),
        // A service without a server is for any.
        ("user=etl", "postgresql://db.example/dw", true),
        // Any other server.
        ("host=db.example\nport=5439", "postgresql://me@other.example/dw", false),
        ("host=db.example\nport=5439", "postgresql://me@127.0.0.1:5439/dw", false),
        ("host=db.example\nport=5439", "postgresql://me@db.example:54399/dw", false),
        ("host=db.example", "postgresql://me@db.example:5439/dw", false),
        ("host=db.example", "host=/run/postgresql dbname=dw", false),
        ("host=db.example", "hostaddr=10.6.6.6 dbname=dw", false),
        ("host=db.example\nhostaddr=10.0.0.9", "postgresql://me@db.example/dw", false),
        ("host=db.example", "host=db.example hostaddr=10.6.6.6 dbname=dw", false),
        ("host=a.example,b.example", "postgresql://me@a.example/dw", false),
        ("host=a.example", "postgresql://me@a.example,evil.example/dw", false),
    ] {
        write(&format!("[s]\n{service}\npassword=hunter2\n"));
        let endpoint = from(url, &by_variable).unwrap();
        assert_eq!(endpoint.password.is_some(), is_sent, "{service:?} and {url}");
        // A password of the user's own environment is for the server that the URL names.
        let with_own = ClientDefaults { password: Some(Secret::new(b"own".to_vec())), ..by_variable.clone() };
        let sent = from(url, &with_own).unwrap().password.unwrap();
        assert_eq!(sent.expose(), if is_sent { b"hunter2".as_slice() } else { b"own" }, "{service:?} and {url}");
    }
    let other_port = ClientDefaults { settings: [("port", ("PGPORT", "5439".into()))].into(), ..by_variable };
    write("[s]\nhost=db.example\npassword=hunter2\n");
    assert!(from("postgresql://me@db.example:5439/dw", &other_port).unwrap().password.is_some());
    assert!(from("postgresql://me@db.example:5432/dw", &other_port).unwrap().password.is_none());
}

#[test]
fn a_service_that_is_not_needed_may_be_unusable() {
    let Files { folder: _folder, defaults } = files();
    for service in ["absent", "typo", "nested"] {
        let defaults = ClientDefaults { service: Some(service.into()), ..defaults.clone() };
        for (url, is_needed) in [
            ("postgresql://me@db.example/dw", false),
            ("hostaddr=10.0.0.9 user=me dbname=dw", false),
            ("postgresql://me@/dw", true),
            ("postgresql://db.example/dw", true),
            ("postgresql://me@db.example", true),
            ("postgresql://me@db.example/dw?service=absent", true),
        ] {
            let completed = from(url, &defaults);
            assert_eq!(completed.is_err(), is_needed, "PGSERVICE={service} and {url}");
            assert!(completed.err().is_none_or(|incomplete| matches!(incomplete, Incomplete::OfHost(_))), "{url}");
        }
    }
}
