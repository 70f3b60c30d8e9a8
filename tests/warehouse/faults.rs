//! Failing servers and networks: each fault ends in a table that exists once, or in a clear message, and the next run
//! converges.

use provision::failure::Failure;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use provision::host::warehouse::Warehouse;
use provision::resource::Resource as _;
use provision::resource::table::Table;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{Cluster, PASSWORD, program, shared};
use crate::double::Fault;
use crate::kit::{DAY, apply, connect, connect_with, observe_context, periods, plan, summaries, table, try_apply};
use crate::target::Target;

/// One history table of a parent that the tests lock.
const SERIES: &str =
    "through: 2025_h2\nahead: 0\ntables:\n  - { name: 'settlement_ods.hist_{period}', like: settlement_ods.mart }\n";

/// A session of another user of the server, which holds its locks until it is dropped.
struct Other(Child);

impl Other {
    /// Opens a transaction and executes `sql` in it.
    fn holding(cluster: &Cluster, database: &str, sql: &str) -> Self {
        let mut session = Command::new(program("psql"))
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &cluster.socket_url(database)])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(session.stdin.as_mut().unwrap(), "SET application_name TO other; BEGIN; {sql};").unwrap();
        let held = "SELECT count(*) FROM pg_stat_activity \
                    WHERE application_name = 'other' AND datname = current_database() AND state = 'idle in transaction'";
        until(|| cluster.psql(database, held) == "1");
        Self(session)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed().as_secs() < 30, "what was waited for did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the process that serves a CREATE and waits for a lock, once there is one.
fn waiting(database: &str) -> String {
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'provision' \
               AND wait_event_type = 'Lock' AND query LIKE '%CREATE TABLE%'";
    until(|| !shared().psql(database, sql).is_empty());
    shared().psql(database, sql)
}

/// A database of the shared server with the parent in it.
fn database() -> String {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA settlement_ods; CREATE TABLE settlement_ods.mart (id INT NOT NULL)");
    database
}

#[track_caller]
fn assert_failure(failure: &Failure, message: &str, hint: &str) {
    assert!(failure.message.contains(message), "{failure:?}");
    assert!(failure.hint.as_deref().unwrap_or_default().contains(hint), "{failure:?}");
}

/// After a killed backend, another session creates the table.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backend_is_replaced_and_the_create_retried() {
    let database = database();
    let warehouse = connect(&shared().socket_url(&database));
    let other = Other::holding(shared(), &database, "LOCK TABLE settlement_ods.mart IN ACCESS EXCLUSIVE MODE");
    let applying = tokio::spawn(async move { apply(&periods(SERIES), &warehouse, DAY).await });
    let pid = waiting(&database);
    shared().psql(&database, &format!("SELECT pg_terminate_backend({pid})"));
    until(|| shared().psql(&database, &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")) == "0");
    drop(other);
    let done = applying.await.unwrap();
    assert_eq!(done, ["create table settlement_ods.hist_2025_h2 like settlement_ods.mart"]);
    assert_eq!(apply(&periods(SERIES), &connect(&shared().socket_url(&database)), DAY).await, Vec::<String>::new());
}

/// A lock that is released in time is waited for. A lock that remains is reported.
#[tokio::test(flavor = "multi_thread")]
async fn lock_waits_end_with_the_timeout_of_the_connection() {
    let database = database();
    let url = shared().socket_url(&database);
    let lock = || Other::holding(shared(), &database, "LOCK TABLE settlement_ods.mart IN ACCESS EXCLUSIVE MODE");
    let other = lock();
    let impatient = connect_with(&url, "statement_timeout: 1", None);
    let failure = try_apply(&periods(SERIES), &impatient, DAY).await.unwrap_err();
    assert_failure(&failure, "cannot create table settlement_ods.hist_2025_h2", "another session may hold a lock");
    assert_failure(&failure, "statement timeout", "pg_stat_activity");
    drop(other);
    let other = lock();
    let bounded = connect(&format!("{url}?options=-c%20lock_timeout%3D200"));
    let failure = try_apply(&periods(SERIES), &bounded, DAY).await.unwrap_err();
    assert_failure(&failure, "lock timeout", "another session holds a lock on the table");
    let patient = connect(&url);
    let applying = tokio::spawn(async move { apply(&periods(SERIES), &patient, DAY).await });
    waiting(&database);
    drop(other);
    assert_eq!(applying.await.unwrap().len(), 1);
}

/// The other session creates the table while this one waits for the name. Both succeed.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_race_for_a_name_is_resolved_by_reading_again() {
    let database = database();
    let url = shared().socket_url(&database);
    let mine = || table("CREATE TABLE settlement_ods.t (id INT NOT NULL)", "");
    let race = |theirs: &'static str, database: &str, url: &str| {
        let other = Other::holding(shared(), database, theirs);
        let warehouse = connect(url);
        let applying = tokio::spawn(async move { try_apply(&mine(), &warehouse, DAY).await });
        waiting(database);
        let mut other = other;
        writeln!(other.0.stdin.as_mut().unwrap(), "COMMIT;").unwrap();
        applying
    };
    let same = race("CREATE TABLE settlement_ods.t (id INT NOT NULL)", &database, &url).await.unwrap();
    assert_eq!(same.unwrap(), ["create table settlement_ods.t"]);
    shared().psql(&database, "DROP TABLE settlement_ods.t");
    let another = race("CREATE TABLE settlement_ods.t (id TEXT)", &database, &url).await.unwrap().unwrap_err();
    assert_failure(&another, "column id is text, expected integer", "");
}

