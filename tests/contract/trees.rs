//! Live trees: directories that are written to while they converge, and entries that cannot be changed.

use serde_json::Value;

use crate::sandbox::{LOGS, Outcome, PROVISION, Running, Sandbox};

const TREE: &str = "/srv/app/logs";

/// A host with a plan file that gives the tree to user and group 50000, and `more`.
fn host(more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let step = format!("directory: {{ path: {TREE}, owner: '50000', group: '50000', {more} }}");
    sandbox.write("/root/d.yaml", "root", format!("name: d\nsteps:\n  - {{ id: logs, run_as: root, {step} }}\n"));
    sandbox
        .bash("root", &format!("mkdir -p {TREE}/{{a,b,c}}; touch {TREE}/{{a,b,c}}/{{1,2,3}}; chown -R 50000:0 {TREE}"));
    sandbox
}

/// Starts a process that creates entries as 50000:0, like a container, until the file `/root/stop` exists.
fn writer(sandbox: &Sandbox, make: &str) -> Running {
    let script = format!(
        "cd {TREE}; i=0; until [ -e /root/stop ]; do i=$((i + 1)); \
         setpriv --reuid 50000 --regid 0 --clear-groups -- bash -c '{make}' \"$i\"; done"
    );
    sandbox.command("root", ["bash", "-c", &script]).start()
}

fn stop(sandbox: &Sandbox, writer: Running) {
    sandbox.bash("root", "touch /root/stop");
    writer.wait();
    sandbox.bash("root", "rm /root/stop");
}

fn apply(sandbox: &Sandbox) -> Outcome {
    sandbox.provision("root", ["apply", "d.yaml", "--yes", "--json"]).run()
}

fn finished(outcome: &Outcome) -> Value {
    outcome.step("step_finished", "logs")
}

fn reason(event: &Value) -> &str {
    event["reason"].as_str().unwrap_or_default()
}

/// Returns the number of entries, including the top, that do not belong to user and group 50000.
fn wrong(sandbox: &Sandbox) -> usize {
    sandbox.bash("root", &format!("find {TREE} ! \\( -user 50000 -group 50000 \\)")).lines().count()
}

#[test]
fn a_tree_with_concurrent_writers_converges() {
    let sandbox = host("recursive: true");
    sandbox.bash("root", &format!("mkdir {TREE}/many; touch {TREE}/many/{{1..3000}}; chown -R 50000:0 {TREE}/many"));
    let makes = "echo x > file-$0; mkdir -p dir-$0/sub; echo x > dir-$0/sub/f; mv file-$0 dir-$0/moved; [ $0 -lt 9 ] || rm -r dir-$(($0 - 8))";
    let writer = writer(&sandbox, makes);
    for _ in 0..5 {
        let outcome = apply(&sandbox).exits(0);
        assert_eq!(sandbox.bash("root", &format!("find {TREE}/many ! -group 50000")), "", "{outcome}");
        sandbox.bash("root", &format!("chgrp -R 0 {TREE}/many"));
    }
    stop(&sandbox, writer);
    apply(&sandbox).exits(0);
    assert_eq!(wrong(&sandbox), 0);
    assert_eq!(finished(&apply(&sandbox).exits(0))["outcome"], "unchanged");
}

#[test]
fn more_entries_at_confirmation_are_the_same_change() {
    let sandbox = host("recursive: true");
    let mut terminal = sandbox.provision("root", ["apply", "d.yaml"]).on_terminal(120, "exec \"$@\"");
    terminal.until("[y/N] ");
    sandbox.bash("root", &format!("touch {TREE}/a/{{4..20}}; rm {TREE}/a/1"));
    terminal.types("yes\r");
    let (code, shown) = terminal.wait();
    assert_eq!(code, 0, "{shown}");
    assert_eq!(wrong(&sandbox), 0);
}

#[test]
fn a_saved_plan_accepts_a_different_number_of_entries() {
    for change in ["rm a/1", "touch a/{4..9}", "rm -r b; mkdir d; touch d/x"] {
        let sandbox = host("recursive: true");
        sandbox.provision("root", ["plan", "d.yaml", "--out", "saved"]).run().exits(0);
        sandbox.bash("root", &format!("cd {TREE}; {change}"));
        sandbox.provision("root", ["apply", "saved", "--yes"]).run().exits(0);
        assert_eq!(wrong(&sandbox), 0, "{change}");
    }
}

#[test]
fn unplanned_risks_block_a_saved_plan() {
    for (change, more) in [
        ("chmod 4755 a/1", ""),
        ("setcap cap_net_bind_service=ep a/1", ""),
        ("ln a/1 /srv/app/other", ""),
        ("ln a/1 /srv/app/other", ", hard_links: change"),
        ("umount c", ""),
    ] {
        let sandbox = host(&format!("recursive: true{more}"));
        sandbox.bash("root", &format!("cd {TREE}; chown 50000:50000 c; mount --bind c c"));
        sandbox.provision("root", ["plan", "d.yaml", "--out", "saved"]).run().exits(0);
        sandbox.bash("root", &format!("cd {TREE}; {change}"));
        let before = wrong(&sandbox);
        sandbox.provision("root", ["apply", "saved", "--yes"]).run().exits(1);
        assert_eq!(wrong(&sandbox), before, "{change}{more}");
    }
}

