//! Asks a secret source for its value, in the process that the user started and with that user's rights.

use crate::text::shell_word;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;
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

/// What a secret source yielded. `None`: an environment variable that is unset or empty, or a source without a value.
pub type SecretResult = Result<Option<Secret>, SecretError>;

/// Why a source has no value to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretError {
    /// It could not be read: the steps that need it have failed.
    Unreadable(Failure),
    /// It was read, and what it holds cannot be meant: the steps that need it are blocked.
    Unusable(Failure),
}

impl SecretError {
    /// What went wrong, and the remedy.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Unreadable(failure) | Self::Unusable(failure) => failure,
        }
    }
}

/// Reads the sources of one run. What a source reads is read once, whoever needs it and in whatever part.
pub struct SecretReader {
    environment: Environment,
    /// The environment variables that no program gets, since they hold other secrets.
    withheld: BTreeSet<String>,
    known: HashMap<Origin, SecretResult>,
}

impl SecretReader {
    /// A reader of the variables in `environment`, and of programs that get the process's own environment without those
    /// named in `withheld`.
    pub fn new(environment: Environment, withheld: BTreeSet<String>) -> Self {
        Self { environment, withheld, known: HashMap::new() }
    }

    /// Returns the value of a source.
    ///
    /// An environment variable may be unset or empty: then the source yields nothing. A file or a command was named
    /// because it has the secret, so one that is empty, or holds line endings alone, is a mistake: a lookup that found
    /// nothing often prints an empty line. So is a decoded value that is empty.
    ///
    /// # Errors
    /// A file cannot be read; a program fails, is not there, or does not end within a minute; there is no content, or it is
    /// not encoded as the source says.
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
            let failure = Failure::new(format!("what {origin} holds is empty once it is decoded"));
            return Err(SecretError::Unusable(failure.hint("look up whether the secret is there")));
        }
        Ok(Some(secret))
    }
}

/// Where a source is, without the arguments of its program.
fn place(origin: &Origin) -> String {
    match origin {
        Origin::Nothing(_) => "none".to_owned(),
        Origin::Env(name) => format!("env {name}"),
        Origin::File(path) => format!("file {}", fs::escape_path(path)),
        Origin::Command(argv) => format!("command {}", argv.first().map_or("", String::as_str)),
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
        Origin::Command(argv) => command::output(argv, withheld).await.map_err(SecretError::Unreadable)?,
    };
    if is_blank(secret.expose()) {
        return Err(SecretError::Unusable(blank(origin, secret.expose().is_empty())));
    }
    Ok(Some(secret))
}

/// Whether bytes hold no value: nothing, or nothing but line endings, be it after a byte order mark.
fn is_blank(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(super::BYTE_ORDER_MARK).unwrap_or(bytes);
    bytes.iter().all(|byte| matches!(byte, b'\n' | b'\r'))
}

fn blank(origin: &Origin, is_empty: bool) -> Failure {
    let but = if is_empty { "" } else { " but line endings" };
    match origin {
        Origin::Command(argv) => {
            let program = argv.first().map_or("", String::as_str);
            Failure::new(format!("the secret's command {program} succeeded and printed nothing{but}"))
                .hint(format!("run it to see whether it finds the secret: {}", command::line(argv)))
        }
        origin => {
            let found = if is_empty { "is empty" } else { "holds nothing but line endings" };
            Failure::new(format!("the secret's source {origin} {found}"))
                .hint(format!("write the secret into {origin}, or name another source"))
        }
    }
}

/// Root follows no symlink that another user can have made: it would read a file of root's own for that user.
fn file(path: &Path) -> Result<Secret, Failure> {
    let shown = fs::escape_path(path);
    let cannot = |why: &str| Failure::new(format!("cannot read the secret's source {shown}: {why}"));
    let another = "give the path of a file that you can read";
    let by_command =
        || format!("have a program read it: {{ command: [cat, {}] }}", shell_word(&path.to_string_lossy()));
    let is_descriptor = path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd") || path == "/dev/stdin";
    if is_descriptor {
        return Err(cannot("it is a descriptor of one process, not a file").hint(by_command()));
    }
    match fs::Place::follow(path).and_then(|place| place.dir.read(&place.name, MAX_SECRET)) {
        Ok(Some(seen)) => Ok(Secret::copy_of(&seen.bytes)),
        Ok(None) => Err(cannot("it does not exist").hint(another)),
        Err(error) if error.is_missing() => Err(cannot("it does not exist").hint(another)),
        Err(error) if error.is_denied() => {
            let user = acting_user();
            Err(cannot(&format!("permission denied to {user}")).hint(format!(
                "secrets are read by {user}, who started provision, not by a step's `run_as`: {another}"
            )))
        }
        Err(error) => {
            let can_be_piped = ["FIFO", "socket", "device"].iter().any(|kind| error.to_string().contains(kind));
            Err(cannot(&error.to_string()).hint(if can_be_piped { by_command() } else { another.to_owned() }))
        }
    }
}
