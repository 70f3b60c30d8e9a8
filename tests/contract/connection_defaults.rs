//! What a connection takes from service files and `PG*` variables, as a person who starts the program has them.

use crate::sandbox::{Outcome, Sandbox};

const FILE: &str = "/home/ubuntu/p.yaml";
const SERVICES: &str = "/home/ubuntu/.pg_service.conf";

/// A host with a warehouse and a plan file of one table and one directory.
fn host(url: &str) -> Sandbox {
    let mut sandbox = Sandbox::new().warehouse();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let text = format!(
        "name: services
connections: {{ w: {{ url: \"{url}\" }} }}
steps:
  - id: t
    table: {{ connection: w, ddl: \"CREATE TABLE settlement_ods.by_service (a INT)\" }}
  - id: d
    directory: {{ path: /home/ubuntu/d, mode: \"0755\" }}
"
    );
    sandbox.write(FILE, "ubuntu", text);
    sandbox
}

fn service(sandbox: &Sandbox, more: &str) {
    let password = sandbox.env_of("REDSHIFT_PASSWORD");
    let text = format!(
        "[warehouse]\nhost=127.0.0.1\nport=5432\ndbname=warehouse\nuser=etl\nsslmode=disable\npassword={password}\n{more}"
    );
    sandbox.write(SERVICES, "ubuntu", text);
    sandbox.bash("ubuntu", &format!("chmod 600 {SERVICES}"));
}

fn plan(sandbox: &Sandbox) -> Outcome {
    sandbox.provision("ubuntu", ["plan", FILE, "--json", "--detailed-exitcode"]).run()
}

#[test]
fn a_service_is_read_and_its_password_is_a_secret() {
    let mut sandbox = host("service=warehouse");
    sandbox.provision("ubuntu", ["validate", FILE]).run().exits(0);
    service(&sandbox, "");
    let password = sandbox.env_of("REDSHIFT_PASSWORD");
    sandbox.set_env("REDSHIFT_PASSWORD", "");
    let psql = sandbox.bash("ubuntu", "psql -XAtq service=warehouse -c 'SELECT current_user, current_database()'");
    assert_eq!(psql.trim(), "etl|warehouse");
    let log = [
        "--log",
        "trace,tokio_postgres=trace",
        "--log-file",
        "/home/ubuntu/log",
        "--timeline",
        "/home/ubuntu/timeline",
    ];
    let mut outcomes = vec![plan(&sandbox).exits(2)];
    outcomes.push(sandbox.provision("ubuntu", ["plan", FILE, "--out", "/home/ubuntu/saved"]).args(log).run().exits(0));
    outcomes.push(sandbox.provision("ubuntu", ["resolve", FILE]).run().exits(0));
    outcomes.push(sandbox.provision("ubuntu", ["apply", FILE, "--yes"]).args(log).run().exits(0));
    outcomes.push(plan(&sandbox).exits(0));
    for outcome in &outcomes {
        assert!(!outcome.all().contains(&password), "{outcome}");
    }
    assert!(sandbox.definitions().contains("by_service"));
    let found = sandbox
        .bash("root", &format!("grep -rlaF -e '{password}' /home /var/tmp /tmp /root /run/user 2>/dev/null || true"));
    assert_eq!(found.trim(), SERVICES);
}

#[test]
fn a_saved_plan_is_refused_after_its_service_has_changed() {
    let mut sandbox = host("service=warehouse");
    service(&sandbox, "");
    sandbox.provision("ubuntu", ["plan", FILE, "--out", "/home/ubuntu/saved"]).run().exits(0);
    let text = sandbox.read(SERVICES);
    sandbox.write(SERVICES, "ubuntu", text.replace("dbname=warehouse", "dbname=postgres"));
    let outcome = sandbox.provision("ubuntu", ["apply", "/home/ubuntu/saved", "--yes"]).run().exits(1);
    assert!(outcome.stderr.contains("the saved plan is not valid here: step `t`"), "{outcome}");
    sandbox.write(SERVICES, "ubuntu", text);
    // A variable that is set later must not lead the run elsewhere either.
    sandbox.set_env("PGDATABASE", "postgres");
    sandbox.provision("ubuntu", ["apply", "/home/ubuntu/saved", "--yes"]).run().exits(0);
    assert!(sandbox.definitions().contains("by_service"));
}

#[test]
fn a_missing_service_fails_its_own_steps_only() {
    let sandbox = host("service=warehouse");
    let outcome = sandbox.provision("ubuntu", ["apply", FILE, "--yes", "--json"]).run().exits(1);
    let step = outcome.step("step_planned", "t");
    let text = step.to_string();
    assert!(text.contains("connection `w`: service `warehouse` is not defined"), "{outcome}");
    assert!(text.contains("add it to /home/ubuntu/.pg_service.conf: a line [warehouse]"), "{outcome}");
    assert_eq!(outcome.step("step_finished", "d")["outcome"], "changed", "{outcome}");
}

/// A service or a variable that cannot be used blocks the steps of the connections that need it, and nothing else.
#[test]
fn an_unusable_default_blocks_only_the_steps_that_need_it() {
    let complete = "postgresql://etl:{{ env_var('REDSHIFT_PASSWORD') }}@127.0.0.1:5432/warehouse?sslmode=disable";
    for (url, variable, value, problem) in [
        (complete, "PGSERVICE", "absent", None),
        (complete, "PGSSLMODE", "wrong", None),
        (
            "postgresql:///warehouse",
            "PGSERVICE",
            "absent",
            Some("service `absent`, which PGSERVICE names, is not defined"),
        ),
        ("postgresql://127.0.0.1/warehouse", "PGSERVICE", "absent", Some("service `absent`, which PGSERVICE names")),
        ("postgresql://etl@127.0.0.1/warehouse", "PGSSLMODE", "wrong", Some("settings also come from PGSSLMODE")),
    ] {
        let mut sandbox = host(url);
        sandbox.set_env(variable, value);
        sandbox.provision("ubuntu", ["validate", FILE]).run().exits(0);
        let outcome = sandbox.provision("ubuntu", ["apply", FILE, "--yes", "--json"]).run();
        let outcome = outcome.exits(i32::from(problem.is_some()));
        assert_eq!(outcome.step("step_finished", "d")["outcome"], "changed", "{outcome}");
        match problem {
            None => assert_eq!(outcome.step("step_finished", "t")["outcome"], "changed", "{outcome}"),
            Some(problem) => assert!(outcome.step("step_planned", "t").to_string().contains(problem), "{outcome}"),
        }
    }
}

/// `validate` finds what plan finds, if it can read the service.
#[test]
fn validate_refuses_one_table_by_url_and_by_service() {
    let sandbox = host("service=warehouse");
    let text = sandbox.read(FILE).replace(
        "steps:\n",
        "  other: { url: \"postgresql://etl@127.0.0.1/warehouse\" }\nsteps:\n  - id: same\n    \
         table: { connection: other, ddl: \"CREATE TABLE settlement_ods.by_service (b TEXT)\" }\n",
    );
    let text = text.replace("connections: { w: {", "connections:\n  w: {").replace("\" } }\n  other", "\" }\n  other");
    sandbox.write(FILE, "ubuntu", text);
    sandbox.provision("ubuntu", ["validate", FILE]).run().exits(0);
    service(&sandbox, "");
    for command in ["validate", "plan"] {
        let outcome = sandbox.provision("ubuntu", [command, FILE]).run().exits(1);
        assert!(outcome.all().contains("steps `same` and `t` both"), "{outcome}");
    }
}

/// As root with the home directory of somebody else, as `sudo -E` leaves it.
#[test]
fn root_does_not_follow_the_service_file_of_another_user() {
    let sandbox = host("service=warehouse");
    service(&sandbox, "");
    let as_root = || sandbox.provision("root", ["plan", FILE, "--json"]).env("HOME", "/home/ubuntu");
    let outcome = as_root().run().exits(1);
    assert!(outcome.all().contains("cannot trust the service file /home/ubuntu/.pg_service.conf as root"), "{outcome}");
    sandbox.bash("root", &format!("cp {SERVICES} /root/services && chown root:root /root/services"));
    as_root().env("PGSERVICEFILE", "/root/services").run().exits(0);
}

#[test]
fn variables_do_not_redirect_a_complete_url() {
    let mut sandbox =
        host("postgresql://etl:{{ env_var('REDSHIFT_PASSWORD') }}@127.0.0.1:5432/warehouse?sslmode=disable");
    for (name, value) in [
        ("PGHOST", "10.6.6.6"),
        ("PGHOSTADDR", "10.6.6.6"),
        ("PGPORT", "1"),
        ("PGUSER", "evil"),
        ("PGDATABASE", "evil"),
        ("PGPASSWORD", "evil"),
        ("PGSSLMODE", "verify-full"),
    ] {
        sandbox.set_env(name, value);
    }
    plan(&sandbox).exits(2);
    // What a request gives is for the plan file, and for nothing else.
    let request = serde_json::json!({
        "plan_file": "name: r\nconnections: { w: { url: 'postgresql:///warehouse' } }\nsteps:\n  - id: t\n    table: { connection: w, \
                      ddl: 'CREATE TABLE settlement_ods.r (a INT)' }\n",
        "as": "/home/ubuntu/q.yaml",
        "env": { "PGHOST": "127.0.0.1" },
    });
    for name in ["PGHOST", "PGHOSTADDR"] {
        sandbox.set_env(name, "");
    }
    let outcome =
        sandbox.provision("ubuntu", ["plan", "--request", "--json"]).stdin(&request.to_string()).run().exits(1);
    assert!(outcome.all().contains("the connection has no host"), "{outcome}");
}

/// CI sets a variable to nothing if it has no secret of that name.
#[test]
fn a_variable_that_makes_a_url_wrong_stops_only_the_steps_with_that_connection() {
    let sandbox = host("{{ env_var('DW') }}");
    for url in ["", "garbage", "mysql://etl@h/d", "postgresql://etl@h:99999999/d"] {
        let outcome = sandbox.provision("ubuntu", ["plan", FILE, "--json"]).env("DW", url).run().exits(1);
        assert_eq!(outcome.step("step_planned", "d")["outcome"], "changes", "{url}: {outcome}");
        let failed = outcome.step("step_planned", "t");
        assert_eq!(failed["outcome"], "failed", "{url}: {outcome}");
        assert!(failed["hint"].as_str().unwrap().contains("variable DW"), "{url}: {outcome}");
        // The same plan file is right in another environment.
        for command in ["validate", "resolve"] {
            sandbox.provision("ubuntu", [command, FILE]).env("DW", url).run().exits(0);
        }
    }
    // What the plan file itself has wrong stops everything.
    let sandbox = host("mysql://etl@h/d");
    assert!(sandbox.provision("ubuntu", ["plan", FILE]).run().exits(1).stderr.contains("mysql"));
}
