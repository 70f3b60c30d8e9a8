//! Rotations that go wrong: servers that are not SSH servers, a bastion that changes its mind, a run that is killed.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::diagnostics::{TIMELINE, spans};
use crate::sandbox::{AUTHORIZED, BASTION, KEY_SOURCE, Outcome, Rotation, Tracing, eventually};

/// A proof ends after 10 seconds. The rest allows for a machine under load.
const LONG: Duration = Duration::from_secs(25);

fn reason(outcome: &Outcome, event: &str) -> String {
    outcome.step(event, "key")["reason"].as_str().unwrap_or_default().to_owned()
}

/// Asserts that plan reports in time why the key is not proven, and that apply changes nothing.
#[track_caller]
fn is_not_proven_at(rotation: &Rotation, port: u16, reason_text: &str) {
    let start = Instant::now();
    let bastion = format!("git@127.0.0.1:{port}");
    let outcome = rotation.at(&bastion, "plan", "required: true").exits(1);
    let reason = reason(&outcome, "step_planned");
    assert!(reason.contains("the key SHA256:") && reason.contains(reason_text), "{reason_text}: {reason}");
    assert!(start.elapsed() < LONG, "it took {:?}", start.elapsed());
}

#[test]
fn silent_servers_time_out() {
    let rotation = Rotation::new();
    rotation.impostor(1, "sleep 600");
    is_not_proven_at(&rotation, 1, "did not complete a login within 10 s");
    rotation.kept_the_old_key("silence");
    // Without `required` it is a warning, and the time of the whole apply is limited as well.
    let start = Instant::now();
    let outcome = rotation.at("git@127.0.0.1:1", "apply", "").exits(0);
    assert!(outcome.all().contains("did not complete a login"), "{outcome}");
    assert!(start.elapsed() < 3 * LONG, "it took {:?}", start.elapsed());
    rotation.took_the_new_key("silence");
}

#[test]
fn the_time_limit_of_a_login_can_be_set() {
    let rotation = Rotation::new();
    rotation.impostor(1, "sleep 600");
    let outcome = rotation.at("git@127.0.0.1:1", "plan", "required: true, timeout: 2").exits(1);
    let reason = reason(&outcome, "step_planned");
    assert!(reason.contains("did not complete a login within 2 s"), "{reason}");
}

/// sshd drops connections while too many have not logged in. The logins of one run must not be the reason.
#[test]
fn many_keys_for_one_host_are_proven_one_after_the_other() {
    let rotation = Rotation::new();
    // Logins take a while, as over a network.
    let script = format!("#!/bin/sh\nsleep 0.1\ncat {AUTHORIZED}\n");
    rotation.sandbox.write("/etc/ssh/slow-keys", "root", script);
    rotation.sandbox.bash("root", "chmod 755 /etc/ssh/slow-keys");
    let keys = "AuthorizedKeysFile none\nAuthorizedKeysCommand /etc/ssh/slow-keys\nAuthorizedKeysCommandUser root";
    rotation.serve(&format!("MaxStartups 1:100:1\n{keys}"));
    rotation.sandbox.bash("ubuntu", "mkdir keys");
    let step = |number: usize| {
        format!(
            "  - id: key-{number}\n    key_file: {{ path: /home/ubuntu/keys/{number}, source: {{ file: {KEY_SOURCE} }}, verify: {{ ssh: '{BASTION}', \
             required: true }} }}\n"
        )
    };
    let text = format!("name: many\nsteps:\n{}", (1..=6).map(step).collect::<String>());
    rotation.sandbox.write("/home/ubuntu/many.yaml", "ubuntu", text);
    let outcome = rotation.sandbox.provision("ubuntu", ["apply", "many.yaml", "--yes", "--json"]).run().exits(0);
    assert_eq!(outcome.outcomes().iter().filter(|(_, outcome)| outcome == "changed").count(), 6, "{outcome}");
    assert!(!outcome.all().contains("not proven"), "{outcome}");
}

