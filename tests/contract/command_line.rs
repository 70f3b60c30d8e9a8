//! Exit codes, the confirmation prompt, the selection of steps, and finding the plan file.

use crate::sandbox::{CHECKOUT, KEY, PLAN, PROVISION, Sandbox, Snapshot};

const ONE_DIRECTORY: &str = "
name: small
steps:
  - id: data
    title: A place for data
    why: The program keeps its data there.
    symptom: The program ends with ENOENT.
    when: once
    directory: { path: /home/ubuntu/data, mode: \"0750\" }
";

/// A host with a plan file of one step that needs no inputs.
fn small() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", ONE_DIRECTORY);
    sandbox
}

#[test]
fn plan_exits_with_0_with_and_without_changes() {
    let sandbox = small();
    sandbox.provision("ubuntu", ["plan"]).run().exits(0);
    sandbox.provision("ubuntu", ["plan", "--detailed-exitcode"]).run().exits(2);
    sandbox.provision("ubuntu", ["apply", "--yes"]).run().exits(0);
    sandbox.provision("ubuntu", ["plan"]).run().exits(0);
    sandbox.provision("ubuntu", ["plan", "--detailed-exitcode"]).run().exits(0);
}

#[test]
fn a_blocked_or_failed_plan_exits_with_1() {
    let sandbox = small();
    sandbox.bash("ubuntu", "touch data");
    sandbox.provision("ubuntu", ["plan"]).run().exits(1);
    sandbox.provision("ubuntu", ["plan", "--detailed-exitcode"]).run().exits(1);
    sandbox.provision("ubuntu", ["apply", "--yes"]).run().exits(1);
}

#[test]
fn invalid_command_lines_exit_with_1_and_a_hint() {
    let sandbox = small();
    for (args, expected) in [
        (vec!["plan", "--detailed-exit"], "--detailed-exitcode"),
        (vec!["paln"], "plan"),
        (vec![], "plan"),
        (vec!["plan", "--var", "novalue"], "NAME=VALUE"),
        (vec!["plan", "--as-of", "yesterday"], "--as-of"),
        (vec!["plan", "--only", "dta"], "data"),
        (vec!["plan", "--skip", "dta"], "data"),
        (vec!["plan", "--var", "home=/x"], "home"),
        (vec!["plan", "nowhere.yaml"], "nowhere.yaml"),
    ] {
        let outcome = sandbox.provision("ubuntu", args.iter().copied()).run().exits(1);
        assert!(outcome.stderr.contains(expected), "{expected:?} is missing\n{outcome}");
        assert_eq!(outcome.stdout, "", "messages go to standard error\n{outcome}");
    }
}

#[test]
fn apply_without_a_terminal_requires_yes() {
    let sandbox = small();
    let start = Snapshot::whole(&sandbox);
    for input in [None, Some("y\n"), Some("yes\n")] {
        let run = sandbox.provision("ubuntu", ["apply"]);
        let outcome = if let Some(text) = input { run.stdin(text) } else { run }.run().exits(1);
        assert!(outcome.stderr.contains("--yes"), "{outcome}");
        start.is_same_as(&Snapshot::whole(&sandbox), "nothing was changed");
    }
}

#[test]
fn apply_on_a_terminal_shows_the_plan_and_asks() {
    let sandbox = small();
    for typed in ["n\n", "\n", "maybe\n"] {
        let outcome = sandbox.provision("ubuntu", ["apply"]).terminal(typed).run().exits(1);
        let (plan, question) = (outcome.stdout.find("/home/ubuntu/data"), outcome.stdout.find("[y/N]"));
        assert!(plan.is_some() && plan < question, "the plan comes before the question\n{outcome}");
        assert!(!sandbox.path("/home/ubuntu/data").exists());
    }
    sandbox.provision("ubuntu", ["apply"]).terminal("y\n").run().exits(0);
    assert!(sandbox.path("/home/ubuntu/data").exists());
    // Without changes there is no question, with or without a terminal.
    let outcome = sandbox.provision("ubuntu", ["apply"]).run().exits(0);
    assert!(outcome.stdout.contains("Nothing to change"), "{outcome}");
    let outcome = sandbox.provision("ubuntu", ["apply"]).terminal("").run().exits(0);
    assert!(!outcome.stdout.contains("[y/N]"), "{outcome}");
}

