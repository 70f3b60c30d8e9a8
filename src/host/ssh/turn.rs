//! One proof of a key at a time at a host.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Address;
use crate::failure::Failure;
use crate::host::gate::{Gate, Permit};

/// How long a host that did not answer is not asked again. A person may confirm a plan much later.
const MEMORY: Duration = Duration::from_secs(60);

/// Proofs have time limits of their own (at most five minutes).
static PROOFS: Gate = Gate::new(1, Duration::from_secs(600));

/// The maximum wait for other processes. It is limited because any user of the host could take the name and keep it.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval at which the name is tried. Sockets do not tell when a name becomes free.
const TURN_INTERVAL: Duration = Duration::from_millis(20);

/// The hosts at which another process kept its turn too long. They are not waited for again.
static CROWDED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The hosts that did not answer.
static SILENT: Mutex<BTreeMap<String, Silence>> = Mutex::new(BTreeMap::new());

/// The right to log in at a host. The next thread or process gets it when it is dropped.
pub(super) struct Turn {
    host: String,
    /// Dropped before the permit, so that the next thread finds the name free.
    _name: Option<UnixListener>,
    _permit: Permit<'static>,
}

struct Silence {
    since: Instant,
    /// How long the host was waited for.
    waited: Duration,
    failure: Failure,
}

impl Turn {
    /// Waits until no other thread of this process, and no other process, proves a key at the host.
    pub fn take(address: &Address) -> Self {
        let host = format!("{}:{}", address.host, address.port);
        let permit = PROOFS.enter(&host);
        Self { _name: take_name(&host), _permit: permit, host }
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

/// Takes the abstract socket (unix(7)) by which processes take turns at a host. Its name needs no file, and is free again when the
/// process ends. Returns `None` if another process keeps it too long, or if the name is too long for a socket.
fn take_name(host: &str) -> Option<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("provision/login/{host}")).ok()?;
    let crowded = || CROWDED.lock().unwrap_or_else(PoisonError::into_inner);
    let waits = !crowded().contains(host);
    let started = Instant::now();
    loop {
        match UnixListener::bind_addr(&address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !waits || started.elapsed() >= TURN_TIMEOUT {
                    crowded().insert(host.to_owned());
                    return None;
                }
                std::thread::sleep(TURN_INTERVAL);
            }
            taken => return taken.ok(),
        }
    }
}

fn silent() -> MutexGuard<'static, BTreeMap<String, Silence>> {
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_waited_for() {
        let address: Address = "u@turns.example:1".parse().unwrap();
        let others = take_name("turns.example:1").unwrap();
        let begun = std::sync::Arc::new(std::sync::Barrier::new(2));
        let begins = begun.clone();
        let taken = std::thread::spawn(move || {
            begins.wait();
            drop(Turn::take(&address));
        });
        begun.wait();
        std::thread::sleep(10 * TURN_INTERVAL);
        assert!(!taken.is_finished(), "the other process still has its turn");
        drop(others);
        taken.join().unwrap();
        assert!(take_name(&"long".repeat(100)).is_none(), "such a name is not waited for");
    }

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
