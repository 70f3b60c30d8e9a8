//! Runs the program under ptrace(2), counts the calls of each process, and kills or fails at one of them.
//!
//! It counts the launcher's and the workers' own calls, starting with the first one that does not belong to the dynamic
//! linker: the Rust runtime starts with poll(2). A forked worker is counted from setsid(2) on. Calls of sudo and other programs
//! are not counted. A seccomp(2) filter stops the processes only at the relevant calls, because each stop is more expensive
//! than most calls. The filter is off for processes without the point, and after the fault.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::call_filter::{filter, options, set_filter};
use super::calls::{self, Call};
use super::run::{Outcome, Run};

/// Anything that takes this long hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the process that makes the call, before the call.
    Kill,
    /// SIGKILL to all processes of the run.
    KillAll,
    /// The call is not made and returns this error. Closing a descriptor still happens, as in the kernel.
    Error(Errno),
}

/// A point: the `number`-th time that a process of the run makes the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// `launcher`, `worker`, `worker of NAME`.
    pub process: String,
    pub call: &'static str,
    /// Counted from 1, among the calls that the fault could strike.
    pub number: usize,
    pub fault: Fault,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.process, self.call, self.number)
    }
}

/// The outcome of a supervised run.
pub struct Watched {
    pub outcome: Outcome,
    /// The calls of each process that the fault could have struck, in order.
    pub calls: BTreeMap<String, Vec<Call>>,
    /// The call that was struck, with its path.
    pub struck: Option<String>,
    /// The numbers of the calls before it that were struck, too, and repeated at once.
    pub repeated: Vec<usize>,
    /// Whether it did not end by itself.
    pub hung: bool,
}

