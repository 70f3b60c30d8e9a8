//! An entry under `connections:` in a plan file.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use super::endpoint::{Endpoint, LOCAL};
use crate::host::secret::{Secret, SecretSource, optional_source};
use crate::host::ssh::Address;
use crate::plan::claim::Database;

/// How to reach a warehouse. Templates are already evaluated. A password in the URL is extracted and never shown, so
/// there is no `Serialize`, and `Debug` is safe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSpec {
    /// A libpq URL (`postgresql://user@host:5439/db?sslmode=…`) or key/value string (`host=… dbname=…`).
    pub url: Endpoint,
    /// The source of the password. It takes precedence over the URL and over password files.
    #[serde(default, deserialize_with = "optional_source")]
    pub password: Option<SecretSource>,
    /// The time limit in seconds for connecting and logging in. It takes precedence over the URL's `connect_timeout`.
    /// The default is 10.
    #[serde(default)]
    pub connect_timeout: Option<u32>,
    /// The time limit in seconds for one statement, including waits for locks. The default is 60, and 0 means no limit.
    #[serde(default)]
    pub statement_timeout: Option<u32>,
    /// An SSH server that forwards to the warehouse, if it cannot be reached directly.
    #[serde(default)]
    pub tunnel: Option<TunnelSpec>,
}

impl ConnectionSpec {
    /// Returns the database that the connection leads to. `connection` is its name.
    pub fn database(&self, connection: &str) -> Database {
        let mut addresses = self.url.addresses();
        // Behind a tunnel, `localhost` is the bastion.
        if let Some(tunnel) = &self.tunnel {
            let bastion = |host: String| if host == LOCAL { format!("{host} of {}", tunnel.ssh) } else { host };
            addresses = addresses.into_iter().map(|(host, port)| (bastion(host), port)).collect();
        }
        Database::Server { connection: connection.to_owned(), addresses, name: self.url.database() }
    }

    /// Returns all settings for comparison. Two connections with the same settings differ at most in their passwords.
    pub fn settings(&self) -> serde_json::Value {
        // Destructured, so that a setting that is added later cannot be forgotten here.
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

    /// Returns the password in the URL.
    pub fn password_in_url(&self) -> Option<&Secret> {
        self.url.password.as_ref()
    }

    /// Returns the files that are read to open the connection.
    pub fn files(&self) -> Vec<PathBuf> {
        self.url.files().chain(self.tunnel.iter().map(|tunnel| tunnel.key.clone())).collect()
    }
}

/// An SSH server to tunnel through.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelSpec {
    /// `user@host` or `user@host:port`.
    pub ssh: Address,
    /// The file of the private key.
    pub key: PathBuf,
}