#[tokio::test]
async fn apply_survives_a_server_restart_after_plan() {
    let mut cluster = Cluster::start(&[]);
    cluster.psql("postgres", "CREATE SCHEMA s");
    let url = cluster.socket_url("postgres");
    let warehouse = connect(&url);
    let step = table("CREATE TABLE s.t (id INT)", "");
    let planned = plan(&step, &warehouse, DAY).await.unwrap();
    cluster.restart();
    let context = provision::resource::ExecuteContext::new(observe_context(&warehouse, DAY), "run");
    step.execute(&planned.changes[0], &context).await.unwrap();
    assert_eq!(summaries(&plan(&step, &warehouse, DAY).await.unwrap()), Vec::<String>::new());

    let second = table("CREATE TABLE s.u (id INT)", "");
    let planned = plan(&second, &warehouse, DAY).await.unwrap();
    cluster.stop();
    let failure = second.execute(&planned.changes[0], &context).await.unwrap_err();
    assert_failure(&failure, "no such socket", "the server is running");
    cluster.restart();
    assert_eq!(apply(&second, &warehouse, DAY).await, ["create table s.u"]);
}

#[tokio::test]
async fn a_read_only_server_is_reported() {
    let database = database();
    let url = shared().socket_url(&database);
    let step = periods(SERIES);
    let planned = plan(&step, &connect(&url), DAY).await.unwrap();
    // It becomes read-only after the plan.
    shared().psql("postgres", &format!("ALTER DATABASE {database} SET default_transaction_read_only TO on"));
    let context = provision::resource::ExecuteContext::new(crate::kit::observe_context(&connect(&url), DAY), "run");
    let failure = provision::resource::Resource::execute(&step, &planned.changes[0], &context).await.unwrap_err();
    assert_failure(&failure, "cannot create table settlement_ods.hist_2025_h2", "the server is read-only");
    shared().psql("postgres", &format!("ALTER DATABASE {database} RESET default_transaction_read_only"));
    assert_eq!(apply(&periods(SERIES), &connect(&url), DAY).await.len(), 1);
}

