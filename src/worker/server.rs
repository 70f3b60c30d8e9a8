//! The worker's side of the protocol: changes to its user, then observes and executes on request.
//!
//! Changes come from the launcher and contain paths. The worker makes a change only if its own `diff` of its own last
//! observation contains exactly that change, and only once. An attacker in control of the launcher can choose among the
//! changes that the steps need, but cannot invent any.

use crate::failure::Failure;
use crate::host::users::{User, set_launcher};
use crate::text::io_error_text;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::SignalKind;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::environment;
use super::frame::{self, Answer, Frame, Request, Task, VERSION};
use super::identity::become_user;
use super::pipes::{Output, input, output};
use super::records::{Records, record};
use crate::host::capabilities;
use crate::host::secret::{Digester, Secret};
use crate::host::signals;
use crate::host::state::StateFolder;
use crate::resource::{self, AnyActual, AnyChange, ExecuteContext, ObserveContext, RescueAnswer, RescueRequest};
use crate::telemetry::spans;

/// The maximum number of progress messages that wait to be sent.
const PROGRESS_WAITING: usize = 16;

/// Serves one launcher on standard input and output until it closes them.
///
/// `user` is the user to change to. `None` is the launching user's own worker.
///
/// # Errors
/// The process cannot change to the user, or the launcher violates the protocol.
#[expect(clippy::disallowed_methods, reason = "the start of a worker")]
pub fn serve(user: Option<&str>) -> Result<(), Failure> {
    let who = match user {
        Some(name) => {
            // sudo(8) tells who called it. Without it, root started the worker.
            let caller = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
            set_launcher(caller.unwrap_or_default());
            become_user(name)?
        }
        None => User::acting(),
    };
    // The kernel may allow core dumps again after a change of user.
    crate::host::process::leave_no_core_dump()?;
    environment::clean(&who, user.is_none());
    if user.is_none() {
        crate::host::process::set_title("provision worker");
    }
    std::env::set_current_dir("/")
        .map_err(|error| Failure::new(format!("cannot enter /: {}", io_error_text(&error))))?;
    crate::host::process::set_default_umask();
    // Each request has its own thread. This thread reads requests and drives the runtime.
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        signals::without_panic(build).map_err(|error| signals::not_possible("start the worker's runtime", &error))?;
    let result = runtime.block_on(serve_launcher());
    runtime.shutdown_background();
    result
}

/// Serves until the launcher is gone or a signal asks this process to end, as a service manager sends to all processes.
/// After a first change signals are ignored and the launcher decides, because the result of the change has to be
/// observed.
async fn serve_launcher() -> Result<(), Failure> {
    let mut signals = [
        signals::listen(SignalKind::interrupt())?,
        signals::listen(SignalKind::terminate())?,
        signals::listen(SignalKind::hangup())?,
    ];
    let mut changes = Vec::new();
    let has_changed = AtomicBool::new(false);
    let asked_to_end = async {
        let [interrupt, terminate, hangup] = &mut signals;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if !has_changed.load(Ordering::SeqCst) {
                break;
            }
        }
    };
    let is_ending = Arc::new(AtomicBool::new(false));
    let served = tokio::select! {
        served = requests(&mut changes, &has_changed, &is_ending) => served,
        () = asked_to_end => Ok(()),
    };
    // The current change is finished even if the launcher is gone.
    // This thread must not block, because a change may wait for the runtime.
    for change in changes {
        drop(change.await);
    }
    // Nothing waits for the remaining observations.
    is_ending.store(true, Ordering::SeqCst);
    resource::cleanup_on_exit();
    served.map_err(|error| {
        Failure::new(format!("the worker lost the connection to its launcher: {}", io_error_text(&error)))
    })
}

