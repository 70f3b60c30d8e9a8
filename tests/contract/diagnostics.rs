//! Logs and timelines: their content, that they are off by default, and that they contain no secrets.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sandbox::{BASTION, COMPOSE, KEY_SOURCE, PLAN, Rotation, Sandbox, eventually};

const LOG: &str = "/var/tmp/provision.log";
pub(crate) const TIMELINE: &str = "/var/tmp/timeline.json";

/// Returns the complete events of a timeline, each with the name of its track.
pub(crate) fn spans(sandbox: &Sandbox) -> Vec<(String, Value)> {
    let whole: Value = serde_json::from_str(&sandbox.read(TIMELINE)).expect("JSON");
    let events = whole["traceEvents"].as_array().unwrap();
    let track = |event: &Value| {
        let named = events
            .iter()
            .find(|other| other["ph"] == "M" && other["name"] == "thread_name" && other["tid"] == event["tid"]);
        named.unwrap_or_else(|| panic!("a track has a name: {event}"))["args"]["name"].as_str().unwrap().to_owned()
    };
    let spans = events.iter().filter(|event| event["ph"] == "X");
    spans.map(|event| (track(event), event.clone())).collect()
}

fn bounds(span: &Value) -> (u64, u64) {
    let (began, took) = (span["ts"].as_u64().unwrap(), span["dur"].as_u64().unwrap());
    (began, began + took)
}

#[test]
fn a_timeline_shows_the_work_of_workers_in_their_steps() {
    let sandbox = Sandbox::order_tracking();
    let args = ["apply", PLAN, "--yes", "--timeline", TIMELINE];
    sandbox.provision("ubuntu", args).run().exits(0);
    assert_eq!(sandbox.bash("root", &format!("stat -c '%a %U' {TIMELINE}")), "600 ubuntu\n");
    let spans = spans(&sandbox);
    let of = |track: &str, name: &str| -> Vec<&Value> {
        spans.iter().filter(|(on, span)| on == track && span["name"] == name).map(|(_, span)| span).collect()
    };
    let [run] = of("run", "run").try_into().unwrap();
    for step in ["logs-directory", "bastion-key", "repository", "smtp-password", "history-tables", "exceptions-table"] {
        let steps = of(step, "step");
        assert_eq!(steps.len(), 2, "for the plan and for its changes: {step}");
        for span in of(step, "observe").into_iter().chain(of(step, "execute")).chain(of(step, "worker.request")) {
            let inside = |outer: &&&Value| {
                let ((began, ended), (from, to)) = (bounds(outer), bounds(span));
                began <= from && to <= ended
            };
            assert!(steps.iter().any(|outer| inside(&outer)) && inside(&&run), "{step}: {span} in {steps:?}");
        }
        assert!(!of(step, "execute").is_empty(), "{step}");
    }
    let [wait] = of("smtp-password", "step.wait").try_into().unwrap();
    assert_eq!(wait["args"]["waits_for"], "repository");
    for step in ["bastion-key", "repository", "history-tables"] {
        assert_eq!(of(step, "verify").len(), 1, "{step}");
    }
    let sources: Vec<&Value> = of("run", "secret.read").iter().map(|span| &span["args"]["source"]).collect();
    assert!(sources.iter().any(|source| **source == "env ALERT_SMTP_PASSWORD"), "{sources:?}");
    assert!(!of("bastion-key", "worker.request").is_empty() && of("history-tables", "worker.request").is_empty());
    let query = spans.iter().find(|(_, span)| span["name"] == "warehouse.query").unwrap();
    assert!(query.1["args"]["rows"].as_u64().unwrap() > 0 && query.1["args"]["attempt"] == 1, "{query:?}");
    assert!(!of("repository", "git.ls_remote").is_empty() && !of("repository", "git.checkout").is_empty());
    let fetched = of("repository", "git.fetch");
    assert!(fetched.iter().any(|span| span["args"]["objects"].as_u64() > Some(10)), "{fetched:?}");
    assert!(!of("logs-directory", "fs.walk").is_empty());
    // The next one replaces it.
    sandbox.provision("ubuntu", ["plan", PLAN, "--timeline", TIMELINE]).run().exits(0);
    assert!(!sandbox.read(TIMELINE).contains("\"execute\""));
}

