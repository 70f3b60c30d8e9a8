//! An entry under `connections:` in a plan file.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::endpoint::{Endpoint, LOCAL};
use crate::host::fs::check_absolute;
use crate::host::secret::{Origin, Secret, SecretSource, optional_source, written_out};
use crate::host::ssh::{Address, Fingerprint};
use crate::plan::claim::Database;

/// How to reach a warehouse. Templates are already evaluated. A password in the URL is extracted and never shown, so
/// there is no `Serialize`, and `Debug` is safe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSpec {
    /// A libpq URL (`postgresql://user@host:5439/db?sslmode=…`) or key/value string (`host=… dbname=…`, `service=…`).
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
        let tunnel = tunnel.as_ref().map(|TunnelSpec { ssh, key, host_key }| {
            let key = match key {
                KeySpec::File(path) => json!(path),
                KeySpec::Source(source) => json!(source),
            };
            json!({ "ssh": ssh.to_string(), "key": key, "host_key": host_key })
        });
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
        let key = self.tunnel.as_ref().and_then(|tunnel| match &tunnel.key {
            KeySpec::File(path) => Some(path.clone()),
            KeySpec::Source(_) => None,
        });
        self.url.files().chain(key).collect()
    }

    /// Whether the SSH server of the tunnel has to be in the `known_hosts` of the user who starts the run.
    pub fn needs_known_hosts(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.host_key.is_none())
    }

    /// Returns whether the password comes from a program, which may print another token each time.
    pub fn has_token(&self) -> bool {
        matches!(&self.password, Some(source) if matches!(source.origin, Origin::Command(_)))
    }

    /// Returns the source of the tunnel's key, if it has one.
    pub fn tunnel_key(&self) -> Option<&SecretSource> {
        match &self.tunnel.as_ref()?.key {
            KeySpec::File(_) => None,
            KeySpec::Source(source) => Some(source),
        }
    }
}

/// An SSH server to tunnel through.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelSpec {
    /// `user@host` or `user@host:port`.
    pub ssh: Address,
    pub key: KeySpec,
    /// The fingerprint of its host key. Without it, the server has to be in `known_hosts`.
    #[serde(default)]
    pub host_key: Option<Fingerprint>,
}

/// The private key of a tunnel, as the plan file gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySpec {
    File(PathBuf),
    Source(SecretSource),
}

impl<'de> Deserialize<'de> for KeySpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = KeySpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a private key, or a source: { env: NAME }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<KeySpec, E> {
                // A key that is written out must not get into a message.
                if text.trim_start().starts_with("-----BEGIN") {
                    return Err(E::custom(written_out()));
                }
                check_absolute(Path::new(text)).map_err(E::custom)?;
                Ok(KeySpec::File(text.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeySpec, A::Error> {
                SecretSource::deserialize(MapAccessDeserializer::new(map)).map(KeySpec::Source)
            }
        }
        from.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(url: &str, tunnel: Option<&str>) -> Database {
        let tunnel = tunnel.map(|ssh| json!({ "ssh": ssh, "key": "/k" }));
        let spec: ConnectionSpec = serde_json::from_value(json!({ "url": url, "tunnel": tunnel })).unwrap();
        spec.database("w")
    }

    #[test]
    fn spellings_of_one_server_are_the_same_database() {
        let database = |url| database(url, None);
        for (one, other, expected) in [
            ("postgresql://u@db.example/d", "host=DB.example. user=u dbname=d port=5432", true),
            ("postgresql://u@db.example:5433/d", "postgresql://u@db.example/d", false),
            ("postgresql://u@db.example/d", "postgresql://u@db.example/e", false),
            ("postgresql://u@localhost/d", "postgresql://u@[::1]/d", true),
            ("postgresql://u@127.0.0.1/d", "postgresql://u@[0:0:0:0:0:0:0:1]/d", true),
            ("postgresql://u@[2001:db8::1]/d", "postgresql://u@[2001:DB8:0:0::0:1]/d", true),
            ("postgresql://u@127.0.0.1/d", "postgresql://u@[::ffff:127.0.0.1]/d", true),
            ("postgresql://u@127.0.0.2/d", "postgresql://u@127.0.0.1/d", false),
            ("host=/var/run/postgresql user=u dbname=d", "postgresql://u@localhost/d", true),
            ("host=/run/postgresql/ user=u dbname=d", "host=/var/run/postgresql user=u dbname=d", true),
            ("host=/run/postgresql user=u dbname=d port=5433", "postgresql://u@localhost/d", false),
            ("host=db.example hostaddr=10.0.0.1 user=u dbname=d", "postgresql://u@10.0.0.1/d", true),
            ("postgresql://u@a.example,b.example/d", "postgresql://u@b.example/d", true),
            ("postgresql://u@db.example", "postgresql://x@db.example/u", true),
        ] {
            let (first, second) = (database(one), database(other));
            assert_eq!(first.is_same(&second), expected, "{one} {other}");
            assert_eq!(second.is_same(&first), expected, "{other} {one}");
        }
    }

    #[test]
    fn behind_a_tunnel_localhost_is_the_bastion() {
        let local = "postgresql://u@localhost/d";
        let behind = database(local, Some("u@bastion"));
        assert!(!behind.is_same(&database(local, None)) && !behind.is_same(&database(local, Some("u@other"))));
        assert!(behind.is_same(&database("postgresql://u@[::1]/d", Some("u@bastion"))));
        let far = "postgresql://u@10.0.0.1/d";
        assert!(database(far, Some("u@bastion")).is_same(&database(far, Some("u@other"))));
    }
}
