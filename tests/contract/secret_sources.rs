//! What a secret source yields, and what follows from it: one rule for every kind and for connections.

use crate::sandbox::{Outcome, Sandbox};

const COMPOSE: &str =
    "services:\n  a:\n    image: x\n    environment:\n      PW: the-good-old-password\n      OTHER: ${OTHER}\n";
/// The directories of the three targets: steps that edit files in one directory wait for each other.
const TARGETS: [&str; 3] = ["/srv/literal", "/srv/reference", "/srv/key"];

/// A host with a target of each kind: a value in a compose file, one in `.env`, and a key.
fn host() -> Sandbox {
    let sandbox = Sandbox::new();
    let [literal, reference, key] = TARGETS;
    sandbox.write(&format!("{literal}/docker-compose.yml"), "root", COMPOSE);
    sandbox.write(&format!("{reference}/docker-compose.yml"), "root", COMPOSE);
    sandbox.write(&format!("{reference}/.env"), "root", "OTHER='kept'\n");
    sandbox
        .bash("root", &format!("chmod 600 {reference}/.env; mkdir {key}; ssh-keygen -q -t ed25519 -N '' -f {key}/k"));
    sandbox.bash("root", &format!("chmod 400 {key}/k; mv {key}/k.pub /srv"));
    sandbox
}

/// A plan file with one step for each target, all with the same source.
fn plan_file(sandbox: &Sandbox, source: &str) {
    let [literal, reference, key] = TARGETS;
    let plan = format!(
        "name: s\nsteps:\n  \
         - {{ id: literal, compose_env: {{ file: {literal}/docker-compose.yml, variable: PW, value: {source} }} }}\n  \
         - {{ id: reference, compose_env: {{ file: {reference}/docker-compose.yml, variable: OTHER, value: {source} }} }}\n  \
         - {{ id: key, key_file: {{ path: {key}/k, source: {source} }} }}\n"
    );
    sandbox.write("/root/s.yaml", "root", plan);
}

/// What the targets hold, and whether they were written.
fn files(sandbox: &Sandbox) -> String {
    sandbox.bash(
        "root",
        &format!("find {} -type f | sort | xargs tail -n +1; find {0} -printf '%p %i %m %T@\\n'", TARGETS.join(" ")),
    )
}

#[track_caller]
fn outcomes_are(outcome: &Outcome, wanted: &str) {
    let found = outcome.outcomes();
    assert!(found.len() == 3 && found.iter().all(|(_, found)| found == wanted), "{wanted} is wanted\n{outcome}");
}

