//! All spans and events of this program. Only this module calls the macros of `tracing`. So only the parameters of these
//! functions can be recorded, and none of them is a secret, a statement, or a URL that may contain a password.

use std::future::Future;

use tracing::Instrument as _;
use tracing::field::Empty;

use crate::text::RedactedUrl;

/// A piece of work that is recorded with its duration, if recording is on.
#[derive(Debug, Clone)]
pub struct Span(tracing::Span);

/// A number that is known only after the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Bytes,
    Entries,
    Objects,
    Rows,
}

/// Returns work for another thread that runs in the current span of the caller.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let span = Span::current();
    move || span.in_scope(work)
}

impl Span {
    /// Returns the current span, to pass it to another thread.
    pub fn current() -> Self {
        Self(tracing::Span::current())
    }

    /// Runs blocking work within the span.
    pub fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.in_scope(work)
    }

    /// Runs asynchronous work within the span.
    pub fn instrument<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        work.instrument(self.0)
    }

    /// Adds a number.
    pub fn count(&self, count: Count, number: u64) {
        let name = match count {
            Count::Bytes => "bytes",
            Count::Entries => "entries",
            Count::Objects => "objects",
            Count::Rows => "rows",
        };
        self.0.record(name, number);
    }

    /// Returns the id with which a worker refers to it as the parent of its own spans. `None` if it is not recorded.
    pub fn id(&self) -> Option<u64> {
        super::layer::record_id(&self.0)
    }
}

/// Types that a field can have.
trait ToField {
    type Field: tracing::Value;

    fn field(self) -> Self::Field;
}

impl<'a> ToField for &'a str {
    type Field = &'a str;

    fn field(self) -> &'a str {
        self
    }
}

impl<'a> ToField for &'a RedactedUrl {
    type Field = &'a str;

    fn field(self) -> &'a str {
        self.as_str()
    }
}

impl ToField for u64 {
    type Field = Self;

    fn field(self) -> Self {
        self
    }
}

impl ToField for Option<u64> {
    type Field = Self;

    fn field(self) -> Self {
        self
    }
}

macro_rules! spans {
    ($($(#[$doc:meta])* $function:ident($level:ident, $target:literal, $name:literal; $($given:ident: $type:ty),*; $($later:ident),*))*) => {
        $($(#[$doc])*
        pub fn $function($($given: $type),*) -> Span {
            Span(tracing::span!(target: $target, tracing::Level::$level, $name, $($given = $given.field(),)* $($later = Empty),*))
        })*
    };
}

spans! {
    /// One execution of a command.
    run(INFO, "provision::engine", "run"; command: &str, plan: &str, run: &str;)
    /// All work for one step, before or after the confirmation.
    step(INFO, "provision::engine", "step"; step: &str, resource_kind: &str;)
    /// Waiting for other steps to end.
    step_wait(DEBUG, "provision::engine", "step.wait"; waits_for: &str;)
    /// Reading the actual state.
    observe(DEBUG, "provision::engine", "observe"; ;)
    /// Deciding what differs.
    diff(DEBUG, "provision::engine", "diff"; ;)
    /// Making one change.
    execute(INFO, "provision::engine", "execute"; change_target: &str;)
    /// Observing once more after the changes.
    verify(DEBUG, "provision::engine", "verify"; ;)
    /// Starting a worker, including its answer to the greeting.
    worker_start(INFO, "provision::worker", "worker.start"; user: &str;)
    /// A request to a worker, on the worker's side. `remote_parent` is the launcher's span.
    worker_request(DEBUG, "provision::worker", "worker.request"; request: &str, remote_parent: Option<u64>;)
    /// Reading a secret source.
    secret_read(DEBUG, "provision::secret", "secret.read"; source: &str;)
    /// Connecting to a warehouse and signing in. `attempt` counts the servers that were tried, from 1.
    warehouse_connect(INFO, "provision::warehouse", "warehouse.connect"; host: &str, port: u64, database: &str, attempt: u64;)
    /// One statement; `query` names it, and `attempt` counts from 1.
    warehouse_query(DEBUG, "provision::warehouse", "warehouse.query"; query: &str, attempt: u64; rows)
    /// Connecting to an SSH server, including its host key.
    ssh_connect(INFO, "provision::ssh", "ssh.connect"; host: &str, port: u64;)
    /// Signing in to an SSH server.
    ssh_auth(INFO, "provision::ssh", "ssh.auth"; user: &str;)
    /// Asking a remote for its branches.
    git_ls_remote(INFO, "provision::git", "git.ls_remote"; remote: &RedactedUrl;)
    /// Fetching from a remote.
    git_fetch(INFO, "provision::git", "git.fetch"; remote: &RedactedUrl; objects, bytes)
    /// Writing a work tree.
    git_checkout(DEBUG, "provision::git", "git.checkout"; branch: &str;)
    /// Walking a tree.
    fs_walk(DEBUG, "provision::fs", "fs.walk"; path: &str; entries)
}

/// Returns whether anything is recorded.
pub fn is_recording() -> bool {
    tracing::level_filters::LevelFilter::current() != tracing::level_filters::LevelFilter::OFF
}

/// Records the retry of a failed operation.
pub fn retry(what: &str, attempt: u64, reason: &str) {
    tracing::warn!(target: "provision::engine", what, attempt, reason, "trying again");
}

/// Records an event of the engine with its text.
pub fn event(step: Option<&str>, message: &str, needs_attention: bool) {
    if needs_attention {
        tracing::warn!(target: "provision::engine", step, "{message}");
    } else {
        tracing::info!(target: "provision::engine", step, "{message}");
    }
}
