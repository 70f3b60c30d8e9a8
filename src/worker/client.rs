//! The launcher's side of the worker protocol. There is one worker per user. The launching user's is forked when the
//! program starts, and others are started when they are first needed.

use crate::failure::Failure;
use crate::host::users::User;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, OnceCell, oneshot};
use tokio::task::JoinHandle;

use super::environment::kept;
use super::frame::{self, Answer, Frame, Request, Task, VERSION};
use super::identity::user_named;
use super::own::{Forked, take_own};
use crate::host::capabilities;
use crate::host::environment::Variables;
use crate::host::secret::{Digester, Secret};
use crate::resource::{AnyActual, AnyChange, RescueAnswer, RescueRequest};
use crate::telemetry::{self, spans, spans::Span};
use crate::text::io_error_text;

/// Numbers of the workers for their records. This process has 0.
static NAMESPACES: AtomicU16 = AtomicU16::new(1);

/// The steps of one user, with their secrets by the keys of their sources.
pub type Tasks = Vec<(Task, BTreeMap<String, Secret>)>;

/// Receives progress messages of a step.
pub type Progress = dyn Fn(&str, String) + Send + Sync;

/// The workers of one run, by user.
pub struct Workers {
    run: String,
    digester: Digester,
    /// The launching user.
    me: User,
    users: BTreeMap<Option<String>, UserWorker>,
    /// The environment variables that may be passed on to the launching user's git.
    for_git: Variables,
    /// The names of the launcher's environment variables.
    variables: Vec<String>,
    progress: Arc<Progress>,
}

impl Workers {
    /// Creates the workers of these steps without starting them.
    pub fn new(
        run: String,
        digester: Digester,
        users: BTreeMap<Option<String>, Tasks>,
        (for_git, variables): (Variables, Vec<String>),
        progress: Arc<Progress>,
    ) -> Self {
        let me = User::acting();
        let mut by_user: BTreeMap<Option<String>, Tasks> = BTreeMap::new();
        for (user, steps) in users {
            by_user.entry(other_than(&me, user.as_deref())).or_default().extend(steps);
        }
        let worker = |(user, steps)| (user, UserWorker { steps, worker: OnceCell::new() });
        Self { run, digester, me, users: by_user.into_iter().map(worker).collect(), for_git, variables, progress }
    }

    /// Observes a step as its user.
    ///
    /// # Errors
    /// The failure of the kind, or why the worker is not available.
    pub async fn observe(&self, user: Option<&str>, step: &str) -> Result<AnyActual, Failure> {
        let span = Span::current().id();
        let request = |ticket| Request::Observe { ticket, step: step.to_owned(), span };
        match self.worker(user).await?.ask(step, request).await? {
            Answer::Observed { result, .. } => result,
            _ => Err(Failure::new("a worker sent an unexpected answer")),
        }
    }

    /// Makes one change of a step as its user.
    ///
    /// # Errors
    /// As [`Workers::observe`].
    pub async fn execute(&self, user: Option<&str>, step: &str, change: &AnyChange) -> Result<(), Failure> {
        let span = Span::current().id();
        let request = |ticket| Request::Execute { ticket, step: step.to_owned(), change: change.clone(), span };
        match self.worker(user).await?.ask(step, request).await? {
            Answer::Executed { result, .. } => result,
            _ => Err(Failure::new("a worker sent an unexpected answer")),
        }
    }

    /// Asks a step for its rescues, as its user.
    ///
    /// # Errors
    /// As [`Workers::observe`].
    pub async fn rescue(
        &self,
        user: Option<&str>,
        step: &str,
        request: RescueRequest,
    ) -> Result<RescueAnswer, Failure> {
        let ask = |ticket| Request::Rescue { ticket, step: step.to_owned(), request };
        match self.worker(user).await?.ask(step, ask).await? {
            Answer::Rescued { result, .. } => result,
            _ => Err(Failure::new("a worker sent an unexpected answer")),
        }
    }

    async fn worker(&self, user: Option<&str>) -> Result<&Worker, Failure> {
        let user = other_than(&self.me, user);
        let entry = self.users.get(&user).ok_or_else(|| Failure::new("no step of this run uses that user"))?;
        let started = entry.worker.get_or_init(|| Worker::start(user.as_deref(), self, &entry.steps)).await;
        started.as_ref().map_err(Clone::clone)
    }