/// The server ends the session of the first attempt, which waits for a lock.
#[test]
fn a_statement_that_is_sent_again_has_its_attempt_and_the_reason_in_the_log() {
    let sandbox = Sandbox::new().warehouse();
    let hold = "BEGIN; LOCK TABLE settlement_ods.mart_uni_tracking_info IN ACCESS EXCLUSIVE MODE; SELECT 'held';
        DO $$ DECLARE ended int; BEGIN
          FOR attempt IN 1..3000 LOOP
            PERFORM pg_stat_clear_snapshot();
            SELECT count(pg_terminate_backend(pid)) INTO ended FROM pg_stat_activity
              WHERE application_name = 'provision' AND wait_event_type = 'Lock' AND query LIKE '%CREATE TABLE%';
            IF ended > 0 THEN RETURN; END IF;
            PERFORM pg_sleep(0.02);
          END LOOP;
          RAISE EXCEPTION 'no run came to its first table';
        END $$; COMMIT;";
    let psql = ["psql", "-h", "/run/postgresql", "-U", "postgres", "-d", "warehouse", "-XAtq", "-v", "ON_ERROR_STOP=1"];
    let mut holder = sandbox.command("root", psql).stdin(hold).start();
    holder.until(|line| line == "held\n");
    let args = ["apply", PLAN, "--yes", "--only", "history-tables,exceptions-table", "-vv", "--timeline", TIMELINE];
    let outcome = sandbox.provision("ubuntu", args).run().exits(0);
    holder.wait().exits(0);
    let retry =
        outcome.stderr.lines().find(|line| line.contains("trying again")).unwrap_or_else(|| panic!("{outcome}"));
    assert!(retry.contains("terminating connection") && retry.contains("attempt=2"), "{retry}");
    let again = |(_, span): &&(String, Value)| span["name"] == "warehouse.query" && span["args"]["attempt"] == 2;
    let spans = spans(&sandbox);
    let (_, again) = spans.iter().find(again).unwrap_or_else(|| panic!("{spans:?}"));
    assert_eq!(again["args"]["query"], "change");
}

#[test]
fn a_log_is_written_only_to_its_destination() {
    let sandbox = Sandbox::order_tracking();
    let silent = sandbox.provision("ubuntu", ["plan", PLAN]).run().exits(0);
    assert!(!silent.all().contains("took"), "{silent}");
    let some = sandbox.provision("ubuntu", ["plan", PLAN, "-v"]).run().exits(0);
    assert!(some.stderr.contains("INFO history-tables: warehouse.connect took"), "{some}");
    assert!(some.stderr.contains("INFO repository: git.ls_remote took"), "{some}");
    assert!(!some.stderr.contains("begins") && !some.stdout.contains("took"), "{some}");
    let all = sandbox.provision("ubuntu", ["plan", PLAN, "-vv"]).run().exits(0);
    assert!(all.stderr.contains("DEBUG bastion-key: worker.request begins request=observe"), "{all}");
    let part = sandbox.provision("ubuntu", ["plan", PLAN]).env("PROVISION_LOG", "warehouse=debug").run().exits(0);
    let of_log: Vec<&str> =
        part.stderr.lines().filter(|line| line.contains("took") || line.contains("begins")).collect();
    assert!(!of_log.is_empty() && of_log.iter().all(|line| line.contains("warehouse.")), "{part}");
    // A log file is appended to, in JSON, and only its owner can read it.
    for _ in 0..2 {
        let args = ["plan", PLAN, "--log-file", LOG, "--log-format", "json"];
        let outcome = sandbox.provision("ubuntu", args).run().exits(0);
        assert!(!outcome.stderr.contains("took"), "{outcome}");
    }
    assert_eq!(sandbox.bash("root", &format!("stat -c '%a %U' {LOG}")), "600 ubuntu\n");
    let lines: Vec<Value> = sandbox.read(LOG).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["span"] == "run" && line["kind"] == "end").count(), 2);
    // Each step's line has the step's kind beside its own, and the field of a span has no key of every line.
    let of_steps: Vec<&Value> = lines.iter().filter(|line| line["span"] == "step" && line["kind"] == "end").collect();
    let plan = sandbox.plan("ubuntu").exits(0);
    let planned = |line: &Value| plan.step("step_planned", line["step"].as_str().unwrap())["kind"].clone();
    assert!(!of_steps.is_empty() && of_steps.iter().all(|line| line["resource_kind"] == planned(line)), "{of_steps:?}");
    assert!(lines.iter().all(|line| line.as_object().unwrap().keys().all(|key| !key.starts_with("field_"))));
    let wrong = sandbox.provision("ubuntu", ["plan", PLAN, "--log", "loud"]).run().exits(1);
    assert!(wrong.stderr.contains("`loud` is not a level"), "{wrong}");
}

