//! Follow-ups name the services that have to be restarted and the command. Nothing is restarted.

use serde_json::{Value, json};

use crate::sandbox::{CHECKOUT, COMPOSE, KEY, Outcome, PLAN, Sandbox, Snapshot, Tracing, random_word};

const SERVICES: [&str; 2] = ["airflow-scheduler", "airflow-webserver"];

/// Returns step, services and command of each follow-up.
#[track_caller]
fn follow_ups(outcome: &Outcome) -> Vec<(String, Value, String)> {
    let events = outcome.events();
    let last_step = events.iter().rposition(|event| event["event"].as_str().unwrap().starts_with("step_"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = events.iter().enumerate().filter(|(_, event)| event["event"] == "follow_up");
    found
        .map(|(place, event)| {
            assert!(Some(place) > last_step && place + 1 < events.len(), "after the steps, before the end\n{outcome}");
            assert!(event["reason"].is_string());
            (text(&event["step"]), event["services"].clone(), text(&event["command"]))
        })
        .collect()
}

fn recreate(step: &str) -> (String, Value, String) {
    let folder = COMPOSE.rsplit_once('/').unwrap().0;
    let command = format!("cd {folder} && docker compose up -d --force-recreate {}", SERVICES.join(" "));
    (step.to_owned(), json!(SERVICES), command)
}

#[test]
fn a_rotation_names_the_services_that_use_the_old_secret() {
    let mut sandbox = Sandbox::converged();
    assert_eq!(follow_ups(&sandbox.apply("ubuntu").exits(0)), []);
    sandbox.new_key();
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
    let expected = [recreate("bastion-key"), recreate("smtp-password")];
    assert_eq!(follow_ups(&sandbox.plan("ubuntu").exits(0)), expected);
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN]).run().exits(0);
    assert!(outcome.stdout.contains(&expected[0].2), "human output has it too\n{outcome}");
    let mut done = follow_ups(&sandbox.apply("ubuntu").exits(0));
    done.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(done, expected);
    assert_eq!(follow_ups(&sandbox.apply("ubuntu").exits(0)), [], "reported once");
}

#[test]
fn a_selected_step_reacts_with_the_compose_files_of_other_steps() {
    let sandbox = Sandbox::converged();
    sandbox.new_key();
    let only = |command| {
        let arguments = [command, PLAN, "--json", "--only", "bastion-key"];
        let more: &[&str] = if command == "apply" { &["--yes"] } else { &[] };
        sandbox.provision("ubuntu", arguments).args(more.iter().copied()).run()
    };
    assert_eq!(follow_ups(&only("plan").exits(0)), [recreate("bastion-key")]);
    // An unreadable compose file is the problem of its own step.
    let good = sandbox.read(COMPOSE);
    sandbox.write(COMPOSE, "ubuntu", "services: [\n");
    assert_eq!(follow_ups(&only("plan").exits(0)), []);
    sandbox.bash("root", &format!("rm {COMPOSE}; mkfifo {COMPOSE}"));
    assert_eq!(follow_ups(&only("plan").exits(0)), []);
    sandbox.bash("root", &format!("rm {COMPOSE}"));
    sandbox.write(COMPOSE, "ubuntu", good.replace(KEY, "../../ssh/jasleentung.pem"));
    assert_eq!(follow_ups(&only("apply").exits(0)), [recreate("bastion-key")], "relative to the file's folder");
    assert_eq!(follow_ups(&only("apply").exits(0)), []);
}

#[test]
fn a_pulled_compose_file_has_a_follow_up_for_its_owner() {
    let sandbox = Sandbox::converged();
    let committed = sandbox.git("show jasleen_qa:airflow_poc/docker-compose.yml");
    sandbox.commit("airflow_poc/docker-compose.yml", &committed.replace("2.9.3", "2.10.0"));
    let outcome = sandbox.apply("ubuntu").exits(0);
    let up = (
        "repository".to_owned(),
        json!([]),
        format!("cd {} && docker compose up -d", COMPOSE.rsplit_once('/').unwrap().0),
    );
    assert_eq!(follow_ups(&outcome), [up, recreate("smtp-password")], "{outcome}");
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    assert_eq!(follow_ups(&sandbox.apply("ubuntu").exits(0)), [], "a mounted folder shows what is in it");
}