    /// Closes the pipes of all workers, then waits for all of them to end.
    pub async fn end(&self) {
        let workers = || self.users.values().filter_map(|user| user.worker.get()?.as_ref().ok());
        for worker in workers() {
            worker.input.lock().await.take();
        }
        for worker in workers() {
            worker.process.lock().await.end().await;
        }
    }
}

/// Returns the user of a step, or `None` for the launching user. Steps that name the launching user share its worker.
fn other_than(me: &User, user: Option<&str>) -> Option<String> {
    user.filter(|user| *user != me.name).map(str::to_owned)
}

/// A user's steps, and the worker that serves them once it has been started.
struct UserWorker {
    steps: Tasks,
    worker: OnceCell<Result<Worker, Failure>>,
}

/// The pending requests by ticket, with the step of each. `None` when the worker has ended.
type Waiting = Arc<StdMutex<Option<HashMap<u64, (String, oneshot::Sender<Answer>)>>>>;

struct Worker {
    user: String,
    input: Mutex<Option<pipe::Sender>>,
    process: Mutex<Process>,
    waiting: Waiting,
    ticket: AtomicU64,
}

impl Worker {
    async fn start(user: Option<&str>, workers: &Workers, steps: &Tasks) -> Result<Worker, Failure> {
        let me = &workers.me;
        let other = match user {
            Some(name) => Some(user_named(name)?).filter(|user| user.uid != me.uid),
            None => None,
        };
        let name = other.as_ref().map_or(me.name.clone(), |user| user.name.clone());
        let starting = spans::worker_start(&name);
        let connected = starting.instrument(Started::any(workers, other.as_ref(), &name, steps)).await?;
        let Connected { mut process, input, output } = connected;
        let waiting: Waiting = Arc::new(StdMutex::new(Some(HashMap::new())));
        let answers = tokio::spawn(dispatch_answers(output, Arc::clone(&waiting), Arc::clone(&workers.progress)));
        if let Process::Forked { answers: reading, .. } = &mut process {
            *reading = Some(answers);
        }
        Ok(Worker {
            user: name,
            input: Mutex::new(Some(input)),
            process: Mutex::new(process),
            waiting,
            ticket: AtomicU64::new(1),
        })
    }

    async fn ask(&self, step: &str, request: impl FnOnce(u64) -> Request) -> Result<Answer, Failure> {
        let gone = || {
            Failure::new(format!("the worker of {} ended unexpectedly", self.user))
                .hint("run again; if it happens again, check the kernel log (`dmesg`)")
        };
        let ticket = self.ticket.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.insert(ticket, (step.to_owned(), sender)),
            None => return Err(gone()),
        };
        {
            let mut input = self.input.lock().await;
            let input = input.as_mut().ok_or_else(gone)?;
            frame::send(input, &request(ticket)).await.map_err(|_| gone())?;
        }
        receiver.await.map_err(|_| gone())
    }
}

/// The process of a worker.
enum Process {
    Spawned(Child),
    Forked {
        pid: Pid,
        /// Reads the answers. Tells in the end whether the worker has closed its output.
        answers: Option<JoinHandle<bool>>,
    },
}

/// How often a worker is asked whether it has ended, if it may take long.
const END_INTERVAL: Duration = Duration::from_millis(20);

impl Process {
    /// Waits until the worker has ended. The exit status does not matter, because every expected answer has arrived.
    async fn end(&mut self) {
        match self {
            Self::Spawned(child) => drop(child.wait().await),
            Self::Forked { pid, answers } => {
                // A worker closes its output only by ending, which then does not take long.
                if let Some(answers) = answers.take()
                    && answers.await.is_ok_and(|is_closed| is_closed)
                {
                    let _ = waitpid(*pid, None);
                }
                while let Ok(WaitStatus::StillAlive) = waitpid(*pid, Some(WaitPidFlag::WNOHANG)) {
                    tokio::time::sleep(END_INTERVAL).await;
                }
            }
        }
    }
}

/// A worker that has been started, and its pipes.
struct Started {
    process: Process,
    input: pipe::Sender,
    output: pipe::Receiver,
    errors: pipe::Receiver,
}

/// A worker that has its steps, and the pipes to it.
struct Connected {
    process: Process,
    input: pipe::Sender,
    output: BufReader<pipe::Receiver>,
}