#[test]
fn a_log_file_that_others_can_read_is_refused() {
    let sandbox = Sandbox::order_tracking();
    sandbox.bash("root", &format!("touch {LOG}; chown ubuntu {LOG}; chmod 644 {LOG}"));
    for option in ["--log-file", "--timeline"] {
        let outcome = sandbox.provision("ubuntu", ["plan", PLAN, option, LOG]).run().exits(1);
        assert!(
            outcome.stderr.contains("others can read it") && outcome.stderr.contains(&format!("chmod 600 {LOG}")),
            "{outcome}"
        );
    }
    sandbox.write("/home/ubuntu/elsewhere", "ubuntu", "kept");
    sandbox.bash("ubuntu", &format!("chmod 600 elsewhere; rm {LOG}; ln -s /home/ubuntu/elsewhere {LOG}"));
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN, "--log-file", LOG]).run().exits(1);
    assert!(outcome.stderr.contains(&format!("cannot write {LOG}: it is a symlink")), "{outcome}");
    assert_eq!(sandbox.read("/home/ubuntu/elsewhere"), "kept");
}

#[test]
fn log_lines_match_their_events() {
    let sandbox = Sandbox::order_tracking();
    let outcome = sandbox.provision("ubuntu", ["apply", PLAN, "--yes", "--json", "--log-file", LOG]).run().exits(0);
    let log = sandbox.read(LOG);
    let mut compared = 0;
    for event in outcome.events().iter().filter(|event| event["event"] != "run_started") {
        let changes = event["changes"].as_array().into_iter().flatten().map(|change| &change["summary"]);
        for text in ["summary", "reason", "command"].map(|key| &event[key]).into_iter().chain(changes) {
            let Some(line) = text.as_str().and_then(|text| text.lines().next()) else { continue };
            assert!(log.contains(line), "{event}\n{log}");
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared} texts");
    // A step that fails is in a log of warnings too.
    sandbox.bash(
        "root",
        "rm /home/ubuntu/etl/etl_dw/ssh/jasleentung.pem; mkdir /home/ubuntu/etl/etl_dw/ssh/jasleentung.pem",
    );
    let failed = sandbox.provision("ubuntu", ["plan", PLAN, "--log", "warn"]).run().exits(1);
    assert!(failed.stderr.contains("WARN blocked: ") && failed.stderr.contains("step=bastion-key"), "{failed}");
    assert!(!failed.stderr.contains("INFO"), "{failed}");
}

#[test]
fn quiet_hides_what_needs_no_attention() {
    let sandbox = Sandbox::converged();
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN, "-q"]).run().exits(0);
    assert!(outcome.all().contains("everybody can read") && !outcome.all().contains("bastion-key"), "{outcome}");
    sandbox.bash("root", &format!("chmod o-r {COMPOSE}"));
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN, "-q"]).run().exits(0);
    assert_eq!(outcome.stdout, "");
    sandbox.bash("root", "rm -r /home/ubuntu/etl/etl_dw/s3-redshift-backup-tool/airflow_poc/logs");
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN, "-q"]).run().exits(0);
    assert!(outcome.stdout.contains("logs-directory") && !outcome.stdout.contains("bastion-key"), "{outcome}");
}

