//! The launching user's worker. It is forked when the program starts, so that it need not load the program a second time.
//!
//! At that time the launcher has read nothing but its arguments, which `ps` shows to everybody, and has one thread. The worker therefore
//! inherits no secret but those in the environment, which it overwrites before it does anything else.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

/// What this process is after [`fork_own`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Launcher,
    Worker,
}

/// A forked worker, and the launcher's ends of its pipes.
pub struct Forked {
    pub pid: Pid,
    pub input: OwnedFd,
    pub output: OwnedFd,
    pub errors: OwnedFd,
}

/// The worker that no run has used yet.
static FORKED: Mutex<Option<Forked>> = Mutex::new(None);

/// Forks the launching user's worker, before this process reads anything and before it has a second thread. In the new
/// process, its pipes are standard input, output and error. If there are not enough processes or descriptors, the worker
/// is started, and its failure reported, when a step needs it.
pub fn fork_own() -> Role {
    let Ok(pipes) = Pipes::new() else { return Role::Launcher };
    // SAFETY: this process has one thread, so the copy may do all that this one may.
    #[expect(unsafe_code, reason = "a fork is safe with one thread only")]
    match unsafe { fork() } {
        Ok(ForkResult::Child) => match pipes.become_standard() {
            Ok(()) => Role::Worker,
            // The launcher finds the pipes closed. The descriptors of the launcher are not this process's to write to.
            #[expect(unsafe_code, reason = "nothing of the launcher's may run in this process")]
            // SAFETY: _exit(2) has no conditions.
            Err(_) => unsafe { nix::libc::_exit(1) },
        },
        Ok(ForkResult::Parent { child }) => {
            let forked = Forked { pid: child, input: pipes.input.1, output: pipes.output.0, errors: pipes.errors.0 };
            *FORKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(forked);
            Role::Launcher
        }
        Err(_) => Role::Launcher,
    }
}

/// Takes the forked worker, if there is one that no run has taken.
pub fn take_own() -> Option<Forked> {
    FORKED.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Ends the forked worker if no run has taken it.
pub fn end_own() {
    if let Some(Forked { pid, .. }) = take_own() {
        // No steps were sent to it, so it has nothing to finish.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
    }
}

/// The pipes of a worker, each with its reading and its writing end.
struct Pipes {
    input: (OwnedFd, OwnedFd),
    output: (OwnedFd, OwnedFd),
    errors: (OwnedFd, OwnedFd),
}

impl Pipes {
    fn new() -> nix::Result<Self> {
        let pipe = || pipe2(OFlag::O_CLOEXEC);
        Ok(Self { input: pipe()?, output: pipe()?, errors: pipe()? })
    }

    /// Makes them the standard descriptors of the worker, in a session of its own. There it does not receive Ctrl-C, which
    /// the launcher handles so that the current change is finished.
    fn become_standard(self) -> nix::Result<()> {
        setsid()?;
        dup2_stdin(&self.input.0)?;
        dup2_stdout(&self.output.1)?;
        dup2_stderr(&self.errors.1)
    }
}