#[test]
fn entries_that_appear_after_the_plan_are_left_to_the_next_apply() {
    let sandbox = host("mode: '0770', recursive: true");
    sandbox.bash("root", &format!("chown -R 50000:50000 {TREE}"));
    sandbox.provision("root", ["plan", "d.yaml", "--out", "saved"]).run().exits(0);
    sandbox.bash("root", &format!("touch {TREE}/new"));
    let outcome = sandbox.provision("root", ["apply", "saved", "--yes", "--json"]).run().exits(0);
    let event = finished(&outcome)["warnings"].to_string();
    assert!(event.contains("left to the next apply") && event.contains("new"), "{outcome}");
    assert_eq!(sandbox.bash("root", &format!("stat -c '%a %u' {TREE} {TREE}/new")), "770 50000\n644 0\n");
}

#[test]
fn recursive_owner_leaves_the_group_of_containers() {
    let sandbox = Sandbox::converged();
    sandbox.bash("root", &format!(
        "setpriv --reuid 50000 --regid 0 --clear-groups -- bash -c 'mkdir -p {LOGS}/dag_id=x; touch {LOGS}/dag_id=x/1.log'"
    ));
    let outcome = sandbox.plan("ubuntu").exits(0);
    assert_eq!(outcome.step("step_planned", "logs-directory")["outcome"], "unchanged", "{outcome}");
    sandbox.bash("root", &format!("touch {LOGS}/roots"));
    sandbox.apply("ubuntu").exits(0);
    assert_eq!(sandbox.bash("root", &format!("stat -c %u:%g {LOGS} {LOGS}/roots")), "50000:50000\n50000:0\n");
}

#[test]
fn one_entry_that_cannot_be_changed_does_not_stop_the_walk() {
    let sandbox = host("recursive: true");
    sandbox.bash("root", &format!("chown 50000:0 {TREE}; chattr +i {TREE}/b/1 || touch /root/no-flags"));
    let plan = sandbox.provision("root", ["plan", "d.yaml", "--json"]).run().exits(1);
    let event = plan.step("step_planned", "logs");
    assert!(reason(&event).contains("1 entry below") && reason(&event).contains("b/1"), "{plan}");
    let outcome = apply(&sandbox).exits(1);
    let event = finished(&outcome);
    assert!(reason(&event).contains("1 entry below") && reason(&event).contains("b/1"), "{outcome}");
    assert_eq!(wrong(&sandbox), 1, "{outcome}");
    // The hint works.
    let hint = event["hint"].as_str().unwrap();
    sandbox.bash("root", hint.split('`').nth(1).unwrap());
    apply(&sandbox).exits(0);
    assert_eq!(wrong(&sandbox), 0);
}

/// chmod(2) clears the set-group-ID bit for a user who is not in the group, and reports success.
#[test]
fn a_set_group_id_bit_that_would_not_hold_is_blocked() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    sandbox.bash(
        "root",
        "cd /home/ubuntu; ssh-keygen -q -t ed25519 -N '' -f new.pem; chown ubuntu new.pem; install -d -o ubuntu -g mallory theirs shared shared/sub; chmod 2777 shared; install -d -o ubuntu -g ubuntu own",
    );
    let outcome = |step: &str| {
        let text = format!("name: bits\nsteps:\n  - {{ id: it, {step} }}\n");
        sandbox.write("/home/ubuntu/bits.yaml", "ubuntu", text);
        let plan = sandbox.provision("ubuntu", ["plan", "bits.yaml", "--json"]).run();
        let apply = sandbox.provision("ubuntu", ["apply", "bits.yaml", "--json", "--yes"]).run();
        let (planned, finished) = (plan.step("step_planned", "it"), apply.step("step_finished", "it"));
        (planned["outcome"].clone(), finished["outcome"].clone(), reason(&planned).to_owned())
    };
    for step in [
        "directory: { path: /home/ubuntu/theirs, mode: \"2775\" }",
        "directory: { path: /home/ubuntu/shared/new, mode: \"2775\" }",
        "file: { path: /home/ubuntu/shared/file, content: x, mode: \"2755\" }",
        "key_file: { path: /home/ubuntu/shared/key, source: { file: /home/ubuntu/new.pem }, mode: \"2600\" }",
    ] {
        let (planned, finished, reason) = outcome(step);
        assert_eq!((planned, finished), ("blocked".into(), "blocked".into()), "{step}: {reason}");
        assert!(reason.contains("ubuntu is not in the group of") && reason.contains("mallory"), "{reason}");
    }
    let (planned, finished, reason) =
        outcome("directory: { path: /home/ubuntu/shared, recursive: owner, owner: ubuntu, dir_mode: \"2775\" }");
    assert_eq!((planned, finished), ("blocked".into(), "blocked".into()), "{reason}");
    assert!(reason.contains("1 entry below"), "{reason}");
    for step in [
        "directory: { path: /home/ubuntu/own, mode: \"2775\" }",
        "directory: { path: /home/ubuntu/own/new, mode: \"2775\" }",
        "directory: { path: /home/ubuntu/shared/plain, mode: \"0775\" }",
        "file: { path: /home/ubuntu/own/file, content: x, mode: \"2755\" }",
    ] {
        let (planned, finished, reason) = outcome(step);
        assert_eq!((planned, finished), ("changes".into(), "changed".into()), "{step}: {reason}");
    }
    // Without a mode, the directory does not get the bit of its parent either.
    let step = "directory: { path: /home/ubuntu/shared/bare }";
    sandbox.write("/home/ubuntu/bits.yaml", "ubuntu", format!("name: bits\nsteps:\n  - {{ id: it, {step} }}\n"));
    let plan = sandbox.provision("ubuntu", ["plan", "bits.yaml"]).run();
    assert!(plan.stdout.contains("create the directory with mode 0755"), "{}", plan.stdout);
    sandbox.provision("ubuntu", ["apply", "bits.yaml", "--yes"]).run().exits(0);
    assert_eq!(sandbox.bash("root", "stat -c %a /home/ubuntu/shared/bare"), "755\n");
}

