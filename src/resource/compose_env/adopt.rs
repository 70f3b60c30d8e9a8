//! A step for a variable of a compose file. Its value stays where it is.

use serde_json::{Map, json};

use super::actual::{Actual, ComposeFile};
use super::{ComposeEnv, diff};
use crate::host::fs::escape_path;
use crate::resource::Failure;
use crate::resource::adopt::{Adopted, MaybeProbe, Subject, probe_of};
use crate::text::{nearest, shell_word};

pub(super) fn probe(subject: &Subject) -> MaybeProbe<ComposeEnv> {
    match subject {
        Subject::Variable { file, name } => Some(probe_of(json!({ "file": file, "variable": name }))),
        _ => None,
    }
}

pub(super) fn step(desired: &ComposeEnv, actual: &Actual) -> Result<Adopted, Failure> {
    let (file, variable) = (desired.file.to_string_lossy().into_owned(), &desired.variable);
    if let ComposeFile::Read { occurrences, variables, .. } = &actual.file
        && occurrences.is_empty()
        && let Some(nearest) = alike(variable, variables)
    {
        let argument = shell_word(&format!("{file}:{nearest}"));
        return Err(Failure::new(format!("no environment in {} has {variable}", escape_path(&desired.file)))
            .hint(format!("did you mean {nearest}? --variable {argument}")));
    }
    diff::occurrences(desired, actual)?;
    let mut comments = Vec::new();
    if let ComposeFile::Read { not_searched, .. } = &actual.file
        && !not_searched.is_empty()
    {
        comments.push(format!("Files that are named by {} are not edited.", not_searched.join(" and ")));
    }
    let mut keys = Map::new();
    keys.insert("file".to_owned(), file.clone().into());
    keys.insert("variable".to_owned(), variable.clone().into());
    keys.insert("value".to_owned(), json!(null));
    Ok(Adopted {
        subject: format!("{variable} in {file}"),
        name: variable.clone(),
        title: format!("{variable} in {file}"),
        keys,
        secret: Some(("value", variable.clone())),
        comments,
    })
}

/// A variable whose name is alike, in whatever case.
fn alike<'a>(word: &str, variables: &'a [String]) -> Option<&'a String> {
    let known: Vec<String> = variables.iter().map(|name| name.to_lowercase()).collect();
    let found = nearest(&word.to_lowercase(), known.iter().map(String::as_str))?;
    known.iter().position(|name| name == found).map(|at| &variables[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actual(variables: &[&str], occurrences: serde_json::Value) -> Actual {
        serde_json::from_value(json!({
            "source": { "state": "nothing" },
            "file": {
                "state": "read", "services": ["web"], "variables": variables, "occurrences": occurrences,
                "not_searched": ["env_file"],
            },
        }))
        .unwrap()
    }

    fn desired(name: &str) -> ComposeEnv {
        probe(&Subject::Variable { file: "/srv/dc.yml".to_owned(), name: name.to_owned() }).unwrap().unwrap().resource
    }

    #[test]
    fn a_variable_is_adopted_without_its_value() {
        let found = json!([{ "place": "service web", "line": 4, "form": { "is": "literal", "digest": "0123" } }]);
        let adopted = step(&desired("SMTP_PASSWORD"), &actual(&[], found)).unwrap();
        assert_eq!(adopted.secret, Some(("value", "SMTP_PASSWORD".to_owned())));
        assert_eq!(
            serde_json::to_string(&adopted.keys).unwrap(),
            r#"{"file":"/srv/dc.yml","variable":"SMTP_PASSWORD","value":null}"#
        );
        assert_eq!(adopted.comments, ["Files that are named by env_file are not edited."]);
        assert!(!format!("{adopted:?}").contains("0123"), "{adopted:?}");
    }

    #[test]
    fn a_variable_that_is_not_there_is_refused_with_the_nearest_name() {
        let there = actual(&["SMTP_PASSWORD", "OTHER"], json!([]));
        let failure = step(&desired("SMTP_PASWORD"), &there).unwrap_err();
        assert_eq!(failure.message, "no environment in /srv/dc.yml has SMTP_PASWORD");
        assert_eq!(failure.hint.unwrap(), "did you mean SMTP_PASSWORD? --variable /srv/dc.yml:SMTP_PASSWORD");
        let failure = step(&desired("ENTIRELY_ELSE"), &there).unwrap_err();
        assert!(failure.message.contains("has ENTIRELY_ELSE"), "{failure:?}");
    }

    #[test]
    fn a_name_that_no_variable_can_have_is_refused() {
        let subject = Subject::Variable { file: "/srv/dc.yml".to_owned(), name: "1 X".to_owned() };
        assert!(probe(&subject).unwrap().is_err());
    }
}
