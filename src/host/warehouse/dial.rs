//! Opens the byte stream to a server. [`Budget`] limits how much the server may send.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Config;

use crate::host::thread;

/// The maximum number of bytes that a server may send until the login is done (1 MiB), certificates included.
pub(super) const MAX_LOGIN_BYTES: u64 = 1 << 20;
/// The maximum number of bytes in the answer to a statement that returns no rows (1 MiB).
pub(super) const MAX_REPLY_BYTES: u64 = 1 << 20;
/// The maximum number of bytes in the answer to a catalog read (64 MiB): half a million columns.
pub(super) const MAX_CATALOG_BYTES: u64 = 64 << 20;
/// The maximum number of rows in the answer to a catalog read. Rows without content have few bytes, but take memory.
pub(super) const MAX_CATALOG_ROWS: usize = 2_000_000;

/// The number of bytes that a server may still send. The stream fails when they are used up by one long message, by many short ones,
/// or by a TLS handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<State>);

#[derive(Debug, Default)]
struct State {
    left: AtomicU64,
    is_exceeded: AtomicBool,
}

impl Budget {
    pub fn new(bytes: u64) -> Self {
        let budget = Self::default();
        budget.allow(bytes);
        budget
    }

    /// Allows this many bytes from now on.
    pub fn allow(&self, bytes: u64) {
        self.0.left.store(bytes, Ordering::Relaxed);
    }

    /// Returns whether the server has sent more than it may.
    pub fn is_exceeded(&self) -> bool {
        self.0.is_exceeded.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        let enough = |left: u64| left.checked_sub(bytes as u64);
        if self.0.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).is_ok() {
            return Ok(());
        }
        self.0.is_exceeded.store(true, Ordering::Relaxed);
        Err(io::Error::other("the server sent more data than allowed"))
    }
}

/// A stream that fails when its budget is used up.
pub(super) struct Bounded<S> {
    stream: S,
    budget: Budget,
}

impl<S> Bounded<S> {
    pub fn new(stream: S, budget: Budget) -> Self {
        Self { stream, budget }
    }
}

impl<S> fmt::Debug for Bounded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bounded").field(&self.budget).finish()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.budget.take(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Connects to the first address of a host that accepts, with the keepalive settings of `config`.
pub(super) async fn tcp(host: &str, port: u16, config: &Config) -> io::Result<TcpStream> {
    let mut addresses = resolve(host, port).await?.into_iter();
    let stream = loop {
        let Some(address) = addresses.next() else { return Err(io::Error::other("could not resolve any addresses")) };
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(error) if addresses.len() == 0 => return Err(error),
            Err(_) => {}
        }
    };
    stream.set_nodelay(true)?;
    if let Some(timeout) = config.get_tcp_user_timeout() {
        sockopt::set_tcp_user_timeout(&stream, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))?;
    }
    if config.get_keepalives() {
        sockopt::set_socket_keepalive(&stream, true)?;
        // The kernel refuses fractions of a second and zero.
        let whole = |time: Duration| Duration::from_secs(time.as_secs().max(1));
        sockopt::set_tcp_keepidle(&stream, whole(config.get_keepalives_idle()))?;
        if let Some(interval) = config.get_keepalives_interval() {
            sockopt::set_tcp_keepintvl(&stream, whole(interval))?;
        }
        if let Some(retries) = config.get_keepalives_retries() {
            sockopt::set_tcp_keepcnt(&stream, retries)?;
        }
    }
    Ok(stream)
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = host.to_owned();
    thread::blocking("resolver", move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter)).await?
}

/// Connects to a socket in a folder, by PostgreSQL's naming.
pub(super) async fn unix(folder: &Path, port: u16) -> io::Result<UnixStream> {
    UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await
}
