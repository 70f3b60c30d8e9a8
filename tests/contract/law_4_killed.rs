//! Killed anywhere, run again: it converges, nothing a person made is gone, and no litter stays behind.
//!
//! The points are calls of the program's own, by name and number, at which strace kills the process that makes them: the
//! launcher or a worker. This is a sample of them.

use crate::sandbox::{CHECKOUT, KEY, PLAN, Sandbox, Snapshot, Tracing};

/// The calls after which something is different on the host, or is about to be.
const CALLS: &[&str] = &[
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "fchown",
    "fchownat",
    "fchmod",
    "fchmodat",
    "ftruncate",
    "fsync",
    "fdatasync",
    "write",
    "pwrite64",
    "sendto",
];
/// How many points of each call: the first, the last, and some between.
const POINTS: u32 = 4;

const HOT_FIX: &str = "# hot fix, straight onto the server\n";
const UNTRACKED: &str = "made by hand\n";

/// A server after somebody's work on it, with everything to be done.
fn conflicting() -> Sandbox {
    let sandbox = Sandbox::order_tracking();
    sandbox.checkout();
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    sandbox.commit("airflow_poc/dags/late.py", "LATE = True\n");
    sandbox.write(&format!("{CHECKOUT}/airflow_poc/dags/order_tracking.py"), "ubuntu", HOT_FIX);
    sandbox.write(&format!("{CHECKOUT}/airflow_poc/dags/late.py"), "ubuntu", UNTRACKED);
    sandbox.write(&format!("{CHECKOUT}/airflow_poc/dags/notes.txt"), "ubuntu", UNTRACKED);
    sandbox.write(&format!("{CHECKOUT}/airflow_poc/logs/old.log"), "ubuntu", "a log\n");
    sandbox.write(KEY, "ubuntu", "an old key\n");
    sandbox
}

/// All that a converged host has in common with another one.
fn host(sandbox: &Sandbox) -> (Snapshot, String, String) {
    let files =
        Snapshot::take(sandbox, "/home", &[&format!("{CHECKOUT}/.git"), "/home/ubuntu/.local"]).without_traces();
    (files, sandbox.repository_state(), sandbox.definitions())
}

/// Whether the text is still to be had: from the checkout, or from a rescue.
fn is_kept(sandbox: &Sandbox, file: &str, text: &str) -> bool {
    if std::fs::read_to_string(sandbox.path(format!("{CHECKOUT}/{file}"))).is_ok_and(|found| found == text) {
        return true;
    }
    // A stash keeps what was untracked as its third parent.
    sandbox.rescues().iter().any(|rescue| {
        ["", "^3"].iter().any(|side| {
            let object = format!("{rescue}{side}:{file}");
            let shown = sandbox.command("ubuntu", ["git", "-C", CHECKOUT, "show", &object]).run();
            shown.code == 0 && shown.stdout == text
        })
    })
}

fn points(sandbox: &Sandbox) -> Vec<(String, u32)> {
    let (outcome, trace) = sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).traced(&Tracing::Calls);
    assert_eq!(outcome.code, 0, "{outcome}");
    let mut points = Vec::new();
    for (call, most) in trace.calls().into_iter().filter(|(call, _)| CALLS.contains(&call.as_str())) {
        let mut numbers: Vec<u32> = (0..POINTS).map(|part| 1 + part * (most - 1) / (POINTS - 1)).collect();
        numbers.dedup();
        points.extend(numbers.into_iter().map(|number| (call.clone(), number)));
    }
    points
}

#[test]
fn an_apply_that_was_killed_converges_when_it_is_run_again() {
    let sandbox = conflicting();
    sandbox.save();
    let points = points(&sandbox);
    let unbroken = host(&sandbox);
    assert!(!sandbox.rescues().is_empty());
    let mut bitten = 0;
    for (call, number) in &points {
        sandbox.restore();
        let kill = Tracing::Kill { call: call.clone(), number: *number };
        let (_, trace) = sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).traced(&kill);
        bitten += u32::from(trace.bitten());
        let at = format!("killed at {call} number {number}");
        for (file, text) in [
            ("airflow_poc/dags/order_tracking.py", HOT_FIX),
            ("airflow_poc/dags/late.py", UNTRACKED),
            ("airflow_poc/dags/notes.txt", UNTRACKED),
        ] {
            assert!(is_kept(&sandbox, file, text) || !sandbox.git("stash list").is_empty(), "{at}: {file} is gone");
        }
        let again = sandbox.apply("ubuntu");
        assert_eq!(again.code, 0, "{at}: the rerun\n{again}");
        for (file, text) in [("airflow_poc/dags/order_tracking.py", HOT_FIX), ("airflow_poc/dags/late.py", UNTRACKED)] {
            assert!(is_kept(&sandbox, file, text), "{at}: {file} is gone after the rerun");
        }
        let found = host(&sandbox);
        unbroken.0.is_same_as(&found.0, &format!("{at}: files after the rerun (+) differ from the unbroken run's (-)"));
        assert_eq!(unbroken.1, found.1, "{at}: the repository after the rerun");
        assert_eq!(unbroken.2, found.2, "{at}: the tables after the rerun");
    }
    println!("killed at {bitten} points of {}", points.len());
    assert!(bitten > 20, "only {bitten} of {} points were reached", points.len());
}
