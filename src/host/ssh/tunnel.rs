//! A tunnel to a server behind an SSH host: one session, with a forwarded channel per connection.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, Channel, Session};

use super::{Address, HostKey, KeyRead, authenticate, connect};
use crate::failure::Failure;
use crate::host::fs;
use crate::host::secret::Secret;
use crate::host::thread;
use crate::telemetry::spans;
use crate::text::io_error_text;

/// The time limit of one step of the SSH protocol.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of keepalive messages on an idle session, in seconds.
const KEEPALIVE: u32 = 15;
/// The maximum size of a key, in bytes.
const MAX_KEY_BYTES: u64 = 1 << 20;

/// What is waited for at first: the previous channel has to be closed.
const FREE: &str = "the end of the previous connection";
const GREETING: &str = "its greeting and its host key";
const CHANNEL: &str = "the connection to the server";

/// An SSH host to forward through. The session is opened when it is first needed.
pub struct Tunnel {
    inner: Arc<Inner>,
}

/// The private key for a tunnel.
pub enum TunnelKey {
    /// Read when the session is opened: a step may have to create the file first.
    File(PathBuf),
    /// From a secret source. `None` if the source gives nothing.
    Value(Option<Secret>),
}

struct Inner {
    address: Address,
    key: TunnelKey,
    host_key: HostKey,
    open: Mutex<Open>,
    /// What is waited for.
    stage: Mutex<&'static str>,
}

#[derive(Default)]
struct Open {
    session: Option<Session>,
    /// The thread that copies the data of the current channel. There is only one, because libssh2 has one lock for a
    /// whole session.
    carrier: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Creates a tunnel through `address`.
    pub fn new(address: Address, key: TunnelKey, host_key: HostKey) -> Self {
        let stage = Mutex::new(FREE);
        Self { inner: Arc::new(Inner { address, key, host_key, open: Mutex::default(), stage }) }
    }

    /// Opens a stream to a host and port as seen from the SSH host. Opens the session if there is none or it is broken.
    ///
    /// # Errors
    /// The SSH host cannot be used, or does not forward. A caller that gives up sooner has [`Tunnel::timed_out`].
    pub async fn channel(&self, host: &str, port: u16) -> Result<tokio::net::UnixStream, Failure> {
        let (inner, host) = (Arc::clone(&self.inner), host.to_owned());
        let opened = thread::blocking("tunnel", spans::carried(move || inner.channel(&host, port))).await;
        let stream =
            opened.map_err(|error| Failure::new(format!("cannot open the tunnel: {}", io_error_text(&error))))??;
        tokio::net::UnixStream::from_std(stream)
            .map_err(|error| Failure::new(format!("cannot use the tunnel: {}", io_error_text(&error))))
    }
}

impl Tunnel {
    /// Returns the failure if the channel was not open after this time: the SSH host, and what it was waited for.
    pub fn timed_out(&self, limit: Duration) -> Failure {
        let Inner { address, stage, .. } = &*self.inner;
        let stage = *stage.lock().unwrap_or_else(PoisonError::into_inner);
        let hint = if stage == CHANNEL {
            "check the server's address, and whether a firewall or security group blocks the SSH host there"
        } else {
            "check the address of the tunnel, and whether an SSH server listens there"
        };
        let what = format!("tunnel: {address} did not answer within {} s, waiting for {stage}", limit.as_secs());
        Failure::new(what).hint(format!("{hint}; or raise `connect_timeout`"))
    }
}

