//! Runs a program for the secret that it prints.

use crate::text::{io_error_text, shell_word};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::{MAX_SECRET, Secret};
use crate::failure::Failure;
use crate::host::environment;

/// A program that fetches a secret and takes longer is waiting for somebody who is not there.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// What a program prints. It gets the environment without the variables that are `withheld`, and nothing to read. It has a
/// process group of its own, all of which is ended with it, however this ends.
///
/// # Errors
/// It is not there, fails, prints more than [`MAX_SECRET`], or keeps its output open for longer than a minute.
pub async fn output(argv: &[String], withheld: &BTreeSet<String>) -> Result<Secret, Failure> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Failure::new("the secret's command is empty").hint("write it as [program, argument, …]"));
    };
    let cannot = |why: String| Failure::new(format!("the secret's command {program} {why}"));
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).process_group(0);
    // Nobody knows what a program says about the secret that it was asked for, so its messages are not shown.
    command.stderr(Stdio::null());
    for name in withheld {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|error| not_started(program, &error))?;
    let _group = Group(child.id());
    let Some(output) = child.stdout.take() else {
        return Err(cannot("was started without its pipe".to_owned()));
    };
    // Room for all that is read, so that the buffer never moves and leaves a copy behind.
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_SECRET as usize + 64));
    let has_ended = Cell::new(false);
    let read = async {
        output.take(MAX_SECRET + 1).read_to_end(&mut value).await?;
        if value.len() as u64 > MAX_SECRET { Err(io::Error::other("printed more than 1 MiB")) } else { Ok(()) }
    };
    let wait = async {
        let status = child.wait().await;
        has_ended.set(true);
        status
    };
    let status = match tokio::time::timeout(COMMAND_TIMEOUT, async { tokio::try_join!(read, wait) }).await {
        Ok(Ok(((), status))) => status,
        Ok(Err(error)) => return Err(cannot(error.to_string())),
        Err(_) => return Err(timed_out(argv, has_ended.get())),
    };
    if !status.success() {
        return Err(failed(argv, status, withheld));
    }
    Ok(Secret::copy_of(&value))
}

/// A command as a shell's line.
pub fn line(argv: &[String]) -> String {
    argv.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// A process group, named by its first process. All of it is killed when this is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // Mostly nobody is left to be killed.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

fn not_started(program: &str, error: &io::Error) -> Failure {
    let failure = Failure::new(format!("the secret's command {program} cannot be started: {}", io_error_text(error)));
    match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => failure.hint("correct its path"),
        io::ErrorKind::NotFound => {
            failure.hint(format!("install it, or give its absolute path: PATH has no program named {program}"))
        }
        io::ErrorKind::PermissionDenied if program.contains('/') => {
            failure.hint(format!("make it executable: chmod +x {}", shell_word(program)))
        }
        _ => failure.hint("name a program that you can run"),
    }
}

fn timed_out(argv: &[String], has_ended: bool) -> Failure {
    let program = argv.first().map_or("", String::as_str);
    let limit = COMMAND_TIMEOUT.as_secs();
    if has_ended {
        return Failure::new(format!(
            "the secret's command {program} ended, but a process that it started still keeps its output open after {limit} s"
        ))
        .hint("give that process another output, such as: … > /dev/null &");
    }
    Failure::new(format!("the secret's command {program} did not end within {limit} s"))
        .hint(format!("run it to see whether it waits for an answer, which nobody gives it here: {}", line(argv)))
}

fn failed(argv: &[String], status: ExitStatus, withheld: &BTreeSet<String>) -> Failure {
    use std::os::unix::process::ExitStatusExt;
    let program = argv.first().map_or("", String::as_str);
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("failed ({status})"),
    };
    let names: Vec<&str> =
        withheld.iter().map(String::as_str).filter(|name| environment::variable(name).is_some()).collect();
    let mut message =
        format!("the secret's command {program} {how}; its messages are not shown, since they could hold the secret");
    let mut by_hand = line(argv);
    if !names.is_empty() {
        message.push_str(&format!(
            "; it was run without {}, which the plan file reads for another secret",
            names.join(", ")
        ));
        let unset: String = names.iter().map(|name| format!(" -u {}", shell_word(name))).collect();
        by_hand = format!("env{unset} {by_hand}");
    }
    Failure::new(message).hint(format!("run it by hand to see what it says: {by_hand}"))
}
