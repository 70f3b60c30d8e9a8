//! Each cause of a failed connection has its own message and hint, and none contains the password.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use provision::failure::Failure;
use provision::host::warehouse::ClientDefaults;

use crate::certificates::Authority;
use crate::cluster::{Cluster, PASSWORD, free_port, shared};
use crate::kit::{connect_from, connect_with};

const SECRET: &str = "hunter2-canary";

async fn failure(url: &str, lines: &str, password: Option<&str>) -> Failure {
    let failure = connect_with(url, lines, password).catalog().await.expect_err(url);
    for secret in [SECRET, PASSWORD] {
        assert!(!format!("{failure:?}").contains(secret), "{failure:?}");
    }
    failure
}

async fn works(url: &str, password: Option<&str>) {
    connect_with(url, "", password).catalog().await.unwrap_or_else(|failure| panic!("{url}: {failure:?}"));
}

#[track_caller]
fn assert_failure(failure: &Failure, message: &str, hint: &str) {
    assert!(failure.message.contains(message), "{failure:?}");
    assert!(failure.hint.as_deref().unwrap_or_default().contains(hint), "{failure:?}");
}

#[tokio::test]
async fn failed_logins_have_specific_reasons() {
    let port = shared().port;
    let url = |user: &str, database: &str| format!("postgresql://{user}@127.0.0.1:{port}/{database}?sslmode=disable");
    works(&url("postgres", "postgres"), Some(PASSWORD)).await;
    works(&url("postgres", "postgres"), Some(&format!("{PASSWORD}\n"))).await;
    let wrong = failure(&url("postgres", "postgres"), "", Some(SECRET)).await;
    assert_failure(&wrong, "wrong password for user postgres", "correct the connection's `password`");
    let padded = failure(&url("postgres", "postgres"), "password: { env: P }", Some(&format!("{SECRET} "))).await;
    assert_failure(&padded, "the secret from environment variable P ends with a space, and is used with that", "");
    let in_url = failure(&url(&format!("postgres:{SECRET}"), "postgres"), "", None).await;
    assert_failure(&in_url, "wrong password for user postgres", "");
    let none = failure(&url("postgres", "postgres"), "", None).await;
    assert_failure(&none, "requires a password, but none is given", "`password:`");
    let database = failure(&url("postgres", "nowhere"), "", Some(PASSWORD)).await;
    assert_failure(&database, "database nowhere does not exist", "end of the URL");
    let options = format!("{}&options=-c%20search_path%3Dpg_catalog", url("postgres", "postgres"));
    works(&options, Some(PASSWORD)).await;
}

#[tokio::test]
async fn unreachable_servers_have_specific_reasons() {
    let port = free_port();
    let refused = failure(&format!("postgresql://u:{SECRET}@127.0.0.1:{port}/d"), "", None).await;
    assert_failure(&refused, "refused the connection", "PostgreSQL 5432, Redshift 5439");
    let unknown = failure(&format!("postgresql://u:{SECRET}@warehouse.invalid/d"), "", None).await;
    assert_failure(&unknown, "unknown host: warehouse.invalid:5432", "DNS");
    let socket = failure("host=/nowhere user=u", "", None).await;
    assert_failure(&socket, "no such socket: /nowhere/.s.PGSQL.5432", "running");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://u:{SECRET}@127.0.0.1:{}/d", silent.local_addr().unwrap().port());
    assert_failure(&failure(&url, "connect_timeout: 1", None).await, "did not answer within 1 s", "firewall");
    let second = format!("host=127.0.0.1,127.0.0.1 port={port},{} user=postgres sslmode=disable", shared().port);
    works(&second, Some(PASSWORD)).await;
}

/// A server that gives every login the same answer, unlike any real server here.
fn answering(bytes: &'static [u8]) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut startup = [0; 512];
            let _read = stream.read(&mut startup).unwrap();
            stream.write_all(bytes).unwrap();
            let _closed = stream.read(&mut startup);
        }
    });
    port
}

