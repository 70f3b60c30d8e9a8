//! Signal handling.

use crate::failure::Failure;
use crate::text::io_error_text;
use std::io;
use std::panic::{UnwindSafe, catch_unwind, set_hook, take_hook};

use nix::libc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Starts to listen for a signal. Has to be called before other threads exist that could panic.
///
/// # Errors
/// There are no file descriptors left, or the kernel refuses the handler.
pub fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    without_panic(|| signal(kind)).map_err(|error| not_possible("listen for signals", &error))
}

/// Returns the failure for what [`without_panic`] did not make.
pub fn not_possible(what: &str, error: &io::Error) -> Failure {
    let failure = Failure::new(format!("cannot {what}: {}", io_error_text(error)));
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            failure.hint("raise the limit on open files (`ulimit -n`), then run again")
        }
        _ => failure,
    }
}

/// Calls a function that listens for signals or creates a runtime. Has to be called before other threads exist that
/// could panic.
///
/// # Errors
/// Those of `make`. Also fails if tokio cannot create a socket pair, where tokio itself panics.
pub fn without_panic<T>(make: impl FnOnce() -> io::Result<T> + UnwindSafe) -> io::Result<T> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let made = catch_unwind(make);
    set_hook(hook);
    // tokio panics without a socket pair, which is usually missing because there are too few descriptors.
    made.unwrap_or_else(|_| Err(io::Error::from_raw_os_error(libc::EMFILE)))
}

/// Returns whether this process ignores a signal, according to `/proc/self/status` (proc(5)).
pub fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or_default();
    (1..=64).contains(&number) && mask & (1 << (number - 1)) != 0
}
