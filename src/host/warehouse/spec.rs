//! A plan file's entry under `connections:`.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use super::endpoint::{Endpoint, LOCAL};
use crate::host::secret::{Secret, SecretSource, optional_source};
use crate::host::ssh::Address;
use crate::plan::claim::Database;

/// How a warehouse is reached. Templates are evaluated already; a password inside the URL is taken out of it and
/// never shown, so there is no `Serialize` and `Debug` is safe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSpec {
    /// A libpq URL (`postgresql://user@host:5439/db?sslmode=…`) or key/value string (`host=… dbname=…`).
    pub url: Endpoint,
    /// Where the password comes from. Goes before one in the URL and before a password file.
    #[serde(default, deserialize_with = "optional_source")]
    pub password: Option<SecretSource>,
    /// Seconds for reaching the server and logging in; goes before the URL's own `connect_timeout`. 10 unless given.
    #[serde(default)]
    pub connect_timeout: Option<u32>,
    /// Seconds that the server may spend on one statement, waiting for locks included. 60 unless given; 0 is no limit.
    #[serde(default)]
    pub statement_timeout: Option<u32>,
    /// An SSH server that forwards to the warehouse, where there is no direct way.
    #[serde(default)]
    pub tunnel: Option<TunnelSpec>,
}

impl ConnectionSpec {
    /// The database that the connection of this name leads to.
    pub fn database(&self, connection: &str) -> Database {
        let mut addresses = self.url.addresses();
        // Behind a tunnel, `localhost` is the bastion.
        if let Some(tunnel) = &self.tunnel {
            let bastion = |host: String| if host == LOCAL { format!("{host} of {}", tunnel.ssh) } else { host };
            addresses = addresses.into_iter().map(|(host, port)| (bastion(host), port)).collect();
        }
        Database::Server { connection: connection.to_owned(), addresses, name: self.url.database() }
    }

    /// Every setting, for comparing: two connections with the same settings are the same, but for their passwords.
    pub fn settings(&self) -> serde_json::Value {
        // Taken apart, so that a setting that is added later cannot be forgotten here.
        let Self { url, password, connect_timeout, statement_timeout, tunnel } = self;
        let tunnel = tunnel.as_ref().map(|TunnelSpec { ssh, key }| json!({ "ssh": ssh.to_string(), "key": key }));
        json!({
            "url": url.settings,
            "password": password,
            "connect_timeout": connect_timeout,
            "statement_timeout": statement_timeout,
            "tunnel": tunnel,
        })
    }

    /// The password that stands in the URL itself.
    pub fn password_in_url(&self) -> Option<&Secret> {
        self.url.password.as_ref()
    }

    /// The files that are read when the connection is made.
    pub fn files(&self) -> Vec<PathBuf> {
        self.url.files().chain(self.tunnel.iter().map(|tunnel| tunnel.key.clone())).collect()
    }
}

/// An SSH server to go through.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelSpec {
    /// `user@host` or `user@host:port`.
    pub ssh: Address,
    /// The private key's file.
    pub key: PathBuf,
}
