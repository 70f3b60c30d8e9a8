//! Only one apply of a plan file runs at a time on a host, and the state folder is not trusted blindly.

use nix::sys::signal::Signal;

use crate::diagnostics::{TIMELINE, spans};
use crate::sandbox::{CHECKOUT, PLAN, Sandbox, Snapshot, own_plan};

const DIRECTORY: &str = "
name: small
steps:
  - id: data
    directory: { path: /srv/data, mode: \"0750\" }
";

#[test]
fn a_second_apply_reports_the_lock_holder() {
    let sandbox = Sandbox::new().warehouse();
    let first = sandbox.apply_midway("ubuntu", PLAN);
    let tables = sandbox.tables();

    let second = sandbox.apply_held("ubuntu", PLAN).run().exits(1);
    let reason = second.events().pop().unwrap()["reason"].as_str().unwrap().to_owned();
    let run = first.started["run"].as_str().unwrap();
    for expected in ["ubuntu", "pid ", "throwaway", run, "since 2"] {
        assert!(reason.contains(expected), "{expected:?}: {reason}");
    }
    assert!(reason.starts_with("nothing was changed"), "{reason}");
    assert!(second.events_of("change_started").is_empty(), "{second}");

    // Root cannot trust what ubuntu recorded, but is kept out nevertheless.
    let roots = sandbox.apply_held("root", PLAN).run().exits(1);
    let reason = roots.events().pop().unwrap()["reason"].as_str().unwrap().to_owned();
    for expected in ["ubuntu", "pid ", "throwaway", "since 2"] {
        assert!(reason.contains(expected), "{expected:?}: {reason}");
    }
    assert!(!sandbox.path("/var/lib/provision/runs").exists());

    // A plan does not wait. Another plan file is independent.
    sandbox.provision("ubuntu", ["plan", PLAN, "--only", "history-tables"]).run().exits(0);
    sandbox.write("/root/provision.yaml", "root", DIRECTORY);
    sandbox.provision("root", ["apply", "--yes"]).run().exits(0);

    assert_eq!(tables, sandbox.tables());
    first.let_go().exits(0);
    sandbox.apply_held("root", PLAN).run().exits(0);
}

#[test]
fn a_replaced_plan_file_is_still_locked() {
    let sandbox = Sandbox::new().warehouse();
    let plan = own_plan(&sandbox);
    let first = sandbox.apply_midway("ubuntu", plan);
    sandbox.bash("ubuntu", "cp provision.yaml new; mv new provision.yaml");
    let second = sandbox.apply_held("ubuntu", plan).run().exits(1);
    let run = first.started["run"].as_str().unwrap();
    assert!(second.stdout.contains(run), "{second}");
    // Another name refers to the same plan file.
    sandbox.bash("ubuntu", "mkdir elsewhere; ln -s ../provision.yaml elsewhere/link.yaml");
    sandbox.apply_held("ubuntu", "/home/ubuntu/elsewhere/link.yaml").run().exits(1);
    first.let_go().exits(0);
}

#[test]
fn a_second_apply_waits_on_request() {
    let sandbox = Sandbox::new().warehouse();
    let first = sandbox.apply_midway("ubuntu", PLAN);
    let bounded = sandbox.apply_held("ubuntu", PLAN).args(["--wait=1"]).run().exits(1);
    assert!(bounded.stdout.contains("did not finish within 1 s"), "{bounded}");
    assert_eq!(bounded.events_of("run_waiting")[0]["holder"]["user"], "ubuntu", "{bounded}");

    let mut stopped = sandbox.apply_held("ubuntu", PLAN).args(["--wait"]).start();
    stopped.until(|line| line.contains("run_waiting"));
    stopped.signal(Signal::SIGTERM);
    let stopped = stopped.wait().exits(143);
    assert_eq!(stopped.events().pop().unwrap()["event"], "run_finished", "{stopped}");

    let mut waiting = sandbox.apply_held("root", PLAN).args(["--wait"]).start();
    waiting.until(|line| line.contains("run_waiting"));
    first.let_go().exits(0);
    let waited = waiting.wait().exits(0);
    // It observed the host after the other run had ended, and found everything done.
    assert_eq!(waited.step("step_planned", "history-tables")["outcome"], "unchanged", "{waited}");
}

#[test]
fn the_lock_is_released_when_its_holder_dies() {
    let sandbox = Sandbox::new().warehouse();
    sandbox.apply_midway("ubuntu", PLAN).kill();
    sandbox.apply_held("root", PLAN).run().exits(0);
    sandbox.apply_held("ubuntu", PLAN).run().exits(0);
}

#[test]
fn a_state_folder_writable_by_others_is_refused_before_any_change() {
    for (user, spoil) in [
        ("root", "chown mallory /var/lib/provision"),
        ("root", "chmod 777 /var/lib/provision"),
        (
            "root",
            "rmdir /var/lib/provision; mkdir /home/mallory/x; chown mallory /home/mallory/x; ln -s /home/mallory/x /var/lib/provision",
        ),
        ("root", "install -d -o mallory /var/lib/provision/runs"),
        ("root", "rmdir /var/lib/provision; touch /var/lib/provision"),
        ("ubuntu", "install -d -m 755 /home/ubuntu/.local/state"),
        ("ubuntu", "install -d -o ubuntu -m 777 /home/ubuntu/.local/state/provision"),
        (
            "ubuntu",
            "install -d -o ubuntu /home/ubuntu/.local /home/ubuntu/.local/state; install -d -o mallory -m 777 /home/ubuntu/.local/state/provision",
        ),
    ] {
        let sandbox = Sandbox::new();
        let plan = DIRECTORY.replace("/srv/data", "/home/ubuntu/data");
        sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan);
        sandbox.bash("root", spoil);
        let before = Snapshot::take(&sandbox, "/home", &["/home/ubuntu/.local"]);
        let outcome = sandbox.provision(user, ["apply", "/home/ubuntu/provision.yaml", "--yes"]).run().exits(1);
        assert!(outcome.stderr.contains("nothing was changed"), "{spoil}\n{outcome}");
        assert!(outcome.stderr.contains("hint: "), "{spoil}\n{outcome}");
        assert!(outcome.stderr.contains("provision"), "{spoil}\n{outcome}");
        before.is_same_as(&Snapshot::take(&sandbox, "/home", &["/home/ubuntu/.local"]), spoil);
        // A plan needs no state folder.
        sandbox.provision(user, ["plan", "/home/ubuntu/provision.yaml"]).run().exits(0);
    }
}