impl Run<'_> {
    /// Runs to the end and counts the calls that `fault` could strike.
    pub fn counted(self, fault: Fault) -> Watched {
        self.supervised(fault, None)
    }

    /// Runs to the end with a fault at a point. A call that was interrupted (EINTR) may be repeated at once, from the same
    /// place with the same registers. Then the program goes on as if it had not been interrupted, and the next call with
    /// the name is interrupted as well, until one is not repeated.
    pub fn struck(self, point: &Point) -> Watched {
        self.supervised(point.fault, Some(point))
    }

    /// Runs in a thread without other children, so that it can wait only for those of the run.
    fn supervised(self, fault: Fault, point: Option<&Point>) -> Watched {
        std::thread::scope(|scope| scope.spawn(|| self.supervised_here(fault, point)).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn supervised_here(self, fault: Fault, point: Option<&Point>) -> Watched {
        let (root, output) = start_traced(self.command(), filter(fault, point));
        let mut supervisor = Supervisor::new(root, fault, point);
        let (done, wait) = mpsc::channel::<()>();
        let living = Arc::clone(&supervisor.living);
        let watchdog = std::thread::spawn(move || {
            let hung = wait.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            while hung && wait.try_recv() == Err(mpsc::TryRecvError::Empty) {
                living.lock().unwrap().iter().for_each(slay);
                std::thread::sleep(Duration::from_millis(10));
            }
            hung
        });
        let code = supervisor.watch();
        if let Some(interrupted) = supervisor.interrupted.take_if(|it| it.stage != Stage::Repeating) {
            supervisor.struck = Some(interrupted.description);
        }
        drop(done);
        let hung = watchdog.join().unwrap();
        let (stdout, stderr) = output.join().unwrap();
        let outcome = Outcome::new(code, stdout, stderr, self.argv);
        Watched { outcome, calls: supervisor.calls, struck: supervisor.struck, repeated: supervisor.repeated, hung }
    }
}

/// What a command wrote to standard output and standard error.
type Written = (Vec<u8>, Vec<u8>);

/// Starts a command whose processes are all traced by this thread and stop where `filter` specifies. Returns its
/// process and its future output.
///
/// The tracer has to be attached before the filter is installed, or the filtered calls fail, and the filter has to be
/// installed before the execution. Spawning ends with the execution, which already needs the tracer, so it is done by
/// another thread.
#[expect(unsafe_code, reason = "there is no safe way to do something between fork and exec")]
fn start_traced(mut command: Command, mut filter: Vec<libc::sock_filter>) -> (Pid, JoinHandle<Written>) {
    let (mut told, tell) = std::io::pipe().unwrap();
    let (await_tracer, mut seized) = std::io::pipe().unwrap();
    let length = filter.len().try_into().unwrap();
    // SAFETY: between fork and exec only getpid(2), write(2), read(2) and prctl(2) are called. They are
    // async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            (&tell).write_all(&libc::getpid().to_ne_bytes())?;
            (&await_tracer).read_exact(&mut [0])?;
            let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
            match libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = std::thread::spawn(move || {
        #[expect(clippy::zombie_processes, reason = "the supervisor waits for every process of the run")]
        let mut child = command.spawn().expect("nsenter starts");
        let stderr = drain(child.stderr.take().unwrap());
        let mut stdout = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        (stdout, stderr.join().unwrap())
    });
    let mut root = [0; 4];
    told.read_exact(&mut root).unwrap();
    let root = Pid::from_raw(i32::from_ne_bytes(root));
    ptrace::seize(root, options()).unwrap();
    seized.write_all(&[0]).unwrap();
    (root, output)
}

/// Sends SIGKILL. The process may already have ended.
fn slay(pid: &Pid) {
    let _ = kill(*pid, Signal::SIGKILL);
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// A process of the run. A new child has its parent's role.
#[derive(Debug, Clone, Default)]
struct Process {
    role: Option<String>,
    /// Whether it has passed the dynamic linker.
    begun: bool,
}

struct Supervisor<'a> {
    root: Pid,
    fault: Fault,
    point: Option<&'a Point>,
    processes: HashMap<Pid, Process>,
    /// The process of each thread.
    threads: HashMap<Pid, Pid>,
    living: Arc<Mutex<BTreeSet<Pid>>>,
    calls: BTreeMap<String, Vec<Call>>,
    struck: Option<String>,
    interrupted: Option<Interrupted>,
    repeated: Vec<usize>,
    code: i32,
}

/// A call that was interrupted, up to the next call of its thread.
struct Interrupted {
    pid: Pid,
    number: usize,
    description: String,
    /// What the call was made with.
    registers: Vec<u64>,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    /// The interrupted call has not returned.
    Returning,
    /// The next call has not begun.
    Returned,
    /// The same call has begun again, and the filter has not stopped at it.
    Repeating,
}

impl<'a> Supervisor<'a> {
    fn new(root: Pid, fault: Fault, point: Option<&'a Point>) -> Self {
        Self {
            root,
            fault,
            point,
            processes: HashMap::from([(root, Process::default())]),
            threads: HashMap::new(),
            living: Arc::new(Mutex::new(BTreeSet::from([root]))),
            calls: BTreeMap::new(),
            struck: None,
            interrupted: None,
            repeated: Vec::new(),
            code: -1,
        }
    }

    /// Follows all processes to their ends. Returns the exit code as in a shell.
    fn watch(&mut self) -> i32 {
        loop {
            // A process that was forked when its parent was killed appears after the parent's end.
            let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Err(Errno::ECHILD) => return self.code,
                status => status.unwrap(),
            };
            let Some(pid) = status.pid() else { continue };
            let ended = matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
            let fresh = !ended && !self.threads.contains_key(&pid);
            if fresh {
                self.adopt(pid);
                // Created while all were killed.
                if self.struck.is_some() && self.fault == Fault::KillAll {
                    slay(&pid);
                }
            }
            match status {
                WaitStatus::Exited(_, code) => self.end(pid, code),
                WaitStatus::Signaled(_, signal, _) => self.end(pid, 128 + signal as i32),
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_SECCOMP) => self.at_call(pid),
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => self.executed(pid),
                WaitStatus::PtraceSyscall(_) if self.awaits_repetition(pid) => self.after_interruption(pid),
                WaitStatus::PtraceSyscall(_) => self.closed(pid),
                WaitStatus::Stopped(_, signal) if !fresh => self.resume(pid, Some(signal)),
                _ => self.resume(pid, None),
            }
        }
    }

    fn adopt(&mut self, pid: Pid) {
        self.living.lock().unwrap().insert(pid);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse().ok().map(Pid::from_raw)
        };
        let process = field("Tgid:").unwrap_or(pid);
        self.threads.insert(pid, process);
        if pid == process && pid != self.root {
            let parent = field("PPid:").and_then(|parent| self.processes.get(&parent)).cloned();
            self.processes.insert(pid, parent.unwrap_or_default());
        }
    }

    fn end(&mut self, pid: Pid, code: i32) {
        self.living.lock().unwrap().remove(&pid);
        self.threads.remove(&pid);
        if pid == self.root {
            self.code = code;
        }
    }

    fn executed(&mut self, pid: Pid) {
        // The executing thread continues as the first one, and its own number is gone.
        if let Ok(former) = ptrace::getevent(pid).map(|former| Pid::from_raw(former.try_into().unwrap()))
            && former != pid
        {
            self.end(former, 0);
        }
        let ours = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.ends_with("provision"));
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<String> = line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into()).collect();
        let role = match &words[..] {
            [_, worker, flag, user, ..] if worker == "worker" && flag == "--user" => format!("worker of {user}"),
            [_, worker, ..] if worker == "worker" => "worker".to_owned(),
            _ => "launcher".to_owned(),
        };
        let role = ours.then_some(role);
        // The launcher is watched for the fork of the worker as well.
        let may_fork_it = role.as_deref() == Some("launcher") && self.is_counted(Some("worker"));
        set_filter(pid, self.struck.is_none() && (may_fork_it || self.is_counted(role.as_deref())));
        self.processes.insert(pid, Process { role, begun: false });
        self.resume(pid, None);
    }

    /// Returns whether the calls of a process with this role are counted.
    fn is_counted(&self, role: Option<&str>) -> bool {
        role.is_some_and(|role| self.point.is_none_or(|point| point.process == role))
    }

    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        // ESRCH: it was killed meanwhile, and its end will be reported.
        let _ = if self.awaits_repetition(pid) { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
    }

    fn awaits_repetition(&self, pid: Pid) -> bool {
        self.interrupted.as_ref().is_some_and(|it| it.pid == pid && it.stage != Stage::Repeating)
    }

    /// An interrupted call has returned, or the next call of its thread begins.
    fn after_interruption(&mut self, pid: Pid) {
        if let Some(interrupted) = &mut self.interrupted {
            if interrupted.stage == Stage::Returning {
                interrupted.stage = Stage::Returned;
            } else if ptrace::getregs(pid).is_ok_and(|registers| state(&registers) == interrupted.registers) {
                interrupted.stage = Stage::Repeating;
                self.repeated.push(interrupted.number);
            } else {
                self.struck = self.interrupted.take().map(|it| it.description);
                set_filter(pid, false);
            }
        }
        self.resume(pid, None);
    }

    fn at_call(&mut self, pid: Pid) {
        if self.strike(pid).is_none() {
            if self.struck.is_some() {
                set_filter(pid, false);
            }
            self.resume(pid, None);
        }
    }

    /// Counts a call that is about to be made and strikes at the point. `None` means that the thread continues.
    fn strike(&mut self, pid: Pid) -> Option<()> {
        if self.struck.is_some() {
            return None;
        }
        if self.interrupted.as_ref().is_some_and(|it| it.pid == pid) {
            // The repeated call.
            self.interrupted = None;
            return None;
        }
        let number = ptrace::getevent(pid).ok()?;
        let group = *self.threads.get(&pid)?;
        let is_worker_wanted = self.is_counted(Some("worker"));
        let process = self.processes.get_mut(&group)?;
        process.begun |= number == libc::SYS_poll;
        // The launching user's worker is a fork of the launcher, which begins with a session of its own.
        if number == libc::SYS_setsid && process.role.as_deref() == Some("launcher") {
            process.role = Some("worker".to_owned());
            if !is_worker_wanted {
                set_filter(pid, false);
            }
        }
        let role = process.role.as_ref().filter(|_| process.begun)?.clone();
        if !self.is_counted(Some(&role)) {
            return None;
        }
        let mut registers = ptrace::getregs(pid).ok()?;
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
        let call = self.strikable(pid, number, arguments)?;
        if self.point.is_some_and(|point| point.call != call.name) {
            return None;
        }
        let calls = self.calls.entry(role).or_default();
        calls.push(call);
        let number = calls.len();
        // While one thread is about to repeat its call, the calls of others are only counted.
        let next = |point: &&Point| self.interrupted.is_none() && number > point.number && !self.repeated.is_empty();
        self.point.filter(|point| point.number == number || next(point))?;
        let mut description = describe(pid, call, arguments);
        if !self.repeated.is_empty() {
            write!(description, " ({} {number})", call.name).ok()?;
        }
        let struck = Some(description.clone());
        match self.fault {
            Fault::Kill => slay(&group),
            Fault::KillAll => {
                let all: BTreeSet<Pid> = self.living.lock().unwrap().clone();
                all.iter().for_each(slay);
            }
            Fault::Error(_) if call.name == "close" => ptrace::syscall(pid, None).ok()?,
            Fault::Error(errno) => {
                let before = state(&registers);
                // No call has this number, so none is made, and the result is the value set here.
                registers.orig_rax = u64::MAX;
                registers.rax = result(errno);
                ptrace::setregs(pid, registers).ok()?;
                if errno == Errno::EINTR {
                    let stage = Stage::Returning;
                    self.interrupted = Some(Interrupted { pid, number, description, registers: before, stage });
                } else {
                    self.struck = struck;
                }
                return None;
            }
        }
        self.struck = struck;
        Some(())
    }

    /// A descriptor was closed, but the process is told that it was not.
    fn closed(&self, pid: Pid) {
        if let (Fault::Error(errno), Ok(mut registers)) = (self.fault, ptrace::getregs(pid)) {
            registers.rax = result(errno);
            let _ = ptrace::setregs(pid, registers);
        }
        set_filter(pid, false);
        self.resume(pid, None);
    }

    fn strikable(&self, pid: Pid, number: c_long, arguments: [u64; 4]) -> Option<Call> {
        let call = calls::call(number)?;
        let open = || open_for(pid, arguments[0]);
        let strikable = match self.fault {
            Fault::Error(errno) => call.can_give(errno, arguments, open),
            Fault::Kill | Fault::KillAll => call.is_noticeable(arguments, open),
        };
        strikable.then_some(call)
    }
}

