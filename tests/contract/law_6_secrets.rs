//! A secret's value is only in its target. Canaries are searched in all output, in every started process, and in every
//! file of the host.

use std::process::Command;

use crate::sandbox::{CHECKOUT, COMPOSE, KEY, KEY_SOURCE, Outcome, PLAN, Sandbox, Tracing};

/// Secret values, with the files that may contain them.
fn canaries(sandbox: &Sandbox) -> Vec<(&'static str, String, Vec<&'static str>)> {
    let key = sandbox.read(KEY_SOURCE);
    let line = key.lines().nth(2).unwrap().to_owned();
    vec![
        ("the warehouse's password", sandbox.env_of("REDSHIFT_PASSWORD"), vec![]),
        ("the mail password", sandbox.env_of("ALERT_SMTP_PASSWORD"), vec![COMPOSE]),
        ("the key", line, vec![KEY, KEY_SOURCE]),
    ]
}

/// Returns the host's files that contain a text.
fn files_with(sandbox: &Sandbox, text: &str) -> Vec<String> {
    let dir = sandbox.dir().to_str().unwrap();
    let grep =
        Command::new("grep").args(["-rlaF", "--devices=skip", "--exclude-dir=bin", "-e", text, dir]).output().unwrap();
    let found = String::from_utf8(grep.stdout).unwrap();
    found.lines().map(|path| path.strip_prefix(dir).unwrap().to_owned()).collect()
}

/// Everything that a run can write besides its output, at the levels that say the most.
const EVERYTHING: [&str; 8] = [
    "--log",
    "trace,tokio_postgres=trace,ssh2=trace,git2=trace,mio=trace,opentelemetry=trace",
    "--log-file",
    "/var/tmp/provision.log",
    "--timeline",
    "/var/tmp/timeline.json",
    "--metrics",
    "/var/tmp/provision.prom",
];

/// Returns how many files of the host are searched.
fn searched(sandbox: &Sandbox) -> usize {
    files_with(sandbox, "").len()
}

#[track_caller]
fn assert_no_secrets(sandbox: &Sandbox, outcome: &Outcome) {
    for (what, value, _) in canaries(sandbox) {
        assert!(!outcome.all().contains(&value), "{what} was printed\n{outcome}");
    }
}

#[track_caller]
fn keeps_in_place(sandbox: &Sandbox) {
    for (what, value, allowed) in canaries(sandbox) {
        let mut found = files_with(sandbox, &value);
        found.retain(|path| !allowed.contains(&path.as_str()));
        assert!(found.is_empty(), "{what} is in {found:?}");
    }
}

#[test]
fn secrets_appear_only_in_their_targets() {
    for user in ["ubuntu", "root"] {
        let mut sandbox = Sandbox::order_tracking();
        let mut old: Vec<String> = Vec::new();
        for rotated in [false, true] {
            if rotated {
                old = canaries(&sandbox).into_iter().skip(1).map(|(_, value, _)| value).collect();
                sandbox.new_key();
                sandbox.set_env("ALERT_SMTP_PASSWORD", crate::sandbox::random_word());
            }
            for command in [
                &["plan", PLAN][..],
                &["plan", PLAN, "--json"],
                &["plan", PLAN, "--format", "markdown"],
                &["explain", PLAN],
                &["validate", PLAN],
                &["resolve", PLAN],
                &["follow-ups", PLAN],
                &["adopt", CHECKOUT],
            ] {
                let is_plan = command[0] == "plan";
                let more = if is_plan { &EVERYTHING[..] } else { &EVERYTHING[..6] };
                let run = sandbox.provision(user, command.iter().copied()).args(more.iter().copied());
                // A fresh host has no checkout to adopt.
                let code = i32::from(command[0] == "adopt" && !rotated);
                assert_no_secrets(&sandbox, &run.run().exits(code));
            }
            let saved = format!("/var/tmp/saved-{rotated}");
            assert_no_secrets(&sandbox, &sandbox.provision(user, ["plan", PLAN, "--out", &saved]).run().exits(0));
            assert!(sandbox.path(&saved).exists());
            let apply = sandbox.provision(user, ["apply", PLAN, "--yes", "--json"]).args(EVERYTHING);
            let (outcome, trace) = apply.traced(&Tracing::Executions);
            assert_no_secrets(&sandbox, &outcome.exits(0));
            let executions = trace.executions();
            // The first process is started by the test, with the secrets in its environment.
            let children: Vec<_> = executions.iter().filter(|line| !line.contains("\"apply\"")).collect();
            assert!(!children.is_empty(), "workers are processes: {executions:?}");
            for (what, value, _) in canaries(&sandbox) {
                for line in &children {
                    assert!(!line.contains(&value), "{what} was given to a process: {line}");
                }
            }
            // The host's files include the journal, the saved plan, the log, the timeline and the metrics.
            for file in ["provision.log", "timeline.json", "provision.prom"] {
                assert!(!sandbox.read(&format!("/var/tmp/{file}")).is_empty(), "{file}");
            }
            keeps_in_place(&sandbox);
            let count = searched(&sandbox);
            eprintln!("{user}: {count} files were searched");
            assert!(count > 100, "{count}");
            let history = sandbox.provision(user, ["history", "--json"]).run().exits(0);
            assert_eq!(history.stdout.lines().count(), 1 + usize::from(rotated), "{history}");
            assert_no_secrets(&sandbox, &history);
            for value in &old {
                assert_eq!(files_with(&sandbox, value), Vec::<String>::new(), "a secret that was replaced");
            }
        }
    }
}