#[test]
fn the_state_folder_follows_the_environment() {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", DIRECTORY.replace("/srv/data", "/home/ubuntu/data"));
    let apply = sandbox.provision("ubuntu", ["apply", "--yes"]).env("XDG_STATE_HOME", "/home/ubuntu/state");
    apply.run().exits(0);
    let modes = sandbox.bash("root", "cd /home/ubuntu; stat -c '%a %U' state state/provision/* state/provision/*/*");
    assert_eq!(modes, "700 ubuntu\n700 ubuntu\n700 ubuntu\n600 ubuntu\n600 ubuntu\n");
    assert!(!sandbox.path("/home/ubuntu/.local").exists());
}

#[test]
fn concurrent_applies_make_each_change_once() {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", DIRECTORY.replace("/srv/data", "/home/ubuntu/data"));
    let start = |user: &str, wait: &'static [&'static str]| {
        sandbox
            .provision(user, ["apply", "/home/ubuntu/provision.yaml", "--yes", "--json"])
            .args(wait.iter().copied())
            .start()
    };
    for wait in [&["--wait"][..], &[]] {
        for _ in 0..5 {
            let running: Vec<_> = ["ubuntu", "root", "ubuntu", "root"].map(|user| start(user, wait)).into();
            let ended: Vec<_> = running.into_iter().map(crate::sandbox::Running::wait).collect();
            let made = ended.iter().map(|outcome| outcome.events_of("change_started").len()).sum::<usize>();
            assert_eq!(made, 1, "{ended:?}");
            for outcome in ended {
                let refused = outcome.stdout.contains("is being applied by");
                assert_eq!(outcome.code, i32::from(refused), "{outcome}");
                assert!(!refused || wait.is_empty(), "{outcome}");
            }
            sandbox.bash("root", "rmdir /home/ubuntu/data");
        }
    }
}

#[test]
fn an_apply_that_waited_refuses_a_changed_plan_file() {
    let sandbox = Sandbox::new().warehouse();
    let plan = own_plan(&sandbox);
    let first = sandbox.apply_midway("ubuntu", plan);
    let mut waiting = sandbox.apply_held("ubuntu", plan).args(["--wait"]).start();
    waiting.until(|line| line.contains("run_waiting"));
    sandbox.bash("ubuntu", "echo '# another remark' >> provision.yaml");
    first.let_go().exits(0);
    let waited = waiting.wait().exits(1);
    assert!(waited.stdout.contains("was changed in the meantime"), "{waited}");
    assert!(waited.events_of("step_planned").is_empty(), "{waited}");
}

#[test]
fn an_apply_that_waited_accepts_another_token_for_its_connection() {
    let mut sandbox = Sandbox::new().warehouse();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let file = "/home/ubuntu/one.yaml";
    // The server trusts this connection, so any token will do.
    sandbox.bash("root", "sed -i '1i host all etl 127.0.0.1/32 trust' /var/lib/postgresql/data/pg_hba.conf");
    sandbox.sql("SELECT pg_reload_conf(); CREATE SCHEMA s AUTHORIZATION etl");
    let connection = "{ url: \"{{ env_var('REDSHIFT_URL') }}\", password: { command: [sh, -c, 'date +%s%N'] } }";
    let step = "{ id: t, table: { connection: w, ddl: 'CREATE TABLE s.t (a int)' } }";
    sandbox.write(file, "ubuntu", format!("name: one\nconnections:\n  w: {connection}\nsteps:\n  - {step}\n"));
    sandbox.hold_lock(file);
    let mut waiting = sandbox.provision("ubuntu", ["apply", file, "--yes", "--json", "--wait"]).start();
    waiting.until(|line| line.contains("run_waiting"));
    sandbox.release_lock();
    let outcome = waiting.wait().exits(0);
    assert_eq!(outcome.step("step_finished", "t")["outcome"], "changed", "{outcome}");
}

