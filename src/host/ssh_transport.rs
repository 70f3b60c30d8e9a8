//! git over ssh by the `ssh` program, as git itself does it: `~/.ssh/config`, the agent, the default keys, jump hosts
//! and `known_hosts` work without a word here. An unknown or changed host key is an error, and nothing is ever asked.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, set_parent_process_death_signal, waitid,
};

use crate::host::fs::says;

thread_local! {
    /// `core.sshCommand` for connections of this thread: libgit2 does not tell a transport whose repository it serves.
    static SSH_COMMAND: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Seconds until a host that does not answer is given up.
const CONNECT_TIMEOUT_S: u32 = 15;

/// How long a host that has fallen silent is waited for. A server at work lets hear of itself more often than that.
const SILENCE: Duration = Duration::from_secs(60);

/// How long an ssh may take to end that has closed its output.
const GRACE: Duration = Duration::from_secs(5);

/// How much of ssh's standard error is kept, in bytes.
const STDERR_LIMIT: usize = 8192;

/// Makes `ssh://` and `host:path` URLs work in this process. Cheap when called again.
pub fn register() -> Result<(), git2::Error> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| {
        #[expect(unsafe_code, reason = "git2 marks the registration of a transport unsafe")]
        // SAFETY: libgit2 wants no transport to be made meanwhile; every user of remotes in this program calls this
        // function first, and the OnceLock lets none of them go on before the registration is done.
        let registered = unsafe {
            git2::transport::register("ssh", |remote| {
                Transport::smart(remote, false, SshTransport { command: SSH_COMMAND.take(), child: Arc::default() })
            })
        };
        registered.map_err(|error| error.message().to_owned())
    })
    .clone()
    .map_err(|message| git2::Error::from_str(&message))
}

/// Sets the shell command that the next connection of this thread uses instead of `ssh` (git's `core.sshCommand`).
pub fn set_command(command: Option<String>) {
    SSH_COMMAND.set(command);
}

/// One connection to one host.
struct SshTransport {
    command: Option<String>,
    child: Arc<Mutex<Option<Running>>>,
}

/// The process groups of this process's ssh; none once it ends.
static LIVE: LazyLock<Mutex<Option<HashSet<Pid>>>> = LazyLock::new(|| Mutex::new(Some(HashSet::new())));

