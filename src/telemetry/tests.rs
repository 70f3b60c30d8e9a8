use std::io::{Read, Seek};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::log::{Log, LogFormat};
use super::record::{Fields, Level, Record};
use super::timeline::Timeline;
use super::{Filter, spans};

fn open(id: u64, parent: Option<u64>, name: &str, at: u64, fields: Value) -> Record {
    let Value::Object(fields) = fields else { panic!("an object") };
    Record::Open { id, parent, target: "provision::git".into(), name: name.into(), level: Level::Info, at, fields }
}

fn close(id: u64, at: u64) -> Record {
    Record::Close { id, at, fields: Fields::new() }
}

fn logged(filter: &str, format: LogFormat, records: &[Record]) -> String {
    let text = Arc::new(Mutex::new(String::new()));
    let written = Arc::clone(&text);
    let write = Box::new(move |line: &str| written.lock().unwrap().push_str(line));
    let mut log = Log::new(Filter::parse(filter).unwrap(), format, write);
    records.iter().for_each(|record| log.take(record));
    text.lock().unwrap().clone()
}

fn some_records() -> Vec<Record> {
    vec![
        open(1, None, "step", 1_000_000, json!({ "step": "checkout", "resource_kind": "repository" })),
        open(2, Some(1), "git.fetch", 1_500_000, json!({ "remote": "/srv/a b.git" })),
        Record::Event {
            parent: Some(2),
            target: "provision::engine".into(),
            level: Level::Warn,
            at: 1_600_000,
            message: "trying again".into(),
            fields: Fields::from_iter([("attempt".to_owned(), json!(2))]),
        },
        Record::Close { id: 2, at: 1_812_345, fields: Fields::from_iter([("objects".to_owned(), json!(3))]) },
        close(1, 2_000_000),
    ]
}

#[test]
fn lines_contain_the_step_and_the_duration() {
    assert_eq!(
        logged("info", LogFormat::Text, &some_records()),
        "1970-01-01T00:00:01.600000Z  WARN checkout: trying again attempt=2\n\
         1970-01-01T00:00:01.812345Z  INFO checkout: git.fetch took 0.312345s remote=\"/srv/a b.git\" objects=3\n\
         1970-01-01T00:00:02.000000Z  INFO checkout: step took 1.000000s resource_kind=repository\n"
    );
    assert!(logged("git=debug", LogFormat::Text, &some_records()).contains("checkout: git.fetch begins"));
    assert_eq!(logged("warn", LogFormat::Text, &some_records()).lines().count(), 1);
    assert_eq!(logged("git=off,info", LogFormat::Text, &some_records()).lines().count(), 1);
    let json: Value =
        serde_json::from_str(logged("info", LogFormat::Json, &some_records()).lines().nth(1).unwrap()).unwrap();
    assert_eq!(
        json,
        json!({
            "time": "1970-01-01T00:00:01.812345Z", "level": "info", "target": "provision::git", "kind": "end",
            "span": "git.fetch", "step": "checkout", "took_us": 312_345, "remote": "/srv/a b.git", "objects": 3,
        })
    );
}

#[test]
fn a_json_line_keeps_every_field() {
    let fields = json!({ "step": "checkout", "kind": "repository", "target": "/srv/shop", "level": 3, "plan": "x" });
    let records = [open(1, None, "step", 1_000_000, fields), close(1, 2_000_000)];
    let line: Value = serde_json::from_str(&logged("info", LogFormat::Json, &records)).unwrap();
    let of = |key: &str| line[key].as_str().unwrap_or_default();
    assert_eq!((of("kind"), of("step"), of("plan")), ("end", "checkout", "x"), "{line}");
    assert_eq!((of("field_kind"), of("field_target")), ("repository", "/srv/shop"), "{line}");
    assert_eq!((of("level"), &line["field_level"]), ("info", &json!(3)), "{line}");
    assert!(line.get("field_step").is_none(), "{line}");
}

#[test]
fn filters_apply_to_this_program_unless_they_name_a_crate() {
    let filter = Filter::parse("info,warehouse=debug,tokio_postgres=trace").unwrap();
    assert!(filter.allows("provision::git", Level::Info) && !filter.allows("provision::git", Level::Debug));
    assert!(filter.allows("provision::warehouse", Level::Debug));
    assert!(!filter.allows("rustls", Level::Error), "other crates are off");
    assert!(filter.allows("tokio_postgres::query", Level::Info));
    assert!(!filter.allows("tokio_postgres::query", Level::Debug), "they contain statements");
    let wrong = Filter::parse("git=loud").unwrap_err();
    assert!(wrong.message.contains("`loud` is not a level") && wrong.hint.unwrap().contains("debug"));
    let without_git = Filter::parse("info,git=off").unwrap();
    let covering = Filter::covering(Some(&without_git), true).unwrap();
    assert!(covering.allows("provision::git", Level::Debug), "a timeline contains every span");
    let covering = Filter::covering(Some(&Filter::parse("fs=info").unwrap()), false).unwrap();
    assert!(covering.allows("provision::worker", Level::Debug), "a log names the step of each line");
    assert!(!covering.allows("provision::fs", Level::Debug) && !covering.allows("provision::git", Level::Error));
    let covering = Filter::covering(Some(&filter), true).unwrap();
    assert!(covering.allows("provision::fs", Level::Debug) && !covering.allows("tokio_postgres", Level::Debug));
}