async fn requests(
    changes: &mut Vec<oneshot::Receiver<()>>,
    has_changed: &AtomicBool,
    is_ending: &Arc<AtomicBool>,
) -> std::io::Result<()> {
    let mut input = input()?;
    let output = Arc::new(Mutex::new(output()?));
    let mut secrets: HashMap<String, Secret> = HashMap::new();
    let (progress, messages) = mpsc::channel(PROGRESS_WAITING);
    tokio::spawn(forward_progress(messages, Arc::clone(&output)));
    let records = Arc::new(Records::default());
    let mut session = None;
    while let Some(frame) = frame::receive(&mut input).await? {
        let request = match frame {
            Frame::Secret(name, secret) => {
                secrets.insert(name, secret);
                continue;
            }
            Frame::Message(request) => request,
        };
        match request {
            Request::Greeting { version, run, steps, makes_changes, recording, variables } => {
                if version == VERSION {
                    if makes_changes {
                        capabilities::set_makes_changes();
                    }
                    record(recording, &records, &output);
                    let key = secrets.remove("").and_then(|key| key.expose().try_into().ok());
                    let key = key.ok_or_else(|| std::io::Error::other("the digest key is missing"))?;
                    let progress = progress.clone();
                    environment::set_for_git(&mut secrets, variables);
                    let secrets = std::mem::take(&mut secrets);
                    session = Some(Arc::new(WorkerSession {
                        run,
                        steps: steps.into_iter().map(|task| (task.id.clone(), task)).collect(),
                        approved: StdMutex::default(),
                        digester: Digester::with_key(key),
                        secrets,
                        state_folder: own_state_folder(),
                        progress,
                    }));
                }
                answer(&output, &Answer::Ready { version: VERSION }).await?;
            }
            request => {
                let session =
                    session.clone().ok_or_else(|| std::io::Error::other("a request arrived before the handshake"))?;
                let request = Arc::new(request);
                let is_change = matches!(*request, Request::Execute { .. } | Request::Rescue { .. });
                has_changed.fetch_or(is_change, Ordering::SeqCst);
                // Kinds make blocking calls, so each request has its own thread.
                let handle = tokio::runtime::Handle::current();
                let (running, ended) = oneshot::channel::<()>();
                let work = {
                    let (request, output, records) = (Arc::clone(&request), Arc::clone(&output), Arc::clone(&records));
                    let is_ending = Arc::clone(is_ending);
                    move || {
                        // The sender is dropped when the thread ends.
                        let _running = running;
                        // The launcher waits for every answer, so a panic in a library is answered as well.
                        let handled = catch_unwind(AssertUnwindSafe(|| handle.block_on(session.handle(&request))));
                        // An ending worker kills the programs that it waits for, so their failures are not failures of the step.
                        if is_ending.load(Ordering::SeqCst) {
                            return;
                        }
                        // Records are sent before the answer, because the launcher may stop reading after it.
                        drop(handle.block_on(records.send(&output)));
                        // If the launcher is gone, the reading side ends the process.
                        drop(handle.block_on(reply(&output, &request, handled)));
                    }
                };
                if let Err(error) = std::thread::Builder::new().spawn(work) {
                    let failure = Failure::new(format!("cannot start a thread: {}", io_error_text(&error)));
                    let failure =
                        failure.hint("raise the limit on processes (`ulimit -u`), or end some, then run again");
                    answer(&output, &failed(&request, failure)).await?;
                }
                if is_change {
                    changes.push(ended);
                }
            }
        }
    }
    Ok(())
}

/// Sends progress messages to the launcher.
async fn forward_progress(mut messages: mpsc::Receiver<Answer>, output: Arc<Mutex<Output>>) {
    while let Some(progress) = messages.recv().await {
        if answer(&output, &progress).await.is_err() {
            break;
        }
    }
}

/// Answers a request in any case. A panic, or an answer that is too long to be sent, becomes a failure.
async fn reply(
    output: &Mutex<impl AsyncWrite + Unpin>,
    request: &Request,
    handled: std::thread::Result<Answer>,
) -> std::io::Result<()> {
    let handled = handled.unwrap_or_else(|_| {
        let failure = Failure::new("the worker failed because of a bug in provision");
        failed(request, failure.hint("run again; if it happens again, report it"))
    });
    let Err(error) = answer(output, &handled).await else { return Ok(()) };
    let failure = Failure::new(format!("the worker cannot send the result of the step: {}", io_error_text(&error)))
        .hint("check whether the step covers more than intended; run the others with --skip");
    answer(output, &failed(request, failure)).await
}

fn failed(request: &Request, failure: Failure) -> Answer {
    match *request {
        Request::Greeting { .. } => Answer::Ready { version: VERSION },
        Request::Observe { ticket, .. } => Answer::Observed { ticket, result: Err(failure) },
        Request::Execute { ticket, .. } => Answer::Executed { ticket, result: Err(failure) },
        Request::Rescue { ticket, .. } => Answer::Rescued { ticket, result: Err(failure) },
    }
}

async fn answer(output: &Mutex<impl AsyncWrite + Unpin>, answer: &Answer) -> std::io::Result<()> {
    let mut output = output.lock().await;
    frame::send(&mut *output, answer).await?;
    output.flush().await
}

/// The state of a worker after the greeting.
struct WorkerSession {
    run: String,
    steps: HashMap<String, Task>,
    /// The changes that the last observation of each step needs.
    approved: StdMutex<HashMap<String, Approved>>,
    digester: Digester,
    secrets: HashMap<String, Secret>,
    /// The worker's user's own.
    state_folder: StateFolder,
    progress: mpsc::Sender<Answer>,
}

impl WorkerSession {
    async fn handle(&self, request: &Request) -> Answer {
        match request {
            Request::Greeting { .. } => Answer::Ready { version: VERSION },
            Request::Observe { ticket, step, span } => {
                let work = spans::worker_request("observe", *span).instrument(self.observe(*ticket, step));
                Answer::Observed { ticket: *ticket, result: work.await }
            }
            Request::Execute { ticket, step, change, span } => {
                let work = spans::worker_request("execute", *span).instrument(self.execute(*ticket, step, change));
                Answer::Executed { ticket: *ticket, result: work.await }
            }
            Request::Rescue { ticket, step, request } => {
                let cx = ExecuteContext::new(self.context(*ticket, step), &self.run);
                let result = self.task(step).and_then(|task| rescue(task, request, &cx));
                Answer::Rescued { ticket: *ticket, result }
            }
        }
    }