#[test]
fn a_new_throwaway_host_runs_nothing() {
    let sandbox = Sandbox::order_tracking();
    assert_eq!(follow_ups(&sandbox.plan("ubuntu").exits(0)), []);
    assert_eq!(follow_ups(&sandbox.apply("ubuntu").exits(0)), []);
}

#[test]
fn services_are_found_by_the_variables_of_their_env_file() {
    let sandbox = Sandbox::converged();
    sandbox.bash("ubuntu", &format!("echo 'ALERT_SMTP_PASSWORD=old' > {CHECKOUT}/airflow_poc/.env"));
    sandbox.write(
        COMPOSE,
        "ubuntu",
        "
x-env: &env
  ALERT_SMTP_PASSWORD: ${ALERT_SMTP_PASSWORD:?}
services:
  named: { environment: *env }
  other-name: { environment: { MAIL: 'smtp://x:${ALERT_SMTP_PASSWORD}@mail' } }
  alone: { environment: [ALERT_SMTP_PASSWORD] }
  whole-file: { env_file: .env }
  argument: { command: 'send --password $ALERT_SMTP_PASSWORD' }
  stranger: { environment: { A: $$ALERT_SMTP_PASSWORD } }
",
    );
    let arguments = ["apply", PLAN, "--json", "--yes", "--only", "smtp-password"];
    let outcome = sandbox.provision("ubuntu", arguments).run().exits(0);
    let services = ["named", "other-name", "alone", "whole-file", "argument"];
    assert_eq!(follow_ups(&outcome)[0].1, json!(services), "{outcome}");
    assert!(!outcome.all().contains(&sandbox.env_of("ALERT_SMTP_PASSWORD")), "{outcome}");
}

/// Returns the open follow-ups. Asserts that the list and the events of a plan agree.
#[track_caller]
fn open(sandbox: &Sandbox) -> Vec<Value> {
    let listed = sandbox.provision("ubuntu", ["follow-ups", PLAN, "--json"]).run().exits(0);
    let listed: Vec<Value> = listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut told = sandbox.plan("ubuntu").exits(0).events();
    told.retain(|event| event["event"] == "follow_up_open");
    for event in &mut told {
        event.as_object_mut().unwrap().remove("event");
    }
    assert_eq!(listed, told);
    listed
}

fn rotate(sandbox: &mut Sandbox) {
    sandbox.new_key();
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
}

