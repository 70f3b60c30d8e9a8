//! Validates `fixtures/plans/valid/*.yaml`, which have no problems, and `fixtures/plans/invalid/*.yaml`, whose output has to be the
//! `.txt` beside each. To see the output of a new one:
//! `cd fixtures/plans/invalid && provision validate CASE.yaml`.

use std::path::Path;

use super::project::{INVALID, VALID, plan_files};
use super::{Inputs, PlanFile};

/// The problems of a plan file without a host, or `None` if there are none.
fn problems_of(path: &Path) -> Option<String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let result = PlanFile::parse(name, &text).and_then(|plan| plan.validate(&Inputs::default()));
    result.err().map(|problems| problems.to_string())
}

#[test]
fn valid_plan_files_have_no_problems() {
    let cases = plan_files(VALID[0]);
    assert!(cases.len() >= 12, "{} cases", cases.len());
    for case in cases {
        assert_eq!(problems_of(&case), None, "{}", case.display());
    }
}

#[test]
fn each_invalid_plan_file_gets_its_message() {
    let cases = plan_files(INVALID);
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

#[test]
fn a_selection_without_steps_names_the_options_that_were_given() {
    let text =
        "name: x\nsteps:\n  - { id: a, directory: { path: /srv/a } }\n  - { id: b, directory: { path: /srv/b } }\n";
    let plan = PlanFile::parse("x.yaml", text).unwrap();
    let message_and_help = |only: &[&str], skip: &[&str]| {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let selection = super::Selection { only: ids(only), skip: ids(skip) };
        let problem = plan.evaluate(&Inputs::default(), &selection).unwrap_err().list.remove(0);
        format!("{}; {}", problem.message, problem.help.unwrap())
    };
    assert!(!message_and_help(&[], &["a", "b"]).contains("--only"));
    assert!(message_and_help(&["a"], &["a"]).contains("--only"));
}

#[test]
fn the_url_of_a_connection_may_have_the_source_of_its_password() {
    let text = "name: x\nvars: { pw: \"{{ env_var('PW') }}\" }\nconnections:\n  dw: { url: \"postgresql://me:{{ pw }}@db.example/dw?sslmode=disable\" }\n  \
                by-source: { url: \"postgresql://me@db.example/dw?sslmode=disable\", password: { env: PW } }\nsteps:\n  \
                - { id: a, table: { connection: dw, ddl: \"CREATE TABLE s.t (a int)\" } }\n";
    let plan = PlanFile::parse("x.yaml", text).unwrap();
    for value in [None, Some("hunter2")] {
        let env = value.map(|value| ("PW".to_owned(), value.to_owned())).into_iter().collect();
        let inputs = Inputs { env, ..Inputs::default() };
        assert_eq!(plan.validate(&inputs), Ok(()));
        let resolved = plan.resolve(&inputs);
        assert!(!format!("{resolved:?}").contains("hunter2"), "{resolved:?}");
    }
}

/// With the variable set, and unset.
#[test]
fn the_source_of_a_secret_is_never_shown_by_a_template() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plans/invalid/secret-source-in-a-template.yaml");
    let plan = PlanFile::parse("x.yaml", &std::fs::read_to_string(case).unwrap()).unwrap();
    for value in [None, Some("hunter2")] {
        let env = value.map(|value| ("SMTP_PW".to_owned(), value.to_owned())).into_iter().collect();
        let inputs = Inputs { env, ..Inputs::default() };
        let problems = plan.validate(&inputs).unwrap_err();
        assert_eq!(problems.list.len(), 4, "{problems}");
        assert!(plan.evaluate(&inputs, &super::Selection::default()).is_err() && plan.resolve(&inputs).is_err());
        let described = format!("{:?} {problems}", plan.describe(&[], &inputs).unwrap());
        assert!(!described.contains("hunter2"), "{described}");
        let only = super::Selection { only: vec!["conf".into()], skip: Vec::new() };
        assert!(plan.evaluate(&inputs, &only).is_err(), "the other step is not selected");
    }
}
