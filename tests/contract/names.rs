//! Users and groups are shown by the names that they have on this host, in every text of a run. The values in JSON are numbers.

use crate::sandbox::{Outcome, Sandbox};

/// A host with one step that acts as root.
fn host(step: &str) -> Sandbox {
    let sandbox = Sandbox::new().env("PW", "new");
    let id = |user| sandbox.bash("root", &format!("id -u {user}")).trim().to_owned();
    let step = step.replace("UBUNTU", &id("ubuntu"));
    sandbox.write("/root/p.yaml", "root", format!("name: p\nsteps:\n  - {{ id: it, {step} }}\n"));
    sandbox
}

fn plan(sandbox: &Sandbox, more: &[&str]) -> Outcome {
    sandbox.provision("root", ["plan", "/root/p.yaml"].into_iter().chain(more.iter().copied())).run()
}

/// Asserts that plan shows the summaries, in both formats, and the ids in the JSON values.
#[track_caller]
fn shows(step: &str, before: &str, summaries: &[&str], ids: &[(&str, &str)]) {
    let sandbox = host(step);
    sandbox.bash("root", &format!("mkdir -p /srv/app; {before}"));
    let json = plan(&sandbox, &["--json"]).exits(0);
    let planned = json.step("step_planned", "it");
    let changes = planned["changes"].as_array().unwrap();
    for summary in summaries {
        let is_shown = changes.iter().any(|change| change["summary"].as_str().unwrap().contains(summary));
        assert!(is_shown, "the plan does not show {summary:?}: {json}");
    }
    for (pointer, user) in ids {
        let id: u64 = sandbox.bash("root", &format!("id -u {user}")).trim().parse().unwrap();
        assert_eq!(planned.pointer(pointer), Some(&id.into()), "{pointer}\n{json}");
    }
    let human = plan(&sandbox, &[]).exits(0).stdout;
    let human = human.split_whitespace().collect::<Vec<_>>().join(" ");
    for summary in summaries {
        assert!(human.contains(summary), "the plan does not show {summary:?}: {human}");
    }
}

#[test]
fn owners_of_a_directory_are_shown_by_name() {
    shows(
        "run_as: root, directory: { path: /srv/app/logs, owner: mallory, mode: '0755' }",
        "install -d -o ubuntu -g root /srv/app/logs",
        &["set owner mallory (1001), was ubuntu:root"],
        &[
            ("/changes/0/before/owner", "ubuntu"),
            ("/changes/0/before/group", "root"),
            ("/changes/0/after/owner", "mallory"),
        ],
    );
    shows(
        "run_as: root, directory: { path: /srv/app/logs, owner: UBUNTU, group: UBUNTU }",
        "install -d -o 54321 -g 54322 /srv/app/logs",
        &["set owner ubuntu (1000) and group ubuntu (1000), was 54321:54322"],
        &[("/changes/0/after/owner", "ubuntu"), ("/changes/0/after/group", "ubuntu")],
    );
    shows(
        "run_as: root, directory: { path: /srv/app/new, owner: UBUNTU, group: '50000' }",
        "",
        &["owner ubuntu (1000) and group 50000"],
        &[("/changes/0/after/owner", "ubuntu")],
    );
}

#[test]
fn owners_of_entries_are_shown_by_name() {
    shows(
        "run_as: root, directory: { path: /srv/app/logs, owner: UBUNTU, group: '50000', recursive: true }",
        "install -d -o ubuntu -g 50000 /srv/app/logs; touch /srv/app/logs/a",
        &["set owner ubuntu (1000) and group 50000 on 1 entry below: a"],
        &[("/changes/0/after/owner", "ubuntu")],
    );
}

