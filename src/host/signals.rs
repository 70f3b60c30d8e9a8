//! Listening for signals.

use std::io;
use std::panic::{UnwindSafe, catch_unwind, set_hook, take_hook};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for signals of a kind from now on. To be called before there are other threads that could panic.
///
/// # Errors
/// Where no descriptors are left, or the kernel installs no handler.
pub fn listen(kind: SignalKind) -> io::Result<Signal> {
    without_panic(|| signal(kind))
}

/// Calls what listens for signals, or makes a runtime that can. To be called before there are other threads that could
/// panic.
///
/// # Errors
/// Those of `make`, and where tokio can make no pair of sockets, at which it panics.
pub fn without_panic<T>(make: impl FnOnce() -> io::Result<T> + UnwindSafe) -> io::Result<T> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let made = catch_unwind(make);
    set_hook(hook);
    made.unwrap_or_else(|_| {
        Err(io::Error::other("no sockets can be made; see whether the limit of open files is reached (`ulimit -n`)"))
    })
}

/// Whether this process ignores a signal, by `/proc/self/status` (proc(5)).
pub fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or_default();
    (1..=64).contains(&number) && mask & (1 << (number - 1)) != 0
}
