//! Watches a command's system calls with strace and breaks them: what it writes, what it starts, and what is left when
//! it is killed or a call fails.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::run::{Outcome, Run};

/// The calls that change a file, a name or what `stat` shows. Writing through a descriptor needs one that was opened
/// for writing, so the opening calls represent `write` and `mmap`.
const MUTATING: &str = "open,openat,openat2,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,\
linkat,symlink,symlinkat,chmod,fchmod,fchmodat,?fchmodat2,chown,fchown,lchown,fchownat,truncate,ftruncate,utime,utimes,\
futimesat,utimensat,mknod,mknodat,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr";

/// The calls at which a run can be killed or fail: all that affect a file, a socket or a process.
const TOUCHING: &str = "%file,%desc,%network,%process";

/// What to trace or inject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracing {
    /// Calls that change a file.
    Writes,
    /// Programs that are started, with arguments and environment.
    Executions,
    /// All calls that affect a file, a socket or a process, for counting.
    Calls,
    /// SIGKILL to the process whose thread makes its `number`-th call with the name.
    Kill { call: String, number: u32 },
    /// A delay after each call with the name.
    Delay { call: String, microseconds: u32 },
    /// The error (`ENOSPC`) instead of a thread's `number`-th call with the name.
    Error { call: String, number: u32, error: String },
}

impl Tracing {
    /// A delay, in microseconds, after each of the calls.
    pub fn slow(calls: &str, microseconds: u32) -> Self {
        Self::Delay { call: calls.into(), microseconds }
    }
}

/// What strace recorded: the lines of each thread.
pub struct Trace(Vec<Vec<String>>);

impl Run<'_> {
    /// Runs to the end under strace. strace runs as root, so that `sudo` works in what it traces.
    pub fn traced(self, tracing: &Tracing) -> (Outcome, Trace) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = format!("/run/trace-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.sandbox.bash("root", &format!("mkdir -m 700 {folder}"));
        let output = format!("{folder}/thread");
        let mut argv: Vec<String> =
            ["strace", "-ff", "-y", "-u", &self.user, "-o", &output, "-e", "signal=none"].map(String::from).into();
        let expressions = match tracing {
            Tracing::Writes => vec![format!("trace={MUTATING}")],
            Tracing::Executions => {
                argv.extend(["-v", "-s", "100000"].map(String::from));
                vec!["trace=execve,execveat".into()]
            }
            Tracing::Calls => vec![format!("trace={TOUCHING}")],
            Tracing::Kill { call, number } => {
                vec![format!("trace={call}"), format!("inject={call}:signal=KILL:when={number}")]
            }
            Tracing::Delay { call, microseconds } => {
                vec![format!("trace={call}"), format!("inject={call}:delay_exit={microseconds}")]
            }
            Tracing::Error { call, number, error } => {
                vec![format!("trace={call}"), format!("inject={call}:error={error}:when={number}")]
            }
        };
        argv.extend(expressions.into_iter().flat_map(|expression| ["-e".into(), expression]));
        argv.push("--".into());
        let (sandbox, started) = (self.sandbox, self.tracer(argv));
        let outcome = started.run();
        let outside = format!("/proc/{}/root{folder}", sandbox.pid);
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
        };
        let threads: Vec<Vec<String>> = fs::read_dir(&outside).unwrap().map(read).collect();
        assert!(threads.iter().any(|lines| !lines.is_empty()), "strace saw nothing\n{outcome}");
        (outcome, Trace(threads))
    }
}

impl Trace {
    fn lines(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flatten()
    }

    /// Returns the calls that changed a file, except in the kernel's own file systems and sudo's state under `/run`.
    pub fn writes(&self) -> Vec<&String> {
        let opens = ["open(", "openat(", "openat2(", "creat("];
        let writing = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "creat("];
        let elsewhere =
            ["\"/dev/", "\"/proc/", "\"/sys/", "\"/run/", "\"/var/run/", "</dev/", "</memfd:", "<pipe:", "<socket:"];
        self.lines()
            .filter(|line| {
                line.contains('(') && !line.contains(" = -1 ") && !line.starts_with("+++") && !line.starts_with("???")
            })
            .filter(|line| {
                !opens.iter().any(|open| line.starts_with(open)) || writing.iter().any(|flag| line.contains(flag))
            })
            .filter(|line| !elsewhere.iter().any(|place| line.contains(place)))
            .collect()
    }

    /// Returns whether a call contains this path.
    pub fn names(&self, path: &str) -> bool {
        let quoted = format!("\"{path}\"");
        self.lines().any(|line| line.contains(&quoted))
    }

    /// Returns the calls on entries whose path starts with this, for each process that created one.
    pub fn on_new(&self, path: &str) -> Vec<Vec<&String>> {
        let made = |line: &&String| line.starts_with("openat(") && line.contains("O_CREAT") && line.contains(path);
        let of_thread = |lines: &'_ Vec<String>| lines.iter().any(|line| made(&line));
        let threads = self.0.iter().filter(|lines| of_thread(lines));
        threads
            .map(|lines| lines.iter().filter(|line| line.contains(path)).skip_while(|line| !made(line)).collect())
            .collect()
    }

    /// Returns each program that was started, as printed by strace: path, arguments, environment.
    pub fn executions(&self) -> Vec<&String> {
        self.lines().filter(|line| line.starts_with("execve") && !line.contains(" = -1 ")).collect()
    }

    /// Returns the maximum number of times that one thread made each call: the points at which `when=n` can strike.
    pub fn calls(&self) -> BTreeMap<String, u32> {
        let mut most = BTreeMap::new();
        for thread in &self.0 {
            let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
            for (call, _) in thread.iter().filter_map(|line| line.split_once('(')) {
                *counts.entry(call).or_default() += 1;
            }
            for (call, count) in counts {
                let known = most.entry(call.to_owned()).or_default();
                *known = count.max(*known);
            }
        }
        most
    }

    /// Returns whether the injected signal or error occurred.
    pub fn bitten(&self) -> bool {
        self.lines().any(|line| line.contains("(INJECTED)") || line.ends_with("= ?"))
    }
}
