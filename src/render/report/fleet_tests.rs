//! Reports on 200 hosts, ten of which differ in eight ways. A person has to see in half a minute which ones, and why.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{HostRun, NoResult, Report};
use crate::text::layout::Layout;

/// A screen, without the prompt.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

const STEPS: [&str; 6] = ["log-folder", "deploy-key", "release", "settings", "orders-table", "archive-tables"];

fn step(step: &str, fields: &Value) -> Value {
    let mut event = json!({
        "event": "step_planned", "step": step, "kind": "directory", "title": "A step with a title", "outcome": "unchanged",
        "certainty": "exact", "waits_for": [], "changes": [], "facts": {}, "drift": [], "reason": null, "hint": null,
        "notes": [], "warnings": [],
    });
    if let (Some(event), Some(fields)) = (event.as_object_mut(), fields.as_object()) {
        event.extend(fields.clone());
    }
    event
}

fn change(action: &str, target: &str, summary: &str) -> Value {
    json!({ "action": action, "target": target, "summary": summary, "before": null, "after": null, "risk": null })
}

/// Returns the lines of a host with these steps, and all others as they are on `STEPS`.
fn host(name: &str, all: &BTreeMap<&str, Value>, own: &[(&str, Value)], outcome: &str) -> String {
    let mut lines = vec![json!({
        "event": "run_started", "format": 1, "command": "plan", "plan": "shop", "file": "-", "run": "r", "host": name,
        "user": "root", "as_of": "2026-11-29", "saved": null,
    })];
    for id in STEPS {
        let fields = own.iter().find(|(own, _)| *own == id).map(|(_, fields)| fields).or(all.get(id));
        lines.push(step(id, fields.unwrap_or(&json!({}))));
    }
    lines.push(json!({ "event": "run_finished", "outcome": outcome, "counts": {}, "reason": null, "hint": null }));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Returns the report on the hosts `web001` to `web200`. `all` are the steps that are not in order on any host.
fn fleet(all: &BTreeMap<&str, Value>) -> Report {
    let drift = json!({ "outcome": "drifted", "drift": ["hist_2026_h1 has no column `note`: the archive INSERT fails"],
                        "hint": "set on_drift: add_columns" });
    let read_only = json!({ "outcome": "failed", "reason": "cannot read /etc/shop/settings.ini: input/output error" });
    let no_secret = json!({ "outcome": "blocked", "reason": "DEPLOY_KEY is not set",
                            "hint": "set DEPLOY_KEY in the environment of provision" });
    let local_commits = json!({ "outcome": "blocked", "reason": "a merge is in progress in /srv/shop" });
    let busy = json!({ "outcome": "unchecked", "reason": "another apply is changing /srv/shop" });
    let owner = json!({ "outcome": "changes",
                        "changes": [change("update", "/var/log/shop", "set the owner of 12 entries to shop")] });
    let different: BTreeMap<usize, (&str, Value)> = BTreeMap::from([
        (17, ("settings", read_only)),
        (52, ("deploy-key", no_secret.clone())),
        (53, ("deploy-key", no_secret)),
        (91, ("archive-tables", drift)),
        (104, ("release", local_commits)),
        (120, ("release", busy)),
        (163, ("log-folder", owner)),
    ]);
    let (mut runs, mut without_result) = (Vec::new(), Vec::new());
    let mut missing = |file: &str, why: &str| {
        without_result.push(NoResult { file: format!("plans/{file}.jsonl"), run: None, why: why.to_owned() });
    };
    for number in 1..=200 {
        let name = format!("web{number:03}");
        let usual = if all.is_empty() { "ok" } else { "changes" };
        match (number, different.get(&number)) {
            (31, _) => missing(&name, "ssh: connect to host web031 port 22: Connection timed out"),
            // An older program does not know a key of the plan file.
            (77, _) => missing(&name, "error: unknown key `file` in step `settings`"),
            // The connection was lost.
            (188, _) => runs.push(host(&name, all, &[], usual).lines().take(4).collect::<Vec<_>>().join("\n")),
            (_, Some((id, fields))) => {
                let outcome = if matches!(number, 120 | 163) { "changes" } else { "failed" };
                runs.push(host(&name, all, &[(id, fields.clone())], outcome));
            }
            _ => runs.push(host(&name, all, &[], usual)),
        }
    }
    Report::of(runs.iter().flat_map(|text| HostRun::read(text, "run.jsonl").unwrap()).collect(), without_result)
}

fn screen(report: &Report, max_words: usize) -> String {
    let text = report.human(Layout { columns: Some(COLUMNS) });
    let text = anstream::adapter::strip_str(&text).to_string();
    let words = text.split_whitespace().count();
    assert!(text.lines().count() < ROWS && text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    assert!(words <= max_words, "{words} words\n{text}");
    for number in [17, 31, 52, 53, 77, 91, 104, 120, 163, 188] {
        assert!(text.contains(&format!("web{number:03}")), "web{number:03} is missing\n{text}");
    }
    text
}

#[test]
fn ten_different_hosts_of_200_are_read_in_half_a_minute() {
    // A person reads about 240 words a minute.
    insta::assert_snapshot!("ten_of_200", screen(&fleet(&BTreeMap::new()), 120));
}

#[test]
fn ten_different_hosts_of_200_with_the_same_change_fit_on_a_screen() {
    let release = json!({ "outcome": "changes",
                          "changes": [change("update", "/srv/shop", "fast-forward main by 2 commits (1f2e3d4c to 9a8b7c6d)")] });
    let all = BTreeMap::from([("release", release)]);
    insta::assert_snapshot!("ten_of_200_with_a_change", screen(&fleet(&all), 140));
}

#[test]
fn everything_is_in_the_full_report() {
    let text = fleet(&BTreeMap::new()).human_in_full(Layout { columns: Some(COLUMNS) });
    let text = anstream::adapter::strip_str(&text).to_string();
    for part in ["hint: set DEPLOY_KEY in the environment of provision", "web189 to web200", "A step with a title"] {
        assert!(text.contains(part), "{part:?}\n{text}");
    }
}

#[test]
fn the_page_on_many_hosts_shows_the_report() {
    let page = include_str!("../../../docs/many-hosts.md");
    let text = fleet(&BTreeMap::new()).human(Layout { columns: Some(COLUMNS) });
    assert!(page.contains(&*anstream::adapter::strip_str(&text).to_string()));
}
