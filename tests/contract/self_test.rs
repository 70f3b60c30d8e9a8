//! The test harness itself: what other tests would not notice if it stopped working.

use std::process::Command;

use crate::sandbox::{CHECKOUT, COMPOSE, Sandbox, Snapshot, Tracing};

#[test]
fn throwaway_hosts_have_real_users() {
    let sandbox = Sandbox::new();
    let who = "id -un; id -Gn; echo $HOME; sudo -n id -un; tr '\\0' '\\n' < /proc/self/environ | sort";
    let output = sandbox.bash("ubuntu", who);
    assert!(output.starts_with("ubuntu\nubuntu etl\n/home/ubuntu\nroot\n"), "{output}");
    assert!(!output.contains("CARGO"), "the environment of the test process does not leak in\n{output}");
    assert!(sandbox.command("mallory", ["sudo", "-n", "true"]).run().code != 0);
    assert!(sandbox.command("mallory", ["ls", "/root"]).run().code != 0);
}

#[test]
fn a_throwaway_host_hides_the_machine() {
    let sandbox = Sandbox::new();
    sandbox.bash("root", "touch /home/ubuntu/x /root/x /tmp/x /var/x /srv/x /run/x; ! ip route | grep .");
    assert!(sandbox.path("/root/x").exists() && !std::path::Path::new("/root/x").exists());
    for kind in ["mnt", "pid", "net", "uts", "ipc"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let of_host = sandbox.bash("root", &format!("readlink /proc/self/ns/{kind}"));
        assert_ne!(own.to_str(), Some(of_host.trim()), "{kind}");
    }
}

/// `useradd` renames a new file over the old one. A namespace with a copy of `/etc` represents the machine.
#[test]
fn replaced_files_in_the_machines_etc_do_not_affect_a_throwaway_host() {
    let machine = tempfile::tempdir().unwrap();
    let script = r#"
        cd "$0"
        cp -a /etc machine
        mount --bind machine /etc
        "$1" "$0/host" bash -euc '
            before=$(cat /etc/passwd /etc/group /etc/shadow /etc/hosts /etc/nsswitch.conf)
            touch /srv/runs
            until [ -e /srv/replaced ]; do sleep 0.02; done
            [ "$(cat /etc/passwd /etc/group /etc/shadow /etc/hosts /etc/nsswitch.conf)" = "$before" ]
            [ "$(id -un 1000)" = ubuntu ]
            setpriv --reuid ubuntu --regid ubuntu --init-groups -- sudo -n true
            ! grep -r of-the-machine /etc' &
        until [ -e host/srv/runs ]; do sleep 0.02; kill -0 $!; done
        for file in passwd group shadow hosts nsswitch.conf; do
            (echo '# of-the-machine'; cat /etc/$file) > /etc/$file.new
            mv /etc/$file.new /etc/$file
        done
        echo of-the-machine > /etc/another
        touch host/srv/replaced
        wait $!"#;
    let output = Command::new("unshare")
        .args(["--mount", "bash", "-euc", script])
        .arg(machine.path())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/host"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_host_snapshot_detects_every_trace() {
    let sandbox = Sandbox::new();
    for (user, before, act) in [
        ("ubuntu", "echo a > f", "echo b > f"),
        ("ubuntu", "echo a > f", "touch f"),
        ("ubuntu", "echo a > f", "chmod 600 f; chmod 644 f"),
        ("ubuntu", "echo a > f", "cp f g; mv g f"),
        ("ubuntu", "true", "mkdir d; rmdir d"),
        ("root", "touch f", "chown mallory f"),
        ("ubuntu", "ln -s a l", "ln -sf b l"),
    ] {
        sandbox.bash(user, &format!("rm -rf f l; {before}"));
        let start = Snapshot::whole(&sandbox);
        sandbox.bash(user, "cat f >/dev/null || true");
        start.is_same_as(&Snapshot::whole(&sandbox), "reading leaves no trace");
        sandbox.bash(user, act);
        assert!(!start.difference(&Snapshot::whole(&sandbox)).is_empty(), "{act}");
    }
}

#[test]
fn the_tracer_sees_only_writes() {
    let sandbox = Sandbox::new();
    sandbox.bash("ubuntu", "echo a > f");
    let writes = |script: &str| {
        let (outcome, trace) = sandbox.command("ubuntu", ["bash", "-c", script]).traced(&Tracing::Writes);
        assert_eq!(outcome.code, 0, "{outcome}");
        trace.writes().len()
    };
    assert_eq!(writes("cat f; ls; sudo -n true; echo x >/dev/null"), 0);
    for script in ["echo x > f", "chmod 600 f", "mv f g; mv g f", "sudo -n chown ubuntu f", "mkdir d", "touch -d now f"]
    {
        assert!(writes(script) > 0, "{script}");
    }
}

#[test]
fn the_tracer_kills_and_fails_at_the_given_call() {
    let sandbox = Sandbox::new();
    let kill = Tracing::Kill { call: "unlinkat".into(), number: 1 };
    let (outcome, trace) = sandbox.command("ubuntu", ["bash", "-c", "touch a; rm a"]).traced(&kill);
    assert!(outcome.code != 0 && trace.bitten() && sandbox.path("/home/ubuntu/a").exists(), "{outcome}");
    let refuse = Tracing::Error { call: "unlinkat".into(), number: 1, error: "EIO".into() };
    let (outcome, trace) = sandbox.command("ubuntu", ["rm", "a"]).traced(&refuse);
    assert!(outcome.stderr.contains("Input/output error") && trace.bitten(), "{outcome}");
}

#[test]
fn the_catalog_snapshot_detects_every_write() {
    let sandbox = Sandbox::new().warehouse();
    let start = sandbox.catalog();
    sandbox.sql("SELECT count(*) FROM settlement_ods.mart_ecs_order_info");
    assert_eq!(start, sandbox.catalog(), "reading leaves no trace");
    sandbox.sql("BEGIN; CREATE TABLE settlement_ods.x (i int); ROLLBACK");
    assert_ne!(start, sandbox.catalog());
}

#[test]
fn the_runbook_converges_and_hosts_are_restored_exactly() {
    let sandbox = Sandbox::order_tracking();
    sandbox.save();
    let (files, tables) = (Snapshot::take(&sandbox, "/home", &[]).without_traces(), sandbox.definitions());
    sandbox.runbook().exits(0);
    assert!(sandbox.read(COMPOSE).contains("canary"));
    assert_eq!(sandbox.tables().len(), 3 + 9 + 1);
    let state = sandbox.repository_state();
    assert!(state.contains(" M airflow_poc/docker-compose.yml\nstashes\nrefs"), "{state}");
    let done = Snapshot::take(&sandbox, "/home", &[&format!("{CHECKOUT}/.git")]);
    sandbox.runbook().exits(0);
    let again = Snapshot::take(&sandbox, "/home", &[&format!("{CHECKOUT}/.git")]).without_traces();
    done.without_traces().is_same_as(&again, "following the runbook twice");
    sandbox.restore();
    files.is_same_as(&Snapshot::take(&sandbox, "/home", &[]).without_traces(), "the files are back");
    assert_eq!(tables, sandbox.definitions());
}
