//! Keeps the memory of this process private.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

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
