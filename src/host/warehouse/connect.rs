//! Opens a session on an endpoint: tries its servers, sets up TLS, and logs in, all within one deadline.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode as Wire};
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::attempt::{Attempt, is_worth_retrying};
use super::defaults::ClientDefaults;
use super::dial::{self, Bounded, Budget, MAX_LOGIN_BYTES, MAX_REPLY_BYTES};
use super::dialect::Dialect;
use super::endpoint::{Endpoint, Server};
use super::error::DbError;
use super::pgpass::Found;
use super::session_attrs::SessionAttrs;
use super::spec::ConnectionSpec;
use super::tls;
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::secret::{Secret, SecretReader, ends_warning, yields_nothing};
use crate::host::ssh::Tunnel;
use crate::telemetry::spans;

/// The default connect timeout in seconds. libpq has none.
const CONNECT_TIMEOUT: u64 = 10;

/// A session on the server. It ends on drop.
pub(super) struct Session {
    pub client: Client,
    /// The dialect suggested by the server's first message. `version()` decides.
    pub dialect: Dialect,
    /// How much the server may send.
    pub budget: Budget,
    pump: JoinHandle<()>,
}

/// The hint for an answer that is larger than any catalog.
pub(super) const TOO_MUCH: &str = "check what listens there; for more tables, split the plan file or use --only";

