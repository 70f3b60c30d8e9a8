//! A connection of the plan file to PostgreSQL or Redshift.
//!
//! All steps of a connection share one [`Warehouse`], with one session and one catalog read for all their tables. Only
//! simple queries are used, because prepared statements are a frequent cause of lost connections to Redshift. Each
//! statement is its own transaction, and its settings end with it: behind a pooler, the session may be used by someone
//! else afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::Mutex;

mod account;
mod acl;
mod attempt;
mod catalog;
mod column;
mod connect;
mod connection_string;
mod decode;
mod defaults;
mod dial;
mod dialect;
mod endpoint;
mod error;
mod keywords;
mod layout;
mod name;
mod near;
mod pgpass;
mod query;
mod service;
mod session_attrs;
mod spec;
mod tls;
mod union_view;

pub use account::{Account, Inheritance, Privilege, Rights};
pub use catalog::{Catalog, CatalogQuery, Computed, Family, Inserts, ReadOnly, Relation, RelationKind, Schema};
pub use column::Column;
pub use defaults::{ClientDefaults, Incomplete};
pub use dialect::Dialect;
pub use endpoint::{Endpoint, RootCert, SslMode};
pub use error::NO_PASSWORD;
pub use layout::{Dist, Sort};
pub use name::{MAX_IDENTIFIER_BYTES, Shown, TableName, fold};
pub use spec::{ConnectionSpec, KeySpec, TunnelSpec};
pub use union_view::Branch;

use crate::failure::Failure;
use crate::host::secret::{Origin, Secret, SecretSource};
use crate::host::ssh::known_hosts::KnownHosts;
use crate::host::ssh::{HostKey, Tunnel, TunnelKey};
use crate::telemetry::spans::{self, Count};
use connect::{Connector, Session};
use dial::{MAX_CATALOG_BYTES, MAX_CATALOG_ROWS, MAX_REPLY_BYTES};
use error::DbError;

/// What is tried again after a failure, for logs. A statement is sent again only after a new read.
const READING: &str = "reading the catalog";
/// How often a statement or a catalog read is attempted if another session or the network interferes.
const ATTEMPTS: u32 = 8;
/// How often the catalog is read if a table has no columns. On Redshift this is temporary.
const INCOMPLETE_ATTEMPTS: u32 = 3;
/// The default time limit of a statement, in seconds.
const STATEMENT_TIMEOUT: u32 = 60;

/// A connection of the plan file, for one run. It connects when it is first used.
pub struct Warehouse {
    connector: Connector,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    query: CatalogQuery,
    session: Option<Session>,
    /// Whether this run has been connected before. A lost connection is worth waiting for, but a wrong address is not.
    was_connected: bool,
    /// Why the connection was given up.
    given_up: Option<Failure>,
    /// The relations that the last successful read found.
    seen: BTreeSet<TableName>,
    /// The last read, or why it failed.
    reading: Option<Result<Arc<Catalog>, Failure>>,
}

/// What was read from the sources of a connection.
#[derive(Debug, Clone, Default)]
pub struct ConnectionSecrets {
    pub password: Option<Secret>,
    pub tunnel_key: Option<Secret>,
}

impl From<Option<Secret>> for ConnectionSecrets {
    fn from(password: Option<Secret>) -> Self {
        Self { password, tunnel_key: None }
    }
}

impl Warehouse {
    /// Creates the connection `name` of the plan file. `query` is what all steps of the run need, so that one read
    /// returns everything. `password` comes from the connection's own source. Does not connect yet.
    pub fn new(
        name: impl Into<String>,
        spec: ConnectionSpec,
        secrets: impl Into<ConnectionSecrets>,
        defaults: ClientDefaults,
        query: CatalogQuery,
    ) -> Self {
        let ConnectionSecrets { password, tunnel_key } = secrets.into();
        let tunnel = spec.tunnel.as_ref().map(|TunnelSpec { ssh, key, host_key }| {
            let key = match key {
                KeySpec::File(path) => TunnelKey::File(path.clone()),
                KeySpec::Source(_) => TunnelKey::Value(tunnel_key),
            };
            let host_key = match host_key {
                Some(fingerprint) => HostKey::Fingerprint(fingerprint.clone()),
                None => HostKey::Known(KnownHosts::of(defaults.home.as_deref())),
            };
            Tunnel::new(ssh.clone(), key, host_key)
        });
        let connector = Connector { name: name.into(), spec, password, defaults, tunnel, withheld: None };
        Self { connector, state: Mutex::new(State { query, ..State::default() }) }
    }

