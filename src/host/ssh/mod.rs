//! SSH by libssh2: connecting to a host whose key is known, authenticating with a key, forwarding.
//!
//! Blocking code: callers under tokio go by [`Tunnel`], or by `spawn_blocking`.

use std::fmt;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Deserialize;
use ssh2::{ErrorCode, MethodType, Session};

pub mod known_hosts;
mod tunnel;

use crate::resource::Failure;
use known_hosts::{KnownHosts, Verdict};
pub use tunnel::Tunnel;

/// libssh2's LIBSSH2_ERROR_AUTHENTICATION_FAILED and LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED: the server says no.
const REJECTED: [i32; 2] = [-18, -19];

/// `user@host` or `user@host:port`; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    pub user: String,
    pub host: String,
    pub port: u16,
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no SSH address: write user@host or user@host:port");
        let (user, place) = text.rsplit_once('@').ok_or_else(wrong)?;
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = port.map_or(Ok(22), str::parse).map_err(|_| wrong())?;
        let blank = |part: &str| part.is_empty() || part.chars().any(char::is_whitespace);
        if blank(user) || blank(host) || port == 0 {
            return Err(wrong());
        }
        Ok(Self { user: user.to_owned(), host: host.to_owned(), port })
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.user)?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        if self.port == 22 { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Why a connection or a login did not come about. The cases that callers treat differently are apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The host did not answer, or broke off.
    Unreachable(Failure),
    /// Its key is not known, has changed or is revoked. Nothing was sent to it but the greeting.
    HostKey(Failure),
    /// It does not take the key.
    Rejected(Failure),
    /// The key cannot be used at all: a passphrase, another format.
    Key(Failure),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unreachable(failure) | Error::HostKey(failure) | Error::Rejected(failure) | Error::Key(failure) => {
                failure
            }
        }
    }
}

/// What a host's key has to be.
#[derive(Debug, Clone)]
pub enum HostKey {
    /// One that a `known_hosts` file lists.
    Known(KnownHosts),
    /// The one with this fingerprint, `SHA256:…` as ssh-keygen prints it.
    Fingerprint(String),
}

