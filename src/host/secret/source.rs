//! How a plan file names the place of a secret.

use crate::text::shell_word;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::Failure;
use crate::host::fs::escape_path;

/// Where a secret's value comes from, as the plan file names it. It is no secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    pub origin: Origin,
    /// How the secret is written there; as it is, where `None`.
    pub encoding: Option<Encoding>,
    /// Where in a JSON text the secret stands (RFC 6901).
    pub pointer: Option<Pointer>,
}

/// What is read for a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An environment variable of the process that was started by the user.
    Env(String),
    /// A file, read by the user who started the program.
    File(PathBuf),
    /// A program and its arguments; its standard output is the value.
    Command(Vec<String>),
    /// A source whose template gives no value, such as `{ file: "{{ key_source }}" }`; the word is the source's.
    Nothing(Word),
}

/// The word by which a source is named.
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
    /// RFC 4648, section 4; line breaks and missing padding do no harm.
    Base64,
}

/// A JSON pointer (RFC 6901), such as `/data/password`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer(String);

impl Pointer {
    /// The reference tokens, unescaped.
    pub fn tokens(&self) -> Vec<String> {
        self.0.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("`{text}` is not a JSON pointer (RFC 6901): it begins with `/`, as in /data/password"));
        }
        if !escapes {
            return Err(format!(
                "`{text}` is not a JSON pointer (RFC 6901): `~` is written `~0`, and `/` in a key `~1`"
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
    /// The source that reads `origin` as it is.
    pub fn plain(origin: Origin) -> Self {
        Self { origin, encoding: None, pointer: None }
    }

    /// The files that the source names: what it yields may change with them.
    pub fn files(&self) -> Vec<&Path> {
        match &self.origin {
            Origin::Env(_) | Origin::Nothing(_) => Vec::new(),
            Origin::File(path) => vec![path],
            Origin::Command(argv) => argv.iter().map(Path::new).filter(|word| word.is_absolute()).collect(),
        }
    }

    /// A pipe of commands that prints the secret, for a shell.
    pub fn manual(&self) -> String {
        let mut line = match &self.origin {
            Origin::Env(name) => format!("printf '%s\\n' \"$(printenv {})\"", shell_word(name)),
            Origin::File(path) => format!("cat {}", shell_word(&path.to_string_lossy())),
            Origin::Command(argv) => argv.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" "),
            Origin::Nothing(_) => "cat /path/to/secret".to_owned(),
        };
        if let Some(pointer) = &self.pointer {
            let path = serde_json::Value::from(pointer.tokens()).to_string();
            line.push_str(&format!(" | jq -r {}", shell_word(&format!("getpath({path})"))));
        }
        if self.encoding.is_some() {
            line.push_str(" | base64 -d");
        }
        line
    }
}

impl fmt::Display for Origin {
    /// As the subject of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Env(name) => write!(f, "environment variable {name}"),
            Origin::File(path) => f.write_str(&escape_path(path)),
            Origin::Command(argv) => {
                write!(f, "the output of {}", argv.first().map_or("the command", String::as_str))
            }
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

/// Why a source yields nothing, as the end of a sentence; `None` is a step that names no source.
pub fn yields_nothing(source: Option<&SecretSource>) -> String {
    match source.map(|source| &source.origin) {
        None => "no source is given".to_owned(),
        Some(Origin::Nothing(word)) => format!("`{}` of the source is given no value", word.text()),
        Some(origin @ Origin::Env(_)) => format!("{origin} is not set, or empty"),
        Some(origin) => format!("{origin} is empty"),
    }
}

/// What gives a source its value, as an instruction; `key` is the step's key for the source.
pub fn how_to_give(source: Option<&SecretSource>, key: &str) -> String {
    match source.map(|source| &source.origin) {
        None => format!("give the step a `{key}`, such as {{ env: NAME }}"),
        Some(Origin::Nothing(Word::File)) => {
            format!("give `file` of the `{key}` a path, such as --var key_source=PATH where a variable names it")
        }
        Some(Origin::Nothing(word)) => format!("give `{}` of the `{key}` a value", word.text()),
        Some(Origin::Env(name)) => format!("set the environment variable {name}"),
        Some(origin) => format!("see why {origin} is empty"),
    }
}

impl Serialize for SecretSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.origin {
            Origin::Env(name) => map.serialize_entry("env", name)?,
            Origin::File(path) => map.serialize_entry("file", path)?,
            Origin::Command(argv) => map.serialize_entry("command", argv)?,
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

/// Reads a source that may be left out: `null` counts as not given. For
/// `#[serde(default, deserialize_with = "optional_source")]`.
///
/// Whatever stands there and is no source may be the secret itself, so no message repeats it.
///
/// # Errors
/// None or several of the three words, an unknown one, an empty value, a name that no environment variable can have.
pub fn optional_source<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretSource>, D::Error> {
    from.deserialize_any(SourceReader)
}

fn written_out() -> Failure {
    Failure::new("a secret is given by its source, and is not written here")
        .hint("write { env: NAME }, { file: PATH } or { command: [PROGRAM, ARGUMENT, …] }")
}

const ONE_ORIGIN: &str = "a secret source is exactly one of `env`, `file` and `command`";

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
                Key::Command => map.next_value::<Option<CommandLine>>()?.map(|argv| Origin::Command(argv.0)),
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

const EMPTY: &str = "the secret source is empty: leave it out, or give it a value";

/// A name that an environment variable can have, and that nobody means as a reference to one.
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
            "write the name alone, as in { env: NAME }".to_owned()
        };
        Err(Failure::new("this is not a valid name of an environment variable").hint(hint))
    }
}