/// Logins of others that are not complete count, too.
#[test]
fn a_host_with_too_many_logins_is_reported_as_such() {
    let rotation = Rotation::new();
    rotation.serve("MaxStartups 1:100:1");
    rotation.sandbox.bash(
        "root",
        "setsid bash -c 'exec 3<>/dev/tcp/127.0.0.1/2222; read -r greeting <&3; echo $$ > /root/other; exec sleep 600' \
         < /dev/null > /root/other.log 2>&1 & until [ -s /root/other ]; do sleep 0.02; done",
    );
    let outcome = rotation.at(BASTION, "plan", "required: true").exits(1);
    let reason = reason(&outcome, "step_planned");
    assert!(reason.contains("it has too many logins at this moment"), "{reason}");
    assert!(outcome.all().contains("raise MaxStartups in the sshd_config of the host"), "{outcome}");
    rotation.sandbox.bash("root", "kill $(cat /root/other)");
    eventually("the login of the other has ended", || rotation.at(BASTION, "plan", "required: true").code == 0);
}

/// A host that does not answer is waited for once, however many keys it has.
#[test]
fn a_silent_host_is_waited_for_once() {
    let rotation = Rotation::new();
    rotation.impostor(1, "sleep 600");
    rotation.sandbox.bash("ubuntu", "mkdir keys");
    let step = |number: usize| {
        format!(
            "  - id: key-{number}\n    key_file: {{ path: /home/ubuntu/keys/{number}, source: {{ file: {KEY_SOURCE} }}, verify: {{ ssh: \
             'git@127.0.0.1:1', timeout: 3 }} }}\n"
        )
    };
    let text = format!("name: many\nsteps:\n{}", (1..=4).map(step).collect::<String>());
    rotation.sandbox.write("/home/ubuntu/many.yaml", "ubuntu", text);
    let apply = ["apply", "many.yaml", "--yes", "--timeline", TIMELINE];
    rotation.sandbox.provision("ubuntu", apply).run().exits(0);
    let spans = spans(&rotation.sandbox);
    let logins = spans.iter().filter(|(_, span)| span["name"] == "ssh.connect").count();
    assert_eq!(logins, 1, "{spans:?}");
}

