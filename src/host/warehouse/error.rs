//! The errors of statements and of lost connections, with hints. Those of an attempt to connect are in [`super::attempt`].

use std::error::Error as _;
use std::time::Instant;

use tokio_postgres::error::{DbError as ServerError, Error, SqlState};

use super::name::Shown;
use crate::failure::Failure;

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
        "42704" => answer.hint().unwrap_or("create what is missing first, or correct its name").into(),
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
pub(super) fn server_text(answer: &ServerError) -> String {
    let detail = answer.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail} [SQLSTATE {}]", answer.message().trim_end_matches('.'), answer.code().code())
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
