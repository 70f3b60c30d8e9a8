//! The seccomp(2) filter that stops a traced process only at the calls that matter, and turns it off where none does.

use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::unistd::Pid;

use super::calls;
use super::supervisor::{Fault, Point};

/// What the tracer hears of.
pub fn options() -> Options {
    Options::PTRACE_O_TRACESECCOMP
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_EXITKILL
}

/// Turns the filter of a stopped thread, and of those that it creates, on or off.
pub fn set_filter(pid: Pid, on: bool) {
    // PTRACE_O_SUSPEND_SECCOMP, which the crate does not name.
    let off = Options::from_bits_retain(1 << 21);
    let options = if on { options() } else { options() | off };
    // A kernel without the option stops the thread more often, and a thread that was killed meanwhile needs none.
    let _ = ptrace::setoptions(pid, options);
}

/// A filter that stops at each call that `fault` may strike (for a point, only at calls with its name, because each
/// stop is expensive), and at the calls that mark the start of a program and of a forked worker. It passes the call's number
/// to the tracer.
pub fn filter(fault: Fault, point: Option<&Point>) -> Vec<libc::sock_filter> {
    let jump = |value: u32, missed: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K).try_into().unwrap(),
        jt: 0,
        jf: missed,
        k: value,
    };
    let statement = |code: u32, k: u32| libc::sock_filter { code: code.try_into().unwrap(), jt: 0, jf: 0, k };
    let load = |offset: usize| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset.try_into().unwrap());
    let end = |action: u32| statement(libc::BPF_RET | libc::BPF_K, action);
    let mut filter = vec![load(std::mem::offset_of!(libc::seccomp_data, nr))];
    let may_strike = |number: &&c_long| {
        calls::call(**number).filter(|call| point.is_none_or(|point| point.call == call.name)).is_some_and(|call| {
            match fault {
                Fault::Error(errno) => call.could_give(errno),
                Fault::Kill | Fault::KillAll => call.is_noticeable([u64::MAX; 4], String::new),
            }
        })
    };
    for number in calls::NUMBERS.iter().filter(may_strike).chain([&libc::SYS_poll, &libc::SYS_setsid]) {
        let number: u16 = (*number).try_into().unwrap();
        filter.extend([jump(number.into(), 1), end(libc::SECCOMP_RET_TRACE | u32::from(number))]);
    }
    filter.push(end(libc::SECCOMP_RET_ALLOW));
    filter
}
