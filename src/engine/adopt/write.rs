//! Writes the text of the plan file.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::request::{Connection, Item};
use crate::plan_file::literal;
use crate::text::clean;

/// A plan file, and what is needed to check it.
pub struct PlanText {
    pub text: String,
    /// The id of each step, and what the step is about.
    pub steps: Vec<(String, String)>,
    /// The environment variables that its secrets are read from.
    pub secrets: Vec<String>,
}

const HEAD: &str = "# What this host has already, as `provision adopt` found it: applying this changes nothing";
/// The continuation if there are secrets.
const WITH_SECRETS: &str = " while the
# environment variables of its secrets are not set, or match the current values";
const REST: &str = ".
# Add to each step `why` it is there.
name: adopted
";

/// An id has at most 100 characters. Some are left for a number.
const MAX_ID: usize = 90;

/// Variables that every shell has. None of them can be the source of a secret.
const TAKEN: &[&str] = &[
    "COLUMNS", "DISPLAY", "EDITOR", "HOME", "HOSTNAME", "IFS", "LANG", "LANGUAGE", "LINES", "LOGNAME", "MAIL",
    "OLDPWD", "PAGER", "PATH", "PPID", "PS1", "PWD", "SHELL", "SHLVL", "TERM", "TMPDIR", "TZ", "UID", "USER",
    "USERNAME",
];

/// Writes the plan file. `is_set` returns whether an environment variable is set now.
pub fn plan_file(items: Vec<Item>, connection: Option<&Connection>, is_set: &dyn Fn(&str) -> bool) -> PlanText {
    let with_secrets = if items.iter().any(|item| item.adopted.secret.is_some()) { WITH_SECRETS } else { "" };
    let text = format!("{HEAD}{with_secrets}{REST}");
    let mut written = PlanText { text, steps: Vec::new(), secrets: Vec::new() };
    let mut ids = BTreeSet::new();
    let mut names: BTreeSet<String> = TAKEN.iter().map(|name| (*name).to_owned()).collect();
    if let Some(Connection { url_env, password_env }) = connection {
        names.extend([url_env.clone()].into_iter().chain(password_env.clone()));
        let password = password_env.as_ref().map(|name| format!("    password: {{ env: {name} }}\n"));
        written.text.push_str(&format!(
            "\nconnections:\n  {}:\n    url: \"{{{{ env_var('{url_env}') }}}}\"\n{}",
            Connection::NAME,
            password.unwrap_or_default()
        ));
    }
    written.text.push_str("\nsteps:\n");
    for (index, Item { kind, run_as, adopted }) in items.into_iter().enumerate() {
        let id = unique(identifier(&adopted.name, kind), "-", &mut ids);
        let (mut keys, mut comments) = (adopted.keys, adopted.comments);
        keys.values_mut().for_each(as_it_is);
        if let Some((key, name)) = adopted.secret {
            let name = unique(variable(&name, kind), "_", &mut names);
            let when_set = if is_set(&name) {
                "It is set now: an apply replaces the current value if it differs."
            } else {
                "If it is not set, the current value stays unchanged."
            };
            comments.push(format!("The secret comes from the environment variable {name}. {when_set}"));
            keys.insert(key.to_owned(), json!({ "env": name }));
            written.secrets.push(name);
        }
        let mut resource = Map::new();
        if connection.is_some() && crate::resource::kind_info(kind).is_some_and(|kind| kind.on_warehouse) {
            resource.insert("connection".to_owned(), Connection::NAME.into());
        }
        resource.extend(keys);
        let mut step = Map::new();
        step.insert("id".to_owned(), id.clone().into());
        step.insert("title".to_owned(), literal(&adopted.title).into());
        step.extend(run_as.map(|user| ("run_as".to_owned(), literal(&user).into())));
        step.insert(kind.to_owned(), resource.into());
        if index > 0 {
            written.text.push('\n');
        }
        let comments = comments.iter().map(|comment| format!("# {}\n", clean(&comment.replace('\n', " "))));
        let block: String = comments.chain([yaml(&json!([step]))]).collect();
        written.text.push_str(&indented(&block));
        written.steps.push((id, adopted.subject));
    }
    written
}

/// Rewrites every text in the value so that evaluating it in a plan file gives the same text.
fn as_it_is(value: &mut Value) {
    match value {
        Value::String(text) => *text = literal(text),
        Value::Array(items) => items.iter_mut().for_each(as_it_is),
        Value::Object(keys) => keys.values_mut().for_each(as_it_is),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the value as YAML. The keys of JSON are strings, so this cannot fail.
fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_default()
}

/// Indents the lines by two columns.
fn indented(block: &str) -> String {
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
    block.lines().map(line).collect()
}

/// Makes an id from a name. It consists of groups of letters and digits.
fn identifier(name: &str, kind: &str) -> String {
    let mut id = words(name, '-').to_ascii_lowercase();
    id.truncate(MAX_ID);
    if id.is_empty() { kind.replace('_', "-") } else { id.trim_matches('-').to_owned() }
}

/// Makes the name of an environment variable from a name.
fn variable(name: &str, kind: &str) -> String {
    let name = words(name, '_').to_ascii_uppercase();
    match name.chars().next() {
        None => kind.to_ascii_uppercase(),
        Some(first) if first.is_ascii_digit() => format!("{}_{name}", kind.to_ascii_uppercase()),
        Some(_) => name,
    }
}

/// Returns the letters and digits of a text. Anything between them becomes one `mark`.
fn words(text: &str, mark: char) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&mark.to_string())
}