#[test]
fn a_follow_up_stays_open_until_it_is_done() {
    let mut sandbox = Sandbox::converged();
    assert_eq!(open(&sandbox), [] as [Value; 0]);
    rotate(&mut sandbox);
    let applied = sandbox.apply("ubuntu").exits(0).events();
    let ids: Vec<&Value> =
        applied.iter().filter(|event| event["event"] == "follow_up").map(|event| &event["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!(1)], "one command does both");
    let [one] = open(&sandbox).try_into().unwrap();
    assert_eq!((&one["id"], &one["services"]), (&json!(1), &json!(SERVICES)));
    let mut steps: Vec<&str> = one["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect();
    steps.sort_unstable();
    assert_eq!(steps, ["bastion-key", "smtp-password"]);
    assert_eq!(one["run"], applied[0]["run"]);
    // An apply that changes nothing lists it too, and leaves no trace.
    let before = Snapshot::whole(&sandbox);
    let idle = sandbox.apply("ubuntu").exits(0).events();
    assert_eq!(idle.iter().filter(|event| event["event"] == "follow_up_open").count(), 1);
    before.is_same_as(&Snapshot::whole(&sandbox), "an apply without changes");
    let human = sandbox.provision("ubuntu", ["plan", PLAN]).run().exits(0);
    let close = format!("provision follow-ups {PLAN} --done 1");
    assert!(human.stdout.contains(&close) && human.stdout.contains(one["command"].as_str().unwrap()), "{human}");
    // The printed command works.
    let words = close.split(' ').skip(1);
    sandbox.provision("ubuntu", words).run().exits(0);
    assert_eq!(open(&sandbox), [] as [Value; 0]);
    let unknown = sandbox.provision("ubuntu", ["follow-ups", PLAN, "--done", "1"]).run().exits(1);
    assert!(unknown.stderr.contains("follow-up 1 is not open"), "{unknown}");
    assert_eq!(
        sandbox.provision("ubuntu", ["follow-ups", PLAN]).run().exits(0).stdout,
        "there are no open follow-ups\n"
    );
}

#[test]
fn a_later_run_extends_or_closes_an_open_follow_up() {
    let mut sandbox = Sandbox::converged();
    rotate(&mut sandbox);
    sandbox.apply("ubuntu").exits(0);
    rotate(&mut sandbox);
    let run = sandbox.apply("ubuntu").exits(0).events()[0]["run"].clone();
    let [one] = open(&sandbox).try_into().unwrap();
    assert_eq!((&one["id"], &one["run"]), (&json!(1), &run));
    // No container uses a compose file that a new checkout has just created.
    sandbox.bash("ubuntu", &format!("rm -rf {CHECKOUT}"));
    sandbox.apply("ubuntu").exits(0);
    assert_eq!(open(&sandbox), [] as [Value; 0]);
    rotate(&mut sandbox);
    sandbox.apply("ubuntu").exits(0);
    let closed = sandbox.provision("ubuntu", ["follow-ups", PLAN, "--done-all"]).run().exits(0);
    assert!(closed.stdout.ends_with("1 closed, none open\n"), "{closed}");
    assert_eq!(open(&sandbox), [] as [Value; 0]);
}

#[test]
fn a_service_or_a_compose_file_that_is_gone_leaves_the_open_follow_ups() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    sandbox.set_env("PW", random_word());
    let compose = |services: &[&str]| {
        let service = |name: &&str| format!("  {name}:\n    image: x\n    environment:\n      PW: old\n");
        format!("services:\n{}", services.iter().map(service).collect::<String>())
    };
    let step = |id: &str, folder: &str| {
        format!(
            "  - {{ id: {id}, compose_env: {{ file: /home/ubuntu/{folder}/compose.yaml, variable: PW, value: {{ env: PW }} }} }}\n"
        )
    };
    let (file, one, two) = ("/home/ubuntu/p.yaml", "/home/ubuntu/one/compose.yaml", "/home/ubuntu/two/compose.yaml");
    sandbox.bash("ubuntu", "mkdir one two");
    sandbox.write(one, "ubuntu", compose(&["web", "api", "db"]));
    sandbox.write(two, "ubuntu", compose(&["mail"]));
    sandbox.write(file, "ubuntu", format!("name: x\nsteps:\n{}{}", step("one", "one"), step("two", "two")));
    sandbox.provision("ubuntu", ["apply", file, "--yes"]).run().exits(0);
    let listed = || sandbox.provision("ubuntu", ["follow-ups", file]).run().exits(0);
    assert!(listed().stdout.contains("web api db") && listed().stdout.contains("mail"), "{}", listed());
    // A service is renamed, and one project is removed, with its step.
    let renamed = sandbox.read(one).replace("  web:", "  frontend:");
    sandbox.write(one, "ubuntu", renamed);
    sandbox.bash("ubuntu", "rm -r two");
    sandbox.write(file, "ubuntu", format!("name: x\nsteps:\n{}", step("one", "one")));
    let is_current = |outcome: &Outcome| {
        let text = outcome.all();
        assert!(
            text.contains("--force-recreate api db") && !text.contains("web") && !text.contains("mail"),
            "{outcome}"
        );
    };
    let before = Snapshot::whole(&sandbox);
    is_current(&listed());
    is_current(&sandbox.provision("ubuntu", ["plan", file]).run().exits(0));
    before.is_same_as(&Snapshot::whole(&sandbox), "a plan and a listing");
    is_current(&sandbox.provision("ubuntu", ["apply", file, "--yes"]).run().exits(0));
    let before = Snapshot::whole(&sandbox);
    is_current(&sandbox.provision("ubuntu", ["apply", file, "--yes"]).run().exits(0));
    before.is_same_as(&Snapshot::whole(&sandbox), "a second apply");
    // A folder can be absent for a while. No apply forgets what is open about it.
    sandbox.bash("ubuntu", "mv one elsewhere");
    sandbox.write(file, "ubuntu", "name: x\nsteps: [{ id: d, directory: { path: /home/ubuntu/d } }]\n");
    assert_eq!(listed().stdout, "there are no open follow-ups\n");
    for state in ["applied", "nothing to change"] {
        let outcome = sandbox.provision("ubuntu", ["apply", file, "--yes"]).run().exits(0);
        assert!(!outcome.all().contains("--force-recreate"), "{state}: {outcome}");
    }
    sandbox.bash("ubuntu", "mv elsewhere one");
    is_current(&listed());
}

#[test]
fn an_interrupted_run_leaves_its_follow_ups_open() {
    let mut sandbox = Sandbox::converged();
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
    // The first sync is of the journal's beginning, the second of the record before the change, the third of the one after it.
    let args = ["apply", PLAN, "--json", "--yes", "--only", "smtp-password"];
    let kill = Tracing::Kill { call: "fdatasync".into(), number: 3 };
    let (killed, _) = sandbox.provision("ubuntu", args).traced(&kill);
    assert!(!killed.stdout.contains("run_finished"), "{killed}");
    let [one] = open(&sandbox).try_into().unwrap();
    assert_eq!((&one["id"], &one["steps"]), (&json!(1), &json!(["smtp-password"])));
    // The next run finds nothing to change, and keeps the follow-up open.
    let next = sandbox.apply("ubuntu").exits(0).events();
    assert_eq!(next.last().unwrap()["counts"]["changed"], 0, "{next:?}");
    let [kept] = open(&sandbox).try_into().unwrap();
    assert_eq!(kept["command"], one["command"]);
    sandbox.provision("ubuntu", ["follow-ups", PLAN, "--done", "1"]).run().exits(0);
    assert_eq!(open(&sandbox), [] as [Value; 0]);
}

#[test]
fn mistakes_on_the_command_line_are_not_read_as_nothing_open() {
    let mut sandbox = Sandbox::converged();
    sandbox.new_key();
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
    sandbox.apply("ubuntu").exits(0);
    let open = sandbox.provision("ubuntu", ["follow-ups", PLAN]).run().exits(0);
    let wrong = sandbox.provision("ubuntu", ["follow-ups", "/home/ubuntu/plan.yml"]).run().exits(1);
    assert!(wrong.stderr.contains("cannot find the plan file"), "{wrong}");
    let several = sandbox.provision("ubuntu", ["follow-ups", "--done", "1", "2"]).run().exits(1);
    assert!(several.stderr.contains("--done 1,2"), "{several}");
    // Nothing to close leaves nothing behind.
    let files = || sandbox.bash("ubuntu", "find .local/state/provision -type f | sort");
    let before = files();
    sandbox.provision("ubuntu", ["follow-ups", "--done-all", "/dev/null"]).run().exits(0);
    assert_eq!(files(), before);
    assert_eq!(sandbox.provision("ubuntu", ["follow-ups", PLAN]).run().exits(0).stdout, open.stdout);
}

#[test]
fn an_apply_that_waited_keeps_the_follow_ups_of_the_one_before() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
    let file = "/home/ubuntu/one.yaml";
    let step = "{ file: /srv/app/compose.yaml, variable: PW, value: { env: ALERT_SMTP_PASSWORD } }";
    sandbox.write(file, "ubuntu", format!("name: one\nsteps:\n  - id: pw\n    compose_env: {step}\n"));
    sandbox.bash("root", "install -d -o ubuntu /srv/app");
    let compose = "services:\n  web:\n    image: x\n    environment:\n      PW: old\n";
    sandbox.write("/srv/app/compose.yaml", "ubuntu", compose);
    sandbox.hold_lock(file);
    let mut both = [(); 2].map(|()| sandbox.provision("ubuntu", ["apply", file, "--yes", "--json", "--wait"]).start());
    both.iter_mut().for_each(|apply| drop(apply.until(|line| line.contains("run_waiting"))));
    sandbox.release_lock();
    let both = both.map(|apply| apply.wait().exits(0));
    let mut seen = both
        .each_ref()
        .map(|outcome| (outcome.events_of("follow_up").len(), outcome.events_of("follow_up_open").len()));
    seen.sort_unstable();
    assert_eq!(seen, [(0, 1), (1, 0)], "{}{}", both[0], both[1]);
    let open = sandbox.provision("ubuntu", ["follow-ups", file]).run().exits(0);
    assert!(open.stdout.contains("--force-recreate"), "{open}");
}
