//! Random projects: the edit does what Docker Compose says that it does. `PROPTEST_CASES=500` tries more of them.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::oracle::{Config, Folder, config, value_of};
use crate::resource::compose_env::actual::ComposeFile;
use crate::resource::compose_env::dotenv;

const NAMES: [&str; 4] = ["base", "web", "db", "cli"];

/// The environment of a service: an optional tag, whether it is a list, and the entries.
#[derive(Debug, Clone)]
struct Environment {
    tag: &'static str,
    is_list: bool,
    entries: Vec<(&'static str, Option<&'static str>)>,
}

#[derive(Debug, Clone)]
struct Service {
    environment: Option<Environment>,
    /// The service that it extends, by its place in `NAMES`, and how that is written.
    extends: Option<(usize, u8)>,
    merges: Option<&'static str>,
    env_files: Vec<&'static str>,
    label: Option<&'static str>,
    command: Option<&'static str>,
    secret: bool,
    profile: bool,
}

#[derive(Clone)]
struct Project {
    services: Vec<Service>,
    over: Option<Vec<Option<Service>>>,
    is_listed: bool,
    block: Environment,
    env: Vec<(&'static str, &'static str)>,
    other: Vec<(&'static str, &'static str)>,
    service: Option<usize>,
}

fn value() -> impl Strategy<Value = &'static str> {
    select(vec![
        "old",
        "s3cr3t",
        "other",
        "${PW}",
        "$PW",
        "${PW:-dev}",
        "${PW-dev}",
        "${A:-${PW}}",
        "${A}",
        "x-${PW}",
        "${PW:+y}",
        "$$PW",
        "${KEY}",
    ])
}

fn environment(with_tags: bool) -> impl Strategy<Value = Environment> {
    let tags = if with_tags { vec!["", "", "", "!override ", "!reset "] } else { vec![""] };
    let entries = subsequence(vec!["PW", "A", "OTHER"], 1..=3).prop_flat_map(|names| {
        names
            .into_iter()
            .map(|name| option::weighted(0.85, value()).prop_map(move |value| (name, value)))
            .collect::<Vec<_>>()
    });
    (select(tags), any::<bool>(), entries).prop_map(|(tag, is_list, entries)| Environment { tag, is_list, entries })
}

fn service(at: usize, with_tags: bool) -> impl Strategy<Value = Service> {
    (
        option::weighted(0.7, environment(with_tags)),
        option::weighted(0.4, (0..at.max(1), 0..3_u8)).prop_map(move |extends| extends.filter(|_| at > 0)),
        option::weighted(0.3, select(vec!["common", "[*common]"])),
        subsequence(vec![".env", "a.env"], 0..=2),
        option::weighted(0.15, value()),
        option::weighted(0.15, value()),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(environment, extends, merges, env_files, label, command, secret, profile)| Service {
            environment,
            extends,
            merges,
            env_files: if secret { env_files } else { Vec::new() },
            label,
            command,
            secret: secret && profile,
            profile,
        })
}

fn project() -> impl Strategy<Value = Project> {
    let plain = select(vec!["old", "s3cr3t", "'it''s'", "b"])
        .prop_map(|value| if value.starts_with('\'') { "b" } else { value });
    let entries = |names: &[&'static str]| {
        let one = (select(names.to_vec()), prop_oneof![4 => plain.clone(), 1 => select(vec!["${PW}", "\"$A\""])]);
        vec(one, 0..3)
    };
    (
        (0..NAMES.len()).map(|at| service(at, true)).collect::<Vec<_>>(),
        option::weighted(0.4, (0..NAMES.len()).map(|_| option::weighted(0.4, service(0, true))).collect::<Vec<_>>()),
        any::<bool>(),
        environment(false),
        entries(&["PW", "A", "KEY"]),
        entries(&["PW", "OTHER"]),
        option::weighted(0.3, 0..NAMES.len()),
    )
        .prop_map(|(mut services, over, is_listed, block, env, other, service)| {
            // Compose's answer depends on chance if a service with a tag is extended.
            let extended: Vec<usize> = services.iter().filter_map(|service| Some(service.extends?.0)).collect();
            for at in extended {
                if let Some(environment) = &mut services[at].environment {
                    environment.tag = "";
                }
            }
            let block = Environment { is_list: false, ..block };
            Project { services, over, is_listed, block, env, other, service }
        })
}

fn write_environment(out: &mut String, indent: &str, environment: &Environment) {
    out.push_str(&format!("{indent}environment: {}\n", environment.tag));
    for (name, value) in &environment.entries {
        out.push_str(&match (environment.is_list, value) {
            (true, Some(value)) => format!("{indent}  - \"{name}={value}\"\n"),
            (true, None) => format!("{indent}  - {name}\n"),
            (false, Some(value)) => format!("{indent}  {name}: {value}\n"),
            (false, None) => format!("{indent}  {name}:\n"),
        });
    }
}

