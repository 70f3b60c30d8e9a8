//! One proof of a key at a time at a host.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Address;
use crate::failure::Failure;
use crate::host::gate::{Gate, Permit};

/// How long a host that did not answer is not asked again. A person may confirm a plan much later.
const MEMORY: Duration = Duration::from_secs(60);

/// Proofs have time limits of their own (at most five minutes).
static PROOFS: Gate = Gate::new(1, Duration::from_secs(600));

/// The hosts that did not answer.
static SILENT: Mutex<BTreeMap<String, Silence>> = Mutex::new(BTreeMap::new());

/// The right to log in at a host. The next thread gets it when it is dropped.
pub(super) struct Turn {
    host: String,
    _permit: Permit<'static>,
}

struct Silence {
    since: Instant,
    /// How long the host was waited for.
    waited: Duration,
    failure: Failure,
}

impl Turn {
    /// Waits until no other thread proves a key at the host.
    pub fn take(address: &Address) -> Self {
        let host = format!("{}:{}", address.host, address.port);
        Self { _permit: PROOFS.enter(&host), host }
    }

    /// Returns the failure of a login of the last minute that waited at least this long for nothing. A host that did not answer
    /// is not asked again soon: several keys would wait for it one after the other.
    pub fn silence(&self, limit: Duration) -> Option<Failure> {
        let silent = silent();
        let silence = silent.get(&self.host)?;
        (silence.waited >= limit && silence.since.elapsed() < MEMORY).then(|| silence.failure.clone())
    }

    /// Remembers that the host did not answer within `limit`.
    pub fn was_silent(&self, limit: Duration, failure: &Failure) {
        let silence = Silence { since: Instant::now(), waited: limit, failure: failure.clone() };
        silent().insert(self.host.clone(), silence);
    }
}

fn silent() -> MutexGuard<'static, BTreeMap<String, Silence>> {
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_host_is_remembered_for_logins_that_would_not_wait_longer() {
        let turn = Turn::take(&"u@silent.example:1".parse().unwrap());
        let (short, long) = (Duration::from_secs(2), Duration::from_secs(10));
        assert_eq!(turn.silence(short), None);
        turn.was_silent(short, &Failure::new("silent"));
        assert_eq!(turn.silence(short), Some(Failure::new("silent")));
        assert_eq!(turn.silence(long), None);
    }
}
