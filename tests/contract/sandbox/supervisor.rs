//! Runs the program under ptrace(2), counts the calls of each of its processes, and at one of them kills or lies.
//!
//! Counted are the launcher's and the workers' own calls, from the first that is not the dynamic linker's: the Rust
//! runtime begins with a poll(2). What sudo and other programs call is not counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls::{self, Call};
use super::run::{Outcome, Run};

/// Nothing takes that long; what does hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the process that makes the call, before the call.
    Kill,
    /// SIGKILL to all processes of the run.
    KillAll,
    /// The call is not made, and fails so. Closing a descriptor is made, as the kernel does.
    Error(Errno),
}

/// Where: the `number`-th call of those that touch something or, for an error, of those that can give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// `launcher`, `worker`, `worker of NAME`.
    pub process: String,
    pub number: usize,
    pub fault: Fault,
}

/// What came of a supervised run.
pub struct Watched {
    pub outcome: Outcome,
    /// The calls of each process that the fault could have struck, in their order.
    pub calls: BTreeMap<String, Vec<Call>>,
    /// The call that was struck, with its path.
    pub struck: Option<String>,
    /// It did not end by itself.
    pub hung: bool,
}

impl Run<'_> {
    /// Runs to the end, and counts the calls that `fault` could strike.
    pub fn counted(self, fault: Fault) -> Watched {
        self.supervised(fault, None)
    }

    /// Runs to the end, with a fault at a point.
    pub fn struck(self, point: &Point) -> Watched {
        self.supervised(point.fault, Some(point))
    }

    #[expect(unsafe_code, reason = "there is no safe way to be traced from the first instruction on")]
    fn supervised(self, fault: Fault, point: Option<&Point>) -> Watched {
        let mut command = self.command();
        // SAFETY: between fork and exec only ptrace(2) is called, which is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| ptrace::traceme().map_err(std::io::Error::from));
        }
        #[expect(clippy::zombie_processes, reason = "the supervisor waits for every process of the run")]
        let mut child = command.spawn().expect("nsenter starts");
        let (stdout, stderr) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
        let root = Pid::from_raw(child.id().try_into().unwrap());
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
        drop(done);
        let hung = watchdog.join().unwrap();
        let outcome = Outcome::new(code, stdout.join().unwrap(), stderr.join().unwrap(), self.argv);
        Watched { outcome, calls: supervisor.calls, struck: supervisor.struck, hung }
    }
}

/// SIGKILL. One that has ended meanwhile is what was wanted.
fn slay(pid: &Pid) {
    let _ = kill(*pid, Signal::SIGKILL);
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// A process of the run. One that has just been forked goes by its parent's role.
#[derive(Debug, Clone, Default)]
struct Process {
    role: Option<String>,
    /// Past the dynamic linker.
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
    /// The thread whose call is being failed.
    lying: Option<(Pid, Errno)>,
    code: i32,
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
            lying: None,
            code: -1,
        }
    }

    /// Follows all processes to their ends; gives the exit code as a shell has it.
    fn watch(&mut self) -> i32 {
        while !self.living.lock().unwrap().is_empty() {
            // The test's own threads have children besides, which are not for this one to wait for.
            let status = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).unwrap();
            let Some(pid) = status.pid() else { continue };
            let ended = matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
            let fresh = !ended && !self.threads.contains_key(&pid);
            if fresh {
                self.meet(pid);
            }
            match status {
                WaitStatus::Exited(_, code) => self.end(pid, code),
                WaitStatus::Signaled(_, signal, _) => self.end(pid, 128 + signal as i32),
                WaitStatus::PtraceSyscall(_) => self.at_call(pid),
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => self.executed(pid),
                WaitStatus::Stopped(_, signal) if !fresh => self.resume(pid, Some(signal)),
                _ => self.resume(pid, None),
            }
        }
        self.code
    }

    fn meet(&mut self, pid: Pid) {
        self.living.lock().unwrap().insert(pid);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse().ok().map(Pid::from_raw)
        };
        let process = field("Tgid:").unwrap_or(pid);
        self.threads.insert(pid, process);
        if pid == self.root {
            let options = Options::PTRACE_O_TRACESYSGOOD
                | Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACECLONE
                | Options::PTRACE_O_TRACEEXEC
                | Options::PTRACE_O_EXITKILL;
            ptrace::setoptions(pid, options).unwrap();
        } else if pid == process {
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
        // Of several threads the one that executes goes on as the first, and its own number is gone.
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
        self.processes.insert(pid, Process { role: ours.then_some(role), begun: false });
        self.resume(pid, None);
    }

    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        let role = self.threads.get(&pid).and_then(|process| self.processes.get(process)?.role.as_ref());
        let watched = role.is_some_and(|role| self.point.is_none_or(|point| point.process == *role));
        let is_lying = self.lying.is_some_and(|(thread, _)| thread == pid);
        // ESRCH: it was killed meanwhile, and its end will be told.
        let _ = if watched && self.struck.is_none() || is_lying {
            ptrace::syscall(pid, signal)
        } else {
            ptrace::cont(pid, signal)
        };
    }

    fn at_call(&mut self, pid: Pid) {
        let (Ok(info), Ok(registers)) = (ptrace::syscall_info(pid), ptrace::getregs(pid)) else { return };
        if info.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            if let Some((_, errno)) = self.lying.take_if(|(thread, _)| *thread == pid) {
                let mut registers = registers;
                registers.rax = i64::from(-(errno as i32)).cast_unsigned();
                ptrace::setregs(pid, registers).unwrap();
            }
            return self.resume(pid, None);
        }
        let number = registers.orig_rax.cast_signed();
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
        let Some(group) = self.threads.get(&pid).copied() else { return self.resume(pid, None) };
        let Some(process) = self.processes.get_mut(&group) else { return self.resume(pid, None) };
        process.begun |= number == libc::SYS_poll;
        let (Some(role), true) = (process.role.clone(), process.begun) else { return self.resume(pid, None) };
        let Some(call) = self.strikable(pid, number, arguments) else { return self.resume(pid, None) };
        let calls = self.calls.entry(role.clone()).or_default();
        calls.push(call);
        if self.struck.is_some() || self.point.is_none_or(|point| point.process != role || point.number != calls.len())
        {
            return self.resume(pid, None);
        }
        self.struck = Some(describe(pid, call, arguments));
        match self.fault {
            Fault::Kill => slay(&group),
            Fault::KillAll => {
                let all: BTreeSet<Pid> = self.living.lock().unwrap().clone();
                all.iter().for_each(slay);
            }
            Fault::Error(errno) => {
                self.lying = Some((pid, errno));
                if call.name != "close" {
                    let mut registers = registers;
                    registers.orig_rax = u64::MAX;
                    ptrace::setregs(pid, registers).unwrap();
                }
                self.resume(pid, None);
            }
        }
    }

    fn strikable(&self, pid: Pid, number: c_long, arguments: [u64; 4]) -> Option<Call> {
        let call = calls::call(number)?;
        let Fault::Error(errno) = self.fault else { return Some(call) };
        let is_file = || open_file(pid, arguments[0]).is_some_and(|path| path.starts_with('/'));
        call.can_give(errno, arguments, is_file).then_some(call)
    }
}

fn open_file(pid: Pid, descriptor: u64) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?.display().to_string())
}

/// The call with its path or the file of its descriptor.
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