#[tokio::test]
async fn an_unsupported_sha256_password_is_explained() {
    let port = answering(b"R\0\0\0\x10\0\0\0\x0d\0\0\0\0\0\0\0\0");
    let url = format!("postgresql://etl:{SECRET}@127.0.0.1:{port}/d?sslmode=disable");
    assert_failure(
        &failure(&url, "", None).await,
        "the password is stored as `sha256|…`",
        "ALTER USER etl PASSWORD 'md5…'",
    );
    let port = answering(b"R\0\0\0\x08\0\0\0\x07");
    let url = format!("postgresql://etl:{SECRET}@127.0.0.1:{port}/d?sslmode=disable");
    assert_failure(&failure(&url, "", None).await, "an unsupported authentication method", "password authentication");
    let port = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let url = format!("postgresql://etl:{SECRET}@127.0.0.1:{port}/d?sslmode=disable");
    assert_failure(&failure(&url, "", None).await, "", "");
}

#[tokio::test]
async fn tls_follows_sslmode() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let root = authority.write(&folder.path().join("root.pem"));
    let foreign = Authority::new().write(&folder.path().join("foreign.pem"));
    let cluster = Cluster::start(&[]);
    let plain = format!("host=db.example hostaddr=127.0.0.1 port={} user=postgres dbname=postgres", cluster.port);
    let none = failure(&plain, "", Some(PASSWORD)).await;
    assert_failure(
        &none,
        "does not support TLS, but the connection requires it (sslmode=verify-full, the default",
        "sslmode=disable",
    );
    works(&format!("{plain} sslmode=prefer"), Some(PASSWORD)).await;
    works(&format!("host=localhost hostaddr=127.0.0.1 port={} user=postgres", cluster.port), Some(PASSWORD)).await;

    serve_with(&cluster, &authority, "db.example", false);
    let with = |mode: &str, root: &Path| format!("{plain} sslmode={mode} sslrootcert={}", root.display());
    works(&with("verify-full", &root), Some(PASSWORD)).await;
    works(&format!("{plain} sslmode=require"), Some(PASSWORD)).await;
    let untrusted = "is not issued by a trusted authority";
    assert_failure(&failure(&plain, "", Some(PASSWORD)).await, untrusted, "`sslrootcert`");
    assert_failure(&failure(&with("verify-ca", &foreign), "", Some(PASSWORD)).await, untrusted, "`sslrootcert`");
    assert_failure(&failure(&with("require", &foreign), "", Some(PASSWORD)).await, untrusted, "`sslrootcert`");
    assert_failure(
        &failure(&with("verify-full", Path::new("/nowhere")), "", None).await,
        "cannot read the certificates",
        "PEM",
    );
    // One server requires TLS, and one rejects it.
    only(&cluster, "hostssl");
    works(&format!("{plain} sslmode=allow"), Some(PASSWORD)).await;
    let clear = failure(&format!("{plain} sslmode=disable"), "", Some(PASSWORD)).await;
    assert_failure(
        &clear,
        "does not allow user postgres to connect to database postgres from this host",
        "sslmode=require",
    );
    only(&cluster, "hostnossl");
    works(&format!("{plain} sslmode=prefer"), Some(PASSWORD)).await;
    only(&cluster, "host");

    serve_with(&cluster, &authority, "other.example", false);
    let mismatch = failure(&with("verify-full", &root), "", Some(PASSWORD)).await;
    assert_failure(&mismatch, "is for another name", "instead of db.example");
    works(&with("verify-ca", &root), Some(PASSWORD)).await;
    serve_with(&cluster, &authority, "db.example", true);
    assert_failure(&failure(&with("verify-full", &root), "", Some(PASSWORD)).await, "has expired", "renew");
    let encrypted = cluster.psql("postgres", "SHOW ssl");
    assert_eq!(encrypted, "on");
}

/// Gives the server a certificate and makes it reload its settings.
pub fn serve_with(cluster: &Cluster, authority: &Authority, host: &str, expired: bool) {
    let data = cluster.folder.join("data");
    authority.sign(&data, host, expired);
    let key = data.join("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(
        Command::new("chown")
            .arg("postgres:postgres")
            .arg(&key)
            .arg(data.join("server.crt"))
            .status()
            .unwrap()
            .success()
    );
    cluster.psql("postgres", "ALTER SYSTEM SET ssl = on");
    cluster.reload();
}