fn timeline(records: Vec<Record>) -> Vec<Value> {
    let mut file = tempfile::tempfile().unwrap();
    let mut timeline = Timeline::new(file.try_clone().unwrap());
    records.into_iter().for_each(|record| timeline.take(record));
    timeline.write().unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    whole["traceEvents"].as_array().unwrap().clone()
}

#[test]
fn a_timeline_has_a_track_for_each_step() {
    let mut records = some_records();
    records.push(open(7, None, "run", 900_000, json!({})));
    let events = timeline(records);
    let named = |name: &str| events.iter().find(|event| event["name"] == name).unwrap();
    assert_eq!((&named("git.fetch")["ts"], &named("git.fetch")["dur"]), (&json!(1_500_000), &json!(312_345)));
    assert_eq!(named("git.fetch")["tid"], named("step")["tid"]);
    assert_eq!(named("trying again")["tid"], named("step")["tid"]);
    assert_ne!(named("run")["tid"], named("step")["tid"]);
    assert_eq!(named("run")["args"]["unfinished"], true, "the span ends with the latest record");
    let track = events.iter().find(|event| event["ph"] == "M" && event["tid"] == named("step")["tid"]).unwrap();
    assert_eq!(track["args"]["name"], "checkout");
}

#[test]
fn a_span_ends_with_the_span_around_it_even_if_its_end_comes_late() {
    let mut records = vec![open(1, None, "step", 0, json!({ "step": "key" }))];
    records.extend([2, 3].map(|id| open(id, Some(1), "worker.request", 5 * id, json!({}))));
    // The second request has no end.
    records.extend([close(1, 20), close(2, 30), open(4, None, "run", 40, json!({})), close(4, 50)]);
    let ends: Vec<u64> = timeline(records)
        .iter()
        .filter(|event| event["name"] == "worker.request")
        .map(|event| event["ts"].as_u64().unwrap() + event["dur"].as_u64().unwrap())
        .collect();
    assert_eq!(ends, [20, 20]);
}

proptest! {
    /// A viewer draws the spans of a track correctly only if any two of them are disjoint or nested.
    #[test]
    fn spans_of_one_track_are_nested(spans in prop::collection::vec((0u64..3, 0u64..50, 0u64..50), 0..30)) {
        let mut records: Vec<Record> = (0..3)
            .map(|step| open(step + 1, None, "step", 0, json!({ "step": format!("s{step}") })))
            .collect();
        for (number, (step, began, took)) in spans.iter().enumerate() {
            let id = number as u64 + 10;
            records.push(open(id, Some(step + 1), "work", *began, json!({})));
            records.push(close(id, began + took));
        }
        records.extend((1..4).map(|id| close(id, 100)));
        let drawn: Vec<(u64, u64, u64)> = timeline(records)
            .iter()
            .filter(|event| event["ph"] == "X")
            .map(|event| {
                let number = |key: &str| event[key].as_u64().unwrap();
                (number("tid"), number("ts"), number("ts") + number("dur"))
            })
            .collect();
        prop_assert_eq!(drawn.len(), spans.len() + 3);
        for (at, (track, began, ended)) in drawn.iter().enumerate() {
            for (other, from, to) in &drawn[at + 1..] {
                let apart = ended <= from || to <= began;
                let nested = (began <= from && to <= ended) || (from <= began && ended <= to);
                prop_assert!(track != other || apart || nested, "{began}..{ended} and {from}..{to}");
            }
        }
    }
}

#[test]
fn spans_become_records_with_their_parents() {
    let records = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::clone(&records);
    super::layer::collect_here(
        Filter::parse("debug").unwrap(),
        5,
        Arc::new(move |record| sent.lock().unwrap().push(record)),
        || {
            let outer = spans::step("checkout", "repository");
            let id = outer.id().unwrap();
            outer.in_scope(|| {
                spans::retry("the connection", 2, "it was closed");
                let fetch = spans::git_fetch(&crate::text::RedactedUrl::of("/srv/shop.git"));
                fetch.count(spans::Count::Objects, 3);
            });
            drop(spans::worker_request("observe", Some(id)));
        },
    );
    let records = records.lock().unwrap();
    let Record::Open { id: step, parent: None, name, .. } = &records[0] else { panic!("{records:?}") };
    assert_eq!((name.as_str(), step >> 48), ("step", 5));
    assert!(
        matches!(&records[1], Record::Event { parent: Some(id), message, .. } if id == step && message == "trying again")
    );
    let Record::Open { id: fetch, parent, .. } = &records[2] else { panic!("{records:?}") };
    assert_eq!(*parent, Some(*step));
    assert!(matches!(&records[3], Record::Close { id, fields, .. } if id == fetch && fields["objects"] == 3));
    assert!(
        matches!(&records[4], Record::Open { parent: Some(id), name, .. } if id == step && name == "worker.request")
    );
    assert!(spans::step("none", "none").id().is_none(), "nothing is recorded by default");
}
