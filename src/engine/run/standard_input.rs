//! Reads standard input: a plan file, or a request that also carries values. With a request no secret has to be an
//! argument, an environment variable of a shell, or a file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::source::{Source, reason};
use crate::failure::Failure;
use crate::host::environment::current_directory;

/// The maximum size of the input. A plan file has at most 4 MiB; a request also holds values and JSON escapes.
const MAX_INPUT_BYTES: usize = 16 << 20;

/// The keys of a request.
const KEYS: [&str; 5] = ["plan_file", "as", "vars", "env", "files"];

/// A plan file with the values for its run.
pub struct StdinRequest {
    pub source: Source,
    /// The values of `--var`.
    pub vars: BTreeMap<String, String>,
    /// Values for `{ env: NAME }` and `env_var(NAME)`. They take precedence over the environment of the process.
    pub env: BTreeMap<String, String>,
}

/// Reads a plan file until the end of the input. `name` is the path that identifies it for its lock and its history.
///
/// # Errors
/// The input cannot be read, is too large, or the name is not a valid path for a plan file.
pub fn read_plan_file(input: impl Read, name: Option<PathBuf>) -> Result<Source, Failure> {
    let name = name.map(|name| checked_name(name, "--as")).transpose()?;
    let bytes = read(input)?;
    Ok(Source::of_input(bytes.to_vec(), name))
}

/// Reads a request: one JSON object with `plan_file` and optionally `as`, `vars`, `env`, and the `files` that the plan file
/// names beside itself.
///
/// # Errors
/// The input cannot be read, is too large, or is not such an object. Messages never contain a value.
pub fn read_request(input: impl Read) -> Result<StdinRequest, Failure> {
    let bytes = read(input)?;
    let parsed: Json = serde_json::from_slice(&bytes).map_err(|error| {
        // serde_json's message says what it expected. It shows nothing of the input.
        let text = error.to_string();
        invalid_request(if bytes.trim_ascii().is_empty() { "it is empty" } else { text.as_str() })
    })?;
    let Json::Object(pairs) = parsed else { return Err(invalid_request("it is not an object")) };
    let (mut plan_file, mut name) = (None, None);
    let (mut vars, mut env, mut files) = (BTreeMap::new(), BTreeMap::new(), None);
    for (key, value) in pairs {
        match (key.as_str(), value) {
            ("plan_file", Json::Text(text)) => plan_file = Some(text),
            ("plan_file", _) => {
                return Err(invalid_request("`plan_file` has to be a string: the text of the plan file"));
            }
            ("as", Json::Text(text)) => name = Some(checked_name(PathBuf::from(text), "`as`")?),
            ("as", Json::Null) => {}
            ("as", _) => return Err(invalid_request("`as` has to be a string: an absolute path")),
            ("vars", Json::Object(pairs)) => vars = texts("vars", pairs)?,
            ("env", Json::Object(pairs)) => env = texts("env", pairs)?,
            ("files", Json::Object(pairs)) => files = Some(texts("files", pairs)?),
            ("vars" | "env" | "files", Json::Null) => {}
            ("vars" | "env" | "files", _) => {
                return Err(invalid_request(&format!("`{key}` has to be an object of names and values")));
            }
            _ => {
                let failure = invalid_request(&format!("unknown key `{key}`"));
                return Err(failure.hint(format!("the keys of a request are {}", KEYS.join(", "))));
            }
        }
    }
    let plan_file = plan_file.ok_or_else(|| invalid_request("it has no `plan_file`"))?;
    let source = Source::of_input(plan_file.into_bytes(), name).of_request(files);
    Ok(StdinRequest { source, vars, env })
}

fn read(input: impl Read) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = MAX_INPUT_BYTES as u64 + 1;
    input
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("cannot read standard input: {}", reason(&error))))?;
    if bytes.len() > MAX_INPUT_BYTES {
        return Err(Failure::new(format!("standard input is larger than {} MiB", MAX_INPUT_BYTES >> 20)));
    }
    Ok(bytes)
}

