//! A warehouse: one connection of the plan file, on PostgreSQL or Redshift.
//!
//! All steps of a connection share one [`Warehouse`]: one session, and one reading of the catalog for all their tables.
//! Everything goes by simple queries; prepared statements are where clients lose their connections to Redshift.
//! Each statement is a transaction of its own, and what is set for it ends with it: behind a pooler the session is
//! somebody else's a moment later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::Mutex;

mod acl;
mod catalog;
mod connect;
mod endpoint;
mod error;
mod name;
mod pgpass;
mod query;
mod spec;
mod tls;

pub use catalog::{
    Account, Catalog, CatalogQuery, Column, Computed, Dialect, Dist, Inserts, Privilege, Relation, RelationKind,
    Schema, Sort,
};
pub use endpoint::{Endpoint, RootCert, SslMode};
pub use name::{Shown, TableName};
pub use pgpass::ClientDefaults;
pub use spec::{ConnectionSpec, TunnelSpec};

use crate::failure::Failure;
use crate::host::secret::Secret;
use crate::host::ssh::Tunnel;
use crate::telemetry::spans::{self, Count};
use connect::{Connector, Session};
use error::DbError;

/// How often a statement or a reading is tried where another session or the network got in the way.
const ATTEMPTS: u32 = 8;
/// How often a catalog is read that shows a table without columns: on Redshift that passes.
const INCOMPLETE_ATTEMPTS: u32 = 3;
/// Seconds for one statement unless the plan file says otherwise.
const STATEMENT_TIMEOUT: u32 = 60;

/// A connection of the plan file, for one run. Connects when it is first used.
pub struct Warehouse {
    dialler: Connector,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: CatalogQuery,
    session: Option<Session>,
    /// Whether this run has reached the server before: a lost connection is worth waiting for, a wrong address is not.
    met: bool,
    /// Why nothing can be done any more: tried and given up.
    given_up: Option<Failure>,
    /// What the last good reading showed to exist.
    seen: BTreeSet<TableName>,
    /// The last reading, or why there is none.
    reading: Option<Result<Arc<Catalog>, Failure>>,
}

impl Warehouse {
    /// The connection `name` of the plan file. `wanted` is what the run's steps look at, so that one reading brings
    /// it all; `password` is what the connection's own source yielded. Nothing is done yet.
    pub fn new(
        name: impl Into<String>,
        spec: ConnectionSpec,
        password: Option<Secret>,
        surroundings: ClientDefaults,
        wanted: CatalogQuery,
    ) -> Self {
        let tunnel = spec
            .tunnel
            .as_ref()
            .map(|tunnel| Tunnel::new(tunnel.ssh.clone(), tunnel.key.clone(), surroundings.home.as_deref()));
        let dialler = Connector { name: name.into(), spec, password, surroundings, tunnel };
        Self { dialler, state: Mutex::new(State { wanted, ..State::default() }) }
    }

    /// The connection's name in the plan file.
    pub fn name(&self) -> &str {
        &self.dialler.name
    }

    /// The last reading of the catalog; read now where there is none.
    pub async fn catalog(&self) -> Result<Arc<Catalog>, Failure> {
        let mut state = self.state.lock().await;
        self.reading(&mut state).await
    }

    /// The part of the last reading that `wanted` names. It is read anew where it was not among what the run wanted:
    /// what was not asked for must never look absent.
    pub async fn look_at(&self, wanted: &CatalogQuery) -> Result<Catalog, Failure> {
        let mut state = self.state.lock().await;
        if !state.wanted.contains(wanted) {
            state.wanted.extend(wanted.clone());
            state.reading = None;
        }
        let catalog = self.reading(&mut state).await?;
        match catalog.unreadable(wanted) {
            Some(name) => {
                Err(Failure::new(format!("{}: {}", self.reading_doing(), unreadable(name))).hint("run it again"))
            }
            None => Ok(catalog.restrict_to(wanted)),
        }
    }

    /// Forgets the last reading: the next look is a fresh one.
    pub async fn invalidate(&self) {
        let mut state = self.state.lock().await;
        state.reading = None;
        state.given_up = None;
    }