#[test]
fn failures_show_no_secrets() {
    let mut sandbox = Sandbox::converged();
    // A wrong password, an invalid URL with a password, an invalid key, and a target that is a directory.
    sandbox.sql("ALTER ROLE etl PASSWORD 'another'");
    sandbox.bash("ubuntu", &format!("rm {COMPOSE}; mkdir {COMPOSE}; chmod u+w {KEY}; echo no-key > {KEY}"));
    assert_no_secrets(&sandbox, &sandbox.apply("ubuntu").exits(1));
    let password = sandbox.env_of("REDSHIFT_PASSWORD");
    for url in [
        "postgresql://etl:{}@127.0.0.1:notaport/warehouse",
        "postgresql://etl:{}@[bad/warehouse",
        "etl:{}@",
        "host='{} port=",
    ] {
        sandbox.set_env("REDSHIFT_URL", url.replace("{}", &password));
        for args in [["plan", PLAN], ["validate", PLAN], ["explain", PLAN]] {
            assert_no_secrets(&sandbox, &sandbox.provision("ubuntu", args).run());
        }
    }
}

#[test]
fn a_secret_in_the_place_of_a_list_is_not_shown() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    sandbox.set_env("TOKEN", "hunter2 xyzzy");
    for step in [
        "key_file: { path: /srv/k, source: { command: \"{{ env_var('TOKEN') }}\" } }",
        "directory: { path: /srv/a, recursive: true, exclude: \"{{ env_var('TOKEN') }}\" }",
        "directory: { path: /srv/a, recursive: true, exclude: \"x {{ env_var('TOKEN') }}\" }",
    ] {
        sandbox.write("/home/ubuntu/p.yaml", "ubuntu", format!("name: x\nsteps:\n  - {{ id: one, {step} }}\n"));
        let outcome = sandbox.provision("ubuntu", ["plan", "p.yaml"]).run();
        assert!(!outcome.all().contains("xyzzy"), "{outcome}");
    }
}

