//! A limited number of connections to an ssh host.
//!
//! sshd drops connections while too many others have not logged in yet: by default some of more than ten (`MaxStartups` in
//! sshd_config(5)). Independent steps would make each other fail.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The maximum number of git's connections to one host at the same time.
const MAX_AT_A_HOST: usize = 3;

/// The number of connections to each host.
static CONNECTIONS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
static IS_FREE: Condvar = Condvar::new();

/// The right to connect to a host. Another thread gets it when it is dropped.
pub(super) struct Slot(String);

impl Slot {
    /// Waits until there are less than three connections of this process. Each has time limits, and so has this wait.
    pub fn take(host: &str) -> Self {
        let is_full = |open: &mut BTreeMap<String, usize>| open.get(host).is_some_and(|count| *count >= MAX_AT_A_HOST);
        let open = IS_FREE.wait_while(connections(), is_full);
        *open.unwrap_or_else(PoisonError::into_inner).entry(host.to_owned()).or_default() += 1;
        Self(host.to_owned())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(count) = connections().get_mut(&self.0) {
            *count -= 1;
        }
        IS_FREE.notify_all();
    }
}

fn connections() -> MutexGuard<'static, BTreeMap<String, usize>> {
    CONNECTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

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
