//! Holds the direction of the arrows that `docs/architecture.md` draws: which room may use which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A room, and the rooms that it uses. `A::b` is a part of a room that may be used where the whole may not.
const ARROWS: &[(&str, &[&str])] = &[
    ("failure", &[]),
    ("text", &[]),
    ("telemetry", &["failure", "text"]),
    ("plan", &["failure", "text"]),
    ("host", &["plan", "telemetry", "failure", "text"]),
    ("resource", &["host", "plan", "telemetry", "failure", "text"]),
    ("worker", &["resource", "host", "plan", "telemetry", "failure", "text"]),
    ("plan_file", &["resource", "host", "plan", "telemetry", "failure", "text"]),
    ("engine", &["plan_file", "worker", "resource", "host", "plan", "telemetry", "failure", "text"]),
    ("render", &["engine::event", "failure", "text"]),
    ("cli", &["render", "engine", "plan_file", "worker", "resource", "host", "plan", "telemetry", "failure", "text"]),
];

/// The parts of rooms that the text names, apart from what it has for its own tests.
fn used(text: &str) -> Vec<(String, String)> {
    let own_tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let code = text[..own_tests].lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    code.match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, found)| {
            let rest = &code[at + found.len()..];
            let room = word(rest);
            let part = rest[room.len()..].strip_prefix("::").map(word).unwrap_or_default();
            (room.clone(), format!("{room}::{part}"))
        })
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // Tests may reach for anything.
        if name == "tests"
            || name == "testing"
            || name == "fixtures"
            || name.ends_with("_tests")
            || name == "properties"
        {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn arrows_between_rooms_point_down() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut found = Vec::new();
    sources(&top, &mut found);
    let mut wrong = Vec::new();
    for path in &found {
        let inside = path.strip_prefix(&top).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if ["main", "lib", "arrows", "fuzzing"].contains(&room.as_str()) {
            continue;
        }
        let Some(allowed) = allowed.get(room.as_str()) else { panic!("{room} has no arrows in src/arrows.rs") };
        for (other, part) in used(&std::fs::read_to_string(path).unwrap()) {
            let known = other == room || allowed.contains(&other.as_str()) || allowed.contains(&part.as_str());
            if !known && other.starts_with(|c: char| c.is_lowercase()) {
                wrong.push(format!("{} uses {part}", inside.display()));
            }
        }
    }
    assert!(found.len() > 100, "{} files were read", found.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// No arrow leads back to where it came from, by any way.
#[test]
fn the_rooms_have_no_circle() {
    for (index, (room, uses)) in ARROWS.iter().enumerate() {
        let before: Vec<&str> = ARROWS[..index].iter().map(|(room, _)| *room).collect();
        for other in *uses {
            let other = other.split("::").next().unwrap();
            assert!(before.contains(&other), "{room} uses {other}, which stands below it");
        }
    }
}

/// What is recorded has typed fields, so that no secret gets into a log: nothing but `telemetry::spans` calls the macros of
/// `tracing`.
#[test]
fn spans_and_log_lines_are_made_in_one_place() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&top, &mut found);
    let mut wrong = Vec::new();
    for path in &found {
        let inside = path.strip_prefix(&top).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let uses = ["tracing::", "tracing_subscriber::"].iter().any(|name| text.contains(name));
        let calls =
            ["span!(", "trace!(", "debug!(", "info!(", "warn!(", "error!("].iter().any(|name| text.contains(name));
        if inside == Path::new("arrows.rs") {
            continue;
        }
        let is_spans = inside == Path::new("telemetry/spans.rs");
        if (uses && !inside.starts_with("telemetry")) || (uses && calls && !is_spans) {
            wrong.push(inside.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
