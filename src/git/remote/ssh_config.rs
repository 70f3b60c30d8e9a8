//! The configuration file of the ssh that git starts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::Failure;
use crate::git::error::io_failure;

/// The options of every ssh (ssh_config(5)).
pub const OPTIONS: [&str; 14] = [
    // It must not ask.
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    // It must not write: to known_hosts, to the agent, or the socket of a master connection.
    "UpdateHostKeys=no",
    "CheckHostIP=no",
    "AddKeysToAgent=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ControlPersist=no",
    // It must not run or open what the user configured for sessions of their own.
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    // With a terminal, git's protocol does not come through.
    "RequestTTY=no",
    // It must not wait forever.
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
];

/// The maximum size of a configuration file named by `-F`, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// How long a program may take to write to a pipe that `-F` names.
const PIPE_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns a configuration file with our options, followed by the user's: `own`, or else the files that ssh reads by default.
pub fn config_file(own: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let mut text = String::new();
    for option in OPTIONS {
        text.push_str(&option.replacen('=', " ", 1));
        text.push('\n');
    }
    match own {
        None => text.push_str("Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n"),
        Some(path) if path.as_os_str() == "none" => {}
        // Copied, since `Include` requires stricter permissions than `-F`.
        Some(path) => {
            let mut bytes = text.into_bytes();
            bytes.extend(read(path)?);
            return Ok(bytes);
        }
    }
    Ok(text.into_bytes())
}

/// Reads a configuration file as ssh does, which takes more than regular files. `/dev/null` is a usual way to have none.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = io_failure("read the ssh configuration", path);
    let found = fs::metadata(path).map_err(&failed)?.file_type();
    let mut content = Vec::new();
    // ssh reads nothing from a directory.
    if found.is_dir() || fs::canonicalize(path).is_ok_and(|real| real == Path::new("/dev/null")) {
        return Ok(content);
    }
    // A pipe without a name, such as /dev/stdin, is one of this process's own.
    if found.is_fifo() && fs::canonicalize(path).is_ok() {
        let pipe = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(&failed)?;
        if !read_pipe(pipe, &mut content).map_err(&failed)? {
            return Err(Failure::new(format!(
                "nothing is written to the ssh configuration {}, a pipe",
                path.display()
            )));
        }
        return Ok(content);
    }
    if !found.is_file() {
        return Err(Failure::new(format!("the ssh configuration {} is not a file", path.display())));
    }
    File::open(path).and_then(|file| file.take(MAX_CONFIG).read_to_end(&mut content)).map_err(failed)?;
    Ok(content)
}

/// Reads what is written to a pipe, until it is closed. Returns whether that happened in time.
fn read_pipe(mut pipe: File, content: &mut Vec<u8>) -> io::Result<bool> {
    let end = Instant::now() + PIPE_TIMEOUT;
    let mut part = [0; 4096];
    while (content.len() as u64) < MAX_CONFIG {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        // Without a writer, reading would report the end of the file at once.
        if poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left))? == 0 {
            return Ok(false);
        }
        match pipe.read(&mut part) {
            Ok(0) => return Ok(true),
            Ok(count) => content.extend_from_slice(&part[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
