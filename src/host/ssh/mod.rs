//! SSH by libssh2: connects to hosts with known keys, authenticates with a key, and forwards connections.
//!
//! The code blocks. Under tokio use [`Tunnel`] or `spawn_blocking`.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use ssh2::{ErrorCode, MethodType, Session};

mod address;
mod greeting;
mod key_pair;
mod keygen;
pub mod known_hosts;
mod openssh_format;
mod private_key;
#[cfg(test)]
pub mod private_key_tests;
mod prove;
mod sha256;
mod tunnel;
mod turn;

use crate::failure::Failure;
use crate::host::users::{acting_user, as_acting_user};
use crate::telemetry::spans;
use crate::text::{io_error_text, shell_word};
pub use address::{Address, Fingerprint};
use greeting::{Greeting, Offer};
use known_hosts::{KnownHosts, Verdict};
pub use private_key::{KeyRead, PublicFacts, UnusableKey, repaired};
pub use prove::prove;
pub use tunnel::{Tunnel, TunnelKey};

/// LIBSSH2_ERROR_AUTHENTICATION_FAILED: the server rejects the public half.
const AUTHENTICATION_FAILED: i32 = -18;
/// LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED: several causes, from a closed connection to a rejected signature.
const PUBLICKEY_UNVERIFIED: i32 = -19;
/// LIBSSH2_ERROR_FILE: the key could not be parsed.
const KEY_FILE: i32 = -16;
/// LIBSSH2_ERROR_OUT_OF_BOUNDARY: a packet is too large.
const OUT_OF_BOUNDARY: i32 = -41;
/// LIBSSH2_ERROR_SOCKET_DISCONNECT and LIBSSH2_ERROR_SOCKET_RECV: the host closed the connection.
const SOCKET_DISCONNECT: i32 = -13;
const SOCKET_RECV: i32 = -43;
/// What sshd answers in place of a greeting if too many others have not logged in yet: until and since OpenSSH 9.8.
const TOO_MANY_LOGINS: [&str; 2] = ["Exceeded MaxStartups", "Not allowed at this time"];
/// How often a connection that the host closed before its greeting is opened again.
const MAX_CUT_OFF: u32 = 2;
/// The pause before the first of these attempts. The second one is twice as long.
const CUT_OFF_PAUSE: Duration = Duration::from_millis(400);
/// LIBSSH2_ERROR_TIMEOUT.
const TIMEOUT: i32 = -9;
/// LIBSSH2_ERROR_KEX_FAILURE and LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE: there is no common algorithm.
const NO_COMMON_ALGORITHM: [i32; 2] = [-5, -8];

/// Why a connection or a login failed, with a variant for each case that callers handle differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The host closed the connection before the key was offered, or cannot be reached.
    Unreachable(Failure),
    /// The host did not answer within the time limit.
    Silent(Failure),
    /// The host and this program have no algorithm or protocol version in common, so no login can succeed.
    Incompatible(Failure),
    /// The host accepts the key and requires a further method of authentication, such as a password. The value names the
    /// methods.
    MoreRequired(String),
    /// The host key has changed, is revoked or is not the expected one. Nothing was sent to the host except the
    /// handshake.
    HostKey(Failure),
    /// The host key is unknown. Nothing was sent to the host except the handshake.
    UnknownHostKey(Failure),
    /// The host rejected the key, or closed the connection when it was offered.
    Rejected(Failure),
    /// The key cannot be used: it has a passphrase, or another format.
    Key(Failure),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::MoreRequired(methods) => {
                Failure::new(format!("the host accepts the key, but also requires {methods}")).hint(
                    "a run cannot enter that: exempt this user in the sshd_config of the host (Match User, AuthenticationMethods publickey)",
                )
            }
            Error::Unreachable(failure)
            | Error::Silent(failure)
            | Error::Incompatible(failure)
            | Error::HostKey(failure)
            | Error::UnknownHostKey(failure)
            | Error::Rejected(failure)
            | Error::Key(failure) => failure,
        }
    }
}

/// The requirement on a host key.
#[derive(Debug, Clone)]
pub enum HostKey {
    /// It is listed in a `known_hosts` file.
    Known(KnownHosts),
    /// It has this fingerprint.
    Fingerprint(Fingerprint),
}

