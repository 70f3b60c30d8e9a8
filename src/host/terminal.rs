//! The controlling terminal of this process, independent of its standard streams.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Read, Result, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

/// The maximum length of a terminal line in bytes, which is the kernel's limit (termios(3)).
const MAX_LINE: usize = 4096;

/// A controlling terminal.
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// Opens the controlling terminal.
    ///
    /// # Errors
    /// There is no terminal (ENXIO), or `/dev/tty` cannot be opened or is something else.
    pub fn open() -> Result<Self> {
        // Opening never blocks on a file of another type in its place.
        let flags = i32::try_from((OFlags::NOCTTY | OFlags::NONBLOCK).bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty")?;
        if !file.is_terminal() {
            return Err(ErrorKind::NotConnected.into());
        }
        rustix::io::ioctl_fionbio(&file, false)?;
        Ok(Self(file))
    }

    /// Writes a text. Blocks while the terminal is stopped (Ctrl-S).
    ///
    /// # Errors
    /// The terminal was closed.
    pub fn write(&self, text: &str) -> Result<()> {
        (&self.0).write_all(text.as_bytes())
    }

    /// Reads a line that is ended by Enter. Returns `None` if the input ends first.
    ///
    /// # Errors
    /// The terminal was closed.
    pub fn read_line(&self) -> Result<Option<String>> {
        let (mut line, mut some) = (Vec::new(), [0; MAX_LINE]);
        while line.len() <= MAX_LINE {
            match (&self.0).read(&mut some) {
                Ok(0) => break,
                Ok(count) => line.extend_from_slice(&some[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            // A terminal in raw mode sends a carriage return for Enter.
            if let Some(end) = line.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
        }
        Ok(None)
    }
}