#[test]
fn no_secret_gets_into_a_log_or_a_timeline() {
    for user in ["ubuntu", "root"] {
        let mut sandbox = Sandbox::order_tracking();
        for args in [["plan", PLAN, "--json"], ["apply", PLAN, "--yes"], ["plan", PLAN, "-vv"]] {
            let everything = "trace,tokio_postgres=trace,ssh2=trace,git2=trace,mio=trace";
            let more = ["--log", everything, "--log-file", LOG, "--timeline", TIMELINE];
            let outcome = sandbox.provision(user, args).args(more).run().exits(0);
            let on_standard_error = sandbox.provision(user, ["plan", PLAN]).args(["--log", everything]).run().exits(0);
            let log = sandbox.read(LOG);
            sandbox.bash("root", &format!("rm {LOG}"));
            assert!(log.contains("warehouse.connect") && on_standard_error.stderr.contains("warehouse.connect"));
            let written = log + &sandbox.read(TIMELINE) + &outcome.all() + &on_standard_error.all();
            let key = sandbox.read(KEY_SOURCE);
            let line = key.lines().nth(2).unwrap().to_owned();
            for value in [sandbox.env_of("REDSHIFT_PASSWORD"), sandbox.env_of("ALERT_SMTP_PASSWORD"), line] {
                assert!(!written.contains(&value), "{user}: {args:?}");
            }
        }
        // A password in the URL, and a server that rejects it.
        let password = sandbox.env_of("REDSHIFT_PASSWORD");
        let url = sandbox.env_of("REDSHIFT_URL").replace("etl@", &format!("etl:{password}x@"));
        assert!(url.contains(&password));
        sandbox.set_env("REDSHIFT_URL", url);
        sandbox.set_env("REDSHIFT_PASSWORD", "");
        let args = ["plan", PLAN, "-vv", "--log-file", LOG, "--timeline", TIMELINE];
        let outcome = sandbox.provision(user, args).run().exits(1);
        assert!(outcome.stdout.contains("wrong password for user etl"), "{outcome}");
        let written = sandbox.read(LOG) + &sandbox.read(TIMELINE) + &outcome.all();
        assert!(!written.contains(&password), "{user}");
    }
}

/// A collector that runs on the machine and not on a throwaway host. It stores what it receives.
struct Collector {
    process: std::process::Child,
    output: std::path::PathBuf,
    port: u16,
}

