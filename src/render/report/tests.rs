use serde_json::{Value, json};

use super::groups::host_list;
use super::{HostRun, NoResult, Report};
use crate::text::layout::Layout;

const UNLIMITED: Layout = Layout { columns: None };

fn lines(host: &str, steps: &[(&str, &str, &str)], outcome: &str) -> String {
    let mut lines = vec![json!({
        "event": "run_started", "format": 1, "command": "plan", "plan": "small", "file": "p.yaml", "run": "r", "host": host,
        "user": "root", "as_of": "2026-11-29", "saved": null,
    })];
    for (step, outcome, summary) in steps {
        let changes = if *outcome == "changes" {
            json!([{ "action": "update", "target": format!("/srv/{step}"), "summary": summary, "before": null, "after": null,
                     "risk": null }])
        } else {
            json!([])
        };
        // An event of an older version, without facts and drift.
        lines.push(json!({
            "event": "step_planned", "step": step, "kind": "directory", "title": "A step", "outcome": outcome,
            "certainty": "exact", "waits_for": [], "changes": changes, "notes": [], "warnings": [],
            "reason": if *outcome == "blocked" { json!(summary) } else { Value::Null }, "hint": null,
        }));
    }
    lines.push(json!({ "event": "something_new", "of": "a later version" }));
    let counts = json!({ "unchanged": 0, "changes": 0, "changed": 0, "skipped": 0, "blocked": 0, "failed": 0 });
    lines.push(json!({ "event": "run_finished", "outcome": outcome, "counts": counts, "reason": null, "hint": null }));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn report(files: &[String]) -> Report {
    Report::of(files.iter().flat_map(|text| HostRun::read(text, "run.jsonl").unwrap()).collect(), Vec::new())
}

#[test]
fn hosts_with_the_same_result_are_grouped() {
    let mut files: Vec<String> =
        (1..=190).map(|number| lines(&format!("web{number:03}"), &[("logs", "unchanged", "")], "ok")).collect();
    for number in 191..=196 {
        let summary = format!("replace SHA256:{number}");
        files.push(lines(
            &format!("web{number:03}"),
            &[("logs", "unchanged", ""), ("key", "changes", &summary)],
            "changes",
        ));
    }
    files.push(lines("web200", &[("logs", "blocked", "it is a file")], "failed"));
    let report = report(&files);
    let shape: Vec<(usize, bool, bool)> =
        report.groups.iter().map(|group| (group.hosts.len(), group.failed, group.in_order)).collect();
    assert_eq!(
        shape,
        [(1, true, false), (6, false, false), (190, false, true)],
        "groups that need attention come first"
    );
    assert!(!report.is_ok());
    assert_eq!(report.summary(), "197 hosts: 1 failed, 6 to change, 190 ok");
    assert_eq!(report.groups[1].differs, ["key"]);
    let human = anstream::adapter::strip_str(&report.human_in_full(UNLIMITED)).to_string();
    for line in [
        "1 host (plan of small): web200",
        "  blocked    logs  A step",
        "             it is a file",
        "6 hosts (plan of small): web191 to web196",
        "             /srv/key: replace SHA256:191",
        "             (as on web191; the details differ on others)",
        "190 hosts ok (plan of small): web001 to web190",
    ] {
        assert!(human.lines().any(|known| known == line), "{line:?}\n{human}");
    }
    assert!(human.lines().count() < 20, "{human}");
    let json: Vec<Value> = report.json().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json.len(), 4);
    assert_eq!((&json[0]["event"], &json[0]["hosts"]), (&json!("report_group"), &json!(["web200"])));
    assert_eq!(
        json[3],
        json!({ "event": "report_finished", "hosts": 197, "groups": 3, "without_result": 0, "ok": false })
    );
    let markdown = report.markdown();
    assert!(markdown.contains("| 190: web001 to web190 | ok | plan | small |"), "{markdown}");
}

#[test]
fn the_last_run_of_a_host_counts_and_an_unfinished_one_has_no_result() {
    let twice = lines("a", &[("logs", "blocked", "x")], "failed") + &lines("a", &[("logs", "unchanged", "")], "ok");
    let cut: String =
        lines("b", &[("logs", "unchanged", "")], "ok").lines().take(2).map(|line| format!("{line}\n")).collect();
    let report = report(&[twice, cut]);
    assert_eq!(report.summary(), "2 hosts: 1 without a result, 1 ok");
    assert!(
        report.human_in_full(UNLIMITED).contains("b (small): the lines end before the run does") && !report.is_ok()
    );
    let line: Value = serde_json::from_str(report.json().lines().next().unwrap()).unwrap();
    assert_eq!(
        line,
        json!({ "event": "report_no_result", "file": report.without_result[0].file, "host": "b", "plan": "small",
            "reason": "the lines end before the run does" })
    );
    assert!(!report.without_result[0].file.contains("small"), "{:?}", report.without_result);
}