impl Started {
    /// Starts a worker and sends it its steps. The launching user's has been forked already, unless it was used or has failed.
    async fn any(workers: &Workers, other: Option<&User>, name: &str, steps: &Tasks) -> Result<Connected, Failure> {
        // A forked worker may have been ended while the launcher read secrets. Another one can do the same.
        if other.is_none()
            && let Some(forked) = take_own()
            && let Ok(started) = Self::forked(forked, name)
            && let Ok(connected) = started.connect(workers, steps, &workers.for_git).await
        {
            return Ok(connected);
        }
        // Another user's git gets nothing of the launcher's environment.
        let for_git = if other.is_none() { workers.for_git.as_slice() } else { &[] };
        let connected = Self::spawn(&workers.me, other, name)?.connect(workers, steps, for_git).await;
        connected.map_err(|(error, stderr)| not_started(&workers.me, name, other.is_some(), &error, &stderr))
    }

    /// Sends the steps. Fails with the error and what the worker wrote to standard error.
    async fn connect(
        self,
        workers: &Workers,
        steps: &Tasks,
        for_git: &[(OsString, Secret)],
    ) -> Result<Connected, (std::io::Error, String)> {
        let Self { mut process, mut input, output, mut errors } = self;
        let stderr = tokio::spawn(async move {
            let mut text = Vec::new();
            // A worker's messages are short. The bound enforces that.
            let read = (&mut errors).take(64 << 10).read_to_end(&mut text).await;
            read.map(|_| String::from_utf8_lossy(&text).trim().to_owned()).unwrap_or_default()
        });
        let mut output = BufReader::new(output);
        match handshake(&mut input, &mut output, workers, steps, for_git).await {
            Ok(()) => Ok(Connected { process, input, output }),
            Err(error) => {
                drop((input, output));
                let stderr = stderr.await.unwrap_or_default();
                process.end().await;
                Err((error, stderr))
            }
        }
    }

    fn spawn(me: &User, other: Option<&User>, name: &str) -> Result<Self, Failure> {
        let mut child = command(me, other)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(false)
            .spawn()
            .map_err(|error| no_process(name, &error))?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failure::new("a worker was started without its pipes"));
        };
        let pipes = || Ok((input.into_owned_fd()?, output.into_owned_fd()?, errors.into_owned_fd()?));
        let (input, output, errors) = pipes().map_err(|error| no_process(name, &error))?;
        Self::with_pipes(Process::Spawned(child), input, output, errors).map_err(|error| no_process(name, &error))
    }

    fn forked(Forked { pid, input, output, errors }: Forked, name: &str) -> Result<Self, Failure> {
        let process = Process::Forked { pid, answers: None };
        Self::with_pipes(process, input, output, errors).map_err(|error| no_process(name, &error))
    }

    fn with_pipes(process: Process, input: OwnedFd, output: OwnedFd, errors: OwnedFd) -> std::io::Result<Self> {
        Ok(Self {
            process,
            input: pipe::Sender::from_owned_fd(input)?,
            output: pipe::Receiver::from_owned_fd(output)?,
            errors: pipe::Receiver::from_owned_fd(errors)?,
        })
    }
}

async fn handshake(
    input: &mut pipe::Sender,
    output: &mut BufReader<pipe::Receiver>,
    workers: &Workers,
    steps: &Tasks,
    for_git: &[(OsString, Secret)],
) -> std::io::Result<()> {
    frame::send_secret(input, "", workers.digester.key()).await?;
    let runs_git = steps.iter().any(|(task, _)| task.resource.info().runs_git);
    for (name, value) in for_git.iter().filter(|_| runs_git) {
        // A name that is not UTF-8 cannot be sent.
        let Some(name) = name.to_str() else { continue };
        frame::send_secret(input, &frame::variable_name(name), value.expose()).await?;
    }
    for (task, secrets) in steps {
        for (key, secret) in secrets {
            frame::send_secret(input, &frame::secret_name(&task.id, key), secret.expose()).await?;
        }
    }
    let list = steps.iter().map(|(task, _)| task.clone()).collect();
    let recording = telemetry::filter().map(|filter| (filter.to_string(), NAMESPACES.fetch_add(1, Ordering::Relaxed)));
    let makes_changes = capabilities::makes_changes();
    let run = workers.run.clone();
    let variables = if runs_git { workers.variables.clone() } else { Vec::new() };
    let greeting = Request::Greeting { version: VERSION, run, steps: list, makes_changes, recording, variables };
    frame::send(input, &greeting).await?;
    match frame::receive(output).await? {
        Some(Frame::Message(Answer::Ready { version: VERSION })) => Ok(()),
        Some(Frame::Message(Answer::Ready { version })) => {
            Err(std::io::Error::other(format!("it uses version {version} of the protocol, not {VERSION}")))
        }
        Some(_) => Err(std::io::Error::other("it did not complete the handshake")),
        None => Err(std::io::Error::other("it ended immediately")),
    }
}

