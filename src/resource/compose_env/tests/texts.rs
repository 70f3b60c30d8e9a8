//! Compares the reading of values and texts with that of Docker Compose.

use std::path::Path;
use std::process::Command;

use super::oracle::{Folder, LITERAL, REFERENCE, config, in_folder, value_of};
use crate::resource::compose_env::scalar;

#[test]
fn plain_scalars_are_read_as_compose_reads_them() {
    let texts = "3f9a0c12de 1a 1.2.3 -a 12:34 = 9223372036854775808 18446744073709551615 18446744073709551616 1:2:3 12:34:56 \
        -9223372036854775808 -9223372036854775809 1e3 1e 1e5a 1.5 1. .5 .a + -- +1 -1 0x1f 0x 0xg 0o17 0o8 0b1 0b2 017 08 09 1_000 \
        1__0 _1 0_1 .inf -.inf +.inf .Inf .nan .NaN -.nan 2001-01-01 2001-1-1 2001-01-01T00:00:00Z 2001-13-01 20010101 1-2 1-2-3 a1 \
        1d 0d 1D 1f 1F 1E5 1e+5 1e-5 1e400 12e999 1e-400 1.e5 .e5 +.5 -.5 1.2e3.4 0.1.0 00 0 -0 +0 007 0xABCg 0b 0o y n yes no on off \
        true True TRUE tRue 1,000 1x 0x1_f 1_ -_ -1_0 -0x1f -0b2 -0o17 -017 +017 0xffffffffffffffffff 99999999999999999999 1.0 1.10 \
        100.5 0.1 0.01 0.00001 1e06 12e3de 0e 0e0 1p4 0x1p4 1.2e 0x_ -1.5 -1e5 ._ . .. -. +. 0X1F 0O7 08.5 1_000.5 123456789012345.6 \
        0N 9F 1_e5 1+1 1-1 2024-01-01x 0777 09a -09 +-1 1.5.";
    let texts: Vec<&str> = texts.split_whitespace().collect();
    let is_date = |text: &&&str| text.starts_with("2001-1-") || text.starts_with("2001-01-");
    let mut file = "services:\n  web:\n    image: x\n    environment:\n".to_owned();
    for (at, text) in texts.iter().enumerate().filter(|(_, text)| !is_date(text)) {
        file.push_str(&format!("      V{at}: {text}\n"));
    }
    let folder = Folder::new(&[("docker-compose.yml", &file)], None);
    let config = folder.config(None);
    for (at, text) in texts.iter().enumerate() {
        let arrives = value_of(&config, "web", &format!("V{at}"));
        assert_eq!(scalar::is_verbatim(text), arrives.as_deref() == Some(*text), "{text}: {arrives:?}");
    }
    for text in ["3f9a0c12de", "1a", "1.2.3", "-a", "12:34", "=", "9223372036854775808"] {
        let mut folder =
            Folder::new(&[("docker-compose.yml", &LITERAL.replace("old }", &format!("{text}\n      }}")))], None);
        folder.value = text.to_owned();
        assert_eq!(folder.plan().unwrap().changes, [], "{text}");
    }
}

#[test]
fn values_of_env_files_are_read_alike_by_compose_and_python() {
    let values = [
        "plain",
        "a'b$c",
        "a'b",
        "it's $HOME",
        "a\"b$c",
        "a\\b",
        "a\\\\b",
        "a\\",
        "a\nb",
        "a b # c",
        "'",
        "$",
        "a'$'b",
        "a`b",
        "\\n",
        "''$",
    ];
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/bin/python");
    for value in values {
        for old in ["old", "'old'", "\"old\""] {
            let mut folder = Folder::new(&[("docker-compose.yml", REFERENCE), (".env", &format!("PW={old}\n"))], None);
            folder.value = value.to_owned();
            folder.apply().unwrap();
            assert_eq!(value_of(&folder.config(None), "web", "PW").as_deref(), Some(value), "{}", folder.text(".env"));
            let script = "import dotenv, sys; sys.stdout.write(dotenv.dotenv_values('.env')['PW'])";
            let output =
                Command::new(&python).env_clear().current_dir(folder.path()).args(["-c", script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), value, "{}: {output:?}", folder.text(".env"));
        }
    }
}

#[test]
fn what_compose_accepts_is_edited_or_refused_with_what_to_write() {
    // A tab behind a colon.
    let tabs = "services:\t\n  web:\n    image:\tx\n    environment:\n      PW:\told\t# c\n      A:\t\t\"b:\tc\"\n";
    let folder = Folder::new(&[("docker-compose.yml", tabs)], None);
    folder.apply().unwrap();
    assert_eq!(folder.text("docker-compose.yml"), tabs.replace("old", "s3cr3t"));
    let config = folder.config(None);
    assert_eq!(value_of(&config, "web", "PW").as_deref(), Some("s3cr3t"));
    assert_eq!(value_of(&config, "web", "A").as_deref(), Some("b:\tc"));
    // Bytes that are not UTF-8.
    let folder = Folder::new(&[("docker-compose.yml", REFERENCE)], None);
    std::fs::write(folder.path().join(".env"), b"# pass\xe9\nOTHER=\xff\xfe\nPW=old\n").unwrap();
    folder.apply().unwrap();
    let edited = std::fs::read(folder.path().join(".env")).unwrap();
    assert_eq!(edited, b"# pass\xe9\nOTHER=\xff\xfe\nPW=s3cr3t\n");
    assert_eq!(value_of(&folder.config(None), "web", "PW").as_deref(), Some("s3cr3t"));
    // Two documents.
    let two = format!("{LITERAL}---\nservices: {{ web: {{ labels: [a=b] }} }}\n");
    let refusal = Folder::new(&[("docker-compose.yml", &two)], None).plan().unwrap_err();
    assert!(refusal.message.contains("a second document") && refusal.message.contains("line 3"), "{refusal:?}");
    assert!(refusal.hint.unwrap().contains("override file"));
    // Follow the hint.
    let (first, second) = two.split_once("---\n").unwrap();
    let folder = Folder::new(&[("docker-compose.yml", first), ("docker-compose.override.yml", second)], None);
    let (diff, _) = folder.apply().unwrap();
    assert_eq!(diff.warnings, [""; 0]);
    assert_eq!(folder.config(None)["web"]["labels"]["a"], "b");
}

