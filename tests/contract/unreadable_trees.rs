//! Trees with entries that cannot be looked at, opened or listed: dead mounts, FUSE mounts of other users, and failing storage.

use crate::sandbox::{Outcome, Sandbox};

const TREE: &str = "/srv/app/logs";

/// A host with a tree of root's, and a step that gives the tree this `owner`.
fn host(run_as: &str, owner: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let step = format!("directory: {{ path: {TREE}, {owner}, recursive: true }}");
    sandbox.write("/root/d.yaml", "root", format!("name: d\nsteps:\n  - {{ id: logs, run_as: {run_as}, {step} }}\n"));
    sandbox.bash("root", &format!("mkdir -p {TREE}/{{a,b,c}}; touch {TREE}/{{a,b,c}}/{{1,2,3}}"));
    sandbox
}

/// Mounts a FUSE file system of `uid` without a server. Its owner gets no answer, and other users are denied access.
fn mount_fuse(sandbox: &Sandbox, at: &str, uid: u32) {
    sandbox.bash(
        "root",
        &format!(
            "[ -e /dev/fuse ] || mknod /dev/fuse c 10 229
            mkdir -p {at}; exec 9<>/dev/fuse
            mount -i -t fuse -o fd=9,rootmode=40000,user_id={uid},group_id={uid} none {at}"
        ),
    );
}

fn run(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.provision("root", args.iter().copied().chain(["/root/d.yaml", "--json"])).run()
}

#[test]
fn a_mount_that_cannot_be_looked_at_is_skipped_as_any_other() {
    let sandbox = host("root", "owner: '50000', group: '50000'");
    mount_fuse(&sandbox, &format!("{TREE}/b/of-user"), 1000);
    mount_fuse(&sandbox, &format!("{TREE}/b/dead"), 0);
    sandbox.bash("root", &format!("! stat {TREE}/b/of-user; ! ls {TREE}/b/dead"));
    let plan = run(&sandbox, &["plan"]).exits(0);
    let planned = plan.step("step_planned", "logs");
    assert_eq!(planned["notes"][0], "mount points are skipped: b/dead, b/of-user", "{plan}");
    assert!(planned["changes"][0]["summary"].as_str().unwrap().contains("on 12 entries below"), "{plan}");
    run(&sandbox, &["apply", "--yes"]).exits(0);
    let wrong = format!("find {TREE} -mount ! -group 50000 ! -path '*/of-user' ! -path '*/dead'");
    assert_eq!(sandbox.bash("root", &format!("{wrong} 2> /dev/null || true")), "");
    assert_eq!(run(&sandbox, &["plan"]).exits(0).step("step_planned", "logs")["outcome"], "unchanged");
}

#[test]
fn a_directory_that_cannot_be_opened_does_not_stop_the_others() {
    let sandbox = host("mallory", "group: mallory");
    sandbox.bash(
        "root",
        &format!("chown -R mallory:root {TREE}; chown ubuntu:mallory {TREE}/b; chmod 700 {TREE}/b; chmod 0 {TREE}/a"),
    );
    let plan = run(&sandbox, &["plan"]).exits(1);
    let planned = plan.step("step_planned", "logs");
    let reason = planned["reason"].as_str().unwrap();
    assert_eq!(planned["outcome"], "blocked", "{plan}");
    assert!(reason.contains("cannot open /srv/app/logs/a: permission denied"), "{plan}");
    assert!(reason.contains("cannot open /srv/app/logs/b: permission denied"), "{plan}");
    assert!(planned["changes"][0]["summary"].as_str().unwrap().contains("on 4 entries below"), "{plan}");
    let apply = run(&sandbox, &["apply", "--yes"]).exits(1);
    assert_eq!(apply.step("step_finished", "logs")["outcome"], "blocked", "{apply}");
    assert_eq!(sandbox.bash("root", &format!("find {TREE}/c ! -group mallory")), "");
}
