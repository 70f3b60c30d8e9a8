//! An attempt to connect to a server, and why it failed, with hints. No text can contain a password: messages come from this program or
//! from the server, and neither has the password in clear text.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::{DbError as ServerError, Error};

use super::endpoint::{Server, SslMode};
use super::error::{DbError, NO_PASSWORD, server_text};
use crate::failure::Failure;
use crate::host::secret::{SecretSource, how_to_give};

/// An attempt to connect to one server.
pub(super) struct Attempt<'a> {
    pub connection: &'a str,
    pub server: &'a Server,
    pub user: &'a str,
    pub database: &'a str,
    pub mode: SslMode,
    /// Why a password file was ignored, or what may be wrong with the password.
    pub password_note: Option<&'a str>,
    /// The connection's own source of the password.
    pub password_source: Option<&'a SecretSource>,
}

impl Attempt<'_> {
    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("connection `{}`: {what}", self.connection))
    }

    pub fn timed_out(&self, seconds: u64) -> DbError {
        DbError::Silent(self.failure(&format!("{} did not answer within {seconds} s", self.server)).hint(
            "check the address, and whether a firewall or security group blocks this host; or raise `connect_timeout`",
        ))
    }

    /// Returns the error for a server that sends more before the login than any real server.
    pub fn too_much(&self, bytes: u64) -> DbError {
        let sent = format!("{} sends more than {} MiB before the login is done", self.server, bytes >> 20);
        DbError::Fatal(self.failure(&sent).hint("check that a PostgreSQL or Redshift server listens there"))
    }

    /// Returns why no byte stream to the server could be opened.
    pub fn cannot_reach(&self, error: &io::Error) -> DbError {
        self.unreachable(&error.to_string(), Some(error.kind()))
    }

    /// Returns the cause in the user's terms.
    pub fn classify(&self, error: &Error) -> DbError {
        if let Some(answer) = error.as_db_error() {
            return self.refused_login(answer);
        }
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        if error.to_string().starts_with("error performing TLS handshake") {
            return DbError::Fatal(self.tls(&cause));
        }
        if cause.contains("password missing") {
            let note = self.password_note.map(|note| format!("; {note}")).unwrap_or_default();
            return DbError::Fatal(
                self.failure(&format!("{} requires a password, but none is given{note}", self.server)).hint(match self
                    .password_source
                {
                    Some(source) => how_to_give(Some(source), "password"),
                    None => NO_PASSWORD.to_owned(),
                }),
            );
        }
        if cause.contains("unknown authentication tag `13`") {
            return DbError::Fatal(
                self.failure(&format!(
                    "{} uses a login protocol for user {} that only Amazon's own drivers support (the password is \
                     stored as `sha256|…`)",
                    self.server, self.user
                ))
                .hint(format!(
                    "store it as MD5: `ALTER USER {} PASSWORD 'md5…';` (md5 of the password followed by the user's name)",
                    self.user
                )),
            );
        }
        if cause.contains("unknown authentication tag") || cause.contains("unsupported authentication method") {
            return DbError::Fatal(
                self.failure(&format!(
                    "{} requires an unsupported authentication method (Kerberos, SSPI)",
                    self.server
                ))
                .hint("use a user with password authentication"),
            );
        }
        if cause.contains("channel binding") {
            let failure = self.failure(&format!("cannot log in to {}: {cause}", self.server));
            return DbError::Fatal(
                failure.hint("use sslmode=require or stronger, or remove channel_binding (poolers do not support it)"),
            );
        }
        if cause.contains("SASL") {
            return DbError::Fatal(self.failure(&format!("cannot log in to {}: {cause}", self.server)));
        }
        if cause.is_empty() && !error.is_closed() {
            // The library names no cause for a message that it did not expect.
            let failure = self.failure(&format!("{} does not speak PostgreSQL's protocol: {error}", self.server));
            return DbError::ConnectionLost(failure.hint("check that a PostgreSQL or Redshift server listens there"));
        }
        let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        self.unreachable(&cause, io.map(io::Error::kind))
    }

    /// The server cannot be reached, or closes the connection.
    fn unreachable(&self, cause: &str, kind: Option<io::ErrorKind>) -> DbError {
        let server = self.server;
        if cause.contains("failed to lookup address") || cause.contains("could not resolve any addresses") {
            return DbError::Fatal(
                self.failure(&format!("unknown host: {server} ({cause})"))
                    .hint("check the host name and the DNS of this machine (a private host may need a `tunnel`)"),
            );
        }
        let failure = match kind {
            Some(io::ErrorKind::ConnectionRefused) => self
                .failure(&format!("{server} refused the connection"))
                .hint("check that the server is running, and the port (PostgreSQL 5432, Redshift 5439)"),
            Some(io::ErrorKind::NotFound) => self
                .failure(&format!("no such socket: {server}"))
                .hint("check that the server is running on this machine"),
            Some(io::ErrorKind::PermissionDenied) => self.failure(&format!("{server}: {cause}")),
            Some(io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => self
                .failure(&format!("cannot reach {server}: {cause}"))
                .hint("check whether a firewall or security group blocks this host"),
            _ => self
                .failure(&format!("{server} closed the connection: {cause}"))
                .hint("check that a PostgreSQL or Redshift server listens there"),
        };
        DbError::ConnectionLost(failure)
    }

    fn tls(&self, cause: &str) -> Failure {
        let server = self.server;
        let name = server.name.as_deref().unwrap_or_default();
        if cause.contains("does not support TLS") {
            return self
                .failure(&format!(
                    "{server} does not support TLS, but the connection requires it ({})",
                    self.mode.word()
                ))
                .hint("enable TLS on the server, or use sslmode=disable if the network is trusted");
        }
        let (what, remedy) = if cause.contains("has expired") {
            ("has expired", "renew the server's certificate".to_owned())
        } else if cause.contains("not yet valid") {
            ("is not valid yet", "compare the clocks of this machine and the server".into())
        } else if cause.contains("ostname mismatch") || cause.contains("IP address mismatch") {
            ("is for another name", format!("connect with the name in the certificate instead of {name}"))
        } else if cause.contains("certificate signature failure")
            || cause.contains("self-signed")
            || cause.contains("self signed")
            || cause.contains("issuer certificate")
        {
            (
                "is not issued by a trusted authority",
                "set `sslrootcert` to the authority's certificate; for public authorities install ca-certificates"
                    .into(),
            )
        } else if cause.contains("certificate verify failed") {
            ("cannot be verified", "compare it with `sslrootcert`".into())
        } else {
            return self
                .failure(&format!("the TLS handshake with {server} failed: {cause}"))
                .hint("check that a PostgreSQL server with TLS listens there");
        };
        self.failure(&format!("the certificate of {server} {what} ({})", reason_of(cause))).hint(remedy)
    }

    fn refused_login(&self, answer: &ServerError) -> DbError {
        let (server, user, database) = (self.server, self.user, self.database);
        let text = answer.message();
        let note = self.password_note.map(|note| format!("; {note}")).unwrap_or_default();
        let fatal = |what: String, remedy: &str| DbError::Fatal(self.failure(&what).hint(remedy));
        if let Some((what, remedy)) = pooler_refusal(text, server, user, database) {
            return fatal(format!("{what}{note}"), &remedy);
        }
        match answer.code().code() {
            "28P01" => fatal(
                format!("wrong password for user {user} at {server}{note}"),
                "correct the connection's `password`, or the line in the password file",
            ),
            // Redshift reports 28000 for a wrong password.
            "28000" if text.contains("password") => fatal(
                format!("wrong password for user {user} at {server}{note}"),
                "correct the connection's `password`, or the line in the password file",
            ),
            "28000" if text.contains("no pg_hba.conf entry") => fatal(
                format!("{server} does not allow user {user} to connect to database {database} from this host: {text}"),
                "add a line to pg_hba.conf; if the message says `no encryption`, use sslmode=require or stronger",
            ),
            "28000" => fatal(format!("{server} rejected user {user}: {text}"), "create the user, or correct its name"),
            "3D000" => fatal(
                format!("database {database} does not exist at {server}"),
                "correct the database name at the end of the URL",
            ),
            "42501" => fatal(
                format!("user {user} is not allowed to connect to database {database} at {server}: {text}"),
                "grant CONNECT on it",
            ),
            "53300" => fatal(
                format!("{server} has too many connections: {text}"),
                "end idle sessions (pg_stat_activity, stv_sessions), or raise the limit",
            ),
            "57P03" | "57P01" | "57P02" => DbError::ConnectionLost(
                self.failure(&format!("{server} is not ready: {text}")).hint("wait until it has started"),
            ),
            _ => DbError::Fatal(self.failure(&format!("{server}: {}", server_text(answer)))),
        }
    }
}