#[test]
fn a_step_that_may_change_is_not_left_out() {
    let text = lines("a", &[("code", "changes", "fast-forward"), ("page", "unchanged", "")], "changes");
    let provisional = text.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        if event["step"] == "page" {
            (event["certainty"], event["waits_for"]) = (json!("provisional"), json!(["code"]));
        }
        format!("{event}\n")
    });
    let report = report(&[provisional.collect()]);
    let human = anstream::adapter::strip_str(&report.human(UNLIMITED)).to_string();
    assert!(human.contains("may change   page: after code"), "{human}");
    let full = anstream::adapter::strip_str(&report.human_in_full(UNLIMITED)).to_string();
    assert!(full.contains("  may change page  A step"), "{full}");
    assert!(report.markdown().contains("<code>page</code> (may change): A step"), "{}", report.markdown());
    let group: Value = serde_json::from_str(report.json().lines().next().unwrap()).unwrap();
    assert_eq!(group["steps"][1]["outcome"], "may_change", "{group}");
}

#[test]
fn files_that_are_not_runs_are_refused() {
    assert!(HostRun::read("", "run.jsonl").unwrap_err().contains("empty"));
    assert!(
        HostRun::read("ssh: connect to host web1 port 22", "run.jsonl").unwrap_err().contains("line 1 is not JSON")
    );
    assert!(
        HostRun::read("{\"event\":\"warning\",\"message\":\"x\"}", "run.jsonl")
            .unwrap_err()
            .contains("does not start a run")
    );
    let missing = NoResult { file: "web7.jsonl".into(), run: None, why: "it is empty".into() };
    assert!(Report::of(Vec::new(), vec![missing]).human_in_full(UNLIMITED).contains("web7.jsonl: it is empty"));
}

#[test]
fn consecutive_hosts_are_a_range() {
    let list = |names: &[&str]| host_list(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(list(&["a", "db1", "db2", "db3", "web1.x", "web2.x"]), "a, db1 to db3, web1.x, web2.x");
    assert_eq!(list(&["w08", "w09", "w10", "w11"]), "w08 to w11");
    assert_eq!(list(&["w9", "w10", "w11"]), "w9, w10, w11");
    assert_eq!(list(&["7", "8", "9"]), "7 to 9");
}

#[test]
fn a_warning_keeps_a_host_out_of_those_that_are_in_order() {
    let clean = lines("a", &[("logs", "unchanged", "")], "ok");
    let warned = |host: &str, text: &str| {
        let warning = json!({ "event": "warning", "message": text });
        lines(host, &[("logs", "unchanged", "")], "ok").replacen('\n', &format!("\n{warning}\n"), 1)
    };
    let report = report(&[clean, warned("b", "the journal is damaged"), warned("c", "another warning")]);
    let hosts: Vec<&[String]> = report.groups.iter().map(|group| group.hosts.as_slice()).collect();
    assert_eq!(hosts, [&["b".to_owned(), "c".to_owned()][..], &["a".to_owned()]]);
    assert_eq!(report.groups[0].warnings, ["another warning", "the journal is damaged"]);
}

#[test]
fn hosts_with_the_same_name_are_distinguished_by_their_files() {
    let of = |file: &str, outcome: &str| {
        let state = if outcome == "ok" { "unchanged" } else { "failed" };
        HostRun::read(&lines("vm", &[("logs", state, "")], outcome), file).unwrap().remove(0)
    };
    let report = Report::of(vec![of("a.jsonl", "failed"), of("b.jsonl", "ok")], Vec::new());
    assert_eq!(report.summary(), "2 hosts: 1 failed, 1 ok");
    let hosts: Vec<&String> = report.groups.iter().flat_map(|group| &group.hosts).collect();
    assert_eq!(hosts, ["vm (a.jsonl)", "vm (b.jsonl)"]);
    assert!(!report.is_ok());
    // A later run in the same file replaces the earlier one.
    let report = Report::of(vec![of("a.jsonl", "failed"), of("a.jsonl", "ok")], Vec::new());
    assert_eq!(report.summary(), "1 host: 1 ok");
}

#[test]
fn what_cannot_be_understood_is_never_ok() {
    let good = lines("web1", &[("logs", "unchanged", "")], "ok");
    let refused = |text: &str| HostRun::read(text, "run.jsonl").unwrap_err();
    assert!(refused(&good.replace("\"format\":1", "\"format\":99")).contains("format 99"));
    let unknown = lines("web1", &[("logs", "exploded", "")], "ok");
    assert!(refused(&unknown).contains("does not understand line 2"), "{}", refused(&unknown));
    assert!(refused(&lines("web1", &[], "exploded")).contains("does not understand line 3"));
    // The connection was lost in the middle of a line, or between two.
    for cut in [&good[..good.len() - 30], &good[..good.rfind("{").unwrap()]] {
        let report = Report::of(HostRun::read(cut, "run.jsonl").unwrap(), Vec::new());
        assert_eq!((report.groups.len(), report.without_result.len()), (0, 1), "{cut}");
        assert!(!report.is_ok());
    }
    assert!(refused(&good.replacen("}\n", "\n", 2)).contains("is not JSON"));
}

#[test]
fn github_gets_a_workflow_command_for_what_needs_attention() {
    let report = report(&[
        lines("a", &[("logs", "blocked", "x: y%z")], "failed"),
        lines("b", &[("logs", "unchanged", "")], "ok"),
    ]);
    let text = report.github("::error::of a host\n".to_owned());
    assert!(text.starts_with("::stop-commands::"), "{text}");
    assert_eq!(text.lines().last(), Some("::error title=a%3A logs::x: y%25z"), "{text}");
}
