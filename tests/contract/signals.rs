//! SIGINT and SIGTERM: the current change is finished, no other is started, and what is left is reported. Observations
//! are abandoned without a trace.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::remotes::{served_by_ssh, trust_the_host};
use crate::sandbox::{PLAN, Running, Sandbox, eventually, random_word};

/// Holds an apply in its first CREATE TABLE by a lock on the parent, sends the signal, and releases the lock.
fn stopped_by(signal: Signal, code: i32) {
    let sandbox = Sandbox::new().warehouse();
    let mut locker = sandbox
        .command("root", ["bash", "-c", "mkfifo /tmp/go; (echo 'BEGIN; LOCK settlement_ods.mart_uni_tracking_info; SELECT 1;'; cat /tmp/go) | psql -h /run/postgresql -U postgres -XAtq warehouse"])
        .start();
    locker.until(|line| line == "1\n");
    let steps = "history-tables,exceptions-table";
    let mut apply = sandbox
        .provision("ubuntu", ["apply", PLAN, "--yes", "--json", "--as-of", "2026-03-01", "--only", steps])
        .start();
    apply.until(|line| line.contains("change_started") && line.contains("hist_uni_tracking_info_2025_h2"));
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    while sandbox.sql(waiting) == "0\n" {}
    apply.signal(signal);
    // The change continues after the signal, because it waits only for the lock.
    assert_eq!(sandbox.sql(waiting), "1\n");
    sandbox.bash("root", "echo 'ROLLBACK;' > /tmp/go");
    locker.wait();
    let outcome = apply.wait().exits(code);
    let tables = sandbox.tables();
    assert!(tables.contains(&"hist_uni_tracking_info_2025_h2".to_owned()), "the current change is finished\n{outcome}");
    assert!(!tables.contains(&"hist_uni_tracking_spath_2026_h2".to_owned()), "no other is started\n{outcome}");
    assert_eq!(outcome.events_of("change_started").len(), outcome.events_of("change_finished").len(), "{outcome}");
    let last = outcome.events().pop().unwrap();
    assert_eq!(last["event"], "run_finished", "{outcome}");
    assert!(last["reason"].is_string(), "the reason names what is left\n{last}");
    sandbox.provision("ubuntu", ["apply", PLAN, "--yes", "--as-of", "2026-03-01", "--only", steps]).run().exits(0);
    assert!(sandbox.tables().contains(&"hist_uni_tracking_spath_2026_h2".to_owned()));
}

#[test]
fn sigint_ends_with_130() {
    stopped_by(Signal::SIGINT, 130);
}

#[test]
fn sigterm_ends_with_143() {
    stopped_by(Signal::SIGTERM, 143);
}

/// Two dependent steps with much to do. The first has started when the signal comes.
#[test]
fn signals_let_the_current_file_change_finish() {
    let mut sandbox = Sandbox::new().remote();
    sandbox.unset_var("repo_url");
    let files = "mkdir -p noise; for n in $(seq 3000); do echo $n > noise/$n; done; git add noise";
    sandbox.bash("ubuntu", "git clone -q -b jasleen_qa /srv/git/s3-redshift-backup-tool.git mine");
    let commit = "git -c user.name=u -c user.email=u@example.com commit -q -m noise";
    sandbox.bash("ubuntu", &format!("cd mine; {files}; {commit}; git clone -q --bare . ../much.git"));
    sandbox.bash("ubuntu", "mkdir tree; cd tree; seq 60000 | xargs touch");
    sandbox.write(
        "/home/ubuntu/provision.yaml",
        "ubuntu",
        "name: much
steps:
  - { id: code, repository: { path: /home/ubuntu/code, url: /home/ubuntu/much.git, branch: jasleen_qa } }
  - { id: tree, after: [code], run_as: root, directory: { path: /home/ubuntu/tree, owner: '50000', recursive: true } }
  - { id: last, after: [tree], directory: { path: /home/ubuntu/last } }
",
    );
    for (step, next, code) in [("code", "tree", 130), ("tree", "last", 143)] {
        let mut apply = sandbox.provision("ubuntu", ["apply", "provision.yaml", "--yes", "--json"]).start();
        apply.until(|line| line.contains("change_started") && line.contains(&format!("\"step\":\"{step}\"")));
        if code == 130 {
            apply.signal(Signal::SIGINT);
        } else {
            // As a service manager ends all processes of a service.
            sandbox.bash("root", "pkill -TERM -x 'exe|provision|sudo'");
        }
        let outcome = apply.wait().exits(code);
        assert_eq!(outcome.events_of("change_finished").last().unwrap()["outcome"], "changed", "{outcome}");
        let finished = outcome.events_of("step_finished").into_iter().find(|event| event["step"] == step);
        assert!(!finished.unwrap().to_string().contains("ended unexpectedly"), "{outcome}");
        assert!(!outcome.events_of("change_started").iter().any(|event| event["step"] == next), "{outcome}");
    }
    assert_eq!(sandbox.bash("ubuntu", "git -C code status --porcelain; ls code/noise | wc -l"), "3000\n");
    assert_eq!(
        sandbox.bash("ubuntu", "find tree -mindepth 1 -not -uid 50000; test -e last || echo not begun"),
        "not begun\n"
    );
    sandbox.provision("ubuntu", ["apply", "provision.yaml", "--yes"]).run().exits(0);
    let plan = sandbox.provision("ubuntu", ["plan", "provision.yaml", "--detailed-exitcode"]).run();
    assert_eq!(plan.code, 0, "{plan}");
}