fn write_service(out: &mut String, name: &str, service: &Service, is_top: bool) {
    out.push_str(&format!("  {name}:\n    stop_signal: SIGTERM\n"));
    if is_top {
        out.push_str("    image: x\n");
        match service.merges {
            Some("common") => out.push_str("    <<: *common\n"),
            Some(list) => out.push_str(&format!("    <<: {list}\n")),
            None => {}
        }
        if let Some((base, form)) = service.extends {
            let base = NAMES[base];
            out.push_str(&match form {
                0 => format!("    extends: {base}\n"),
                1 => format!("    extends: {{ service: {base} }}\n"),
                _ => format!("    extends: {{ service: {base}, file: docker-compose.yml }}\n"),
            });
        }
        if service.secret {
            out.push_str("    secrets: [key]\n");
        }
        if service.profile {
            out.push_str("    profiles: [some]\n");
        }
    }
    if !service.env_files.is_empty() {
        out.push_str(&format!("    env_file: [{}]\n", service.env_files.join(", ")));
    }
    if let Some(label) = service.label {
        out.push_str(&format!("    labels: {{ l: '{label}' }}\n"));
    }
    if let Some(command) = service.command {
        out.push_str(&format!("    command: [run, '{command}']\n"));
    }
    if let Some(environment) = &service.environment {
        write_environment(out, "    ", environment);
    }
}

/// As Compose reads it.
impl std::fmt::Debug for Project {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.files().iter().try_for_each(|(name, text)| write!(f, "\n== {name}\n{text}"))?;
        write!(f, "\n== service: {:?}", self.service.map(|at| NAMES[at]))
    }
}

impl Project {
    fn files(&self) -> Vec<(&'static str, String)> {
        let mut top = "x-common: &common\n".to_owned();
        write_environment(&mut top, "  ", &self.block);
        top.push_str("services:\n");
        for (name, service) in NAMES.iter().zip(&self.services) {
            write_service(&mut top, name, service, true);
        }
        top.push_str("secrets: { key: { environment: PW } }\n");
        let pairs =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>();
        let mut env = pairs(&self.env);
        let mut files = vec![("docker-compose.yml", top)];
        if let Some(over) = &self.over {
            let mut text = "services:\n".to_owned();
            for (name, service) in NAMES.iter().zip(over) {
                if let Some(service) = service {
                    write_service(&mut text, name, service, false);
                }
            }
            if text != "services:\n" {
                let name = if self.is_listed { "prod.yml" } else { "docker-compose.override.yml" };
                files.push((name, text));
                if self.is_listed {
                    env.push_str("COMPOSE_FILE=docker-compose.yml:prod.yml\n");
                }
            }
        }
        files.push((".env", env));
        files.push(("a.env", pairs(&self.other)));
        files
    }
}

/// The services of which Compose makes other containers.
fn changed(folder: &Folder, before: &Config, env_before: &str) -> BTreeSet<String> {
    let after = config(folder.path(), &[]).unwrap();
    let key = |text: &str| dotenv::values(text, &|_| None).unwrap().get("PW").map(|value| value.to_string());
    let is_key_new = key(env_before) != key(&folder.text(".env"));
    let is_new = |name: &&String| {
        let granted = before[*name]["granted"].as_array().is_some_and(|granted| !granted.is_empty());
        before[*name] != after[*name] || (granted && is_key_new)
    };
    after.keys().filter(is_new).cloned().collect()
}

#[test]
fn edits_do_what_compose_says() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24);
    let config_of_test =
        ProptestConfig { cases, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() };
    let edited = Cell::new(0);
    proptest!(config_of_test, |(project in project())| {
        let files = project.files();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let folder = Folder::new(&files, project.service.map(|at| NAMES[at]));
        let before = match config(folder.path(), &[]) {
            Ok(before) => before,
            // Compose refuses such a project, so nothing depends on the answer.
            Err(_) => return Ok(()),
        };
        let actual = folder.observe();
        let env_before = folder.text(".env");
        let (diff, follow_ups) = match folder.apply() {
            Ok(applied) => applied,
            Err(refusal) => {
                prop_assert_eq!(folder.text("docker-compose.yml"), files[0].1, "{:?}", refusal);
                prop_assert_eq!(folder.text(".env"), env_before);
                return Ok(());
            }
        };
        if !diff.changes.is_empty() {
            edited.set(edited.get() + 1);
        }
        let changed = changed(&folder, &before, &env_before);
        let named: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).filter(|name| {
            follow_ups.iter().any(|follow_up| {
                follow_up.services.contains(name) || follow_up.reason.contains(&format!("{name} (profile"))
            })
        }).collect();
        prop_assert_eq!(&named, &changed, "{:?} {:?}", diff, follow_ups);
        if let Some(at) = project.service {
            prop_assert!(changed.iter().all(|name| name == NAMES[at]), "{:?}", changed);
        }
        let after = config(folder.path(), &[]).unwrap();
        let ComposeFile::Read { occurrences, .. } = &actual.file else { panic!("{actual:?}") };
        let meant: BTreeSet<&String> = occurrences.iter().flat_map(|occurrence| &occurrence.services).collect();
        for name in meant.into_iter().filter(|name| project.service.is_none_or(|at| NAMES[at] == *name)) {
            let is_warned = diff.warnings.iter().any(|warning| {
                warning.split(" will not").next().is_some_and(|names| names.split([' ', ',']).any(|word| word == name))
            });
            let arrived = value_of(&after, name, "PW").as_deref() == Some("s3cr3t");
            prop_assert_eq!(is_warned, !arrived, "{} {:?} {}", name, diff, after[name]["environment"]);
        }
    });
    // A test that meets only projects that are refused shows nothing.
    assert!(edited.get() >= cases / 8, "only {} of {cases} projects were edited", edited.get());
}
