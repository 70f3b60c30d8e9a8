//! The errors of the server and of the connection to it, with hints. No text can contain a password: messages come from
//! this program or from the server, and neither has the password in clear text.

use std::error::Error as _;
use std::io;
use std::time::Instant;

use tokio_postgres::error::{DbError as ServerError, Error, SqlState};

use super::endpoint::{Server, SslMode};
use super::name::Shown;
use crate::failure::Failure;
use crate::host::secret::{SecretSource, how_to_give};

/// The hint if a connection has no password and needs one.
pub const NO_PASSWORD: &str = "add a `password:` to the connection, or a line to ~/.pgpass";

/// A failure, with what can be done about it.
#[derive(Debug)]
pub(super) enum DbError {
    /// The connection is gone. Only a new read shows whether the statement was executed.
    ConnectionLost(Failure),
    /// There was no answer within the time limit. The statement is not retried, because that would take as long again.
    Silent(Failure),
    /// Another session interfered. A new read and another attempt may help.
    Conflict(Failure),
    /// The name is taken already. A new read shows by what, unless it is hidden.
    Exists(Failure),
    /// Another attempt would fail in the same way.
    Fatal(Failure),
}

impl DbError {
    /// Returns the error message.
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

    /// Returns whether another attempt may help and there is time for it.
    pub fn is_worth_retrying(&self, deadline: Option<Instant>) -> bool {
        matches!(self, Self::ConnectionLost(_) | Self::Conflict(_))
            && deadline.is_none_or(|deadline| Instant::now() < deadline)
    }
}

/// Conflicts that are reported as `XX000` (internal error), so that only the text identifies them. The first two are
/// from Redshift. The third and fourth occur in catalog reads during a DROP. The last one is PostgreSQL's answer to two
/// concurrent GRANTs.
const CONFLICT_TEXTS: &[&str] = &[
    "conflict with concurrent transaction",
    "Serializable isolation violation",
    "could not open relation with OID",
    "cache lookup failed for",
    "tuple concurrently updated",
];