/// Opens a session with a host and checks its key, without logging in. `timeout` applies to each protocol step.
pub fn connect(address: &Address, host_key: &HostKey, timeout: Duration) -> Result<Session, Error> {
    connect_watched(address, host_key, timeout, timeout, &|_| {})
}

/// Like [`connect`]. `connect_timeout` limits the time to connect to each address of the host. `watch` is called with each
/// connection before any data is exchanged.
fn connect_watched(
    address: &Address,
    host_key: &HostKey,
    connect_timeout: Duration,
    timeout: Duration,
    watch: &dyn Fn(&TcpStream),
) -> Result<Session, Error> {
    let span = spans::ssh_connect(&address.host, address.port.into());
    span.in_scope(|| handshake_until_known(address, host_key, connect_timeout, timeout, watch))
}

fn handshake_until_known(
    address: &Address,
    host_key: &HostKey,
    connect_timeout: Duration,
    timeout: Duration,
    watch: &dyn Fn(&TcpStream),
) -> Result<Session, Error> {
    let mut rejected: Vec<RejectedKey> = Vec::new();
    let mut cut_off = 0;
    loop {
        let stream = connect_tcp(address, connect_timeout)?;
        watch(&stream);
        let session = match handshake(address, host_key, timeout, stream, &rejected) {
            Ok(session) => session,
            // The host has no other host key.
            Err(error) if !rejected.is_empty() && has_no_common_algorithm(&error) => {
                return Err(other_key(address, &rejected));
            }
            // Other programs may log in there at this moment.
            Err(error) if is_cut_off(&error) && cut_off < MAX_CUT_OFF => {
                cut_off += 1;
                std::thread::sleep(CUT_OFF_PAUSE * cut_off);
                continue;
            }
            Err(error) => {
                let why = diagnose(address, connect_timeout, watch);
                return Err(why.unwrap_or_else(|| handshake_failed(address, error.message(), None)));
            }
        };
        let Some((key, _)) = session.host_key() else {
            return Err(Error::HostKey(Failure::new(format!("{address} sent no host key"))));
        };
        match host_key {
            HostKey::Known(known) => check(address, known, key)?,
            HostKey::Fingerprint(expected) if *expected == Fingerprint::of(key) => {}
            HostKey::Fingerprint(expected) => {
                // A host has one key for each algorithm, and shows the key of the negotiated algorithm.
                let key = RejectedKey {
                    algorithm: algorithm(key),
                    fingerprint: Fingerprint::of(key),
                    expected: expected.clone(),
                };
                let again = rejected.iter().any(|known| known.algorithm == key.algorithm);
                rejected.push(key);
                if again {
                    return Err(other_key(address, &rejected));
                }
                continue;
            }
        }
        return Ok(session);
    }
}

/// A host key that is not the expected one.
struct RejectedKey {
    algorithm: String,
    fingerprint: Fingerprint,
    expected: Fingerprint,
}

fn connect_tcp(address: &Address, timeout: Duration) -> Result<TcpStream, Error> {
    let places = (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| {
        let failure = Failure::new(format!("unknown host: {} ({})", address.host, io_error_text(&error)));
        Error::Unreachable(failure.hint("check the host name and the DNS of this machine"))
    })?;
    let mut stream = Err(Error::Unreachable(Failure::new(format!("{} has no address", address.host))));
    for place in places {
        stream = TcpStream::connect_timeout(&place, timeout).map_err(|error| {
            let failure =
                Failure::new(format!("cannot reach {}:{}: {}", address.host, address.port, io_error_text(&error)));
            let failure = failure.hint("check the address, and whether a firewall blocks this host");
            if error.kind() == ErrorKind::TimedOut { Error::Silent(failure) } else { Error::Unreachable(failure) }
        });
        if stream.is_ok() {
            break;
        }
    }
    stream
}