/// The session is lost, and the server accepts no other.
#[tokio::test]
async fn a_server_that_filled_up_after_the_plan_is_reported_as_full() {
    let cluster = Cluster::start(&["max_connections=5", "superuser_reserved_connections=3"]);
    cluster.psql("postgres", "CREATE USER little; CREATE SCHEMA s; GRANT ALL ON SCHEMA s TO little");
    let url = cluster.socket_url("postgres").replace("postgres@", "little@");
    let warehouse = connect(&url);
    let step = table("CREATE TABLE s.t (id INT)", "");
    let planned = plan(&step, &warehouse, DAY).await.unwrap();
    cluster.psql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'little'");
    let mut hogs = Vec::new();
    for _ in 0..2 {
        let mut config: tokio_postgres::Config = url.parse().unwrap();
        let (client, connection) = config.application_name("hog").connect(tokio_postgres::NoTls).await.unwrap();
        hogs.push((client, tokio::spawn(connection)));
    }
    let context = provision::resource::ExecuteContext::new(observe_context(&warehouse, DAY), "run");
    let failure = step.execute(&planned.changes[0], &context).await.unwrap_err();
    assert_failure(&failure, "has too many connections", "end idle sessions");
    for (client, connection) in hogs {
        drop(client);
        let _closed = connection.await.unwrap();
    }
    until(|| cluster.psql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'little'") == "0");
    assert_eq!(apply(&step, &warehouse, DAY).await, ["create table s.t"]);
}

/// What a network does to the first connection. Later connections are not disturbed.
#[derive(Debug, Clone, Copy)]
enum Ailment {
    /// Nothing. The bytes are counted.
    None,
    /// The stream ends after this many bytes of the server's answers.
    TruncateAnswers(usize),
    /// The connection is reset after this many bytes of the client's requests.
    CutRequests(usize),
    /// After this many bytes of the server's answers nothing passes any more, but the connection stays open.
    Silence(usize),
    /// Bytes arrive one by one.
    Dribble,
}

/// A proxy in front of a server.
struct Network {
    port: u16,
    /// The number of bytes of answers and of requests that have passed.
    answers: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Network {
    async fn start(to: u16, ailment: Ailment) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answers, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (up, down) = (Arc::clone(&requests), Arc::clone(&answers));
        let server = tokio::spawn(async move {
            let mut ailment = Some(ailment);
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let ailment = ailment.take().unwrap_or(Ailment::None);
                tokio::spawn(carry(near, far, ailment, Arc::clone(&up), Arc::clone(&down)));
            }
        });
        Self { port, answers, requests, server }
    }

    fn connect(&self, database: &str, lines: &str) -> Arc<Warehouse> {
        let url = format!("postgresql://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port);
        connect_with(&url, lines, Some(PASSWORD))
    }
}

async fn carry(near: TcpStream, far: TcpStream, ailment: Ailment, up: Arc<AtomicUsize>, down: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = near.into_split();
    let (mut from_server, mut to_server) = far.into_split();
    let requests = async {
        let mut left = if let Ailment::CutRequests(bytes) = ailment { bytes } else { usize::MAX };
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let passed = count.min(left);
            up.fetch_add(passed, Ordering::Relaxed);
            let sent = to_server.write_all(&buffer[..passed]).await;
            left -= passed;
            if left == 0 || sent.is_err() {
                return;
            }
        }
    };
    let answers = async {
        let bound =
            if let Ailment::TruncateAnswers(bytes) | Ailment::Silence(bytes) = ailment { bytes } else { usize::MAX };
        let mut left = bound;
        let mut buffer = [0; 4096];
        let size = if matches!(ailment, Ailment::Dribble) { 1 } else { buffer.len() };
        while let Ok(count @ 1..) = from_server.read(&mut buffer[..size]).await {
            let passed = count.min(left);
            down.fetch_add(passed, Ordering::Relaxed);
            if to_client.write_all(&buffer[..passed]).await.is_err() {
                return;
            }
            left -= passed;
            if left == 0 {
                if matches!(ailment, Ailment::Silence(_)) {
                    std::future::pending::<()>().await;
                }
                return;
            }
            if size == 1 {
                tokio::task::yield_now().await;
            }
        }
    };
    // The direction that ends first ends the other: both sockets close.
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}

fn small(schema: &str) -> Table {
    let ddl = format!("CREATE TABLE {schema}.t (id INT NOT NULL, name VARCHAR(20))");
    table(&ddl, "grants: [{ to: postgres, privileges: [select] }]")
}

/// Applies through a failing network, and then through a healthy one, which completes the work.
async fn ail(database: &str, schema: &str, ailment: Ailment) {
    // psql runs outside the threads that copy the proxies' bytes.
    let psql = |sql: &str| tokio::task::block_in_place(|| shared().psql(database, sql));
    psql(&format!("CREATE SCHEMA {schema}"));
    let network = Network::start(shared().port, ailment).await;
    let first = try_apply(&small(schema), &network.connect(database, ""), DAY).await;
    if let Err(failure) = &first {
        let named = ["closed the connection", "the connection was lost", "TLS", "cannot log in to"];
        assert!(named.iter().any(|words| failure.message.contains(words)), "{ailment:?}: {failure:?}");
        assert!(!format!("{failure:?}").contains(PASSWORD), "{failure:?}");
    }
    let second = try_apply(&small(schema), &network.connect(database, ""), DAY).await;
    assert!(second.is_ok(), "{ailment:?}: {first:?}, then {second:?}");
    let done = first.map_or(0, |done| done.len()) + second.map_or(0, |done| done.len());
    assert!(done >= 1, "{ailment:?}: the table was created");
    let found = psql(&format!("SELECT count(*) FROM pg_class WHERE oid = '{schema}.t'::regclass AND relkind = 'r'"));
    assert_eq!(found, "1", "{ailment:?}");
}

