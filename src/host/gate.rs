//! A limited number of connections to a host.
//!
//! sshd drops connections at random while too many others have not logged in yet (`MaxStartups` in sshd_config(5)), so
//! independent steps would make each other fail.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Limits the connections of this process to each host.
pub struct Gate {
    max: usize,
    /// How long a connection counts.
    lifetime: Duration,
    /// When the connections to each host were opened.
    opened: Mutex<BTreeMap<String, Vec<Instant>>>,
    is_free: Condvar,
}

/// The right to one connection, until it is dropped or no longer counts.
pub struct Permit<'gate> {
    gate: &'gate Gate,
    host: String,
    since: Instant,
}

impl Gate {
    /// Creates a gate for at most `max` connections to a host at a time. One that is older than `lifetime` does not count.
    pub const fn new(max: usize, lifetime: Duration) -> Self {
        Self { max, lifetime, opened: Mutex::new(BTreeMap::new()), is_free: Condvar::new() }
    }

    /// Waits until there are fewer connections to `host` than the maximum, at most for the lifetime of those before it.
    pub fn enter(&self, host: &str) -> Permit<'_> {
        let mut opened = self.opened();
        loop {
            let since = Instant::now();
            let of_host = opened.entry(host.to_owned()).or_default();
            of_host.retain(|opened| since.duration_since(*opened) < self.lifetime);
            if of_host.len() < self.max {
                of_host.push(since);
                return Permit { gate: self, host: host.to_owned(), since };
            }
            let next = of_host.iter().map(|opened| self.lifetime.saturating_sub(since.duration_since(*opened))).min();
            let waited = self.is_free.wait_timeout(opened, next.unwrap_or(self.lifetime));
            opened = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Instant>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(of_host) = self.gate.opened().get_mut(&self.host)
            && let Some(at) = of_host.iter().position(|opened| *opened == self.since)
        {
            of_host.swap_remove(at);
        }
        self.gate.is_free.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_host_has_the_maximum_of_connections_and_no_more() {
        for max in [1, 3] {
            let gate = Gate::new(max, LONG);
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..12 {
                    scope.spawn(|| {
                        let _permit = gate.enter("a.example");
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(5));
                        now.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
            assert_eq!(most.into_inner(), max);
        }
    }

    #[test]
    fn hosts_do_not_wait_for_each_other_and_old_connections_do_not_count() {
        let gate = Gate::new(1, Duration::from_millis(50));
        let (first, _other) = (gate.enter("a.example"), gate.enter("b.example"));
        let begun = Instant::now();
        let _second = gate.enter("a.example");
        assert!(begun.elapsed() >= Duration::from_millis(30));
        drop(first);
    }
}