/// Performs the handshake. The algorithms of the rejected keys are not offered.
fn handshake(
    address: &Address,
    host_key: &HostKey,
    timeout: Duration,
    stream: TcpStream,
    rejected: &[RejectedKey],
) -> Result<Session, ssh2::Error> {
    let mut session = Session::new()?;
    session.set_tcp_stream(stream);
    session.set_timeout(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
    let offered = session.supported_algs(MethodType::HostKey)?;
    let offered: Vec<&str> = offered.into_iter().filter(|name| !is_certificate(name)).collect();
    let order = match host_key {
        HostKey::Known(known) => preferred(&offered, &known.algorithms(&address.host, address.port)),
        HostKey::Fingerprint(_) => {
            let left = offered.iter().filter(|name| !rejected.iter().any(|key| is_name_of(name, &key.algorithm)));
            left.copied().collect()
        }
    };
    session.method_pref(MethodType::HostKey, &order.join(","))?;
    session.handshake()?;
    Ok(session)
}

/// Sorts the known algorithms before all others.
fn preferred<'a>(offered: &[&'a str], known: &[String]) -> Vec<&'a str> {
    let (first, rest): (Vec<&str>, Vec<&str>) =
        offered.iter().partition(|name| known.iter().any(|known| is_name_of(name, known)));
    first.into_iter().chain(rest).collect()
}

/// Returns whether a signature name belongs to an algorithm. An RSA key is used under three names, depending on the
/// hash.
fn is_name_of(name: &str, algorithm: &str) -> bool {
    name == algorithm || (algorithm == "ssh-rsa" && ["rsa-sha2-256", "rsa-sha2-512"].contains(&name))
}

