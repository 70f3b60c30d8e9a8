//! `plan` leaves no trace: not on the files, the repository or the database, whatever state they are in.

use crate::remotes::{served_by_ssh, trust_the_host};
use crate::sandbox::{CHECKOUT, PLAN, Sandbox, Snapshot, Tracing};

#[track_caller]
fn leaves_no_trace(sandbox: &Sandbox, user: &str, state: &str) {
    let (files, catalog, memory) = (Snapshot::whole(sandbox), sandbox.catalog(), memory(sandbox));
    let plan = sandbox.plan(user).exits(0);
    // A plan that gives up early leaves no trace either: this one has looked at every step.
    let steps = plan.events_of("step_planned");
    assert_eq!(steps.len(), 6, "{plan}");
    let outcome = if state == "converged" { "ok" } else { "changes" };
    assert_eq!(plan.events().last().unwrap()["outcome"], outcome, "as {user}, {state}\n{plan}");
    sandbox.provision(user, ["plan", PLAN]).run().exits(0);
    files.is_same_as(&Snapshot::whole(sandbox), &format!("a plan as {user}, {state}, changed files"));
    assert_eq!(memory, self::memory(sandbox), "a plan as {user}, {state}, left something in /dev/shm");
    assert_eq!(catalog, sandbox.catalog(), "a plan as {user}, {state}, wrote to the database");
}

/// What lies in the host's shared memory, where a fetch has room for what it looks at. A PostgreSQL server writes to its
/// own segments whenever it keeps statistics.
fn memory(sandbox: &Sandbox) -> String {
    sandbox.bash("root", "find /dev/shm -mindepth 1 -not -name 'PostgreSQL.*' -printf '%p %s %T@\\n' | sort")
}

#[test]
fn on_hosts_in_every_state() {
    let sandbox = Sandbox::order_tracking();
    leaves_no_trace(&sandbox, "ubuntu", "fresh");
    leaves_no_trace(&sandbox, "root", "fresh");
    sandbox.runbook().exits(0);
    leaves_no_trace(&sandbox, "ubuntu", "converged");
    leaves_no_trace(&sandbox, "root", "converged");
    // Every kind of thing that a fetch, a refresh of the index or a test merge would leave something for.
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    sandbox.commit("airflow_poc/dags/late.py", "LATE = True\n");
    leaves_no_trace(&sandbox, "ubuntu", "behind");
    sandbox.bash(
        "ubuntu",
        &format!("cd {CHECKOUT}/airflow_poc; echo x >> dags/order_tracking.py; echo y > dags/late.py; touch README.md"),
    );
    sandbox.bash("ubuntu", &format!("cd {CHECKOUT}; touch -d '2020-01-01' airflow_poc/dags/alerts.py; rm README.md"));
    leaves_no_trace(&sandbox, "ubuntu", "behind with local changes in the way");
    leaves_no_trace(&sandbox, "root", "behind with local changes in the way");
    sandbox.git("checkout -q --detach");
    sandbox.bash(
        "root",
        &format!("chown -R mallory {CHECKOUT}/airflow_poc/logs; chmod 644 /home/ubuntu/etl/etl_dw/ssh/*"),
    );
    sandbox.new_key();
    sandbox.sql("DROP TABLE settlement_ods.hist_ecs_order_info_2026_h1");
    leaves_no_trace(&sandbox, "ubuntu", "with everything wrong");
}

#[test]
fn nor_on_what_a_remote_is_asked_for_by_ssh() {
    let sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    let only = ["--json", "--only", "repository"];
    for state in ["fresh", "behind"] {
        if state == "behind" {
            sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).args(only).run().exits(0);
            sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
        }
        for user in ["ubuntu", "root"] {
            // The server is this host, and logs who has asked.
            let files = || Snapshot::whole(&sandbox).without_entry("/var/log/sshd");
            let (before, memory) = (files(), memory(&sandbox));
            let plan = sandbox.provision(user, ["plan", PLAN]).args(only).run().exits(0);
            assert_eq!(plan.step("step_planned", "repository")["outcome"], "changes", "{plan}");
            before.is_same_as(&files(), &format!("a plan as {user}, {state}, changed files"));
            assert_eq!(memory, self::memory(&sandbox), "a plan as {user}, {state}, left something in /dev/shm");
        }
    }
}

#[test]
fn and_makes_no_writing_call() {
    let sandbox = Sandbox::converged();
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    for user in ["ubuntu", "root"] {
        let (outcome, trace) = sandbox.provision(user, ["plan", PLAN, "--detailed-exitcode"]).traced(&Tracing::Writes);
        assert_eq!(outcome.code, 2, "{outcome}");
        assert_eq!(trace.writes(), Vec::<&String>::new(), "as {user}");
    }
}