#[test]
fn a_variable_of_an_env_file_is_refused_with_a_way_to_move_it() {
    let text = "services:\n  web: { image: x, env_file: smtp.env }\n";
    let folder = Folder::new(&[("docker-compose.yml", text), ("smtp.env", "A=b\nPW=old\n")], None);
    let refusal = folder.plan().unwrap_err();
    let smtp = folder.path().join("smtp.env");
    assert!(
        refusal.message.ends_with(&format!("service web gets it from {}, an env_file", smtp.display())),
        "{refusal:?}"
    );
    let hint = refusal.hint.unwrap();
    assert!(
        hint.contains("write `PW: ${PW}` into the environment of service web, and move the line of PW from"),
        "{hint}"
    );
    // Follow the hint.
    let moved = "services:\n  web: { image: x, env_file: smtp.env, environment: { PW: '${PW}' } }\n";
    let folder = Folder::new(&[("docker-compose.yml", moved), ("smtp.env", "A=b\n"), (".env", "PW=old\n")], None);
    folder.apply().unwrap();
    assert_eq!(value_of(&folder.config(None), "web", "PW").as_deref(), Some("s3cr3t"));
}

#[test]
fn a_symlinked_compose_file_keeps_its_project_by_the_hint() {
    let text = "services:\n  web:\n    image: x:${TAG}\n    env_file: [a.env]\n    environment:\n      PW: old\n";
    let files = [("docker-compose.yml", text), (".env", "TAG=1\n"), ("a.env", "A=1\n")];
    // Where only root can write, root follows symlinks.
    let folder = Folder::within(Path::new("/root"), &files, None);
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("releases/1")).unwrap();
    std::fs::rename(at("docker-compose.yml"), at("releases/1/docker-compose.yml")).unwrap();
    std::os::unix::fs::symlink("releases/1/docker-compose.yml", at("docker-compose.yml")).unwrap();
    let mut wanted = config(folder.path(), &[]).unwrap();
    let hint = folder.plan().unwrap_err().hint.unwrap();
    let command = hint.split('`').nth(1).unwrap();
    assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{hint}");
    let (_, follow_ups) = folder.apply().unwrap();
    wanted.get_mut("web").unwrap()["environment"]["PW"] = "s3cr3t".into();
    assert_eq!(config(folder.path(), &[]).unwrap(), wanted, "{hint}");
    assert_eq!(follow_ups[0].services, ["web"]);
}

#[test]
fn a_symlinked_env_file_is_edited_where_it_is() {
    // Where only root can write, root follows symlinks.
    let files = [("docker-compose.yml", REFERENCE), ("shared/.env", "PW=old\n")];
    let mut folder = Folder::within(Path::new("/root"), &files, None);
    std::os::unix::fs::symlink("shared/.env", folder.path().join(".env")).unwrap();
    let refusal = folder.plan().unwrap_err();
    let real = folder.path().canonicalize().unwrap().join("shared/.env");
    let hint = refusal.hint.unwrap();
    assert!(hint.ends_with(&format!("`env_file: {}`", real.display())), "{hint}");
    folder.name_env_file(&real);
    let (diff, follow_ups) = folder.apply().unwrap();
    assert_eq!(diff.warnings, [""; 0]);
    assert_eq!(in_folder(&folder, &follow_ups[0]), "docker compose up -d --force-recreate web");
    assert!(folder.path().join(".env").is_symlink());
    assert_eq!(folder.text("shared/.env"), "PW=s3cr3t\n");
    assert_eq!(value_of(&folder.config(follow_ups.first()), "web", "PW").as_deref(), Some("s3cr3t"));
    // A file for `--env-file`, which does not exist yet.
    let mut folder = Folder::new(&[("docker-compose.yml", REFERENCE), (".env", "PW=other\n")], None);
    let named = folder.path().canonicalize().unwrap().join("prod.env");
    folder.name_env_file(&named);
    let (_, follow_ups) = folder.apply().unwrap();
    let argv = format!("docker compose --env-file {} up -d --force-recreate web", named.display());
    assert_eq!(in_folder(&folder, &follow_ups[0]), argv);
    assert_eq!(value_of(&folder.config(follow_ups.first()), "web", "PW").as_deref(), Some("s3cr3t"));
    assert_eq!(folder.text(".env"), "PW=other\n");
}
