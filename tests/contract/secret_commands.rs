//! Secrets that programs print, and those that take long: limits, processes that are left, and progress.

use crate::sandbox::{Outcome, Sandbox};
use crate::secret_sources::{TARGETS, compose, host, planned};

#[test]
fn failed_secret_commands_report_exit_code_and_withheld_variables() {
    let sandbox = host();
    let plan = |argv: &str| {
        format!(
            "{}  - {{ id: token, key_file: {{ path: /srv/key/k, source: {{ env: VAULT_TOKEN }} }} }}\n",
            compose(&format!("{{ command: {argv} }}"))
        )
    };
    for (argv, told, hint) in [
        (
            "[sh, -c, 'echo hunter2 >&2; exit 3']",
            "failed with exit code 3; its messages are not shown",
            "env -u VAULT_TOKEN sh -c",
        ),
        ("[sh, -c, 'kill -9 $$']", "was killed by signal 9", "env -u VAULT_TOKEN"),
        ("[no-such-program]", "cannot start the secret command no-such-program", "absolute path"),
        ("[/srv/literal/docker-compose.yml]", ": permission denied", "chmod +x /srv/literal"),
    ] {
        let event = planned(&sandbox, &plan(argv), &[("VAULT_TOKEN", "hunter2")]);
        assert!(event["reason"].as_str().unwrap().contains(told), "{told}: {event}");
        assert!(event["hint"].as_str().unwrap().contains(hint), "{hint}: {event}");
        assert!(!event["reason"].to_string().contains("hunter2"), "{event}");
    }
    let event = planned(&sandbox, &plan("[sh, -c, 'test -n \"$VAULT_TOKEN\"']"), &[("VAULT_TOKEN", "x")]);
    assert!(event["reason"].as_str().unwrap().contains("ran without VAULT_TOKEN"), "{event}");
}

#[test]
fn children_of_a_secret_command_are_killed_with_it() {
    let sandbox = host();
    let left = || sandbox.bash("root", "pgrep -f 'sleep [3]47' || true");
    // In every case: success, too much output, failure.
    for script in ["sleep 347 > /dev/null & echo hi", "sleep 347 & yes", "sleep 347 > /dev/null & exit 1"] {
        sandbox.write("/root/s.yaml", "root", compose(&format!("{{ command: [sh, -c, '{script}'] }}")));
        sandbox.provision("root", ["plan", "s.yaml"]).run();
        assert_eq!(left(), "", "{script}");
    }
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM] {
        sandbox.write("/root/s.yaml", "root", compose("{ command: [sh, -c, 'sleep 347; cat /x'] }"));
        let running = sandbox.provision("root", ["plan", "s.yaml"]).start();
        sandbox.bash("root", "until pgrep -f 'sleep [3]47' > /dev/null; do sleep 0.02; done");
        running.signal(signal);
        assert!(running.wait().code > 128);
        assert_eq!(left(), "", "{signal}");
    }
}

#[test]
fn a_silent_secret_command_times_out_with_its_reason() {
    let sandbox = host();
    let [literal, reference, _] = TARGETS;
    // Both in one run would take two minutes, so two parallel runs are used.
    let waits = compose("{ command: [sh, -c, 'sleep 347; cat /x'] }");
    let holds = waits.replace("sleep 347; cat /x", "sleep 348 & echo hi").replace(literal, reference);
    sandbox.write("/root/waits.yaml", "root", waits);
    sandbox.write("/root/holds.yaml", "root", holds);
    let waits = sandbox.provision("root", ["plan", "waits.yaml", "--json"]).start();
    let holds = sandbox.provision("root", ["plan", "holds.yaml", "--json"]).start();
    let reason = |outcome: Outcome| outcome.exits(1).step("step_planned", "s")["reason"].as_str().unwrap().to_owned();
    let (waits, holds) = (reason(waits.wait()), reason(holds.wait()));
    assert!(waits.contains("did not end within 60 s"), "{waits}");
    assert!(holds.contains("a process that it started still keeps its output open after 60 s"), "{holds}");
    assert_eq!(sandbox.bash("root", "pgrep -f 'sleep [3]4' || true"), "");
}

/// A program that gives a secret may take long. A log shows that the run goes on.
#[test]
fn a_secret_that_takes_long_is_reported() {
    let sandbox = Sandbox::new();
    let source = "{ command: [sh, -c, \"sleep 11; echo s3cr3t\"] }";
    let step = format!(
        "  - {{ id: slow, file: {{ path: /root/f, content: \"{{{{ secret('s') }}}}\", secrets: {{ s: {source} }} }} }}\n"
    );
    sandbox.write("/root/slow.yaml", "root", format!("name: s\nsteps:\n{step}"));
    let plan = sandbox.provision("root", ["plan", "/root/slow.yaml"]).run().exits(0);
    assert!(plan.stderr.contains("slow: reading its secret from ") && plan.stderr.contains("(10 s)"), "{plan}");
    assert!(!plan.all().contains("s3cr3t"), "{plan}");
    let plan = sandbox.provision("root", ["plan", "/root/slow.yaml", "--json"]).run().exits(0);
    assert!(!plan.stdout.contains("reading"), "{plan}");
}

/// A connection and a step may have the same name.
#[test]
fn the_secret_of_a_connection_is_reported_for_a_step_with_the_connection() {
    let sandbox = Sandbox::new();
    let plan = "name: s
connections:
  w: { url: \"postgresql://u@127.0.0.1:1/d\", password: { env: P } }
steps:
  - { id: w, directory: { path: /srv/d } }
  - { id: mart, table: { connection: w, ddl: 'create table s.t (a int)' } }
";
    sandbox.write("/root/s.yaml", "root", plan);
    let log = ["--log", "debug", "--log-format", "json"];
    let plan = sandbox.provision("root", [&["plan", "/root/s.yaml"], &log[..]].concat()).env("P", "x").run();
    let text = "reading the secret of connection `w` from ";
    let line = plan.stderr.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{plan}"));
    assert!(line.contains(r#""step":"mart""#), "{line}");
}
