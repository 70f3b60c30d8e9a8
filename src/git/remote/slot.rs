//! A limited number of connections to an ssh host.
//!
//! sshd drops connections while too many others have not logged in yet: by default some of more than ten (`MaxStartups` in
//! sshd_config(5)). Independent steps would make each other fail.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of git's connections to one host that may not have logged in yet.
const MAX_AT_A_HOST: usize = 3;

/// How long a login may take. After that a connection does not count any more, because a fetch may take hours.
const LOGIN: Duration = Duration::from_secs(10);

/// When the connections to each host were opened.
static CONNECTIONS: Mutex<BTreeMap<String, Vec<Instant>>> = Mutex::new(BTreeMap::new());
static IS_FREE: Condvar = Condvar::new();

/// The right to connect to a host. Another thread gets it when it is dropped, or after [`LOGIN`].
pub(super) struct Slot {
    host: String,
    since: Instant,
}

impl Slot {
    /// Waits until fewer than three connections of this process may be logging in at `host`, which is as the URL names it.
    pub fn take(host: &str) -> Self {
        let mut open = connections();
        loop {
            let since = Instant::now();
            let of_host = open.entry(host.to_owned()).or_default();
            of_host.retain(|opened| since.duration_since(*opened) < LOGIN);
            if of_host.len() < MAX_AT_A_HOST {
                of_host.push(since);
                return Self { host: host.to_owned(), since };
            }
            let oldest = of_host.iter().map(|opened| LOGIN.saturating_sub(opened.elapsed())).min();
            let waited = IS_FREE.wait_timeout(open, oldest.unwrap_or(LOGIN));
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(open) = connections().get_mut(&self.host)
            && let Some(at) = open.iter().position(|opened| *opened == self.since)
        {
            open.swap_remove(at);
        }
        IS_FREE.notify_all();
    }
}

fn connections() -> MutexGuard<'static, BTreeMap<String, Vec<Instant>>> {
    CONNECTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_host_has_three_connections_at_a_time() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let _slot = Slot::take("slots.example");
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.into_inner(), MAX_AT_A_HOST);
    }
}