#[test]
fn a_source_without_content_blocks_and_leaves_the_target_as_it_was() {
    let sandbox = host();
    let before = files(&sandbox);
    sandbox.bash("root", r"cd /srv; : > empty; printf '\n' > lf; printf '\r\n' > crlf; printf '\n\r\n\n' > several");
    for (source, told) in [
        ("{ file: /srv/empty }", "/srv/empty is empty"),
        ("{ file: /srv/lf }", "/srv/lf holds nothing but line endings"),
        ("{ file: /srv/crlf }", "/srv/crlf holds nothing but line endings"),
        ("{ file: /srv/several }", "/srv/several holds nothing but line endings"),
        ("{ command: ['true'] }", "true succeeded and printed nothing"),
        ("{ command: [sh, -c, 'echo \"$NOT_SET\"'] }", "sh succeeded and printed nothing but line endings"),
        (r#"{ command: [printf, "\r\n\n"] }"#, "printf succeeded and printed nothing but line endings"),
    ] {
        plan_file(&sandbox, source);
        for command in [vec!["plan"], vec!["apply", "--yes"]] {
            let outcome = sandbox.provision("root", command).args(["s.yaml", "--json"]).run().exits(1);
            outcomes_are(&outcome, "blocked");
            for step in ["literal", "reference", "key"] {
                let event = outcome.step("step_planned", step);
                assert!(event["reason"].as_str().unwrap().contains(told), "{told}\n{event}");
                assert!(event["hint"].is_string(), "{event}");
            }
        }
        assert_eq!(files(&sandbox), before, "{source}");
    }
}

#[test]
fn a_connection_is_not_tried_with_a_password_that_its_source_lacks() {
    let sandbox = Sandbox::new();
    sandbox.bash("root", r"printf '\n' > /srv/lf; : > /srv/empty");
    for (source, told) in [
        ("{ file: /srv/lf }", "/srv/lf holds nothing but line endings"),
        ("{ file: /srv/empty }", "/srv/empty is empty"),
        ("{ command: [echo] }", "echo succeeded and printed nothing but line endings"),
    ] {
        let plan = format!(
            "name: s\nconnections:\n  w: {{ url: 'postgresql://u@127.0.0.1:1/d', password: {source} }}\nsteps:\n  \
             - {{ id: t, table: {{ connection: w, ddl: 'create table s.t (a int)' }} }}\n"
        );
        sandbox.write("/root/s.yaml", "root", plan);
        let outcome = sandbox.provision("root", ["plan", "s.yaml", "--json"]).run().exits(1);
        let event = outcome.step("step_planned", "t");
        assert_eq!(event["outcome"], "blocked", "{outcome}");
        assert!(event["reason"].as_str().unwrap().contains(told), "{told}\n{event}");
    }
}

#[test]
fn a_step_whose_variable_is_unset_is_unchecked_and_left_alone() {
    let sandbox = host();
    let before = files(&sandbox);
    plan_file(&sandbox, "{ env: PW }");
    for value in [None, Some(""), Some("\n")] {
        for command in [vec!["plan", "--detailed-exitcode"], vec!["apply", "--yes"]] {
            let run = |more: &[&'static str]| {
                let run = sandbox.provision("root", command.clone()).args(["s.yaml"]).args(more.iter().copied());
                value
                    .map_or(run, |value| {
                        sandbox
                            .provision("root", command.clone())
                            .args(["s.yaml"])
                            .args(more.iter().copied())
                            .env("PW", value)
                    })
                    .run()
                    .exits(0)
            };
            let outcome = run(&["--json"]);
            outcomes_are(&outcome, "unchecked");
            let finished = &outcome.events_of("run_finished")[0];
            assert_eq!(
                (&finished["counts"]["unchecked"], &finished["outcome"]),
                (&3.into(), &"ok".into()),
                "{outcome}"
            );
            assert!(outcome.all().contains("environment variable PW is not set, or empty"), "{outcome}");
            let text = run(&[]);
            assert!(text.stdout.contains("3 unchecked") && !text.all().contains("nothing to change"), "{text}");
        }
    }
    assert_eq!(files(&sandbox), before);
    for target in ["reference/.env", "key/k"] {
        sandbox.bash("root", &format!("rm /srv/{target}"));
    }
    let outcome = sandbox.provision("root", ["plan", "s.yaml", "--json"]).run().exits(1);
    let blocked: Vec<_> =
        ["literal", "reference", "key"].map(|id| outcome.step("step_planned", id)["outcome"].to_string()).into();
    assert_eq!(blocked, ["\"unchecked\"", "\"blocked\"", "\"blocked\""], "a missing target blocks\n{outcome}");
}

#[test]
fn a_saved_plan_and_what_waits_for_a_step_take_unchecked_for_no_failure() {
    let sandbox = host();
    let plan = "name: s\nsteps:\n  - { id: key, key_file: { path: /srv/key/k, source: { env: PW } } }\n  \
                - { id: logs, after: [key], directory: { path: /srv/logs } }\n";
    sandbox.write("/root/s.yaml", "root", plan);
    sandbox.provision("root", ["plan", "s.yaml", "--out", "saved"]).run().exits(0);
    let outcome = sandbox.provision("root", ["apply", "saved", "--yes", "--json"]).run().exits(0);
    let wanted = [("key", "unchecked"), ("logs", "changed")].map(|(id, outcome)| (id.to_owned(), outcome.to_owned()));
    let mut found = outcome.outcomes();
    found.sort();
    assert_eq!(found, wanted, "{outcome}");
    let history = sandbox.provision("root", ["history", "s.yaml", "--json"]).run().exits(0);
    assert!(history.stdout.contains("\"unchecked\":1"), "{history}");
    // Given now, so that it is another plan.
    sandbox.bash("root", "rmdir /srv/logs");
    sandbox.provision("root", ["plan", "s.yaml", "--out", "again"]).run().exits(0);
    let outcome = sandbox.provision("root", ["apply", "again", "--yes"]).env("PW", "now").run().exits(1);
    assert!(outcome.all().contains("yields another value"), "{outcome}");
}
