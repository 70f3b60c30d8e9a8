//! Asks this host's `ssh-keygen` whether it loads a private key.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode};
use ssh_key::public::KeyData;

use crate::host::environment;

/// Reading a key takes some milliseconds; what takes longer is something else.
const KEYGEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether `ssh-keygen` has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// The descriptor under which it finds the key. Not /dev/stdin: a host may have no /dev.
const KEY: &str = "/proc/self/fd/0";

/// The public half of a private key as `ssh-keygen -y` gives it, or why it loads none. `None` where it could not be asked:
/// it is not installed, or cannot be run by this user.
///
/// The key is handed over in anonymous memory, of mode 0600 as `ssh-keygen` wants it: it is in no file, argument or
/// environment.
pub fn load(key: &[u8]) -> Option<Result<KeyData, String>> {
    let mut command = Command::new("ssh-keygen");
    // An empty passphrase, so that nobody is asked for one.
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
    // `Load key "/proc/self/fd/0": invalid format`. It says something else where it did not come to look at the key.
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

/// Whether a program succeeded; `None` where it did not end in time.
fn wait(child: &mut Child) -> Option<bool> {
    let started = Instant::now();
    while started.elapsed() < KEYGEN_TIMEOUT {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) => std::thread::sleep(POLL_INTERVAL),
            Err(_) => return None,
        }
    }
    None
}

/// What a program that has ended has printed: less than a pipe holds, or it would not have ended.
fn text(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        drop(pipe.take(1 << 16).read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
