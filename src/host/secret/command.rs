//! Runs a program that prints a secret.

use crate::text::{io_error_text, shell_word};
use std::collections::BTreeSet;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::command_line::CommandLine;
use super::{MAX_SECRET, Secret};
use crate::failure::Failure;
use crate::host::environment;

/// The time limit of a program that prints a secret. A program that takes longer probably waits for input.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns what a program prints. Its environment lacks the variables in `withheld`, and its standard input is empty.
/// It has its own process group, which is killed at the end in any case.
///
/// # Errors
/// The program does not exist, fails, prints more than [`MAX_SECRET`], or keeps its output open for more than a minute.
pub async fn output(line: &CommandLine, withheld: &BTreeSet<String>) -> Result<Secret, Failure> {
    let Some((program, arguments)) = line.argv().split_first() else {
        return Err(Failure::new("the secret command is empty").hint("write it as [program, argument, …]"));
    };
    let failure = |why: String| Failure::new(format!("the secret command {} {why}", line.program()));
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).process_group(0);
    // The program's messages might contain the secret, so they are not shown.
    command.stderr(Stdio::null());
    for name in withheld {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|error| not_started(line, &error))?;
    let _group = Group(child.id());
    let Some(output) = child.stdout.take() else {
        return Err(failure("was started without its pipe".to_owned()));
    };
    // The buffer has room for everything that is read, so it never moves and leaves no copy behind.
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_SECRET as usize + 64));
    let has_ended = AtomicBool::new(false);
    let read = async {
        output.take(MAX_SECRET + 1).read_to_end(&mut value).await?;
        if value.len() as u64 > MAX_SECRET { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    };
    let wait = async {
        let status = child.wait().await;
        has_ended.store(true, Ordering::Relaxed);
        status
    };
    let status = match tokio::time::timeout(COMMAND_TIMEOUT, async { tokio::try_join!(read, wait) }).await {
        Ok(Ok(((), status))) => status,
        Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(failure("printed more than 1 MiB, the maximum for a secret".to_owned())
                .hint("use a program, or arguments, with which only the secret is printed"));
        }
        Ok(Err(error)) => return Err(failure(error.to_string())),
        Err(_) => return Err(timed_out(line, has_ended.load(Ordering::Relaxed))),
    };
    if !status.success() {
        return Err(failed(line, status, withheld));
    }
    Ok(Secret::copy_of(&value))
}

/// A process group, named by its first process. It is killed on drop.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // Usually no process is left.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

fn not_started(line: &CommandLine, error: &io::Error) -> Failure {
    let program = line.program();
    let is_shown = line.argv().first().is_some_and(|argument| argument == program);
    let failure = Failure::new(format!("cannot start the secret command {program}: {}", io_error_text(error)));
    match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => failure.hint("correct its path"),
        io::ErrorKind::NotFound => {
            failure.hint(format!("install it, or give its absolute path: no program {program} is in PATH"))
        }
        io::ErrorKind::PermissionDenied if program.contains('/') && is_shown => {
            failure.hint(format!("make it executable: `chmod +x {}`", shell_word(program)))
        }
        _ => failure.hint("use a program that you can run"),
    }
}

fn timed_out(line: &CommandLine, has_ended: bool) -> Failure {
    let program = line.program();
    let limit = COMMAND_TIMEOUT.as_secs();
    if has_ended {
        return Failure::new(format!(
            "the secret command {program} ended, but a process that it started still keeps its output open after {limit} s"
        ))
        .hint("redirect the output of that process, for example: … > /dev/null &");
    }
    Failure::new(format!("the secret command {program} did not end within {limit} s")).hint(format!(
        "run it manually to see whether it waits for input{}: `{}`",
        line.fill_in(),
        line.line()
    ))
}

fn failed(line: &CommandLine, status: ExitStatus, withheld: &BTreeSet<String>) -> Failure {
    use std::os::unix::process::ExitStatusExt;
    let program = line.program();
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("failed ({status})"),
    };
    let names: Vec<&str> =
        withheld.iter().map(String::as_str).filter(|name| environment::variable(name).is_some()).collect();
    let mut message = format!(
        "the secret command {program} {how}; its messages are not shown, because they could contain the secret"
    );
    let mut by_hand = line.line();
    if !names.is_empty() {
        message
            .push_str(&format!("; it ran without {}, which the plan file uses for another secret", names.join(", ")));
        let unset: String = names.iter().map(|name| format!(" -u {}", shell_word(name))).collect();
        by_hand = format!("env{unset} {by_hand}");
    }
    Failure::new(message).hint(format!("run it manually to see its messages{}: `{by_hand}`", line.fill_in()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_with_a_hidden_word_asks_for_its_value() {
        let hint = |line: &str| timed_out(&serde_yaml::from_str(line).unwrap(), false).hint.unwrap();
        let plain = "run it manually to see whether it waits for input: ";
        assert_eq!(hint("[vault, read, a]"), format!("{plain}`vault read a`"));
        let masked = plain.replace(": ", " (first replace each {{ … }} by its value): ");
        let line = "{ argv: [vault, read, token], shown: [vault, read, '{{ tok }}'] }";
        assert_eq!(hint(line), format!("{masked}`vault read '{{{{ tok }}}}'`"));
    }
}
