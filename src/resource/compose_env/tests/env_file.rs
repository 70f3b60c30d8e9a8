//! Tests `.env` in places other than beside the compose file.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::host::fs::Locator;
use crate::host::fs::escape_path;
use crate::host::testing::{attributes, chmod, chown, context, converge, desired, folder, now, plan};
use crate::resource::compose_env::{Change, ComposeEnv};
use crate::resource::{Change as _, Diff, ExecuteContext, ObserveContext, Resource};

const REFERENCE: &str = "services:\n  web:\n    environment:\n      PW: ${PW:-d}\n";

fn cx() -> ObserveContext {
    context(Some(b"s3cret"))
}

fn host(text: &str) -> TempDir {
    let top = folder();
    std::fs::write(top.path().join("docker-compose.yml"), text).unwrap();
    top
}

fn step(top: &Path, env_file: &str) -> ComposeEnv {
    let file = top.join("docker-compose.yml");
    let env_file = top.join(env_file);
    desired(&json!({ "file": file, "variable": "PW", "value": { "env": "PW" }, "env_file": env_file }).to_string())
}

fn message(planned: Result<Diff<Change>, crate::failure::Failure>) -> String {
    planned.unwrap_err().message
}

#[test]
fn a_new_env_file_gets_its_missing_parents() {
    let top = host(REFERENCE);
    let top = top.path();
    chown(top, 4321, 4322);
    chown(&top.join("docker-compose.yml"), 4321, 4322);
    let diff = converge(&step(top, "no/dir/.env"), &cx(), top);
    let no = escape_path(&top.join("no"));
    assert_eq!(
        diff.changes[0].describe().summary,
        format!("create .env with PW, mode 0600, and its parents {no}, {no}/dir")
    );
    assert!(!top.join(".env").exists(), "the value is in another place");
    assert_eq!(std::fs::read_to_string(top.join("no/dir/.env")).unwrap(), "PW='s3cret'\n");
    assert_eq!(attributes(&top.join("no/dir/.env")), (4321, 4322, 0o600));
    assert_eq!(attributes(&top.join("no/dir")), (4321, 4322, 0o755), "as its own parent");
}

/// Only where the value may be in the environment file.
#[test]
fn the_step_creates_its_env_file_and_not_the_compose_file() {
    let host = Locator::default();
    for (text, is_created) in
        [(Some(REFERENCE), true), (None, true), (Some("services:\n  web:\n    environment:\n      PW: value\n"), false)]
    {
        let top = folder();
        if let Some(text) = text {
            std::fs::write(top.path().join("docker-compose.yml"), text).unwrap();
        }
        let creates = step(top.path(), ".env").claims(&host).creates;
        assert_eq!(creates, is_created.then(|| top.path().join(".env")), "{text:?}");
    }
}

/// A file of the same name above is another one.
#[test]
fn a_file_above_a_missing_directory_is_left_alone() {
    let top = host(REFERENCE);
    let top = top.path();
    std::fs::create_dir(top.join("dir")).unwrap();
    for name in [".env", "dir/.env"] {
        std::fs::write(top.join(name), "PW=old\n").unwrap();
    }
    let step = step(top, "dir/.env");
    let change = plan(&step, &cx()).unwrap().unwrap().changes.remove(0);
    std::fs::remove_dir_all(top.join("dir")).unwrap();
    now(step.execute(&change, &ExecuteContext::new(cx(), "run-1"))).unwrap_err();
    let mode = Change::EnvFileMode { path: top.join("dir/.env"), from: "0644".into(), to: "0600".into() };
    now(step.execute(&mode, &ExecuteContext::new(cx(), "run-1"))).unwrap_err();
    assert_eq!(std::fs::read_to_string(top.join(".env")).unwrap(), "PW=old\n");
    assert_eq!(attributes(&top.join(".env")).2, 0o644);
}

#[test]
fn a_creation_matches_its_plan_if_its_parents_were_created_meanwhile() {
    let create = |parents: &[&str]| -> Change {
        serde_json::from_value(
            json!({ "change": "create_env_file", "path": "/a/b/.env", "parents": parents, "names": ["PW"] }),
        )
        .unwrap()
    };
    let planned = create(&["/a", "/a/b"]);
    for left in [&["/a", "/a/b"][..], &["/a/b"], &[]] {
        assert!(create(left).is_left_of(&planned), "{left:?}");
    }
    assert!(!create(&["/a"]).is_left_of(&planned));
}

