//! Docker Compose itself tells what containers get. `scripts/setup --tests` installs it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::host::secret::{Digester, Secret};
use crate::host::testing::{chmod, now};
use crate::resource::compose_env::{Actual, Change, ComposeEnv};
use crate::resource::{Cause, Diff, ExecuteContext, Failure, ObserveContext, Reaction, Reacts, Resource};

/// What `docker compose config` shows of each service.
pub type Config = BTreeMap<String, Value>;

/// Runs `docker compose config` in a folder. An error is Compose's own message.
pub fn config(folder: &Path, arguments: &[String]) -> Result<Config, String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/docker-compose");
    let mut command = Command::new(&program);
    command.env_clear().env("HOME", "/nonexistent").current_dir(folder);
    command.args(["--profile", "*"]).args(arguments).args(["config", "--format", "json"]);
    let output =
        command.output().unwrap_or_else(|error| panic!("{}: {error}; scripts/setup --tests", program.display()));
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let config: Value = serde_json::from_slice(&output.stdout).unwrap();
    let services = config["services"].as_object().cloned().unwrap_or_default();
    let granted = |service: &Value| {
        let names = ["secrets", "configs"].into_iter().flat_map(|kind| {
            let items = service[kind].as_array().cloned().unwrap_or_default().into_iter();
            items.map(move |item| (kind, item["source"].as_str().unwrap_or_default().to_owned()))
        });
        names.map(|(kind, name)| config[kind][&name].clone()).collect::<Vec<Value>>()
    };
    let with_grants = services.iter().map(|(name, service)| {
        let mut service = service.clone();
        service["granted"] = granted(&service).into();
        (name.clone(), service)
    });
    Ok(with_grants.collect())
}

/// The value of a variable as a container gets it.
pub fn value_of(config: &Config, service: &str, variable: &str) -> Option<String> {
    config[service]["environment"][variable].as_str().map(|value| value.replace("$$", "$"))
}

/// A folder with a compose project, and a step for one of its files.
pub struct Folder {
    pub home: tempfile::TempDir,
    pub step: ComposeEnv,
    pub value: String,
}

impl Folder {
    /// `files` are names with their texts. The step is about the first one.
    pub fn new(files: &[(&str, &str)], service: Option<&str>) -> Self {
        Self::within(&std::env::temp_dir(), files, service)
    }