/// A parent that a step creates in another step's tree belongs to the tree, whichever directory it is created in.
#[test]
fn a_parent_created_in_a_tree_gets_the_owner_of_the_tree() {
    let sandbox = Sandbox::new();
    sandbox.bash("root", "mkdir -p /srv/a/b /srv/k && ssh-keygen -q -t ed25519 -N '' -f /srv/k/key");
    let file = "\
name: trees
steps:
  - { id: key, key_file: { path: /srv/a/b/c/d/key.pem, source: { file: /srv/k/key } } }
  - { id: inner, directory: { path: /srv/a/b } }
  - { id: other, directory: { path: /srv/a/o, owner: \"9\" } }
  - { id: below, directory: { path: /srv/a/o/p/q, owner: \"5\" } }
  - { id: tree, directory: { path: /srv/a, owner: \"7\", group: \"8\", recursive: true, dir_mode: \"0750\" } }
";
    sandbox.write("/srv/trees.yaml", "root", file);
    sandbox.provision("root", ["apply", "/srv/trees.yaml", "--yes"]).run().exits(0);
    let owners = sandbox.bash("root", "stat -c '%n %u:%g %a' /srv/a/b/c /srv/a/b/c/d /srv/a/o/p");
    assert_eq!(owners, "/srv/a/b/c 7:8 750\n/srv/a/b/c/d 7:8 750\n/srv/a/o/p 7:8 750\n");
    sandbox.provision("root", ["plan", "/srv/trees.yaml", "--detailed-exitcode"]).run().exits(0);
}

/// Root's state folder is left out. Those of other users get the tree's owner and keep their modes, wherever they are.
#[test]
fn what_provision_keeps_in_a_tree_stays_closed_and_the_plan_says_so() {
    let sandbox = Sandbox::new();
    let file = "name: f\nsteps:\n  - { id: f, file: { path: /home/ubuntu/f, content: new, mode: \"0600\" } }\n";
    sandbox.write("/home/ubuntu/f.yaml", "ubuntu", file);
    sandbox.write("/home/ubuntu/f", "ubuntu", "s3cret");
    sandbox.bash("root", "install -d -o ubuntu /srv/home; cp /home/ubuntu/f.yaml /root/f.yaml");
    sandbox.bash("ubuntu", &format!("XDG_STATE_HOME=/srv/home/state {PROVISION} apply f.yaml --yes"));
    sandbox.bash("root", &format!("chmod 644 /home/ubuntu/f; {PROVISION} apply f.yaml --yes"));
    for (path, note) in [
        ("/srv/home", "modes stay as they are where provision keeps its state or rescues: state/provision"),
        ("/var/lib", "left out, because it is for root alone: /var/lib/provision"),
    ] {
        let step =
            format!("{{ path: {path}, recursive: true, owner: mallory, dir_mode: \"0755\", file_mode: \"0644\" }}");
        sandbox.write("/root/d.yaml", "root", format!("name: d\nsteps:\n  - {{ id: d, directory: {step} }}\n"));
        for _ in 0..2 {
            let planned = sandbox.provision("root", ["plan", "d.yaml", "-v"]).env("COLUMNS", "300").run().exits(0);
            assert!(planned.stdout.contains(note), "{planned}");
            sandbox.provision("root", ["apply", "d.yaml", "--yes"]).run().exits(0);
        }
    }
    let opened = "find /srv/home/state/provision /var/lib/provision -perm /077; stat -c '%U' /srv/home/state/provision";
    assert_eq!(sandbox.bash("root", opened), "mallory\n");
    assert_eq!(
        sandbox.bash("root", "find /srv/home/state/provision ! -user mallory; find /var/lib/provision ! -user root"),
        ""
    );
    assert_eq!(sandbox.bash("root", "cat /srv/home/state/provision/rescues/* | tail -n +2"), "s3cret");
}
