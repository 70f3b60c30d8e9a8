//! `--metrics FILE` for monitoring, and `provision report` for many hosts.

use crate::sandbox::{COMPOSE, PLAN, Sandbox};

const FILE: &str = "/var/tmp/provision.prom";

fn sample(text: &str, name: &str, labels: &[&str]) -> Option<String> {
    let fits = |line: &&str| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label));
    text.lines().find(fits).map(|line| line.rsplit(' ').next().unwrap().to_owned())
}

#[test]
fn metrics_describe_a_run_and_survive_a_failed_one() {
    let sandbox = Sandbox::order_tracking();
    sandbox.provision("ubuntu", ["plan", PLAN, "--metrics", FILE]).run().exits(0);
    assert_eq!(
        sandbox.bash("root", &format!("stat -c '%a %U' {FILE}; ls -A /var/tmp")),
        "644 ubuntu\nprovision.prom\n"
    );
    let text = sandbox.read(FILE);
    let of = |name, labels: &[&str]| sample(&text, name, labels).unwrap_or_else(|| panic!("{name} {labels:?}\n{text}"));
    assert_eq!(of("provision_run_success", &["plan=\"order-tracking\"", "command=\"plan\""]), "1");
    assert_eq!(of("provision_steps", &["outcome=\"changes\""]), "6");
    assert_eq!(of("provision_step_drifted", &["step=\"history-tables\"", "kind=\"period_tables\""]), "0");
    of("provision_period_uncovered_timestamp_seconds", &["series=\"settlement_ods.hist_ecs_order_info_{period}\""]);
    assert!(text.lines().all(|line| line.starts_with('#') || line.contains("plan=\"order-tracking\"")), "{text}");
    // With a broken plan file the known values stay, and the run has not succeeded.
    sandbox.write("/home/ubuntu/broken.yaml", "ubuntu", "name: order-tracking\nsteps: [\n");
    sandbox.provision("ubuntu", ["plan", "/home/ubuntu/broken.yaml", "--metrics", FILE]).run().exits(1);
    let after = sandbox.read(FILE);
    assert_eq!(sample(&after, "provision_run_success", &["command=\"plan\""]).unwrap(), "0");
    assert_eq!(sample(&after, "provision_steps", &["outcome=\"changes\""]).unwrap(), "6");
    sandbox.apply("ubuntu").exits(0);
    sandbox.provision("ubuntu", ["plan", PLAN, "--metrics", FILE]).run().exits(0);
    assert_eq!(sample(&sandbox.read(FILE), "provision_steps", &["outcome=\"unchanged\""]).unwrap(), "6");
    // A missing directory is reported before anything else.
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN, "--metrics", "/nowhere/x.prom"]).run().exits(1);
    assert!(outcome.stderr.contains("cannot write metrics to /nowhere/x.prom"), "{outcome}");
}

#[test]
fn a_first_run_that_cannot_read_its_plan_file_leaves_the_place_to_the_next() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let plan_file = "/home/ubuntu/small.yaml";
    let run = |name: &str| {
        let text = format!("name: {name}\nsteps:\n  - {{ id: one, directory: {{ path: /home/ubuntu/one }} }}\n");
        sandbox.write(plan_file, "ubuntu", text);
        sandbox.provision("ubuntu", ["plan", plan_file, "--metrics", FILE]).run()
    };
    for _ in 0..2 {
        run("broken\nother: key").exits(1);
        assert_eq!(sample(&sandbox.read(FILE), "provision_run_success", &["plan=\"small\""]).unwrap(), "0");
    }
    let done = run("a-name-of-its-own").exits(0);
    assert!(!done.stderr.contains("warning"), "{done}");
    let text = sandbox.read(FILE);
    assert!(text.lines().all(|line| line.starts_with('#') || line.contains("plan=\"a-name-of-its-own\"")), "{text}");
    let other = run("another-plan").exits(0);
    assert!(other.stderr.contains("it has the metrics of the plan `a-name-of-its-own`"), "{other}");
}

#[test]
fn report_reads_the_output_of_plan_and_apply() {
    let sandbox = Sandbox::order_tracking();
    let before = sandbox.plan("ubuntu").exits(0).stdout;
    sandbox.apply("ubuntu").exits(0);
    sandbox.bash("root", &format!("chmod o-r {COMPOSE}"));
    let after = sandbox.plan("ubuntu").exits(0).stdout;
    for (host, text) in [("a", &before), ("b", &after), ("c", &after)] {
        let text = text.replace("\"host\":\"throwaway\"", &format!("\"host\":\"{host}\""));
        sandbox.write(&format!("/home/ubuntu/{host}.jsonl"), "ubuntu", text);
    }
    sandbox.write("/home/ubuntu/d.jsonl", "ubuntu", "ssh: connect to host d port 22: Connection refused\n");
    let report = sandbox.provision("ubuntu", ["report", "a.jsonl", "b.jsonl", "c.jsonl"]).run().exits(0);
    assert!(report.stdout.starts_with("3 hosts (plan of order-tracking): 1 to change, 2 ok\n"), "{report}");
    assert!(report.stdout.lines().any(|line| line == "ok         b, c"), "{report}");
    assert!(report.stdout.ends_with("Add -v to see everything.\n"), "{report}");
    let report = sandbox.provision("ubuntu", ["report", "-v", "a.jsonl", "b.jsonl", "c.jsonl"]).run().exits(0);
    assert!(report.stdout.contains("2 hosts ok (plan of order-tracking): b, c"), "{report}");
    assert!(!report.stdout.contains("Add -v"), "{report}");
    let report = sandbox.provision("ubuntu", ["report", "a.jsonl", "d.jsonl", "--json"]).run().exits(1);
    let lines: Vec<serde_json::Value> = report.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["file"]), (&"report_no_result".into(), &"d.jsonl".into()));
    // What ssh or provision wrote on standard error explains why there is no result.
    sandbox.write("/home/ubuntu/e.jsonl", "ubuntu", "");
    sandbox.write("/home/ubuntu/e.err", "ubuntu", "Welcome!\nssh: connect to host e port 22: Connection refused\n\n");
    let report = sandbox.provision("ubuntu", ["report", "a.jsonl", "e.jsonl"]).run().exits(1);
    let line = "no result  e  ssh: connect to host e port 22: Connection refused";
    assert!(report.stdout.lines().any(|known| known == line), "{report}");
}