/// Whether a word is a name as shells give them to variables.
pub fn is_plain(name: &str) -> bool {
    let letters = |c: char| c == '_' || c.is_ascii_alphanumeric();
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(letters)
}

#[derive(Deserialize)]
#[serde(try_from = "PathBuf")]
struct SourceFile(PathBuf);

impl TryFrom<PathBuf> for SourceFile {
    type Error = String;

    /// Refuses a path that means another file in another directory.
    fn try_from(path: PathBuf) -> Result<Self, String> {
        let quoted = escape_path(&path);
        if path.as_os_str().is_empty() {
            return Err(EMPTY.to_owned());
        }
        if path.starts_with("~") {
            return Err(format!("`{quoted}` is not absolute: write the home directory out"));
        }
        if !path.is_absolute() {
            return Err(format!("`{quoted}` is not absolute: a path begins with `/`"));
        }
        Ok(Self(path))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "Vec<String>")]
struct CommandLine(Vec<String>);

impl TryFrom<Vec<String>> for CommandLine {
    type Error = &'static str;

    fn try_from(argv: Vec<String>) -> Result<Self, &'static str> {
        if argv.first().is_none_or(String::is_empty) { Err(EMPTY) } else { Ok(Self(argv)) }
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
    fn a_source_is_given_or_not() {
        let plain = |origin| Ok(Some(SecretSource::plain(origin)));
        assert_eq!(read("source: { env: A }"), plain(Origin::Env("A".into())));
        assert_eq!(read("source: { file: /a }"), plain(Origin::File("/a".into())));
        assert_eq!(read("source: { command: [a, b] }"), plain(Origin::Command(vec!["a".into(), "b".into()])));
        assert_eq!(read("source: { file: null }"), plain(Origin::Nothing(Word::File)));
        assert_eq!(read("source: { env: ~ }"), plain(Origin::Nothing(Word::Env)));
        for none in ["{}", "source: null"] {
            assert_eq!(read(none), Ok(None), "{none}");
        }
    }

    #[test]
    fn a_source_crosses_to_a_worker_as_it_is() {
        for text in [
            "source: { env: A, encoding: base64, json: /a~1b/0 }",
            "source: { file: /a, json: '' }",
            "source: { command: [a, b], encoding: base64 }",
            "source: { file: null }",
        ] {
            let source = read(text).unwrap().unwrap();
            let sent: SecretSource = serde_json::from_str(&serde_json::to_string(&source).unwrap()).unwrap();
            assert_eq!(sent, source, "{text}");
        }
    }

    #[test]
    fn a_source_is_one_word_with_a_value() {
        for (wrong, told) in [
            ("source: {}", "exactly one of"),
            ("source: { encoding: base64 }", "exactly one of"),
            ("source: { env: A, file: /b }", "exactly one of"),
            ("source: { env: A, file: null }", "exactly one of"),
            ("source: { env: '' }", "empty"),
            ("source: { file: '' }", "empty"),
            ("source: { file: key.pem }", "`key.pem` is not absolute: a path begins"),
            ("source: { file: ./key.pem }", "not absolute"),
            ("source: { file: ~/key.pem }", "write the home directory out"),
            ("source: { command: [] }", "empty"),
            ("source: { command: [''] }", "empty"),
            ("source: { vault: a }", "unknown field"),
            ("source: { env: A, json: password }", "begins with `/`"),
            ("source: { env: A, json: /a~b }", "`~` is written `~0`"),
            ("source: { env: A, encoding: hex }", "unknown variant"),
            ("source: /a", "given by its source"),
            ("source: [a]", "given by its source"),
            ("source: 12", "given by its source"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_name_that_no_variable_can_have_is_refused_with_the_one_that_is_meant() {
        for wrong in ["$PW", "${PW}", "$(PW)", " PW ", "PW=", "PW=x", "%7B%7B PW }}", "'PW'", "`PW`", "{{ PW }}"] {
            let error = EnvName::try_from(wrong.to_owned()).map(|_| ()).unwrap_err();
            assert_eq!(error.message, "this is not a valid name of an environment variable", "{wrong}");
            let hint = if wrong.starts_with('%') { "write the name alone" } else { "did you mean `PW`?" };
            assert!(error.hint.as_ref().unwrap().starts_with(hint), "{wrong}: {error:?}");
        }
        for right in ["PW", "_x9", "npm.token", "my-var"] {
            assert!(read(&format!("source: {{ env: {right} }}")).is_ok(), "{right}");
        }
    }
}
