//! The memory of this process: kept private, and large enough.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::failure::Failure;

/// Keeps this process's memory, which contains secrets, from being written to disk or read by other processes of its
/// user: no core files (`RLIMIT_CORE`, core(5)), and no core dumps through `core_pattern` and no ptrace
/// (`PR_SET_DUMPABLE`, prctl(2)). Child processes inherit the limit. They do not inherit the other flag, and a change
/// of user resets it.
///
/// # Errors
/// The kernel refuses.
pub fn leave_no_core_dump() -> Result<(), Failure> {
    let failed = |error: nix::Error| Failure::new(format!("cannot disable core dumps: {}", error.desc()));
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed)?;
    set_dumpable(false).map_err(failed)
}

/// Makes a write beyond the limit on file sizes (`RLIMIT_FSIZE`, setrlimit(2)) an error. The kernel would end the program
/// without a message.
#[expect(unsafe_code, reason = "nix has no safe way to ignore a signal")]
pub fn report_large_files() {
    // SAFETY: no code runs when the signal arrives. The signal and the action are valid, so this cannot fail.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// The smallest stack that the program runs with, in bytes.
const MIN_STACK: u64 = 1 << 20;

/// Checks that the stack is large enough. The kernel ends a program that needs more without a message.
///
/// # Errors
/// The limit is too small.
pub fn check_stack() -> Result<(), Failure> {
    match getrlimit(Resource::RLIMIT_STACK) {
        Ok((limit, _)) if limit < MIN_STACK => {
            Err(Failure::new(format!("cannot run with a stack of {} KiB", limit >> 10))
                .hint("raise its limit: ulimit -s 8192"))
        }
        _ => Ok(()),
    }
}
