//! Hundreds of runs of the program through a pooler, while others work through the same pool.
//!
//! `cargo test --test warehouse soak -- --ignored --nocapture` prints the figures.

use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::cluster::{Cluster, program};
use crate::pooler::Pooler;

const PLANS: usize = 200;
const APPLIES: usize = 20;
/// How long pgbench runs.
const SECONDS: &str = "100";
/// The server connections of the pool, which all clients share.
const POOL: usize = 4;

fn pgbench(arguments: &[&str], url: &str) -> Command {
    let mut command = Command::new(program("pgbench"));
    command.args(arguments).arg(url).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for pgbench, which has to have outlasted the runs.
fn end(mut child: Child) -> Output {
    assert!(child.try_wait().unwrap().is_none(), "pgbench ended before the runs; raise SECONDS");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The settings of every session of the pool that are not the defaults of its server. PgBouncer itself passes on the
/// application name of pgbench.
async fn settings(pooler: &Pooler, database: &str) -> Vec<String> {
    let clients: Vec<Client> = futures_util::future::join_all((0..POOL).map(|_| pooler.client(database))).await;
    // A transaction on each, so that each has a session of its own.
    futures_util::future::join_all(clients.iter().map(|client| client.batch_execute("BEGIN"))).await;
    let mut all = Vec::new();
    for client in &clients {
        let sql = "SELECT name || '=' || setting || ' by ' || source FROM pg_settings WHERE source NOT IN ('default', \
                   'configuration file', 'command line', 'override') AND setting <> 'pgbench' ORDER BY 1";
        let rows = client.simple_query(sql).await.unwrap();
        let text = |message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        all.push(rows.into_iter().filter_map(text).collect::<Vec<_>>().join(", "));
    }
    futures_util::future::join_all(clients.iter().map(|client| client.batch_execute("COMMIT"))).await;
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: hundreds of runs of the program beside pgbench"]
async fn hundreds_of_runs_leave_no_trace_in_a_pool_under_load() {
    let cluster = Cluster::start(&[]);
    let pool = format!("auth_type = trust\nreserve_pool_size = 0\nmax_client_conn = 200\ndefault_pool_size = {POOL}");
    let pooler = Pooler::start_with(&cluster, &pool, "\"postgres\" \"\"\n");
    let database = "postgres";
    let direct = cluster.socket_url(database);
    assert!(pgbench(&["-i", "-q", "-s", "2"], &direct).output().unwrap().status.success());
    cluster.psql(database, "CREATE SCHEMA s; CREATE TABLE s.m (id bigint NOT NULL, at timestamptz, note text)");
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("slow.sql");
    std::fs::write(&slow, "SELECT pg_sleep(1.4);\n").unwrap();
    // A limit of one second, which would cancel the slow queries of the others if it stayed in a session.
    let plan_file = folder.path().join("plan.yaml");
    let text = format!(
        "name: soak\nconnections: {{ w: {{ url: '{}', statement_timeout: 1, connect_timeout: 30 }} }}\nsteps:\n\
         \x20 - {{ id: table, table: {{ connection: w, ddl: 'CREATE TABLE s.t (id int, note varchar(20))' }} }}\n\
         \x20 - id: series\n    period_tables: {{ connection: w, every: month, from: current-5, ahead: 2, grants: [{{ to: \
         public, privileges: select }}], tables: [{{ name: 's.h_{{period}}', like: s.m }}] }}\n",
        pooler.url(database)
    );
    std::fs::write(&plan_file, text).unwrap();
    let run = |arguments: &[&str]| {
        // Not as root, whose state is outside of the home directory.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_provision")]);
        command.args(arguments).args(["--as-of", "2026-11-29"]).arg(&plan_file).current_dir("/");
        command.env("HOME", folder.path()).env_remove("XDG_STATE_HOME");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(folder.path()).status().unwrap().success());
    let before = settings(&pooler, database).await;
    let work = pgbench(&["-n", "-c", "6", "-T", SECONDS], &pooler.url(database)).spawn().unwrap();
    let waits = pgbench(&["-n", "-c", "1", "-T", SECONDS, "-f", slow.to_str().unwrap()], &pooler.url(database))
        .spawn()
        .unwrap();
    let start = Instant::now();
    let (mut plans, mut applies, mut longest) = (0, 0, 0.0_f64);
    while plans < PLANS {
        let each = Instant::now();
        let (code, text) = run(&["plan", "--detailed-exitcode"]);
        assert!(matches!(code, Some(0 | 2)), "plan {plans}: {code:?}\n{text}");
        longest = longest.max(each.elapsed().as_secs_f64());
        plans += 1;
        if plans % (PLANS / APPLIES) == 0 {
            let (code, text) = run(&["apply", "--yes"]);
            assert_eq!(code, Some(0), "apply {applies}:\n{text}");
            applies += 1;
            assert_eq!(settings(&pooler, database).await, before, "after {plans} plans and {applies} applies");
            cluster.psql(database, "DROP TABLE s.t, s.h_2026_11");
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (work, waits) = (end(work), end(waits));
    let log = cluster.log();
    let cancelled = log.lines().filter(|line| line.contains("canceling statement due to statement timeout")).count();
    let summary = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_figure =
            |line: &&str| line.contains("transactions actually") || line.contains("failed") || line.contains("tps");
        text.lines().filter(is_figure).map(str::to_owned).collect::<Vec<_>>().join("; ")
    };
    println!(
        "{plans} plans and {applies} applies in {seconds:.0} s, the longest plan {longest:.2} s, {cancelled} statements cancelled"
    );
    println!("pgbench: {}\npgbench, slow queries: {}", summary(&work), summary(&waits));
    assert_eq!(cancelled, 0, "{log}");
    for output in [&work, &waits] {
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("ERROR") && !errors.contains("aborted"), "{errors}");
    }
}