fn live() -> MutexGuard<'static, Option<HashSet<Pid>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every ssh of this process, with what a shell started for it, and has it start no more. For its end: connections in
/// other threads fail.
pub fn end_all() {
    for group in live().take().into_iter().flatten() {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// An ssh process at the head of a process group, and the thread that collects what it complains about.
struct Running {
    child: Child,
    /// None once the process was waited for, and its number can be another's.
    group: Option<Pid>,
    complaints: Option<JoinHandle<String>>,
}

impl Running {
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut live = live();
        let live = live.as_mut().ok_or_else(|| io::Error::other("this process ends"))?;
        let child = command.process_group(0).spawn()?;
        let group = Pid::from_raw(child.id().cast_signed());
        live.extend(group);
        Ok(Self { child, group, complaints: None })
    }

    /// Ends ssh, at once or if it has ended by itself; what is left of its group ends with it.
    fn end(&mut self, at_once: bool) {
        let Some(group) = self.group else { return };
        let mut live = live();
        // Looked at and not yet waited for: until it is, nobody else gets the number.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if at_once || !matches!(waitid(WaitId::Pid(group), look), Ok(None)) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
            self.group = None;
            if let Some(live) = live.as_mut() {
                live.remove(&group);
            }
        }
    }

    /// How ssh ended, which has closed its output or input and so is about to.
    fn status(&mut self) -> io::Result<ExitStatus> {
        let until = Instant::now() + GRACE;
        while self.group.is_some() {
            self.end(Instant::now() > until);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The conversation is over: nobody listens to it any more.
        self.end(true);
    }
}

fn lock(child: &Mutex<Option<Running>>) -> MutexGuard<'_, Option<Running>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SmartSubtransport for SshTransport {
    fn action(&self, url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let Service::UploadPackLs = service else {
            return Err(git2::Error::from_str("only fetching is supported over ssh"));
        };
        let target = Target::parse(url).map_err(|problem| git2::Error::from_str(&problem))?;
        let mut command = target.command(self.command.as_deref());
        end_with_this_thread(&mut command);
        let failed = |error: io::Error| git2::Error::from_str(&format!("cannot start ssh: {}", says(&error)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command).map_err(failed)?;
        let child = &mut running.child;
        let (Some(input), Some(output), Some(mut errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(git2::Error::from_str("ssh was started without its pipes"));
        };
        let complaints = std::thread::Builder::new().spawn(move || {
            let mut kept = Vec::new();
            let _ = (&mut errors).take(STDERR_LIMIT as u64).read_to_end(&mut kept);
            // Past the limit it is read and thrown away: a full pipe would stop ssh.
            let _ = io::copy(&mut errors, &mut io::sink());
            String::from_utf8_lossy(&kept).into_owned()
        });
        running.complaints = Some(complaints.map_err(failed)?);
        *lock(&self.child) = Some(running);
        Ok(Box::new(SshStream { input, output, child: Arc::clone(&self.child), silent: true, patience: SILENCE }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        lock(&self.child).take();
        Ok(())
    }
}

/// Has the command ended when the process is, or is killed, that this thread belongs to: ssh itself would wait for a
/// remote that has fallen silent.
#[expect(unsafe_code, reason = "there is no safe way to have a child end with its parent")]
fn end_with_this_thread(command: &mut Command) {
    // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
    }
}

struct SshStream {
    input: ChildStdin,
    output: ChildStdout,
    child: Arc<Mutex<Option<Running>>>,
    /// Nothing has been received yet.
    silent: bool,
    /// How long a silence may be.
    patience: Duration,
}

impl SshStream {
    /// Waits until there is something to read, an end included.
    fn wait_for_output(&self) -> io::Result<()> {
        let until = Instant::now() + self.patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&left)) {
                Ok(0) => {
                    let seconds = self.patience.as_secs();
                    return Err(io::Error::other(format!("ssh: timed out: the host has said nothing for {seconds} s")));
                }
                Err(Errno::INTR) => {}
                ready => return ready.map(drop).map_err(io::Error::from),
            }
        }
    }

    /// Why ssh ended: its own words.
    fn why_it_ended(&self) -> io::Error {
        let Some(mut running) = lock(&self.child).take() else {
            return io::Error::other("ssh: the connection is closed");
        };
        let status = running.status();
        let said = running.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let lines: Vec<&str> =
            said.lines().map(|line| line.trim_matches(|c| c == '@' || c == ' ' || c == '\r')).collect();
        let said = lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        match (said.is_empty(), status) {
            (false, _) => io::Error::other(format!("ssh: {}", said.trim_start_matches("ssh: "))),
            (true, Ok(status)) => io::Error::other(format!("ssh ended without a word ({status})")),
            (true, Err(error)) => io::Error::other(format!("ssh: {error}")),
        }
    }
}

impl Read for SshStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_for_output()?;
        let count = self.output.read(buffer)?;
        if count == 0 && self.silent && !buffer.is_empty() {
            return Err(self.why_it_ended());
        }
        self.silent &= count == 0;
        Ok(count)
    }
}

impl Write for SshStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.input.write(data) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.why_it_ended()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

/// What an ssh URL names.
#[derive(Debug, PartialEq)]
struct Target {
    /// `user@host` or `host`.
    host: String,
    port: Option<String>,
    path: String,
}

impl Target {
    /// Reads `ssh://[user@]host[:port]/path` and `[user@]host:path`, with git's reading of `/~user` and `[host]`.
    fn parse(url: &str) -> Result<Self, String> {
        // Without the URL, which may hold a password.
        let unclear = || "it is no ssh URL: write ssh://user@host/path or user@host:path".to_owned();
        let target = if let Some(rest) = url.strip_prefix("ssh://") {
            let (authority, path) = rest.split_once('/').ok_or_else(unclear)?;
            let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
            let (host, port) = split_port(host);
            // A password in an ssh URL has no use: ssh takes none.
            let user = user.map(|user| user.split(':').next().unwrap_or(user));
            let host = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
            let path = if path.starts_with('~') { path.to_owned() } else { format!("/{path}") };
            Self { host, port: port.map(str::to_owned), path }
        } else if let Some((user, rest)) = url.split_once('[') {
            let (host, path) = rest.split_once("]:").ok_or_else(unclear)?;
            let (host, port) = split_port(host);
            Self { host: format!("{user}{host}"), port: port.map(str::to_owned), path: path.to_owned() }
        } else {
            let (host, path) = url.split_once(':').ok_or_else(unclear)?;
            Self { host: host.to_owned(), port: None, path: path.to_owned() }
        };
        // A host or path that begins with a hyphen would be read as an option (CVE-2017-1000117).
        let name = target.host.rsplit('@').next().unwrap_or_default();
        if name.is_empty() || name.starts_with('-') || target.host.starts_with('-') || target.path.starts_with('-') {
            return Err(unclear());
        }
        if let Some(port) = &target.port
            && port.parse::<u16>().is_err()
        {
            return Err(unclear());
        }
        Ok(target)
    }