fn invalid_request(why: &str) -> Failure {
    Failure::new(format!("cannot read the request on standard input: {why}"))
        .hint(r#"send one JSON object: {"plan_file": TEXT, "as": PATH, "vars": {…}, "env": {…}, "files": {…}}"#)
}

/// Returns the strings of an object. Numbers and booleans are converted to text, as on a command line.
fn texts(key: &str, pairs: Vec<(String, Json)>) -> Result<BTreeMap<String, String>, Failure> {
    let text = |(name, value): (String, Json)| match value {
        Json::Text(text) | Json::Plain(text) if !text.contains('\0') => Ok((name, text)),
        Json::Text(_) | Json::Plain(_) => Err(invalid_request(&format!("`{key}`.`{name}` contains a NUL character"))),
        _ => Err(invalid_request(&format!("`{key}`.`{name}` has to be a string"))),
    };
    pairs.into_iter().map(text).collect()
}

/// Checks that a plan file from standard input can be identified by this path.
fn checked_name(name: PathBuf, option: &str) -> Result<PathBuf, Failure> {
    let invalid = |why: &str| Failure::new(format!("{option} {}: {why}", name.display()));
    if !name.is_absolute() {
        let here = current_directory();
        let failure = if name.as_os_str().is_empty() { invalid("it is empty") } else { invalid("it is not absolute") };
        let name = if name.as_os_str().is_empty() { PathBuf::from("provision.yaml") } else { name };
        return Err(failure.hint(format!("use an absolute path: {}", here.join(name).display())));
    }
    if name.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(invalid("it contains a NUL character"));
    }
    let ends_as_folder = name.as_os_str().as_encoded_bytes().ends_with(b"/");
    if name.file_name().is_none() || ends_as_folder || name.is_dir() {
        let example = name.join("provision.yaml");
        return Err(invalid("it is a directory").hint(format!("name a file: {}", example.display())));
    }
    Ok(name)
}

/// A JSON value as far as a request can contain it. A duplicate key is an error.
enum Json {
    Null,
    Text(String),
    /// The text of a number or a boolean.
    Plain(String),
    List,
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        while items.next_element::<Json>()?.is_some() {}
        Ok(Json::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut pairs: Vec<(String, Json)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Json>()? {
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format!("duplicate key `{key}`")));
            }
            pairs.push((key, value));
        }
        Ok(Json::Object(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        let failure = read_request(text.as_bytes()).err().unwrap();
        format!("{} / {}", failure.message, failure.hint.unwrap_or_default())
    }

    #[test]
    fn a_request_carries_the_plan_file_and_its_values() {
        let text = r#"{"plan_file": "name: x", "as": "/srv/x.yaml", "vars": {"a": "1", "b": 2, "c": true}, "env": {"PW": "s"}}"#;
        let request = read_request(text.as_bytes()).unwrap();
        assert_eq!(request.source.bytes, b"name: x");
        assert_eq!(request.source.path, PathBuf::from("/srv/x.yaml"));
        let vars: Vec<(&str, &str)> = request.vars.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(vars, [("a", "1"), ("b", "2"), ("c", "true")]);
        assert_eq!(request.env["PW"], "s");
    }

    #[test]
    fn a_request_that_is_wrong_is_refused_without_its_values() {
        for (text, said) in [
            ("", "it is empty"),
            ("\n", "it is empty"),
            ("[]", "not an object"),
            ("name: x", "line 1"),
            (r#"{"plan_file": "x"} {}"#, "trailing"),
            (r#"{"vars": {}}"#, "no `plan_file`"),
            (r#"{"plan_file": ["hunter2"]}"#, "has to be a string"),
            (r#"{"plan_file": "x", "plan_file": "hunter2"}"#, "duplicate key `plan_file`"),
            (r#"{"plan_file": "x", "env": {"A": "hunter2", "A": "b"}}"#, "duplicate key `A`"),
            (r#"{"plan_file": "x", "environment": {"A": "hunter2"}}"#, "unknown key `environment`"),
            (r#"{"plan_file": "x", "env": {"A": ["hunter2"]}}"#, "`env`.`A` has to be a string"),
            (r#"{"plan_file": "x", "env": {"A": "hunter2\u0000"}}"#, "NUL"),
            (r#"{"plan_file": "x", "files": {"a.j2": null}}"#, "`files`.`a.j2` has to be a string"),
            (r#"{"plan_file": "x", "files": "hunter2"}"#, "`files` has to be an object"),
            (r#"{"plan_file": "x", "env": "hunter2"}"#, "`env` has to be an object"),
            (r#"{"plan_file": "x", "vars": {"A": null}}"#, "`vars`.`A` has to be a string"),
            (r#"{"plan_file": "x", "as": "x.yaml"}"#, "not absolute"),
            (r#"{"plan_file": "x", "as": "/"}"#, "is a directory"),
            (r#"{"plan_file": "x", "as": "/srv/"}"#, "is a directory"),
            (r#"{"plan_file": "x", "as": ""}"#, "is empty"),
            (r#"{"plan_file": "x", "as": 1}"#, "has to be a string"),
        ] {
            let message = message(text);
            assert!(message.contains(said), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
