//! `plan` leaves no trace on files, repository and database, in any state.

use crate::remotes::{served_by_ssh, trust_the_host};
use crate::sandbox::{CHECKOUT, PLAN, Sandbox, Snapshot, Tracing};

#[track_caller]
fn leaves_no_trace(sandbox: &Sandbox, user: &str, state: &str) {
    let (files, catalog, memory) = (Snapshot::whole(sandbox), sandbox.catalog(), memory(sandbox));
    let plan = sandbox.plan(user).exits(0);
    // A plan that fails early would leave no trace either, so this one has to have observed every step.
    let steps = plan.events_of("step_planned");
    assert_eq!(steps.len(), 6, "{plan}");
    let outcome = if state == "converged" { "ok" } else { "changes" };
    assert_eq!(plan.events().last().unwrap()["outcome"], outcome, "as {user}, {state}\n{plan}");
    sandbox.provision(user, ["plan", PLAN]).run().exits(0);
    files.is_same_as(&Snapshot::whole(sandbox), &format!("a plan as {user}, {state}, changed files"));
    assert_eq!(memory, self::memory(sandbox), "a plan as {user}, {state}, left something in /dev/shm");
    assert_eq!(catalog, sandbox.catalog(), "a plan as {user}, {state}, wrote to the database");
}

/// Returns the content of the host's shared memory, where fetches store their data. Segments of PostgreSQL are left
/// out, because the server updates them with its statistics.
fn memory(sandbox: &Sandbox) -> String {
    sandbox.bash("root", "find /dev/shm -mindepth 1 -not -name 'PostgreSQL.*' -printf '%p %s %T@\\n' | sort")
}

#[test]
fn plan_leaves_no_trace_in_any_host_state() {
    let sandbox = Sandbox::order_tracking();
    leaves_no_trace(&sandbox, "ubuntu", "fresh");
    leaves_no_trace(&sandbox, "root", "fresh");
    sandbox.runbook().exits(0);
    leaves_no_trace(&sandbox, "ubuntu", "converged");
    leaves_no_trace(&sandbox, "root", "converged");
    // Everything that a fetch, an index refresh or a test merge could leave traces of.
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
fn plan_over_ssh_leaves_no_trace() {
    let sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    let only = ["--json", "--only", "repository"];
    for state in ["fresh", "behind"] {
        if state == "behind" {
            sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).args(only).run().exits(0);
            sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
        }
        for user in ["ubuntu", "root"] {
            // The server is this host, which logs its logins.
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
fn plan_makes_no_writing_system_call() {
    let sandbox = Sandbox::converged();
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    for user in ["ubuntu", "root"] {
        let (outcome, trace) = sandbox.provision(user, ["plan", PLAN, "--detailed-exitcode"]).traced(&Tracing::Writes);
        assert_eq!(outcome.code, 2, "{outcome}");
        assert_eq!(trace.writes(), Vec::<&String>::new(), "as {user}");
    }
}
