//! Blocking work in threads of its own, as far as the system has any left.

use std::io;

use crate::telemetry::spans;

/// Runs blocking work in its own thread. A thread that cannot be started is an error. The pool of tokio would panic.
///
/// # Errors
/// The system has no thread left.
pub async fn blocking<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    let work = move || drop(done.send(work()));
    std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
    result.await.map_err(|_| io::Error::other("its thread ended early"))
}

/// Runs two functions at the same time, the first in its own thread. If no thread can be started, it runs the second, then the
/// first. Returns a panic of the first.
pub fn join<A: Send, B>(first: impl Fn() -> A + Sync, second: impl FnOnce() -> B) -> (std::thread::Result<A>, B) {
    let first = &first;
    std::thread::scope(|scope| {
        let started = std::thread::Builder::new().spawn_scoped(scope, spans::carried(first));
        let second = second();
        (started.map_or_else(|_| Ok(first()), std::thread::ScopedJoinHandle::join), second)
    })
}