/// A session with a host whose key has been found right, not logged in yet. `timeout` is for each step.
pub fn connect(address: &Address, host_key: &HostKey, timeout: Duration) -> Result<Session, Error> {
    let unreachable = |what: String| Error::Unreachable(Failure::new(what));
    let places = (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| {
        let failure = Failure::new(format!("unknown host: {} ({error})", address.host));
        Error::Unreachable(failure.hint("is the name right, and does this machine's DNS know it?"))
    })?;
    let mut stream = Err(unreachable(format!("{} has no address", address.host)));
    for place in places {
        stream = TcpStream::connect_timeout(&place, timeout).map_err(|error| {
            let failure = Failure::new(format!("cannot reach {}:{}: {error}", address.host, address.port));
            Error::Unreachable(failure.hint("is the address right, and does a firewall let this host in?"))
        });
        if stream.is_ok() {
            break;
        }
    }
    let failed = |what: &str, error: &ssh2::Error| unreachable(format!("{what} {address} failed: {}", error.message()));
    let mut session = Session::new().map_err(|error| failed("an SSH session with", &error))?;
    session.set_tcp_stream(stream?);
    session.set_timeout(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
    if let HostKey::Known(known) = host_key {
        prefer(&session, &known.algorithms(&address.host, address.port))
            .map_err(|error| failed("the SSH handshake with", &error))?;
    }
    session.handshake().map_err(|error| failed("the SSH handshake with", &error))?;
    let Some((key, _)) = session.host_key() else {
        return Err(Error::HostKey(Failure::new(format!("{address} showed no host key"))));
    };
    check(address, host_key, key)?;
    Ok(session)
}

/// Asks for keys of the known algorithms before all others.
fn prefer(session: &Session, known: &[String]) -> Result<(), ssh2::Error> {
    let offered = session.supported_algs(MethodType::HostKey)?;
    let is_known = |name: &&str| {
        // One RSA key is used under three names, by the hash.
        let rsa = ["ssh-rsa", "rsa-sha2-256", "rsa-sha2-512"];
        known.iter().any(|known| known == name || (known == "ssh-rsa" && rsa.contains(name)))
    };
    let (first, rest): (Vec<&str>, Vec<&str>) = offered.iter().copied().partition(|name| is_known(name));
    let order: Vec<_> = first.into_iter().chain(rest).collect();
    session.method_pref(MethodType::HostKey, &order.join(","))
}

fn check(address: &Address, host_key: &HostKey, key: &[u8]) -> Result<(), Error> {
    let fingerprint = fingerprint(key);
    let wrong = |what: String, hint: &str| Err(Error::HostKey(Failure::new(what).hint(hint)));
    match host_key {
        HostKey::Fingerprint(wanted) if *wanted == fingerprint => Ok(()),
        HostKey::Fingerprint(wanted) => wrong(
            format!("{address} has the host key {fingerprint}, and {wanted} is wanted"),
            "find out whether the host was set up anew, or somebody stands in between",
        ),
        HostKey::Known(known) => match known.judge(&address.host, address.port, key) {
            Verdict::Known => Ok(()),
            Verdict::Unknown => wrong(
                format!("the host key of {address} is not known ({fingerprint})"),
                "compare the fingerprint with the host's own, then add it: ssh-keyscan, or one login by ssh",
            ),
            Verdict::Changed(place) => wrong(
                format!("the host key of {address} has changed: it is {fingerprint}, and {place} has another"),
                "find out whether the host was set up anew, or somebody stands in between; then ssh-keygen -R",
            ),
            Verdict::Revoked(place) => wrong(
                format!("the host key of {address} ({fingerprint}) is revoked by {place}"),
                "do not connect to it",
            ),
        },
    }
}

/// `SHA256:…`, as ssh-keygen prints it.
fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(openssl::sha::sha256(key)))
}

/// Logs in with a private key (PEM or OpenSSH's own format). Nothing else is done on the host.
pub fn authenticate(session: &Session, address: &Address, key: &[u8]) -> Result<(), Error> {
    let Ok(text) = std::str::from_utf8(key) else {
        return Err(Error::Key(Failure::new(format!("the key for {address} is no text: it is no private key"))));
    };
    match session.userauth_pubkey_memory(&address.user, None, text, None) {
        Ok(()) if session.authenticated() => Ok(()),
        Ok(()) => Err(rejected(address, "it wants more than a key")),
        Err(error) => match error.code() {
            ErrorCode::Session(code) if REJECTED.contains(&code) => Err(rejected(address, error.message())),
            // LIBSSH2_ERROR_FILE: the key could not be read.
            ErrorCode::Session(-16) => {
                let failure = Failure::new(format!("the key for {address} cannot be used: {}", error.message()));
                Err(Error::Key(failure.hint("is it a private key, and without a passphrase?")))
            }
            _ => Err(Error::Unreachable(Failure::new(format!("{address} broke off the login: {}", error.message())))),
        },
    }
}

fn rejected(address: &Address, why: &str) -> Error {
    let failure = Failure::new(format!("{address} does not take the key: {why}"));
    Error::Rejected(failure.hint("is its public half in the user's authorized_keys there?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, user, host, port, shown) in [
            ("ubuntu@35.83.114.196", "ubuntu", "35.83.114.196", 22, "ubuntu@35.83.114.196"),
            ("a@b:2222", "a", "b", 2222, "a@b:2222"),
            ("a@[::1]:2222", "a", "::1", 2222, "a@[::1]:2222"),
            ("a@[::1]", "a", "::1", 22, "a@[::1]"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address { user: user.into(), host: host.into(), port });
            assert_eq!(address.to_string(), shown);
        }
        for text in ["", "host", "@host", "a@", "a@b:x", "a@b:0", "a@b:70000", "a b@c"] {
            assert!(text.parse::<Address>().unwrap_err().contains("user@host:port"), "{text}");
        }
    }
}
