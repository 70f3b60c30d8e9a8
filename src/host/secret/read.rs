//! Reads secret sources in the process that the user started, with that user's rights.

use crate::text::shell_word;
use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::command;
use super::decode::decode;
use super::source::{Origin, SecretSource};
use super::{MAX_SECRET, Secret};
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::fs;
use crate::host::users::acting_user;
use crate::telemetry::spans;

/// The value of a secret source. `None` means an environment variable that is unset or empty, or a source without a
/// value.
pub type SecretResult = Result<Option<Secret>, SecretError>;

/// Why a source could not provide a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretError {
    /// It could not be read. The steps that need it have failed.
    Unreadable(Failure),
    /// It was read, but the content cannot be the secret. The steps that need it are blocked.
    Unusable(Failure),
}

impl SecretError {
    /// Returns what went wrong, with a hint.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Unreadable(failure) | Self::Unusable(failure) => failure,
        }
    }
}

/// Reads the sources of one run. Each origin is read only once, even if several steps use it or parts of it.
pub struct SecretReader {
    environment: Environment,
    /// The environment variables that are withheld from programs because they contain other secrets.
    withheld: BTreeSet<String>,
    known: HashMap<Origin, SecretResult>,
}

impl SecretReader {
    /// Creates a reader of the variables in `environment`. Programs get the environment of the process without the
    /// variables in `withheld`.
    pub fn new(environment: Environment, withheld: BTreeSet<String>) -> Self {
        Self { environment, withheld, known: HashMap::new() }
    }

    /// Returns the value of a source.
    ///
    /// An environment variable may be unset or empty; the source then has no value. A file or a command is expected to
    /// have the secret, so it is an error if the content is empty or has only line endings: a lookup that finds nothing
    /// often prints an empty line. An empty decoded value is an error too.
    ///
    /// # Errors
    /// The file cannot be read, the program fails, does not exist or takes more than a minute, or the content is empty
    /// or not encoded as the source specifies.
    pub async fn read(&mut self, source: &SecretSource) -> SecretResult {
        let origin = &source.origin;
        let raw = match self.known.get(origin) {
            Some(known) => known.clone(),
            None => {
                let span = spans::secret_read(&place(origin));
                let raw = span.instrument(read(origin, &self.environment, &self.withheld)).await;
                self.known.insert(origin.clone(), raw.clone());
                raw
            }
        };
        let Some(raw) = raw? else { return Ok(None) };
        let secret = decode(source, &raw).map_err(SecretError::Unusable)?;
        if is_blank(secret.expose()) {
            let failure = Failure::new(format!("the value of {origin} is empty after decoding"));
            return Err(SecretError::Unusable(failure.hint("check that the secret exists there")));
        }
        Ok(Some(secret))
    }
}

/// Returns a warning if the source is a file that every user of the host can read.
pub fn exposure_warning(source: &SecretSource) -> Option<String> {
    let Origin::File(path) = &source.origin else { return None };
    let path = std::fs::canonicalize(path).ok()?;
    let mode = |path: &Path| Some(std::fs::metadata(path).ok()?.mode());
    if mode(&path)? & 0o004 == 0
        || path.ancestors().skip(1).any(|above| mode(above).is_some_and(|mode| mode & 0o001 == 0))
    {
        return None;
    }
    let shown = fs::escape_path(&path);
    let word = shell_word(path);
    Some(format!(
        "every user of this host can read the secret source {shown}; remove that permission: `chmod o= {word}`"
    ))
}

/// Returns the place of a source, without the arguments of its program.
fn place(origin: &Origin) -> String {
    match origin {
        Origin::Nothing(_) => "none".to_owned(),
        Origin::Env(name) => format!("env {name}"),
        Origin::File(path) => format!("file {}", fs::escape_path(path)),
        Origin::Command(command) => format!("command {}", command.program()),
    }
}

async fn read(origin: &Origin, environment: &Environment, withheld: &BTreeSet<String>) -> SecretResult {
    let secret = match origin {
        Origin::Nothing(_) => return Ok(None),
        Origin::Env(name) => {
            let secret = Secret::copy_of(environment.answer(name).map(OsStrExt::as_bytes).unwrap_or_default());
            return Ok(if is_blank(secret.expose()) { None } else { Some(secret) });
        }
        Origin::File(path) => file(path).map_err(SecretError::Unreadable)?,
        Origin::Command(line) => command::output(line, withheld).await.map_err(SecretError::Unreadable)?,
    };
    if is_blank(secret.expose()) {
        return Err(SecretError::Unusable(blank(origin, secret.expose().is_empty())));
    }
    Ok(Some(secret))
}

/// Returns whether the bytes contain no value: nothing except line endings and a byte order mark.
fn is_blank(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(super::BYTE_ORDER_MARK).unwrap_or(bytes);
    bytes.iter().all(|byte| matches!(byte, b'\n' | b'\r'))
}

fn blank(origin: &Origin, is_empty: bool) -> Failure {
    let but = if is_empty { "" } else { " except line endings" };
    match origin {
        Origin::Command(command) => {
            let program = command.program();
            Failure::new(format!("the secret command {program} succeeded and printed nothing{but}"))
                .hint(format!("run it to see whether it finds the secret: `{}`", command.line()))
        }
        origin => {
            let found = if is_empty { "is empty" } else { "contains only line endings" };
            Failure::new(format!("the secret source {origin} {found}"))
                .hint(format!("write the secret to {origin}, or use another source"))
        }
    }
}

/// What is wrong with a file of more than [`MAX_SECRET`] bytes.
const TOO_LARGE: &str = "it is larger than 1 MiB, the maximum for a secret";

/// Root does not follow symlinks that another user could have created, as that user could make it read root's files.
fn file(path: &Path) -> Result<Secret, Failure> {
    let shown = fs::escape_path(path);
    let cannot_read = |why: &str| Failure::new(format!("cannot read the secret source {shown}: {why}"));
    let another = "use the path of a file that you can read";
    let by_command = || {
        let text = path.to_string_lossy();
        // Quoted for YAML.
        let path = if shell_word(path) == text { text.into_owned() } else { serde_json::Value::from(text).to_string() };
        format!("use a program to read it: {{ command: [cat, {path}] }}")
    };
    let is_descriptor = path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd") || path == "/dev/stdin";
    if is_descriptor {
        return Err(cannot_read("it is a descriptor of a process, not a file").hint(by_command()));
    }
    match fs::Place::follow(path).and_then(|place| place.parent()?.read(&place.name, MAX_SECRET)) {
        Ok(Some(seen)) => Ok(Secret::copy_of(&seen.bytes)),
        Ok(None) => Err(cannot_read("it does not exist").hint(another)),
        Err(error) if error.is_missing() => Err(cannot_read("it does not exist").hint(another)),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Err(cannot_read(TOO_LARGE).hint(
            "name the file that has only the secret, or a program that prints it: { command: [PROGRAM, ARGUMENT, …] }",
        )),
        Err(error) if error.is_denied() => {
            let user = acting_user();
            Err(cannot_read(&format!("permission denied to {user}")).hint(format!(
                "secrets are read by {user}, who started provision, and not by the step's `run_as` user: {another}"
            )))
        }
        Err(error) => {
            let can_be_piped = ["FIFO", "socket", "device"].iter().any(|kind| error.to_string().contains(kind));
            Err(cannot_read(&error.to_string()).hint(if can_be_piped { by_command() } else { another.to_owned() }))
        }
    }
}
