//! Parses the endpoint of a warehouse from a libpq URL or key/value string.
//!
//! The keys are those of libpq (<https://www.postgresql.org/docs/current/libpq-connect.html>, sections 34.1.1 and
//! 34.1.2). tokio-postgres parses most of them. The others (verifying TLS modes, certificates, password files) are
//! extracted first. What the string leaves out is added by [`super::ClientDefaults`]. Messages never contain a value,
//! because it could be a misplaced password.

use crate::text::nearest;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host};

use super::connection_string::{key_value_pairs, rewritten, url_pairs};
use super::session_attrs::SessionAttrs;
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
    "channel_binding",
    "load_balance_hosts",
];
/// The keys that are parsed here.
const OWN: &[&str] = &[
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "passfile",
    "service",
    "keepalives_count",
    "target_session_attrs",
];

/// The keys of libpq that are not supported.
const UNSUPPORTED: &[&str] = &[
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
    "servicefile",
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
/// The directories in which servers of this host have their sockets.
const DEFAULT_SOCKETS: [&str; 3] = ["/run/postgresql", "/var/run/postgresql", "/tmp"];

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
    pub(super) session_attrs: SessionAttrs,
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

    /// Returns all addresses and ports of the servers: host names in lower case and IP addresses. This machine has one address. A
    /// socket of a server is on this machine, and is named after the server's port.
    pub(super) fn addresses(&self) -> BTreeSet<(String, u16)> {
        let one = |name: &str| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            match name.parse::<std::net::IpAddr>().map(|address| address.to_canonical()) {
                Ok(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)) => LOCAL.to_owned(),
                Ok(address) => address.to_string(),
                Err(_) if name == "localhost" => LOCAL.to_owned(),
                Err(_) => name,
            }
        };
        let mut addresses = BTreeSet::new();
        for server in self.servers() {
            let host = match &server.host {
                Host::Tcp(host) => one(host),
                Host::Unix(folder) if DEFAULT_SOCKETS.iter().any(|known| folder == Path::new(known)) => {
                    LOCAL.to_owned()
                }
                // It may belong to a server in a container, or be a tunnel to another host.
                Host::Unix(folder) => folder.components().collect::<PathBuf>().display().to_string(),
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
        let mut pairs = match text.split_once("://") {
            Some(("postgresql" | "postgres", rest)) => url_pairs(rest)?,
            Some((scheme, rest))
                if scheme.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"+:-._".contains(&letter)) =>
            {
                let failure = Failure::new(format!("a connection URL starts with postgresql://, not {scheme}://"));
                return Err(match rewritten(scheme, rest) {
                    Some(url) => failure.hint(format!("write {url}")),
                    None => failure,
                });
            }
            _ => key_value_pairs(text)?,
        };
        translate_ssl(&mut pairs, text.contains("://"))?;
        let mut settings = BTreeMap::new();
        let mut password = None;
        for (key, value) in pairs {
            if !is_known_key(&key) {
                return Err(unknown_key(&key).into());
            }
            if key == "password" {
                password = Some(Secret::new(value.into_bytes())).filter(|password| !password.expose().is_empty());
            } else {
                settings.insert(key, value);
            }
        }
        Self::new(settings, password)
    }
}

impl Endpoint {
    /// Creates an endpoint of settings with known keys. It may still be incomplete.
    pub(super) fn new(mut settings: BTreeMap<String, String>, password: Option<Secret>) -> Result<Self, Failure> {
        let given = settings.clone();
        let mut own = |key: &str| settings.remove(key).filter(|value| !value.is_empty());
        for key in ["sslrootcert", "sslcert", "sslkey", "passfile"] {
            // The value is not shown, because it could be a misplaced password.
            if given.get(key).is_some_and(|path| !path.is_empty() && !path.starts_with('/') && path != "system") {
                return Err(Failure::new(format!("`{key}` is not an absolute path: a path starts with `/`")));
            }
        }
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
        let _service = own("service");
        let passfile = own("passfile").map(PathBuf::from);
        let session_attrs = own("target_session_attrs").map(|word| word.parse()).transpose()?.unwrap_or_default();
        // libpq uses the name `keepalives_count`, and tokio-postgres `keepalives_retries`.
        if let Some(count) = own("keepalives_count") {
            settings.insert("keepalives_retries".into(), count);
        }
        settings.retain(|_, value| !value.is_empty());
        let keys: Vec<_> = settings.iter().map(|(key, value)| format!("{key}='{}'", escaped(value))).collect();
        let mut config: Config = keys.join(" ").parse().map_err(|error| invalid(&error))?;
        if config.get_channel_binding() == ChannelBinding::Require && sslmode == Some(SslMode::Disable) {
            return Err(Failure::new("`channel_binding=require` needs TLS, which `sslmode=disable` turns off")
                .hint("use sslmode=require or stronger, or remove channel_binding"));
        }
        let (hosts, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
        if hosts > 0 && addresses > 0 && hosts != addresses {
            return Err(format!("`host` lists {hosts} servers and `hostaddr` lists {addresses}").into());
        }
        if hosts.max(addresses) > 0 && config.get_ports().len() > 1 && config.get_ports().len() != hosts.max(addresses)
        {
            return Err("`port` lists neither one port nor one for each host".into());
        }
        if config.get_application_name().is_none() {
            config.application_name("provision");
        }
        if !settings.contains_key("keepalives_idle") {
            // The kernel's default of two hours exceeds the idle timeout of most firewalls.
            config.keepalives_idle(Duration::from_secs(60));
        }
        Ok(Self { config, password, sslmode, root_cert, client_cert, passfile, session_attrs, settings: given })
    }
}

/// Translates `ssl=true` of JDBC URLs as libpq does. Other values of other programs have an equivalent.
fn translate_ssl(pairs: &mut Vec<(String, String)>, is_url: bool) -> Result<(), String> {
    let Some(at) = pairs.iter().position(|(key, _)| key == "ssl") else { return Ok(()) };
    let (_, value) = pairs.remove(at);
    if !(is_url && value == "true") {
        let mode = if ["false", "disable"].contains(&value.as_str()) { "disable" } else { "require" };
        return Err(format!("`ssl` is not a connection option: write sslmode={mode}"));
    }
    if !pairs.iter().any(|(key, _)| key == "sslmode") {
        pairs.push(("sslmode".into(), "require".into()));
    }
    Ok(())
}

/// Returns whether the key is supported.
pub(super) fn is_known_key(key: &str) -> bool {
    OWN.contains(&key) || PASSED_ON.contains(&key)
}

/// Returns the message for a key that is not supported.
pub(super) fn unknown_key(key: &str) -> String {
    if UNSUPPORTED.contains(&key) {
        return format!("the connection option `{key}` is not supported: remove it");
    }
    match nearest(key, OWN.iter().chain(PASSED_ON).copied()) {
        // The word may be part of a password with an unescaped `@` or `?`, so it is not repeated.
        None => "the connection string has an unknown option (write `@`, `?`, `&` and `=` in a password as %40, %3F, %26 and \
                 %3D)"
            .into(),
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

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