/// Returns the meaning of what a pooler answers instead of a server, which has no SQLSTATE of its own. The texts are those of
/// PgBouncer and of Amazon RDS Proxy.
fn pooler_refusal(text: &str, server: &Server, user: &str, database: &str) -> Option<(String, String)> {
    if let Some(parameter) = text.strip_prefix("unsupported startup parameter: ") {
        // Only the name: PgBouncer appends the value of a parameter that it does not accept.
        let name: String =
            parameter.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
        return Some((
            format!("the pooler at {server} refuses `{name}`"),
            format!("remove `{name}` from the URL, or connect to the server without the pooler"),
        ));
    }
    if text.starts_with("unsupported startup parameter in options") || text.contains("command-line options") {
        return Some((
            format!("the pooler at {server} refuses `options`: {text}"),
            "remove `options` from the URL, or connect to the server without the pooler".to_owned(),
        ));
    }
    let wrong_password = ["SASL authentication failed", "auth failed", "password authentication failed"];
    if wrong_password.iter().any(|known| text.starts_with(known)) && !text.contains('"') {
        return Some((
            format!("wrong password for user {user} at {server}, or the pooler does not know the user"),
            "correct the connection's `password`, or add the user to the pooler's auth_file".to_owned(),
        ));
    }
    // PgBouncer passes on what the server answered, but not its SQLSTATE.
    if text.starts_with("role \"") && text.ends_with("does not exist") {
        return Some((
            format!("the database server behind {server} rejected user {user}: {text}"),
            "create the user on the database server, or correct its name".to_owned(),
        ));
    }
    if text.starts_with("no such user") {
        return Some((
            format!("the pooler at {server} does not know user {user}"),
            "correct the user, or add the user to the pooler's auth_file".to_owned(),
        ));
    }
    let no_database = text.starts_with("database \"") && text.ends_with("does not exist");
    if no_database || text.starts_with("no such database") || text.starts_with("database is disabled") {
        return Some((
            format!("database {database} does not exist at {server}"),
            "correct the database name at the end of the URL".to_owned(),
        ));
    }
    if text.starts_with("no more connections allowed") {
        return Some((
            format!("the pooler at {server} has too many clients: {text}"),
            "end idle clients, or raise max_client_conn of the pooler".to_owned(),
        ));
    }
    let unreachable = [
        "server login failed",
        "server login has been failing",
        "server connect failed",
        "pgbouncer cannot connect to server",
        "query_wait_timeout",
    ];
    if unreachable.iter().any(|known| text.starts_with(known)) {
        return Some((
            format!("the pooler at {server} gets no connection to its database server: {text}"),
            "check the server behind the pooler, and the log of the pooler".to_owned(),
        ));
    }
    None
}

/// Returns the reason in OpenSSL's text, which ends with `…:certificate verify failed:file.c:1889:: REASON`.
fn reason_of(cause: &str) -> &str {
    cause.rsplit(": ").next().unwrap_or(cause).trim()
}

/// Returns whether the second mode of `prefer` or `allow` is worth a try.
pub(super) fn is_worth_retrying(error: &Error) -> bool {
    let handshake = error.to_string().starts_with("error performing TLS handshake");
    handshake || error.as_db_error().is_some_and(|answer| answer.message().contains("no pg_hba.conf entry"))
}

impl SslMode {
    fn word(self) -> &'static str {
        match self {
            Self::Disable => "sslmode=disable",
            Self::Allow => "sslmode=allow",
            Self::Prefer => "sslmode=prefer",
            Self::Require => "sslmode=require",
            Self::VerifyCa => "sslmode=verify-ca",
            Self::VerifyFull => "sslmode=verify-full, the default for remote hosts",
        }
    }
}
