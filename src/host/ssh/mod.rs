//! SSH by libssh2: connecting to a host whose key is known, authenticating with a key, forwarding.
//!
//! Blocking code: callers under tokio go by [`Tunnel`], or by `spawn_blocking`.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use ssh2::{ErrorCode, MethodType, Session};

mod address;
mod keygen;
pub mod known_hosts;
mod openssh_format;
mod private_key;
#[cfg(test)]
pub mod private_key_tests;
mod prove;
mod tunnel;

use crate::failure::Failure;
use crate::telemetry::spans;
pub use address::{Address, Fingerprint};
use known_hosts::{KnownHosts, Verdict};
pub use private_key::{KeyRead, NoKey, PublicFacts, mended};
pub use prove::prove;
pub use tunnel::Tunnel;

/// LIBSSH2_ERROR_AUTHENTICATION_FAILED: the server says no to the public half.
const NO: i32 = -18;
/// LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED: anything from a server that hung up to a signature that it does not take.
const UNVERIFIED: i32 = -19;
/// LIBSSH2_ERROR_FILE: the key could not be read.
const UNREADABLE: i32 = -16;
/// LIBSSH2_ERROR_TIMEOUT.
const TIMEOUT: i32 = -9;
/// LIBSSH2_ERROR_KEX_FAILURE and LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE: no algorithm in common.
const NOTHING_IN_COMMON: [i32; 2] = [-5, -8];

/// Why a connection or a login did not come about. The cases that callers treat differently are apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The host did not answer, or broke off before the key was offered.
    Unreachable(Failure),
    /// Its key has changed, is revoked or not the wanted one. Nothing was sent to it but the greeting.
    HostKey(Failure),
    /// Its key is not known. Nothing was sent to it but the greeting.
    UnknownHostKey(Failure),
    /// It does not take the key, or hung up on it.
    Rejected(Failure),
    /// The key cannot be used at all: a passphrase, another format.
    Key(Failure),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unreachable(failure)
            | Error::HostKey(failure)
            | Error::UnknownHostKey(failure)
            | Error::Rejected(failure)
            | Error::Key(failure) => failure,
        }
    }
}

/// What a host's key has to be.
#[derive(Debug, Clone)]
pub enum HostKey {
    /// One that a `known_hosts` file lists.
    Known(KnownHosts),
    /// The one with this fingerprint.
    Fingerprint(Fingerprint),
}

/// A session with a host whose key has been found right, not logged in yet. `timeout` is for each step.
pub fn connect(address: &Address, host_key: &HostKey, timeout: Duration) -> Result<Session, Error> {
    connect_watched(address, host_key, timeout, timeout, &|_| {})
}

/// The same. Each of the host's addresses has `dialling` to accept a connection; `watch` is told of each connection
/// before a byte is exchanged over it.
fn connect_watched(
    address: &Address,
    host_key: &HostKey,
    dialling: Duration,
    timeout: Duration,
    watch: &dyn Fn(&TcpStream),
) -> Result<Session, Error> {
    let span = spans::ssh_connect(&address.host, address.port.into());
    span.in_scope(|| greet_until_known(address, host_key, dialling, timeout, watch))
}

fn greet_until_known(
    address: &Address,
    host_key: &HostKey,
    dialling: Duration,
    timeout: Duration,
    watch: &dyn Fn(&TcpStream),
) -> Result<Session, Error> {
    let mut shown: Vec<Shown> = Vec::new();
    loop {
        let stream = dial(address, dialling)?;
        watch(&stream);
        let session = match greet(address, host_key, timeout, stream, &shown) {
            Ok(session) => session,
            // It has no further host key.
            Err(error) if !shown.is_empty() && is_nothing_in_common(&error) => return Err(other_key(address, &shown)),
            Err(error) => return Err(handshake_failed(address, &error)),
        };
        let Some((key, _)) = session.host_key() else {
            return Err(Error::HostKey(Failure::new(format!("{address} showed no host key"))));
        };
        match host_key {
            HostKey::Known(known) => check(address, known, key)?,
            HostKey::Fingerprint(wanted) if *wanted == Fingerprint::of(key) => {}
            HostKey::Fingerprint(wanted) => {
                // A host has a key of each algorithm, and shows the one of the algorithm that is agreed on.
                let seen =
                    Shown { algorithm: algorithm(key), fingerprint: Fingerprint::of(key), wanted: wanted.clone() };
                let again = shown.iter().any(|known| known.algorithm == seen.algorithm);
                shown.push(seen);
                if again {
                    return Err(other_key(address, &shown));
                }
                continue;
            }
        }
        return Ok(session);
    }
}