/// Passes answers on. Returns whether the worker has closed its output, and not sent what cannot be read.
async fn dispatch_answers(mut output: BufReader<pipe::Receiver>, waiting: Waiting, progress: Arc<Progress>) -> bool {
    let is_closed = loop {
        let answer = match frame::receive::<Answer>(&mut output).await {
            Ok(Some(Frame::Message(answer))) => answer,
            other => break matches!(other, Ok(None)),
        };
        if let Answer::Recorded(records) = answer {
            records.into_iter().for_each(telemetry::take);
            continue;
        }
        let ticket = match &answer {
            Answer::Observed { ticket, .. } | Answer::Executed { ticket, .. } | Answer::Rescued { ticket, .. } => {
                *ticket
            }
            Answer::Progress { ticket, text } => {
                let step = {
                    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.as_ref().and_then(|waiting| Some(waiting.get(ticket)?.0.clone()))
                };
                if let Some(step) = step {
                    progress(&step, text.clone());
                }
                continue;
            }
            Answer::Recorded(_) | Answer::Ready { .. } => continue,
        };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sender)) = waiting.as_mut().and_then(|waiting| waiting.remove(&ticket)) {
            // If the run was stopped, nothing waits for the answer and it is dropped.
            drop(sender.send(answer));
        }
    };
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    is_closed
}

/// Returns the command that starts a worker. Run by root or through sudo, the worker starts as root and changes to its
/// user before it reads anything. The binary may therefore be in a place that the user cannot reach.
#[expect(clippy::disallowed_methods, reason = "sudo gets the path of this program")]
fn command(me: &User, other: Option<&User>) -> Result<Command, Failure> {
    let mut command = match other {
        Some(_) if me.uid != 0 => {
            let binary = std::env::current_exe().ok().filter(|path| path.exists());
            let binary = binary.unwrap_or_else(|| format!("/proc/{}/exe", std::process::id()).into());
            let mut command = Command::new("sudo");
            command.args(["-n", "--"]).arg(binary);
            command
        }
        _ => Command::new("/proc/self/exe"),
    };
    command.arg("worker");
    if let Some(user) = other {
        command.args(["--user", &user.name]);
    }
    command.env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    if other.is_none() {
        command.envs(kept());
    }
    // In its own session a worker does not receive Ctrl-C. The launcher handles it and lets the current change finish.
    detach(&mut command);
    Ok(command)
}

#[expect(unsafe_code, reason = "there is no safe way to have a child lead its own session")]
fn detach(command: &mut Command) {
    // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from));
    }
}

/// No process could be started, because of a limit of this one or a program that is missing.
fn no_process(name: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("cannot start a worker as {name}: {}", io_error_text(error)));
    match error.raw_os_error() {
        Some(nix::libc::EAGAIN) => {
            failure.hint("raise the limit on processes (`ulimit -u`), or end some, then run again")
        }
        Some(nix::libc::EMFILE | nix::libc::ENFILE) => {
            failure.hint("raise the limit on open files (`ulimit -n`), then run again")
        }
        _ => failure,
    }
}

fn not_started(me: &User, name: &str, by_sudo: bool, error: &std::io::Error, stderr: &str) -> Failure {
    if !by_sudo || me.uid == 0 {
        let detail = if stderr.is_empty() { io_error_text(error) } else { stderr.to_owned() };
        return Failure::new(format!("cannot start a worker as {name}: {detail}"));
    }
    let detail = if stderr.is_empty() { io_error_text(error) } else { stderr.to_owned() };
    Failure::new(format!("cannot act as {name}: {detail}")).hint(format!(
        "run provision as root, or allow {} to use sudo without a password (test it with `sudo -n true`)",
        me.name
    ))
}
