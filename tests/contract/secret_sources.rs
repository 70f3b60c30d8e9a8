//! Secret sources, and what follows from their values: one rule for all kinds and for connections.

use crate::sandbox::{Outcome, Sandbox};

const COMPOSE: &str =
    "services:\n  a:\n    image: x\n    environment:\n      PW: the-good-old-password\n      OTHER: ${OTHER}\n";
/// The directories of the three targets. Steps that edit files in the same directory wait for each other.
pub const TARGETS: [&str; 3] = ["/srv/literal", "/srv/reference", "/srv/key"];

/// A host with a target of each kind: a value in a compose file, one in `.env`, and a key.
pub fn host() -> Sandbox {
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

/// Writes a plan file with one step for each target, all with the same source.
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

/// Returns the content of the targets, and whether they were written.
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
fn an_empty_secret_source_blocks_and_leaves_the_target_unchanged() {
    let sandbox = host();
    let before = files(&sandbox);
    sandbox.bash("root", r"cd /srv; : > empty; printf '\n' > lf; printf '\r\n' > crlf; printf '\n\r\n\n' > several");
    for (source, told) in [
        ("{ file: /srv/empty }", "/srv/empty is empty"),
        ("{ file: /srv/lf }", "/srv/lf contains only line endings"),
        ("{ file: /srv/crlf }", "/srv/crlf contains only line endings"),
        ("{ file: /srv/several }", "/srv/several contains only line endings"),
        ("{ command: ['true'] }", "true succeeded and printed nothing"),
        ("{ command: [sh, -c, 'echo \"$NOT_SET\"'] }", "sh succeeded and printed nothing except line endings"),
        (r#"{ command: [printf, "\r\n\n"] }"#, "printf succeeded and printed nothing except line endings"),
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
fn connections_are_not_tried_without_their_password() {
    let sandbox = Sandbox::new();
    sandbox.bash("root", r"printf '\n' > /srv/lf; : > /srv/empty");
    for (source, told) in [
        ("{ file: /srv/lf }", "/srv/lf contains only line endings"),
        ("{ file: /srv/empty }", "/srv/empty is empty"),
        ("{ command: [echo] }", "echo succeeded and printed nothing except line endings"),
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
fn a_step_with_an_unset_variable_is_unchecked() {
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
            assert!(outcome.all().contains("environment variable PW is unset or empty"), "{outcome}");
            let text = run(&[]);
            assert!(text.stdout.contains("3 steps unchecked") && !text.all().contains("Nothing to change"), "{text}");
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
fn unchecked_is_not_a_failure_for_saved_plans_and_dependent_steps() {
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
    // The value is set now, so the plan differs.
    sandbox.bash("root", "rmdir /srv/logs");
    sandbox.provision("root", ["plan", "s.yaml", "--out", "again"]).run().exits(0);
    let outcome = sandbox.provision("root", ["apply", "again", "--yes"]).env("PW", "now").run().exits(1);
    assert!(outcome.all().contains("its secret has changed since the plan was saved"), "{outcome}");
}

/// Plans, and returns the event of the only step.
#[track_caller]
pub fn planned(sandbox: &Sandbox, plan: &str, env: &[(&str, &str)]) -> serde_json::Value {
    sandbox.write("/root/s.yaml", "root", plan);
    let run = sandbox.provision("root", ["plan", "s.yaml", "--json"]);
    env.iter().fold(run, |run, (name, value)| run.env(name, *value)).run().step("step_planned", "s")
}

pub fn compose(source: &str) -> String {
    format!(
        "name: s\nsteps:\n  - {{ id: s, compose_env: {{ file: /srv/literal/docker-compose.yml, variable: PW, value: {source} }} }}\n"
    )
}

fn key(source: &str) -> String {
    format!("name: s\nsteps:\n  - {{ id: s, key_file: {{ path: /srv/key/k, source: {source} }} }}\n")
}

#[test]
fn a_secret_source_is_read_once_per_run() {
    let sandbox = host();
    sandbox.write("/srv/ask", "root", "#!/bin/sh\necho asked >> /srv/asked\necho '{\"a\": \"one\", \"b\": \"two\"}'\n");
    sandbox.bash("root", "chmod 755 /srv/ask");
    let [literal, reference, _] = TARGETS;
    let plan = format!(
        "name: s\nconnections:\n  w: {{ url: 'postgresql://u@127.0.0.1:1/d', password: {{ command: [/srv/ask], json: /a }} }}\nsteps:\n  \
         - {{ id: a, compose_env: {{ file: {literal}/docker-compose.yml, variable: PW, value: {{ command: [/srv/ask], json: /a }} }} }}\n  \
         - {{ id: b, compose_env: {{ file: {reference}/docker-compose.yml, variable: OTHER, value: {{ command: [/srv/ask], json: /b }} }} }}\n  \
         - {{ id: t, table: {{ connection: w, ddl: 'create table s.t (a int)' }} }}\n"
    );
    sandbox.write("/root/s.yaml", "root", plan);
    for command in [vec!["plan"], vec!["apply", "--yes"], vec!["plan", "--only", "a"]] {
        sandbox.bash("root", "rm -f /srv/asked");
        sandbox.provision("root", command.clone()).args(["s.yaml"]).run();
        assert_eq!(sandbox.read("/srv/asked"), "asked\n", "{command:?}");
    }
    assert!(sandbox.read("/srv/literal/docker-compose.yml").contains("PW: one\n"));
    assert_eq!(sandbox.read("/srv/reference/.env"), "OTHER='two'\n");
}

#[test]
fn secrets_are_extracted_from_json_and_base64() {
    let sandbox = host();
    let text = sandbox.read("/srv/key/k");
    let encoded = sandbox.bash("root", "base64 /srv/key/k");
    let json = serde_json::json!({ "key": text, "encoded": encoded }).to_string();
    sandbox.write("/srv/key.json", "root", &json);
    for (source, name, value) in [
        ("{ env: K, encoding: base64 }", "K", &encoded),
        ("{ env: K, json: /key }", "K", &json),
        ("{ file: /srv/key.json, json: /encoded, encoding: base64 }", "X", &json),
        ("{ command: [cat, /srv/key.json], json: /key }", "X", &json),
    ] {
        let event = planned(&sandbox, &key(source), &[(name, value)]);
        assert_eq!(event["outcome"], "unchanged", "{source}: {event}");
    }
    for (source, value, told) in [
        ("{ env: K, encoding: base64 }", "hunter2!", "environment variable K is not base64"),
        ("{ env: K, json: /key }", "hunter2", "environment variable K is not JSON"),
        ("{ env: K, json: /key }", r#"{"k":"hunter2"}"#, "has no value at /key"),
        ("{ env: K, json: /key }", r#"{"key":12}"#, "is a number, not a string"),
        ("{ env: K, json: /key }", r#"{"key":"\n"}"#, "is empty after decoding"),
        ("{ env: K, encoding: base64 }", "Cg==", "is empty after decoding"),
    ] {
        for plan in [key(source), compose(source)] {
            let event = planned(&sandbox, &plan, &[("K", value)]);
            assert_eq!(event["outcome"], "blocked", "{source}: {event}");
            assert!(event["reason"].as_str().unwrap().contains(told), "{told}: {event}");
            assert!(event["hint"].is_string() && !event.to_string().contains("hunter2"), "{event}");
        }
    }
}

#[test]
fn line_endings_at_the_ends_of_a_key_are_repaired_for_every_source() {
    let sandbox = host();
    let text = sandbox.read("/srv/key/k");
    for damaged in [
        text.trim_end().to_owned(),
        format!("\n\n{text}"),
        format!("{text}  \n"),
        text.replace('\n', " \t\n"),
        format!("  {}  ", text.trim()),
    ] {
        sandbox.write("/srv/damaged", "root", &damaged);
        for source in ["{ env: K }", "{ file: /srv/damaged }", "{ command: [cat, /srv/damaged] }"] {
            let event = planned(&sandbox, &key(source), &[("K", &damaged)]);
            // What ssh loads, such as spaces after the END line, is written unchanged.
            let wanted = if damaged.ends_with("  \n") { "changes" } else { "unchanged" };
            assert_eq!(event["outcome"], wanted, "{source}: {damaged:?}: {event}");
        }
    }
    for (damaged, told) in [
        (sandbox.bash("root", "base64 -w0 /srv/key/k"), "is base64"),
        (text.replace('\n', "\\n"), "a literal \\n instead of line endings"),
        (text.replace('\n', " "), "is on one line"),
        (text.replace('\n', "\n    "), "is indented"),
        (format!("\"{text}\""), "in quotation marks"),
        (sandbox.bash("root", "iconv -f ASCII -t UTF-16LE /srv/key/k > /srv/utf16"), "is UTF-16 text"),
        (text.replace('\n', "\r\n"), "CRLF"),
    ] {
        if !damaged.is_empty() {
            let event = planned(&sandbox, &key("{ env: K }"), &[("K", &damaged)]);
            assert!(event["reason"].as_str().unwrap().contains(told), "{told}: {event}");
            assert!(!event["hint"].as_str().unwrap().contains("path"), "there is none: {event}");
            sandbox.write("/srv/damaged", "root", &damaged);
        } else {
            sandbox.bash("root", "mv /srv/utf16 /srv/damaged");
        }
        let event = planned(&sandbox, &key("{ file: /srv/damaged }"), &[]);
        assert!(event["reason"].as_str().unwrap().contains(told), "{told}: {event}");
    }
}

#[test]
fn line_ending_and_byte_order_mark_are_removed_from_every_source() {
    let sandbox = host();
    sandbox.bash("root", "sed -i 's/the-good-old-password/secret/' /srv/literal/docker-compose.yml");
    for value in ["secret", "secret\n", "secret\r\n", "\u{feff}secret", "\u{feff}secret\n"] {
        sandbox.write("/srv/pw", "root", value);
        for source in ["{ env: PW }", "{ file: /srv/pw }", "{ command: [cat, /srv/pw] }"] {
            let event = planned(&sandbox, &compose(source), &[("PW", value)]);
            assert_eq!(event["outcome"], "unchanged", "{source}: {value:?}: {event}");
        }
    }
}

#[test]
fn invisible_ends_of_a_secret_are_reported_and_kept() {
    let sandbox = host();
    sandbox.write("/srv/pw", "root", " s3cr3t\u{a0}\n");
    sandbox.bash("root", "chmod 600 /srv/pw");
    for source in ["{ env: PW }", "{ file: /srv/pw }", "{ command: [cat, /srv/pw] }"] {
        let event = planned(&sandbox, &compose(source), &[("PW", " s3cr3t\u{a0}")]);
        let warnings = event["warnings"].to_string();
        let told = "begins with a space and ends with a no-break space (U+00A0)";
        assert!(warnings.contains(told) && !warnings.contains("s3cr3t"), "{source}: {event}");
    }
    sandbox.write("/root/s.yaml", "root", compose("{ env: PW }"));
    let apply = sandbox.provision("root", ["apply", "--yes", "s.yaml"]).env("PW", "s3cr3t ").run().exits(0);
    let told = "the secret from environment variable PW ends with a space";
    assert!(apply.all().replace("\n        ", " ").contains(told) && !apply.all().contains("s3cr3t"), "{apply}");
    let written = sandbox.bash("root", "cat /srv/literal/docker-compose.yml");
    assert!(written.contains("PW: \"s3cr3t \"") || written.contains("PW: 's3cr3t '"), "{written}");
}

#[test]
fn a_missing_target_reports_the_source_without_a_value() {
    let sandbox = host();
    sandbox.bash("root", "rm /srv/key/k");
    let event = planned(&sandbox, &key("{ env: KEY }"), &[]);
    assert_eq!(event["outcome"], "blocked");
    assert!(event["reason"].as_str().unwrap().contains("environment variable KEY is unset or empty"), "{event}");
    assert!(event["hint"].as_str().unwrap().contains("set the environment variable KEY"), "{event}");
}

#[test]
fn a_secret_source_that_is_not_a_regular_file_gets_a_hint() {
    let sandbox = host();
    sandbox.bash("root", "mkfifo /srv/fifo");
    for path in ["/srv/fifo", "/dev/fd/63", "/proc/self/fd/0"] {
        let event = planned(&sandbox, &compose(&format!("{{ file: {path} }}")), &[]);
        assert!(event["hint"].as_str().unwrap().contains(&format!("{{ command: [cat, {path}] }}")), "{event}");
        assert!(!event["reason"].as_str().unwrap().contains("does not exist"), "{event}");
    }
}

#[test]
fn an_unreadable_secret_source_names_its_reader() {
    let sandbox = host();
    sandbox.bash("root", "cp /srv/key/k /root/key; chmod 600 /root/key");
    let plan =
        "name: s\nsteps:\n  - { id: s, run_as: root, key_file: { path: /srv/key/k, source: { file: /root/key } } }\n";
    sandbox.write("/srv/s.yaml", "root", plan);
    let event = sandbox.provision("ubuntu", ["plan", "/srv/s.yaml", "--json"]).run().exits(1).step("step_planned", "s");
    assert!(event["reason"].as_str().unwrap().contains("permission denied to ubuntu"), "{event}");
    assert!(event["hint"].as_str().unwrap().contains("read by ubuntu, who started provision"), "{event}");
}

#[test]
fn validate_refuses_invalid_secret_sources_with_a_suggestion() {
    let sandbox = Sandbox::new();
    let connection = |password: &str| {
        format!(
            "name: s\nconnections:\n  w: {{ url: 'postgresql://u@h/d', password: {password} }}\nsteps:\n  \
                 - {{ id: t, table: {{ connection: w, ddl: 'create table s.t (a int)' }} }}\n"
        )
    };
    for (source, told) in [
        ("{ env: $DJANGO_SECRET_KEY }", "did you mean `DJANGO_SECRET_KEY`?"),
        ("{ env: '${DJANGO_SECRET_KEY}' }", "did you mean `DJANGO_SECRET_KEY`?"),
        ("{ env: 'DJANGO SECRET' }", "not a valid name of an environment variable"),
        ("{ env: 'A=b' }", "did you mean `A`?"),
        ("{ env: '' }", "the secret source is empty"),
        ("{ env: \"{{ env_var('A_SECRET') }}\" }", "did you mean `A_SECRET`?"),
        ("{ env: \"{{ A_SECRET }}\" }", "did you mean `A_SECRET`?"),
        ("\"{{ env_var('A_SECRET') }}\"", "write `{ env: A_SECRET }`"),
        ("\"{{ A_SECRET }}\"", "write `{ env: A_SECRET }`"),
        ("hunter2", "use a source: { env: NAME }"),
        ("/srv/hunter2", "use a source: { env: NAME }"),
        ("[hunter2]", "use a source: { env: NAME }"),
        ("{ env: A, encoding: rot13 }", "base64"),
        ("{ env: A, json: password }", "is not a JSON pointer"),
    ] {
        for plan in [key(source), compose(source), connection(source)] {
            sandbox.write("/root/s.yaml", "root", &plan);
            for set in [false, true] {
                let run = sandbox.provision("root", ["validate", "s.yaml"]);
                let run = if set { run.env("A_SECRET", "the-value-of-it") } else { run };
                let outcome = run.run().exits(1);
                assert!(outcome.all().contains(told), "{told}\n{plan}{outcome}");
                assert!(
                    !outcome.all().contains("the-value-of-it") && !outcome.all().contains("/srv/hunter2"),
                    "{outcome}"
                );
            }
        }
    }
}

#[test]
fn template_errors_show_the_expression_and_not_its_value() {
    let sandbox = host();
    for template in [
        "{{ env_var(env_var('U')) }}",
        "{{ env_var(env_var('U') ~ '_X') }}",
        "{{ env_var('U') | fromjson }}",
        "{{ env_var('U') + 1 }}",
        "{{ env_var('U') | int }}",
    ] {
        let plan = format!(
            "name: s\nconnections:\n  w: {{ url: \"{template}\" }}\nsteps:\n  \
                            - {{ id: s, table: {{ connection: w, ddl: 'create table s.t (a int)' }} }}\n"
        );
        sandbox.write("/root/s.yaml", "root", plan);
        for command in ["plan", "validate", "explain"] {
            let outcome = sandbox.provision("root", [command, "s.yaml"]).env("U", "hunter2").run();
            assert!(!outcome.all().contains("hunter2"), "{command}: {outcome}");
        }
    }
}
