//! Validates `fixtures/plans/valid/*.yaml`, which have no problems, and `fixtures/plans/invalid/*.yaml`, whose output has to be the
//! `.txt` beside each. To see the output of a new one:
//! `cd fixtures/plans/invalid && provision validate CASE.yaml`.

use std::path::{Path, PathBuf};

use super::{Inputs, PlanFile};

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plans").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    cases
}

/// The problems of a plan file without a host, or `None` if there are none.
fn problems_of(path: &Path) -> Option<String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let result = PlanFile::parse(name, &text).and_then(|plan| plan.validate(&Inputs::default()));
    result.err().map(|problems| problems.to_string())
}

#[test]
fn valid_plan_files_have_no_problems() {
    let cases = cases("valid");
    assert!(cases.len() >= 12, "{} cases", cases.len());
    for case in cases {
        assert_eq!(problems_of(&case), None, "{}", case.display());
    }
}

#[test]
fn each_invalid_plan_file_gets_its_message() {
    let cases = cases("invalid");
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let found = anstream::adapter::strip_str(&problems_of(case).unwrap_or_default()).to_string();
        let expected = std::fs::read_to_string(case.with_extension("txt")).unwrap_or_default();
        if found.trim_end() != expected.trim_end() || found.is_empty() {
            wrong.push(format!("--- {}\nexpected:\n{expected}\nfound:\n{found}", case.display()));
        }
        assert!(!found.contains("the-secret-itself"), "{} shows a secret:\n{found}", case.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_line_break_in_a_wrong_value_is_not_taken_for_a_hint() {
    let text = "name: x\nsteps:\n  - { id: a, repository: { path: /srv/a, branch: \"a\\nb\" } }\n";
    let refused = PlanFile::parse("x.yaml", text).and_then(|plan| plan.validate(&Inputs::default())).unwrap_err();
    let messages: Vec<_> = refused.list.iter().map(|problem| (problem.message.as_str(), &problem.help)).collect();
    assert_eq!(messages, [("`a\nb` is not a valid branch name", &None)]);
}
