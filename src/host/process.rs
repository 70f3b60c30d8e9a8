//! This process: its memory, kept private and large enough, and its umask.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use super::fs::acts_as_root;
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
                .hint("raise its limit: `ulimit -s 8192`"))
        }
        _ => Ok(()),
    }
}

/// Replaces the command line that `ps` shows for this process, and its arguments in memory. The title is cut to the space that
/// the arguments and the environment take (proc(5), `/proc/PID/stat`). Has to be called when nothing reads either any more.
/// Without `/proc`, other processes cannot see the command line, and it is not replaced.
#[expect(unsafe_code, reason = "the kernel shows the memory that it once wrote the arguments to")]
pub fn set_title(title: &str) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may contain anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // The fields are numbered from 1, and two of them come before the parenthesis.
    let field =
        |number: usize| fields.get(number - 3).and_then(|text| text.parse::<usize>().ok()).filter(|at| *at != 0);
    let (Some(start), Some(end)) = (field(48), field(51)) else { return };
    let Some(length) = end.checked_sub(start).filter(|length| *length > 0) else { return };
    let shown = title.len().min(length - 1);
    // SAFETY: the kernel mapped this memory writable for the arguments and the environment of this process, and no
    // reference to either exists any more.
    unsafe {
        let memory = std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut::<u8>(start), length);
        memory.fill(0);
        memory[..shown].copy_from_slice(&title.as_bytes()[..shown]);
    }
}

/// The umask that this process was started with, once it has been replaced.
static INHERITED_UMASK: OnceLock<u32> = OnceLock::new();
/// The umask of a worker. Private files are created with an explicit mode.
const DEFAULT_UMASK: u32 = 0o022;

/// Replaces the umask of this process by the default one, so that files do not depend on the user who starts it.
pub fn set_default_umask() {
    let _set_before = INHERITED_UMASK.set(set_umask(DEFAULT_UMASK));
}

/// Returns the umask that this process was started with. For root, 022 is added, so that only root gets write
/// access. sudo does the same (sudoers(5), umask).
pub fn inherited_umask() -> u32 {
    let inherited = INHERITED_UMASK.get().copied().unwrap_or_else(|| {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(DEFAULT_UMASK)
    });
    if acts_as_root() { inherited | DEFAULT_UMASK } else { inherited }
}

fn set_umask(mask: u32) -> u32 {
    use nix::sys::stat::{Mode, umask};
    umask(Mode::from_bits_truncate(mask)).bits()
}

/// Locked while all threads have the inherited umask.
static SHARED_UMASK: Mutex<()> = Mutex::new(());

/// Restores the umask that this process was started with, until it is dropped. It applies only to this thread if the kernel
/// permits that (unshare(2), CLONE_FS). Otherwise one thread at a time has it, and work that needs another mode has to set
/// it explicitly.
pub struct InheritedUmask {
    default: u32,
    _alone: Option<MutexGuard<'static, ()>>,
}

impl InheritedUmask {
    /// Sets the umask. Waits until no other thread changes that of this one.
    pub fn apply() -> Self {
        // A container may deny this.
        let is_shared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).is_err();
        let alone = is_shared.then(|| SHARED_UMASK.lock().unwrap_or_else(PoisonError::into_inner));
        Self { default: set_umask(inherited_umask()), _alone: alone }
    }
}

impl Drop for InheritedUmask {
    fn drop(&mut self) {
        set_umask(self.default);
    }
}