impl Inner {
    fn wait_for(&self, stage: &'static str) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    fn channel(&self, host: &str, port: u16) -> Result<UnixStream, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(carrier) = open.carrier.take() {
            // It ends when the previous connection is closed.
            let _ended = carrier.join();
        }
        self.wait_for(CHANNEL);
        let mut channel = None;
        if let Some(session) = &open.session {
            session.set_blocking(true);
            channel = session.channel_direct_tcpip(host, port, None).ok();
        }
        let channel = match channel {
            Some(channel) => channel,
            None => {
                let session = self.log_in()?;
                self.wait_for(CHANNEL);
                let channel =
                    session.channel_direct_tcpip(host, port, None).map_err(|error| self.refused(host, port, &error))?;
                open.session = Some(session);
                channel
            }
        };
        let Some(session) = open.session.clone() else { return Err(Failure::new("the tunnel is closed")) };
        let failed = |error: io::Error| Failure::new(format!("cannot set up the tunnel: {}", io_error_text(&error)));
        let (near, far) = UnixStream::pair().map_err(failed)?;
        near.set_nonblocking(true).map_err(failed)?;
        far.set_nonblocking(true).map_err(failed)?;
        session.set_blocking(false);
        let copy = move || {
            // The end is visible at the near side: its stream is closed.
            let _ended = copy(&session, channel, far);
        };
        let carrier = std::thread::Builder::new().name("tunnel".into()).spawn(copy).map_err(failed)?;
        open.carrier = Some(carrier);
        Ok(near)
    }

    fn log_in(&self) -> Result<Session, Failure> {
        let through = |failure: Failure| Failure { message: format!("tunnel: {}", failure.message), ..failure };
        let (key, name) = self.key()?;
        if let KeyRead::Other(other) = KeyRead::in_use(key.expose()) {
            return Err(Failure::new(format!("tunnel: {name} {}", other.reason)).hint(other.remedy));
        }
        self.wait_for(GREETING);
        let session = connect(&self.address, &self.host_key, STEP_TIMEOUT).map_err(|error| through(error.into()))?;
        self.wait_for("the login");
        authenticate(&session, &self.address, key.expose()).map_err(|error| through(error.into()))?;
        session.set_keepalive(true, KEEPALIVE);
        Ok(session)
    }

    /// Returns the key, and what messages call it.
    fn key(&self) -> Result<(Secret, String), Failure> {
        match &self.key {
            TunnelKey::Value(Some(key)) => Ok((key.clone(), "the key".to_owned())),
            TunnelKey::Value(None) => Err(Failure::new("tunnel: the source of the key is empty")
                .hint("set the environment variable that `key` of the tunnel names")),
            TunnelKey::File(path) => {
                let seen = fs::read_file(path, MAX_KEY_BYTES).map_err(|error| {
                    Failure::new(format!("tunnel: cannot read the key {}: {}", path.display(), io_error_text(&error)))
                        .hint("set `tunnel: { key: … }` of the connection to a private key")
                })?;
                Ok((Secret::new(seen.bytes.to_vec()), format!("the key {}", fs::escape_path(path))))
            }
        }
    }

    fn refused(&self, host: &str, port: u16, error: &ssh2::Error) -> Failure {
        Failure::new(format!("tunnel: {} does not forward to {host}:{port}: {}", self.address, error.message())).hint(
            "check that its sshd allows forwarding (AllowTcpForwarding, PermitOpen, permitopen=), and that it can reach the warehouse",
        )
    }
}

/// The data in transit in one direction.
struct Direction {
    buffer: Box<[u8]>,
    /// The part that has been read but not written yet.
    waiting: std::ops::Range<usize>,
    ended: bool,
}

impl Direction {
    fn new() -> Self {
        Self { buffer: vec![0; 32 * 1024].into(), waiting: 0..0, ended: false }
    }

    /// Moves as much data as possible without blocking. Returns whether any was moved.
    fn copy(&mut self, from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<bool> {
        let mut moved = false;
        if self.waiting.is_empty() && !self.ended {
            match from.read(&mut self.buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => self.waiting = 0..length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            moved |= self.ended || !self.waiting.is_empty();
        }
        while !self.waiting.is_empty() {
            match to.write(&self.buffer[self.waiting.clone()]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.waiting.start += length;
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    fn done(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }
}

/// Copies data in both directions until one side ends. All streams are non-blocking, so one thread serves both
/// directions.
fn copy(session: &Session, mut channel: Channel, mut local: UnixStream) -> io::Result<()> {
    let (mut out, mut back) = (Direction::new(), Direction::new());
    loop {
        let mut moved = out.copy(&mut local, &mut channel)?;
        moved |= match back.copy(&mut channel.stream(0), &mut local) {
            // libssh2 returns 0 bytes before the end of the stream if no data is available yet.
            Ok(_) if back.ended && !channel.eof() => {
                back.ended = false;
                false
            }
            other => other?,
        };
        if back.done() || out.done() {
            let _closed = channel.close();
            return Ok(());
        }
        if !moved {
            wait(session, &out, &back, &local)?;
        }
    }
}

/// Waits until data can be moved, or sends a keepalive after a long silence.
fn wait(session: &Session, out: &Direction, back: &Direction, local: &UnixStream) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let directions = session.block_directions();
    let mut remote = PollFlags::IN;
    if matches!(directions, BlockDirections::Outbound | BlockDirections::Both) {
        remote |= PollFlags::OUT;
    }
    let mut near = PollFlags::empty();
    if out.waiting.is_empty() {
        near |= PollFlags::IN;
    }
    if !back.waiting.is_empty() {
        near |= PollFlags::OUT;
    }
    #[expect(unsafe_code, reason = "ssh2 gives its socket as a bare number")]
    // SAFETY: the session owns the socket and outlives this call.
    let socket = unsafe { BorrowedFd::borrow_raw(session.as_raw_fd()) };
    let mut fds = [PollFd::from_borrowed_fd(socket, remote), PollFd::from_borrowed_fd(local.as_fd(), near)];
    let limit = Timespec { tv_sec: i64::from(KEEPALIVE), tv_nsec: 0 };
    match poll(&mut fds, Some(&limit)) {
        Ok(0) => session.keepalive_send().map(drop).map_err(io::Error::from),
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
