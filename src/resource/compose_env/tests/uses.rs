//! What containers are created from: mounts in both forms, env files, secrets and configs, through anchors and merges.

use std::path::Path;

use super::super::document;
use super::super::occurrences;
use super::super::uses::{Around, elsewhere, find};
use crate::resource::compose_env::actual::Service;

fn services(text: &str) -> Vec<Service> {
    let value = |name: &str| (name == "KEYS").then(|| "../keys".to_owned());
    let around = Around { folder: Path::new("/srv/app"), home: Some(Path::new("/home/ubuntu")), value: &value };
    find(&document::parse(text).unwrap(), &around)
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

#[test]
fn services_may_be_merged_in() {
    let source = "x-base: &base { db: { environment: [ PW=1 ] }, web: { image: x } }
services: { <<: *base, web: { extends: { file: a.yml, service: w }, environment: { PW: 2 } } }\ninclude: [ b.yml ]";
    let names: Vec<String> = services(source).into_iter().map(|service| service.name).collect();
    assert_eq!(names, ["web", "db"]);
    let document = document::parse(source).unwrap();
    let found = occurrences::find(&document, "PW", None);
    let services: Vec<_> = found.occurrences.iter().map(|occurrence| &occurrence.services).collect();
    assert_eq!(services, [&["db".to_owned()].into(), &["web".to_owned()].into()]);
    assert_eq!(found.not_searched.iter().collect::<Vec<_>>(), ["extends", "include"]);
}

fn files(volumes: &str) -> Vec<String> {
    let found = services(&format!("services:\n  web:\n    volumes: [{volumes}]\n"));
    found[0].files.iter().map(|path| path.display().to_string()).collect()
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
        "/var/lib/data",
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
    let service = |name: &str, files: &[&str], variables: &[&str]| Service {
        name: name.to_owned(),
        files: files.iter().map(Into::into).collect(),
        variables: variables.iter().map(ToString::to_string).collect(),
    };
    let key = "/srv/app/key.pem";
    assert_eq!(
        found,
        [
            service("one", &[key], &["INHERITED", "SMTP_PASSWORD"]),
            service("two", &[key, "/srv/app/other"], &["B", "INHERITED", "SMTP_PASSWORD", "TOKEN"]),
            service("three", &[key], &["INHERITED", "SMTP_PASSWORD"]),
            service("four", &[], &[]),
        ]
    );
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
    let files: Vec<Vec<String>> =
        found.iter().map(|service| service.files.iter().map(|path| path.display().to_string()).collect()).collect();
    assert_eq!(files[0], ["/srv/app/.env"]);
    assert_eq!(files[1], ["/srv/app/a.env", "/srv/app/b.env"]);
    assert_eq!(files[2], ["/etc/settings", "/srv/app/key.pem"]);
}

#[test]
fn an_odd_file_has_no_uses() {
    for text in ["", "# nothing\n", "services:\n", "services: 1\n", "services: [a]\n", "services:\n  web: 1\n", "[]\n"]
    {
        assert!(services(text).iter().all(|service| service.files.is_empty()), "{text}");
    }
}