/// The remote's behaviour for a connection: git's own upload-pack, which falls silent in the middle of a pack.
const STALL: &str = r#"#!/bin/bash
eval "$SSH_ORIGINAL_COMMAND" | {
    dd bs=1 count=200000 status=none
    [ "$(head -c 1 | wc -c)" = 0 ] || { touch /tmp/silent; exec sleep 600; }
}
"#;

/// A checkout that is behind a remote which falls silent in the middle of a fetch.
fn behind_a_remote_that_falls_silent() -> Sandbox {
    let sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    sandbox.provision("ubuntu", ["apply", PLAN, "--yes", "--only", "repository"]).run().exits(0);
    let noise: String = (0..40_000).map(|_| random_word() + "\n").collect();
    sandbox.commit("noise", &noise);
    sandbox.write("/home/ubuntu/stall", "ubuntu", STALL);
    sandbox.bash(
        "ubuntu",
        "chmod +x stall; sed 's|^|command=\"/home/ubuntu/stall\" |' .ssh/id_ed25519.pub > .ssh/authorized_keys",
    );
    sandbox
}

/// A command of `user` that has started to fetch and receives nothing more.
fn fetching<'a>(sandbox: &'a Sandbox, user: &str, command: &[&'a str]) -> Running {
    sandbox.bash("root", "rm -f /tmp/silent");
    let running = sandbox.provision(user, [command, &[PLAN, "--json", "--only", "repository"]].concat()).start();
    eventually("the remote has fallen silent", || sandbox.path("/tmp/silent").exists());
    eventually("a part of the pack was written", || {
        let packs = sandbox.bash("root", "find /dev/shm/provision-fetch-*/objects/pack -type f -size +0");
        !packs.is_empty()
    });
    running
}

/// Returns the temporary files of a fetch, and the programs that fetch.
fn left(sandbox: &Sandbox) -> String {
    sandbox.bash("root", "find /dev/shm /tmp -name 'provision-fetch-*'; pgrep -ax ssh || true")
}

#[test]
fn an_interrupted_fetch_leaves_no_trace() {
    let sandbox = behind_a_remote_that_falls_silent();
    // Mallory's worker is started by sudo.
    sandbox.bash("root", "echo 'mallory ALL=(ALL:ALL) NOPASSWD: ALL' >> /etc/sudoers");
    for (user, command) in
        [("ubuntu", &["plan"][..]), ("root", &["plan"]), ("root", &["apply", "--yes"]), ("mallory", &["plan"])]
    {
        for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
            let running = fetching(&sandbox, user, command);
            let begun = Instant::now();
            running.signal(signal);
            let outcome = running.wait().exits(code);
            assert_eq!(outcome.events_of("run_finished")[0]["outcome"], "failed", "{outcome}");
            assert!(begun.elapsed() < Duration::from_secs(5), "a silent remote is waited for");
            let files = sandbox.bash("root", "find /dev/shm /tmp -name 'provision-fetch-*'");
            assert_eq!(files, "", "{command:?} as {user}, {signal}");
            eventually("ssh has ended", || left(&sandbox).is_empty());
        }
    }
}

#[test]
fn an_interrupted_fetch_kills_the_children_of_ssh_command() {
    let sandbox = behind_a_remote_that_falls_silent();
    // A shell that stays, with ssh as its child.
    sandbox.bash("ubuntu", "git -C etl/etl_dw/s3-redshift-backup-tool config core.sshCommand 'ssh \"$@\"; true'");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let running = fetching(&sandbox, "ubuntu", &["plan"]);
        assert!(sandbox.bash("root", "pgrep -ax sh").contains("true"), "ssh is not below a shell");
        running.signal(signal);
        running.wait();
        eventually("ssh has ended", || left(&sandbox).is_empty());
    }
}

#[test]
fn a_fetch_with_a_killed_launcher_or_worker_leaves_no_trace() {
    let sandbox = behind_a_remote_that_falls_silent();
    for user in ["ubuntu", "root"] {
        for (signal, code) in [(Signal::SIGHUP, 129), (Signal::SIGKILL, 137)] {
            let running = fetching(&sandbox, user, &["plan"]);
            running.signal(signal);
            running.wait().exits(code);
            eventually("nothing is left", || left(&sandbox).is_empty());
        }
        for signal in ["TERM", "INT", "HUP"] {
            let running = fetching(&sandbox, user, &["plan"]);
            sandbox.bash("root", &format!("pkill -{signal} -f '(exe|provision) worker'"));
            let outcome = running.wait().exits(1);
            assert!(outcome.all().contains("ended unexpectedly"), "{outcome}");
            eventually("nothing is left", || left(&sandbox).is_empty());
        }
    }
}
