//! `provision schema` in the programs that people use it with: check-jsonschema, and the language server of their editors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{LanguageServer, tools};

/// The schema in a file, and the plan files of the project.
struct Project {
    folder: tempfile::TempDir,
    valid: Vec<PathBuf>,
    invalid: Vec<PathBuf>,
}

impl Project {
    fn new() -> Self {
        // Patterns of the language server match no hidden folder.
        let folder = tempfile::Builder::new().prefix("plans-").tempdir().unwrap();
        let schema = Command::new(env!("CARGO_BIN_EXE_provision")).arg("schema").output().unwrap().stdout;
        std::fs::write(folder.path().join("schema.json"), schema).unwrap();
        let valid = ["fixtures/plans/valid", "plans", "plans/examples"].map(plan_files).concat();
        Self { folder, valid, invalid: plan_files("fixtures/plans/invalid") }
    }

    fn schema(&self) -> PathBuf {
        self.folder.path().join("schema.json")
    }

    /// Asserts that a reader objects to the plan files that are invalid, except for those that a schema cannot see.
    #[track_caller]
    fn are_judged(&self, reader: &str, refused: &BTreeSet<PathBuf>) {
        let unseen = unseen(reader);
        let expected = self.invalid.iter().filter(|path| !unseen.contains(path.file_stem().unwrap().to_str().unwrap()));
        let expected: BTreeSet<PathBuf> = expected.cloned().collect();
        let accepted: Vec<_> = expected.difference(refused).collect();
        assert!(accepted.is_empty(), "{reader} accepts {accepted:#?}");
        let refused: Vec<_> = refused.difference(&expected).collect();
        assert!(refused.is_empty(), "{reader} refuses {refused:#?}");
    }
}

fn plan_files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// The invalid plan files that the schema accepts for this reader.
fn unseen(reader: &str) -> BTreeSet<String> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plans/unseen-by-the-schema.txt");
    let list = std::fs::read_to_string(list).unwrap();
    let names = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names = names.filter_map(|line| match line.split_once(": ") {
        Some((name, readers)) => readers.split(' ').any(|word| word == reader).then_some(name),
        None => Some(line),
    });
    names.map(str::to_owned).collect()
}

#[test]
fn check_jsonschema_agrees_with_validate() {
    let project = Project::new();
    let files = project.valid.iter().chain(&project.invalid);
    // The program writes out each alias: it would end in the middle, or take ten million steps.
    let files =
        files.filter(|path| !path.ends_with("alias-inside-of-itself.yaml") && !path.ends_with("alias-bomb.yaml"));
    let output = Command::new(tools().join("python/bin/check-jsonschema"))
        .arg("--schemafile")
        .arg(project.schema())
        .args(["--output-format", "json"])
        .args(files)
        .output()
        .expect("scripts/setup --tests installs check-jsonschema");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&output.stderr)));
    let problems = ["errors", "parse_errors"].into_iter().filter_map(|key| report[key].as_array()).flatten();
    let refused = problems.map(|problem| PathBuf::from(problem["filename"].as_str().unwrap())).collect();
    project.are_judged("check-jsonschema", &refused);
}

#[test]
fn the_language_server_agrees_with_validate_and_completes_keys() {
    let project = Project::new();
    let mut server = LanguageServer::start(&project.schema());
    let files: Vec<&PathBuf> = project.valid.iter().chain(&project.invalid).collect();
    for file in &files {
        server.open(file, &std::fs::read_to_string(file).unwrap());
    }
    let refused = files.into_iter().filter(|file| !server.problems(file).is_empty()).cloned().collect();
    project.are_judged("yaml-language-server", &refused);

    let before = "name: x\nsteps:\n  - id: a\n    ";
    let cases: [(&str, &str, &[&str]); 3] = [
        (
            "step",
            "\n  - id: b\n    directory:\n      path: /srv\n",
            &["title", "why", "run_as", "directory", "period_tables"],
        ),
        ("kind", "key_file:\n      \n      path: /srv/key\n", &["source", "mode", "owner", "verify"]),
        ("nested", "key_file:\n      verify:\n        ", &["ssh", "host_key", "timeout", "required", "retire"]),
    ];
    for (name, after, expected) in cases {
        let file = project.folder.path().join(format!("{name}.yaml"));
        server.open(&file, &format!("{before}{after}"));
        let (line, column) = match name {
            "step" => (3, 4),
            "kind" => (4, 6),
            _ => (5, 8),
        };
        let offered = server.completions(&file, line, column);
        for word in expected {
            assert!(offered.iter().any(|label| label == word), "{word} is missing in a {name}: {offered:?}");
        }
    }
    let described = server.hover(&project.folder.path().join("kind.yaml"), 3, 6);
    assert!(described.contains("private key"), "{described}");
}