    async fn observe(&self, ticket: u64, step: &str) -> Result<AnyActual, Failure> {
        let task = self.task(step)?;
        let actual = task.resource.observe(&self.context(ticket, step)).await?;
        let changes = task.resource.diff(&actual).map(|diff| diff.changes).unwrap_or_default();
        self.approved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(step.to_owned(), Approved::of(task, changes));
        Ok(actual)
    }

    async fn execute(&self, ticket: u64, step: &str, change: &AnyChange) -> Result<(), Failure> {
        let task = self.task(step)?;
        let taken = self.approved.lock().unwrap_or_else(PoisonError::into_inner).get_mut(step).and_then(|approved| {
            let wanted = change.without_lines();
            let place = approved.changes.iter().position(|known| known.without_lines() == wanted)?;
            approved.changes.remove(place);
            Some(approved.remaining.map(|remaining| change.size() + remaining))
        });
        let at_most = taken.ok_or_else(|| {
            Failure::new(format!("the worker refuses a change that step `{step}` does not need"))
                .hint("the host may have changed since it was observed; run plan to see its state")
        })?;
        task.resource
            .execute(change, &ExecuteContext::new(self.context(ticket, step), &self.run).with_max_changes(at_most))
            .await
    }

    fn task(&self, id: &str) -> Result<&Task, Failure> {
        self.steps.get(id).ok_or_else(|| Failure::new(format!("the worker has no step `{id}`")))
    }

    fn context(&self, ticket: u64, id: &str) -> ObserveContext {
        let task = self.steps.get(id);
        let (below, above) = task.map(|task| (task.below.clone(), task.above.clone())).unwrap_or_default();
        let sources = task.map(|task| task.resource.site().secrets()).unwrap_or_default();
        let secret = |key: &str| Some((key.to_owned(), self.secrets.get(&frame::secret_name(id, key))?.clone()));
        let secrets = sources.into_iter().filter_map(|(key, _)| secret(key)).collect();
        let progress = self.progress.clone();
        // If the launcher is slow, newer progress messages are dropped.
        let progress = move |text| drop(progress.try_send(Answer::Progress { ticket, text }));
        ObserveContext::on_host(self.digester.clone(), secrets)
            .with_state_folder(self.state_folder.clone())
            .with_claimed_below(below)
            .with_trees_above(above)
            .with_progress(Arc::new(progress))
    }
}

/// The state folder of the user whom this process acts as.
fn own_state_folder() -> StateFolder {
    let home = crate::host::environment::home().unwrap_or_else(|| User::acting().home);
    StateFolder::of(crate::host::environment::variable("XDG_STATE_HOME").map(PathBuf::from), &home)
}

fn rescue(task: &Task, request: &RescueRequest, cx: &ExecuteContext) -> Result<RescueAnswer, Failure> {
    let rescues = task.resource.rescues();
    rescues.ok_or_else(|| Failure::new("steps of this kind keep no rescues"))?.rescue(request, cx)
}

/// The changes that a step may make.
struct Approved {
    /// The changes that have not been requested yet.
    changes: Vec<AnyChange>,
    /// How many more things the step may change, if it has a `max_changes`.
    remaining: Option<u64>,
}

impl Approved {
    /// Approves nothing if the changes exceed the step's `max_changes`.
    fn of(task: &Task, changes: Vec<AnyChange>) -> Self {
        let size = changes.iter().map(AnyChange::size).sum();
        match task.max_changes.map(|limit| limit.checked_sub(size)) {
            Some(None) => Self { changes: Vec::new(), remaining: None },
            remaining => Self { changes, remaining: remaining.flatten() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a launcher receives for a request with this result.
    fn answer_to(handled: std::thread::Result<Answer>) -> String {
        let request =
            Request::Rescue { ticket: 7, step: "checkout".to_owned(), request: RescueRequest::Show("id".to_owned()) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let output = Mutex::new(Vec::new());
            reply(&output, &request, handled).await.unwrap();
            let frames = output.into_inner();
            match frame::receive(&mut &frames[..]).await.unwrap() {
                Some(Frame::Message(Answer::Rescued { ticket: 7, result })) => match result {
                    Ok(RescueAnswer::Show(text)) => String::from_utf8(text).unwrap(),
                    Ok(_) => panic!("a text was sent"),
                    Err(failure) => format!("{}; hint: {}", failure.message, failure.hint.unwrap()),
                },
                _ => panic!("expected an answer with the ticket of the request"),
            }
        })
    }

    #[test]
    fn every_request_is_answered() {
        let answer = |text: String| Answer::Rescued { ticket: 7, result: Ok(RescueAnswer::Show(text.into_bytes())) };
        assert_eq!(answer_to(Ok(answer("text".to_owned()))), "text");
        assert!(answer_to(Ok(answer("x".repeat(65 << 20)))).contains("too long for the worker protocol"));
        assert!(answer_to(catch_unwind(|| panic!("a bug"))).contains("a bug in provision"));
    }
}