impl Session {
    /// Returns the failure if the server has sent more than the `bytes` that it may.
    pub fn excess(&self, doing: &str, bytes: u64) -> Option<DbError> {
        let failure = Failure::new(format!("{doing}: the server sends more than {} MiB", bytes >> 20));
        self.budget.is_exceeded().then(|| DbError::Fatal(failure.hint(TOO_MUCH)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Everything that is needed to connect repeatedly.
pub(super) struct Connector {
    /// The connection's name in the plan file.
    pub name: String,
    pub spec: ConnectionSpec,
    pub password: Option<Secret>,
    pub defaults: ClientDefaults,
    pub tunnel: Option<Tunnel>,
    /// If the password's command is run again for a later login: the variables that it does not get.
    pub withheld: Option<BTreeSet<String>>,
}

impl Connector {
    fn endpoint(&self) -> &Endpoint {
        &self.spec.url
    }

    /// Returns the time limit for connecting.
    pub fn timeout(&self) -> Duration {
        let from_url = self.endpoint().config.get_connect_timeout().copied();
        let given = self.spec.connect_timeout.map(|seconds| Duration::from_secs(seconds.into()));
        given.or(from_url).filter(|given| !given.is_zero()).unwrap_or(Duration::from_secs(CONNECT_TIMEOUT))
    }

    /// Returns a new password for a login after the first one, if a command prints it.
    pub async fn renewed_password(&self) -> Result<Option<Secret>, DbError> {
        let (Some(source), Some(withheld)) = (&self.spec.password, &self.withheld) else { return Ok(None) };
        let mut reader = SecretReader::new(Environment::default(), withheld.clone());
        reader.read(source).await.map_err(|error| {
            let failure = error.failure().clone();
            let message = format!("connection `{}`: cannot log in again: {}", self.name, failure.message);
            DbError::Fatal(Failure { message, ..failure })
        })
    }

    /// Opens a session on the first server that accepts one. `renewed` takes the place of the first password.
    pub async fn connect(&self, renewed: Option<&Secret>) -> Result<Session, DbError> {
        let mut last = None;
        let passes = self.endpoint().session_attrs.passes();
        let servers =
            passes.iter().flat_map(|one| self.endpoint().servers().into_iter().map(move |server| (*one, server)));
        for (attempt, (wanted, server)) in (1..).zip(servers) {
            let database = self.endpoint().database();
            let span = spans::warehouse_connect(&host_name(&server), server.port.into(), &database, attempt);
            match span.instrument(self.connect_to_server(&server, renewed)).await {
                Ok(session) => match self.mismatch(&session, &server, wanted).await {
                    None => return Ok(session),
                    Some(failure) => last = Some(DbError::ConnectionLost(failure)),
                },
                // A server that rejected the login would reject it again. Only a server that cannot be used has a
                // successor.
                Err(error @ (DbError::ConnectionLost(_) | DbError::Silent(_) | DbError::Conflict(_))) => {
                    last = Some(error)
                }
                Err(DbError::Fatal(failure)) if failure.message.contains("unknown host") => {
                    last = Some(DbError::Fatal(failure));
                }
                Err(fatal) => return Err(fatal),
            }
        }
        Err(last.unwrap_or_else(|| DbError::Fatal(Failure::new(format!("connection `{}` has no host", self.name)))))
    }

    /// Returns why a server is not of the wanted kind, if it is not.
    async fn mismatch(&self, session: &Session, server: &Server, wanted: SessionAttrs) -> Option<Failure> {
        let (question, expected, otherwise) = wanted.question()?;
        session.budget.allow(MAX_REPLY_BYTES);
        let answer = tokio::time::timeout(self.timeout(), session.client.simple_query(question)).await;
        let first = |messages: Vec<SimpleQueryMessage>| {
            messages.into_iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
        };
        let what = match answer {
            Ok(Ok(messages)) => match first(messages) {
                Some(answer) if answer == expected => return None,
                _ => format!("{server} {otherwise}"),
            },
            Ok(Err(error)) => format!("{server} cannot be asked what kind of server it is: {error}"),
            Err(_) => format!("{server} did not answer within {} s", self.timeout().as_secs()),
        };
        let failure =
            Failure::new(format!("connection `{}`: {what}, but the URL has target_session_attrs={wanted}", self.name));
        Some(failure.hint("add a host of that kind to the URL, or remove target_session_attrs"))
    }

    async fn connect_to_server(&self, server: &Server, renewed: Option<&Secret>) -> Result<Session, DbError> {
        let endpoint = self.endpoint();
        let (user, database) = (endpoint.user(), endpoint.database());
        let mode = tls::mode(endpoint, server, self.tunnel.is_some());
        let connector = tls::Connector { endpoint: endpoint.clone(), mode };
        let (password, password_note) = match renewed {
            Some(renewed) => (Some(renewed.as_password()), None),
            None => self.password_for(server, &database, &user),
        };
        let mut attempt = Attempt {
            connection: &self.name,
            server,
            user: &user,
            database: &database,
            mode,
            password_note: password_note.as_deref(),
            password_source: self.spec.password.as_ref(),
        };
        let timeout = self.timeout();
        let attempts = tls::attempts(mode);
        for (at, wire) in attempts.iter().enumerate() {
            let config = self.config_for(server, *wire, password.as_ref());
            let budget = Budget::new(MAX_LOGIN_BYTES);
            let is_tunnel_open = AtomicBool::new(false);
            let connecting = async {
                let name = server.name.as_deref().unwrap_or_default();
                let tls = connector.handshake(name);
                match (&self.tunnel, &server.host) {
                    (Some(tunnel), _) => {
                        let stream = tunnel.channel(&host_name(server), server.port).await.map_err(Stage::Tunnel)?;
                        is_tunnel_open.store(true, Ordering::Relaxed);
                        log_in(&config, stream, tls, &budget).await
                    }
                    (None, Host::Unix(folder)) => {
                        let stream = dial::unix(folder, server.port).await.map_err(Stage::Dial)?;
                        log_in(&config, stream, tls, &budget).await
                    }
                    (None, Host::Tcp(host)) => {
                        let stream = dial::tcp(host, server.port, &endpoint.config).await.map_err(Stage::Dial)?;
                        log_in(&config, stream, tls, &budget).await
                    }
                }
            };
            let error = match tokio::time::timeout(timeout, connecting).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(Stage::Tunnel(failure))) => return Err(DbError::ConnectionLost(failure)),
                Ok(Err(Stage::Dial(error))) => return Err(attempt.cannot_reach(&error)),
                Ok(Err(Stage::Server(_))) if budget.is_exceeded() => return Err(attempt.too_much(MAX_LOGIN_BYTES)),
                Ok(Err(Stage::Server(error))) => error,
                Err(_) => {
                    return Err(match self.tunnel.as_ref().filter(|_| !is_tunnel_open.load(Ordering::Relaxed)) {
                        Some(tunnel) => DbError::Silent(tunnel.timed_out(timeout)),
                        None => attempt.timed_out(timeout.as_secs()),
                    });
                }
            };
            if let Some(failure) = tls::set_up_failure(&error) {
                return Err(DbError::Fatal(failure.clone()));
            }
            if at + 1 == attempts.len() || !is_worth_retrying(&error) {
                attempt.mode = mode;
                return Err(attempt.classify(&error));
            }
        }
        Err(attempt.timed_out(timeout.as_secs()))
    }

    /// Returns the password for a server, and what may be wrong with it, or why a password file was ignored.
    fn password_for(&self, server: &Server, database: &str, user: &str) -> (Option<Secret>, Option<String>) {
        if let Some(given) = self.password.as_ref().or(self.endpoint().password.as_ref()) {
            let given = given.as_password();
            let source = self.spec.password.as_ref().filter(|_| self.password.is_some());
            let note = source.and_then(|source| ends_warning(source, &given));
            return (Some(given), note);
        }
        match self.defaults.look_up(self.endpoint().passfile.as_deref().map(Path::new), server, database, user) {
            Found::Password(password) => (Some(password), None),
            // The connection's own source, if any, has no value.
            Found::Nothing => {
                let source = self.spec.password.as_ref();
                (
                    None,
                    source.map(|source| format!("{}, and no password file contains it", yields_nothing(Some(source)))),
                )
            }
            Found::Ignored(why) => (None, Some(why)),
        }
    }

    /// Returns the settings of the endpoint for one server.
    fn config_for(&self, server: &Server, wire: Wire, password: Option<&Secret>) -> Config {
        let all = &self.endpoint().config;
        let mut config = Config::new();
        config
            .user(self.endpoint().user())
            .dbname(self.endpoint().database())
            .ssl_mode(wire)
            .ssl_negotiation(all.get_ssl_negotiation())
            .channel_binding(all.get_channel_binding());
        if let Some(password) = password {
            config.password(password.expose());
        }
        if let Some(options) = all.get_options() {
            config.options(options);
        }
        // A pooler would pass the application name on to the next user of its session. Redshift's own hosts have no
        // pooler, and accept the name only at the start of a session.
        let redshift = |host: &str| host.contains(".redshift") && host.ends_with(".amazonaws.com");
        let own_host = server.name.as_deref().is_some_and(redshift);
        if let Some(name) = all.get_application_name().filter(|_| own_host) {
            config.application_name(name);
        }
        config
    }
}

/// The stage at which connecting failed.
enum Stage {
    Tunnel(Failure),
    Dial(io::Error),
    Server(tokio_postgres::Error),
}

/// Returns the host name from the plan file, which is also the name for the far end of the tunnel.
fn host_name(server: &Server) -> String {
    match &server.host {
        Host::Tcp(host) => host.clone(),
        Host::Unix(folder) => folder.to_string_lossy().into_owned(),
    }
}

/// Logs in over a stream and runs the connection in the background.
async fn log_in<S>(config: &Config, stream: S, tls: tls::Handshake, budget: &Budget) -> Result<Session, Stage>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    let stream = Bounded::new(stream, budget.clone());
    let (client, connection) = config.connect_raw(stream, tls).await.map_err(Stage::Server)?;
    // Redshift reports itself as PostgreSQL 8.0.2.
    let old = connection.parameter("server_version").is_some_and(|version| version.starts_with("8.0"));
    let pump = tokio::spawn(async move {
        // Errors are reported to the callers that wait for an answer.
        let _ended = connection.await;
    });
    let dialect = if old { Dialect::Redshift } else { Dialect::Postgresql };
    Ok(Session { client, dialect, budget: budget.clone(), pump })
}
