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
fn a_user_that_does_not_exist_stops_only_the_steps_of_that_user() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let plan_file = "/home/ubuntu/small.yaml";
    let file = |id: &str, more: &str| {
        format!("  - {{ id: {id}, {more}file: {{ path: /home/ubuntu/{id}.conf, content: new }} }}\n")
    };
    // Without sudo a worker of another user cannot be started either.
    for (user, more, expected) in [
        ("ubuntu", "run_as: nobody-here, ", "no such user: nobody-here"),
        ("mallory", "run_as: ubuntu, ", "cannot act as ubuntu"),
    ] {
        let steps = [file("first", ""), file("theirs", more), file("third", "")].concat();
        let steps = if user == "mallory" { steps.replace("/home/ubuntu/", "/tmp/") } else { steps };
        let folder = if user == "mallory" { "/tmp" } else { "/home/ubuntu" };
        sandbox.write(plan_file, "root", format!("name: small\nsteps:\n{steps}"));
        sandbox.bash("root", &format!("chmod 711 /home/ubuntu; chmod 644 {plan_file}"));
        for id in ["first", "third"] {
            sandbox.write(&format!("{folder}/{id}.conf"), user, "old\n");
        }
        let applied = sandbox.provision(user, ["apply", plan_file, "--yes", "--json"]).run().exits(1);
        are(&applied.outcomes(), &[("first", &["changed"]), ("theirs", &["failed"]), ("third", &["changed"])]);
        assert!(applied.stdout.contains(expected), "{applied}");
        // The rescues of the others are listed, newest first, and why those of that user are not.
        let listed = sandbox.provision(user, ["rescue", "list", plan_file]).run().exits(1);
        let ids: Vec<&str> = listed
            .stdout
            .lines()
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert!(ids.len() == 2 && ids.is_sorted_by(|one, other| one >= other), "{listed}");
        assert!(listed.stderr.contains("cannot list the rescues of step `theirs`"), "{listed}");
        let shown = sandbox.provision(user, ["rescue", "show", plan_file, ids[0]]).run().exits(0);
        assert_eq!(shown.stdout, "old\n");
    }
}

#[test]
fn rescues_of_several_steps_are_listed_newest_first() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let plan_file = "/home/ubuntu/small.yaml";
    let file = |id: &str| format!("  - {{ id: {id}, file: {{ path: /home/ubuntu/{id}.conf, content: new }} }}\n");
    sandbox.write(plan_file, "ubuntu", format!("name: small\nsteps:\n{}{}", file("first"), file("second")));
    for id in ["first", "second", "first"] {
        sandbox.bash("ubuntu", &format!("echo {id} >> {id}.conf; sleep 1"));
        sandbox.provision("ubuntu", ["apply", plan_file, "--only", id, "--yes"]).run().exits(0);
    }
    let listed = sandbox.provision("ubuntu", ["rescue", "list", plan_file]).run().exits(0);
    let steps: Vec<&str> = listed
        .stdout
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(steps, ["first", "second", "first"], "{listed}");
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
