//! One proof of a key at a time at a host.
//!
//! sshd drops connections at random while too many others have not logged in yet (`MaxStartups` in sshd_config(5)), so
//! logins of independent steps would make each other fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Address;
use crate::failure::Failure;

type Host = (String, u16);

/// How long a host that did not answer is not asked again. A person may confirm a plan much later.
const MEMORY: Duration = Duration::from_secs(60);

/// The right of one thread to log in at a host. The next thread gets it when it is dropped.
pub(super) struct Turn(Host);

/// The hosts at which this process logs in, and those that did not answer.
struct Hosts {
    busy: BTreeSet<Host>,
    silent: BTreeMap<Host, Silence>,
}

struct Silence {
    since: Instant,
    /// How long the host was waited for.
    waited: Duration,
    failure: Failure,
}

static HOSTS: Mutex<Hosts> = Mutex::new(Hosts { busy: BTreeSet::new(), silent: BTreeMap::new() });
static IS_FREE: Condvar = Condvar::new();

impl Turn {
    /// Waits until no other thread logs in at the host. Every proof has a time limit, and so has this wait.
    pub fn take(address: &Address) -> Self {
        let host = (address.host.clone(), address.port);
        let hosts = IS_FREE.wait_while(hosts(), |hosts| hosts.busy.contains(&host));
        hosts.unwrap_or_else(PoisonError::into_inner).busy.insert(host.clone());
        Self(host)
    }

    /// Returns the failure of a login of the last minute that waited at least this long for nothing. A host that did not answer
    /// is not asked again at once: several keys would wait for it one after the other.
    pub fn silence(&self, limit: Duration) -> Option<Failure> {
        let hosts = hosts();
        let silence = hosts.silent.get(&self.0)?;
        (silence.waited >= limit && silence.since.elapsed() < MEMORY).then(|| silence.failure.clone())
    }

    /// Remembers that the host did not answer within `limit`.
    pub fn was_silent(&self, limit: Duration, failure: &Failure) {
        let silence = Silence { since: Instant::now(), waited: limit, failure: failure.clone() };
        hosts().silent.insert(self.0.clone(), silence);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        hosts().busy.remove(&self.0);
        IS_FREE.notify_all();
    }
}

fn hosts() -> MutexGuard<'static, Hosts> {
    HOSTS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_host_has_one_login_at_a_time_and_hosts_do_not_wait_for_each_other() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let address: Address = "u@turn.example:1".parse().unwrap();
        let other = Turn::take(&"u@turn.example:2".parse().unwrap());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _turn = Turn::take(&address);
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        drop(other);
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
