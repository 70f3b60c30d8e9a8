//! Parses the endpoint of a warehouse from a libpq URL or key/value string.
//!
//! The keys are those of libpq (<https://www.postgresql.org/docs/current/libpq-connect.html>, sections 34.1.1 and
//! 34.1.2). tokio-postgres parses most of them. The others (verifying TLS modes, certificates, password files) are
//! extracted first. Of the `PG*` environment variables only `PGPASSFILE` is used. Messages never contain a value,
//! because it could be a misplaced password.

use crate::text::nearest;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::failure::Failure;
use crate::host::fs::acting_ids;
use crate::host::secret::Secret;
use crate::host::users::User;

/// The keys that tokio-postgres parses.
const PASSED_ON: &[&str] = &[
    "user",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];
/// The keys that are parsed here.
const OWN: &[&str] = &["password", "sslmode", "sslrootcert", "sslcert", "sslkey", "passfile", "keepalives_count"];

/// The keys of libpq that are not supported.
const UNSUPPORTED: &[&str] = &[
    "service",
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "sslpassword",
    "sslsni",
];

/// The address that stands for this machine.
pub(super) const LOCAL: &str = "127.0.0.1";

/// The address of a server, the login and the TLS settings. A password is only in a [`Secret`].
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    /// All settings except the password and the TLS mode.
    pub(super) config: Config,
    pub(super) password: Option<Secret>,
    pub(super) sslmode: Option<SslMode>,
    pub(super) root_cert: Option<RootCert>,
    /// The client certificate and its key.
    pub(super) client_cert: Option<(PathBuf, PathBuf)>,
    pub(super) passfile: Option<PathBuf>,
    /// All settings except the password as they were given, for comparison with a saved plan.
    pub(super) settings: BTreeMap<String, String>,
}

/// libpq's `sslmode`, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    Disable,
    /// Unencrypted, but encrypted if the server requires it.
    Allow,
    /// Encrypted, but unencrypted if the server does not support TLS.
    Prefer,
    /// Encrypted, without verifying the server.
    Require,
    /// The certificate has to be issued by a trusted authority.
    VerifyCa,
    /// The certificate also has to match the host name.
    VerifyFull,
}

/// The trusted certificate authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCert {
    System,
    File(PathBuf),
}

/// One of the servers in a connection string.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub host: Host,
    /// The host name for the certificate. `None` for a Unix socket.
    pub name: Option<String>,
    pub port: u16,
}

impl Endpoint {
    /// Returns the servers in the order in which they are tried.
    pub(super) fn servers(&self) -> Vec<Server> {
        let ports = self.config.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let addresses = self.config.get_hostaddrs();
        let count = self.config.get_hosts().len().max(addresses.len());
        (0..count)
            .filter_map(|at| {
                let named = self.config.get_hosts().get(at);
                let host = match (addresses.get(at), named) {
                    (Some(address), _) => Host::Tcp(address.to_string()),
                    (None, Some(host)) => host.clone(),
                    (None, None) => return None,
                };
                let name = match named {
                    Some(Host::Tcp(name)) => Some(name.clone()),
                    Some(Host::Unix(_)) => None,
                    None => addresses.get(at).map(ToString::to_string),
                };
                Some(Server { host, name, port: port(at) })
            })
            .collect()
    }

    /// Returns all addresses and ports of the servers: host names in lower case and IP addresses.
    pub(super) fn addresses(&self) -> BTreeSet<(String, u16)> {
        let one = |name: &str| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            if name == "localhost" { LOCAL.to_owned() } else { name }
        };
        let mut addresses = BTreeSet::new();
        for server in self.servers() {
            let host = match &server.host {
                Host::Tcp(host) => one(host),
                Host::Unix(folder) => folder.display().to_string(),
            };
            addresses.insert((host, server.port));
            addresses.extend(server.name.as_deref().map(|name| (one(name), server.port)));
        }
        addresses
    }

    /// Returns the files that are read to open a connection.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let root = self.root_cert.iter().filter_map(|root| match root {
            RootCert::File(path) => Some(path.clone()),
            RootCert::System => None,
        });
        let client = self.client_cert.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]);
        root.chain(client).chain(self.passfile.clone()).filter(|path| path.is_absolute())
    }

    /// Returns the user of the connection string, or else the user of this process.
    pub(super) fn user(&self) -> String {
        let own = || User::by_id(acting_ids().0).ok().flatten().map(|user| user.name);
        self.config.get_user().map(str::to_owned).or_else(own).unwrap_or_default()
    }

    /// Returns the database of the connection string, or else the one with the user's name.
    pub(super) fn database(&self) -> String {
        self.config.get_dbname().map_or_else(|| self.user(), str::to_owned)
    }
}

