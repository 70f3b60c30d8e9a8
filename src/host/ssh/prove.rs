//! A login that is tried for its own sake.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::{Address, Error, HostKey, authenticate, connect_watched};
use crate::host::secret::Secret;
use crate::resource::Failure;

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
    let started = std::thread::Builder::new().name("proof".into()).spawn(work);
    started.map_err(|error| Error::Unreachable(Failure::new(format!("cannot start a thread: {error}"))))?;
    answer.recv_timeout(limit).unwrap_or_else(|_| {
        // The thread goes on by itself, in the resolver for example; cut off from the host it ends soon.
        line.cut();
        let seconds = limit.as_secs();
        let failure = Failure::new(format!("{address} did not let a login through within {seconds} seconds"));
        Err(Error::Unreachable(failure.hint("is it an SSH server, and is it or the network under load?")))
    })
}

fn log_in(address: &Address, host_key: &HostKey, key: &Secret, limit: Duration, line: &Line) -> Result<(), Error> {
    let session = connect_watched(address, host_key, limit, &|stream| line.hold(stream))?;
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
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}
