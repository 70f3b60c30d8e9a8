//! Tests whether a key can log in.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::turn::Turn;
use super::{Address, Error, HostKey, authenticate, connect_watched};
use crate::failure::Failure;
use crate::host::secret::Secret;
use crate::telemetry::spans;
use crate::text::io_error_text;

/// Logs in with a private key and disconnects. No channel is opened and nothing runs on the host. It first waits for other proofs of
/// this process at the same host. The login then ends within `limit`, even if the host sends nothing, sends slowly, or never
/// stops sending.
///
/// # Errors
/// Why the login could not be proven to work.
pub fn prove(address: &Address, host_key: &HostKey, key: &Secret, limit: Duration) -> Result<(), Error> {
    let turn = Turn::take(address);
    if let Some(failure) = turn.silence(limit) {
        return Err(Error::Silent(failure));
    }
    let line = Arc::new(Line::default());
    let (sender, answer) = mpsc::channel();
    let work = {
        let (address, host_key, key, line) = (address.clone(), host_key.clone(), key.clone(), Arc::clone(&line));
        move || {
            let result = log_in(&address, &host_key, &key, limit, &line);
            // After a timeout nothing receives the result.
            drop(sender.send(result));
        }
    };
    let started = std::thread::Builder::new().name("proof".into()).spawn(spans::carried(work));
    started.map_err(|error| {
        Error::Unreachable(Failure::new(format!("cannot start a thread: {}", io_error_text(&error))))
    })?;
    let result = answer.recv_timeout(limit).unwrap_or_else(|_| {
        // The thread may still be blocked, for example in the resolver. Without its connection it ends soon.
        line.cut();
        let failure = Failure::new(format!("{address} did not complete a login within {} s", limit.as_secs()));
        Err(Error::Silent(failure.hint("check that it is an SSH server, and whether it or the network is overloaded")))
    });
    if let Err(Error::Silent(failure)) = &result {
        turn.was_silent(limit, failure);
    }
    result
}

fn log_in(address: &Address, host_key: &HostKey, key: &Secret, limit: Duration, line: &Line) -> Result<(), Error> {
    // Two addresses of the host can be dead before a third one answers. The later steps have no shorter limit of their
    // own.
    let session = connect_watched(address, host_key, limit / 3, limit * 2, &|stream| line.hold(stream))?;
    authenticate(&session, address, key.expose())?;
    // The login succeeded, so the result of the disconnect does not matter.
    drop(session.disconnect(None, "the key was tried", None));
    Ok(())
}

/// The connection in use, which another thread can cut. libssh2's own timeouts restart with each call, and do not apply
/// at all to a host that never stops sending.
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
            // The connection may have ended already. The shutdown wakes the waiting thread. Data that the host keeps
            // sending would still be read, so the socket is disconnected as well.
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

    /// Tries a login at a server that runs `serve`. Returns the time until both sides have ended.
    fn prove_at(serve: impl FnOnce(TcpStream) + Send + 'static) -> Duration {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("etl@127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let server = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let start = Instant::now();
        let key = Secret::new(b"key".to_vec());
        let result = prove(&address, &HostKey::Known(KnownHosts::default()), &key, Duration::from_secs(1));
        let Err(Error::Silent(failure)) = result else { panic!("{result:?}") };
        assert!(failure.message.contains("did not complete a login within 1 s"), "{failure:?}");
        server.join().unwrap();
        start.elapsed()
    }

    #[test]
    fn the_login_to_a_server_that_never_stops_sending_times_out() {
        let took = prove_at(|mut stream| while stream.write_all(b"this is no ssh\r\n").is_ok() {});
        assert!(took < Duration::from_secs(20), "{took:?}");
    }

    #[test]
    fn the_login_to_a_silent_server_times_out() {
        let took = prove_at(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}
