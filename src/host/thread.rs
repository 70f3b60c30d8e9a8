//! Blocking work beside the runtime.

use std::io;

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
