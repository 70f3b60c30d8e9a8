//! The sources of secrets in a plan file.

use crate::text::shell_word;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::command_line::{CommandLine, EMPTY};
use crate::failure::Failure;
use crate::host::fs::{check_absolute, escape_path};

/// Where the value of a secret comes from, as written in the plan file. The source itself is not secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    pub origin: Origin,
    /// How the secret is encoded, if it is.
    pub encoding: Option<Encoding>,
    /// Where in a JSON text the secret is (RFC 6901), if it is in one.
    pub pointer: Option<Pointer>,
}

/// Where the raw value is read from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An environment variable of the process that the user started.
    Env(String),
    /// A file. The user who started the program reads it.
    File(PathBuf),
    /// A program and its arguments. Its standard output is the value.
    Command(CommandLine),
    /// A source whose template evaluates to nothing, such as `{ file: "{{ key_source }}" }`.
    Nothing(Word),
}

/// The key that names the type of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    Env,
    File,
    Command,
}

/// How a secret is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// RFC 4648, section 4. Line breaks and missing padding are accepted.
    Base64,
}

/// A JSON pointer (RFC 6901), such as `/data/password`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer(String);

impl Pointer {
    /// Returns whether it points to the whole text.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the reference tokens, unescaped.
    pub fn tokens(&self) -> Vec<String> {
        self.0.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!(
                "`{text}` is not a JSON pointer (RFC 6901): it has to start with `/`, as in /data/password"
            ));
        }
        if !escapes {
            return Err(format!(
                "`{text}` is not a JSON pointer (RFC 6901): write `~` as `~0`, and `/` in a key as `~1`"
            ));
        }
        Ok(Self(text))
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> Self {
        pointer.0
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SecretSource {
    /// Creates a source that uses the raw value of `origin`.
    pub fn plain(origin: Origin) -> Self {
        Self { origin, encoding: None, pointer: None }
    }

    /// Returns where the value is, as the subject of a sentence: `/pw in environment variable A`.
    pub fn place(&self) -> String {
        match &self.pointer {
            Some(pointer) if !pointer.is_whole() => format!("{pointer} in {}", self.origin),
            _ => self.origin.to_string(),
        }
    }

    /// Returns the files that the source refers to. Its value may change with them.
    pub fn files(&self) -> Vec<&Path> {
        match &self.origin {
            Origin::Env(_) | Origin::Nothing(_) => Vec::new(),
            Origin::File(path) => vec![path],
            Origin::Command(command) => {
                command.argv().iter().map(Path::new).filter(|word| word.is_absolute()).collect()
            }
        }
    }

    /// Returns the file whose content is the secret, or has it.
    pub fn file(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File(path) => Some(path),
            Origin::Env(_) | Origin::Nothing(_) | Origin::Command(_) => None,
        }
    }

    /// Returns a shell command line that prints the secret.
    pub fn manual(&self) -> String {
        let mut line = match &self.origin {
            Origin::Env(name) => format!("printf '%s\\n' \"$(printenv {})\"", shell_word(name)),
            Origin::File(path) => format!("cat {}", shell_word(path)),
            Origin::Command(command) => command.line(),
            Origin::Nothing(_) => "cat /path/to/secret".to_owned(),
        };
        if let Some(pointer) = &self.pointer {
            line.push_str(&format!(" | jq -r {}", shell_word(jq_filter(&pointer.tokens()))));
        }
        if self.encoding.is_some() {
            line.push_str(" | base64 -d");
        }
        line
    }
}

/// Returns the filter of jq(1) for the tokens of a JSON pointer. Digits can be a key or an index, depending on the value.
fn jq_filter(tokens: &[String]) -> String {
    let path = serde_json::Value::from(tokens).to_string();
    match tokens.iter().any(|token| token.parse::<usize>().is_ok()) {
        true => format!("reduce {path}[] as $key (.; if type == \"array\" then .[$key | tonumber] else .[$key] end)"),
        false => format!("getpath({path})"),
    }
}

impl fmt::Display for Origin {
    /// Formats the origin as the subject of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Env(name) => write!(f, "environment variable {name}"),
            Origin::File(path) => f.write_str(&escape_path(path)),
            Origin::Command(command) => write!(f, "the output of {}", command.program()),
            Origin::Nothing(word) => write!(f, "`{}`", word.text()),
        }
    }
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Word::Env => "env",
            Word::File => "file",
            Word::Command => "command",
        }
    }
}

/// Returns why a source has no value, as the end of a sentence. `None` stands for a step without a source.
pub fn yields_nothing(source: Option<&SecretSource>) -> String {
    match source.map(|source| &source.origin) {
        None => "no source is given".to_owned(),
        Some(Origin::Nothing(word)) => {
            let what = match word {
                Word::Env => "variable",
                Word::File => "file",
                Word::Command => "command",
            };
            format!("the source names no {what} (`{}` is empty)", word.text())
        }
        Some(origin @ Origin::Env(_)) => format!("{origin} is unset or empty"),
        Some(origin) => format!("{origin} is empty"),
    }
}

