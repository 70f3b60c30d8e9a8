//! Secrets: where they come from, how they are held, and how two of them are compared without being shown.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretSlice};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::fs::show;

/// Where a secret's value is to be had, as the plan file names it. It is no secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretSource {
    /// An environment variable of the process that was started by the user.
    Env(String),
    /// A file, read by the user who started the program.
    File(PathBuf),
    /// A program and its arguments; its standard output is the value.
    Command(Vec<String>),
}

impl SecretSource {
    /// The files that the source names: what it yields may change with them.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            SecretSource::Env(_) => Vec::new(),
            SecretSource::File(path) => vec![path],
            SecretSource::Command(argv) => argv.iter().map(Path::new).filter(|word| word.is_absolute()).collect(),
        }
    }
}

/// Why a source yields nothing, as the end of a sentence; `None` is a step that names no source.
pub fn yields_nothing(source: Option<&SecretSource>) -> String {
    match source {
        None => "no source is given".to_owned(),
        Some(SecretSource::Env(name)) => format!("environment variable {name} is not set, or empty"),
        Some(SecretSource::File(path)) => format!("{} is empty", path.display()),
        Some(SecretSource::Command(argv)) => {
            format!("{} prints nothing", argv.first().map_or("the command", String::as_str))
        }
    }
}

/// Reads a source that may be left out: `null`, and a source whose value is `null` (a template that evaluates to none),
/// count as not given. For `#[serde(default, deserialize_with = "optional_source")]`.
///
/// # Errors
/// None or several of the three words, an unknown one, or an empty value.
pub fn optional_source<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretSource>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, expecting = "a secret source: { env: NAME }, { file: PATH } or { command: [ARGV] }")]
    struct Words {
        #[serde(default, deserialize_with = "written")]
        env: Option<Option<String>>,
        #[serde(default, deserialize_with = "written")]
        file: Option<Option<PathBuf>>,
        #[serde(default, deserialize_with = "written")]
        command: Option<Option<Vec<String>>>,
    }
    /// Tells a word whose value is `null` from a word that is absent.
    fn written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
        Option::deserialize(from).map(Some)
    }
    let Some(words) = Option::<Words>::deserialize(from)? else { return Ok(None) };
    let source = match words {
        Words { env: Some(name), file: None, command: None } => name.map(SecretSource::Env),
        Words { env: None, file: Some(path), command: None } => path.map(SecretSource::File),
        Words { env: None, file: None, command: Some(argv) } => argv.map(SecretSource::Command),
        _ => return Err(D::Error::custom("a secret source is exactly one of `env`, `file` and `command`")),
    };
    let empty = match &source {
        Some(SecretSource::Env(name)) => name.is_empty(),
        Some(SecretSource::File(path)) => path.as_os_str().is_empty(),
        Some(SecretSource::Command(argv)) => argv.first().is_none_or(String::is_empty),
        None => false,
    };
    if empty {
        return Err(D::Error::custom("the secret source is empty: leave it out, or give it a value"));
    }
    if let Some(SecretSource::File(path)) = &source {
        judge_file(path).map_err(D::Error::custom)?;
    }
    Ok(source)
}

/// Refuses a source's path that means another file in another directory.
///
/// # Errors
/// Why it is refused, with what to write instead.
pub fn judge_file(path: &Path) -> Result<(), String> {
    let quoted = show(path);
    if path.starts_with("~") {
        return Err(format!("`{quoted}` is not absolute: write the home directory out"));
    }
    if !path.is_absolute() {
        return Err(format!("`{quoted}` is not absolute: a path begins with `/`"));
    }
    Ok(())
}

/// A secret's bytes. Wiped when dropped; there is no `Display`, no `Serialize`, and `Debug` hides the value.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Takes the bytes over; the caller's buffer is wiped.
    pub fn new(bytes: Vec<u8>) -> Self {
        // Not the buffer itself: giving its spare room back could move it, and leave the bytes where they were.
        Self::copy_of(&Zeroizing::new(bytes))
    }

    /// A copy of the bytes, whose owner has to wipe them.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(SecretSlice::new(bytes.into()))
    }

    /// The value itself, for the one place that writes it to its target.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// The value without one line ending at its end: editors and `echo` add one that is no part of a password.
    pub fn without_line_ending(&self) -> Secret {
        let bytes = self.expose();
        let line = bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n"));
        Secret::copy_of(line.unwrap_or(bytes))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A keyed hash of a secret. Two digests of one run are equal where the values are; without the run's key nothing
/// can be guessed from one, which a bare SHA-256 of a weak password would allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(String);

impl Digest {
    /// A digest as a fixture or a worker's answer spells it.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Eight of its digits.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

/// Makes digests under one run's key (32 random bytes). A saved plan alone keeps one, for the run that applies it.
#[derive(Clone)]
pub struct Digester(Zeroizing<[u8; 32]>);

impl Digester {
    /// A digester under a key that is given: a worker gets its launcher's.
    pub fn with_key(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// A digester under a fresh key from the kernel's random source.
    pub fn fresh() -> std::io::Result<Self> {
        let mut key = [0; 32];
        openssl::rand::rand_bytes(&mut key).map_err(std::io::Error::other)?;
        Ok(Self::with_key(key))
    }

    /// The key, for the worker that has to compare under it.
    pub fn key(&self) -> &[u8; 32] {
        &self.0
    }

    /// The keyed hash (BLAKE3, 16 of its bytes as hexadecimal digits) of a value.
    pub fn digest(&self, value: &[u8]) -> Digest {
        let hash = blake3::keyed_hash(&self.0, value);
        Digest(hash.to_hex()[..32].to_owned())
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
        assert_eq!(read("source: { env: A }"), Ok(Some(SecretSource::Env("A".into()))));
        assert_eq!(read("source: { file: /a }"), Ok(Some(SecretSource::File("/a".into()))));
        assert_eq!(read("source: { command: [a, b] }"), Ok(Some(SecretSource::Command(vec!["a".into(), "b".into()]))));
        for none in ["{}", "source: null", "source: { file: null }", "source: { env: ~ }", "source: { command: null }"]
        {
            assert_eq!(read(none), Ok(None), "{none}");
        }
    }

    #[test]
    fn a_source_is_one_word_with_a_value() {
        for (wrong, told) in [
            ("source: {}", "exactly one of"),
            ("source: { env: A, file: /b }", "exactly one of"),
            ("source: { env: A, file: null }", "exactly one of"),
            ("source: { file: '' }", "empty"),
            ("source: { file: key.pem }", "`key.pem` is not absolute: a path begins"),
            ("source: { file: ./key.pem }", "not absolute"),
            ("source: { file: ~/key.pem }", "write the home directory out"),
            ("source: { command: [] }", "empty"),
            ("source: { vault: a }", "unknown field"),
            ("source: /a", "a secret source"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn one_line_ending_alone_is_taken_off() {
        for (value, line) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("a", "a"), ("\n", "")] {
            assert_eq!(Secret::copy_of(value.as_bytes()).without_line_ending().expose(), line.as_bytes(), "{value:?}");
        }
    }
}
