//! The history tables as a person sees them: which exist, when the next one is due, what has drifted. Also two hosts
//! that create them at the same moment.

use serde_json::Value;

use crate::sandbox::{Outcome, PLAN, Sandbox, Tracing};

const TABLES: &str = "history-tables,exceptions-table";

fn plan_on(sandbox: &Sandbox, day: &str) -> Outcome {
    sandbox.provision("ubuntu", ["plan", PLAN, "--json", "--detailed-exitcode", "--only", TABLES, "--as-of", day]).run()
}

fn apply_on(sandbox: &Sandbox, day: &str) -> Outcome {
    sandbox.provision("ubuntu", ["apply", PLAN, "--json", "--yes", "--only", TABLES, "--as-of", day]).run().exits(0)
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Two hosts with the same plan wait for the same lock. Each table is created once, and neither run fails.
#[test]
fn concurrent_applies_create_each_table_once() {
    let sandbox = Sandbox::new().warehouse();
    let started = |user: &str, file: &str| {
        sandbox.write(file, user, sandbox.read(PLAN));
        sandbox.provision(user, ["apply", file, "--json", "--yes", "--only", TABLES]).start()
    };
    // Locks the marts until both wait to create a table like one of them.
    let hold = "BEGIN; LOCK TABLE settlement_ods.mart_uni_tracking_info IN ACCESS EXCLUSIVE MODE; SELECT 'held';
        DO $$ DECLARE waiting int; BEGIN
          FOR attempt IN 1..3000 LOOP
            PERFORM pg_stat_clear_snapshot();
            SELECT count(*) INTO waiting FROM pg_stat_activity
              WHERE application_name = 'provision' AND wait_event_type = 'Lock' AND query LIKE '%CREATE TABLE%';
            IF waiting = 2 THEN RETURN; END IF;
            PERFORM pg_sleep(0.02);
          END LOOP;
          RAISE EXCEPTION 'only % runs came to their first table', waiting;
        END $$; COMMIT;";
    let psql = ["psql", "-h", "/run/postgresql", "-U", "postgres", "-d", "warehouse", "-XAtq", "-v", "ON_ERROR_STOP=1"];
    let mut holder = sandbox.command("root", psql).stdin(hold).start();
    holder.until(|line| line == "held\n");
    let (one, other) = (started("ubuntu", "/home/ubuntu/one.yaml"), started("root", "/root/other.yaml"));
    let (other, one) = (other.wait().exits(0), one.wait().exits(0));
    holder.wait().exits(0);
    assert_eq!(sandbox.tables().len(), 3 + 9 + 1, "{one}{other}");
    for outcome in [&one, &other] {
        assert!(outcome.events_of("change_finished").iter().all(|event| event["outcome"] == "changed"), "{outcome}");
    }
    plan_on(&sandbox, "2026-03-01").exits(0);
}

/// Shows what exists, what is next and in how many days, on any date.
#[test]
fn plan_lists_existing_periods_and_the_next_one() {
    let sandbox = Sandbox::new().warehouse();
    apply_on(&sandbox, "2026-03-01");
    let now = plan_on(&sandbox, "2026-03-01").exits(0).step("step_planned", "history-tables");
    let notes = texts(&now["notes"]);
    assert_eq!(notes.len(), 3, "{now}");
    let expected = "settlement_ods.hist_ecs_order_info_{period}: has 2025_h2, 2026_h1, 2026_h2; the next period without a \
                table is 2027_h1, which begins on 2027-01-01 in 306 days";
    assert!(notes.contains(&expected), "{notes:?}");
    assert_eq!(texts(&now["warnings"]), Vec::<&str>::new());

    // What will be needed on 1 July?
    let july = plan_on(&sandbox, "2026-07-01").exits(2).step("step_planned", "history-tables");
    let summaries: Vec<_> =
        july["changes"].as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap()).collect();
    let needed = ["uni_tracking_info", "ecs_order_info", "uni_tracking_spath"];
    assert_eq!(summaries, needed.map(|mart| format!("settlement_ods.hist_{mart}_2027_h1")));
    assert_eq!(texts(&july["warnings"]), Vec::<&str>::new());

    // From thirty days before, it is a warning.
    plan_on(&sandbox, "2026-12-01").exits(2).step("step_planned", "history-tables")["warnings"]
        .as_array()
        .filter(|warnings| warnings.is_empty())
        .expect("there is no warning 31 days before");
    let late = plan_on(&sandbox, "2026-12-02").exits(2).step("step_planned", "history-tables");
    let warning = "settlement_ods.hist_ecs_order_info_{period}: the next period without a table is 2027_h1, which begins on \
                   2027-01-01 in 30 days";
    assert_eq!(texts(&late["warnings"]).len(), 3, "{late}");
    assert!(texts(&late["warnings"]).contains(&warning), "{late}");
    let human = sandbox.provision("ubuntu", ["plan", PLAN, "--only", TABLES, "--as-of", "2026-12-02"]).run().exits(0);
    assert!(human.stderr.contains(&format!("warning: history-tables: {warning}")), "{human}");
    assert!(human.stdout.contains(expected.split_once("; ").unwrap().0), "{human}");

    // After the tables are created there is no warning.
    let made = apply_on(&sandbox, "2026-12-02").step("step_finished", "history-tables");
    assert_eq!((made["outcome"].as_str(), texts(&made["warnings"]).len()), (Some("changed"), 0), "{made}");
}