/// Returns a hint on how to set the value of a source. `key` is the step's key for the source.
pub fn how_to_give(source: Option<&SecretSource>, key: &str) -> String {
    match source.map(|source| &source.origin) {
        None => format!("add `{key}` to the step, such as {{ env: NAME }}"),
        Some(Origin::Nothing(Word::File)) => {
            format!(
                "set `file` of `{key}` to a path, for example with --var key_source=PATH if it comes from a variable"
            )
        }
        Some(Origin::Nothing(word)) => format!("set `{}` of `{key}`", word.text()),
        Some(Origin::Env(name)) => format!("set the environment variable {name}"),
        Some(origin) => format!("check why {origin} is empty"),
    }
}

impl Serialize for SecretSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.origin {
            Origin::Env(name) => map.serialize_entry("env", name)?,
            Origin::File(path) => map.serialize_entry("file", path)?,
            Origin::Command(command) => map.serialize_entry("command", command)?,
            Origin::Nothing(word) => map.serialize_entry(word.text(), &None::<()>)?,
        }
        if let Some(encoding) = &self.encoding {
            map.serialize_entry("encoding", encoding)?;
        }
        if let Some(pointer) = &self.pointer {
            map.serialize_entry("json", pointer)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        optional_source(from)?.ok_or_else(|| D::Error::custom(written_out()))
    }
}

/// Deserializes an optional source. `null` counts as absent. For `#[serde(default, deserialize_with =
/// "optional_source")]`.
///
/// Anything else at that place may be the secret itself, so messages never repeat it.
///
/// # Errors
/// There is not exactly one of the three keys, a key is unknown, a value is empty, or a name cannot be an environment
/// variable.
pub fn optional_source<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretSource>, D::Error> {
    from.deserialize_any(SourceReader)
}

/// The failure for a secret in a plan file.
pub fn written_out() -> Failure {
    Failure::new("a plan file must not contain secrets")
        .hint("use a source: { env: NAME }, { file: PATH } or { command: [PROGRAM, ARGUMENT, …] }")
}

const ONE_ORIGIN: &str = "a secret source has exactly one of `env`, `file` and `command`";

/// The keys of a source.
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Env,
    File,
    Command,
    Encoding,
    Json,
}

struct SourceReader;

impl<'de> Visitor<'de> for SourceReader {
    type Value = Option<SecretSource>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret source: { env: NAME }, { file: PATH } or { command: [PROGRAM, ARGUMENT, …] }")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut origin, mut encoding, mut pointer) = (None, None, None);
        while let Some(key) = map.next_key::<Key>()? {
            let found = match key {
                Key::Env => map.next_value::<Option<EnvName>>()?.map(|name| Origin::Env(name.0)),
                Key::File => map.next_value::<Option<SourceFile>>()?.map(|file| Origin::File(file.0)),
                Key::Command => map.next_value::<Option<CommandLine>>()?.map(Origin::Command),
                Key::Encoding => {
                    encoding = map.next_value()?;
                    continue;
                }
                Key::Json => {
                    pointer = map.next_value()?;
                    continue;
                }
            };
            let word = match key {
                Key::File => Word::File,
                Key::Command => Word::Command,
                _ => Word::Env,
            };
            if origin.replace(found.unwrap_or(Origin::Nothing(word))).is_some() {
                return Err(A::Error::custom(ONE_ORIGIN));
            }
        }
        let origin = origin.ok_or_else(|| A::Error::custom(ONE_ORIGIN))?;
        Ok(Some(SecretSource { origin, encoding, pointer }))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom(written_out()))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(E::custom(written_out()))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Err(E::custom(written_out()))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Err(E::custom(written_out()))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Err(E::custom(written_out()))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(E::custom(written_out()))
    }
}

/// A valid name of an environment variable, without reference syntax.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct EnvName(String);

impl TryFrom<String> for EnvName {
    type Error = Failure;

    fn try_from(name: String) -> Result<Self, Failure> {
        if name.is_empty() {
            return Err(EMPTY.into());
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || "=$(){}'\"`\\;&|<>".contains(c);
        if !name.contains(odd) {
            return Ok(Self(name));
        }
        let meant: String = name.split('=').next().unwrap_or_default().chars().filter(|c| !odd(*c)).collect();
        let hint = if is_plain(&meant) {
            format!("did you mean `{meant}`?")
        } else {
            "write only the name, as in { env: NAME }".to_owned()
        };
        Err(Failure::new("this is not a valid name of an environment variable").hint(hint))
    }
}

/// Returns whether a word is a valid name of a shell variable.
pub fn is_plain(name: &str) -> bool {
    let letters = |c: char| c == '_' || c.is_ascii_alphanumeric();
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(letters)
}

#[derive(Deserialize)]
#[serde(try_from = "PathBuf")]
struct SourceFile(PathBuf);

impl TryFrom<PathBuf> for SourceFile {
    type Error = String;