#[test]
fn files_with_other_content_are_not_overwritten() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let plan_file = "/home/ubuntu/small.yaml";
    let text = "name: small\nsteps:\n  - { id: one, directory: { path: /home/ubuntu/one } }\n";
    sandbox.write(plan_file, "ubuntu", text);
    sandbox.bash(
        "ubuntu",
        &format!("chmod 600 {plan_file}; mkfifo pipe; mkdir -m 700 folder; touch -m empty; chmod 600 empty"),
    );
    for option in ["--metrics", "--timeline", "--log-file"] {
        let outcome = sandbox.provision("ubuntu", ["plan", plan_file, option, plan_file]).run().exits(1);
        assert!(outcome.stderr.contains("it already exists and"), "{option}\n{outcome}");
        assert_eq!(sandbox.read(plan_file), text, "{option}");
        for (file, expected) in [("pipe", "not a regular file"), ("folder", "irectory"), ("none/x", "mkdir -p")] {
            let outcome = sandbox.provision("ubuntu", ["plan", plan_file, option, file]).run().exits(1);
            let expected = if (option, file) == ("--metrics", "pipe") { "is a FIFO" } else { expected };
            assert!(
                outcome.stderr.contains(expected) && outcome.stderr.contains("hint:"),
                "{option} {file}\n{outcome}"
            );
        }
        let outcome = sandbox.provision("ubuntu", ["plan", plan_file, option, "/usr/x"]).run().exits(1);
        assert!(outcome.stdout.is_empty() && outcome.stderr.contains("/usr/x"), "{option}\n{outcome}");
        assert!(!outcome.stderr.contains("run_as"), "the hint is about a step\n{outcome}");
        sandbox.bash("ubuntu", &format!("cd; rm -f {FILE} empty; install -m 600 /dev/null empty"));
        sandbox.provision("ubuntu", ["plan", plan_file, option, "empty"]).run().exits(0);
        sandbox.provision("ubuntu", ["plan", plan_file, option, "empty"]).run().exits(0);
    }
    for two in [["--log-file", "--timeline"], ["--timeline", "--metrics"], ["--log-file", "--metrics"]] {
        let outcome = sandbox.provision("ubuntu", ["plan", plan_file, two[0], "new", two[1], "./new"]).run().exits(1);
        assert!(outcome.stderr.contains("name two files"), "{outcome}");
    }
    // Two plan files that write the same metrics.
    sandbox.provision("ubuntu", ["plan", plan_file, "--metrics", FILE]).run().exits(0);
    let before = sandbox.read(FILE);
    sandbox.write("/home/ubuntu/other.yaml", "ubuntu", text.replace("small", "other"));
    let outcome = sandbox.provision("ubuntu", ["plan", "other.yaml", "--metrics", FILE]).run().exits(0);
    assert!(outcome.stderr.contains("it has the metrics of the plan `small`"), "{outcome}");
    assert_eq!(sandbox.read(FILE), before);
}

#[test]
fn runs_at_the_same_time_can_write_the_same_files() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let step = |n: usize| format!("  - {{ id: d{n}, directory: {{ path: /home/ubuntu/d/{n} }} }}\n");
    for (file, count) in [("long", 60), ("short", 20)] {
        let steps: String = (0..count).map(step).collect();
        sandbox.write(&format!("/home/ubuntu/{file}.yaml"), "ubuntu", format!("name: small\nsteps:\n{steps}"));
    }
    for _ in 0..3 {
        let args = |file: &'static str| {
            [
                "plan",
                file,
                "--metrics",
                FILE,
                "--timeline",
                "timeline",
                "--log",
                "debug",
                "--log-format",
                "json",
                "--log-file",
                "log",
            ]
        };
        let start = |n: usize| sandbox.provision("ubuntu", args(["long.yaml", "short.yaml"][n % 2])).start();
        let running: Vec<_> = (0..8).map(start).collect();
        for outcome in running.into_iter().map(crate::sandbox::Running::wait) {
            assert_eq!(outcome.code, 0, "{outcome}");
            assert!(!outcome.stderr.contains("warning"), "{outcome}");
        }
        let timeline: serde_json::Value = serde_json::from_str(&sandbox.read("/home/ubuntu/timeline")).unwrap();
        assert!(timeline["traceEvents"].as_array().unwrap().len() > 20);
        for line in sandbox.read("/home/ubuntu/log").lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        assert!(sample(&sandbox.read(FILE), "provision_run_success", &["command=\"plan\""]).is_some());
    }
}
