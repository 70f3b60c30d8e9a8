//! Handles SIGINT, SIGTERM and SIGHUP: the current change is finished, and no other is started.

use crate::failure::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::signal::unix::SignalKind;
use tokio::sync::Notify;

use crate::host::signals;

/// Whether the run was asked to stop, and by which signal.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    signal: AtomicI32,
    asked: Notify,
}

impl Stop {
    /// Starts to listen for the signals. SIGHUP, which is sent when the terminal closes, is left alone if it is already
    /// ignored (nohup(1)).
    ///
    /// # Errors
    /// Those of [`signals::listen`].
    pub fn listen() -> Result<Self, Failure> {
        let stop = Self::default();
        for (kind, number) in [(SignalKind::interrupt(), 2), (SignalKind::terminate(), 15), (SignalKind::hangup(), 1)] {
            if number == 1 && signals::is_ignored(number) {
                continue;
            }
            let mut signals = signals::listen(kind)?;
            let inner = Arc::clone(&stop.0);
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    inner.signal.store(number, Ordering::SeqCst);
                    inner.asked.notify_waiters();
                }
            });
        }
        Ok(stop)
    }

    /// Returns the number of the signal that was received, if any.
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.signal.load(Ordering::SeqCst)).filter(|number| *number != 0)
    }

    /// Waits until the run is asked to stop.
    pub async fn asked(&self) {
        let asked = self.0.asked.notified();
        if self.signal().is_none() {
            asked.await;
        }
    }
}

/// Returns the name of one of the handled signals.
pub fn name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        _ => "SIGTERM",
    }
}
