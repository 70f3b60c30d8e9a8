//! A worker's ends of the pipes to its launcher.

use std::os::fd::AsFd;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;

/// The launcher's end of standard output.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Returns standard output without the threads of tokio's implementation.
#[expect(clippy::disallowed_methods, reason = "a worker's standard output is its launcher's")]
pub fn output() -> std::io::Result<Output> {
    let pipe = std::io::stdout().as_fd().try_clone_to_owned()?;
    Ok(match pipe::Sender::from_owned_fd(pipe) {
        Ok(pipe) => Box::new(pipe),
        // sudo may replace the pipe by something else.
        Err(_) => Box::new(tokio::io::stdout()),
    })
}

/// Returns unbuffered standard input. A buffer would retain copies of secrets.
pub fn input() -> std::io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    let pipe = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(match pipe::Receiver::from_owned_fd(pipe) {
        Ok(pipe) => Box::new(pipe),
        // sudo may replace the pipe by something else.
        Err(_) => Box::new(tokio::io::stdin()),
    })
}
