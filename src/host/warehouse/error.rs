//! What the server and the way to it can answer, each with its remedy. No text here can hold a password: the
//! messages are our own or the server's, and neither has ever seen it in clear.

use std::error::Error as _;
use std::io;
use std::time::Instant;

use tokio_postgres::error::{DbError as ServerError, Error, SqlState};

use super::endpoint::{Server, SslMode};
use crate::failure::Failure;
use crate::host::secret::{SecretSource, how_to_give};

/// A failure, and what it leaves to do.
#[derive(Debug)]
pub(super) enum DbError {
    /// The connection is gone. Whether the statement was carried out can only be read back.
    ConnectionLost(Failure),
    /// Nothing was answered in the time that there was. It is not asked again: that would be waited for as long.
    Silent(Failure),
    /// Another session was in the way. Reading again and trying again may help.
    Conflict(Failure),
    /// Something has the name already. A new reading shows what, unless it is hidden.
    Exists(Failure),
    /// Trying again would end the same way.
    Fatal(Failure),
}

impl DbError {
    /// What went wrong.
    pub fn message(&self) -> &str {
        match self {
            Self::ConnectionLost(failure)
            | Self::Silent(failure)
            | Self::Conflict(failure)
            | Self::Exists(failure)
            | Self::Fatal(failure) => &failure.message,
        }
    }

    pub fn into_failure(self) -> Failure {
        match self {
            Self::ConnectionLost(failure)
            | Self::Silent(failure)
            | Self::Conflict(failure)
            | Self::Exists(failure)
            | Self::Fatal(failure) => failure,
        }
    }

    /// Whether trying again may help, and there is time for it.
    pub fn is_worth_waiting(&self, deadline: Option<Instant>) -> bool {
        matches!(self, Self::ConnectionLost(_) | Self::Conflict(_))
            && deadline.is_none_or(|deadline| Instant::now() < deadline)
    }
}

/// Conflicts that come as `XX000` (internal error), so that only their text tells: the first two are Redshift's, the
/// third and fourth meet catalog reads beside a DROP, the last is PostgreSQL's answer to two GRANTs at once.
const CONFLICT_TEXTS: &[&str] = &[
    "conflict with concurrent transaction",
    "Serializable isolation violation",
    "could not open relation with OID",
    "cache lookup failed for",
    "tuple concurrently updated",
];

/// What became of a statement. `doing` says what was tried: `cannot create a.b`.
pub(super) fn of_statement(error: &Error, doing: &str) -> DbError {
    let Some(answer) = error.as_db_error() else {
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        return DbError::ConnectionLost(
            Failure::new(format!("{doing}: the connection was lost ({reason})"))
                .hint("run it again: what was done is read back first"),
        );
    };
    let failure = Failure::new(format!("{doing}: {}", said(answer)));
    let code = answer.code();
    let text = format!("{} {}", answer.message(), answer.detail().unwrap_or_default());
    if code.code().starts_with("08") || ["57P01", "57P02", "57P03", "57P05"].contains(&code.code()) {
        return DbError::ConnectionLost(failure.hint("run it again when the server is back"));
    }
    let in_the_way = [
        // Where two sessions create one table at the same time, and neither sees the other's yet.
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    if [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT].contains(code) {
        let hidden =
            "something has the name that the catalog does not show to you: ask its owner, or take another name";
        return DbError::Exists(failure.hint(answer.hint().unwrap_or(hidden)));
    }
    let serializable = code.code() == "1023" || answer.message().trim() == "1023";
    let internal = *code == SqlState::INTERNAL_ERROR && CONFLICT_TEXTS.iter().any(|known| text.contains(known));
    if in_the_way.contains(code) || serializable || internal {
        return DbError::Conflict(
            failure.hint("another session changes the same tables; run it again when it is done"),
        );
    }
    DbError::Fatal(match remedy(code, answer, doing) {
        Some(remedy) => failure.hint(remedy),
        None => failure,
    })
}

fn remedy(code: &SqlState, answer: &ServerError, doing: &str) -> Option<String> {
    Some(match code.code() {
        "0A000" if doing.starts_with("cannot widen") => {
            "Redshift lengthens no column with the encoding BYTEDICT, RUNLENGTH, TEXT255 or TEXT32K and none in a key or \
             with UNIQUE, PostgreSQL none that a view shows: use `on_drift: report`, or do it by hand"
                .into()
        }
        "25006" => {
            "the server takes no writes (a replica, or default_transaction_read_only): connect to the primary".into()
        }
        "57014" if answer.message().contains("statement timeout") => {
            "another session may hold a lock on the table; raise `statement_timeout` of the connection, or find the \
             session in pg_stat_activity (PostgreSQL) or stv_locks (Redshift)"
                .into()
        }
        "55P03" => "another session holds a lock on the table: wait for it to end".into(),
        "42501" => {
            "grant the connected user what it lacks: CREATE and USAGE on the schema, ownership to change a table".into()
        }
        "3F000" => "create the schema first".into(),
        "42704" => "create the user, group or role first, or correct its name".into(),
        "53100" | "53200" => "free space or memory on the server".into(),
        "0A000" => "this server does not have what the DDL asks for".into(),
        _ => answer.hint()?.to_owned(),
    })
}

/// The server's words: message, detail, SQLSTATE.
fn said(answer: &ServerError) -> String {
    let detail = answer.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail} [SQLSTATE {}]", answer.message().trim_end_matches('.'), answer.code().code())
}

