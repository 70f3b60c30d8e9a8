//! The launcher's side: one worker a user, started when first needed.

use crate::failure::Failure;
use crate::host::users::User;
use std::collections::{BTreeMap, HashMap};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, OnceCell, oneshot};

use super::frame::{self, Answer, Frame, Request, Task, VERSION};
use super::identity::user_named;
use super::server::kept;
use crate::host::secret::{Digester, Secret};
use crate::resource::{AnyActual, AnyChange, RescueAnswer, RescueRequest};
use crate::telemetry::{self, spans, spans::Span};

/// Numbers for the records of workers; those of this process have 0.
static NAMESPACES: AtomicU16 = AtomicU16::new(1);

/// The steps of one user, and what their secret sources yielded, by the keys under which they have them.
pub type Tasks = Vec<(Task, BTreeMap<String, Secret>)>;

/// Told how far long work on a step has come.
pub type Progress = dyn Fn(&str, String) + Send + Sync;

/// The workers of one run, by user.
pub struct Workers {
    run: String,
    digester: Digester,
    users: BTreeMap<Option<String>, UserWorker>,
    progress: Arc<Progress>,
}

impl Workers {
    /// Workers for these steps; none is started yet.
    pub fn new(
        run: String,
        digester: Digester,
        users: BTreeMap<Option<String>, Tasks>,
        progress: Arc<Progress>,
    ) -> Self {
        let users =
            users.into_iter().map(|(user, steps)| (user, UserWorker { steps, worker: OnceCell::new() })).collect();
        Self { run, digester, users, progress }
    }

    /// Observes a step as its user.
    ///
    /// # Errors
    /// What the kind says, or why there is no worker.
    pub async fn observe(&self, user: Option<&str>, step: &str) -> Result<AnyActual, Failure> {
        let span = Span::current().id();
        let request = |ticket| Request::Observe { ticket, step: step.to_owned(), span };
        match self.worker(user).await?.ask(step, request).await? {
            Answer::Observed { result, .. } => result,
            _ => Err(Failure::new("a worker answered something else than it was asked")),
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
            _ => Err(Failure::new("a worker answered something else than it was asked")),
        }
    }

    /// Asks a step, as its user, about what its changes took out of the way.
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
            _ => Err(Failure::new("a worker answered something else than it was asked")),
        }
    }

    /// Why a worker could not be started, where one was needed.
    pub fn not_started(&self) -> Option<Failure> {
        self.users.values().find_map(|crew| crew.worker.get()?.as_ref().err().cloned())
    }

    async fn worker(&self, user: Option<&str>) -> Result<&Worker, Failure> {
        let user = user.map(str::to_owned);
        let crew = self.users.get(&user).ok_or_else(|| Failure::new("no step of this run acts as that user"))?;
        let started = crew.worker.get_or_init(|| Worker::start(user.as_deref(), self, &crew.steps)).await;
        started.as_ref().map_err(Clone::clone)
    }

    /// Closes the workers' pipes, of all before any is waited for, and waits until they have ended.
    pub async fn end(&self) {
        let workers = || self.users.values().filter_map(|crew| crew.worker.get()?.as_ref().ok());
        for worker in workers() {
            worker.input.lock().await.take();
        }
        for worker in workers() {
            // How it ends says nothing any more: every answer that was waited for has come.
            drop(worker.child.lock().await.wait().await);
        }
    }
}

/// A user's steps, and the worker that serves them once one was needed.
struct UserWorker {
    steps: Tasks,
    worker: OnceCell<Result<Worker, Failure>>,
}

/// Answers that are waited for, and the steps that they are about, by ticket. `None` once the worker is gone.
type Waiting = Arc<StdMutex<Option<HashMap<u64, (String, oneshot::Sender<Answer>)>>>>;

struct Worker {
    user: String,
    input: Mutex<Option<ChildStdin>>,
    child: Mutex<Child>,
    waiting: Waiting,
    ticket: AtomicU64,
}

