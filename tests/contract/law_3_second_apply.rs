//! After a successful apply plan is empty, and a second apply writes nothing.

use crate::sandbox::{CHECKOUT, PLAN, Sandbox, Snapshot, Tracing};

#[test]
fn a_second_apply_writes_nothing() {
    for user in ["ubuntu", "root"] {
        let sandbox = Sandbox::order_tracking();
        sandbox.apply(user).exits(0);
        sandbox.provision(user, ["plan", PLAN, "--detailed-exitcode"]).run().exits(0);
        let (files, catalog) = (Snapshot::whole(&sandbox), sandbox.catalog());
        let (outcome, trace) = sandbox.provision(user, ["apply", PLAN, "--yes"]).traced(&Tracing::Writes);
        assert_eq!(outcome.code, 0, "{outcome}");
        assert_eq!(trace.writes(), Vec::<&String>::new(), "as {user}");
        files.is_same_as(&Snapshot::whole(&sandbox), &format!("a second apply as {user} changed files"));
        assert_eq!(catalog, sandbox.catalog(), "a second apply as {user} wrote to the database");
    }
}

#[test]
fn plan_leaves_no_trace_after_a_rescue() {
    let sandbox = Sandbox::converged();
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    sandbox.bash("ubuntu", &format!("echo x >> {CHECKOUT}/airflow_poc/dags/order_tracking.py"));
    sandbox.apply("ubuntu").exits(0);
    let files = Snapshot::whole(&sandbox);
    sandbox.apply("ubuntu").exits(0);
    files.is_same_as(&Snapshot::whole(&sandbox), "a second apply changed files");
}

/// The shipped plan leaves the same host behind whether it is started by the operator with sudo or by root.
#[test]
fn operator_and_root_produce_the_same_host() {
    let left_by = |user: &str| {
        let sandbox = Sandbox::order_tracking();
        // Keys and passwords are random for each host, but these two hosts are compared.
        sandbox.write("/home/ubuntu/jasleentung.pem", "ubuntu", fixed_key());
        let mut sandbox = sandbox;
        sandbox.set_env("ALERT_SMTP_PASSWORD", "the-same-on-both");
        sandbox.apply(user).exits(0);
        let files = Snapshot::take(&sandbox, "/home/ubuntu/etl", &[&format!("{CHECKOUT}/.git")]).without_traces();
        let git = Snapshot::take(&sandbox, &format!("{CHECKOUT}/.git"), &[]).without_traces();
        let owners: Vec<_> =
            git.0.values().map(|entry| (entry.owner, entry.group)).filter(|ids| *ids != (1000, 1000)).collect();
        assert!(owners.is_empty(), "as {user}, all of .git is its owner's: {owners:?}");
        (files, sandbox.definitions())
    };
    let (operators, roots) = (left_by("ubuntu"), left_by("root"));
    operators.0.is_same_as(&roots.0, "ubuntu's (-) and root's (+) hosts differ");
    assert_eq!(operators.1, roots.1);
}

/// One key for the test process, so that two hosts can be compared.
fn fixed_key() -> &'static [u8] {
    static KEY: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    KEY.get_or_init(|| {
        let sandbox = Sandbox::new().key();
        std::fs::read(sandbox.path("/home/ubuntu/jasleentung.pem")).unwrap()
    })
}