#[test]
fn slow_and_endless_servers_time_out() {
    let rotation = Rotation::new();
    rotation.impostor(1, r#"while (print $c "S") { $c->flush; sleep 1 }"#);
    is_not_proven_at(&rotation, 1, "did not complete a login within 10 s");
    rotation.impostor(2, r#"while (print $c "this is no ssh\r\n") {}"#);
    is_not_proven_at(&rotation, 2, "");
    // A packet that is announced but never completed.
    rotation.impostor(3, r#"print $c "SSH-2.0-drip\r\n\0\0\x80\0"; while (print $c "S") { $c->flush; sleep 1 }"#);
    is_not_proven_at(&rotation, 3, "");
    rotation.kept_the_old_key("a drip");
}

#[test]
fn a_dead_or_foreign_server_is_reported() {
    let rotation = Rotation::new();
    rotation.impostor(1, r#"print $c "HTTP/1.1 400 Bad Request\r\n\r\n""#);
    is_not_proven_at(&rotation, 1, "handshake with git@127.0.0.1:1 failed");
    rotation.impostor(2, "");
    is_not_proven_at(&rotation, 2, "handshake with git@127.0.0.1:2 failed");
    rotation.impostor(3, r#"print $c "SSH-2.0-x\r\n", join("", map { chr(int(rand(256))) } 1 .. 5000)"#);
    is_not_proven_at(&rotation, 3, "handshake with git@127.0.0.1:3 failed");
    rotation.kept_the_old_key("a server that is none");
}

#[test]
fn a_bastion_that_dies_during_the_login_is_reported() {
    let rotation = Rotation::new();
    // The real bastion, cut off after a number of bytes. Its host key is known for every port.
    let known = rotation.sandbox.read(crate::sandbox::KNOWN_HOSTS);
    let mut cut = 0;
    for (port, bytes) in (3001..).zip([10, 45, 700, 1200, 1500, 1800, 2000, 2100, 2200, 2300]) {
        let lines = known.clone() + &known.replace(":2222", &format!(":{port}"));
        rotation.sandbox.write(crate::sandbox::KNOWN_HOSTS, "ubuntu", lines);
        rotation.impostor(
            port,
            &format!(
                "my $b = IO::Socket::INET->new('127.0.0.1:2222'); my $left = {bytes};
                 if (!fork) {{ my $d; while (sysread $c, $d, 4096) {{ syswrite $b, $d }} exit }}
                 my $d; while ($left > 0 && sysread $b, $d, $left) {{ $left -= length $d; syswrite $c, $d }}
                 $c->shutdown(2); $b->shutdown(2)"
            ),
        );
        let outcome = rotation.at(&format!("git@127.0.0.1:{port}"), "plan", "required: true");
        if outcome.code == 1 {
            let reason = reason(&outcome, "step_planned");
            assert!(reason.contains("handshake with") || reason.contains("closed the connection"), "{bytes}: {reason}");
            cut += 1;
        }
    }
    assert!(cut >= 5, "only {cut} logins were cut off");
    rotation.kept_the_old_key("a bastion that dies");
}

#[test]
fn signals_do_not_wait_for_a_silent_server() {
    let rotation = Rotation::new();
    rotation.impostor(1, "print STDERR qq(taken\\n); sleep 600");
    let taken = |count: usize| {
        let log = "/root/impostor-1.log";
        let line = format!("until [ $(grep -c taken {log}) -ge {count} ]; do sleep 0.02; done");
        rotation.sandbox.bash("root", &line);
    };
    for (connections, command) in [(1, "plan"), (2, "apply")] {
        let start = Instant::now();
        let running = rotation.command("git@127.0.0.1:1", command, "").start();
        taken(connections);
        let asked = Instant::now();
        running.signal(Signal::SIGINT);
        running.wait().exits(130);
        assert!(asked.elapsed() < Duration::from_secs(5), "{command}: {:?} of {:?}", asked.elapsed(), start.elapsed());
        rotation.kept_the_old_key(command);
    }
}

#[test]
fn a_key_revoked_after_the_installation_restores_the_old_one() {
    let rotation = Rotation::new();
    rotation.decides("cat $OLD; in_place || cat $NEW");
    let outcome = rotation.run("apply", "").exits(1);
    assert_eq!(outcome.step("step_planned", "key")["outcome"], "changes", "{outcome}");
    assert_eq!(outcome.step("step_finished", "key")["outcome"], "failed", "{outcome}");
    let reason = reason(&outcome, "step_finished");
    assert!(reason.contains("after it was installed; the old key was restored"), "{reason}");
    assert!(outcome.events_of("change_finished")[0].get("partial").is_none(), "nothing is left of it\n{outcome}");
    rotation.kept_the_old_key("revoked");
}

#[test]
fn a_bastion_that_hangs_up_on_the_key_counts_as_rejection() {
    let rotation = Rotation::new();
    rotation.authorize(&["old"]);
    rotation.serve("MaxAuthTries 1");
    let outcome = rotation.run("apply", "").exits(1);
    let reason = reason(&outcome, "step_finished");
    assert!(reason.contains("closed the connection when the key was offered"), "{reason}");
    rotation.serve("");
    rotation.kept_the_old_key("MaxAuthTries");
}

#[test]
fn a_bastion_that_dies_after_the_installation_restores_the_old_key() {
    let rotation = Rotation::new();
    // The process that serves the login dies when it is asked for the accepted keys.
    rotation.decides("cat $OLD $NEW; if in_place && [ -e /run/die ]; then kill -9 $PPID; fi");
    rotation.sandbox.bash("root", "touch /run/die");
    let outcome = rotation.run("apply", "").exits(1);
    let reason_text = reason(&outcome, "step_finished");
    assert!(
        reason_text.contains("closed the connection when the key was offered")
            && reason_text.contains("the old key was restored"),
        "{reason_text}"
    );
    rotation.sandbox.bash("root", "rm /run/die");
    rotation.kept_the_old_key("a bastion that died");
}

#[test]
fn a_bastion_that_goes_down_after_the_installation_warns_or_restores_the_old_key() {
    let rotation = Rotation::new();
    // The third login of an apply uses the installed file. The bastion accepts only two.
    let twice = "cat $OLD $NEW; echo >> /run/logins; [ $(wc -l < /run/logins) -lt 4 ] || kill $(cat /run/bastion.pid)";
    rotation.decides(twice);
    let outcome = rotation.run("apply", "required: true").exits(1);
    let reason_text = reason(&outcome, "step_finished");
    assert!(
        reason_text.contains("cannot reach 127.0.0.1:2222") && reason_text.contains("the old key was restored"),
        "{reason_text}"
    );
    rotation.sandbox.bash("root", "rm /run/logins");
    rotation.decides("cat $OLD $NEW");
    rotation.kept_the_old_key("a bastion that went down");
    rotation.decides(twice);
    let outcome = rotation.run("apply", "").exits(0);
    assert!(outcome.all().contains("is not proven: cannot reach 127.0.0.1:2222"), "{outcome}");
    rotation.decides("cat $OLD $NEW");
    rotation.took_the_new_key("a bastion that went down");
}

/// The calls at which a rotation is killed. A call in several threads counts for each thread.
const CALLS: &[&str] =
    &["linkat", "renameat2", "renameat", "unlinkat", "fsync", "fchmod", "flock", "connect", "sendto", "shutdown"];

/// Kills an apply at every call of the list, runs it again, and checks the result.
fn killed(rotation: &mut Rotation, code: i32, check: impl Fn(&Rotation, &str)) {
    let (_, trace) = rotation.command(BASTION, "apply", "").traced(&Tracing::Calls);
    let calls = trace.calls();
    let (mut bitten, mut between) = (0, 0);
    for call in CALLS {
        for number in 1..=calls.get(*call).copied().unwrap_or(0).min(8) {
            rotation.again();
            let kill = Tracing::Kill { call: (*call).to_owned(), number };
            let (_, trace) = rotation.command(BASTION, "apply", "").traced(&kill);
            bitten += u32::from(trace.bitten());
            between += u32::from(rotation.holds_both());
            let at = format!("killed at {call} number {number}");
            let again = rotation.run("apply", "");
            assert!(again.code == code, "{at}: the rerun should exit with {code}\n{again}");
            check(rotation, &at);
        }
    }
    println!("killed at {bitten} points, at {between} of them between the new key and its proof");
    assert!(bitten >= 10 && between >= 2, "only {bitten} points were reached, {between} in between: {calls:?}");
}

#[test]
fn the_next_run_completes_a_killed_rotation() {
    let mut rotation = Rotation::new();
    killed(&mut rotation, 0, |rotation, at| rotation.took_the_new_key(at));
}

#[test]
fn the_next_run_undoes_a_killed_rotation_if_the_key_is_revoked() {
    let mut rotation = Rotation::new();
    rotation.decides("cat $OLD; in_place || cat $NEW");
    killed(&mut rotation, 1, |rotation, at| rotation.kept_the_old_key(at));
}

#[test]
fn the_next_run_recovers_a_rotation_killed_during_the_second_proof() {
    let mut rotation = Rotation::new();
    let killer = "if in_place && [ -e /run/kill ]; then rm /run/kill; pkill -9 -f /opt/provision/bin/provision; pkill -9 -f '(exe|provision) worker'; fi";
    for (more, revoked) in [("", false), ("", true), ("required: true", true), ("retire: true", false)] {
        rotation.decides(&format!("{killer}; cat $OLD; [ -e /run/revoked ] && in_place || cat $NEW"));
        rotation.sandbox.bash(
            "root",
            &format!("rm -f /run/revoked; touch /run/kill {}", if revoked { "/run/revoked" } else { "" }),
        );
        rotation.run("apply", more);
        assert!(rotation.holds_both(), "killed in between");
        let plan = rotation.run("plan", more).exits(0);
        let change = plan.step("step_planned", "key")["changes"][0]["summary"].as_str().unwrap().to_owned();
        if revoked {
            assert!(change.starts_with("restore ssh-ed25519 SHA256:"), "{change}");
            rotation.run("apply", more).exits(1);
            rotation.kept_the_old_key("killed in between");
        } else {
            assert!(change.starts_with("remove the backup of the old key"), "{change}");
            rotation.run("apply", more).exits(0);
            rotation.took_the_new_key("killed in between");
        }
        rotation.again();
    }
}
