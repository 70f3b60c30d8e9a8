//! A step for a variable of a compose file. Its value stays where it is.

use serde_json::{Map, json};

use super::actual::{Actual, ComposeFile, EnvFile, EnvValue, Form, Occurrence};
use super::{ComposeEnv, diff};
use crate::host::fs::escape_path;
use crate::host::secret::Digest;
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
        let argument = shell_word(format!("{file}:{nearest}"));
        return Err(Failure::new(format!("no environment there has {variable}"))
            .hint(format!("did you mean {nearest}? --variable {argument}")));
    }
    diff::occurrences(desired, actual).map_err(|failure| without_file(failure, &escape_path(&desired.file)))?;
    let mut comments = Vec::new();
    if let ComposeFile::Read { not_searched, .. } = &actual.file
        && !not_searched.is_empty()
    {
        comments.push(format!("Files that are named by {} are not edited.", not_searched.join(" and ")));
    }
    let values = values(actual);
    if values.len() > 1 {
        let services: Vec<String> = values.iter().map(|services| services.join(" and ")).collect();
        comments.push(format!(
            "Services have different values here: {}. One source gives all of them the same; write a step with `service` for each value.",
            services.join(", ")
        ));
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

/// The failure of a subject that names the file already.
fn without_file(failure: Failure, file: &str) -> Failure {
    let message = match failure.message.strip_prefix(file) {
        Some(rest) => format!("the file{rest}"),
        None => failure.message.replacen(&format!(" in {file} "), " there ", 1),
    };
    Failure { message, ..failure }
}

/// What a place gives its services.
#[derive(PartialEq)]
enum Given<'a> {
    Value(&'a Digest),
    /// The value of a variable that is not in `.env`.
    Variable(&'a str),
}

/// The services of each value that the variable has, or the parts of the file where no service uses it.
fn values(actual: &Actual) -> Vec<Vec<String>> {
    let ComposeFile::Read { occurrences, .. } = &actual.file else { return Vec::new() };
    let in_env_file = |name: &str| match actual.env_file.as_ref()? {
        EnvFile::Read { values, .. } => match values.get(name)? {
            EnvValue::Text { digest } => Some(digest),
            EnvValue::Missing | EnvValue::Expanded => None,
        },
        _ => None,
    };
    let mut found: Vec<(Given<'_>, Vec<String>)> = Vec::new();
    for Occurrence { place, services, form, .. } in occurrences {
        let given = match form {
            Form::Literal { digest } => Given::Value(digest),
            Form::Reference { name, .. } => in_env_file(name).map_or(Given::Variable(name), Given::Value),
            Form::Retyped | Form::Mixed | Form::Foreign { .. } => continue,
        };
        let users = if services.is_empty() { vec![place.clone()] } else { services.clone() };
        match found.iter_mut().find(|(known, _)| *known == given) {
            Some((_, services)) => services.extend(users),
            None => found.push((given, users)),
        }
    }
    found.into_iter().map(|(_, services)| services).collect()
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
    fn services_with_different_values_are_named() {
        let literal = |service: &str, digest: &str| json!({ "place": format!("service {service}"), "line": 4, "services": [service], "form": { "is": "literal", "digest": digest } });
        let adopted = |found: serde_json::Value| step(&desired("PW"), &actual(&[], found)).unwrap().comments;
        let same = adopted(json!([literal("web", "01"), literal("api", "01")]));
        assert!(!same.iter().any(|comment| comment.contains("different")), "{same:?}");
        let differ = adopted(json!([literal("web", "01"), literal("api", "02"), literal("db", "01")]));
        assert!(differ[1].starts_with("Services have different values here: web and db, api."), "{differ:?}");
    }

    #[test]
    fn a_variable_that_is_not_there_is_refused_with_the_nearest_name() {
        let there = actual(&["SMTP_PASSWORD", "OTHER"], json!([]));
        let failure = step(&desired("SMTP_PASWORD"), &there).unwrap_err();
        assert_eq!(failure.message, "no environment there has SMTP_PASWORD");
        assert_eq!(failure.hint.unwrap(), "did you mean SMTP_PASSWORD? --variable /srv/dc.yml:SMTP_PASSWORD");
        let failure = step(&desired("ENTIRELY_ELSE"), &there).unwrap_err();
        assert!(failure.message.contains("no environment there has ENTIRELY_ELSE"), "{failure:?}");
        assert!(!failure.message.contains("/srv/dc.yml"), "{failure:?}");
        let missing =
            serde_json::from_value(json!({ "source": { "state": "nothing" }, "file": { "state": "missing" } }));
        let failure = step(&desired("PW"), &missing.unwrap()).unwrap_err();
        assert_eq!(failure.message, "the file does not exist, so PW cannot be set in it");
    }

    #[test]
    fn a_name_that_no_variable_can_have_is_refused() {
        let subject = Subject::Variable { file: "/srv/dc.yml".to_owned(), name: "1 X".to_owned() };
        assert!(probe(&subject).unwrap().is_err());
    }
}