#[test]
fn an_apply_that_waited_during_a_rotation_takes_nothing_back() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let file = "/home/ubuntu/one.yaml";
    let step = "{ file: /srv/app/compose.yaml, variable: PW, value: { file: /home/ubuntu/secret } }";
    sandbox.write(file, "ubuntu", format!("name: one\nsteps:\n  - id: pw\n    compose_env: {step}\n"));
    sandbox.bash("root", "install -d -o ubuntu /srv/app");
    let compose = "services:\n  web:\n    image: x\n    environment:\n      PW: old\n";
    sandbox.write("/srv/app/compose.yaml", "ubuntu", compose);
    sandbox.write("/home/ubuntu/secret", "ubuntu", "former");
    sandbox.hold_lock(file);
    let mut waiting = sandbox.provision("ubuntu", ["apply", file, "--yes", "--json", "--wait"]).start();
    waiting.until(|line| line.contains("run_waiting"));
    sandbox.write("/home/ubuntu/secret", "ubuntu", "current");
    sandbox.release_lock();
    let outcome = waiting.wait().exits(1);
    assert!(outcome.all().contains("a secret or a template was changed while apply waited"), "{outcome}");
    assert_eq!(sandbox.read("/srv/app/compose.yaml"), compose);
    sandbox.provision("ubuntu", ["apply", file, "--yes"]).run().exits(0);
    assert!(sandbox.read("/srv/app/compose.yaml").contains("current"));
}

/// Holds the checkout's lock, like the worker of a run whose launcher was killed.
fn hold_checkout(sandbox: &Sandbox) {
    let area = format!("{CHECKOUT}/.git/provision");
    sandbox.bash("ubuntu", &format!("mkdir -p -m 700 {area}"));
    sandbox.hold_lock(&area);
}

#[test]
fn a_plan_during_an_apply_notes_that_it_has_not_looked() {
    let sandbox = Sandbox::converged();
    hold_checkout(&sandbox);
    let arguments = ["plan", PLAN, "--json", "--detailed-exitcode", "--only", "repository"];
    let outcome = sandbox.provision("ubuntu", arguments).run().exits(0);
    let step = outcome.step("step_planned", "repository");
    assert_eq!(step["outcome"], "unchecked", "{outcome}");
    let note = step["notes"][0].as_str().unwrap();
    assert!(note.starts_with("not checked: another provision run is changing"), "{outcome}");
    // An apply must not leave the step out.
    let arguments = ["apply", PLAN, "--json", "--yes", "--only", "repository"];
    let outcome = sandbox.provision("ubuntu", arguments).run().exits(1);
    assert_eq!(outcome.step("step_planned", "repository")["outcome"], "blocked", "{outcome}");
}

#[test]
fn an_apply_waits_on_request_for_a_worker_that_outlived_its_run() {
    let sandbox = Sandbox::converged();
    sandbox.commit("airflow_poc/dags/new.py", "x = 1\n");
    hold_checkout(&sandbox);
    let apply = ["apply", PLAN, "--json", "--yes", "--only", "repository"];
    let impatient = sandbox.provision("ubuntu", apply).args(["--wait=1"]).run().exits(1);
    assert!(impatient.all().contains("another provision run is changing"), "{impatient}");
    let mut patient = sandbox.provision("ubuntu", apply).args(["--wait=60"]).start();
    let line = patient.until(|line| line.contains("run_waiting"));
    assert!(line.contains(CHECKOUT), "{line}");
    sandbox.release_lock();
    let patient = patient.wait().exits(0);
    assert_eq!(patient.events_of("run_waiting").len(), 1, "{patient}");
    assert_eq!(patient.step("step_finished", "repository")["outcome"], "changed", "{patient}");
}

#[test]
fn an_apply_that_waits_for_a_checkout_observes_little_else() {
    let sandbox = Sandbox::converged();
    hold_checkout(&sandbox);
    let apply = ["apply", PLAN, "--yes", "--wait=4", "--timeline", TIMELINE];
    let text = sandbox.provision("ubuntu", apply).run().exits(1).all();
    assert!(text.contains(&format!("waiting: another run is changing {CHECKOUT}")), "{text}");
    let spans = spans(&sandbox);
    let observed = |step: &str| spans.iter().filter(|(on, span)| on == step && span["name"] == "observe").count();
    // For the plan before the wait and for the one after it.
    assert_eq!((observed("logs-directory"), observed("history-tables")), (2, 2), "{text}");
    assert!((3..=8).contains(&observed("repository")), "{} times in 4 seconds", observed("repository"));
}