impl Server {
    /// Returns whether data sent to the server stays on this machine. The host name decides if there is one: a loopback
    /// address with another name may be a forwarded port.
    pub fn is_local(&self) -> bool {
        match (&self.host, &self.name) {
            (Host::Unix(_), _) => true,
            (Host::Tcp(_), Some(name)) if name == "localhost" => true,
            (Host::Tcp(host), name) => {
                name.as_ref().unwrap_or(host).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Unix(folder) => write!(f, "{}/.s.PGSQL.{}", folder.display(), self.port),
            Host::Tcp(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Host::Tcp(host) => write!(f, "{}:{}", self.name.as_deref().unwrap_or(host), self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers().iter().map(ToString::to_string).collect();
        write!(f, "Endpoint({}@{}/{})", self.user(), servers.join(","), self.database())
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self, Failure> {
        text.parse()
    }
}

impl std::str::FromStr for Endpoint {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let pairs = match text.split_once("://") {
            Some(("postgresql" | "postgres", rest)) => url_pairs(rest)?,
            Some((scheme, _))
                if scheme.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"+:-.".contains(&letter)) =>
            {
                return Err(format!("a connection URL starts with postgresql://, not {scheme}://").into());
            }
            _ => key_value_pairs(text)?,
        };
        let mut settings = BTreeMap::new();
        for (key, value) in pairs {
            if !OWN.contains(&key.as_str()) && !PASSED_ON.contains(&key.as_str()) {
                return Err(unknown_key(&key).into());
            }
            settings.insert(key, value);
        }
        let given: BTreeMap<_, _> = settings
            .iter()
            .filter(|(key, _)| *key != "password")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let mut own = |key: &str| settings.remove(key).filter(|value| !value.is_empty());
        let password = own("password").map(|password| Secret::new(password.into_bytes()));
        let sslmode = own("sslmode").map(|mode| ssl_mode(&mode)).transpose()?;
        let root_cert = own("sslrootcert").map(|value| match value.as_str() {
            "system" => RootCert::System,
            _ => RootCert::File(value.into()),
        });
        if root_cert == Some(RootCert::System) && sslmode.is_some_and(|mode| mode < SslMode::VerifyFull) {
            return Err("`sslrootcert=system` needs `sslmode=verify-full`: anyone can get a certificate from a public authority".into());
        }
        let client_cert = match (own("sslcert"), own("sslkey")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => return Err("`sslcert` and `sslkey` have to be given together".into()),
        };
        let passfile = own("passfile").map(PathBuf::from);
        // libpq uses the name `keepalives_count`, and tokio-postgres `keepalives_retries`.
        if let Some(count) = own("keepalives_count") {
            settings.insert("keepalives_retries".into(), count);
        }
        settings.retain(|_, value| !value.is_empty());
        let keys: Vec<_> = settings.iter().map(|(key, value)| format!("{key}='{}'", escaped(value))).collect();
        let mut config: Config = keys.join(" ").parse().map_err(|error| invalid(&error))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("the connection has no host: write postgresql://USER@HOST:PORT/DATABASE".into());
        }
        let (hosts, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
        if hosts > 0 && addresses > 0 && hosts != addresses {
            return Err(format!("`host` lists {hosts} servers and `hostaddr` lists {addresses}").into());
        }
        if config.get_ports().len() > 1 && config.get_ports().len() != hosts.max(addresses) {
            return Err("`port` lists neither one port nor one for each host".into());
        }
        if config.get_application_name().is_none() {
            config.application_name("provision");
        }
        if !settings.contains_key("keepalives_idle") {
            // The kernel's default of two hours exceeds the idle timeout of most firewalls.
            config.keepalives_idle(Duration::from_secs(60));
        }
        Ok(Self { config, password, sslmode, root_cert, client_cert, passfile, settings: given })
    }
}

fn unknown_key(key: &str) -> String {
    if key == "service" {
        return "the connection option `service` is not supported: copy its settings from pg_service.conf".into();
    }
    if UNSUPPORTED.contains(&key) {
        return format!("the connection option `{key}` is not supported: remove it");
    }
    match nearest(key, OWN.iter().chain(PASSED_ON).copied()) {
        // The word may be part of a password with an unescaped `@` or `?`, so it is not repeated.
        None => "the connection string has an unknown option (escape any `@`, `?` or `=` in the password)".into(),
        Some(known) => format!("unknown connection option `{key}`: did you mean `{known}`?"),
    }
}

fn ssl_mode(word: &str) -> Result<SslMode, String> {
    Ok(match word {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => return Err("`sslmode` has to be one of disable, allow, prefer, require, verify-ca, verify-full".into()),
    })
}

/// Returns the message for an error of tokio-postgres. Its text contains the key but never the value.
fn invalid(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match cause.strip_prefix("invalid value for option ") {
        Some(key) => format!("the connection option {key} has an invalid value"),
        None => "the connection string is invalid".into(),
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "\\'")
}

/// Parses what follows `postgresql://`: `[user[:password]@][host[:port][,…]][/database][?key=value&…]`.
fn url_pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut set = |key: &str, value: &str| -> Result<(), String> {
        if !value.is_empty() {
            pairs.push((key.to_owned(), decoded(key, value)?));
        }
        Ok(())
    };
    // As in libpq, an @ before the first slash ends the login. The last one counts, so an @ in a password is accepted.
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let login_end = rest[..authority_end].rfind('@');
    let rest = match login_end {
        Some(end) => {
            let (user, password) = rest[..end].split_once(':').unwrap_or((&rest[..end], ""));
            set("user", user)?;
            set("password", password)?;
            &rest[end + 1..]
        }
        None => rest,
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    if database.contains('@') {
        return Err(
            "the URL has an @ after its first `/`: write `/` in a password as %2F, and @ in a name as %40".into()
        );
    }
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for server in authority.split(',') {
        let (host, port) = match server.strip_prefix('[') {
            Some(address) => {
                let (address, rest) = address.split_once(']').ok_or("an IPv6 address in the URL has no `]`")?;
                (address, rest.strip_prefix(':').unwrap_or(rest))
            }
            None => server.split_once(':').unwrap_or((server, "")),
        };
        if !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err("the URL's port is not a number (write `/`, `@` or `:` in a password as %2F, %40, %3A)".into());
        }
        hosts.push(host);
        ports.push(port);
    }
    set("host", &hosts.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        let ports: Vec<_> = ports.iter().map(|port| if port.is_empty() { "5432" } else { port }).collect();
        set("port", &ports.join(","))?;
    }
    set("dbname", database)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("an option in the URL has no `=`")?;
        pairs.push((decoded("option", key)?, decoded(key, value)?));
    }
    Ok(pairs)
}

fn decoded(key: &str, value: &str) -> Result<String, String> {
    // The decoder would accept a lone %. libpq rejects it, because the result would not be the intended password.
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!("the URL's {key} has a % that does not start an escape: write it as %25"));
        }
        rest = &rest[at + 3..];
    }
    let decoded = percent_decode_str(value).decode_utf8().map_err(|_| format!("the URL's {key} is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// Parses `key = value key='quoted value'`, with backslash escapes as in libpq.
fn key_value_pairs(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs = Vec::new();
    let mut letters = text.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(letter) = letters.next_if(|letter| *letter != '=' && !letter.is_whitespace()) {
            key.push(letter);
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.next() != Some('=') {
            return Err(Failure::new("the connection is neither a postgresql:// URL nor a list of key=value")
                .hint("write postgresql://USER@HOST:PORT/DATABASE"));
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let quoted = letters.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match letters.next() {
                Some('\'') if quoted => break,
                Some('\\') => value.extend(letters.next()),
                Some(letter) if !quoted && letter.is_whitespace() => break,
                Some(letter) => value.push(letter),
                None if quoted => return Err(format!("a quotation mark after `{key}=` is not closed").into()),
                None => break,
            }
        }
        pairs.push((key, value));
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
