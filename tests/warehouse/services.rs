//! Service files and `PG*` variables: a connection reaches the same server, database and user as psql with the same settings.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use provision::failure::Failure;
use provision::host::environment::Environment;
use provision::host::warehouse::ClientDefaults;

use crate::cluster::{PASSWORD, free_port, program, shared};
use crate::kit::{connect_from, spec};

/// Settings under which psql and the program are started.
struct Client {
    variables: Vec<(&'static str, String)>,
    folder: tempfile::TempDir,
}

impl Client {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let variables = vec![("HOME", path("home")), ("PGSYSCONFDIR", path("etc"))];
        for name in ["home", "etc"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { variables, folder }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.into()));
        self
    }

    fn write(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn defaults(&self) -> ClientDefaults {
        let environment: Environment =
            self.variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        ClientDefaults::of(&environment)
    }

    /// What psql prints, if it can connect.
    fn psql(&self, url: &str, sql: &str) -> Option<String> {
        let mut psql = Command::new(program("psql"));
        psql.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = psql.args(["-XqAtw", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    }

    /// Checks that both reach the same place, and returns its user and database.
    async fn same_place(&self, url: &str) -> String {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let mark = format!("mark_{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let place =
            "SELECT current_user::text || '@' || current_database()::text || ':' || current_setting('port') AS place";
        let warehouse = connect_from(self.defaults(), url, "", None);
        let create = format!("CREATE TABLE public.{mark} AS {place}");
        let made = warehouse.execute("cannot leave a mark", &create, |_| Ok(false)).await;
        made.unwrap_or_else(|failure| panic!("{url}: {failure:?}"));
        let there = self.psql(url, place).unwrap_or_else(|| panic!("psql cannot connect: {url}"));
        assert_eq!(
            self.psql(url, &format!("SELECT place FROM public.{mark}")).as_deref(),
            Some(there.as_str()),
            "{url}"
        );
        there.rsplit_once(':').unwrap().0.to_owned()
    }
}

/// A user who may create tables in the database, with the password of the tests.
fn user_of(database: &str) -> String {
    let user = format!("service_{database}");
    let quoted = PASSWORD.replace('\'', "''");
    shared().psql(database, &format!("CREATE USER {user} SUPERUSER PASSWORD '{quoted}'"));
    user
}

#[tokio::test]
async fn services_lead_where_they_lead_psql() {
    let (port, database, other) = (shared().port, shared().database(), shared().database());
    let user = user_of(&database);
    let service = format!(
        "# services\n[other]\nhost=127.0.0.1\nport=1\n\n [wh] \nhost=127.0.0.1\nport={port}\ndbname={database}\nuser={user}\n\
         \tpassword={PASSWORD}\nsslmode=disable\nport=1\nclient_encoding=UTF8\n[wh]\nuser=nobody\n"
    );
    let own = || Client::new().write("home/.pg_service.conf", &service);
    let system =
        || Client::new().write("etc/pg_service.conf", &service).write("home/.pg_service.conf", "[x]\nhost=x\n");
    let named = || {
        let client = Client::new().write("named", &service).write("home/.pg_service.conf", "[wh]\nhost=x\n");
        let path = client.folder.path().join("named").display().to_string();
        client.with("PGSERVICEFILE", path)
    };
    for client in [own(), system(), named()] {
        assert_eq!(client.same_place("service=wh").await, format!("{user}@{database}"));
    }
    for (url, place) in [
        ("postgresql:///?service=wh".to_owned(), format!("{user}@{database}")),
        (format!("postgresql:///{other}?service=wh"), format!("{user}@{other}")),
        (format!("service=wh dbname={other} user=postgres"), format!("postgres@{other}")),
        (format!("service=wh host=localhost dbname={other}"), format!("{user}@{other}")),
    ] {
        assert_eq!(own().same_place(&url).await, place, "{url}");
    }
    // The service comes before the variables, and `PGSERVICE` names one for a URL without one.
    let busy = own().with("PGSERVICE", "wh").with("PGUSER", "nobody").with("PGPORT", "1").with("PGHOST", "10.6.6.6");
    assert_eq!(busy.same_place(&format!("dbname={other}")).await, format!("{user}@{other}"));
    assert_eq!(busy.same_place(&format!("postgresql://127.0.0.1/{other}")).await, format!("{user}@{other}"));
}

#[tokio::test]
async fn variables_lead_where_they_lead_psql() {
    let (port, database) = (shared().port.to_string(), shared().database());
    let user = user_of(&database);
    let all = || {
        let client = Client::new().with("PGHOST", "127.0.0.1").with("PGPORT", &port).with("PGSSLMODE", "disable");
        client.with("PGUSER", &user).with("PGDATABASE", &database).with("PGPASSWORD", PASSWORD)
    };
    for url in ["postgresql://", "sslmode=prefer", "postgresql:///?sslmode=prefer", "postgresql://localhost"] {
        assert_eq!(all().same_place(url).await, format!("{user}@{database}"), "{url}");
    }
    let addressed = all().with("PGHOST", "").with("PGHOSTADDR", "127.0.0.1");
    assert_eq!(addressed.same_place("postgresql://").await, format!("{user}@{database}"));
    let socket = all().with("PGHOST", shared().folder.display().to_string()).with("PGPASSWORD", "");
    assert_eq!(socket.same_place("postgresql://").await, format!("{user}@{database}"));
    // The password file is for the server that the variables name.
    let escaped = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    let files =
        all().with("PGPASSWORD", "").write("home/.pgpass", &format!("127.0.0.1:{port}:{database}:{user}:{escaped}\n"));
    let path = files.folder.path().join("home/.pgpass");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(files.same_place("postgresql://").await, format!("{user}@{database}"));
    let options = all().with("PGOPTIONS", "-c role=postgres");
    assert_eq!(options.same_place("postgresql://").await, format!("postgres@{database}"));
}

/// Not even where libpq would be led elsewhere, by `PGHOSTADDR`.
#[tokio::test]
async fn a_complete_url_is_not_led_elsewhere() {
    let (port, database) = (shared().port, shared().database());
    let user = user_of(&database);
    let busy = Client::new()
        .write("home/.pg_service.conf", "[evil]\nhost=10.6.6.6\nport=1\nuser=evil\ndbname=evil\npassword=evil\n")
        .with("PGSERVICE", "evil")
        .with("PGHOST", "10.6.6.6")
        .with("PGPORT", "1")
        .with("PGUSER", "evil")
        .with("PGDATABASE", "evil")
        .with("PGPASSWORD", "evil");
    let password = percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC);
    let url = format!("postgresql://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable");
    assert_eq!(busy.same_place(&url).await, format!("{user}@{database}"));
    let addressed = busy.with("PGHOSTADDR", "10.6.6.6").write("home/.pg_service.conf", "[evil]\nhostaddr=10.6.6.6\n");
    connect_from(addressed.defaults(), &url, "connect_timeout: 3", None).catalog().await.unwrap();
}

/// libpq would send it there.
#[tokio::test]
async fn the_password_of_a_service_is_not_sent_to_another_server() {
    let (port, database) = (shared().port, shared().database());
    let user = user_of(&database);
    let url = format!("postgresql://{user}@127.0.0.1:{port}/{database}?sslmode=disable");
    for (service, is_sent) in [
        (format!("host=127.0.0.1\nport={port}"), true),
        ("host=127.0.0.1\nport=1".to_owned(), false),
        (format!("host=db.example\nport={port}"), false),
        (format!("hostaddr=10.6.6.6\nport={port}"), false),
    ] {
        let client = Client::new()
            .write("home/.pg_service.conf", &format!("[wh]\n{service}\nuser=u\npassword={PASSWORD}\n"))
            .with("PGSERVICE", "wh");
        let read = connect_from(client.defaults(), &url, "connect_timeout: 3", None).catalog().await;
        let shown = read.map(|catalog| catalog.user.clone()).map_err(|failure| failure.message);
        match is_sent {
            true => assert_eq!(shown.unwrap(), user, "{service}"),
            false => assert!(shown.as_ref().is_err_and(|message| message.contains("password")), "{service}: {shown:?}"),
        }
    }
}

#[tokio::test]
async fn the_password_of_a_service_is_never_shown() {
    let port = free_port();
    let client = Client::new().write(
        "home/.pg_service.conf",
        &format!("[wh]\nhost=127.0.0.1\nport={port}\nuser=u\npassword=hunter2-canary\n"),
    );
    let parsed = spec("url: service=wh").completed(&client.defaults()).unwrap();
    assert_eq!(parsed.password_in_url().unwrap().expose(), b"hunter2-canary");
    let failure = connect_from(client.defaults(), "service=wh", "", None).catalog().await.unwrap_err();
    let shown = format!("{parsed:?} {} {failure:?}", parsed.settings());
    assert!(!shown.contains("hunter2") && shown.contains("refused the connection"), "{shown}");
}

/// Root reads no service file that others can change; other users read what they may.
#[test]
fn root_trusts_no_service_file_of_others() {
    assert!(nix::unistd::geteuid().is_root());
    let completed = |client: &Client| spec("url: service=wh").completed(&client.defaults());
    let client = Client::new().write("home/.pg_service.conf", "[wh]\nhost=db.example\n");
    let (file, home) = (client.folder.path().join("home/.pg_service.conf"), client.folder.path().join("home"));
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    completed(&client).unwrap();
    for (path, bad, good) in [(&file, 0o666, 0o644), (&file, 0o664, 0o644), (&home, 0o777, 0o755)] {
        mode(path, bad);
        let failure = Failure::from(completed(&client).unwrap_err());
        assert!(failure.message.contains("others can write to it"), "{failure:?}");
        mode(path, good);
        completed(&client).unwrap();
    }
    for path in [&file, &home] {
        // A user who has no name on any machine.
        std::os::unix::fs::chown(path, Some(54321), None).unwrap();
        let failure = Failure::from(completed(&client).unwrap_err());
        assert!(failure.message.contains("it belongs to 54321"), "{failure:?}");
        assert!(failure.hint.unwrap().contains("name it in PGSERVICEFILE"));
        std::os::unix::fs::chown(path, Some(0), None).unwrap();
    }
}
