//! Whole screens, at several widths, with and without colour.

use serde_json::json;

use super::*;
use crate::engine::event::{Action, Certainty, Description};
use crate::text::layout::width;

const HOME: &str = "/home/ubuntu/etl/etl_dw";

fn settings(columns: Option<usize>) -> Settings {
    Settings {
        layout: Layout { columns },
        is_verbose: false,
        is_quiet: false,
        is_merged: true,
        apply: Some("provision apply".into()),
    }
}

/// Renders events.
fn screen(settings: Settings, events: &[Event]) -> String {
    let mut state = State::new(settings);
    let parts = events.iter().flat_map(|event| state.render(event));
    parts.map(|(Part::Result(text) | Part::Message(text))| text).collect()
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn started(command: &str) -> Event {
    Event::RunStarted {
        format: 1,
        command: command.into(),
        plan: "order-tracking".into(),
        file: "plans/order_tracking.yaml".into(),
        run: "20261126T132728Z-d5a3baaa".into(),
        host: "throwaway".into(),
        user: "ubuntu".into(),
        as_of: "2026-11-26".into(),
        saved: None,
    }
}

fn step(id: &str, title: &str, outcome: Planned, changes: Vec<Description>) -> StepPlanned {
    let why = Some("Long prose that belongs to explain.".into());
    StepPlanned { title: title.into(), changes, why, ..StepPlanned::of(id, "directory", outcome) }
}

fn change(action: Action, target: &str, summary: &str, risk: Option<&str>) -> Description {
    let (before, after) = (json!({ "a": 1 }), json!({ "a": 2 }));
    Description {
        action,
        target: target.into(),
        summary: summary.into(),
        before,
        after,
        risk: risk.map(Into::into),
        diff: None,
    }
}

fn follow_up(step: &str, reason: &str) -> FollowUp {
    let compose = format!("{HOME}/s3-redshift-backup-tool/airflow_poc/docker-compose.yml");
    let argv =
        ["docker", "compose", "-f", &compose, "up", "-d", "--force-recreate", "airflow-scheduler", "airflow-webserver"];
    let argv: Vec<String> = argv.map(str::to_owned).into();
    FollowUp {
        id: None,
        step: step.into(),
        reason: reason.into(),
        services: vec!["airflow-scheduler".into(), "airflow-webserver".into()],
        command: crate::text::shell_words(&argv),
        argv,
        subject: Some(compose),
    }
}

/// A server a few weeks after its setup: new commits, a new key and a new password.
fn planned() -> Vec<Event> {
    let checkout = format!("{HOME}/s3-redshift-backup-tool");
    let (key, compose) = (format!("{HOME}/ssh/jasleentung.pem"), format!("{checkout}/airflow_poc/docker-compose.yml"));
    let mut repository = step(
        "repository",
        "Bring the checkout to the head of jasleen_qa",
        Planned::Changes,
        vec![change(
            Action::Update,
            &checkout,
            "fast-forward jasleen_qa by 1 commit (68fa6581 to 27c74289)",
            Some("1 locally changed file will be rescued and replaced: airflow_poc/dags/order_tracking.py"),
        )],
    );
    let commit = json!({ "id": "27c7428912345678", "subject": "Raise the lag limit to 60 minutes", "author": "up", "time": 1_700_000_000 });
    let file = json!({ "path": "airflow_poc/dags/order_tracking.py", "change": "modified", "lines": { "added": 1, "removed": 1 } });
    repository.changes[0].after = json!({ "commits": [commit], "commit_count": 1, "files": [file] });
    repository.notes.push("1 local change kept: airflow_poc/docker-compose.yml (modified)".into());
    let replace = "replace ssh-ed25519 SHA256:/N7ZkQvUo6wZ5bR9bq0nSM4rYFQ0eP4xuZrbGJ2Yz1s by ssh-ed25519 SHA256:OUbjQ8vV1m0G5zO2kq9rT7wXyZ3aB4cD5eF6gH7iJ8k";
    let bastion = step(
        "bastion-key",
        "Install the key for the MySQL bastion",
        Planned::Changes,
        vec![change(Action::Update, &key, replace, Some("the old key is not backed up"))],
    );
    let mut smtp = step(
        "smtp-password",
        "Set the password of the alert mails",
        Planned::Changes,
        vec![change(Action::Update, &compose, "set ALERT_SMTP_PASSWORD in x-airflow-common, line 9", None)],
    );
    smtp.warnings
        .push(format!("everybody can read {compose} (mode 0644), and with it the value of ALERT_SMTP_PASSWORD"));
    let mut tables =
        step("history-tables", "Keep the history tables of the next half year ready", Planned::Unchanged, vec![]);
    tables.notes.push("settlement_ods.hist_uni_tracking_info_{period}: has 2025_h2, 2026_h1".into());
    [
        repository,
        step("logs-directory", "Give the logs to Airflow's user", Planned::Unchanged, vec![]),
        bastion,
        smtp,
        tables,
        step("exceptions-table", "The table of suspicious orders", Planned::Unchanged, vec![]),
    ]
    .into_iter()
    .map(Event::StepPlanned)
    .collect()
}

fn left() -> [FollowUp; 2] {
    [
        follow_up(
            "bastion-key",
            &format!("recreate these containers; they still use the old {HOME}/ssh/jasleentung.pem"),
        ),
        follow_up("smtp-password", "recreate these containers; they still use the old environment"),
    ]
}

fn finished(outcome: RunOutcome, counts: Counts) -> Event {
    Event::RunFinished { outcome, counts, reason: None, hint: None }
}

fn plan() -> Vec<Event> {
    let mut events = vec![started("plan")];
    events.extend(planned());
    events.extend(left().map(Event::FollowUp));
    events.push(finished(RunOutcome::Changes, Counts { changes: 3, unchanged: 3, ..Counts::default() }));
    events
}

fn apply() -> Vec<Event> {
    let mut events = vec![started("apply")];
    events.extend(planned());
    let counts = Counts { changes: 3, unchanged: 3, ..Counts::default() };
    events.push(Event::PlanFinished { counts, changes: 3, follow_ups: left().into() });
    for event in planned() {
        let Event::StepPlanned(StepPlanned { step, changes, warnings, .. }) = event else { panic!() };
        for Description { action, target, summary, .. } in &changes {
            let (step, target, summary, action) = (step.clone(), target.clone(), summary.clone(), *action);
            events.push(Event::ChangeStarted {
                step: step.clone(),
                action,
                target: target.clone(),
                summary: summary.clone(),
            });
            events.push(Event::ChangeFinished {
                step,
                action,
                target,
                summary,
                outcome: ChangeOutcome::Changed,
                partial: false,
            });
        }
        let outcome = if changes.is_empty() { Finished::Unchanged } else { Finished::Changed };
        let mut end = StepFinished::of(&step, "directory", outcome);
        end.warnings = warnings;
        if step == "repository" {
            end.rescues.push("20261126T132728Z-d5a3baaa".into());
            end.restore_commands
                .push("provision rescue restore plans/order_tracking.yaml 20261126T132728Z-d5a3baaa".into());
        }
        events.push(Event::StepFinished(end));
    }
    events.extend(left().map(Event::FollowUp));
    events.push(finished(RunOutcome::Ok, Counts { changed: 3, unchanged: 3, ..Counts::default() }));
    events
}

/// A host with faults of every type.
fn faults() -> Vec<Event> {
    let reason = "connection `warehouse`: environment variable REDSHIFT_URL is not set";
    let failed = |id: &str| {
        let mut failed = step(id, "A table", Planned::Failed, vec![]);
        failed.reason = Some(reason.into());
        failed.hint =
            Some("set REDSHIFT_URL, or give a default: `env_var('REDSHIFT_URL', 'postgresql://host/db')`".into());
        failed
    };
    let mut blocked = step("deploy-key", "", Planned::Blocked, vec![]);
    blocked.reason = Some("/srv/app/secrets is not a directory".into());
    let mut drifted = step("archive", "Archive tables", Planned::Drifted, vec![]);
    drifted.drift.push("hist_2026_h1 has no column `note`: the archive INSERT fails".into());
    drifted.reason = Some("the same text again".into());
    drifted.hint = Some("set on_drift: add_columns".into());
    let mut unchecked = step("password", "The mail password", Planned::Unchecked, vec![]);
    unchecked.notes.push("content not checked: SMTP_PASSWORD is not set".into());
    let mut warned = step("tunnel-key", "The key of the tunnel", Planned::Unchanged, vec![]);
    warned.warnings.push("the host still accepts the old key".into());
    let tables: Vec<Description> = (1..=14)
        .map(|month| {
            let table = format!("archive.orders_2026_{month:02}");
            change(Action::Create, &table, &format!("create table {table} like archive.orders"), None)
        })
        .collect();
    let mut later = step("monthly", "Monthly archives", Planned::Changes, tables);
    (later.certainty, later.waits_for) = (Certainty::Provisional, vec!["parent-table".into()]);
    let mut events = vec![started("plan")];
    events.extend([failed("one"), failed("two"), blocked, drifted, unchecked, warned, later].map(Event::StepPlanned));
    let counts =
        Counts { failed: 2, blocked: 1, drifted: 1, unchecked: 1, changes: 1, unchanged: 1, ..Counts::default() };
    events.push(finished(RunOutcome::Failed, counts));
    events
}

#[test]
fn a_plan_fits_terminals_of_all_widths() {
    for columns in [60, 80, 120] {
        let text = screen(settings(Some(columns)), &plan());
        insta::assert_snapshot!(format!("plan_{columns}"), plain(&text));
        for line in
            plain(&text).lines().filter(|line| !line.contains("docker compose") && !line.contains("docker-compose.yml"))
        {
            assert!(width(line) <= columns, "{line}");
        }
    }
    insta::assert_snapshot!("plan_in_colour", screen(settings(Some(80)), &plan()).replace('\u{1b}', "^"));
    insta::assert_snapshot!("plan_unlimited", plain(&screen(settings(None), &plan())));
    insta::assert_snapshot!(
        "plan_verbose",
        plain(&screen(Settings { is_verbose: true, ..settings(Some(80)) }, &plan()))
    );
}

/// A risk names the first files.
#[test]
fn the_files_that_a_risk_does_not_name_are_listed_on_request() {
    let mut events = plan();
    let Some(Event::StepPlanned(StepPlanned { changes, .. })) = events.get_mut(1) else { panic!() };
    let file = |path: &str, private: bool| json!({ "path": path, "state": "modified", "private": private, "lines": { "added": 2, "removed": 0 } });
    changes[0].risk =
        Some("2 locally changed files will be rescued and replaced: d/a (modified, +2 -0) and 1 more".into());
    changes[0].before = json!({ "in_the_way": [file("d/a", false), file("a", true)] });
    let text = plain(&screen(Settings { is_verbose: true, ..settings(None) }, &events));
    assert!(text.contains("rescue a (modified, +2 -0, private)\n") && !text.contains("rescue d/a"), "{text}");
    assert!(!plain(&screen(settings(None), &events)).contains("rescue a"));
}

#[test]
fn an_apply_has_a_line_for_each_step_after_the_question() {
    insta::assert_snapshot!("apply_80", plain(&screen(settings(Some(80)), &apply())));
    insta::assert_snapshot!("apply_quiet", plain(&screen(Settings { is_quiet: true, ..settings(Some(80)) }, &apply())));
}

#[test]
fn faults_are_said_once() {
    insta::assert_snapshot!("faults_80", plain(&screen(settings(Some(80)), &faults())));
}

#[test]
fn warnings_name_their_step_if_they_go_elsewhere() {
    let mut state = State::new(Settings { is_merged: false, ..settings(None) });
    let parts: Vec<Part> = plan().iter().flat_map(|event| state.render(event)).collect();
    let messages: Vec<String> =
        parts.iter().filter_map(|part| if let Part::Message(text) = part { Some(plain(text)) } else { None }).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].starts_with("warning: smtp-password: everybody can read /home/ubuntu/"), "{messages:?}");
}

#[test]
fn a_quiet_run_with_nothing_to_change_prints_nothing() {
    let mut events = vec![started("plan")];
    events.push(Event::StepPlanned(step("a", "", Planned::Unchanged, vec![])));
    events.push(finished(RunOutcome::Ok, Counts { unchanged: 1, ..Counts::default() }));
    assert_eq!(screen(Settings { is_quiet: true, ..settings(Some(80)) }, &events), "");
    let text = plain(&screen(settings(Some(80)), &events));
    assert_eq!(text.lines().last().unwrap(), "Nothing to change: 1 step in order. (-v lists it)");
    // A warning that holds is shown, also of a step that is in order.
    let mut warned = step("a", "", Planned::Unchanged, vec![]);
    warned.warnings.push("everybody can read it".into());
    events[1] = Event::StepPlanned(warned);
    assert!(screen(Settings { is_quiet: true, ..settings(Some(80)) }, &events).contains("everybody can read it"));
}