/// Returns the algorithm of a key in its wire form, which starts with the length and the name.
fn algorithm(key: &[u8]) -> String {
    let name = key.split_at_checked(4).and_then(|(length, rest)| {
        let length = u32::from_be_bytes(length.try_into().ok()?);
        rest.get(..usize::try_from(length).ok()?)
    });
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

fn handshake_failed(address: &Address, why: &str, hint: Option<&str>) -> Error {
    let failure = Failure::new(format!("the SSH handshake with {address} failed: {why}"));
    Error::Unreachable(match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// Connects once more to find out why a handshake failed. libssh2 has one error for most causes.
fn diagnose(address: &Address, timeout: Duration, watch: &dyn Fn(&TcpStream)) -> Option<Error> {
    let stream = connect_tcp(address, timeout).ok()?;
    watch(&stream);
    Some(match Greeting::read(stream, timeout)? {
        Greeting::Closed => handshake_failed(
            address,
            "it closed the connection at once",
            Some("run again; if it happens again, it has too many logins at a time (MaxStartups), or blocks this host"),
        ),
        Greeting::NotSsh(line) if TOO_MANY_LOGINS.iter().any(|text| line.starts_with(text)) => handshake_failed(
            address,
            &format!("it has too many logins at this moment: it answered `{line}`"),
            Some("run again; if it happens again, raise MaxStartups in the sshd_config of the host"),
        ),
        Greeting::NotSsh(line) => handshake_failed(
            address,
            &format!("it is not an SSH server: it answered `{line}`"),
            Some("check the host and the port"),
        ),
        Greeting::OldVersion(version) => Error::Incompatible(
            Failure::new(format!("{address} supports only version {version} of the SSH protocol"))
                .hint("update its SSH server"),
        ),
        Greeting::Offer(offer) => Error::Incompatible(no_common_algorithm(address, &offer)?),
    })
}

/// Returns the failure for the first kind of algorithm of which the host and this program have none in common.
fn no_common_algorithm(address: &Address, offer: &Offer) -> Option<Failure> {
    let session = Session::new().ok()?;
    for (kind, theirs, what, setting) in [
        (MethodType::Kex, &offer.key_exchange, "key exchange algorithm", "KexAlgorithms"),
        (MethodType::HostKey, &offer.host_key, "host key algorithm", "HostKeyAlgorithms"),
        (MethodType::CryptCs, &offer.cipher, "cipher", "Ciphers"),
        (MethodType::MacCs, &offer.mac, "MAC algorithm", "MACs"),
    ] {
        let ours: Vec<&str> =
            session.supported_algs(kind).ok()?.into_iter().filter(|name| !is_certificate(name)).collect();
        if ours.iter().any(|name| theirs.iter().any(|other| other == name)) {
            continue;
        }
        let theirs = theirs.join(", ");
        let message = if setting == "HostKeyAlgorithms" && !theirs.is_empty() && theirs.split(", ").all(is_certificate)
        {
            format!("{address} offers only host certificates ({theirs}), which are not supported here")
        } else {
            format!("{address} and provision have no {what} in common: the host offers {theirs}")
        };
        return Some(Failure::new(message).hint(format!(
            "provision supports fewer algorithms than ssh: add one of these to {setting} in the sshd_config of the host: {}",
            ours.join(", ")
        )));
    }
    None
}

/// Returns whether an algorithm is for host certificates. A certificate is not in `known_hosts`, and people cannot compare it.
fn is_certificate(name: &str) -> bool {
    name.contains("-cert-v")
}

/// Returns whether the host closed the connection before its greeting.
fn is_cut_off(error: &ssh2::Error) -> bool {
    let is_closed = matches!(error.code(), ErrorCode::Session(SOCKET_DISCONNECT | SOCKET_RECV));
    is_closed && error.message().contains("banner")
}

fn has_no_common_algorithm(error: &ssh2::Error) -> bool {
    matches!(error.code(), ErrorCode::Session(code) if NO_COMMON_ALGORITHM.contains(&code))
}

fn other_key(address: &Address, rejected: &[RejectedKey]) -> Error {
    let keys: Vec<String> = rejected.iter().map(|key| key.fingerprint.to_string()).collect();
    let expected = rejected.first().map(|key| key.expected.to_string()).unwrap_or_default();
    let failure = Failure::new(format!("{address} has the host key {}, expected {expected}", keys.join(" and ")));
    Error::HostKey(failure.hint("check whether the host was reinstalled; if not, the connection may be intercepted"))
}

fn check(address: &Address, known: &KnownHosts, key: &[u8]) -> Result<(), Error> {
    let fingerprint = Fingerprint::of(key);
    let wrong = |what: String, hint: &str| Err(Error::HostKey(Failure::new(what).hint(hint)));
    match known.check(&address.host, address.port, key) {
        Verdict::Known => Ok(()),
        Verdict::Unknown => {
            let (host, port, files) = (&address.host, address.port, known.files());
            let what = format!("the host key of {address} is unknown ({fingerprint})");
            if let Some(place) = known.authority(host, port) {
                return Err(Error::UnknownHostKey(Failure::new(what).hint(format!(
                    "{place} names a certificate authority for it, and host certificates are not supported here: compare the fingerprint with the host's own, then add the key to {}",
                    known.first_file()
                ))));
            }
            let failure = Failure::new(format!("{what}: {} does not find it in {files}", acting_user()));
            let directory = known.missing_directory().map(|path| format!("install -d -m 700 {path} && "));
            let scan = format!(
                "{}ssh-keyscan -p {port} {} >> {}",
                directory.unwrap_or_default(),
                shell_word(host),
                known.first_file()
            );
            Err(Error::UnknownHostKey(failure.hint(format!(
                "compare the fingerprint with the host's own, then add the key: `{}`",
                as_acting_user(&scan)
            ))))
        }
        Verdict::Changed(place) => {
            let remove = known_hosts::removal(&place, &address.host, address.port);
            wrong(
                format!("the host key of {address} has changed: it is {fingerprint}, but {place} lists another"),
                &format!(
                    "if the host was reinstalled, remove the old key: `{remove}`; if not, the connection may be intercepted"
                ),
            )
        }
        Verdict::Revoked(place) => {
            wrong(format!("the host key of {address} ({fingerprint}) is revoked by {place}"), "do not connect to it")
        }
    }
}

/// Logs in with a private key (PEM or OpenSSH format). Does nothing else on the host.
pub fn authenticate(session: &Session, address: &Address, key: &[u8]) -> Result<(), Error> {
    let Ok(text) = std::str::from_utf8(key) else {
        return Err(Error::Key(Failure::new(format!("the key for {address} is not a private key: it is not text"))));
    };
    spans::ssh_auth(&address.user).in_scope(|| {
        let methods = match session.auth_methods(&address.user) {
            Ok(methods) => methods.to_owned(),
            Err(error) if is_too_large(&error) => return Err(too_large(address)),
            Err(_) => String::new(),
        };
        if !methods.is_empty() && !methods.split(',').any(|method| method == PUBLIC_KEY) {
            return Err(Error::Rejected(
                Failure::new(format!("{address} offers no login with a key; it offers {}", methods.replace(',', ", ")))
                    .hint("allow it in the sshd_config of the host: PubkeyAuthentication yes"),
            ));
        }
        // The binding and libssh2 make copies of the text that they do not wipe. Those end with this process.
        match session.userauth_pubkey_memory(&address.user, None, text, None) {
            Ok(()) if session.authenticated() => Ok(()),
            Ok(()) => Err(Error::MoreRequired(further_methods(session, address))),
            // The host accepted the key but not the login. OpenSSH gives root the same answer if root is not allowed to log
            // in.
            Err(error) if is_refused_after_signature(&error) => match further_methods(session, address) {
                again if again == SECOND_KEY && address.user == "root" => Err(rejected(
                    address,
                    "it accepts the key, but does not let root in (see PermitRootLogin in its sshd_config)",
                )),
                further => Err(Error::MoreRequired(further)),
            },
            Err(error) => Err(login_failed(address, &error)),
        }
    })
}

/// The name of the method (RFC 4252, section 7).
const PUBLIC_KEY: &str = "publickey";
const SECOND_KEY: &str = "a second key";

/// Returns the methods of which the host requires one after a key.
fn further_methods(session: &Session, address: &Address) -> String {
    match session.auth_methods(&address.user) {
        Ok(methods) if methods == PUBLIC_KEY => SECOND_KEY.to_owned(),
        Ok(methods) if !methods.is_empty() => methods.replace(',', " or "),
        _ => "a further method".to_owned(),
    }
}

/// libssh2 has this text for every refusal after a signature. That includes a partial success (RFC 4252, section 5.1).
fn is_refused_after_signature(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(PUBLICKEY_UNVERIFIED) && error.message().starts_with("Invalid signature")
}

fn is_too_large(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(OUT_OF_BOUNDARY)
}

/// libssh2 reads no packet of more than 40,000 bytes.
fn too_large(address: &Address) -> Error {
    let failure = Failure::new(format!("{address} sends a message of more than 40,000 bytes before the login"));
    Error::Unreachable(failure.hint("shorten the login banner of the host: `Banner` in its sshd_config"))
}

/// libssh2 uses one code for several outcomes, which only its texts distinguish.
fn login_failed(address: &Address, error: &ssh2::Error) -> Error {
    let text = error.message();
    let code = match error.code() {
        ErrorCode::Session(code) => code,
        ErrorCode::SFTP(_) => 0,
    };
    match code {
        AUTHENTICATION_FAILED => rejected(address, text),
        OUT_OF_BOUNDARY => too_large(address),
        TIMEOUT => Error::Silent(Failure::new(format!("{address} did not answer when the key was offered"))),
        KEY_FILE => unusable(address, text),
        PUBLICKEY_UNVERIFIED if text.starts_with("Callback") || text.starts_with("Invalid public key") => {
            unusable(address, text)
        }
        // OpenSSH does this when MaxAuthTries is reached.
        _ => Error::Rejected(
            Failure::new(format!("{address} closed the connection when the key was offered: {text}"))
                .hint("run again; if it happens again, the server rejects the key"),
        ),
    }
}

fn unusable(address: &Address, why: &str) -> Error {
    let failure = Failure::new(format!("cannot use the key for {address}: {why}"));
    Error::Key(failure.hint("check that it is a private key without a passphrase"))
}

fn rejected(address: &Address, why: &str) -> Error {
    let failure = Failure::new(format!("{address} rejected the key: {why}"));
    // A server does not say more: a locked account and an unknown key look the same to a client (RFC 4252, section
    // 5.1).
    Error::Rejected(failure.hint(format!(
        "check that its public half is in the authorized_keys of {} there, and that this user may log in (locked, AllowUsers)",
        address.user
    )))
}
