//! What is under `packaging/`: the units for systemd, and the alerts for Prometheus.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{Outcome, PLAN, Sandbox, Snapshot};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// Runs a command of the machine, which has to succeed, and returns its output.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (scripts/setup installs it)"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{text}");
    text
}

#[test]
fn the_units_are_valid_and_hardened() {
    let dir = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for entry in packaging().join("systemd").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let unit = dir.path().join(path.file_name().unwrap());
        std::fs::write(&unit, text.replace("/usr/bin/provision", env!("CARGO_BIN_EXE_provision"))).unwrap();
        units.push(unit);
    }
    assert_eq!(units.len(), 2);
    let text = succeed(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units));
    let own: Vec<&str> = text.lines().filter(|line| line.contains("provision-plan@")).collect();
    assert!(own.is_empty(), "{text}");
    // In tenths: 3.5, where 10 is a service without any limits.
    let service = units.iter().find(|unit| unit.extension().is_some_and(|end| end == "service")).unwrap();
    succeed(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=35"]).arg(service));
}

/// The capabilities in the unit, in the words of setpriv.
fn capabilities() -> String {
    let text = std::fs::read_to_string(packaging().join("systemd/provision-plan@.service")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let words = line.split_whitespace().map(|word| format!(",+{}", word.strip_prefix("CAP_").unwrap().to_lowercase()));
    format!("-all{}", words.collect::<String>())
}

/// A plan file with steps that need the rights of root, and what it works on.
fn rights() -> Sandbox {
    let sandbox = Sandbox::order_tracking();
    let steps = "
name: rights
vars: { key_source: null, repo_url: null }
steps:
  - { id: parents, directory: { path: /srv/x/y, owner: ubuntu, mode: \"0700\" } }
  - { id: tree, directory: { path: /home/mallory, owner: \"50000\", recursive: true, file_mode: \"u=rwX\" } }
  - { id: own, run_as: ubuntu, directory: { path: /home/ubuntu/new } }
  - { id: other, run_as: mallory, directory: { path: /home/ubuntu/denied } }
  - { id: conf, file: { path: /home/git/app.conf, content: x, owner: git } }
  - { id: key, key_file: { path: /home/git/key, source: { file: /root/key } } }
  - { id: password, compose_env: { file: /home/git/compose.yaml, variable: PASSWORD, value: { env: SMTP_PASSWORD } } }
";
    sandbox.write("/root/rights.yaml", "root", steps);
    let compose = "services:\n  web:\n    image: x\n    environment:\n      PASSWORD: old\n";
    sandbox.write("/home/git/compose.yaml", "git", compose);
    let key = "ssh-keygen -q -t ed25519 -N '' -f key; chmod 600 /home/git/compose.yaml; chmod 700 /home/git";
    sandbox.bash("root", key);
    sandbox.bash("mallory", "mkdir -p a/b; touch a/b/c; chmod -R go= a");
    sandbox
}

/// The steps that a command plans, by id. With `confined`, it has only the rights of the unit.
fn planned(sandbox: &Sandbox, command: &[&str], confined: bool) -> (Outcome, Vec<Value>) {
    let bounding = format!("--bounding-set={}", capabilities());
    let run = sandbox.provision("root", command.iter().copied().chain(["--json"])).env("SMTP_PASSWORD", "new");
    let run = if confined { run.through(&["setpriv", "--no-new-privs", "--inh-caps=-all", &bounding]) } else { run };
    let outcome = run.run();
    let mut events = outcome.events_of("step_planned");
    assert!(!events.is_empty(), "{outcome}");
    events.sort_by_key(|event| event["step"].to_string());
    (outcome, events)
}

#[test]
fn a_plan_with_the_rights_of_the_unit_is_the_plan_of_root() {
    let sandbox = rights();
    for file in ["/root/rights.yaml", PLAN] {
        assert_eq!(planned(&sandbox, &["plan", file], false).1, planned(&sandbox, &["plan", file], true).1, "{file}");
    }
}

#[test]
fn an_apply_with_the_rights_of_the_unit_reports_in_its_plan_what_it_cannot_change() {
    let sandbox = rights();
    let before = Snapshot::take(&sandbox, "/home/git", &[]);
    let (outcome, steps) = planned(&sandbox, &["apply", "/root/rights.yaml", "--yes"], true);
    for step in steps {
        let id = step["step"].as_str().unwrap();
        if id == "own" {
            assert_eq!(step["outcome"], "changes", "{outcome}");
            continue;
        }
        assert_eq!(step["outcome"], "blocked", "{id}\n{outcome}");
        let hint = step["hint"].as_str().unwrap_or_default();
        // Only `other` is another user's.
        assert!(id == "other" || hint.contains("root lacks CAP_"), "{id}: {hint}\n{outcome}");
    }
    for step in outcome.events_of("step_finished") {
        assert_ne!(step["outcome"], "failed", "{outcome}");
    }
    before.is_same_as(&Snapshot::take(&sandbox, "/home/git", &[]), &format!("{outcome}"));
    outcome.exits(1);
}

#[test]
fn the_alerts_and_the_metrics_pass_promtool() {
    let rules = packaging().join("prometheus");
    succeed(Command::new("promtool").current_dir(&rules).args(["check", "rules", "provision.rules.yml"]));
    let text =
        succeed(Command::new("promtool").current_dir(&rules).args(["test", "rules", "provision.rules.test.yml"]));
    assert!(text.contains("SUCCESS"), "{text}");
    // Every metric in a rule is one that a run writes.
    let sandbox = Sandbox::converged();
    sandbox.provision("root", ["plan", PLAN, "--metrics", "/var/tmp/m.prom"]).run().exits(0);
    let written = sandbox.read("/var/tmp/m.prom");
    let metrics = std::fs::File::open(sandbox.path("/var/tmp/m.prom")).unwrap();
    let linted = succeed(Command::new("promtool").args(["check", "metrics"]).stdin(metrics));
    assert_eq!(linted, "", "promtool reports nothing");
    let rules = std::fs::read_to_string(rules.join("provision.rules.yml")).unwrap();
    let names =
        rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("provision_"));
    for name in names {
        assert!(written.contains(&format!("# TYPE {name} gauge")), "{name}\n{written}");
    }
}