    /// Runs the command that prints the password again before each later login of the run, because a token of a cloud
    /// provider may have expired. The program's environment lacks the variables in `withheld`.
    pub fn with_renewed_password(mut self, withheld: BTreeSet<String>) -> Self {
        let is_command = |source: &SecretSource| matches!(source.origin, Origin::Command(_));
        if self.connector.spec.password.as_ref().is_some_and(is_command) {
            self.connector.withheld = Some(withheld);
        }
        self
    }

    /// Returns the connection's name in the plan file.
    pub fn name(&self) -> &str {
        &self.connector.name
    }

    /// Returns the catalog. Reads it if that has not been done yet.
    pub async fn catalog(&self) -> Result<Arc<Catalog>, Failure> {
        let mut state = self.state.lock().await;
        self.reading(&mut state).await
    }

    /// Returns the part of the catalog that the query names. If the run's query does not include it, the catalog is
    /// read again, because something that was not queried must never look absent.
    pub async fn restricted_catalog(&self, query: &CatalogQuery) -> Result<Catalog, Failure> {
        let mut state = self.state.lock().await;
        if !state.query.contains(query) {
            state.query.extend(query.clone());
            state.reading = None;
        }
        let catalog = self.reading(&mut state).await?;
        match catalog.unreadable(query) {
            Some(name) => {
                Err(Failure::new(format!("{}: {}", self.reading_doing(), unreadable(name))).hint("run it again"))
            }
            None => Ok(catalog.restrict_to(query)),
        }
    }

    /// Forgets the last read, so that the next one is fresh.
    pub async fn invalidate(&self) {
        let mut state = self.state.lock().await;
        state.reading = None;
        state.given_up = None;
    }

