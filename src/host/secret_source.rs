//! Asks a secret source for its value, in the process that the user started and with that user's rights.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::fs;
use super::secret::{Secret, SecretSource};
use crate::resource::Failure;
use crate::resource::value::shell_word;

/// A secret is a password or a key: whatever is larger (1 MiB) is something else.
const MAX_SECRET: u64 = 1 << 20;

/// A program that fetches a secret and takes longer is waiting for somebody who is not there.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// What a secret source yielded. `None`: an environment variable that is unset or empty.
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

/// Returns the value of a source.
///
/// An environment variable may be unset or empty: then the source yields nothing. A file or a command was named because
/// it has the secret, so one that is empty, or holds line endings alone, is a mistake: a lookup that found nothing often
/// prints an empty line.
///
/// A program gets the environment without the variables named in `hidden`, since those hold other secrets.
///
/// # Errors
/// A file cannot be read; a program fails, is not there, or does not end within a minute; either has no content.
pub async fn read(source: &SecretSource, hidden: &BTreeSet<String>) -> SecretResult {
    let secret = match source {
        SecretSource::Env(name) => {
            let value = std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec).unwrap_or_default();
            let secret = Secret::new(value);
            return Ok(if is_blank(secret.expose()) { None } else { Some(secret) });
        }
        SecretSource::File(path) => file(path).map_err(SecretError::Unreadable)?,
        SecretSource::Command(argv) => command(argv, hidden).await.map_err(SecretError::Unreadable)?,
    };
    if is_blank(secret.expose()) {
        return Err(SecretError::Unusable(blank(source, secret.expose().is_empty())));
    }
    Ok(Some(secret))
}

/// Whether bytes hold no value: nothing, or nothing but line endings.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\n' | b'\r'))
}

fn blank(source: &SecretSource, is_empty: bool) -> Failure {
    let but = if is_empty { "" } else { " but line endings" };
    match source {
        SecretSource::Env(name) => Failure::new(format!("environment variable {name} is empty")),
        SecretSource::File(path) => {
            let path = fs::show(path);
            let found = if is_empty { "is empty" } else { "holds nothing but line endings" };
            Failure::new(format!("the secret's source {path} {found}"))
                .hint(format!("write the secret into {path}, or name another source"))
        }
        SecretSource::Command(argv) => {
            let program = argv.first().map_or("", String::as_str);
            let line: Vec<_> = argv.iter().map(|word| shell_word(word)).collect();
            Failure::new(format!("the secret's command {program} succeeded and printed nothing{but}"))
                .hint(format!("run it to see whether it finds the secret: {}", line.join(" ")))
        }
    }
}

/// Root follows no symlink that another user can have made: it would read a file of root's own for that user.
fn file(path: &Path) -> Result<Secret, Failure> {
    let cannot = |why: &str| {
        Failure::new(format!("cannot read the secret's source {}: {why}", fs::show(path)))
            .hint("give the path of a file that you can read")
    };
    let seen = fs::Place::follow(path).and_then(|place| place.dir.read(&place.name, MAX_SECRET));
    match seen {
        Ok(Some(seen)) => Ok(Secret::copy_of(&seen.bytes)),
        Ok(None) => Err(cannot("it does not exist")),
        Err(error) if error.is_missing() => Err(cannot("it does not exist")),
        Err(error) if error.is_denied() => Err(cannot("permission denied")),
        Err(error) => Err(cannot(&error.to_string())),
    }
}

async fn command(argv: &[String], hidden: &BTreeSet<String>) -> Result<Secret, Failure> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Failure::new("the secret's command is empty").hint("write it as [program, argument, …]"));
    };
    let cannot = |why: String| Failure::new(format!("the secret's command {program} {why}"));
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    // Nobody knows what a program says about the secret that it was asked for, so its messages are not shown.
    command.stderr(Stdio::null());
    for name in hidden {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|error| cannot(format!("cannot be started: {error}")))?;
    let Some(output) = child.stdout.take() else {
        return Err(cannot("was started without its pipe".to_owned()));
    };
    // Room for all that is read, so that the buffer never moves and leaves a copy behind.
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_SECRET as usize + 64));
    let ended = tokio::time::timeout(COMMAND_TIMEOUT, async {
        output.take(MAX_SECRET + 1).read_to_end(&mut value).await?;
        if value.len() as u64 > MAX_SECRET {
            return Err(std::io::Error::other("printed more than 1 MiB"));
        }
        child.wait().await
    });
    let status = match ended.await {
        Err(_) => return Err(cannot("did not end within a minute".to_owned())),
        Ok(Err(error)) => return Err(cannot(error.to_string())),
        Ok(Ok(status)) => status,
    };
    if !status.success() {
        return Err(cannot(format!("failed ({status})")).hint("run it by hand to see what it says"));
    }
    Ok(Secret::copy_of(&value))
}
