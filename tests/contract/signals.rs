//! SIGINT and SIGTERM: the change in hand is finished, no other is started, and what is left is said.

use nix::sys::signal::Signal;

use crate::sandbox::{PLAN, Sandbox};

/// Holds an apply in the middle of its first CREATE TABLE by a lock on the parent, sends the signal, lets go.
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
    // The signal is on its way, and the change goes on all the same: it waits for the lock and no one else.
    assert_eq!(sandbox.sql(waiting), "1\n");
    sandbox.bash("root", "echo 'ROLLBACK;' > /tmp/go");
    locker.wait();
    let outcome = apply.wait().exits(code);
    let tables = sandbox.tables();
    assert!(tables.contains(&"hist_uni_tracking_info_2025_h2".to_owned()), "the change in hand is finished\n{outcome}");
    assert!(!tables.contains(&"hist_uni_tracking_spath_2026_h2".to_owned()), "no other is started\n{outcome}");
    assert_eq!(outcome.events_of("change_started").len(), outcome.events_of("change_finished").len(), "{outcome}");
    let last = outcome.events().pop().unwrap();
    assert_eq!(last["event"], "run_finished", "{outcome}");
    assert!(last["reason"].is_string(), "what is left is said\n{last}");
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
