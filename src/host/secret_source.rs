//! Asks a secret source for its value, in the process that the user started and with that user's rights.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

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
    let bytes = match source {
        SecretSource::Env(name) => {
            std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec).unwrap_or_default()
        }
        SecretSource::File(path) => file(path)?,
        SecretSource::Command(argv) => command(argv, hidden).await?,
    };
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()).map(Secret::new))
}

fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |why: &str| {
        Failure::new(format!("cannot read the secret's source {}: {why}", path.display()))
            .hint("give the path of a file that you can read")
    };
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => cannot("it does not exist"),
        std::io::ErrorKind::PermissionDenied => cannot("permission denied"),
        _ => cannot(&error.to_string()),
    };
    // Asked before it is opened: opening a FIFO would wait for a writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(cannot("it is not a regular file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(cannot("it is larger than 1 MiB"));
    }
    Ok(std::mem::take(&mut *bytes))
}

async fn command(argv: &[String], hidden: &BTreeSet<String>) -> Result<Vec<u8>, Failure> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Failure::new("the secret's command is empty").hint("write it as [program, argument, …]"));
    };
    let cannot = |why: String| Failure::new(format!("the secret's command {program} {why}"));
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    for name in hidden {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|error| cannot(format!("cannot be started: {error}")))?;
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(cannot("was started without its pipes".to_owned()));
    };
    let mut value = Zeroizing::new(Vec::new());
    let mut said = Vec::new();
    let ended = tokio::time::timeout(COMMAND_TIMEOUT, async {
        let (mut output, mut errors) = (output.take(MAX_SECRET + 1), errors.take(4096));
        let (read, _) = tokio::join!(output.read_to_end(&mut value), errors.read_to_end(&mut said));
        read?;
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
        // Its standard error is not shown: nobody knows what a program says about the secret that it was asked for.
        return Err(cannot(format!("failed ({status})")).hint("run it by hand to see what it says"));
    }
    Ok(std::mem::take(&mut *value))
}
