//! `plan` leaves no trace: not on the files, the repository or the database, whatever state they are in.

use crate::sandbox::{CHECKOUT, PLAN, Sandbox, Snapshot, Tracing};

#[track_caller]
fn leaves_no_trace(sandbox: &Sandbox, user: &str, state: &str) {
    let (files, catalog) = (Snapshot::whole(sandbox), sandbox.catalog());
    sandbox.plan(user);
    sandbox.provision(user, ["plan", PLAN]).run();
    files.is_same_as(&Snapshot::whole(sandbox), &format!("a plan as {user}, {state}, changed files"));
    assert_eq!(catalog, sandbox.catalog(), "a plan as {user}, {state}, wrote to the database");
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
fn and_makes_no_writing_call() {
    let sandbox = Sandbox::converged();
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    for user in ["ubuntu", "root"] {
        let (_, trace) = sandbox.provision(user, ["plan", PLAN]).traced(&Tracing::Writes);
        assert_eq!(trace.writes(), Vec::<&String>::new(), "as {user}");
    }
}
