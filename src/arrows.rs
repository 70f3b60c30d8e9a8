//! Checks the dependencies between modules against the table in `docs/architecture.md`: which top-level module (room) may
//! use which, and that the modules of a room form no cycle.

mod modules;

use std::collections::BTreeMap;
use std::path::Path;

use modules::Modules;

/// Each room with the rooms that it uses. `A::b` allows only a part of a room.
const ARROWS: &[(&str, &[&str])] = &[
    ("failure", &[]),
    ("text", &[]),
    ("telemetry", &["failure", "text"]),
    ("plan", &["failure", "text"]),
    ("host", &["plan", "telemetry", "failure", "text"]),
    ("yaml", &["text"]),
    ("git", &["host", "plan", "telemetry", "failure", "text"]),
    ("resource", &["git", "yaml", "host", "plan", "telemetry", "failure", "text"]),
    ("worker", &["resource", "git", "host", "plan", "telemetry", "failure", "text"]),
    ("plan_file", &["resource", "git", "yaml", "host", "plan", "telemetry", "failure", "text"]),
    ("engine", &["plan_file", "worker", "resource", "git", "host", "plan", "telemetry", "failure", "text"]),
    ("render", &["engine::event", "failure", "text"]),
    (
        "cli",
        &["render", "engine", "plan_file", "worker", "resource", "git", "host", "plan", "telemetry", "failure", "text"],
    ),
];

fn sources() -> Modules {
    Modules::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn is_within(module: &str, part: &str) -> bool {
    module.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn room_of(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

#[test]
fn dependencies_between_modules_point_down() {
    let modules = sources();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for module in modules.paths().filter(|path| !path.is_empty()) {
        let room = room_of(module);
        let Some(allowed) = allowed.get(room) else { panic!("{room} is missing in src/arrows.rs") };
        for used in modules.named_by(module) {
            if room_of(&used) != room && !allowed.iter().any(|part| is_within(&used, part)) {
                wrong.push(format!("{module} uses {used}"));
            }
        }
    }
    let count = modules.paths().count();
    assert!(count > 100, "{count} modules were read");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// There is no cycle in the table.
#[test]
fn the_rooms_have_no_cycle() {
    for (index, (room, uses)) in ARROWS.iter().enumerate() {
        let before: Vec<&str> = ARROWS[..index].iter().map(|(room, _)| *room).collect();
        for other in *uses {
            assert!(before.contains(&room_of(other)), "{room} uses {other}, which is listed after it");
        }
    }
}

#[test]
fn rooms_have_no_cycle_of_modules() {
    let modules = sources();
    let cycles = ARROWS.iter().flat_map(|(room, _)| modules.circles(room));
    let found: Vec<String> = cycles.map(|cycle| modules.describe(&cycle)).collect();
    assert!(found.is_empty(), "{} cycles:\n{}", found.len(), found.join("\n\n"));
}

/// The document has the same list of rooms.
#[test]
fn the_document_lists_the_rooms() {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let (_, table) = document.split_once("| module | what it is | uses |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut listed: Vec<&str> = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(',')).collect();
    listed.iter_mut().for_each(|room| *room = room.trim().trim_matches('`'));
    let rooms: Vec<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    for room in &rooms {
        assert!(listed.contains(room), "docs/architecture.md does not list {room}");
    }
    assert_eq!(listed.len(), rooms.len(), "{listed:?}");
}

/// Only `telemetry::spans` calls the macros of `tracing`. Its fields are typed, so that no secret gets into a log.
#[test]
fn spans_and_log_lines_are_made_in_one_place() {
    let modules = sources();
    let mut wrong = Vec::new();
    for module in modules.paths().filter(|module| *module != "telemetry::spans") {
        let text = modules.text(module);
        let uses = ["tracing::", "tracing_subscriber::"].iter().any(|name| text.contains(name));
        let calls =
            ["span!(", "trace!(", "debug!(", "info!(", "warn!(", "error!("].iter().any(|name| text.contains(name));
        if uses && (calls || room_of(module) != "telemetry") {
            wrong.push(module);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