/// Returns the name, with a number after it if it is taken.
fn unique(name: String, mark: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}{mark}{number}"));
    let free = [name.clone()].into_iter().chain(numbered).find(|name| !taken.contains(name));
    let free = free.unwrap_or(name);
    taken.insert(free.clone());
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan_file::{Inputs, PlanFile};
    use crate::resource::adopt::Adopted;

    fn item(kind: &'static str, name: &str, keys: Value, secret: Option<(&'static str, &str)>) -> Item {
        let Value::Object(keys) = keys else { panic!("{keys}") };
        let adopted = Adopted {
            subject: name.to_owned(),
            name: name.to_owned(),
            title: format!("What {name} is"),
            keys,
            secret: secret.map(|(key, name)| (key, name.to_owned())),
            comments: vec!["A comment\nof two lines.".to_owned()],
        };
        Item { kind, run_as: None, adopted }
    }

    #[test]
    fn a_plan_file_is_valid_and_has_what_was_observed() {
        let ddl = "CREATE TABLE s.t (\n  id integer\n)";
        let items = vec![
            item("directory", "Logs {{ x }}", json!({ "path": "/srv/Logs {{ x }}", "mode": "0750" }), None),
            item("key_file", "id.pem", json!({ "path": "/srv/id.pem", "source": null }), Some(("source", "id"))),
            item("key_file", "id.pem", json!({ "path": "/srv/x/id.pem", "source": null }), Some(("source", "id"))),
            item("key_file", "path", json!({ "path": "/srv/path", "source": null }), Some(("source", "path"))),
            item("table", "t", json!({ "ddl": ddl, "owner": "etl" }), None),
        ];
        let connection = Connection { url_env: "DB_URL".to_owned(), password_env: Some("DB_PASSWORD".to_owned()) };
        let written = plan_file(items, Some(&connection), &|name| name == "ID_2");
        assert_eq!(written.secrets, ["ID", "ID_2", "PATH_2"]);
        let ids: Vec<&str> = written.steps.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["logs-x", "id-pem", "id-pem-2", "path", "t"]);
        insta::assert_snapshot!(written.text, @r##"
# What this host has already, as `provision adopt` found it: applying this changes nothing while the
# environment variables of its secrets are not set, or match the current values.
# Add to each step `why` it is there.
name: adopted

connections:
  warehouse:
    url: "{{ env_var('DB_URL') }}"
    password: { env: DB_PASSWORD }

steps:
  # A comment of two lines.
  - id: logs-x
    title: '{{ "What Logs {{ x }} is" }}'
    directory:
      path: '{{ "/srv/Logs {{ x }}" }}'
      mode: '0750'

  # A comment of two lines.
  # The secret comes from the environment variable ID. If it is not set, the current value stays unchanged.
  - id: id-pem
    title: What id.pem is
    key_file:
      path: /srv/id.pem
      source:
        env: ID

  # A comment of two lines.
  # The secret comes from the environment variable ID_2. It is set now: an apply replaces the current value if it differs.
  - id: id-pem-2
    title: What id.pem is
    key_file:
      path: /srv/x/id.pem
      source:
        env: ID_2

  # A comment of two lines.
  # The secret comes from the environment variable PATH_2. If it is not set, the current value stays unchanged.
  - id: path
    title: What path is
    key_file:
      path: /srv/path
      source:
        env: PATH_2

  # A comment of two lines.
  - id: t
    title: What t is
    table:
      connection: warehouse
      ddl: |-
        CREATE TABLE s.t (
          id integer
        )
      owner: etl
"##);
        let plan = PlanFile::parse("adopted.yaml", &written.text).unwrap();
        plan.validate(&Inputs::default()).unwrap();
        let described = plan.describe(&[], &Inputs::default()).unwrap();
        let first = described[0].step.as_ref().unwrap();
        assert_eq!(first.resource.target(), "/srv/Logs {{ x }}");
        assert_eq!(first.prose.title, "What Logs {{ x }} is");
    }

    #[test]
    fn names_are_made_of_what_there_is() {
        for (name, id, name_of_variable) in [
            (".env", "env", "ENV"),
            ("Äpfel & Birnen", "pfel-birnen", "PFEL_BIRNEN"),
            ("日本", "key-file", "KEY_FILE"),
            ("9lives", "9lives", "KEY_FILE_9LIVES"),
            ("--x--", "x", "X"),
        ] {
            assert_eq!(identifier(name, "key_file"), id);
            assert_eq!(variable(name, "key_file"), name_of_variable);
        }
        assert_eq!(identifier(&"n".repeat(300), "x").len(), MAX_ID);
    }
}
