//! What has to be restarted is said, and nothing is restarted: the services concerned, and the command.

use serde_json::{Value, json};

use crate::sandbox::{CHECKOUT, COMPOSE, KEY, Outcome, PLAN, Sandbox, random_word};

const SERVICES: [&str; 2] = ["airflow-scheduler", "airflow-webserver"];

/// Step, services and command of each follow-up.
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
    let command = format!("docker compose -f {COMPOSE} up -d --force-recreate {}", SERVICES.join(" "));
    (step.to_owned(), json!(SERVICES), command)
}

#[test]
fn a_rotation_names_the_services_that_hold_what_was_rotated() {
    let mut sandbox = Sandbox::converged();
    assert_eq!(follow_ups(&sandbox.apply("ubuntu").exits(0)), []);
    sandbox.new_key();
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
    let expected = [recreate("bastion-key"), recreate("smtp-password")];
    assert_eq!(follow_ups(&sandbox.plan("ubuntu").exits(0)), expected);
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN]).run().exits(0);
    assert!(outcome.stdout.contains(&expected[0].2), "people are told as well\n{outcome}");
    let mut done = follow_ups(&sandbox.apply("ubuntu").exits(0));
    done.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(done, expected);
    assert_eq!(follow_ups(&sandbox.apply("ubuntu").exits(0)), [], "said once");
}

#[test]
fn a_step_alone_is_seen_in_the_light_of_the_compose_files_of_others() {
    let sandbox = Sandbox::converged();
    sandbox.new_key();
    let only = |command| {
        let arguments = [command, PLAN, "--json", "--only", "bastion-key"];
        let more: &[&str] = if command == "apply" { &["--yes"] } else { &[] };
        sandbox.provision("ubuntu", arguments).args(more.iter().copied()).run()
    };
    assert_eq!(follow_ups(&only("plan").exits(0)), [recreate("bastion-key")]);
    // A compose file that nobody can read is the matter of its own step.
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
fn a_pulled_compose_file_is_put_into_force_by_its_owner() {
    let sandbox = Sandbox::converged();
    let committed = sandbox.git("show jasleen_qa:airflow_poc/docker-compose.yml");
    sandbox.commit("airflow_poc/docker-compose.yml", &committed.replace("2.9.3", "2.10.0"));
    let outcome = sandbox.apply("ubuntu").exits(0);
    let up = ("repository".to_owned(), json!([]), format!("docker compose -f {COMPOSE} up -d"));
    assert_eq!(follow_ups(&outcome), [up, recreate("smtp-password")], "{outcome}");
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    assert_eq!(follow_ups(&sandbox.apply("ubuntu").exits(0)), [], "a mounted folder shows what is in it");
}

#[test]
fn a_new_host_runs_nothing_yet() {
    let sandbox = Sandbox::order_tracking();
    assert_eq!(follow_ups(&sandbox.plan("ubuntu").exits(0)), []);
    assert_eq!(follow_ups(&sandbox.apply("ubuntu").exits(0)), []);
}

#[test]
fn services_that_read_the_env_file_are_found_by_its_variables() {
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