    /// Executes one statement in its own transaction. `doing` describes the attempt for messages (`cannot create a.b`).
    /// If another session interfered or the connection was lost, the catalog is read again and passed to `done`. If
    /// `done` returns false, the statement is retried a limited number of times.
    pub async fn execute(
        &self,
        doing: &str,
        sql: &str,
        done: impl Fn(&Catalog) -> Result<bool, Failure> + Send + Sync,
    ) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        if let Some(failure) = &state.given_up {
            return Err(Failure { message: format!("{doing}: not tried: {}", failure.message), ..failure.clone() });
        }
        state.reading = None;
        let deadline = self.deadline();
        for attempt in 1.. {
            let error = match self.send(&mut state, doing, sql, attempt).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // After a conflict a session may still see the old state, so users of Redshift reconnect.
            state.session = None;
            match &error {
                DbError::Fatal(_) => return Err(error.into_failure()),
                DbError::Exists(_) => {}
                DbError::ConnectionLost(_) | DbError::Silent(_)
                    if attempt == ATTEMPTS || !error.is_worth_retrying(deadline) =>
                {
                    return Err(state.give_up(error));
                }
                DbError::Conflict(_) if attempt == ATTEMPTS || !error.is_worth_retrying(deadline) => {
                    return Err(error.into_failure());
                }
                other => {
                    spans::retry(READING, (attempt + 1).into(), other.message());
                    pause(attempt).await;
                }
            }
            let catalog = self.reading(&mut state).await?;
            if done(&catalog)? {
                return Ok(());
            }
            // In a race for a name, the failure shows what else has it.
            if let DbError::Exists(failure) = error {
                return Err(failure);
            }
            state.reading = None;
        }
        Ok(())
    }

    async fn send(&self, state: &mut State, doing: &str, sql: &str, attempt: u32) -> Result<(), DbError> {
        self.connect(state).await?;
        let Some(session) = &state.session else { return Err(DbError::ConnectionLost(Failure::new("no session"))) };
        let run = |sql: String| async move {
            session.budget.allow(MAX_REPLY_BYTES);
            let answer = self.in_time(session.client.batch_execute(&sql), doing);
            let done = spans::warehouse_query("change", attempt.into()).instrument(answer).await;
            done.map_err(|error| session.excess(doing, MAX_REPLY_BYTES).unwrap_or(error))
        };
        if cannot_run_in_transaction(sql, session.dialect) {
            // Two statements in one query would form one transaction.
            run(format!("SET statement_timeout TO {}", self.milliseconds())).await?;
            let done = run(sql.to_owned()).await;
            // If the session is gone, the setting is gone too.
            let _reset = run("RESET statement_timeout".to_owned()).await;
            return done;
        }
        run(format!("{}; {sql}", self.settings(session.dialect).join("; "))).await
    }

    /// Returns the last read, or a new one.
    async fn reading(&self, state: &mut State) -> Result<Arc<Catalog>, Failure> {
        if let Some(reading) = &state.reading {
            return reading.clone();
        }
        let reading = self.read(state).await.map(Arc::new);
        state.reading = Some(reading.clone());
        reading
    }

    /// Reads the catalog, repeatedly if it is disturbed. A relation that existed before counts as gone only if a second
    /// session does not see it either, because Redshift's catalog can temporarily be empty.
    async fn read(&self, state: &mut State) -> Result<Catalog, Failure> {
        let mut attempt = 0;
        let mut rechecked = false;
        let deadline = self.deadline();
        loop {
            attempt += 1;
            let error = match self.read_once(state, attempt).await {
                Ok(Some(catalog)) => {
                    let gone = |name: &TableName| !catalog.relations.contains_key(name);
                    if !rechecked && state.seen.iter().any(gone) {
                        rechecked = true;
                        state.session = None;
                        spans::retry(READING, (attempt + 1).into(), "a table that was there is gone");
                        continue;
                    }
                    if catalog.is_incomplete() && attempt < INCOMPLETE_ATTEMPTS {
                        state.session = None;
                        spans::retry(READING, (attempt + 1).into(), "it was incomplete");
                        pause(attempt).await;
                        continue;
                    }
                    state.seen = catalog.relations.keys().cloned().collect();
                    return Ok(self.with_near_names(state, catalog).await);
                }
                // The guessed dialect was wrong, and is known now.
                Ok(None) => continue,
                Err(error) => error,
            };
            state.session = None;
            match &error {
                DbError::ConnectionLost(_) if !state.was_connected => return Err(error.into_failure()),
                DbError::Fatal(_) | DbError::Exists(_) => return Err(error.into_failure()),
                other if attempt >= ATTEMPTS || !other.is_worth_retrying(deadline) => return Err(error.into_failure()),
                other @ (DbError::ConnectionLost(_) | DbError::Silent(_) | DbError::Conflict(_)) => {
                    spans::retry(READING, (attempt + 1).into(), other.message());
                    pause(attempt).await;
                }
            }
        }
    }

    async fn read_once(&self, state: &mut State, attempt: u32) -> Result<Option<Catalog>, DbError> {
        self.connect(state).await?;
        let Some(session) = &mut state.session else { return Err(DbError::ConnectionLost(Failure::new("no session"))) };
        let doing = self.reading_doing();
        let queries = query::statements(&state.query, session.dialect);
        let asked = queries.len();
        let settings = self.settings(session.dialect);
        let ahead = settings.len();
        let statements = settings.into_iter().chain(queries).collect::<Vec<_>>().join("; ");
        let mut messages = Vec::new();
        let answer = async {
            let stream = session.client.simple_query_raw(&statements).await?;
            let mut stream = std::pin::pin!(stream);
            while let Some(message) = stream.next().await {
                messages.push(message?);
                if messages.len() > MAX_CATALOG_ROWS {
                    break;
                }
            }
            Ok(())
        };
        session.budget.allow(MAX_CATALOG_BYTES);
        let span = spans::warehouse_query("catalog", attempt.into());
        let answered = span.clone().instrument(self.in_time(answer, &doing)).await;
        span.count(Count::Rows, messages.len() as u64);
        if messages.len() > MAX_CATALOG_ROWS {
            // The rest of the answer is still on its way.
            let failure = Failure::new(format!("{doing}: the server sends more than {MAX_CATALOG_ROWS} rows"));
            state.session = None;
            return Err(DbError::Fatal(failure.hint(connect::TOO_MUCH)));
        }
        if let Some(excess) = session.excess(&doing, MAX_CATALOG_BYTES) {
            return Err(excess);
        }
        let mut results = decode::results(messages);
        results.drain(..ahead.min(results.len()));
        let version = results.first().and_then(|rows| rows.first()?.try_get(0).ok().flatten().map(str::to_owned));
        // The version comes first, because the queries of another dialect fail only after it.
        if let Some(dialect) = version.as_deref().map(decode::dialect_of)
            && dialect != session.dialect
        {
            session.dialect = dialect;
            return Ok(None);
        }
        answered?;
        if version.is_none() {
            return Err(DbError::Conflict(Failure::new(format!("{doing}: the server did not report its version"))));
        }
        if results.len() != asked {
            let what = format!("{doing}: the server answered {} of {asked} queries", results.len());
            return Err(DbError::Conflict(
                Failure::new(what).hint("check whether a proxy sits in front of the server"),
            ));
        }
        decode::catalog(&state.query, session.dialect, &results).map(Some).map_err(|decode::Incomplete(what)| {
            DbError::Conflict(Failure::new(format!("{doing}: {what}")).hint("run it again"))
        })
    }

    /// Adds what may have been meant by names that do not exist. Without an answer the catalog stays as it is.
    async fn with_near_names(&self, state: &State, mut catalog: Catalog) -> Catalog {
        let missing = catalog.missing(&state.query);
        let Some(session) = state.session.as_ref().filter(|_| !missing.is_empty()) else { return catalog };
        let settings = self.settings(session.dialect);
        let ahead = settings.len();
        let statement = near::statement(&missing, session.dialect);
        let statements = settings.into_iter().chain([statement]).collect::<Vec<_>>().join("; ");
        session.budget.allow(MAX_REPLY_BYTES);
        if let Ok(messages) = self.in_time(session.client.simple_query(&statements), &self.reading_doing()).await {
            let rows = decode::results(messages).into_iter().nth(ahead).unwrap_or_default();
            catalog.near = near::likely_names(&missing, &rows);
        }
        catalog
    }

    fn reading_doing(&self) -> String {
        format!("connection `{}`: cannot read the catalog", self.name())
    }

    async fn connect(&self, state: &mut State) -> Result<(), DbError> {
        if state.session.as_ref().is_some_and(|session| session.client.is_closed()) {
            state.session = None;
        }
        if state.session.is_none() {
            let renewed = match state.was_connected {
                true => self.connector.renewed_password().await?,
                false => None,
            };
            state.session = Some(self.connector.connect(renewed.as_ref()).await?);
            state.was_connected = true;
        }
        Ok(())
    }

    /// Returns the settings of one transaction, which end with it.
    fn settings(&self, dialect: Dialect) -> Vec<String> {
        let mut settings = vec![format!("SET LOCAL statement_timeout TO {}", self.milliseconds())];
        if let (Dialect::Postgresql, Some(name)) = (dialect, self.connector.spec.url.config.get_application_name()) {
            settings.push(format!("SET LOCAL application_name TO {}", postgres_protocol::escape::escape_literal(name)));
        }
        settings
    }

    /// Returns the statement timeout in milliseconds, as the servers expect it.
    fn milliseconds(&self) -> u64 {
        u64::from(self.statement_timeout()) * 1000
    }

    /// Returns the time until which failed operations are retried. Both limits of the connection apply to the total.
    fn deadline(&self) -> Option<Instant> {
        let seconds = self.statement_timeout();
        (seconds != 0).then(|| Instant::now() + Duration::from_secs(seconds.into()) + self.connector.timeout())
    }

    fn statement_timeout(&self) -> u32 {
        self.connector.spec.statement_timeout.unwrap_or(STATEMENT_TIMEOUT)
    }

    /// Waits for an answer at most as long as the server may take, because the network may drop everything.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
        doing: &str,
    ) -> Result<T, DbError> {
        let user = self.connector.spec.url.user();
        let limit = match self.statement_timeout() {
            0 => return answer.await.map_err(|error| error::of_statement(&error, doing, &user)),
            seconds => Duration::from_secs(seconds.into()) + self.connector.timeout(),
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error| error::of_statement(&error, doing, &user)),
            Err(_) => {
                Err(DbError::Silent(Failure::new(format!("{doing}: no answer within {} s", limit.as_secs())).hint(
                    "the server or the network hangs; run it again: completed changes are detected and left alone",
                )))
            }
        }
    }
}

impl State {
    /// Records that the server cannot be reached any more, so that later statements do not wait for it.
    fn give_up(&mut self, error: DbError) -> Failure {
        let failure = error.into_failure();
        self.given_up = Some(failure.clone());
        failure
    }
}

/// Returns whether a statement fails in a transaction block. Redshift's ALTER COLUMN does, and so would any statement
/// in the same query, including `SET LOCAL`.
fn cannot_run_in_transaction(sql: &str, dialect: Dialect) -> bool {
    dialect == Dialect::Redshift && sql.starts_with("ALTER TABLE") && sql.contains(" ALTER COLUMN ")
}

fn unreadable(name: &TableName) -> String {
    format!("the catalog lists {name} but none of its columns")
}

/// Waits longer after each attempt, with jitter, so that two hosts in conflict do not stay in step.
async fn pause(attempt: u32) {
    let mut random = [0; 2];
    // Without randomness the pauses are only less well distributed.
    let _spread = openssl::rand::rand_bytes(&mut random);
    let step = 50 * (1 << attempt.min(7));
    let jitter = step * u64::from(u16::from_le_bytes(random)) / u64::from(u16::MAX);
    tokio::time::sleep(Duration::from_millis(step + jitter)).await;
}
