//! The configuration file of the ssh that git starts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::Failure;
use crate::git::error::io_failure;

/// The options of every ssh (ssh_config(5)).
pub const OPTIONS: [&str; 13] = [
    // It must not ask.
    "BatchMode=yes",
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

/// The option of an ssh that may not be run by the shim. The shim recognises this spelling, and replaces it with the user's
/// setting.
pub const STRICT_MARK: &str = "StrictHostKeyChecking = yes";

/// The name of the configuration file of an ssh that may not be run by the shim.
pub const STRICT_CONFIG: &str = "ssh_config";

/// The name of the configuration file that leaves open which host keys are accepted.
pub const PLAIN_CONFIG: &str = "plain_config";

/// The maximum size of a configuration file named by `-F`, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// How long a program may take to write to a pipe that `-F` names.
const PIPE_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes the configuration files in the directory `at`: our options, followed by the user's: `own`, or else the files that ssh
/// reads by default.
pub fn create(at: &Path, own: Option<&Path>) -> Result<(), Failure> {
    let own = match own {
        None => b"Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n".to_vec(),
        Some(path) if path.as_os_str() == "none" => Vec::new(),
        // Copied, since `Include` requires stricter permissions than `-F`.
        Some(path) => read(path)?,
    };
    let options: String = OPTIONS.iter().map(|option| option.replacen('=', " ", 1) + "\n").collect();
    let strict = format!("{options}StrictHostKeyChecking yes\n");
    write(&at.join("options"), options.as_bytes(), 0o600)?;
    write(&at.join(PLAIN_CONFIG), &[options.as_bytes(), &own].concat(), 0o600)?;
    write(&at.join(STRICT_CONFIG), &[strict.as_bytes(), &own].concat(), 0o600)
}

/// Writes a file with a mode.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let failed = io_failure("write", path);
    fs::write(path, content).map_err(&failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(&failed)
}

/// Reads a configuration file as ssh does. It need not be a regular file: `/dev/null` is a usual way to have no configuration.
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
                "cannot read the ssh configuration {}: nothing is written to this pipe",
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
