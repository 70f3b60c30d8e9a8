//! Bad input ends in one clear error with a hint, and never in a panic (which is checked for every run).

use crate::sandbox::{CHECKOUT, COMPOSE, KEY, PLAN, Sandbox};

#[test]
fn unusual_host_states_are_handled() {
    let git = format!("cd {CHECKOUT}");
    let odd: Vec<(&str, &str, String, &str)> = vec![
        ("a lock file", "ubuntu", format!("{git}; git reset -q --hard HEAD~1; touch .git/index.lock"), "index.lock"),
        ("a merge in progress", "ubuntu", format!("{git}; git rev-parse HEAD > .git/MERGE_HEAD"), "merge"),
        ("no repository", "ubuntu", format!("{git}; rm -rf .git"), "s3-redshift-backup-tool"),
        ("a broken repository", "ubuntu", format!("{git}; rm -rf .git/objects .git/refs"), "s3-redshift-backup-tool"),
        ("another origin", "ubuntu", format!("{git}; git remote set-url origin /srv/git/other.git"), "other.git"),
        ("logs is a file", "root", format!("{git}; rm -rf airflow_poc/logs; touch airflow_poc/logs"), "logs"),
        ("the key is a directory", "ubuntu", format!("rm -f {KEY}; mkdir {KEY}"), "jasleentung.pem"),
        ("the key is a fifo", "ubuntu", format!("rm -f {KEY}; mkfifo {KEY}"), "jasleentung.pem"),
        ("the source is no key", "ubuntu", "echo '<html>' > /home/ubuntu/jasleentung.pem".into(), "jasleentung.pem"),
        ("compose is no YAML", "ubuntu", format!("printf 'a: [\\n' > {COMPOSE}"), "docker-compose.yml"),
        (
            "compose without the variable",
            "ubuntu",
            format!("sed -i /ALERT_SMTP_PASSWORD/d {COMPOSE}"),
            "ALERT_SMTP_PASSWORD",
        ),
    ];
    let sandbox = Sandbox::converged();
    sandbox.save();
    for (what, user, break_it, named) in odd {
        sandbox.restore();
        sandbox.bash(user, &break_it);
        let plan = sandbox.plan("ubuntu");
        assert_eq!(plan.code, 1, "{what}\n{plan}");
        let broken: Vec<_> =
            plan.events_of("step_planned").into_iter().filter(|event| event["reason"].is_string()).collect();
        assert!(broken.iter().any(|event| event.to_string().contains(named)), "{what}: {named:?} is not named\n{plan}");
        for event in broken {
            let reason = event["reason"].as_str().unwrap();
            assert!(!reason.ends_with('.') && !reason.trim().is_empty(), "{what}: {reason}");
            assert!(event["hint"].as_str().is_some_and(|hint| !hint.trim().is_empty()), "{what}: no remedy\n{event}");
        }
    }
}

#[test]
fn unusual_warehouse_states_are_handled() {
    let sandbox = Sandbox::converged();
    sandbox.save();
    for (what, sql, named) in [
        (
            "a table of another shape",
            "ALTER TABLE settlement_ods.order_tracking_exceptions ALTER notes TYPE varchar(10)",
            "notes",
        ),
        (
            "a view under the name",
            "DROP TABLE settlement_ods.order_tracking_exceptions;
             CREATE VIEW settlement_ods.order_tracking_exceptions AS SELECT 1 AS order_id",
            "view",
        ),
        (
            "no right to create what is missing",
            "DROP TABLE settlement_ods.order_tracking_exceptions;
             REVOKE ALL ON SCHEMA settlement_ods FROM etl; ALTER SCHEMA settlement_ods OWNER TO postgres",
            "settlement_ods",
        ),
    ] {
        sandbox.restore();
        sandbox.sql(sql);
        let definitions = sandbox.definitions();
        let apply = sandbox.apply("ubuntu").exits(1);
        let step = apply.step("step_planned", "exceptions-table");
        assert!(step["reason"].as_str().is_some_and(|reason| reason.contains(named)), "{what}\n{step}");
        assert_eq!(definitions, sandbox.definitions(), "{what}: nothing is altered");
    }
}

#[test]
fn missing_environment_variables_are_handled() {
    let sandbox = Sandbox::order_tracking();
    let outcome = sandbox.provision("ubuntu", ["plan", PLAN]).without_env("REDSHIFT_URL").run().exits(1);
    assert!(outcome.all().contains("REDSHIFT_URL"), "{outcome}");
    let bare = sandbox.provision("ubuntu", ["plan", PLAN, "--detailed-exitcode", "--json"]);
    let outcome = bare.without_env("HOME").without_env("PATH").run().exits(2);
    assert_eq!(outcome.events_of("step_planned").len(), 6, "{outcome}");
}

#[test]
fn an_unset_secret_source_leaves_its_target_unchanged() {
    let mut sandbox = Sandbox::converged();
    sandbox.unset_var("key_source");
    let plan = sandbox.provision("ubuntu", ["plan", PLAN, "--json"]).without_env("ALERT_SMTP_PASSWORD").run().exits(0);
    for step in ["bastion-key", "smtp-password"] {
        let planned = plan.step("step_planned", step);
        assert_eq!(planned["outcome"], "unchecked", "{plan}");
        assert!(planned.to_string().contains("content not checked"), "{planned}");
    }
}