#[test]
fn a_compose_file_is_not_edited_as_an_env_file() {
    let top = host(REFERENCE);
    let top = top.path();
    let file = top.join("docker-compose.yml");
    symlink("docker-compose.yml", top.join("link")).unwrap();
    symlink(top, top.join("here")).unwrap();
    std::fs::hard_link(&file, top.join("hard")).unwrap();
    for spelling in ["docker-compose.yml", "./docker-compose.yml", "link", "here/docker-compose.yml", "hard"] {
        let error = plan(&step(top, spelling), &cx()).map_or_else(|failure| failure.message, message);
        // Root does not follow a symlink of another user.
        let by_symlink = error.contains("is a symlink") && (spelling == "link" || spelling.starts_with("here/"));
        assert!(by_symlink || (error.contains("`file`") && error.contains("`env_file`")), "{spelling}: {error}");
    }
    // Compose reads `KEY: value` in .env too.
    std::fs::write(top.join("other.yml"), "services:\n  db:\n    image: pg\n").unwrap();
    let error = message(plan(&step(top, "other.yml"), &cx()).unwrap());
    assert!(error.contains("other.yml is a compose file"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), REFERENCE);
}

#[test]
fn keys_that_name_one_file_are_refused_when_they_are_read() {
    let read = |yaml: &str| ComposeEnv::read(serde_yaml::Deserializer::from_str(yaml)).unwrap();
    for keys in ["file: /a/c.yml\nenv_file: /a/./c.yml", "file: /a//c.yml\nenv_file: /a/c.yml/", "file: /a/.env"] {
        let error = read(&format!("variable: PW\n{keys}")).unwrap_err().failure.message;
        assert!(error.contains("`file`") && error.contains("`env_file`"), "{keys}: {error}");
    }
    assert!(read("variable: PW\nfile: /a/c.yml\nenv_file: /b/c.yml").is_ok());
    assert!(read("variable: PW\nfile: /a/.env\nenv_file: /a/c.env").is_ok());
}

#[test]
fn manual_lines_name_the_env_file() {
    let with = |yaml: &str| desired::<ComposeEnv>(&format!("variable: PW\n{yaml}")).manual().pop().unwrap();
    assert_eq!(
        with("file: /a/compose.yml\nenv_file: /b/prod env"),
        "docker compose --env-file '/b/prod env' config --quiet && docker compose --env-file '/b/prod env' up -d"
    );
    assert_eq!(
        with("file: /a/x.yml\nenv_file: /b/.env"),
        "docker compose --env-file /b/.env -f x.yml config --quiet && docker compose --env-file /b/.env -f x.yml up -d"
    );
}

#[test]
fn a_secret_in_a_file_that_everybody_can_read_is_a_warning() {
    let top = host("services:\n  web:\n    environment:\n      PW: old\n");
    let top = top.path();
    let file = top.join("docker-compose.yml");
    let step: ComposeEnv = desired(&json!({ "file": file, "variable": "PW", "value": { "env": "PW" } }).to_string());
    let planned = |secret: Option<&[u8]>| plan(&step, &context(secret)).unwrap().unwrap();
    chmod(&file, 0o644);
    chmod(top, 0o700);
    assert_eq!(planned(Some(b"s3cret")).warnings, Vec::<String>::new(), "its directory has mode 0700");
    chmod(top, 0o711);
    let diff = planned(Some(b"s3cret"));
    assert!(diff.warnings[0].starts_with("everybody can read ") && diff.warnings[0].contains("write ${PW} there"));
    assert!(!diff.notes.iter().any(|note| note.contains("everybody")), "{:?}", diff.notes);
    assert_eq!(planned(Some(b"")).warnings, Vec::<String>::new(), "nothing to read");
    chmod(&file, 0o640);
    assert_eq!(planned(Some(b"s3cret")).warnings, Vec::<String>::new());
    chmod(&file, 0o644);
    converge(&step, &cx(), top);
    let diff = planned(Some(b"s3cret"));
    assert!(diff.changes.is_empty() && diff.warnings[0].starts_with("everybody can read "), "{:?}", diff.warnings);
}