#[test]
fn a_value_that_a_template_puts_into_a_secret_command_is_not_shown() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    sandbox.set_env("TOK", "canary-of-the-environment");
    let compose = "services:\n  web:\n    image: x\n    environment:\n      PW: old\n";
    sandbox.write("/home/ubuntu/compose.yaml", "ubuntu", compose);
    let given = ["--var", "given=canary-that-was-given"];
    let commands = ["[sh, -c, 'exit 3', WORDS]", "['true', WORDS]", "[\"{{ env_var('TOK') }}\", WORDS]"];
    for (number, words) in commands.into_iter().enumerate() {
        let saved = format!("/var/tmp/saved-{number}");
        let words = words.replace("WORDS", "\"Authorization: Bearer {{ bearer }}\", \"{{ given }}\", \"{{ place }}\"");
        let plan = format!(
            "name: x
vars: {{ bearer: \"{{{{ env_var('TOK') }}}}\", given: '', place: prod }}
connections:
  w:
    url: postgresql://etl@127.0.0.1:1/warehouse
    password: {{ command: {words} }}
    tunnel: {{ ssh: \"a@127.0.0.1:1\", key: {{ command: {words} }} }}
steps:
  - {{ id: pw, compose_env: {{ file: /home/ubuntu/compose.yaml, variable: PW, value: {{ command: {words} }} }} }}
  - {{ id: key, key_file: {{ path: /home/ubuntu/k, source: {{ command: {words} }} }} }}
  - {{ id: conf, file: {{ path: /home/ubuntu/f, content: \"{{{{ secret('pw') }}}}\", secrets: {{ pw: {{ command: {words} }} }} }} }}
  - {{ id: rows, table: {{ connection: w, ddl: CREATE TABLE a.b (c int) }} }}
"
        );
        sandbox.write("/home/ubuntu/p.yaml", "ubuntu", plan);
        for command in [
            &["plan", "p.yaml", "--detailed-exitcode", "--out", &saved][..],
            &["plan", "p.yaml", "--json"],
            &["plan", "p.yaml", "--format", "markdown"],
            &["apply", "p.yaml", "--yes"],
            &["explain", "p.yaml"],
            &["validate", "p.yaml"],
            &["resolve", "p.yaml"],
        ] {
            let more = if matches!(command[0], "plan" | "apply") { &EVERYTHING[..] } else { &EVERYTHING[..6] };
            let all = command.iter().chain(&given).chain(more).copied();
            let outcome = sandbox.provision("ubuntu", all).run();
            assert!(!outcome.all().contains("canary"), "{outcome}");
            // A plan reports that it cannot start the program that a variable names, and no argument.
            let has_arguments = number < 2 || matches!(command[0], "explain" | "resolve");
            if command[0] != "validate" && has_arguments {
                // Markdown has no braces.
                assert!(outcome.all().contains(" given ") && outcome.all().contains("prod"), "{outcome}");
            }
        }
        assert_eq!(files_with(&sandbox, "canary"), [] as [&str; 0]);
    }
}

#[test]
fn a_part_of_a_password_in_a_url_is_shown_nowhere_else() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    sandbox.set_env("TOK", "canaryQ7");
    sandbox.set_env("DB", "postgresql://etl:canaryQ7@127.0.0.1:1/warehouse");
    let in_connection = |url: &str| {
        format!(
            "connections: {{ w: {{ url: \"{url}\" }} }}\nsteps:\n  - {{ id: rows, table: {{ connection: w, ddl: CREATE TABLE a.b (c int) }} }}"
        )
    };
    let of_remote = |url: &str| {
        format!("steps:\n  - {{ id: code, repository: {{ path: /home/ubuntu/r, branch: main, url: \"{url}\" }} }}")
    };
    let urls = [
        in_connection("postgresql://etl:VALUE@127.0.0.1:1/warehouse"),
        in_connection("{{ env_var('DB') }}"),
        in_connection("host=127.0.0.1 port=1 user=etl dbname=warehouse password = 'VALUE'"),
        of_remote("https://x:VALUE@127.0.0.1:1/x.git"),
        of_remote("https://127.0.0.1:1/x.git?private_token=VALUE"),
        of_remote("x:VALUE@127.0.0.1:x.git"),
    ];
    for url in &urls {
        for value in ["{{ env_var('TOK') }}", "{{ token }}", "{{ given }}"] {
            let value = if url.contains("DB") { "{{ env_var('DB') }}" } else { value };
            let plan = format!(
                "name: x
vars: {{ token: \"{{{{ env_var('TOK') }}}}\", given: '' }}
{}
  - id: leak
    title: title {value}
    why: why {value}
    symptom: symptom {value}
    when: when {value}
    directory: {{ path: /home/ubuntu/d, owner: PLACE }}
",
                url.replace("VALUE", value)
            );
            for (place, refused) in [("ubuntu", false), (value, true)] {
                sandbox.write("/home/ubuntu/p.yaml", "ubuntu", plan.replace("PLACE", &format!("\"{place}\"")));
                for command in [
                    &["plan", "p.yaml", "--json"][..],
                    &["validate", "p.yaml"],
                    &["explain", "p.yaml"],
                    &["resolve", "p.yaml"],
                ] {
                    let given: &[&str] = if value.contains("given") { &["--var", "given=canaryQ7"] } else { &[] };
                    let run = sandbox.provision("ubuntu", command.iter().chain(given).chain(&EVERYTHING[..6]).copied());
                    let outcome = run.run();
                    assert!(!outcome.all().contains("canary"), "{url} {value}\n{outcome}");
                    let is_refused = outcome.all().contains("part of a password in a URL");
                    assert_eq!(is_refused, refused, "{url} {value}\n{outcome}");
                }
            }
        }
    }
    assert_eq!(files_with(&sandbox, "canary"), [] as [&str; 0]);
}

#[test]
fn secrets_are_written_into_files_that_are_already_private() {
    let sandbox = Sandbox::order_tracking();
    let (outcome, trace) = sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).traced(&Tracing::Calls);
    outcome.exits(0);
    for target in [KEY, COMPOSE] {
        let (folder, _) = target.rsplit_once('/').unwrap();
        let made = trace.on_new(&format!("{folder}/.provision-"));
        assert!(!made.is_empty(), "{target} is written under another name first");
        for calls in made {
            let opened = calls[0];
            assert!(["O_EXCL", "O_NOFOLLOW", ", 0600)"].iter().all(|flag| opened.contains(flag)), "{opened}");
            let first = |call: &str| calls.iter().position(|line| line.starts_with(call));
            let (mode, written) = (first("fchmod(").expect("its mode is set"), first("write(").expect("it is written"));
            assert!(mode < written && !calls[written..].iter().any(|line| line.starts_with("fchmod(")), "{calls:?}");
        }
    }
}

#[test]
fn written_files_are_never_readable_by_others() {
    let sandbox = Sandbox::order_tracking();
    sandbox.apply("ubuntu").exits(0);
    assert_eq!(sandbox.bash("root", &format!("stat -c '%a %U:%G' {KEY}")), "400 ubuntu:ubuntu\n");
    let litter = sandbox.bash(
        "root",
        &format!("ls -A $(dirname {KEY}) /tmp /var/tmp; cd {CHECKOUT}; git -c safe.directory='*' status --short"),
    );
    let expected =
        "/home/ubuntu/etl/etl_dw/ssh:\njasleentung.pem\n\n/tmp:\n\n/var/tmp:\n M airflow_poc/docker-compose.yml\n";
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).filter(|l| !l.is_empty()).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&litter), sorted(expected));
}
