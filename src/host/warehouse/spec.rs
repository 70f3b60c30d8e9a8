//! A plan file's entry under `connections:`.

use std::path::PathBuf;

use serde::Deserialize;

use super::endpoint::Endpoint;
use crate::host::secret::{SecretSource, optional_source};
use crate::host::ssh::Address;

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

/// An SSH server to go through.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelSpec {
    /// `user@host` or `user@host:port`.
    pub ssh: Address,
    /// The private key's file.
    pub key: PathBuf,
}