    pub fn within(folder: &Path, files: &[(&str, &str)], service: Option<&str>) -> Self {
        let home = tempfile::tempdir_in(folder).unwrap();
        // The mode of the files must not cause a warning.
        chmod(home.path(), 0o700);
        for (name, text) in files {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let step = serde_json::json!({ "file": home.path().join(files[0].0), "variable": "PW",
            "value": { "env": "PW" }, "service": service });
        Self { home, step: serde_json::from_value(step).unwrap(), value: "s3cr3t".to_owned() }
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// Sets the step's `env_file`.
    pub fn name_env_file(&mut self, path: &Path) {
        let mut step = serde_json::to_value(&self.step).unwrap();
        step["env_file"] = path.to_str().into();
        self.step = serde_json::from_value(step).unwrap();
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn context(&self) -> ObserveContext {
        let secret = Secret::new(self.value.as_bytes().to_vec());
        ObserveContext::on_host(Digester::with_key([7; 32]), [("value".to_owned(), secret)].into())
    }

    pub fn observe(&self) -> Actual {
        now(self.step.observe(&self.context())).unwrap()
    }

    pub fn plan(&self) -> Result<Diff<Change>, Failure> {
        self.step.diff(&self.observe())
    }

    /// Makes the changes. Returns the plan and the follow-ups.
    pub fn apply(&self) -> Result<(Diff<Change>, Vec<Reaction>), Failure> {
        let actual = self.observe();
        let diff = self.step.diff(&actual)?;
        for change in &diff.changes {
            now(self.step.execute(change, &ExecuteContext::new(self.context(), "run-1")))?;
        }
        let stale: BTreeSet<String> = diff.changes.iter().flat_map(|change| self.step.stale(&actual, change)).collect();
        let stale: Vec<String> = stale.into_iter().collect();
        let replaced = |path: &Path| diff.changes.iter().any(|change| change.path() == path);
        let cause = Cause { replaced: &replaced, stale: Some(&stale) };
        let follow_ups = if diff.changes.is_empty() { Vec::new() } else { self.step.follow_ups(&actual, &cause) };
        let again = self.plan()?;
        assert_eq!(again.changes, [], "a second plan");
        Ok((diff, follow_ups))
    }

    /// What Compose says of the project, with the options of a follow-up's command.
    pub fn config(&self, reaction: Option<&Reaction>) -> Config {
        let options = reaction.map(options).unwrap_or_default();
        // The arguments mean the same project from any directory.
        let folder = if reaction.is_some() { Path::new("/") } else { self.path() };
        config(folder, &options).unwrap()
    }
}

/// The `-f` options of a command.
fn options(reaction: &Reaction) -> Vec<String> {
    let words = reaction.argv.iter().skip(2);
    words.take_while(|word| word.as_str() != "up" && word.as_str() != "ps").cloned().collect()
}

#[test]
fn extending_services_are_recreated_too() {
    for (text, env) in [
        ("services:\n  base: { image: y, environment: { PW: old } }\n  web: { extends: base }\n", "A=b\n"),
        (
            "services:\n  base: { image: y, environment: { PW: '${PW}' } }\n  web: { extends: { service: base } }\n",
            "PW=old\n",
        ),
    ] {
        let folder = Folder::new(&[("docker-compose.yml", text), (".env", env)], None);
        let (_, follow_ups) = folder.apply().unwrap();
        assert_eq!(follow_ups[0].services, ["base", "web"], "{text}");
        for service in ["base", "web"] {
            assert_eq!(value_of(&folder.config(None), service, "PW").as_deref(), Some("s3cr3t"));
        }
    }
}

#[test]
fn a_step_for_one_service_is_refused_if_another_one_gets_the_value() {
    let secret = "services:\n  web: { image: x, environment: { PW: '${PW}' } }\n  db: { image: x, secrets: [s] }\nsecrets: { s: { environment: PW } }\n";
    for (text, service, env, other) in [
        ("services:\n  base: { image: y, environment: { PW: old } }\n  web: { extends: base }\n", "base", "", "web"),
        ("services:\n  base: { image: y, environment: { PW: old } }\n  web: { extends: base }\n", "web", "", "base"),
        (
            "services:\n  base: { image: y, environment: { PW: old } }\n  web: { extends: { service: base, file: docker-compose.yml } }\n",
            "base",
            "",
            "web",
        ),
        (
            "services:\n  base: { image: y, environment: { PW: '${PW}' } }\n  web: { extends: base }\n",
            "base",
            "PW=old",
            "web",
        ),
        (
            "services:\n  web: { image: x, environment: { PW: '${PW}' } }\n  db: { image: x, env_file: .env }\n",
            "web",
            "PW=old",
            "db",
        ),
        (
            "services:\n  web: { image: x, environment: { PW: '${PW}' } }\n  db: { image: x, env_file: [{ path: ./.env, format: raw }] }\n",
            "web",
            "PW=old",
            "db",
        ),
        (
            "services:\n  web: { image: x, environment: { PW: '${PW}' } }\n  db: { image: x, labels: ['a=${PW}'] }\n",
            "web",
            "PW=old",
            "db",
        ),
        (secret, "web", "PW=old", "db"),
        (&secret.replace("secrets", "configs"), "web", "PW=old", "db"),
    ] {
        let folder = Folder::new(&[("docker-compose.yml", text), (".env", env)], Some(service));
        let refusal = folder.plan().unwrap_err();
        assert!(refusal.message.contains(&format!("shares its value with {other}")), "{text}: {refusal:?}");
        assert_eq!(folder.text("docker-compose.yml"), text);
        // Without `service`, all of them are meant.
        let folder = Folder::new(&[("docker-compose.yml", text), (".env", env)], None);
        let (diff, follow_ups) = folder.apply().unwrap();
        let found: BTreeSet<&str> = follow_ups[0].services.iter().map(String::as_str).collect();
        assert_eq!(found, [service, other].into(), "{text}");
        let described = format!("{:?}", diff.changes);
        assert!(!text.contains("secrets") || described.contains("secrets, line 4"), "{described}");
    }
}

/// The command without the change of the directory.
#[track_caller]
pub fn in_folder<'a>(folder: &Folder, reaction: &'a Reaction) -> &'a str {
    let entered = format!("cd {} && ", folder.path().display());
    reaction.command.strip_prefix(&entered).unwrap_or_else(|| panic!("{}", reaction.command))
}

pub const LITERAL: &str = "services:\n  web: { image: x, environment: { PW: old } }\n";
pub const REFERENCE: &str = "services:\n  web: { image: x, environment: { PW: '${PW}' } }\n";

/// Asserts that a warning comes exactly if Compose gives the service another value.
#[track_caller]
pub fn assert_warning_matches_compose(folder: &Folder, expected: &str) {
    let planned = folder.plan().unwrap().warnings;
    let (_, _) = folder.apply().unwrap();
    let arrived = value_of(&folder.config(None), "web", "PW").as_deref() == Some(&folder.value);
    let warnings = folder.plan().unwrap().warnings;
    assert_eq!(planned, warnings);
    assert_eq!(warnings.is_empty(), arrived, "{expected}: {warnings:?}");
    for warning in warnings {
        assert!(warning.contains("web will not get this value of PW") && warning.contains(expected), "{warning}");
    }
}

#[test]
fn an_override_is_warned_of_if_the_value_does_not_arrive() {
    for (over, is_warned) in [
        ("{ PW: other }", true),
        ("[ PW=other ]", true),
        ("{ PW: '${PW:-dev}' }", true),
        ("{ PW: '${PW}' }", true),
        ("{ PW: }", true),
        ("[ PW ]", true),
        ("!reset {}", true),
        ("!override { A: b }", true),
        ("{ PW: !reset null }", true),
        ("{ PW: s3cr3t }", false),
        ("{ A: b }", false),
        ("", false),
    ] {
        let over = format!("services:\n  web:\n    environment: {over}\n");
        for name in ["docker-compose.override.yml", "compose.override.yaml"] {
            let folder = Folder::new(&[("docker-compose.yml", LITERAL), (name, &over)], None);
            assert_eq!(!folder.plan().unwrap().warnings.is_empty(), is_warned, "{over}");
            assert_warning_matches_compose(&folder, name);
        }
        // A list of files decides, and what comes before the file does not.
        let listed = [
            ("docker-compose.yml", LITERAL),
            ("prod.yml", &*over),
            (".env", "COMPOSE_FILE=docker-compose.yml:prod.yml"),
        ];
        assert_warning_matches_compose(&Folder::new(&listed, None), "");
        if !over.ends_with("environment: \n") {
            let listed = [
                ("docker-compose.yml", LITERAL),
                ("prod.yml", &*over),
                (".env", "COMPOSE_FILE=prod.yml:docker-compose.yml"),
            ];
            assert_warning_matches_compose(&Folder::new(&listed, None), "");
        }
        // The same reference in both files gets the value.
        let folder = Folder::new(
            &[("docker-compose.yml", REFERENCE), ("compose.override.yml", &over), (".env", "PW=old")],
            None,
        );
        assert_warning_matches_compose(&folder, "");
    }
}

#[test]
fn a_file_that_includes_is_warned_of_and_commanded() {
    let top = "include: [{ path: [base.yml, more.yml] }]\nservices: { other: { image: x } }\n";
    for more in ["{ PW: other }", "{ PW: '${PW}' }", "{ A: b }"] {
        let more = format!("services:\n  web:\n    environment: {more}\n");
        let folder = Folder::new(&[("base.yml", LITERAL), ("more.yml", &more), ("compose.yml", top)], None);
        assert_warning_matches_compose(&folder, "");
    }
    let folder = Folder::new(&[("base.yml", LITERAL), ("compose.yml", "include: [base.yml]\n")], None);
    let (_, follow_ups) = folder.apply().unwrap();
    assert_eq!(in_folder(&folder, &follow_ups[0]), "docker compose up -d --force-recreate web");
    // From a folder above, where the project is.
    let folder = Folder::new(&[("db/compose.yml", LITERAL), ("compose.yml", "include: [db/compose.yml]\n")], None);
    let (_, follow_ups) = folder.apply().unwrap();
    assert_eq!(in_folder(&folder, &follow_ups[0]), "docker compose up -d --force-recreate web");
    assert_eq!(folder.config(follow_ups.first()), folder.config(None));
    // A file that is extended.
    let extends = "services:\n  web: { extends: { file: common.yml, service: web } }\n  db: { image: y }\n";
    let folder = Folder::new(&[("common.yml", LITERAL), ("compose.yml", extends)], None);
    let (_, follow_ups) = folder.apply().unwrap();
    assert_eq!(in_folder(&folder, &follow_ups[0]), "docker compose up -d --force-recreate web");
    assert_eq!(value_of(&folder.config(None), "web", "PW").as_deref(), Some("s3cr3t"));
}

/// A service of the file is extended by one with another name, which Compose gives the values of its own `.env`.
#[test]
fn an_extending_service_that_does_not_get_the_value_is_warned_of() {
    let web = |base: &str, more: &str| format!("services:\n  web: {{ extends: {{ {base} }}{more} }}\n");
    let base = |environment: &str| format!("services:\n  b: {{ image: x, environment: {{ {environment} }} }}\n");
    let (below, own) = ("file: base/common.yml, service: b", ", environment: { PW: own }");
    let chain = "services:\n  a: { extends: { file: common.yml, service: b } }\n";
    for (file, extends, more, env, is_warned) in [
        ("PW: '${PW}'", below, "", "PW=y", true),
        ("PW: '${PW}'", below, "", "", true),
        ("PW: '${PW}'", "file: base/chain.yml, service: a", "", "PW=y", true),
        ("PW: old", below, "", "PW=y", false),
        ("PW: old", below, own, "", true),
        ("PW: old", "file: base/chain.yml, service: a", "", "", false),
    ] {
        let folder = Folder::new(
            &[
                ("base/common.yml", &base(file)),
                ("base/.env", "PW=x\n"),
                ("base/chain.yml", chain),
                ("compose.yaml", &web(extends, more)),
                (".env", &format!("{env}\n")),
            ],
            None,
        );
        assert_eq!(!folder.plan().unwrap().warnings.is_empty(), is_warned, "{file} {extends} {more}");
        assert_warning_matches_compose(&folder, "");
    }
    // The nearest service of the file decides.
    let two = "services:\n  b: { image: x, environment: { PW: old } }\n  m: { extends: b, environment: { PW: own } }\n";
    let web_of_m = web("file: common.yml, service: m", "");
    let folder = Folder::new(&[("common.yml", two), ("compose.yaml", &web_of_m)], Some("b"));
    assert_eq!(folder.plan().unwrap().warnings, Vec::<String>::new());
    // A service of the project that only has the same name does not get the value by right.
    let folder = Folder::new(
        &[
            ("common.yml", LITERAL),
            (
                "compose.yaml",
                "services:\n  api: { extends: { file: common.yml, service: web } }\n  web: { image: y }\n",
            ),
        ],
        None,
    );
    assert_eq!(folder.plan().unwrap().warnings, Vec::<String>::new());
}

#[test]
fn the_command_is_that_of_the_whole_project() {
    let prod = "services: { web: { ports: ['80:80'], restart: always } }\n";
    for env in [
        "COMPOSE_FILE=docker-compose.yml:prod.yml\n",
        "COMPOSE_PATH_SEPARATOR=,\nCOMPOSE_FILE=docker-compose.yml,prod.yml\n",
    ] {
        let folder = Folder::new(&[("docker-compose.yml", LITERAL), ("prod.yml", prod), (".env", env)], None);
        let (_, follow_ups) = folder.apply().unwrap();
        assert_eq!(in_folder(&folder, &follow_ups[0]), "docker compose up -d --force-recreate web");
        assert_eq!(folder.config(follow_ups.first()), folder.config(None));
        assert_eq!(folder.config(None)["web"]["restart"], "always");
    }
    // The first file is in another folder than `.env`.
    let mounted = "services:\n  web: { image: x, environment: { PW: '${PW}' }, volumes: ['./d:/d'] }\n";
    let env = "COMPOSE_FILE=sub/a.yml\nPW=old\n";
    let mut folder = Folder::new(&[("sub/a.yml", mounted), (".env", env)], None);
    folder.name_env_file(&folder.path().join(".env"));
    let (_, follow_ups) = folder.apply().unwrap();
    assert_eq!(value_of(&folder.config(None), "web", "PW").as_deref(), Some("s3cr3t"));
    assert_eq!(folder.config(follow_ups.first()), folder.config(None));
    // An override file is no project by itself.
    let over = "services: { web: { environment: { PW: old } } }\n";
    let base = "services: { web: { image: x, environment: { A: b } } }\n";
    let folder = Folder::new(&[("docker-compose.override.yml", over), ("docker-compose.yml", base)], None);
    let (_, follow_ups) = folder.apply().unwrap();
    assert_eq!(in_folder(&folder, &follow_ups[0]), "docker compose up -d --force-recreate web");
    assert_eq!(value_of(&folder.config(follow_ups.first()), "web", "PW").as_deref(), Some("s3cr3t"));
    // Neither is a file that is passed beside the default one.
    let folder = Folder::new(&[("prod.yml", over), ("compose.yml", base)], None);
    let (_, follow_ups) = folder.apply().unwrap();
    assert_eq!(value_of(&folder.config(follow_ups.first()), "web", "PW").as_deref(), Some("s3cr3t"));
    // One that is complete is named.
    let folder = Folder::new(&[("prod.yml", LITERAL), ("compose.yml", base)], None);
    let (_, follow_ups) = folder.apply().unwrap();
    let file = folder.path().join("prod.yml");
    assert_eq!(
        follow_ups[0].argv.join(" "),
        format!("docker compose -f {} up -d --force-recreate web", file.display())
    );
}

#[test]
fn a_file_that_compose_ignores_is_warned_of() {
    let names = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
    for (at, taken) in names.iter().enumerate() {
        for ignored in &names[at + 1..] {
            let folder = Folder::new(&[(*ignored, LITERAL), (*taken, LITERAL)], None);
            let (diff, follow_ups) = folder.apply().unwrap();
            let told = format!(
                "uses {}, and not {}",
                folder.path().join(taken).display(),
                folder.path().join(ignored).display()
            );
            assert!(diff.warnings[0].contains(&told), "{diff:?}");
            assert_eq!(follow_ups, []);
            assert_eq!(value_of(&folder.config(None), "web", "PW").as_deref(), Some("old"));
            let folder = Folder::new(&[(*taken, LITERAL), (*ignored, LITERAL)], None);
            assert_eq!(folder.apply().unwrap().0.warnings, [""; 0]);
        }
    }
    let over = "services: { web: { environment: { PW: old } } }\n";
    let overrides = [("docker-compose.override.yml", over), ("compose.override.yml", over), ("compose.yml", LITERAL)];
    assert!(Folder::new(&overrides, None).plan().unwrap().warnings[0].contains("and not"));
    let listed = [("compose.yml", LITERAL), ("prod.yml", LITERAL), (".env", "COMPOSE_FILE=prod.yml")];
    assert!(Folder::new(&listed, None).plan().unwrap().warnings[0].contains("prod.yml, and not"));
}

#[test]
fn services_that_a_plain_up_would_not_start_are_only_named() {
    let text = "\
x-env: &env { environment: { PW: old } }
services:
  web: { image: x, <<: *env, depends_on: { init: { condition: service_completed_successfully } } }
  init: { image: x, <<: *env }
  flower: { image: x, <<: *env, profiles: [flower] }
  cli: { image: x, <<: *env, profiles: [debug] }
  idle: { image: x, <<: *env, scale: 0 }
  none: { image: x, <<: *env, deploy: { replicas: 0 } }
";
    let folder = Folder::new(&[("docker-compose.yml", text)], None);
    let (_, follow_ups) = folder.apply().unwrap();
    assert_eq!(in_folder(&folder, &follow_ups[0]), "docker compose up -d --force-recreate web");
    let told = "; so do init (runs once), flower (profile flower), cli (profile debug), idle (scale 0), none (scale 0), if they are running";
    assert!(follow_ups[0].reason.ends_with(told), "{}", follow_ups[0].reason);
    let folder = Folder::new(&[("docker-compose.yml", text), (".env", "COMPOSE_PROFILES=flower,x\n")], None);
    assert_eq!(folder.apply().unwrap().1[0].services, ["web", "flower"]);
    // Nothing is started if none of them is started by itself.
    let text = "services:\n  cli: { image: x, environment: { PW: old }, profiles: [debug] }\n";
    let folder = Folder::new(&[("docker-compose.yml", text)], None);
    let (_, follow_ups) = folder.apply().unwrap();
    assert_eq!(in_folder(&folder, &follow_ups[0]), "docker compose --profile debug ps cli");
    assert!(follow_ups[0].reason.starts_with("recreate cli (profile debug) if it is running"));
}