/// A host key that is not the wanted one.
struct Shown {
    algorithm: String,
    fingerprint: Fingerprint,
    wanted: Fingerprint,
}

fn dial(address: &Address, timeout: Duration) -> Result<TcpStream, Error> {
    let places = (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| {
        let failure = Failure::new(format!("unknown host: {} ({error})", address.host));
        Error::Unreachable(failure.hint("is the name right, and does this machine's DNS know it?"))
    })?;
    let mut stream = Err(Error::Unreachable(Failure::new(format!("{} has no address", address.host))));
    for place in places {
        stream = TcpStream::connect_timeout(&place, timeout).map_err(|error| {
            let failure = Failure::new(format!("cannot reach {}:{}: {error}", address.host, address.port));
            Error::Unreachable(failure.hint("is the address right, and does a firewall let this host in?"))
        });
        if stream.is_ok() {
            break;
        }
    }
    stream
}

/// Agrees on keys with the host; for none of the algorithms that it has `shown` a key of.
fn greet(
    address: &Address,
    host_key: &HostKey,
    timeout: Duration,
    stream: TcpStream,
    shown: &[Shown],
) -> Result<Session, ssh2::Error> {
    let mut session = Session::new()?;
    session.set_tcp_stream(stream);
    session.set_timeout(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
    let offered: Vec<&str> = session.supported_algs(MethodType::HostKey)?;
    let order = match host_key {
        HostKey::Known(known) => preferred(&offered, &known.algorithms(&address.host, address.port)),
        HostKey::Fingerprint(_) => {
            let left = offered.iter().filter(|name| !shown.iter().any(|shown| is_name_of(name, &shown.algorithm)));
            left.copied().collect()
        }
    };
    session.method_pref(MethodType::HostKey, &order.join(","))?;
    session.handshake()?;
    Ok(session)
}

/// The known algorithms before all others.
fn preferred<'a>(offered: &[&'a str], known: &[String]) -> Vec<&'a str> {
    let (first, rest): (Vec<&str>, Vec<&str>) =
        offered.iter().partition(|name| known.iter().any(|known| is_name_of(name, known)));
    first.into_iter().chain(rest).collect()
}

/// Whether keys of an algorithm go by a name: one RSA key is used under three, by the hash.
fn is_name_of(name: &str, algorithm: &str) -> bool {
    name == algorithm || (algorithm == "ssh-rsa" && ["rsa-sha2-256", "rsa-sha2-512"].contains(&name))
}

