//! What this process leaves behind of itself.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

use crate::failure::Failure;

/// Keeps the kernel from writing this process's memory, which holds secrets, to disk, and other processes of its user
/// from reading it: no core file (`RLIMIT_CORE`, core(5)), and none by way of a program that `core_pattern` names, no
/// ptrace (`PR_SET_DUMPABLE`, prctl(2)). The limit is inherited by what is started from here; the other is not, and is
/// lost with a change of identity.
///
/// # Errors
/// Where the kernel refuses.
pub fn leave_no_core_dump() -> Result<(), Failure> {
    let failed = |error: nix::Error| Failure::new(format!("cannot switch core dumps off: {}", error.desc()));
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed)?;
    set_dumpable(false).map_err(failed)
}