impl Worker {
    async fn start(user: Option<&str>, workers: &Workers, steps: &Tasks) -> Result<Worker, Failure> {
        let me = User::acting();
        let other = match user {
            Some(name) => Some(user_named(name)?).filter(|user| user.uid != me.uid),
            None => None,
        };
        let name = other.as_ref().map_or(me.name.clone(), |user| user.name.clone());
        let starting = spans::worker_start(&name);
        let mut child = command(&me, other.as_ref())?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(false)
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start a worker as {name}: {error}")))?;
        let (Some(mut input), Some(output), Some(mut errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failure::new("a worker was started without its pipes"));
        };
        let said = tokio::spawn(async move {
            let mut text = Vec::new();
            // What a worker says besides is small; a bound keeps it so.
            let read = (&mut errors).take(64 << 10).read_to_end(&mut text).await;
            read.map(|_| String::from_utf8_lossy(&text).trim().to_owned()).unwrap_or_default()
        });
        let mut output = BufReader::new(output);
        let greeting = handshake(&mut input, &mut output, &workers.run, &workers.digester, steps);
        let greeted = starting.instrument(greeting).await;
        if let Err(error) = greeted {
            drop(input);
            let said = said.await.unwrap_or_default();
            return Err(not_started(&me, &name, other.is_some(), &error, &said));
        }
        let waiting: Waiting = Arc::new(StdMutex::new(Some(HashMap::new())));
        tokio::spawn(answers(output, Arc::clone(&waiting), Arc::clone(&workers.progress)));
        Ok(Worker {
            user: name,
            input: Mutex::new(Some(input)),
            child: Mutex::new(child),
            waiting,
            ticket: AtomicU64::new(1),
        })
    }

    async fn ask(&self, step: &str, request: impl FnOnce(u64) -> Request) -> Result<Answer, Failure> {
        let gone = || {
            Failure::new(format!("the worker of {} ended in the middle of its work", self.user))
                .hint("run again; where it happens again, look into the kernel's log (dmesg)")
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

async fn handshake(
    input: &mut ChildStdin,
    output: &mut BufReader<ChildStdout>,
    run: &str,
    digester: &Digester,
    steps: &Tasks,
) -> std::io::Result<()> {
    frame::send_secret(input, "", digester.key()).await?;
    for (task, secrets) in steps {
        for (key, secret) in secrets {
            frame::send_secret(input, &frame::secret_name(&task.id, key), secret.expose()).await?;
        }
    }
    let list = steps.iter().map(|(task, _)| task.clone()).collect();
    let recording = telemetry::filter().map(|filter| (filter.to_string(), NAMESPACES.fetch_add(1, Ordering::Relaxed)));
    let greeting = Request::Greeting { version: VERSION, run: run.to_owned(), steps: list, recording };
    frame::send(input, &greeting).await?;
    match frame::receive(output).await? {
        Some(Frame::Message(Answer::Ready { version: VERSION })) => Ok(()),
        Some(Frame::Message(Answer::Ready { version })) => {
            Err(std::io::Error::other(format!("it speaks version {version} of the protocol, not {VERSION}")))
        }
        Some(_) => Err(std::io::Error::other("it did not answer the greeting")),
        None => Err(std::io::Error::other("it ended at once")),
    }
}

async fn answers(mut output: BufReader<ChildStdout>, waiting: Waiting, progress: Arc<Progress>) {
    while let Ok(Some(Frame::Message(answer))) = frame::receive::<Answer>(&mut output).await {
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
            // Nobody waits any more where the run was stopped: the answer is not needed then.
            drop(sender.send(answer));
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// The command line that starts a worker. As root, or under sudo, the worker is root when it starts and becomes its
/// user before it reads anything: so the binary may lie where that user cannot reach it.
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
    // Away from the terminal: a Ctrl-C is for the launcher, which lets the change in hand be finished.
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

fn not_started(me: &User, name: &str, by_sudo: bool, error: &std::io::Error, said: &str) -> Failure {
    if !by_sudo || me.uid == 0 {
        let detail = if said.is_empty() { error.to_string() } else { said.to_owned() };
        return Failure::new(format!("cannot start a worker as {name}: {detail}"));
    }
    let detail = if said.is_empty() { error.to_string() } else { said.to_owned() };
    Failure::new(format!("cannot act as {name}: {detail}")).hint(format!(
        "start provision as root, or let {} use sudo without a password (sudo -n true has to work)",
        me.name
    ))
}
