//! A step acts as its `run_as` user and with no more rights. As root, no path that others can write is trusted.

use crate::sandbox::{CHECKOUT, LOGS, PLAN, Sandbox, Snapshot, Tracing};

#[test]
fn git_never_runs_what_the_repository_names() {
    for user in ["ubuntu", "root"] {
        let sandbox = Sandbox::converged();
        sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
        sandbox.write(&format!("{CHECKOUT}/airflow_poc/dags/order_tracking.py"), "ubuntu", "hot fix\n");
        sandbox.bash(
            "ubuntu",
            &format!(
                "cd {CHECKOUT}/.git
                printf '#!/bin/sh\\nid >> /tmp/ran-hook\\n' > /tmp/hook; chmod 755 /tmp/hook
                for hook in post-checkout post-merge pre-commit reference-transaction post-index-change; do
                    cp /tmp/hook hooks/$hook
                done
                git config core.fsmonitor /tmp/hook"
            ),
        );
        sandbox.bash("root", "rm -f /tmp/ran-hook");
        sandbox.apply(user).exits(0);
        assert!(!sandbox.path("/tmp/ran-hook").exists(), "as {user}: {}", sandbox.read("/tmp/ran-hook"));
    }
}

#[test]
fn missing_sudo_fails_the_steps_of_other_users_only() {
    let sandbox = Sandbox::order_tracking();
    sandbox.checkout();
    sandbox.bash("root", "sed /^ubuntu/d /etc/sudoers > /tmp/rules; cat /tmp/rules > /etc/sudoers; rm /tmp/rules");
    let outcome = sandbox.apply("ubuntu").exits(1);
    assert!(outcome.all().contains("sudo"), "{outcome}");
    let failed = outcome.step("step_planned", "logs-directory");
    assert!(failed["hint"].is_string(), "{failed}");
    for (step, found) in outcome.outcomes() {
        let stays = ["failed", "blocked", "skipped"].contains(&found.as_str());
        assert_eq!(stays, step == "logs-directory", "{step}: {found}\n{outcome}");
    }
}

#[test]
fn a_worker_has_its_users_rights_and_a_clean_environment() {
    let sandbox = Sandbox::converged();
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    let apply =
        sandbox.provision("root", ["apply", PLAN, "--yes"]).env("LD_DEBUG_OUTPUT", "/tmp/x").env("STRAY", "value");
    let (outcome, trace) = apply.traced(&Tracing::Executions);
    assert_eq!(outcome.code, 0, "{outcome}");
    for line in trace.executions().iter().filter(|line| !line.contains("\"apply\"")) {
        assert!(!line.contains("STRAY") && !line.contains("REDSHIFT") && !line.contains("LD_"), "{line}");
    }
    let foreign = sandbox.bash("root", &format!("find /home/ubuntu ! -user ubuntu ! -path '{LOGS}*'"));
    assert_eq!(foreign, "", "root left something of its own in ubuntu's home");
}

#[test]
fn workers_need_no_access_to_the_binary() {
    let sandbox = Sandbox::order_tracking();
    sandbox.bash("root", "install -m 700 /opt/provision/bin/provision /root/provision; cp /opt/provision/plans/order_tracking.yaml /root/");
    let mut apply = sandbox.command("root", ["/root/provision", "apply", "/root/order_tracking.yaml", "--yes"]);
    for name in ["REDSHIFT_URL", "REDSHIFT_PASSWORD", "ALERT_SMTP_PASSWORD"] {
        apply = apply.env(name, sandbox.env_of(name));
    }
    apply
        .args([
            "--var",
            "repo_url=/srv/git/s3-redshift-backup-tool.git",
            "--var",
            "key_source=/home/ubuntu/jasleentung.pem",
        ])
        .run()
        .exits(0);
    sandbox.provision("ubuntu", ["plan", PLAN, "--detailed-exitcode"]).run().exits(0);
}

#[test]
fn symlinks_do_not_lead_a_walk_of_root_outside() {
    let sandbox = Sandbox::converged();
    sandbox.bash(
        "root",
        "echo secret > /root/target; mkdir /srv/outside; echo x > /srv/outside/file; chown -R mallory /srv/outside",
    );
    let outside = || Snapshot::take(&sandbox, "/srv/outside", &[]).difference(&Snapshot::default());
    let before = (outside(), Snapshot::take(&sandbox, "/root", &[]));
    sandbox.bash(
        "root",
        &format!(
            "ln -s /root/target {LOGS}/file; ln -s /srv/outside {LOGS}/tree; mkdir {LOGS}/dag; touch {LOGS}/dag/log"
        ),
    );
    sandbox.apply("ubuntu").exits(0);
    assert_eq!(
        sandbox.bash("root", &format!("stat -c %u {LOGS}/file {LOGS}/tree {LOGS}/dag/log")),
        "50000\n50000\n50000\n"
    );
    assert_eq!(outside(), before.0);
    before.1.is_same_as(&Snapshot::take(&sandbox, "/root", &[]), "a link's target was changed");
}

#[test]
fn hard_links_to_files_of_other_users_are_refused() {
    let sandbox = Sandbox::converged();
    sandbox.bash(
        "root",
        &format!(
            "echo root:x > /home/ubuntu/victim; chown root: /home/ubuntu/victim; ln /home/ubuntu/victim {LOGS}/innocent"
        ),
    );
    let outcome = sandbox.apply("ubuntu").exits(1);
    assert!(outcome.all().contains("innocent"), "the file is named\n{outcome}");
    assert_eq!(sandbox.bash("root", "stat -c %u /home/ubuntu/victim"), "0\n");
}

#[test]
fn a_symlinked_logs_directory_is_refused() {
    let sandbox = Sandbox::converged();
    sandbox.bash("root", &format!("rm -rf {LOGS}; mkdir /srv/outside; ln -s /srv/outside {LOGS}"));
    sandbox.apply("ubuntu").exits(1);
    assert_eq!(sandbox.bash("root", "stat -c %u /srv/outside"), "0\n");
}
