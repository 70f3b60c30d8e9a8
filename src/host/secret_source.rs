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

/// A secret is a password or a key: whatever is larger (1 MiB) is something else.
const MAX_SECRET: u64 = 1 << 20;

/// A program that fetches a secret and takes longer is waiting for somebody who is not there.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// The value of a source; `None` where it yields nothing: an unset or empty variable, an empty file, no output.
///
/// A program gets the environment without the variables named in `hidden`, since those hold other secrets.
///
/// # Errors
/// Where a file cannot be read, or a program fails, is not there, or does not end within a minute.
pub async fn read(source: &SecretSource, hidden: &BTreeSet<String>) -> Result<Option<Secret>, Failure> {
    let secret = match source {
        SecretSource::Env(name) => {
            Secret::new(std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec).unwrap_or_default())
        }
        SecretSource::File(path) => file(path)?,
        SecretSource::Command(argv) => command(argv, hidden).await?,
    };
    Ok(Some(secret).filter(|secret| !secret.expose().is_empty()))
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