#[test]
fn only_terminals_get_colour() {
    let sandbox = small();
    let plain = sandbox.provision("ubuntu", ["plan"]).without_env("NO_COLOR").run();
    assert!(!plain.all().contains('\u{1b}'), "{plain}");
    let refused = sandbox.provision("ubuntu", ["plan"]).env("TERM", "xterm").terminal("").run();
    // A spinner moves the cursor, but sets neither colour nor weight.
    let styles = |text: &str| {
        text.split("\u{1b}[")
            .skip(1)
            .any(|code| code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
    };
    assert!(!styles(&refused.all()), "NO_COLOR is honoured\n{refused:?}");
    let wanted = sandbox.provision("ubuntu", ["plan"]).without_env("NO_COLOR").env("TERM", "xterm").terminal("").run();
    assert!(styles(&wanted.all()) && wanted.all().contains("\u{1b}[32m"), "a terminal gets colour\n{wanted:?}");
}

#[test]
fn the_default_plan_file_is_found_or_candidates_are_listed() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.provision("ubuntu", ["plan"]).run().exits(1);
    assert!(outcome.stderr.contains("provision.yaml") && outcome.stderr.contains("plans"), "{outcome}");
    sandbox.write("/home/ubuntu/plans/one.yaml", "ubuntu", ONE_DIRECTORY);
    sandbox.provision("ubuntu", ["plan"]).run().exits(0);
    sandbox.write("/home/ubuntu/plans/two.yaml", "ubuntu", ONE_DIRECTORY);
    let outcome = sandbox.provision("ubuntu", ["plan"]).run().exits(1);
    assert!(outcome.stderr.contains("one.yaml") && outcome.stderr.contains("two.yaml"), "{outcome}");
    sandbox.provision("ubuntu", ["plan", "plans/two.yaml"]).run().exits(0);
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", ONE_DIRECTORY);
    sandbox.provision("ubuntu", ["plan"]).run().exits(0);
}

#[test]
fn only_requirements_of_selected_steps_are_needed() {
    let sandbox = Sandbox::new().remote();
    sandbox.checkout();
    let only = ["apply", PLAN, "--yes", "--json", "--only", "logs-directory"];
    let outcome = sandbox.provision("ubuntu", only).run().exits(0);
    assert_eq!(outcome.step("step_finished", "logs-directory")["outcome"], "changed");
    assert_eq!(sandbox.bash("root", &format!("stat -c %u:%g {CHECKOUT}/airflow_poc/logs")), "50000:50000\n");
    let skip = ["plan", PLAN, "--json", "--skip", "history-tables,exceptions-table,bastion-key,smtp-password"];
    let outcome = sandbox.provision("ubuntu", skip).run().exits(0);
    assert_eq!(outcome.events_of("step_planned").len(), 2, "{outcome}");
}

/// The commands that one would type for each step of the plan.
const BY_HAND: [(&str, &str); 6] = [
    (
        "repository",
        r#"
# as ubuntu
test -e CHECKOUT || git clone -b jasleen_qa "$URL" CHECKOUT
cd CHECKOUT
git checkout jasleen_qa
git pull --ff-only
# where local changes are in the way of the pull:
git stash && git pull --ff-only
git stash show --patch   # only when nothing of it is needed: git stash drop"#,
    ),
    (
        "logs-directory",
        "
# as root
mkdir -p CHECKOUT/airflow_poc/logs
chown -R 50000 CHECKOUT/airflow_poc/logs
chgrp 50000 CHECKOUT/airflow_poc/logs",
    ),
    (
        "bastion-key",
        "
# as ubuntu
mkdir -p /home/ubuntu/etl/etl_dw/ssh
install -m 0400 /path/to/key KEYFILE",
    ),
    (
        "smtp-password",
        r#"
# as ubuntu
cd CHECKOUT/airflow_poc
grep -n ALERT_SMTP_PASSWORD docker-compose.yml   # find the value
"${EDITOR:-vi}" docker-compose.yml   # write the value in quotes, with each $ as $$
# if the file has ${NAME} instead, write the value into .env, as NAME='value':
"${EDITOR:-vi}" .env && chmod 600 .env
docker compose config --quiet && docker compose up -d"#,
    ),
    (
        "history-tables",
        "
-- in psql, on the connection warehouse
-- one for each half year from 2025_h2 to the current one and 1 more: 2025_h2, 2026_h1, 2026_h2, …
-- create only those that do not exist yet
CREATE TABLE settlement_ods.hist_uni_tracking_info_2025_h2 (LIKE settlement_ods.mart_uni_tracking_info);
CREATE TABLE settlement_ods.hist_ecs_order_info_2025_h2 (LIKE settlement_ods.mart_ecs_order_info);
CREATE TABLE settlement_ods.hist_uni_tracking_spath_2025_h2 (LIKE settlement_ods.mart_uni_tracking_spath);",
    ),
    (
        "exceptions-table",
        "
-- in psql, on the connection warehouse
CREATE TABLE settlement_ods.order_tracking_exceptions (
    order_id        VARCHAR(64),
    exception_type  VARCHAR(64)   NOT NULL,
    detected_at     TIMESTAMP     NOT NULL,
    resolved_at     TIMESTAMP,
    notes           VARCHAR(1024)
)
DISTSTYLE ALL
SORTKEY (exception_type, detected_at);",
    ),
];