    fn command(&self, own: Option<&str>) -> Command {
        let mut command = match own {
            // git gives core.sshCommand to a shell, and the arguments after it.
            Some(own) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("{own} \"$@\"")).arg(own);
                shell
            }
            None => Command::new("ssh"),
        };
        command.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]);
        // A master that the user's configuration asks for would stay behind with its socket.
        command.args(["-o", "ControlMaster=no", "-o", "ControlPath=none"]);
        // What ssh adds to known_hosts and to the agent by itself (ssh_config(5)).
        command.args(["-o", "UpdateHostKeys=no", "-o", "CheckHostIP=no", "-o", "AddKeysToAgent=no"]);
        command.arg("-o").arg(format!("ConnectTimeout={CONNECT_TIMEOUT_S}"));
        command.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]);
        if let Some(port) = &self.port {
            command.arg("-p").arg(port);
        }
        command.arg(&self.host).arg(format!("git-upload-pack '{}'", self.path.replace('\'', r"'\''")));
        command
    }
}

/// `host`, `host:22`, `[::1]`, `[::1]:22`.
fn split_port(host: &str) -> (&str, Option<&str>) {
    if let Some((inside, rest)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        return (inside, rest.strip_prefix(':'));
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => (name, (!port.is_empty()).then_some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (String, Option<String>, String) {
        let target = Target::parse(url).unwrap();
        (target.host, target.port, target.path)
    }

    #[test]
    fn urls_are_read_as_git_reads_them() {
        let port = |text: &str| Some(text.to_owned());
        assert_eq!(parsed("git@github.com:a/b.git"), ("git@github.com".into(), None, "a/b.git".into()));
        assert_eq!(parsed("host:/srv/x"), ("host".into(), None, "/srv/x".into()));
        assert_eq!(parsed("ssh://u@h:2222/srv/x"), ("u@h".into(), port("2222"), "/srv/x".into()));
        assert_eq!(parsed("ssh://h/~u/x"), ("h".into(), None, "~u/x".into()));
        assert_eq!(parsed("ssh://u:secret@[::1]:22/x"), ("u@::1".into(), port("22"), "/x".into()));
        assert_eq!(parsed("u@[h:2200]:x"), ("u@h".into(), port("2200"), "x".into()));
    }

    /// What an ssh does that is these lines of shell.
    fn stream(script: &str) -> SshStream {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(&mut command).unwrap();
        let (input, output) = (running.child.stdin.take().unwrap(), running.child.stdout.take().unwrap());
        let child = Arc::new(Mutex::new(Some(running)));
        SshStream { input, output, child, silent: true, patience: Duration::from_secs(2) }
    }

    #[test]
    fn a_silence_is_not_waited_out() {
        let mut stream = stream("echo word; exec sleep 60");
        let mut text = String::new();
        let error = stream.read_to_string(&mut text).unwrap_err();
        assert_eq!(text, "word\n");
        assert_eq!(error.to_string(), "ssh: timed out: the host has said nothing for 2 s");
    }

    #[test]
    fn nor_is_an_ssh_that_stays_when_it_has_closed_its_output() {
        let mut stream = stream("exec >&-; sleep 60; true");
        let error = stream.read_to_string(&mut String::new()).unwrap_err();
        assert_eq!(error.to_string(), "ssh ended without a word (signal: 9 (SIGKILL))");
    }

    #[test]
    fn a_host_that_would_be_an_option_is_refused() {
        for url in
            ["ssh://-oProxyCommand=x/y", "-oProxyCommand=x:y", "ssh://u@-x/y", "ssh:///y", "h:-x", "ssh://h:99999/x"]
        {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