/// Why no connection came about, on the way to one server.
pub(super) struct Attempt<'a> {
    pub connection: &'a str,
    pub server: &'a Server,
    pub user: &'a str,
    pub database: &'a str,
    pub mode: SslMode,
    /// Why a password file was passed over, if one was.
    pub passed_over: Option<&'a str>,
    /// The connection's own source of the password.
    pub password_source: Option<&'a SecretSource>,
}

impl Attempt<'_> {
    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("connection `{}`: {what}", self.connection))
    }

    pub fn timed_out(&self, seconds: u64) -> DbError {
        DbError::Silent(
            self.failure(&format!("{} did not answer within {seconds} s", self.server))
                .hint("is the address right, and does a firewall or security group let this host in? `connect_timeout` can be raised"),
        )
    }

    /// The cause, in the user's terms.
    pub fn classify(&self, error: &Error) -> DbError {
        if let Some(answer) = error.as_db_error() {
            return self.refused_login(answer);
        }
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        if error.to_string().starts_with("error performing TLS handshake") {
            return DbError::Fatal(self.tls(&cause));
        }
        if cause.contains("password missing") {
            let note = self.passed_over.map(|note| format!("; {note}")).unwrap_or_default();
            return DbError::Fatal(
                self.failure(&format!("{} asks for a password and there is none{note}", self.server)).hint(match self
                    .password_source
                {
                    Some(source) => how_to_give(Some(source), "password"),
                    None => "give the connection a `password:`, or a line in ~/.pgpass".to_owned(),
                }),
            );
        }
        if cause.contains("unknown authentication tag `13`") {
            return DbError::Fatal(
                self.failure(&format!(
                    "{} wants the password of user {} in a way that only Amazon's own drivers speak (its password is \
                     stored as `sha256|…`)",
                    self.server, self.user
                ))
                .hint(format!(
                    "store it as MD5: ALTER USER {} PASSWORD 'md5…' (md5 of the password followed by the user's name)",
                    self.user
                )),
            );
        }
        if cause.contains("unknown authentication tag") || cause.contains("unsupported authentication method") {
            return DbError::Fatal(
                self.failure(&format!(
                    "{} wants a way of logging in that is not supported (Kerberos, SSPI)",
                    self.server
                ))
                .hint("use a user that logs in by password"),
            );
        }
        if cause.contains("channel binding") || cause.contains("SASL") {
            return DbError::Fatal(self.failure(&format!("logging in at {} failed: {cause}", self.server)));
        }
        let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        self.unreachable(&cause, io.map(io::Error::kind))
    }

    /// The server cannot be reached, or breaks off.
    fn unreachable(&self, cause: &str, kind: Option<io::ErrorKind>) -> DbError {
        let server = self.server;
        if cause.contains("failed to lookup address") || cause.contains("could not resolve any addresses") {
            return DbError::Fatal(
                self.failure(&format!("unknown host: {server} ({cause})")).hint(
                    "is the name right, and does this machine's DNS know it? (a private one may need a `tunnel`)",
                ),
            );
        }
        let failure = match kind {
            Some(io::ErrorKind::ConnectionRefused) => self
                .failure(&format!("{server} refused the connection: nothing listens there"))
                .hint("is the server running, and is the port right? (PostgreSQL 5432, Redshift 5439)"),
            Some(io::ErrorKind::NotFound) => {
                self.failure(&format!("there is no socket {server}")).hint("is the server running on this machine?")
            }
            Some(io::ErrorKind::PermissionDenied) => self.failure(&format!("{server}: {cause}")),
            Some(io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => self
                .failure(&format!("{server} cannot be reached: {cause}"))
                .hint("does a firewall or security group let this host in?"),
            _ => self
                .failure(&format!("{server} broke off while connecting: {cause}"))
                .hint("does a PostgreSQL or Redshift server listen there?"),
        };
        DbError::ConnectionLost(failure)
    }

    fn tls(&self, cause: &str) -> Failure {
        let server = self.server;
        let name = server.name.as_deref().unwrap_or_default();
        if cause.contains("does not support TLS") {
            return self
                .failure(&format!("{server} does not speak TLS, and the connection asks for it ({})", self.mode.word()))
                .hint("switch TLS on at the server, or write sslmode=disable if the way there is trusted");
        }
        let (what, remedy) = if cause.contains("has expired") {
            ("has expired", "renew the server's certificate".to_owned())
        } else if cause.contains("not yet valid") {
            ("is not valid yet", "compare the clocks of this machine and the server".into())
        } else if cause.contains("ostname mismatch") || cause.contains("IP address mismatch") {
            ("is for another name", format!("connect by the name in the certificate, not as {name}"))
        } else if cause.contains("certificate signature failure")
            || cause.contains("self-signed")
            || cause.contains("self signed")
            || cause.contains("issuer certificate")
        {
            (
                "comes from an authority that is not trusted",
                "name the authority's certificate in `sslrootcert`; for public ones install ca-certificates".into(),
            )
        } else if cause.contains("certificate verify failed") {
            ("cannot be verified", "compare it with `sslrootcert`".into())
        } else {
            return self
                .failure(&format!("the TLS handshake with {server} failed: {cause}"))
                .hint("does a PostgreSQL server with TLS listen there?");
        };
        self.failure(&format!("the certificate of {server} {what} ({})", reason_of(cause))).hint(remedy)
    }

    fn refused_login(&self, answer: &ServerError) -> DbError {
        let (server, user, database) = (self.server, self.user, self.database);
        let text = answer.message();
        let note = self.passed_over.map(|note| format!("; {note}")).unwrap_or_default();
        let fatal = |what: String, remedy: &str| DbError::Fatal(self.failure(&what).hint(remedy));
        match answer.code().code() {
            "28P01" => fatal(
                format!("wrong password for user {user} at {server}{note}"),
                "correct the connection's `password`, or the line in the password file",
            ),
            // Redshift has 28000 for a wrong password.
            "28000" if text.contains("password") => fatal(
                format!("wrong password for user {user} at {server}{note}"),
                "correct the connection's `password`, or the line in the password file",
            ),
            "28000" if text.contains("no pg_hba.conf entry") => fatal(
                format!("{server} does not let user {user} into database {database} from here: {text}"),
                "add a line to pg_hba.conf; where it says `no encryption`, use sslmode=require or stronger",
            ),
            "28000" => {
                fatal(format!("{server} does not let user {user} in: {text}"), "create the user, or correct its name")
            }
            "3D000" => fatal(
                format!("there is no database {database} at {server}"),
                "correct the database's name at the end of the URL",
            ),
            "42501" => fatal(
                format!("user {user} may not connect to database {database} at {server}: {text}"),
                "grant CONNECT on it",
            ),
            "53300" => fatal(
                format!("{server} has no connection left: {text}"),
                "end idle sessions (pg_stat_activity, stv_sessions), or raise the limit",
            ),
            "57P03" | "57P01" | "57P02" => DbError::ConnectionLost(
                self.failure(&format!("{server} is not ready: {text}")).hint("wait until it has started"),
            ),
            _ => DbError::Fatal(self.failure(&format!("{server}: {}", said(answer)))),
        }
    }
}

/// The part of OpenSSL's text that says why: it ends `…:certificate verify failed:file.c:1889:: REASON`.
fn reason_of(cause: &str) -> &str {
    cause.rsplit(": ").next().unwrap_or(cause).trim()
}

/// Whether the other of `prefer`'s or `allow`'s two ways is worth a try.
pub(super) fn other_way_may_do(error: &Error) -> bool {
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
            Self::VerifyFull => "sslmode=verify-full, the default for a host that is not this one",
        }
    }
}
