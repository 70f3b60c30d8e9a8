//! What containers are created from: mounts in both forms, env files, secrets and configs, through anchors and merges.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::document;
use super::super::model::{self, Model};
use super::super::occurrences;
use super::super::uses;
use crate::yaml::Document;

fn model(text: &str) -> Model {
    let read = |path: &Path| {
        let text = match path.to_str().unwrap() {
            "/srv/app/docker-compose.yml" => Some(text),
            "/srv/app/.env" => Some("KEYS=../keys"),
            _ => None,
        };
        Ok(text.map(|text| Zeroizing::new(text.to_owned())))
    };
    let files = [PathBuf::from("/srv/app/docker-compose.yml")];
    model::load(Path::new("/srv/app"), &files, Some(Path::new("/home/ubuntu")), &read).unwrap()
}

/// The files of each service.
fn services(text: &str) -> BTreeMap<String, Vec<String>> {
    let files = |service: &model::Service| {
        service.files().into_iter().chain(service.env_files()).map(|path| path.display().to_string()).collect()
    };
    model(text).services.iter().map(|(name, service)| (name.clone(), files(service))).collect()
}

#[test]
fn a_variable_of_the_env_file_is_found_wherever_else_it_is_put_in() {
    let source = "\
x-unused: { image: 'a:${PW}' }
x-common: &common
  labels: { note: 'x$PW' }
x-pw: &pw ${PW}
services:
  db:
    <<: *common
    image: pg:${PW:-16}
    environment: { PW: *pw, OTHER: *pw, MORE: '$$PW ${PWX}' }
  web:
    environment: [ 'PW=${PW}', 'URL=pg://u:${PW}@db' ]
    command: [ run, $PW ]
    build: { args: { PW: } }
  bare:
    environment: [ PW ]
";
    let document = document::parse(source).unwrap();
    let elsewhere = |document: &Document, variable: &str, name: &str| {
        let names = BTreeSet::from([name, "NOT_THERE"]);
        let mut found = uses::elsewhere(document, variable, &names);
        assert_eq!(found.remove("NOT_THERE"), Some(Vec::new()));
        found.remove(name).unwrap()
    };
    assert_eq!(
        elsewhere(&document, "PW", "PW"),
        [
            "x-common, line 3",
            "service db, line 8",
            "service db, line 9",
            "service web, line 11",
            "service web, line 12"
        ]
    );
    let other = "services: { a: { environment: { X: '${PW}' } }, b: { environment: [ PW, 'PW=1', 'X=$PW' ] } }";
    assert_eq!(elsewhere(&document::parse(other).unwrap(), "X", "PW"), ["service b, line 1"]);
}

/// There may be a variable for each service.
#[test]
fn the_places_of_many_variables_are_found() {
    let services =
        (0..2000).map(|at| format!("  s{at}: {{ image: 'x:${{V{at}}}', environment: {{ PW: '${{V{at}}}' }} }}\n"));
    let source = format!("services:\n{}", services.collect::<String>());
    let document = document::parse(&source).unwrap();
    let names: Vec<String> = (0..2000).map(|at| format!("V{at}")).collect();
    let found = uses::elsewhere(&document, "PW", &names.iter().map(String::as_str).collect());
    assert!(names.iter().enumerate().all(|(at, name)| found[name] == [format!("service s{at}, line {}", at + 2)]));
}

#[test]
fn services_may_be_merged_in() {
    let source = "x-base: &base { db: { environment: [ PW=1 ] }, web: { image: x } }
services: { <<: *base, web: { extends: { file: a.yml, service: w }, environment: { PW: 2 } } }\ninclude: [ b.yml ]";
    let document = document::parse(source).unwrap();
    let found = occurrences::find(&document, "PW", None);
    let services: Vec<_> = found.occurrences.iter().map(|occurrence| &occurrence.services).collect();
    assert_eq!(services, [&["db".to_owned()].into(), &["web".to_owned()].into()]);
    assert_eq!(found.not_searched.iter().collect::<Vec<_>>(), ["extends", "include"]);
}

fn files(volumes: &str) -> Vec<String> {
    services(&format!("services:\n  web:\n    volumes: [{volumes}]\n"))["web"].clone()
}

#[test]
fn a_bind_mount_has_many_spellings() {
    for (volume, path) in [
        ("./key.pem:/key.pem:ro", "/srv/app/key.pem"),
        ("../key.pem:/key.pem", "/srv/key.pem"),
        (".:/app", "/srv/app"),
        ("./a/./b/../c:/c", "/srv/app/a/c"),
        ("/etc/hosts:/etc/hosts", "/etc/hosts"),
        ("~/key.pem:/key.pem", "/home/ubuntu/key.pem"),
        ("~:/home", "/home/ubuntu"),
        ("'${KEYS}/key.pem:/key.pem'", "/srv/keys/key.pem"),
        ("'${NONE:-./key.pem}:/key.pem'", "/srv/app/key.pem"),
        ("{ type: bind, source: ./key.pem, target: /k }", "/srv/app/key.pem"),
        ("{ type: bind, source: '${KEYS}/key.pem', target: /k }", "/srv/keys/key.pem"),
    ] {
        assert_eq!(files(volume), [path], "{volume}");
    }
}

#[test]
fn what_is_no_bind_mount_is_none() {
    for volume in [
        "data:/var/lib/data",
        "data",
        "{ type: volume, source: data, target: /data }",
        "{ type: tmpfs, target: /tmp }",
        "'~other/key.pem:/key.pem'",
        "'${NONE:?has to be set}:/key.pem'",
        "[]",
        "{}",
        "1",
    ] {
        assert_eq!(files(volume), [""; 0], "{volume}");
    }
}

#[test]
fn anchors_and_merges_are_followed() {
    let found = services(
        "x-common: &common
  environment: &environment
    PASSWORD: ${SMTP_PASSWORD:-none}
    INHERITED:
  volumes: &volumes
    - &key ./key.pem:/key.pem
services:
  one:
    <<: *common
  two:
    <<: [*common]
    volumes: [./other:/other, *key]
    environment: [TOKEN, A=$B]
  three:
    volumes: *volumes
    environment:
      <<: *environment
  four: {}
",
    );
    let key = "/srv/app/key.pem";
    assert_eq!(found["one"], [key]);
    assert_eq!(found["two"], [key, "/srv/app/other"]);
    assert_eq!(found["three"], [key]);
    assert_eq!(found["four"], [""; 0]);
}

#[test]
fn env_files_secrets_and_configs_are_read_at_creation() {
    let found = services(
        "services:
  one: { env_file: .env }
  two: { env_file: [a.env, { path: ./b.env, required: false }] }
  three: { secrets: [key, elsewhere], configs: [{ source: settings, target: /x }] }
secrets:
  key: { file: ./key.pem }
  elsewhere: { external: true }
configs:
  settings: { file: /etc/settings }
",
    );
    assert_eq!(found["one"], ["/srv/app/.env"]);
    assert_eq!(found["two"], ["/srv/app/a.env", "/srv/app/b.env"]);
    assert_eq!(found["three"], ["/etc/settings", "/srv/app/key.pem"]);
}

#[test]
fn an_odd_file_has_no_uses() {
    for text in ["", "# nothing\n", "services:\n", "services: 1\n", "services: [a]\n", "services:\n  web: 1\n", "[]\n"]
    {
        assert!(services(text).values().all(Vec::is_empty), "{text}");
    }
}