/// A connection may end at any byte in either direction. The stride of the points is not the length of any message, so
/// that all parts of messages are tested. `FAULT_STRIDE=1` tries every byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_lost_at_any_byte_lose_no_work() {
    #[expect(clippy::disallowed_methods, reason = "the environment sets the length of a test")]
    let stride = std::env::var("FAULT_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(101);
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA whole");
    let whole = Network::start(shared().port, Ailment::None).await;
    apply(&small("whole"), &whole.connect(&database, ""), DAY).await;
    let (answers, requests) = (whole.answers.load(Ordering::Relaxed), whole.requests.load(Ordering::Relaxed));
    let points = (0..answers).step_by(stride).map(Ailment::TruncateAnswers);
    let points = points.chain((0..requests).step_by(stride).map(Ailment::CutRequests)).chain([Ailment::Dribble]);
    let mut running = tokio::task::JoinSet::new();
    for (number, point) in points.enumerate() {
        if running.len() == 6 {
            running.join_next().await.unwrap().unwrap();
        }
        let database = database.clone();
        running.spawn(async move { ail(&database, &format!("s{number}"), point).await });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn timeouts_limit_the_wait_for_a_silent_network() {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s");
    let lines = "connect_timeout: 1\nstatement_timeout: 1";
    let logging_in = Network::start(shared().port, Ailment::Silence(20)).await;
    let failure = try_apply(&small("s"), &logging_in.connect(&database, lines), DAY).await.unwrap_err();
    assert_failure(&failure, "did not answer within 1 s", "firewall");
    let reading = Network::start(shared().port, Ailment::Silence(900)).await;
    let start = Instant::now();
    let failure = try_apply(&small("s"), &reading.connect(&database, lines), DAY).await.unwrap_err();
    assert_failure(&failure, "cannot read the catalog: no answer within 2 s", "run it again");
    // Both limits apply to the total: a query without an answer is not repeated.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(apply(&small("s"), &reading.connect(&database, lines), DAY).await.len(), 1);
}

/// Injected Redshift problems: a conflict before and after the work was done, and a catalog read during a DROP.
#[tokio::test]
async fn redshift_conflicts_are_retried_after_a_read() {
    let create = "CREATE TABLE settlement_ods.order_tracking_exceptions";
    let conflict = "conflict with concurrent transaction";
    for (when, code, message, done) in [
        (create, "XX000", conflict, false),
        (create, "XX000", conflict, true),
        (create, "1023", "Serializable isolation violation on table in Redshift", false),
        (create, "23505", "duplicate key value violates unique constraint \"pg_class_relname_nsp_index\"", true),
        ("FROM pg_attribute", "XX000", "could not open relation with OID 16385", false),
    ] {
        let target = Target::double().await;
        let double = target.double.as_ref().unwrap();
        double.inject(Fault { when, code, message, done });
        let step = target.table(crate::suite::EXCEPTIONS);
        assert_eq!(apply(&step, &connect(&target.url), DAY).await.len(), 1, "{message}");
        assert_eq!(double.left(), 0, "{message}: the injected error was sent");
        assert_eq!(apply(&step, &connect(&target.url), DAY).await, Vec::<String>::new());
    }
}

/// A permanent conflict is given up with a hint.
#[tokio::test]
async fn retries_are_bounded() {
    let target = Target::double().await;
    let double = target.double.as_ref().unwrap();
    for _ in 0..20 {
        double.inject(Fault {
            when: "CREATE TABLE",
            code: "XX000",
            message: "conflict with concurrent transaction",
            done: false,
        });
    }
    let step = target.table(crate::suite::EXCEPTIONS);
    let failure = try_apply(&step, &connect(&target.url), DAY).await.unwrap_err();
    assert_failure(&failure, "conflict with concurrent transaction", "run it again");
    assert_eq!(double.left(), 12, "eight attempts");
}
