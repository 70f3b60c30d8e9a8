//! What is under `packaging/`: the units for systemd, and the alerts for Prometheus.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{PLAN, Sandbox};

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

#[test]
fn a_plan_with_the_rights_of_the_unit_is_the_plan_of_root() {
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
  - { id: key, key_file: { path: /home/git/key, source: { file: /root/key }, owner: git } }
  - { id: password, compose_env: { file: /srv/compose.yaml, variable: PASSWORD, value: { env: SMTP_PASSWORD } } }
";
    sandbox.write("/root/rights.yaml", "root", steps);
    let compose = "services:\n  web:\n    image: x\n    environment:\n      PASSWORD: old\n";
    sandbox.write("/srv/compose.yaml", "git", compose);
    sandbox.bash("root", "ssh-keygen -q -t ed25519 -N '' -f key; chmod 600 /srv/compose.yaml; chmod 700 /home/git");
    sandbox.bash("mallory", "mkdir -p a/b; touch a/b/c; chmod -R go= a");
    let bounding = format!("--bounding-set={}", capabilities());
    let setpriv = ["setpriv", "--no-new-privs", "--inh-caps=-all", &bounding];
    for file in ["/root/rights.yaml", PLAN] {
        let planned = |confined: bool| -> Vec<Value> {
            let run = sandbox.provision("root", ["plan", file, "--json"]).env("SMTP_PASSWORD", "new");
            let run = if confined { run.through(&setpriv) } else { run };
            let outcome = run.run();
            let mut events = outcome.events_of("step_planned");
            assert!(!events.is_empty(), "{file}\n{outcome}");
            events.sort_by_key(|event| event["step"].to_string());
            events
        };
        assert_eq!(planned(false), planned(true), "{file}");
    }
}

#[test]
fn the_alerts_pass_their_tests() {
    let rules = packaging().join("prometheus");
    succeed(Command::new("promtool").current_dir(&rules).args(["check", "rules", "provision.rules.yml"]));
    let text =
        succeed(Command::new("promtool").current_dir(&rules).args(["test", "rules", "provision.rules.test.yml"]));
    assert!(text.contains("SUCCESS"), "{text}");
    // Every metric in a rule is one that a run writes.
    let sandbox = Sandbox::converged();
    sandbox.provision("root", ["plan", PLAN, "--metrics", "/var/tmp/m.prom"]).run().exits(0);
    let written = sandbox.read("/var/tmp/m.prom");
    let rules = std::fs::read_to_string(rules.join("provision.rules.yml")).unwrap();
    let names =
        rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("provision_"));
    for name in names {
        assert!(written.contains(&format!("# TYPE {name} gauge")), "{name}\n{written}");
    }
}
