//! Checks the dependencies between modules against the table in `docs/architecture.md`: which top-level module (room) may
//! use which, and that the modules of a room form no cycle.

mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use modules::Modules;

use crate::resource::KIND_NAMES;

/// Each room with the rooms that it uses. `A::b` allows only a part of a room.
const ARROWS: &[(&str, &[&str])] = &[
    ("failure", &[]),
    ("text", &[]),
    ("telemetry", &["failure", "text"]),
    ("plan", &[]),
    ("host", &["plan", "telemetry", "failure", "text"]),
    ("yaml", &["text"]),
    ("git", &["host", "telemetry", "failure", "text"]),
    ("resource", &["git", "yaml", "host", "plan", "telemetry", "failure", "text"]),
    ("worker", &["resource", "host", "plan", "telemetry", "failure", "text"]),
    ("plan_file", &["resource", "yaml", "host", "plan", "failure", "text"]),
    ("engine", &["plan_file", "worker", "resource", "host", "plan", "telemetry", "failure", "text"]),
    ("render", &["engine::event", "failure", "text"]),
    ("cli", &["render", "engine", "plan_file", "worker", "host", "telemetry", "failure", "text"]),
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

/// `docs/resource-kinds.md` names everything that a kind can implement.
#[test]
fn the_document_on_kinds_names_every_method_and_constant_of_the_trait() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let (source, document) = (read("src/resource/mod.rs"), read("docs/resource-kinds.md"));
    let mut count = 0;
    for (name, of) in [("pub trait Resource:", ""), ("pub trait Change:", "Change::")] {
        let (_, after) = source.split_once(name).unwrap();
        let (body, _) = after.split_once("\n}\n").unwrap();
        for line in body.lines() {
            let rest = line.strip_prefix("    fn ").or_else(|| line.strip_prefix("    const "));
            let Some(item) = rest.and_then(|rest| rest.split(['(', '<', ':']).next()) else { continue };
            count += 1;
            let forms = [format!("`{of}{item}`"), format!("`{item}`"), format!("fn {item}("), format!("const {item}:")];
            assert!(forms.iter().any(|form| document.contains(form)), "docs/resource-kinds.md lacks {of}{item}");
        }
    }
    assert!(count > 20, "{count} items were read");
}

/// The engine runs without a command line: only `cli` knows the crate that parses one.
#[test]
fn only_the_command_line_uses_clap() {
    let modules = sources();
    let users: Vec<&str> = modules.paths().filter(|path| modules.text(path).contains("clap::")).map(room_of).collect();
    assert!(!users.is_empty() && users.iter().all(|room| ["", "cli", "arrows"].contains(room)), "{users:?}");
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

/// The document has the same rows.
#[test]
fn the_document_has_the_same_table() {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let (_, table) = document.split_once("| module | what it is | uses |").unwrap();
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let listed: BTreeMap<String, BTreeSet<String>> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            (cells[1].trim().trim_matches('`').to_owned(), names(cells[3]))
        })
        .collect();
    let arrows: BTreeMap<String, BTreeSet<String>> = ARROWS
        .iter()
        .map(|(room, uses)| ((*room).to_owned(), uses.iter().map(|used| (*used).to_owned()).collect()))
        .collect();
    assert_eq!(listed, arrows);
}

/// An arrow that no module needs is not in the table.
#[test]
fn every_arrow_is_used() {
    let modules = sources();
    let mut unused = Vec::new();
    for (room, uses) in ARROWS {
        let named: BTreeSet<String> = modules
            .paths()
            .filter(|module| room_of(module) == *room)
            .flat_map(|module| modules.named_by(module))
            .collect();
        unused.extend(
            uses.iter()
                .filter(|part| !named.iter().any(|used| is_within(used, part)))
                .map(|part| format!("{room} -> {part}")),
        );
    }
    assert!(unused.is_empty(), "{unused:#?}");
}

/// The rooms above `resource` know no kind.
#[test]
fn only_the_resource_room_names_a_kind() {
    let modules = sources();
    let kinds: Vec<String> = KIND_NAMES.iter().map(|kind| format!("resource::{kind}")).collect();
    let others = modules.paths().filter(|module| !module.is_empty() && room_of(module) != "resource");
    let wrong: Vec<String> = others
        .flat_map(|module| modules.named_by(module).into_iter().map(move |used| (module, used)))
        .filter(|(_, used)| kinds.iter().any(|kind| is_within(used, kind)))
        .map(|(module, used)| format!("{module} uses {used}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The modules of kinds that make decisions. The pure `diff` calls them.
const DECIDING: [&str; 10] = [
    "diff",
    "decide",
    "drift",
    "outlook",
    "compare",
    "assignment",
    "included",
    "entry_rules",
    "mode_rule",
    "text_diff",
];

/// What decides reads neither the host nor a repository: it uses their types, and no function that opens anything.
#[test]
fn decisions_read_nothing() {
    let modules = sources();
    let deciding: Vec<&str> = modules
        .paths()
        .filter(|module| module.starts_with("resource::"))
        .filter(|module| DECIDING.contains(&module.rsplit("::").next().unwrap_or_default()))
        .collect();
    assert!(DECIDING.iter().all(|name| deciding.iter().any(|module| module.ends_with(name))), "{deciding:?}");
    for module in deciding {
        // Their tests may read files.
        let text = modules.text(module).split("#[cfg(test)]").next().unwrap_or_default();
        for reading in [
            "std::fs",
            "std::env",
            "git2::",
            "Place::",
            "Dir::open",
            "read_file",
            "program::",
            "Command::new",
            "SystemTime::now",
        ] {
            assert!(!text.contains(reading), "{module} has {reading}");
        }
    }
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
