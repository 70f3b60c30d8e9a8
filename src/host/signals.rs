//! Listening for signals.

use std::io;
use std::panic::{catch_unwind, set_hook, take_hook};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for signals of a kind from now on. To be called before there are other threads that could panic.
///
/// # Errors
/// Where no descriptors are left, or the kernel installs no handler.
pub fn listen(kind: SignalKind) -> io::Result<Signal> {
    // At its first call tokio makes a pair of sockets, and panics where it cannot.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let listening = catch_unwind(|| signal(kind));
    set_hook(hook);
    listening.unwrap_or_else(|_| {
        Err(io::Error::other("no sockets can be made; see whether the limit of open files is reached (`ulimit -n`)"))
    })
}