impl Collector {
    fn start(folder: &Path) -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/lib");
        let python = tools.read_dir().expect("scripts/setup --tests installs the collector").next().unwrap().unwrap();
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, other) = (free(), free());
        let output = folder.join("collected");
        let file = std::fs::File::create(&output).unwrap();
        let process = std::process::Command::new(python.path().join("site-packages/rotel/rotel-agent"))
            .args(["start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{other}")])
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let collector = Self { process, output, port };
        eventually("the collector listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        collector
    }

    fn collected(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Returns a plan of one directory step that sends its spans to a collector at the port.
fn planned_with(folder: &Path, port: u16, more: &[(&str, &str)]) -> std::process::Output {
    let plan_file = folder.join("provision.yaml");
    let path = folder.join("new");
    let text = format!("name: small\nsteps:\n  - id: one\n    directory: {{ path: {} }}\n", path.display());
    std::fs::write(&plan_file, text).unwrap();
    std::process::Command::new(env!("CARGO_BIN_EXE_provision"))
        .args(["plan", plan_file.to_str().unwrap()])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .envs(more.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn a_collector_receives_the_spans_in_the_trace_of_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let outcome = planned_with(folder.path(), collector.port, &[("TRACEPARENT", parent)]);
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{outcome:?}");
    eventually("the spans have arrived", || collector.collected().contains("Name           : run"));
    let collected = collector.collected();
    assert_eq!(
        collected.matches("Trace ID       : 4bf92f3577b34da6a3ce929d0e0e4736").count(),
        collected.matches("Span #").count()
    );
    assert_eq!(collected.matches("Parent ID      : 00f067aa0ba902b7").count(), 1, "that of the run\n{collected}");
    for name in ["step", "observe", "diff", "worker.start", "worker.request"] {
        assert!(collected.contains(&format!("Name           : {name}\n")), "{name}\n{collected}");
    }
    // The start of a trace decides whether it is recorded.
    let (unsampled, later) = (parent.replace("4bf9", "aaaa").replace("-01", "-00"), parent.replace("4bf9", "bbbb"));
    for parent in [&unsampled, &later] {
        planned_with(folder.path(), collector.port, &[("TRACEPARENT", parent)]);
    }
    eventually("the last spans have arrived", || collector.collected().contains("bbbb2f3577b34da6a3ce929d0e0e4736"));
    assert!(!collector.collected().contains("aaaa2f3577b34da6a3ce929d0e0e4736"));
}

#[test]
fn a_silent_collector_does_not_fail_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let outcome = planned_with(folder.path(), silent.local_addr().unwrap().port(), &[]);
    let took = began.elapsed();
    assert!(outcome.status.success(), "{outcome:?}");
    let said = String::from_utf8(outcome.stderr).unwrap();
    assert!(said.contains("cannot send the trace to the OpenTelemetry collector"), "{said}");
    // Two seconds, and as many again for a machine under load.
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_timeline_shows_what_a_slow_bastion_is_waited_for() {
    let rotation = Rotation::new();
    rotation.impostor(1, "sleep 3");
    let plan = rotation.command("git@127.0.0.1:1", "plan", "").args(["--timeline", TIMELINE]);
    plan.run();
    let spans = spans(&rotation.sandbox);
    let took = |span: &Value| bounds(span).1 - bounds(span).0;
    let (_, connecting) = spans.iter().find(|(track, span)| track == "key" && span["name"] == "ssh.connect").unwrap();
    assert!(took(connecting) > 2_500_000, "{connecting}");
    // Everything long is around it.
    for (track, span) in spans.iter().filter(|(_, span)| took(span) > 2_000_000) {
        let ((began, ended), (from, to)) = (bounds(span), bounds(connecting));
        assert!(began <= from && to <= ended, "{track}: {span}");
    }
    rotation.command(BASTION, "plan", "").args(["--timeline", TIMELINE]).run();
    let signing_in = self::spans(&rotation.sandbox).into_iter().find(|(_, span)| span["name"] == "ssh.auth");
    assert_eq!(
        signing_in.map(|(track, span)| (track, span["args"]["user"].clone())),
        Some(("key".into(), "git".into()))
    );
}

#[test]
fn an_unreachable_collector_is_named_without_its_password() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let plan_file = "/home/ubuntu/small.yaml";
    sandbox.write(plan_file, "ubuntu", "name: small\nsteps:\n  - { id: one, directory: { path: /home/ubuntu/one } }\n");
    let endpoint = "http://me:hunter2@127.0.0.1:1";
    for (name, value, said) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "correct OTEL_EXPORTER_OTLP_ENDPOINT or unset it"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "only http/protobuf is supported"),
    ] {
        let plan = sandbox.provision("ubuntu", ["plan", plan_file]).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        let outcome = plan.env(name, value).run().exits(0);
        assert!(
            outcome.stderr.contains("collector at http://127.0.0.1:1") && outcome.stderr.contains(said),
            "{outcome}"
        );
        assert!(!outcome.all().contains("hunter2"), "{outcome}");
    }
    for endpoint in ["me:hunter2@127.0.0.1:1", "not a url hunter2"] {
        let plan = sandbox.provision("ubuntu", ["plan", plan_file]).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        let outcome = plan.run().exits(0);
        assert!(outcome.stderr.contains("not an http or https URL"), "{outcome}");
        assert!(!outcome.all().contains("hunter2"), "{outcome}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_reported() {
    let sandbox = Sandbox::order_tracking();
    sandbox.bash("root", "mkdir /home/ubuntu/full && mount -t tmpfs -o size=4k,mode=1777 none /home/ubuntu/full");
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN, "--log-file", "/home/ubuntu/full/log"]).run().exits(0);
    assert!(outcome.stderr.contains("warning: cannot write /home/ubuntu/full/log: no space left"), "{outcome}");
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN, "--timeline", "/home/ubuntu/full/trace"]).run().exits(0);
    assert!(outcome.stderr.contains("warning: cannot write /home/ubuntu/full/trace: no space left"), "{outcome}");
}

#[test]
fn misspelt_parts_of_a_filter_are_refused() {
    let sandbox = Sandbox::order_tracking();
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN]).env("PROVISION_LOG", "gti=debug").run().exits(1);
    assert!(outcome.stderr.contains("PROVISION_LOG") && outcome.stderr.contains("did you mean `git`"), "{outcome}");
    let bad = sandbox.bash("ubuntu", "PROVISION_LOG=$'\\xff' /opt/provision/bin/provision schema 2>&1 || true");
    assert!(bad.starts_with("error: PROVISION_LOG: invalid log filter"), "{bad}");
    sandbox.provision("ubuntu", ["plan", PLAN]).env("PROVISION_LOG", "git=debug,tokio_postgres=info").run().exits(0);
}
