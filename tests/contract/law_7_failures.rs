//! A failure stops only what depends on it, and the exit code reports it.

use crate::sandbox::{PLAN, Sandbox};

fn outcomes_after(breakage: impl Fn(&mut Sandbox)) -> Vec<(String, String)> {
    let mut sandbox = Sandbox::order_tracking();
    breakage(&mut sandbox);
    sandbox.apply("ubuntu").exits(1).outcomes()
}

#[track_caller]
fn are(outcomes: &[(String, String)], wanted: &[(&str, &[&str])]) {
    for (step, allowed) in wanted {
        let (_, found) = outcomes.iter().find(|(id, _)| id == step).unwrap_or_else(|| panic!("{step}: {outcomes:?}"));
        assert!(allowed.contains(&found.as_str()), "{step} is {found}, not one of {allowed:?}: {outcomes:?}");
    }
}

const STOPPED: &[&str] = &["blocked", "failed", "skipped"];

#[test]
fn an_unreachable_remote_blocks_steps_inside_the_checkout() {
    let outcomes = outcomes_after(|sandbox| sandbox.set_var("repo_url", "/srv/git/nowhere.git"));
    are(
        &outcomes,
        &[
            ("repository", &["blocked", "failed"]),
            ("logs-directory", STOPPED),
            ("smtp-password", STOPPED),
            ("bastion-key", &["changed"]),
            ("history-tables", &["changed"]),
            ("exceptions-table", &["changed"]),
        ],
    );
}

#[test]
fn an_unreachable_warehouse_blocks_only_table_steps() {
    let outcomes = outcomes_after(|sandbox| {
        sandbox.set_env("REDSHIFT_URL", "postgresql://etl@127.0.0.1:1/warehouse?sslmode=disable");
    });
    are(
        &outcomes,
        &[
            ("history-tables", &["failed"]),
            ("exceptions-table", &["failed"]),
            ("repository", &["changed"]),
            ("logs-directory", &["changed"]),
            ("bastion-key", &["changed"]),
            ("smtp-password", &["changed"]),
        ],
    );
}

#[test]
fn a_missing_parent_blocks_only_its_children() {
    let sandbox = Sandbox::order_tracking();
    sandbox.sql("DROP TABLE settlement_ods.mart_ecs_order_info");
    let apply = sandbox.apply("ubuntu").exits(1);
    are(
        &apply.outcomes(),
        &[("history-tables", &["blocked"]), ("exceptions-table", &["changed"]), ("smtp-password", &["changed"])],
    );
    let reason = apply.step("step_finished", "history-tables")["reason"].to_string();
    assert!(reason.contains("settlement_ods.mart_ecs_order_info"), "{reason}");
}

#[test]
fn failed_steps_are_counted_and_named() {
    let sandbox = Sandbox::order_tracking();
    let outcome =
        sandbox.provision("ubuntu", ["apply", PLAN, "--yes", "--var", "repo_url=/srv/git/nowhere.git"]).run().exits(1);
    assert!(outcome.all().contains("/srv/git/nowhere.git"), "what was tried\n{outcome}");
}
