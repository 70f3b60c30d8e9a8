//! A login that is tried for its own sake.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::{Address, Error, HostKey, authenticate, connect_watched};
use crate::failure::Failure;
use crate::host::secret::Secret;
use crate::telemetry::spans;

/// Logs in with a private key and hangs up: no channel is opened, nothing is asked of the host. Ends within `limit`
/// whatever the host does, be it that it says nothing, or little, or never stops.
///
/// # Errors
/// Why the key is not proven to be good for a login.
pub fn prove(address: &Address, host_key: &HostKey, key: &Secret, limit: Duration) -> Result<(), Error> {
    let line = Arc::new(Line::default());
    let (sender, answer) = mpsc::channel();
    let work = {
        let (address, host_key, key, line) = (address.clone(), host_key.clone(), key.clone(), Arc::clone(&line));
        move || {
            let result = log_in(&address, &host_key, &key, limit, &line);
            // Nobody listens any more where it took too long.
            drop(sender.send(result));
        }
    };
    let started = std::thread::Builder::new().name("proof".into()).spawn(spans::carried(work));
    started.map_err(|error| Error::Unreachable(Failure::new(format!("cannot start a thread: {error}"))))?;
    answer.recv_timeout(limit).unwrap_or_else(|_| {
        // The thread goes on by itself, in the resolver for example; cut off from the host it ends soon.
        line.cut();
        let failure = Failure::new(format!("{address} did not let a login through within {} s", limit.as_secs()));
        Err(Error::Unreachable(failure.hint("is it an SSH server, and is it or the network under load?")))
    })
}

fn log_in(address: &Address, host_key: &HostKey, key: &Secret, limit: Duration, line: &Line) -> Result<(), Error> {
    // Two of the host's addresses can be dead before a third answers. The steps after that have no limit of their own
    // that would come first.
    let session = connect_watched(address, host_key, limit / 3, limit * 2, &|stream| line.hold(stream))?;
    authenticate(&session, address, key.expose())?;
    // The login is through; how the farewell is taken does not matter.
    drop(session.disconnect(None, "the key was tried", None));
    Ok(())
}

/// The connection in use, to be cut from outside: libssh2's own timeouts start anew with each call, and a host that
/// never stops sending has it never wait at all.
#[derive(Default)]
struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    stream: Option<TcpStream>,
    cut: bool,
}

impl Line {
    fn hold(&self, stream: &TcpStream) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.stream = stream.try_clone().ok();
        state.end_if_cut();
    }

    fn cut(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.cut = true;
        state.end_if_cut();
    }
}

impl State {
    fn end_if_cut(&self) {
        if let Some(stream) = self.stream.as_ref().filter(|_| self.cut) {
            // It may have ended by itself. Shutting it down wakes who waits for it; what a host goes on to send would
            // still be read, so the connection is dissolved as well.
            drop(stream.shutdown(Shutdown::Both));
            let _dissolved = rustix::net::connect_unspec(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;
    use crate::host::ssh::known_hosts::KnownHosts;

    /// Tries a login at a server that does `serve` until it fails; gives how long it took both sides to end.
    fn prove_at(serve: impl FnOnce(TcpStream) + Send + 'static) -> Duration {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("etl@127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let server = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let start = Instant::now();
        let key = Secret::new(b"key".to_vec());
        let result = prove(&address, &HostKey::Known(KnownHosts::default()), &key, Duration::from_secs(1));
        let Err(Error::Unreachable(failure)) = result else { panic!("{result:?}") };
        assert!(failure.message.contains("did not let a login through within 1 s"), "{failure:?}");
        server.join().unwrap();
        start.elapsed()
    }

    #[test]
    fn a_server_that_never_stops_is_hung_up_on() {
        let took = prove_at(|mut stream| while stream.write_all(b"this is no ssh\r\n").is_ok() {});
        assert!(took < Duration::from_secs(20), "{took:?}");
    }

    #[test]
    fn a_server_that_says_nothing_is_hung_up_on() {
        let took = prove_at(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}