/// Drift is reported column by column with its effect on the archive, and by default nothing is altered.
#[test]
fn drift_is_reported_with_its_consequence() {
    let sandbox = Sandbox::new().warehouse();
    apply_on(&sandbox, "2026-03-01");
    sandbox.sql(
        "ALTER TABLE settlement_ods.mart_ecs_order_info ADD COLUMN carrier varchar(40);
         ALTER TABLE settlement_ods.hist_uni_tracking_info_2025_h2 ADD COLUMN extra int;",
    );
    let before = sandbox.catalog();
    let step = plan_on(&sandbox, "2026-03-01").exits(1).step("step_planned", "history-tables");
    assert_eq!(step["outcome"], "drifted", "{step}");
    for (key, expected) in [
        (
            "drift",
            "settlement_ods.hist_ecs_order_info_2026_h2 has drifted from settlement_ods.mart_ecs_order_info: only the \
             parent has column carrier character varying(40): an archive INSERT fails because it has 6 values for 5 columns",
        ),
        (
            "notes",
            "settlement_ods.hist_uni_tracking_info_2025_h2 has drifted from settlement_ods.mart_uni_tracking_info: column \
             extra integer is no longer in the parent: an archive INSERT still works",
        ),
    ] {
        assert!(texts(&step[key]).contains(&expected), "{step}");
    }
    assert_eq!(texts(&step["drift"]).len(), 3, "{step}");
    assert_eq!(sandbox.catalog(), before);

    let repairing = sandbox.read(PLAN).replace("      ahead: 1\n", "      ahead: 1\n      on_drift: add_columns\n");
    sandbox.write("/home/ubuntu/repairing.yaml", "ubuntu", repairing);
    let apply = ["apply", "repairing.yaml", "--json", "--yes", "--only", TABLES];
    let repaired = sandbox.provision("ubuntu", apply).run().exits(0);
    assert_eq!(repaired.events_of("change_finished").len(), 3, "{repaired}");
    sandbox
        .sql("INSERT INTO settlement_ods.hist_ecs_order_info_2025_h2 SELECT * FROM settlement_ods.mart_ecs_order_info");
    let again = sandbox.provision("ubuntu", apply).run().exits(0);
    assert_eq!(again.events_of("change_finished").len(), 0, "{again}");
}

/// OpenSSL parses the whole certificate store if it has to search it, which takes longer than the rest of a converged
/// plan.
#[test]
fn system_certificates_are_read_only_for_tls() {
    const STORE: &str = "/opt/store.pem";
    let mut sandbox = Sandbox::new().warehouse();
    sandbox.bash("root", &format!("cp /etc/ssl/certs/ca-certificates.crt {STORE} && chmod 644 {STORE}"));
    sandbox.set_env("SSL_CERT_FILE", STORE);
    let reads_it = |sandbox: &mut Sandbox, url: &str, code: i32| {
        sandbox.set_env("REDSHIFT_URL", format!("postgresql://etl@{url}"));
        let args = ["plan", PLAN, "--json", "--only", "exceptions-table"];
        let (outcome, trace) = sandbox.provision("ubuntu", args).traced(&Tracing::Calls);
        outcome.exits(code);
        trace.names(STORE)
    };
    assert!(!reads_it(&mut sandbox, "127.0.0.1/warehouse?sslmode=disable", 0));
    assert!(!reads_it(&mut sandbox, "127.0.0.1/warehouse", 0), "the server does not speak TLS");
    assert!(!reads_it(&mut sandbox, "localhost/warehouse?sslmode=verify-full", 1), "it refuses TLS");
    sandbox.bash(
        "root",
        "cd /var/lib/postgresql/data
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
           -addext subjectAltName=DNS:localhost -keyout server.key -out server.crt 2>/dev/null
         chmod 600 server.key; chown postgres:postgres server.key server.crt
         cat server.crt >>/opt/store.pem",
    );
    sandbox.sql("ALTER SYSTEM SET ssl = on");
    sandbox.sql("SELECT pg_reload_conf()");
    assert!(reads_it(&mut sandbox, "localhost/warehouse?sslmode=verify-full", 0));
    assert!(!reads_it(&mut sandbox, "127.0.0.1/warehouse?sslmode=disable", 0));
}
