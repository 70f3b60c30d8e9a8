//! Checks `provision schema` with the programs that people use: check-jsonschema, and the YAML language server of editors.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{LanguageServer, tools};
use plans::plan_files;

#[path = "../../fixtures/plans/list.rs"]
mod plans;

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
        let valid = plans::VALID.map(plan_files).concat();
        Self { folder, valid, invalid: plan_files(plans::INVALID) }
    }

    fn schema(&self) -> PathBuf {
        self.folder.path().join("schema.json")
    }

    /// Asserts that a validator refuses exactly the invalid plan files, except for those that a schema cannot see.
    #[track_caller]
    fn assert_verdicts(&self, reader: &str, refused: &BTreeSet<PathBuf>) {
        let unseen = plans::unseen_by_the_schema(reader);
        let expected = self.invalid.iter().filter(|path| !unseen.contains(path.file_stem().unwrap().to_str().unwrap()));
        let expected: BTreeSet<PathBuf> = expected.cloned().collect();
        let accepted: Vec<_> = expected.difference(refused).collect();
        assert!(accepted.is_empty(), "{reader} accepts {accepted:#?}");
        let refused: Vec<_> = refused.difference(&expected).collect();
        assert!(refused.is_empty(), "{reader} refuses {refused:#?}");
    }
}

#[test]
fn check_jsonschema_agrees_with_validate() {
    let project = Project::new();
    let files = project.valid.iter().chain(&project.invalid);
    // The program expands each alias, so these two would crash it or take ten million steps.
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
    project.assert_verdicts("check-jsonschema", &refused);
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
    project.assert_verdicts("yaml-language-server", &refused);

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