/// Returns what a thread goes on with that makes a call: the call, its arguments, its place, and the registers that it keeps.
fn state(registers: &libc::user_regs_struct) -> Vec<u64> {
    let libc::user_regs_struct { orig_rax, rdi, rsi, rdx, r10, r8, r9, rip, rsp, rbp, rbx, r12, r13, r14, r15, .. } =
        *registers;
    let arguments = match c_long::try_from(orig_rax).ok().and_then(calls::call).map(|call| call.name) {
        Some("read" | "readv" | "write" | "writev" | "open" | "connect" | "poll" | "sendmsg" | "recvmsg") => 3,
        Some("openat" | "openat2" | "pread64" | "pwrite64" | "epoll_wait" | "wait4") => 4,
        Some("flock") => 2,
        _ => 6,
    };
    [&[rdi, rsi, rdx, r10, r8, r9][..arguments], &[orig_rax, rip, rsp, rbp, rbx, r12, r13, r14, r15]].concat()
}

/// Returns the value of a failed call in its result register.
fn result(errno: Errno) -> u64 {
    i64::from(-(errno as i32)).cast_unsigned()
}

fn open_file(pid: Pid, descriptor: u64) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?.display().to_string())
}

/// Returns what a descriptor refers to, with a trailing slash for a directory.
fn open_for(pid: Pid, descriptor: u64) -> String {
    let mut path = open_file(pid, descriptor).unwrap_or_default();
    if fs::metadata(format!("/proc/{pid}/fd/{descriptor}")).is_ok_and(|found| found.is_dir()) {
        path.push('/');
    }
    path
}

/// Returns the call with its path or the file of its descriptor.
fn describe(pid: Pid, call: Call, arguments: [u64; 4]) -> String {
    let path = call.path.and_then(|position| {
        let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
        let mut bytes = [0; 4096];
        let read = memory.read_at(&mut bytes, arguments[position]).ok()?;
        let text = bytes[..read].split(|byte| *byte == 0).next()?;
        let base = (position == 1).then(|| open_file(pid, arguments[0] & 0xffff_ffff)).flatten().unwrap_or_default();
        Some(Path::new(&base).join(OsStr::from_bytes(text)).display().to_string())
    });
    let path = path.or_else(|| open_file(pid, arguments[0])).unwrap_or_default();
    format!("{} {path}", call.name)
}