/// Classifies the error of a statement. `doing` describes the attempt: `cannot create a.b`.
/// `user` is the connected user.
pub(super) fn of_statement(error: &Error, doing: &str, user: &str) -> DbError {
    let Some(answer) = error.as_db_error() else {
        let kind = error.to_string();
        let reason = error.source().map_or_else(|| kind.clone(), ToString::to_string);
        // Another attempt would get the same answer.
        if ["error parsing response", "unexpected message"].iter().any(|start| kind.starts_with(start)) {
            let failure = Failure::new(format!("{doing}: the server does not speak PostgreSQL's protocol ({reason})"));
            return DbError::Fatal(failure.hint("check that a PostgreSQL or Redshift server listens there"));
        }
        return DbError::ConnectionLost(
            Failure::new(format!("{doing}: the connection was lost ({reason})"))
                .hint("run it again; completed changes are detected and left alone"),
        );
    };
    let failure = Failure::new(format!("{doing}: {}", server_text(answer)));
    let code = answer.code();
    let text = format!("{} {}", answer.message(), answer.detail().unwrap_or_default());
    if code.code().starts_with("08") || ["57P01", "57P02", "57P03", "57P05"].contains(&code.code()) {
        return DbError::ConnectionLost(failure.hint("run it again when the server is back"));
    }
    let conflicts = [
        // Two sessions create the same table at the same time, and neither sees the other's yet.
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    if [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT].contains(code) {
        let hint = answer.hint().map_or_else(|| name_taken(answer.message(), doing), str::to_owned);
        return DbError::Exists(failure.hint(hint));
    }
    let serializable = code.code() == "1023" || answer.message().trim() == "1023";
    let internal = *code == SqlState::INTERNAL_ERROR && CONFLICT_TEXTS.iter().any(|known| text.contains(known));
    if conflicts.contains(code) || serializable || internal {
        return DbError::Conflict(
            failure.hint("another session is changing the same tables; run it again when that session is done"),
        );
    }
    DbError::Fatal(match remedy(code, answer, doing, user) {
        Some(remedy) => failure.hint(remedy),
        None => failure,
    })
}

/// Returns the remedy for a name that is taken. A constraint that is UNIQUE or a key has an index, which is named like a table.
fn name_taken(message: &str, doing: &str) -> String {
    let taken = message.split('"').nth(1).unwrap_or_default();
    let created = doing.rsplit(['.', ' ']).next().unwrap_or_default().trim_matches('"');
    if taken.is_empty() || taken.eq_ignore_ascii_case(created) {
        return "something that the catalog does not show to you has this name; ask its owner, or use another name"
            .to_owned();
    }
    format!(
        "a constraint or index in the DDL has the name {}, which another table, or a constraint or index of another table, has in this \
         schema: give it another name, or none",
        Shown(taken)
    )
}

fn remedy(code: &SqlState, answer: &ServerError, doing: &str, user: &str) -> Option<String> {
    Some(match code.code() {
        "0A000" if doing.starts_with("cannot widen") => {
            "Redshift cannot lengthen a column that is in a key, is UNIQUE or has the encoding BYTEDICT, RUNLENGTH, TEXT255 or \
             TEXT32K, and PostgreSQL cannot alter a column that a view uses: use `on_drift: report`, or alter it manually"
                .into()
        }
        "42P16" if doing.starts_with("cannot replace view") => {
            "drop the view manually and run apply again: it is then created with the new columns".into()
        }
        "25006" => {
            "the server is read-only (a replica, or default_transaction_read_only): connect to the primary".into()
        }
        "57014" if answer.message().contains("statement timeout") => {
            "another session may hold a lock on the table; raise `statement_timeout` of the connection, or find the \
             session in pg_stat_activity (PostgreSQL) or stv_locks (Redshift)"
                .into()
        }
        "55P03" => "another session holds a lock on the table: wait for it to end".into(),
        "42501" => missing_privilege(answer.message(), user),
        "23502" if doing.starts_with("cannot add column") => {
            "the table has rows, and the type of the column allows no NULL (a domain): add the column manually, with a DEFAULT"
                .into()
        }
        "3F000" => "create the schema first".into(),
        "42704" if is_of_an_account(answer.message()) => "create the user, group or role first, or correct its name".into(),
        "53100" | "53200" => "free space or memory on the server".into(),
        "0A000" => "this server does not support a feature that the DDL uses".into(),
        _ => answer.hint()?.to_owned(),
    })
}

/// Returns whether a message that something does not exist is about a user, a group or a role. The same code stands for types,
/// collations, tablespaces and much more.
fn is_of_an_account(message: &str) -> bool {
    ["role ", "user ", "group "].iter().any(|kind| message.starts_with(kind))
}

/// Returns the statement that grants what the server asks for. Messages in other languages have a general remedy.
fn missing_privilege(message: &str, user: &str) -> String {
    let user = Shown(user);
    let named = |start: &str| message.strip_prefix(start).map(|name| Shown(name.trim_matches('"')).to_string());
    if let Some(schema) = named("permission denied for schema ") {
        format!("let the user create tables: `GRANT USAGE, CREATE ON SCHEMA {schema} TO {user};`")
    } else if let Some(table) =
        named("permission denied for table ").or_else(|| named("permission denied for relation "))
    {
        format!(
            "the owner of {table}, or a superuser, has to grant it to {user}: SELECT for LIKE, ownership for a change"
        )
    } else if let Some(role) = named("must be member of role ").or_else(|| named("must be able to SET ROLE ")) {
        format!("let {user} act as that role: `GRANT {role} TO {user};`")
    } else if message.starts_with("must be owner of ") {
        format!("run it as the owner of the table, or grant the owner's role to {user}")
    } else {
        format!("grant user {user} the missing privilege: CREATE and USAGE on the schema, or ownership of the table")
    }
}

/// Returns the server's text: message, detail and SQLSTATE.
fn server_text(answer: &ServerError) -> String {
    let detail = answer.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail} [SQLSTATE {}]", answer.message().trim_end_matches('.'), answer.code().code())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_told_from_other_things_that_do_not_exist() {
        for message in ["role \"dbt\" does not exist", "user \"dbt\" does not exist", "group \"bi\" does not exist"] {
            assert!(is_of_an_account(message), "{message}");
        }
        for message in [
            "data type json has no default operator class for access method \"btree\"",
            "collation \"user \" for encoding \"UTF8\" does not exist",
            "tablespace \"role\" does not exist",
            "access method \"group\" does not exist",
        ] {
            assert!(!is_of_an_account(message), "{message}");
        }
    }
}