/// The algorithm of a key in its wire form, which begins with the name and its length.
fn algorithm(key: &[u8]) -> String {
    let name = key.split_at_checked(4).and_then(|(length, rest)| {
        let length = u32::from_be_bytes(length.try_into().ok()?);
        rest.get(..usize::try_from(length).ok()?)
    });
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

fn handshake_failed(address: &Address, error: &ssh2::Error) -> Error {
    Error::Unreachable(Failure::new(format!("the SSH handshake with {address} failed: {}", error.message())))
}

fn is_nothing_in_common(error: &ssh2::Error) -> bool {
    matches!(error.code(), ErrorCode::Session(code) if NOTHING_IN_COMMON.contains(&code))
}

fn other_key(address: &Address, shown: &[Shown]) -> Error {
    let keys: Vec<String> = shown.iter().map(|shown| shown.fingerprint.to_string()).collect();
    let wanted = shown.first().map(|shown| shown.wanted.to_string()).unwrap_or_default();
    let failure = Failure::new(format!("{address} has the host key {}, and {wanted} is wanted", keys.join(" and ")));
    Error::HostKey(failure.hint("find out whether the host was set up anew, or somebody stands in between"))
}

fn check(address: &Address, known: &KnownHosts, key: &[u8]) -> Result<(), Error> {
    let fingerprint = Fingerprint::of(key);
    let wrong = |what: String, hint: &str| Err(Error::HostKey(Failure::new(what).hint(hint)));
    match known.check(&address.host, address.port, key) {
        Verdict::Known => Ok(()),
        Verdict::Unknown => {
            let failure = Failure::new(format!("the host key of {address} is not known ({fingerprint})"));
            Err(Error::UnknownHostKey(
                failure
                    .hint("compare the fingerprint with the host's own, then add it: ssh-keyscan, or one login by ssh"),
            ))
        }
        Verdict::Changed(place) => wrong(
            format!("the host key of {address} has changed: it is {fingerprint}, and {place} has another"),
            "find out whether the host was set up anew, or somebody stands in between; then ssh-keygen -R",
        ),
        Verdict::Revoked(place) => {
            wrong(format!("the host key of {address} ({fingerprint}) is revoked by {place}"), "do not connect to it")
        }
    }
}

/// Logs in with a private key (PEM or OpenSSH's own format). Nothing else is done on the host.
pub fn authenticate(session: &Session, address: &Address, key: &[u8]) -> Result<(), Error> {
    let Ok(text) = std::str::from_utf8(key) else {
        return Err(Error::Key(Failure::new(format!("the key for {address} is no text: it is no private key"))));
    };
    // The binding and libssh2 read copies of the text that they do not wipe; those go with this process.
    let login = spans::ssh_auth(&address.user);
    match login.in_scope(|| session.userauth_pubkey_memory(&address.user, None, text, None)) {
        Ok(()) if session.authenticated() => Ok(()),
        Ok(()) => Err(rejected(address, "it wants more than a key")),
        Err(error) => Err(login_failed(address, &error)),
    }
}

/// libssh2 has one number for several outcomes; its texts tell them apart.
fn login_failed(address: &Address, error: &ssh2::Error) -> Error {
    let text = error.message();
    let code = match error.code() {
        ErrorCode::Session(code) => code,
        ErrorCode::SFTP(_) => 0,
    };
    match code {
        NO => rejected(address, text),
        UNVERIFIED if text.starts_with("Invalid signature") => rejected(address, text),
        TIMEOUT => Error::Unreachable(Failure::new(format!("{address} did not answer when the key was offered"))),
        UNREADABLE => unusable(address, text),
        UNVERIFIED if text.starts_with("Callback") || text.starts_with("Invalid public key") => unusable(address, text),
        // OpenSSH's MaxAuthTries has this instead of a no.
        _ => Error::Rejected(
            Failure::new(format!("{address} hung up when the key was offered: {text}"))
                .hint("run again; where it happens again, that is its way to say no"),
        ),
    }
}

fn unusable(address: &Address, why: &str) -> Error {
    let failure = Failure::new(format!("the key for {address} cannot be used: {why}"));
    Error::Key(failure.hint("is it a private key, and without a passphrase?"))
}

fn rejected(address: &Address, why: &str) -> Error {
    let failure = Failure::new(format!("{address} does not take the key: {why}"));
    // A server says no more: a locked account and an unknown key look the same from outside (RFC 4252, section 5.1).
    Error::Rejected(failure.hint(format!(
        "is its public half in the authorized_keys of {} there, and may that user log in (locked, AllowUsers)?",
        address.user
    )))
}