    /// Carries out one statement in a transaction of its own. `doing` says in a message what was tried (`cannot create
    /// a.b`). Where another session was in the way or the connection was lost, the catalog is read anew and `done` is
    /// asked: true ends it, false has the statement tried again, a bounded number of times.
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
            let trouble = match self.send(&mut state, doing, sql).await {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            // A session that a conflict has met may see the old state still: Redshift's users reconnect.
            state.session = None;
            match &trouble {
                DbError::Fatal(_) => return Err(trouble.into_failure()),
                DbError::Exists(_) => {}
                DbError::ConnectionLost(_) | DbError::Silent(_)
                    if attempt == ATTEMPTS || !trouble.is_worth_waiting(deadline) =>
                {
                    return Err(state.give_up(trouble));
                }
                DbError::Conflict(_) if attempt == ATTEMPTS || !trouble.is_worth_waiting(deadline) => {
                    return Err(trouble.into_failure());
                }
                other => {
                    spans::retry("reading the catalog", (attempt + 1).into(), other.message());
                    pause(attempt).await;
                }
            }
            let catalog = self.reading(&mut state).await?;
            if done(&catalog)? {
                return Ok(());
            }
            // Whoever races for a name shows what has won it.
            if let DbError::Exists(failure) = trouble {
                return Err(failure);
            }
            state.reading = None;
        }
        Ok(())
    }

    async fn send(&self, state: &mut State, doing: &str, sql: &str) -> Result<(), DbError> {
        self.connect(state).await?;
        let Some(session) = &state.session else { return Err(DbError::ConnectionLost(Failure::new("no session"))) };
        let run = |sql: String| async move {
            let answer = self.in_time(session.client.batch_execute(&sql), doing);
            spans::warehouse_query("change").instrument(answer).await
        };
        if takes_no_transaction(sql, session.dialect) {
            // Two statements in one query would be one transaction.
            run(format!("SET statement_timeout TO {}", self.milliseconds())).await?;
            let done = run(sql.to_owned()).await;
            // Where the session is gone, so is the setting.
            let _reset = run("RESET statement_timeout".to_owned()).await;
            return done;
        }
        run(format!("{}; {sql}", self.settings(session.dialect).join("; "))).await
    }

    /// The reading in hand, or a new one.
    async fn reading(&self, state: &mut State) -> Result<Arc<Catalog>, Failure> {
        if let Some(reading) = &state.reading {
            return reading.clone();
        }
        let reading = self.read(state).await.map(Arc::new);
        state.reading = Some(reading.clone());
        reading
    }

    /// Reads the catalog, again where it was disturbed. That something is gone which was there before is believed when a
    /// second session does not see it either: Redshift's catalog can come up empty where it is not.
    async fn read(&self, state: &mut State) -> Result<Catalog, Failure> {
        let mut attempt = 0;
        let mut doubted = false;
        let deadline = self.deadline();
        loop {
            attempt += 1;
            let trouble = match self.read_once(state).await {
                Ok(Some(catalog)) => {
                    let gone = |name: &TableName| !catalog.relations.contains_key(name);
                    if !doubted && state.seen.iter().any(gone) {
                        doubted = true;
                        state.session = None;
                        continue;
                    }
                    if catalog.is_incomplete() && attempt < INCOMPLETE_ATTEMPTS {
                        state.session = None;
                        pause(attempt).await;
                        continue;
                    }
                    state.seen = catalog.relations.keys().cloned().collect();
                    return Ok(catalog);
                }
                // The dialect was guessed wrong; now it is known.
                Ok(None) => continue,
                Err(trouble) => trouble,
            };
            state.session = None;
            match &trouble {
                DbError::ConnectionLost(_) if !state.met => return Err(trouble.into_failure()),
                DbError::Fatal(_) | DbError::Exists(_) => return Err(trouble.into_failure()),
                other if attempt >= ATTEMPTS || !other.is_worth_waiting(deadline) => return Err(trouble.into_failure()),
                DbError::ConnectionLost(_) | DbError::Silent(_) | DbError::Conflict(_) => pause(attempt).await,
            }
        }
    }

    async fn read_once(&self, state: &mut State) -> Result<Option<Catalog>, DbError> {
        self.connect(state).await?;
        let Some(session) = &mut state.session else { return Err(DbError::ConnectionLost(Failure::new("no session"))) };
        let doing = self.reading_doing();
        let questions = query::statements(&state.wanted, session.dialect);
        let asked = questions.len();
        let settings = self.settings(session.dialect);
        let ahead = settings.len();
        let statements = settings.into_iter().chain(questions).collect::<Vec<_>>().join("; ");
        let mut messages = Vec::new();
        let answer = async {
            let stream = session.client.simple_query_raw(&statements).await?;
            let mut stream = std::pin::pin!(stream);
            while let Some(message) = stream.next().await {
                messages.push(message?);
            }
            Ok(())
        };
        let span = spans::warehouse_query("catalog");
        let answered = span.clone().instrument(self.in_time(answer, &doing)).await;
        span.count(Count::Rows, messages.len() as u64);
        let mut results = query::results(messages);
        results.drain(..ahead.min(results.len()));
        let version = results.first().and_then(|rows| rows.first()?.try_get(0).ok().flatten().map(str::to_owned));
        // The version comes first: the questions of another dialect fail only after it.
        if let Some(dialect) = version.as_deref().map(query::dialect_of)
            && dialect != session.dialect
        {
            session.dialect = dialect;
            return Ok(None);
        }
        answered?;
        if version.is_none() {
            return Err(DbError::Conflict(Failure::new(format!("{doing}: the server does not say its version"))));
        }
        if results.len() != asked {
            let what = format!("{doing}: of {asked} questions the server answered {}", results.len());
            return Err(DbError::Conflict(Failure::new(what).hint("does something stand before the server?")));
        }
        query::decode(&state.wanted, session.dialect, &results).map(Some).map_err(|query::Incomplete(what)| {
            DbError::Conflict(Failure::new(format!("{doing}: {what}")).hint("run it again"))
        })
    }

    fn reading_doing(&self) -> String {
        format!("connection `{}`: cannot read the catalog", self.name())
    }

    async fn connect(&self, state: &mut State) -> Result<(), DbError> {
        if state.session.as_ref().is_some_and(|session| session.client.is_closed()) {
            state.session = None;
        }
        if state.session.is_none() {
            state.session = Some(self.dialler.dial().await?);
            state.met = true;
        }
        Ok(())
    }

    /// What is set for one transaction, and ends with it.
    fn settings(&self, dialect: Dialect) -> Vec<String> {
        let mut settings = vec![format!("SET LOCAL statement_timeout TO {}", self.milliseconds())];
        if let (Dialect::Postgresql, Some(name)) = (dialect, self.dialler.spec.url.config.get_application_name()) {
            settings.push(format!("SET LOCAL application_name TO {}", postgres_protocol::escape::escape_literal(name)));
        }
        settings
    }

    /// The limit of a statement, as the servers take it.
    fn milliseconds(&self) -> u64 {
        u64::from(self.statement_timeout()) * 1000
    }

    /// Until when something that did not work is tried again: both limits of the connection hold for the whole.
    fn deadline(&self) -> Option<Instant> {
        let seconds = self.statement_timeout();
        (seconds != 0).then(|| Instant::now() + Duration::from_secs(seconds.into()) + self.dialler.timeout())
    }

    fn statement_timeout(&self) -> u32 {
        self.dialler.spec.statement_timeout.unwrap_or(STATEMENT_TIMEOUT)
    }

    /// Waits for an answer no longer than the server may take to give it: the way there may swallow everything.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
        doing: &str,
    ) -> Result<T, DbError> {
        let limit = match self.statement_timeout() {
            0 => return answer.await.map_err(|error| error::of_statement(&error, doing)),
            seconds => Duration::from_secs(seconds.into()) + self.dialler.timeout(),
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error| error::of_statement(&error, doing)),
            Err(_) => Err(DbError::Silent(
                Failure::new(format!("{doing}: no answer within {} s", limit.as_secs()))
                    .hint("the server or the network hangs; run it again: what was done is read back first"),
            )),
        }
    }
}

impl State {
    /// Puts down that the server cannot be reached any more, so that what is left to do is not waited for.
    fn give_up(&mut self, trouble: DbError) -> Failure {
        let failure = trouble.into_failure();
        self.given_up = Some(failure.clone());
        failure
    }
}

/// Whether a statement fails in a transaction block. Redshift's ALTER COLUMN does; so does any statement beside it in one
/// query, `SET LOCAL` included.
fn takes_no_transaction(sql: &str, dialect: Dialect) -> bool {
    dialect == Dialect::Redshift && sql.starts_with("ALTER TABLE") && sql.contains(" ALTER COLUMN ")
}

fn unreadable(name: &TableName) -> String {
    format!("the catalog knows {name} and shows none of its columns")
}

/// Longer after every attempt, and never the same for two hosts that met each other.
async fn pause(attempt: u32) {
    let mut random = [0; 2];
    // Without randomness the pause is only less well spread.
    let _spread = openssl::rand::rand_bytes(&mut random);
    let step = 50 * (1 << attempt.min(7));
    let jitter = step * u64::from(u16::from_le_bytes(random)) / u64::from(u16::MAX);
    tokio::time::sleep(Duration::from_millis(step + jitter)).await;
}