    /// Rejects relative paths, which depend on the current directory.
    fn try_from(path: PathBuf) -> Result<Self, String> {
        if path.as_os_str().is_empty() {
            return Err(EMPTY.to_owned());
        }
        check_absolute(&path)?;
        Ok(Self(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Option<SecretSource>, String> {
        #[derive(Deserialize)]
        struct Step {
            #[serde(default, deserialize_with = "optional_source")]
            source: Option<SecretSource>,
        }
        serde_yaml::from_str::<Step>(yaml).map(|step| step.source).map_err(|error| error.to_string())
    }

    #[test]
    fn sources_are_optional() {
        let plain = |origin| Ok(Some(SecretSource::plain(origin)));
        assert_eq!(read("source: { env: A }"), plain(Origin::Env("A".into())));
        assert_eq!(read("source: { file: /a }"), plain(Origin::File("/a".into())));
        assert_eq!(read("source: { command: [a, b] }"), plain(Origin::Command(vec!["a".into(), "b".into()].into())));
        assert_eq!(read("source: { file: null }"), plain(Origin::Nothing(Word::File)));
        assert_eq!(read("source: { env: ~ }"), plain(Origin::Nothing(Word::Env)));
        for none in ["{}", "source: null"] {
            assert_eq!(read(none), Ok(None), "{none}");
        }
    }

    #[test]
    fn manual_lines_print_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b.json");
        std::fs::write(&path, r#"{ "a b": ["x", { "0": "it's" }], "c/d": "aGk=" }"#).unwrap();
        let file = path.display();
        for (rest, printed) in [
            ("json: /a b/1/0", "it's\n"),
            ("json: /a b/0", "x\n"),
            ("json: /c~1d", "aGk=\n"),
            ("json: /c~1d, encoding: base64", "hi"),
        ] {
            let line = read(&format!("source: {{ file: \"{file}\", {rest} }}")).unwrap().unwrap().manual();
            let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), printed, "{line}: {output:?}");
        }
    }

    #[test]
    fn sources_round_trip_to_a_worker() {
        for text in [
            "source: { env: A, encoding: base64, json: /a~1b/0 }",
            "source: { file: /a, json: '' }",
            "source: { command: [a, b], encoding: base64 }",
            "source: { command: { argv: [a, token], shown: [a, '{{ token }}'] } }",
            "source: { file: null }",
        ] {
            let source = read(text).unwrap().unwrap();
            let sent: SecretSource = serde_json::from_str(&serde_json::to_string(&source).unwrap()).unwrap();
            assert_eq!((&sent, sent.manual()), (&source, source.manual()), "{text}");
        }
    }

    #[test]
    fn invalid_sources_are_rejected() {
        for (wrong, expected) in [
            ("source: {}", "exactly one of"),
            ("source: { encoding: base64 }", "exactly one of"),
            ("source: { env: A, file: /b }", "exactly one of"),
            ("source: { env: A, file: null }", "exactly one of"),
            ("source: { env: '' }", "empty"),
            ("source: { file: '' }", "empty"),
            ("source: { file: key.pem }", "`key.pem` is not absolute: a path starts"),
            ("source: { file: ./key.pem }", "not absolute"),
            ("source: { file: ~/key.pem }", "write out the home directory"),
            ("source: { command: [] }", "empty"),
            ("source: { command: [''] }", "empty"),
            ("source: { command: [./x, a] }", "`./x` is not absolute: a path starts"),
            ("source: { command: [bin/x] }", "`bin/x` is not absolute"),
            ("source: { command: [~/bin/x] }", "`~/bin/x` is not absolute: write out the home directory"),
            ("source: { command: { argv: [s3cr3t/x], shown: ['{{ d }}/x'] } }", "`{{ d }}/x` is not absolute"),
            ("source: { vault: a }", "unknown field"),
            ("source: { env: A, json: password }", "start with `/`"),
            ("source: { env: A, json: /a~b }", "write `~` as `~0`"),
            ("source: { env: A, encoding: hex }", "unknown variant"),
            ("source: /a", "must not contain secrets"),
            ("source: [a]", "must not contain secrets"),
            ("source: 12", "must not contain secrets"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }

    #[test]
    fn invalid_variable_names_are_rejected_with_a_suggestion() {
        for wrong in ["$PW", "${PW}", "$(PW)", " PW ", "PW=", "PW=x", "%7B%7B PW }}", "'PW'", "`PW`", "{{ PW }}"] {
            let error = EnvName::try_from(wrong.to_owned()).map(|_| ()).unwrap_err();
            assert_eq!(error.message, "this is not a valid name of an environment variable", "{wrong}");
            let hint = if wrong.starts_with('%') { "write only the name" } else { "did you mean `PW`?" };
            assert!(error.hint.as_ref().unwrap().starts_with(hint), "{wrong}: {error:?}");
        }
        for right in ["PW", "_x9", "npm.token", "my-var"] {
            assert!(read(&format!("source: {{ env: {right} }}")).is_ok(), "{right}");
        }
    }
}
