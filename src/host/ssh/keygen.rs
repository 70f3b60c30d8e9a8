//! Tests whether this host's `ssh-keygen` can load a private key.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use ssh_key::public::KeyData;

use super::sha256::sha256;
use crate::host::environment;

/// The time limit of `ssh-keygen`, which normally takes milliseconds.
const KEYGEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval at which the exit of `ssh-keygen` is checked if the kernel cannot report it.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// The path under which `ssh-keygen` reads the key. It is not /dev/stdin because a host may have no /dev.
const KEY: &str = "/proc/self/fd/0";

/// The SHA-256 sums of the keys that `ssh-keygen` has loaded, and their public halves.
static LOADED: Mutex<Vec<([u8; 32], KeyData)>> = Mutex::new(Vec::new());

/// Returns the public half of a private key as printed by `ssh-keygen -y`, or why `ssh-keygen` cannot load it. Returns
/// `None` if `ssh-keygen` is not installed or cannot be run by this user. A key that it has loaded is not loaded again, since an
/// apply looks at the same key several times.
///
/// The key is passed in anonymous memory with mode 0600, as `ssh-keygen` requires. It is in no file, argument or
/// environment.
pub fn load(key: &[u8]) -> Option<Result<KeyData, String>> {
    let sum = sha256(key);
    let loaded = || LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, public)) = loaded().iter().find(|(known, _)| *known == sum) {
        return Some(Ok(public.clone()));
    }
    let answer = ask(key);
    if let Some(Ok(public)) = &answer {
        loaded().push((sum, public.clone()));
    }
    answer
}

fn ask(key: &[u8]) -> Option<Result<KeyData, String>> {
    let mut command = Command::new("ssh-keygen");
    // With an empty passphrase `ssh-keygen` does not prompt for one.
    command
        .args(["-y", "-P", "", "-f", KEY])
        .env_clear()
        .envs(environment::variable("PATH").map(|path| ("PATH", path)));
    command.stdin(in_memory(key).ok()?).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let ended = wait(&mut child);
    if ended.is_none() {
        drop(child.kill());
        drop(child.wait());
        return None;
    }
    if ended == Some(true) {
        let printed = text(child.stdout.take());
        return printed.parse::<ssh_key::PublicKey>().ok().map(|key| Ok(key.key_data().clone()));
    }
    let printed = text(child.stderr.take());
    // `Load key "/proc/self/fd/0": invalid format`. Any other text means that it did not look at the key.
    let line = printed.lines().find_map(|line| line.strip_prefix("Load key ")?.split_once(": "));
    line.map(|(_, why)| Err(why.trim().to_owned())).filter(|_| !printed.contains("No such file"))
}

fn in_memory(key: &[u8]) -> std::io::Result<File> {
    let fd = rustix::fs::memfd_create("key", MemfdFlags::CLOEXEC)?;
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(fd);
    file.write_all(key)?;
    Ok(file)
}

/// Returns whether a program succeeded, or `None` if it did not end in time.
fn wait(child: &mut Child) -> Option<bool> {
    let started = Instant::now();
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) => {}
            Err(_) => return None,
        }
        let left = KEYGEN_TIMEOUT.saturating_sub(started.elapsed());
        if left.is_zero() {
            return None;
        }
        match &process {
            Ok(process) => {
                let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
                let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left));
            }
            // Before Linux 5.3.
            Err(_) => std::thread::sleep(POLL_INTERVAL),
        }
    }
}

/// Returns what an ended program has printed. It fits into a pipe, or the program would not have ended.
fn text(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        drop(pipe.take(1 << 16).read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