#[test]
fn validate_and_explain_do_not_touch_the_host() {
    let sandbox = Sandbox::new();
    let start = Snapshot::whole(&sandbox);
    sandbox.provision("mallory", ["validate", PLAN]).run().exits(0);
    let all = sandbox.provision("mallory", ["explain", PLAN]).run().exits(0).stdout;
    for step in ["repository", "logs-directory", "bastion-key", "smtp-password", "history-tables", "exceptions-table"] {
        let one = sandbox.provision("mallory", ["explain", PLAN, step]).run().exits(0).stdout;
        assert!(one.contains(step) && all.contains(one.trim()), "{one}");
    }
    for (step, typed) in BY_HAND {
        let one = sandbox.provision("mallory", ["explain", PLAN, step]).run().exits(0).stdout;
        let (_, by_hand) = one.split_once("\n  By hand\n").unwrap();
        let by_hand: Vec<&str> = by_hand.lines().map(|line| line.strip_prefix("    ").unwrap()).collect();
        let typed = typed.trim().replace("CHECKOUT", CHECKOUT).replace("KEYFILE", KEY);
        assert_eq!(by_hand.join("\n"), typed, "how {step} is done by hand");
    }
    start.is_same_as(&Snapshot::whole(&sandbox), "nothing was touched");
    let outcome = sandbox.provision("mallory", ["explain", PLAN, "log-directory"]).run().exits(1);
    assert!(outcome.stderr.contains("logs-directory"), "the nearest right word\n{outcome}");
}

#[test]
fn unwritable_output_fails_and_a_closed_pipe_does_not() {
    let sandbox = small();
    let redirected = |line: &str| sandbox.command("ubuntu", ["bash", "-c", line]).run();
    for words in [
        "plan",
        "plan --json",
        "plan --detailed-exitcode",
        "apply --yes",
        "apply --yes --json",
        "explain",
        "validate",
        "history",
        "history --json",
        "--help",
    ] {
        let full = redirected(&format!("{PROVISION} {words} >/dev/full")).exits(1);
        let hint = if words.starts_with("apply") { "provision history" } else { "free space there" };
        assert!(full.stderr.contains("no space left on device") && full.stderr.contains(hint), "{words}\n{full}");
        redirected(&format!("{PROVISION} {words} 2>/dev/full >/dev/full")).exits(1);
        let left = redirected(&format!("(sleep 0.2; {PROVISION} {words}) | true; exit ${{PIPESTATUS[0]}}"));
        assert!(matches!(left.code, 0 | 2) && left.stderr.is_empty(), "{words}\n{left}");
    }
    redirected(&format!("{PROVISION} plan nowhere.yaml 2>/dev/full")).exits(1);
    redirected(&format!("{PROVISION} rescue list 2>/dev/full")).exits(1);
}

#[test]
fn colours_are_chosen_by_the_option_and_then_by_the_environment() {
    let sandbox = small();
    let coloured = |args: &[&str], env: &[(&str, &str)]| {
        let mut run = sandbox.provision("ubuntu", ["plan"]).args(args.iter().copied()).without_env("NO_COLOR");
        for (name, value) in env {
            run = run.env(name, *value);
        }
        run.run().all().contains('\x1b')
    };
    assert!(!coloured(&[], &[]), "a pipe");
    assert!(coloured(&["--color=always"], &[("NO_COLOR", "1")]));
    assert!(coloured(&["--color", "always", "--unknown"], &[]), "also messages about wrong arguments");
    assert!(coloured(&[], &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&["--color=never"], &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&["--color=auto"], &[("CLICOLOR_FORCE", "0")]));
}

#[test]
fn a_summary_that_is_printed_at_the_end_cannot_ask_first() {
    let sandbox = small();
    let outcome = sandbox.provision("ubuntu", ["apply", "--format", "markdown"]).run().exits(1);
    assert!(outcome.stderr.contains("add --yes") && outcome.stdout.is_empty(), "{outcome}");
    sandbox.provision("ubuntu", ["apply", "--format", "markdown", "--yes"]).run().exits(0);
}
