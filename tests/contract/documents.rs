//! The commands in the documents: each of them exists, and those of the guide do what it says.

use std::collections::BTreeSet;
use std::path::Path;

use crate::sandbox::{BARE, Sandbox};

/// Words in commands that stand for a value, with a value.
const PLACEHOLDERS: [(&str, &str); 14] = [
    ("FILE", "a.yaml"),
    ("SECONDS", "5"),
    ("SHELL", "bash"),
    ("FORMAT", "json"),
    ("DATE", "2026-01-01"),
    ("N", "1"),
    ("K=V", "k=v"),
    ("KIND.KEY", "directory.mode"),
    ("KIND", "directory"),
    ("FILE:NAME", "compose.yml:NAME"),
    ("FILE.jsonl", "a.jsonl"),
    ("ID", "1"),
    ("DIRECTORY", "pages"),
    ("FILTER", "debug"),
];

/// Returns the documents for users, by name.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned(), "ansible/README.md".to_owned()];
    let docs = root.join("docs").read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.extend(docs.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")));
    names.sort();
    names.into_iter().map(|name| (name.clone(), std::fs::read_to_string(root.join(&name)).unwrap())).collect()
}

/// Returns what stands in blocks of code, and between backticks outside of them.
fn code(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 1 {
            let shell = part.starts_with("sh") || part.starts_with("console") || part.starts_with("yaml");
            let shell = shell || part.starts_with("ini");
            pieces.extend(part.replace("\\\n", " ").lines().filter(|_| shell).map(str::to_owned));
        } else {
            pieces.extend(part.replace('\n', " ").split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    pieces
}

/// Returns the commands of provision in a piece of code, with values in place of placeholders.
fn commands(piece: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in piece.split(['|', '&', ';', '>', '<', '#', '"', '`']) {
        let Some((before, command)) = part.split_once("provision ") else { continue };
        let words_before = before.trim_start_matches(['-', ' ', '$']).trim();
        let is_start = before.is_empty() || before.ends_with([' ', '/', '=', '\'']);
        // Other options of the machine (`systemctl`), and sentences.
        let is_prose = words_before.split(' ').any(|word| ["a", "of", "install", "uninstall", "the"].contains(&word));
        let is_command = command.starts_with(|c: char| c.is_ascii_lowercase());
        if !is_start || is_prose || !is_command || command.contains(['[', '…', '{']) {
            continue;
        }
        let command = command.trim().trim_end_matches(['.', ',', ')', '\'']);
        let known = |word: &str| {
            let value = PLACEHOLDERS.iter().find(|(name, _)| *name == word);
            value.map_or_else(|| word.to_owned(), |(_, value)| (*value).to_owned())
        };
        let word = |word: &str| match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => format!("{option}={}", known(value)),
            _ => known(word),
        };
        found.push(command.split(' ').filter(|word| !word.is_empty()).map(word).collect::<Vec<_>>().join(" "));
    }
    found
}

#[test]
fn every_command_in_the_documents_exists() {
    let sandbox = Sandbox::new();
    let mut seen = BTreeSet::new();
    let mut script = String::from("export PATH=/opt/provision/bin:$PATH\n");
    // The screens show mistakes, too. Their own test runs them.
    for (name, text) in documents().into_iter().filter(|(name, _)| name != "docs/screens.md") {
        for command in code(&text).iter().flat_map(|piece| commands(piece)) {
            if seen.insert(command.clone()) {
                let quoted = command.replace('\'', "'\\''");
                script += &format!(
                    "provision {command} --help >/dev/null 2>err || {{ echo '{name}: provision {quoted}'; head -3 err; }}\n"
                );
            }
        }
    }
    assert!(seen.len() > 25, "{seen:#?}");
    sandbox.write("/home/ubuntu/script", "ubuntu", script);
    assert_eq!(sandbox.bash("ubuntu", "bash script 2>&1"), "", "these are no commands of provision");
}

fn guide() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide.md")).unwrap()
}

/// Returns the blocks of code in a language.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let start = format!("```{language}\n");
    text.split(start.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A server as the guide describes it.
fn shop() -> Sandbox {
    let mut sandbox = Sandbox::new().remote();
    sandbox.unset_var("repo_url");
    sandbox.bash(
        "root",
        &format!(
            "git config --global --add safe.directory {BARE}; mkdir -p /srv/shop /etc/shop; git clone -q -b jasleen_qa {BARE} /srv/shop/code; install -d -o www-data /srv/shop/media;
             ssh-keygen -q -t ed25519 -N '' -f /etc/shop/key.pem; chmod 400 /etc/shop/key.pem"
        ),
    );
    sandbox
}

#[test]
fn the_guide_is_followed_from_an_existing_server_to_an_empty_plan() {
    let (sandbox, guide) = (shop(), guide());
    let shell: Vec<&str> = blocks(&guide, "sh").into_iter().filter(|block| block.contains("provision")).collect();
    assert!(shell.len() >= 2, "{shell:?}");
    let script = format!("set -e; export PATH=/opt/provision/bin:$PATH\n{}", shell.concat());
    sandbox.write("/root/script", "root", script);
    let run = sandbox.command("root", ["bash", "script"]).run().exits(0);
    assert!(run.stdout.contains("2 steps are in order: code, media") && !run.stdout.contains("to change"), "{run}");
}

#[test]
fn the_plan_files_in_the_guide_are_valid() {
    let (sandbox, guide) = (shop(), guide());
    let blocks = blocks(&guide, "yaml");
    let step = blocks.iter().find(|block| block.contains("- id: media")).unwrap();
    sandbox.write("/root/step.yaml", "root", format!("name: shop\nsteps:\n{step}"));
    sandbox.provision("root", ["plan", "step.yaml"]).run().exits(0);
    // Each of the sources, of which the block comments all but the first one out.
    let step = blocks.iter().find(|block| block.contains("- id: database-password")).unwrap();
    let sources: Vec<&str> = step.lines().filter(|line| line.contains("database: {")).collect();
    assert_eq!(sources.len(), 3);
    for source in &sources {
        let others = step.lines().filter(|line| !sources.contains(line) || line == source);
        let text: Vec<String> = others.map(|line| line.replacen("# database:", "database:", 1)).collect();
        sandbox.write("/root/secrets.yaml", "root", format!("name: shop\nsteps:\n{}\n", text.join("\n")));
        sandbox.provision("root", ["validate", "secrets.yaml"]).run().exits(0);
    }
}
