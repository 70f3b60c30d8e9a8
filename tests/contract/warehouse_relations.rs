//! Relations between steps on a warehouse: tables, series, connections and tunnels.

use crate::relations::{FILE, converges_in_one_apply, plan, refuses, validate};
use crate::sandbox::{BASTION, KEY_SOURCE, Rotation, Sandbox, random_word};

const WAREHOUSE: &str = "
connections:
  w: { url: \"{{ env_var('REDSHIFT_URL') }}\", password: { env: REDSHIFT_PASSWORD } }
  v: { url: 'host=LOCALHOST port=5432 dbname=warehouse user=etl sslmode=disable', password: { env: REDSHIFT_PASSWORD } }
";

fn warehouse(steps: &str) -> Sandbox {
    let sandbox = Sandbox::new().warehouse();
    sandbox.write(FILE, "root", format!("name: x\n{WAREHOUSE}steps:\n{steps}"));
    sandbox.sql("CREATE SCHEMA s AUTHORIZATION etl; CREATE TABLE s.mart (a int); ALTER TABLE s.mart OWNER TO etl");
    sandbox
}

#[test]
fn a_table_like_a_period_table_is_created_after_it() {
    let sandbox = warehouse("
  - { id: grandchild, table: { connection: w, ddl: 'CREATE TABLE s.grandchild (LIKE s.child)' } }
  - { id: child, table: { connection: v, ddl: 'CREATE TABLE s.child (LIKE s.HIST_2025_h2)' } }
  - { id: series, period_tables: { connection: w, every: half_year, from: '2025_h2', through: '2026_h1', tables: [ { name: 's.hist_{period}', like: s.mart } ] } }
");
    let outcome = plan(&sandbox).exits(2);
    assert_eq!(outcome.step("step_planned", "child")["waits_for"][0], "series");
    converges_in_one_apply(&sandbox);
}

/// PostgreSQL distinguishes quoted names by case. No step makes a period that is not in the series.
#[test]
fn quoted_names_are_told_apart_and_periods_that_never_come_are_not_waited_for() {
    let sandbox = warehouse("
  - { id: upper, table: { connection: w, ddl: 'CREATE TABLE s.\"Foo\" (a int)' } }
  - { id: lower, table: { connection: v, ddl: 'CREATE TABLE s.foo (a int)' } }
  - { id: more, table: { connection: v, ddl: 'CREATE TABLE s.\"FOO\" (LIKE s.\"Foo\")' } }
  - { id: series, period_tables: { connection: w, every: half_year, from: '2025_h2', through: '2026_h1', tables: [ { name: 's.\"Hist_{period}\"', like: s.mart } ] } }
  - { id: child, table: { connection: v, ddl: 'CREATE TABLE s.child (LIKE s.\"Hist_2025_h2\")' } }
");
    let outcome = plan(&sandbox).exits(2);
    assert_eq!(outcome.step("step_planned", "child")["waits_for"][0], "series");
    assert!(outcome.step("step_planned", "more")["waits_for"].to_string().contains("upper"), "{outcome}");
    converges_in_one_apply(&sandbox);
    let names = sandbox.sql("SELECT relname FROM pg_class WHERE relnamespace = 's'::regnamespace AND relkind = 'r' ORDER BY relname COLLATE \"C\"");
    assert_eq!(names, "FOO\nFoo\nHist_2025_h2\nHist_2026_h1\nchild\nfoo\nmart\n");
    for parent in ["2025_h1", "2026_h2"] {
        let sandbox = warehouse(&format!("
  - {{ id: series, period_tables: {{ connection: w, every: half_year, from: '2025_h2', through: '2026_h1', tables: [ {{ name: 's.hist_{{period}}', like: s.mart }} ] }} }}
  - {{ id: child, table: {{ connection: w, ddl: 'CREATE TABLE s.child (LIKE s.hist_{parent})' }} }}
"));
        let child = plan(&sandbox).exits(1).step("step_planned", "child");
        assert_eq!((&child["outcome"], &child["waits_for"]), (&"blocked".into(), &serde_json::json!([])), "{child}");
    }
}

#[test]
fn one_table_through_two_connections_is_refused() {
    let sandbox = warehouse(
        "
  - { id: one, table: { connection: w, ddl: 'CREATE TABLE s.dd (a int)' } }
  - { id: two, table: { connection: v, ddl: 'CREATE TABLE S.DD (a int, b int)' } }
",
    );
    refuses(&sandbox, &["`one` and `two` both own table s.dd"]);
}

#[test]
fn a_series_claims_only_the_names_of_its_own_calendar() {
    for (name, refused) in [
        ("s.hist_2025_h2", false),
        ("s.hist_2025_q3", false),
        ("s.hist_2025_07", true),
        ("s.hist_2031_12", true),
        ("s.hist_2024_12", false),
        ("s.hist_2025_13", false),
        ("s.hist_latest", false),
    ] {
        let sandbox = warehouse(&format!("
  - {{ id: months, period_tables: {{ connection: w, every: month, from: '2025_01', tables: [ {{ name: 's.hist_{{period}}', like: s.mart }} ] }} }}
  - {{ id: one, table: {{ connection: w, ddl: 'CREATE TABLE {name} (a int)' }} }}
"));
        validate(&sandbox).exits(i32::from(refused));
    }
}

#[test]
fn series_are_refused_only_if_they_make_one_table() {
    for (every, from, name, refused) in [
        ("year", "'2025'", "s.hist_{period}_07", true),
        ("year", "'2025'", "s.hist_{period}_13", false),
        ("quarter", "'2025_q3'", "s.hist_{period}", false),
        ("month", "'2025_09'", "s.HIST_{period}", true),
        ("day", "'2025_01_01'", "s.hist_{period}", false),
    ] {
        let sandbox = Sandbox::new();
        let steps = format!("
  - {{ id: months, period_tables: {{ connection: v, every: month, from: '2025_07', through: '2026_06', tables: [ {{ name: 's.hist_{{period}}', like: s.mart }} ] }} }}
  - {{ id: other, period_tables: {{ connection: v, every: {every}, from: {from}, tables: [ {{ name: '{name}', like: s.mart }} ] }} }}
");
        sandbox.write(FILE, "root", format!("name: x\n{WAREHOUSE}steps:\n{steps}"));
        if refused {
            refuses(&sandbox, &["steps `months` and `other` both own table s."]);
        } else {
            validate(&sandbox).exits(0);
        }
    }
}

/// A password file is read when the connection is opened, so the step that writes it runs first.
#[test]
fn a_connection_waits_for_its_password_file() {
    for (path, variable) in [("/root/.pgpass", None), ("/srv/passwords", Some(("PGPASSFILE", "/srv/passwords")))] {
        let mut sandbox = Sandbox::new().warehouse();
        if let Some((name, value)) = variable {
            sandbox = sandbox.env(name, value);
        }
        sandbox.sql("CREATE SCHEMA s AUTHORIZATION etl");
        sandbox.write(
            FILE,
            "root",
            format!(
                "name: x
connections:
  w: {{ url: \"{{{{ env_var('REDSHIFT_URL') }}}}\" }}
steps:
  - {{ id: table, table: {{ connection: w, ddl: 'CREATE TABLE s.t (a int)' }} }}
  - id: pass
    file:
      path: {path}
      mode: \"0600\"
      content: \"*:*:*:*:{{{{ secret('password') }}}}\\n\"
      secrets: {{ password: {{ env: REDSHIFT_PASSWORD }} }}
"
            ),
        );
        let planned = plan(&sandbox).exits(2).step("step_planned", "table");
        assert_eq!(planned["waits_for"], serde_json::json!(["pass"]), "{planned}");
        converges_in_one_apply(&sandbox);
    }
}

#[test]
fn a_saved_plan_refuses_a_changed_connection() {
    let sandbox = Sandbox::new().warehouse();
    sandbox.sql("CREATE SCHEMA s AUTHORIZATION etl; CREATE ROLE other; GRANT other TO etl");
    sandbox.write(
        FILE,
        "root",
        "name: x
connections:
  w: { url: \"{{ env_var('U') }}\", password: { env: REDSHIFT_PASSWORD }, connect_timeout: \"{{ env_var('T', '10') }}\" }
steps:
  - { id: t, table: { connection: w, ddl: 'CREATE TABLE s.t (a int)' } }
",
    );
    let url = sandbox.env_of("REDSHIFT_URL");
    sandbox.provision("root", ["plan", FILE, "--out", "/root/saved"]).env("U", &url).run().exits(0);
    for (name, other) in [
        ("U", format!("{url}&options=-c%20role%3Dother")),
        ("U", url.replace("sslmode=disable", "sslmode=prefer")),
        ("U", format!("{url}&application_name=x")),
        ("U", format!("{url}&target_session_attrs=read-write")),
        ("U", format!("{url}&passfile=/root/x")),
        ("U", format!("{url}&sslrootcert=/root/x")),
        ("T", "11".to_owned()),
    ] {
        let run = sandbox.provision("root", ["apply", "/root/saved", "--yes"]).env("U", &url).env(name, &other);
        let outcome = run.run().exits(1);
        assert!(outcome.stderr.contains("step `t` evaluates differently now"), "{name}={other}\n{outcome}");
    }
    assert_eq!(sandbox.sql("SELECT count(*) FROM pg_class WHERE relname = 't'"), "0\n");
    sandbox.provision("root", ["apply", "/root/saved", "--yes"]).env("U", &url).run().exits(0);
}

/// Returns a bastion that forwards to a warehouse, and the password of the warehouse.
fn tunnelled() -> (Rotation, String) {
    let rotation = Rotation::new();
    rotation.serve("AllowTcpForwarding yes");
    let password = random_word();
    let sandbox = &rotation.sandbox;
    sandbox.place_cluster();
    sandbox.bash("root", &format!("WAREHOUSE_PASSWORD={password} /opt/provision/scripts/services postgres"));
    sandbox.sql("CREATE SCHEMA s AUTHORIZATION etl");
    (rotation, password)
}

/// Writes a plan file with a connection through the bastion. `tunnel` has more keys of the tunnel.
fn write_tunnelled(sandbox: &Sandbox, tunnel: &str, steps: &str) {
    let text = format!(
        "name: x
connections:
  w:
    url: postgresql://etl@127.0.0.1:5432/warehouse?sslmode=disable
    password: {{ env: W }}
    tunnel: {{ ssh: '{BASTION}', {tunnel} }}
steps:
{steps}"
    );
    sandbox.write(FILE, "root", text);
}

#[test]
fn a_tunnel_waits_for_the_step_that_creates_its_key() {
    for after in ["", "after: [key], "] {
        let (rotation, password) = tunnelled();
        let sandbox = &rotation.sandbox;
        let host_key = sandbox.read("/etc/ssh/bastion_ed25519.pub");
        sandbox.write("/root/.ssh/known_hosts", "root", format!("[127.0.0.1]:2222 {host_key}"));
        let steps = format!(
            "  - {{ id: tab, {after}table: {{ connection: w, ddl: 'CREATE TABLE s.kyx (a int)' }} }}
  - {{ id: key, key_file: {{ path: /srv/app/key.pem, source: {{ env: K }} }} }}
"
        );
        write_tunnelled(sandbox, "key: /srv/app/key.pem", &steps);
        let run = |command: &'static str, more: &'static [&'static str], key: &str| {
            let key = sandbox.read(&if key == "new" { KEY_SOURCE.to_owned() } else { format!("/home/ubuntu/{key}") });
            sandbox
                .provision("root", [command, FILE, "--json"])
                .args(more.iter().copied())
                .env("W", &password)
                .env("K", key)
                .run()
        };
        let planned = run("plan", &[], "new").exits(0).step("step_planned", "tab");
        assert_eq!(planned["waits_for"], serde_json::json!(["key"]), "{planned}");
        run("apply", &["--yes"], "new").exits(0);
        run("plan", &["--detailed-exitcode"], "new").exits(0);
        // A rotation: the current key is no longer accepted, but the new one is.
        rotation.authorize(&["old"]);
        sandbox.sql("DROP TABLE s.kyx");
        run("apply", &["--yes"], "old").exits(0);
        run("plan", &["--detailed-exitcode"], "old").exits(0);
    }
}

#[test]
fn a_tunnel_waits_for_the_step_that_writes_its_known_hosts() {
    let (rotation, password) = tunnelled();
    let sandbox = &rotation.sandbox;
    let host_key = sandbox.read("/etc/ssh/bastion_ed25519.pub");
    sandbox.bash("root", "cp /home/ubuntu/old /root/key; chmod 600 /root/key");
    let steps = format!(
        "  - {{ id: tab, table: {{ connection: w, ddl: 'CREATE TABLE s.kyx (a int)' }} }}
  - {{ id: hosts, file: {{ path: /root/.ssh/known_hosts, content: \"[127.0.0.1]:2222 {}\\n\" }} }}\n",
        host_key.trim()
    );
    write_tunnelled(sandbox, "key: /root/key", &steps);
    rotation.authorize(&["old"]);
    let run = |args: &[&'static str]| {
        let args = args.iter().copied().chain([FILE, "--json"]);
        sandbox.provision("root", args).env("W", &password).run()
    };
    let planned = run(&["plan"]).exits(0).step("step_planned", "tab");
    assert_eq!(planned["waits_for"], serde_json::json!(["hosts"]), "{planned}");
    run(&["apply", "--yes"]).exits(0);
    run(&["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_connection_waits_for_the_steps_that_write_its_certificates_and_its_password_file() {
    for key in [
        "sslrootcert=/srv/tls/it.pem",
        "sslcert=/srv/tls/it.pem&sslkey=/srv/tls/key",
        "sslcert=/srv/tls/cert&sslkey=/srv/tls/it.pem",
        "passfile=/srv/tls/it.pem",
    ] {
        let sandbox = Sandbox::new();
        let url = format!("postgresql://etl@127.0.0.1:5432/warehouse?sslmode=verify-ca&{key}");
        let text = format!(
            "name: x
connections: {{ w: {{ url: '{url}' }} }}
steps:
  - {{ id: tab, table: {{ connection: w, ddl: 'CREATE TABLE s.kyx (a int)' }} }}
  - {{ id: it, file: {{ path: /srv/tls/it.pem, content: x, mode: '0600' }} }}\n"
        );
        sandbox.write(FILE, "root", text);
        let outcome = sandbox.provision("root", ["plan", FILE, "--json"]).run().exits(0);
        let planned = outcome.step("step_planned", "tab");
        assert_eq!(planned["waits_for"], serde_json::json!(["it"]), "{key}: {outcome}");
        assert_eq!(planned["certainty"], "provisional", "{key}: {outcome}");
    }
}

#[test]
fn a_tunnel_names_the_second_factor_that_its_host_asks_for() {
    let (rotation, password) = tunnelled();
    let sandbox = &rotation.sandbox;
    let host_key = sandbox.read("/etc/ssh/bastion_ed25519.pub");
    sandbox.write("/root/.ssh/known_hosts", "root", format!("[127.0.0.1]:2222 {host_key}"));
    sandbox.bash("root", "cp /home/ubuntu/old /root/key; chmod 600 /root/key");
    write_tunnelled(
        sandbox,
        "key: /root/key",
        "  - { id: tab, table: { connection: w, ddl: 'CREATE TABLE s.kyx (a int)' } }\n",
    );
    rotation.authorize(&["old"]);
    for (line, named) in [
        ("AuthenticationMethods publickey,password\nPasswordAuthentication yes", "password"),
        ("AuthenticationMethods publickey,publickey", "a second key"),
    ] {
        rotation.serve(&format!("AllowTcpForwarding yes\n{line}"));
        let outcome = sandbox.provision("root", ["plan", FILE, "--json"]).env("W", &password).run().exits(1);
        let planned = outcome.step("step_planned", "tab");
        let reason = planned["reason"].as_str().unwrap();
        assert!(reason.contains("accepts the key") && reason.contains(named), "{line}: {outcome}");
        assert!(!planned["hint"].to_string().contains("authorized_keys"), "{outcome}");
    }
}

#[test]
fn a_tunnels_key_can_come_from_a_source_and_its_host_key_from_the_plan_file() {
    let (rotation, password) = tunnelled();
    let sandbox = &rotation.sandbox;
    let right = rotation.fingerprint("ed25519");
    let wrong = format!("SHA256:{}", "A".repeat(43));
    let key = sandbox.read("/home/ubuntu/old");
    let run = |source: &str, host_key: &str, command: &'static str, key: &str| {
        let steps = "  - { id: tab, table: { connection: w, ddl: 'CREATE TABLE s.kyx (a int)' } }\n";
        write_tunnelled(sandbox, &format!("key: {source}, host_key: '{host_key}'"), steps);
        let more: &[&str] = if command == "apply" { &["--yes"] } else { &[] };
        let run = sandbox.provision("root", [command, FILE, "--json", "--log", "trace"]).args(more.iter().copied());
        let outcome = run.env("W", &password).env("K", key).run();
        assert!(!outcome.all().contains(key.lines().nth(2).unwrap_or("no key")), "{outcome}");
        outcome
    };
    let planned = run("{ env: K }", &right, "plan", &key).exits(0);
    assert_eq!(planned.step("step_planned", "tab")["outcome"], "changes", "{planned}");
    for (source, host_key, key, expected) in [
        ("{ env: K }", &wrong, key.as_str(), "host key"),
        ("{ env: K }", &right, "", "the source of the key is empty"),
        ("{ env: K }", &right, "no key", "the key"),
        ("{ file: /root/none }", &right, "", "/root/none"),
        ("/root/none", &right, "", "cannot read the key /root/none"),
    ] {
        let refused = run(source, host_key, "plan", key).exits(1);
        let reason = refused.step("step_planned", "tab")["reason"].to_string();
        assert!(reason.contains(expected), "{source}: {reason}");
    }
    run("{ command: [cat, /home/ubuntu/old] }", &right, "apply", "").exits(0);
    let again = run("/home/ubuntu/old", &right, "plan", "").exits(0);
    assert_eq!(again.step("step_planned", "tab")["outcome"], "unchanged", "{again}");
}
