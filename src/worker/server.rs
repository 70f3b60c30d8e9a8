//! The worker's side: becomes its user, then observes and executes what it is asked to.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use super::frame::{self, Answer, Frame, Request, VERSION};
use super::identity::{User, become_user, current_user};
use crate::host::secret::{Digester, Secret};
use crate::resource::{Act, AnyResource, Failure, Look};

/// What a worker keeps of its environment when it is the launching user's own: how to reach that user's agent, proxies
/// and certificates. Nothing else passes, so a secret in the launcher's environment ends there.
pub(super) const KEPT: &[&str] = &[
    "HOME",
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "XDG_CONFIG_HOME",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "ALL_PROXY",
    "all_proxy",
];

/// The search path of a worker that acts as somebody else.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Serves one launcher on standard input and output until it closes them.
///
/// `user`: whom to become; `None`: the launching user's own worker.
///
/// # Errors
/// Where the user cannot be taken on, or the launcher does not speak the protocol.
pub fn serve(user: Option<&str>) -> Result<(), Failure> {
    let who = match user {
        Some(name) => become_user(name)?,
        None => current_user(),
    };
    clean_environment(&who, user.is_none());
    std::env::set_current_dir("/").map_err(|error| Failure::new(format!("cannot enter /: {error}")))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the worker's threads: {error}")))?;
    let result = runtime.block_on(requests());
    runtime.shutdown_background();
    result.map_err(|error| Failure::new(format!("the worker lost its launcher: {error}")))
}

#[expect(unsafe_code, reason = "std::env's setters are unsafe; a worker calls them before it has a second thread")]
fn clean_environment(user: &User, own: bool) {
    let kept: Vec<_> = KEPT.iter().filter(|_| own).filter_map(|name| Some((*name, std::env::var_os(name)?))).collect();
    // SAFETY: this process has one thread yet: `serve` is main's first act in a worker, and nothing else runs that could
    // read the environment at the same time.
    unsafe {
        for (name, _) in std::env::vars_os() {
            std::env::remove_var(name);
        }
        std::env::set_var("HOME", &user.home);
        std::env::set_var("PATH", PATH);
        std::env::set_var("USER", &user.name);
        std::env::set_var("LOGNAME", &user.name);
        std::env::set_var("LANG", "C.UTF-8");
        for (name, value) in kept {
            std::env::set_var(name, value);
        }
    }
}

async fn requests() -> std::io::Result<()> {
    let mut input = tokio::io::BufReader::new(tokio::io::stdin());
    let output = Arc::new(Mutex::new(tokio::io::stdout()));
    let mut secrets: HashMap<String, Secret> = HashMap::new();
    let mut job = None;
    let mut changes = Vec::new();
    while let Some(frame) = frame::receive(&mut input).await? {
        let request = match frame {
            Frame::Secret(name, secret) => {
                secrets.insert(name, secret);
                continue;
            }
            Frame::Message(request) => request,
        };
        match request {
            Request::Greeting { version, run, steps } => {
                if version == VERSION {
                    let key = secrets.remove("").and_then(|key| key.expose().try_into().ok());
                    let key = key.ok_or_else(|| std::io::Error::other("no digest key came before the greeting"))?;
                    let secrets = std::mem::take(&mut secrets);
                    job = Some(Arc::new(Job {
                        run,
                        steps: steps.into_iter().collect(),
                        digester: Digester::with_key(key),
                        secrets,
                    }));
                }
                answer(&output, Answer::Ready { version: VERSION }).await?;
            }
            request => {
                let job = job.clone().ok_or_else(|| std::io::Error::other("a request came before the greeting"))?;
                let output = Arc::clone(&output);
                let is_change = matches!(request, Request::Execute { .. } | Request::Rescue { .. });
                // Kinds block in their calls: each request has a thread of its own.
                let handle = tokio::runtime::Handle::current();
                let thread = std::thread::Builder::new().spawn(move || {
                    let result = handle.block_on(async { answer(&output, job.handle(request).await).await });
                    // Where the launcher is gone, the reading side ends the process.
                    drop(result);
                })?;
                if is_change {
                    changes.push(thread);
                }
            }
        }
    }
    // A launcher that went away leaves the change in hand to be finished.
    for change in changes {
        drop(change.join());
    }
    Ok(())
}

async fn answer(output: &Mutex<tokio::io::Stdout>, answer: Answer) -> std::io::Result<()> {
    let mut output = output.lock().await;
    frame::send(&mut *output, &answer).await?;
    output.flush().await
}

/// What the greeting brought.
struct Job {
    run: String,
    steps: HashMap<String, AnyResource>,
    digester: Digester,
    secrets: HashMap<String, Secret>,
}

impl Job {
    async fn handle(&self, request: Request) -> Answer {
        match request {
            Request::Greeting { .. } => Answer::Ready { version: VERSION },
            Request::Observe { ticket, step } => {
                let result = match self.step(&step) {
                    Ok((resource, look)) => resource.observe(&look).await,
                    Err(failure) => Err(failure),
                };
                Answer::Observed { ticket, result }
            }
            Request::Execute { ticket, step, change } => {
                let result = match self.step(&step) {
                    Ok((resource, look)) => resource.execute(&change, &Act::new(look, &self.run)).await,
                    Err(failure) => Err(failure),
                };
                Answer::Executed { ticket, result }
            }
            Request::Rescue { ticket, step, request } => {
                let result = self.step(&step).and_then(|(resource, _)| resource.rescue(&request));
                Answer::Rescued { ticket, result }
            }
        }
    }

    fn step(&self, id: &str) -> Result<(&AnyResource, Look), Failure> {
        let resource = self.steps.get(id).ok_or_else(|| Failure::new(format!("the worker knows no step `{id}`")))?;
        Ok((resource, Look::on_host(self.digester.clone(), self.secrets.get(id).cloned())))
    }
}