#[test]
fn owners_of_files_are_shown_by_name() {
    shows(
        "run_as: root, file: { path: /srv/app/f, owner: mallory, content: new }",
        "echo old > /srv/app/f; chown ubuntu:54322 /srv/app/f",
        &["with owner mallory and group 54322, was ubuntu:54322"],
        &[("/changes/0/before/owner", "ubuntu"), ("/changes/0/after/owner", "mallory")],
    );
    shows(
        "run_as: root, file: { path: /srv/app/f, group: UBUNTU, content: same }",
        "printf same > /srv/app/f",
        &["set group ubuntu (1000), was root:root"],
        &[("/changes/0/before/owner", "root"), ("/changes/0/after/group", "ubuntu")],
    );
}

#[test]
fn owners_of_keys_are_shown_by_name() {
    let keys = "ssh-keygen -q -t ed25519 -N '' -f /srv/app/key; ssh-keygen -q -t ed25519 -N '' -f /root/new";
    let step =
        "run_as: root, key_file: { path: /srv/app/key, source: { file: /root/new }, owner: UBUNTU, group: mallory }";
    shows(
        step,
        keys,
        &["with owner ubuntu and group mallory, was root:root"],
        &[("/changes/0/before/owner", "root"), ("/changes/0/after/owner", "ubuntu")],
    );
    let same = format!("{keys}; cp /root/new /srv/app/key");
    shows(
        step,
        &same,
        &["set owner ubuntu (1000) and group mallory (1001), was root:root"],
        &[("/changes/0/before/owner", "root")],
    );
}

#[test]
fn users_and_owners_in_reasons_are_shown_by_name() {
    let blocked = |step: &str, before: &str, reason: &str| {
        let sandbox = host(step);
        sandbox.bash("root", &format!("mkdir -p /srv/app; {before}"));
        let outcome = plan(&sandbox, &["--json"]).exits(1);
        assert_eq!(outcome.step("step_planned", "it")["reason"], reason, "{outcome}");
    };
    let keys = "ssh-keygen -q -t ed25519 -N '' -f /srv/app/key; ssh-keygen -q -t ed25519 -N '' -f /root/new";
    blocked(
        "run_as: mallory, directory: { path: /srv/app/new }",
        "",
        "cannot create /srv/app/new: mallory may not write to /srv/app",
    );
    blocked(
        "run_as: mallory, directory: { path: /srv/app, mode: '0711' }",
        "",
        "mallory is not allowed to change the mode of /srv/app, which belongs to root",
    );
    blocked(
        "run_as: mallory, directory: { path: /srv/app/d, owner: UBUNTU }",
        "install -d -o mallory /srv/app/d",
        "mallory is not allowed to change the owner of /srv/app/d to ubuntu (1000)",
    );
    blocked(
        "run_as: mallory, file: { path: /srv/app/f, content: new }",
        "echo old > /srv/app/f; chown ubuntu /srv/app/f",
        "mallory is not allowed to replace /srv/app/f, which belongs to ubuntu",
    );
    blocked(
        "run_as: mallory, key_file: { path: /srv/app/key, source: { file: /root/new } }",
        &format!("{keys}; chown ubuntu /srv/app/key"),
        "mallory is not allowed to replace /srv/app/key, which belongs to ubuntu",
    );
    blocked(
        "run_as: mallory, key_file: { path: /srv/app/key, source: { file: /root/new }, mode: '0440' }",
        &format!("{keys}; chown mallory:ubuntu /srv/app/key; chown mallory /srv/app"),
        "mallory is not allowed to give the file that replaces /srv/app/key its group, ubuntu",
    );
    blocked(
        "run_as: mallory, compose_env: { file: /srv/app/c.yml, variable: PW, value: { env: PW } }",
        "chown mallory /srv/app
        printf 'services: { a: { image: x, environment: { PW: old } } }' > /srv/app/c.yml; chown ubuntu /srv/app/c.yml",
        "/srv/app/c.yml belongs to ubuntu, and the edited file would belong to the step's user",
    );
    blocked(
        "run_as: mallory, repository: { path: /srv/app/r, url: /srv/none, branch: main }",
        "git init -q /srv/app/r; chown -R ubuntu /srv/app/r",
        "the checkout /srv/app/r belongs to ubuntu, and the step acts as mallory",
    );
}