/// Allows TCP only by one type of line in pg_hba.conf.
fn only(cluster: &Cluster, sort: &str) {
    let lines = format!("local all all trust\n{sort} all all 127.0.0.1/32 scram-sha-256\n");
    std::fs::write(cluster.folder.join("data/pg_hba.conf"), lines).unwrap();
    cluster.reload();
}

#[tokio::test]
async fn password_files_are_read_by_libpqs_rules() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".pgpass");
    let escaped = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    std::fs::write(&file, format!("127.0.0.1:{}:*:postgres:{escaped}\n", shared().port)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let url = format!("postgresql://postgres@127.0.0.1:{}/postgres?sslmode=disable", shared().port);
    let home = || ClientDefaults { home: Some(folder.path().to_owned()), ..ClientDefaults::default() };
    connect_from(home(), &url, "", None).catalog().await.unwrap();
    let named = ClientDefaults { pgpassfile: Some(file.clone()), ..ClientDefaults::default() };
    connect_from(named, &url, "", None).catalog().await.unwrap();
    connect_with(&format!("{url}&passfile={}", file.display()), "", None).catalog().await.unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let failure = connect_from(home(), &url, "", None).catalog().await.unwrap_err();
    assert_failure(&failure, ".pgpass was ignored: its mode is 0644", "");
}

#[tokio::test]
async fn full_servers_and_missing_privileges_are_reported() {
    let cluster = Cluster::start(&["max_connections=4", "superuser_reserved_connections=3"]);
    cluster.psql(
        "postgres",
        "CREATE USER little; CREATE SCHEMA closed; CREATE SCHEMA seen; GRANT USAGE ON SCHEMA seen TO little",
    );
    let url = cluster.socket_url("postgres").replace("postgres@", "little@");
    // The session of psql goes a moment after psql has.
    let mut first = connect_with(&url, "", None);
    for _ in 0..50 {
        if first.catalog().await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        first = connect_with(&url, "", None);
    }
    first.catalog().await.unwrap();
    assert_failure(&failure(&url, "", None).await, "has too many connections", "end idle sessions");
    for schema in ["closed", "seen"] {
        let step = crate::kit::table(&format!("CREATE TABLE {schema}.t (id INT)"), "");
        let refusal = crate::kit::plan(&step, &first, crate::kit::DAY).await.unwrap_err();
        let reason = format!("the connected user little has no CREATE and USAGE privilege on schema {schema}");
        assert_eq!(refusal.message, reason);
    }
}

/// A token may have expired by the time of a later login, so the command is run again.
#[tokio::test]
async fn a_command_prints_the_password_again_for_a_later_login() {
    use provision::host::secret::Secret;
    use provision::host::warehouse::{CatalogQuery, ConnectionSpec, Warehouse};
    let folder = tempfile::tempdir().unwrap();
    let (token, calls) = (folder.path().join("token"), folder.path().join("calls"));
    let database = shared().database();
    let user = format!("token_{database}");
    let set = |password: &str| {
        shared().psql("postgres", &format!("ALTER ROLE {user} PASSWORD '{password}'"));
        std::fs::write(&token, password).unwrap();
    };
    shared().psql("postgres", &format!("CREATE USER {user}"));
    set("first");
    let script = format!("echo call >>{}; cat {}", calls.display(), token.display());
    let spec: ConnectionSpec = serde_json::from_value(serde_json::json!({
        "url": format!("postgresql://{user}@127.0.0.1:{}/{database}?sslmode=disable", shared().port),
        "password": { "command": ["sh", "-c", script] },
    }))
    .unwrap();
    let given = Some(Secret::new(b"first".to_vec()));
    let warehouse = Warehouse::new("warehouse", spec, given, ClientDefaults::default(), CatalogQuery::default())
        .with_renewed_password(Default::default());
    warehouse.catalog().await.unwrap();
    assert!(!calls.exists(), "the run has asked for the first password already");
    set("second");
    shared()
        .psql("postgres", &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"));
    warehouse.invalidate().await;
    warehouse.catalog().await.unwrap();
    assert_eq!(std::fs::read_to_string(&calls).unwrap(), "call\n");
    std::fs::remove_file(&token).unwrap();
    shared()
        .psql("postgres", &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"));
    warehouse.invalidate().await;
    let failure = warehouse.catalog().await.unwrap_err();
    assert!(failure.message.contains("cannot log in again: the secret command sh"), "{failure:?}");
}
