//! The JSON lines: their order, their keys, and that they agree with the exit code.

use serde_json::Value;

use crate::sandbox::{Outcome, Sandbox};

/// Asserts that an event has these keys. Others are allowed.
#[track_caller]
fn has(event: &Value, keys: &[&str]) {
    for key in keys {
        assert!(event.get(key).is_some(), "{key:?} is missing in {event}");
    }
}

#[track_caller]
fn is_one_of(value: &Value, allowed: &[&str]) {
    assert!(value.as_str().is_some_and(|text| allowed.contains(&text)), "{value} is none of {allowed:?}");
}

/// Asserts what every run has in common.
#[track_caller]
fn well_formed(outcome: &Outcome, command: &str) {
    let events = outcome.events();
    let first = events.first().expect("a first event");
    has(first, &["event", "format", "command", "plan"]);
    assert_eq!((&first["event"], &first["format"]), (&"run_started".into(), &1.into()), "{outcome}");
    assert_eq!((&first["command"], &first["plan"]), (&command.into(), &"order-tracking".into()), "{outcome}");
    let last = events.last().unwrap();
    has(last, &["event", "outcome", "counts"]);
    assert_eq!(last["event"], "run_finished");
    is_one_of(&last["outcome"], &["ok", "changes", "failed"]);
    let counts = &last["counts"];
    has(counts, &["unchanged", "changes", "changed", "skipped", "blocked", "failed"]);
    let failed = counts["failed"].as_u64().unwrap() + counts["blocked"].as_u64().unwrap();
    assert_eq!(failed > 0, outcome.code == 1, "the exit code folds from the same events\n{outcome}");
    for event in &events {
        match event["event"].as_str().unwrap() {
            "step_planned" => {
                has(event, &["step", "kind", "outcome", "certainty", "changes", "reason", "hint"]);
                is_one_of(&event["outcome"], &["unchanged", "changes", "blocked", "failed"]);
                is_one_of(&event["certainty"], &["exact", "provisional"]);
                let changes = event["changes"].as_array().unwrap();
                assert_eq!(changes.is_empty(), event["outcome"] != "changes", "{event}");
                for change in changes {
                    has(change, &["action", "target", "summary", "before", "after", "risk"]);
                    is_one_of(&change["action"], &["create", "update", "delete"]);
                    assert!(change["risk"].is_null() || change["risk"].is_string(), "{change}");
                }
            }
            "change_started" | "change_finished" => has(event, &["step"]),
            "step_finished" => {
                has(event, &["step", "outcome"]);
                is_one_of(&event["outcome"], &["unchanged", "changed", "skipped", "blocked", "failed"]);
            }
            _ => {}
        }
        if matches!(event["outcome"].as_str(), Some("blocked" | "failed")) && event["event"] != "run_finished" {
            assert!(event["reason"].is_string() || event["event"] == "change_finished", "why? {event}");
        }
    }
}

#[test]
fn apply_converges_a_fresh_server() {
    let sandbox = Sandbox::order_tracking();
    let plan = sandbox.plan("ubuntu").exits(0);
    well_formed(&plan, "plan");
    assert_eq!(plan.events().last().unwrap()["outcome"], "changes");
    let kinds: Vec<_> =
        plan.events_of("step_planned").iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect();
    for kind in ["repository", "directory", "key_file", "compose_env", "period_tables", "table"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind}\n{plan}");
    }
    assert_eq!(plan.step("step_planned", "repository")["certainty"], "exact");
    assert_eq!(
        plan.step("step_planned", "smtp-password")["certainty"],
        "provisional",
        "the file comes with the checkout"
    );

    let apply = sandbox.apply("ubuntu").exits(0);
    well_formed(&apply, "apply");
    assert_eq!(apply.events().last().unwrap()["outcome"], "ok");
    assert_eq!(apply.events().last().unwrap()["counts"]["changed"], 6);
    assert_eq!(apply.events_of("change_started").len(), apply.events_of("change_finished").len());
    for event in apply.events_of("step_finished") {
        assert_eq!(event["outcome"], "changed", "{event}");
    }

    let again = sandbox.plan("ubuntu").exits(0);
    well_formed(&again, "plan");
    assert_eq!(again.events().last().unwrap()["outcome"], "ok", "{again}");
    assert_eq!(again.events().last().unwrap()["counts"]["unchanged"], 6);
    let nothing = sandbox.apply("ubuntu").exits(0);
    well_formed(&nothing, "apply");
    assert_eq!(nothing.events_of("change_started").len(), 0, "{nothing}");
}

#[test]
fn blocked_steps_have_a_reason_and_a_hint() {
    let mut sandbox = Sandbox::order_tracking();
    sandbox.unset_var("key_source");
    let plan = sandbox.plan("ubuntu").exits(1);
    well_formed(&plan, "plan");
    let blocked = plan.step("step_planned", "bastion-key");
    assert_eq!(blocked["outcome"], "blocked", "{plan}");
    assert!(blocked["hint"].as_str().is_some_and(|hint| hint.contains("key_source")), "what to pass\n{blocked}");
}
