//! Behind PgBouncer in transaction mode with one server connection: what a statement leaves in its session affects the
//! next client.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::cluster::{Cluster, free_port, program, shared};
use crate::kit::{DAY, apply, connect_with, observe_context, plan, table, try_apply};

const SECRET: &str = "canary-of-the-pooler";

/// A running PgBouncer, which ends on drop.
pub struct Pooler {
    supervisor: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    fn start(cluster: &Cluster) -> Self {
        Self::start_with(cluster, "auth_type = trust\ndefault_pool_size = 1", "\"postgres\" \"\"\n")
    }

    /// Starts it with more settings, and with these users.
    pub fn start_with(cluster: &Cluster, settings: &str, users: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("provision-pgbouncer-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let port = free_port();
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             {settings}\nauth_file = {file}\npool_mode = transaction\n",
            cluster.folder.display(),
            cluster.port,
            file = folder.path().join("users").display(),
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), settings).unwrap();
        std::fs::write(folder.path().join("users"), users).unwrap();
        // PgBouncer does not run as root. The shell ends it when this process ends.
        let script = "setpriv --reuid=postgres --regid=postgres --clear-groups /usr/sbin/pgbouncer -q \"$0\" & pooler=$!; \
                      cat >/dev/null; kill -INT $pooler; wait $pooler";
        let supervisor = Command::new("sh")
            .args(["-c", script])
            .arg(folder.path().join("pgbouncer.ini"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed().as_secs() < 20, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { supervisor, port, _folder: folder }
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Returns another client of the same pool.
    pub async fn client(&self, database: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ended = self.supervisor.wait();
    }
}

/// Returns all settings of a session, as another client finds them.
async fn session(client: &Client) -> Vec<String> {
    let sql = "SELECT pg_backend_pid()::text UNION ALL SELECT name || '=' || setting FROM pg_settings \
               UNION ALL SELECT current_user || ' ' || session_user \
               UNION ALL SELECT 'prepared ' || name FROM pg_prepared_statements \
               UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE name <> '' \
               UNION ALL SELECT 'temporary ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() \
               UNION ALL SELECT 'lock ' || classid FROM pg_locks WHERE locktype = 'advisory'";
    let rows = client.simple_query(sql).await.unwrap();
    let text = |message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    rows.into_iter().filter_map(text).collect()
}

#[tokio::test]
async fn plan_and_apply_through_a_pooler_leave_the_next_clients_session_as_it_was() {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s");
    let pooler = Pooler::start(shared());
    let other = pooler.client(&database).await;
    let before = session(&other).await;
    for (lines, day) in [("", DAY), ("statement_timeout: 1", DAY), ("statement_timeout: 0", DAY)] {
        let warehouse = connect_with(&pooler.url(&database), lines, None);
        let step = table("CREATE TABLE s.t (id INT)", "grants: [{ to: public, privileges: [select] }]");
        assert_eq!(plan(&step, &warehouse, day).await.unwrap().changes.len(), 2);
        assert_eq!(session(&other).await, before, "{lines}: after a plan");
        assert_eq!(apply(&step, &warehouse, day).await.len(), 2);
        assert_eq!(session(&other).await, before, "{lines}: after an apply");
        // A client that comes later and sets nothing itself.
        assert_eq!(session(&pooler.client(&database).await).await, before, "{lines}: of a new client");
        shared().psql(&database, "DROP TABLE s.t");
    }
    let slow = other.simple_query("SELECT pg_sleep(1.5)").await;
    assert!(slow.is_ok(), "{slow:?}");
}

/// What a pooler refuses at the login is reported in the words of the connection, with a remedy.
#[tokio::test]
async fn refusals_of_a_pooler_have_a_remedy() {
    let database = shared().database();
    let users = format!("\"postgres\" \"{SECRET}\"\n\"gone\" \"{SECRET}\"\n");
    let pooler = Pooler::start_with(shared(), "auth_type = scram-sha-256\ndefault_pool_size = 1", &users);
    for (user, password, database, query, message, remedy) in [
        ("postgres", "wrong", database.as_str(), "", "wrong password for user postgres", "`password`"),
        ("nobody", SECRET, &database, "", "for user nobody", "auth_file"),
        ("gone", SECRET, &database, "", "rejected user gone", "create the user on the database server"),
        ("postgres", SECRET, "missing", "", "database missing does not exist", "end of the URL"),
        (
            "postgres",
            SECRET,
            &database,
            "&options=-c%20search_path%3Dx",
            "refuses `options`",
            "remove `options` from the URL",
        ),
    ] {
        let url = format!("postgresql://{user}@127.0.0.1:{}/{database}?sslmode=disable{query}", pooler.port);
        let failure = connect_with(&url, "", Some(password)).catalog().await.unwrap_err();
        assert!(failure.message.contains(message), "{user} {query}: {failure:?}");
        assert!(failure.hint.as_deref().unwrap_or_default().contains(remedy), "{user} {query}: {failure:?}");
        assert!(!format!("{failure:?}").contains(SECRET));
    }
}

/// The limit applies to the statement that changes something, although the session differs each time.
#[tokio::test(flavor = "multi_thread")]
async fn changes_through_a_pooler_run_with_their_timeout() {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s; CREATE TABLE s.m (id int)");
    let pooler = Pooler::start(shared());
    let warehouse = connect_with(&pooler.url(&database), "statement_timeout: 1", None);
    let step = table("CREATE TABLE s.t (LIKE s.m)", "");
    assert_eq!(plan(&step, &warehouse, DAY).await.unwrap().changes.len(), 1);
    let mut holder = Command::new(program("psql"))
        .args(["-XqAt", "-d", &shared().socket_url(&database)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(holder.stdin.as_mut().unwrap(), "BEGIN; LOCK TABLE s.m IN ACCESS EXCLUSIVE MODE; SELECT 'held';").unwrap();
    let mut held = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut held).unwrap();
    let start = Instant::now();
    let failure = try_apply(&step, &warehouse, DAY).await.unwrap_err();
    assert!(failure.message.contains("statement timeout"), "{failure:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 1);
}

/// A plan uses no transaction id, although the settings for its read are made in a transaction.
#[tokio::test]
async fn plan_uses_no_transaction_id() {
    let cluster = Cluster::start(&["autovacuum=off"]);
    cluster.psql("postgres", "CREATE SCHEMA s");
    let next = || cluster.psql("postgres", "SELECT pg_snapshot_xmax(pg_current_snapshot())");
    let before = next();
    let warehouse = connect_with(&cluster.socket_url("postgres"), "", None);
    let step = table("CREATE TABLE s.t (id INT)", "");
    assert_eq!(plan(&step, &warehouse, DAY).await.unwrap().changes.len(), 1);
    use provision::resource::Resource as _;
    step.observe(&observe_context(&warehouse, DAY)).await.unwrap();
    assert_eq!(next(), before);
}
