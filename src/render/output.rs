//! The one way to standard output and standard error, which may be full, closed or gone.

use std::io::{Error, ErrorKind, Result, Write};
use std::sync::OnceLock;

/// Why standard output lost something; the first reason that came up. The stream is the process's own, and so is this.
static LOST: OnceLock<Error> = OnceLock::new();

/// Prints a result, styled where standard output takes styles. What cannot be written is remembered: see [`lost`].
pub fn print(text: &str) {
    let mut out = anstream::stdout().lock();
    remember(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Prints a result byte for byte, as [`print`].
pub fn print_raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    remember(out.write_all(bytes).and_then(|()| out.flush()));
}

/// Prints a message on standard error. Where that cannot be written, there is nowhere left to say so.
pub fn tell(text: &str) {
    let mut err = anstream::stderr().lock();
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}

/// Takes note of how a write to standard output went. A reader that went away (EPIPE) has seen what it wanted.
pub fn remember(written: Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Only the first reason is kept.
        let _ = LOST.set(error);
    }
}

/// Why some of the output did not reach standard output, where a reader still waited for it.
pub fn lost() -> Option<&'static Error> {
    LOST.get()
}
