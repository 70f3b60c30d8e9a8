//! From an endpoint to a session: the servers in turn, TLS, the password, and one deadline over all of it.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode as Wire};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{Client, Config, Connection};

use super::catalog::Dialect;
use super::endpoint::{Endpoint, Server};
use super::error::{Attempt, DbError, other_way_may_do};
use super::pgpass::{ClientDefaults, Found};
use super::spec::ConnectionSpec;
use super::tls;
use crate::failure::Failure;
use crate::host::secret::{Secret, yields_nothing};
use crate::host::ssh::Tunnel;
use crate::telemetry::spans;

/// Seconds for connecting, unless the plan file or the URL says otherwise. libpq waits for ever.
const CONNECT_TIMEOUT: u64 = 10;

/// A session on the server. It ends when this is dropped.
pub(super) struct Session {
    pub client: Client,
    /// As the server's first words suggest; `version()` has the last word.
    pub dialect: Dialect,
    pump: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// All that is needed to connect, again and again.
pub(super) struct Connector {
    /// The connection's name in the plan file.
    pub name: String,
    pub spec: ConnectionSpec,
    pub password: Option<Secret>,
    pub surroundings: ClientDefaults,
    pub tunnel: Option<Tunnel>,
}

impl Connector {
    fn endpoint(&self) -> &Endpoint {
        &self.spec.url
    }

    /// How long connecting may take.
    pub fn timeout(&self) -> Duration {
        let from_url = self.endpoint().config.get_connect_timeout().copied();
        let given = self.spec.connect_timeout.map(|seconds| Duration::from_secs(seconds.into()));
        given.or(from_url).filter(|given| !given.is_zero()).unwrap_or(Duration::from_secs(CONNECT_TIMEOUT))
    }

    /// A session on the first server that lets one in.
    pub async fn dial(&self) -> Result<Session, DbError> {
        let mut last = None;
        for server in self.endpoint().servers() {
            let span = spans::warehouse_connect(&host_name(&server), server.port.into(), &self.endpoint().database());
            match span.instrument(self.dial_server(&server)).await {
                Ok(session) => return Ok(session),
                // A server that answered and said no would say so again; only one that cannot be used has a successor.
                Err(trouble @ (DbError::ConnectionLost(_) | DbError::Silent(_) | DbError::Conflict(_))) => {
                    last = Some(trouble)
                }
                Err(DbError::Fatal(failure)) if failure.message.contains("unknown host") => {
                    last = Some(DbError::Fatal(failure));
                }
                Err(fatal) => return Err(fatal),
            }
        }
        Err(last.unwrap_or_else(|| DbError::Fatal(Failure::new(format!("connection `{}` names no host", self.name)))))
    }

    async fn dial_server(&self, server: &Server) -> Result<Session, DbError> {
        let endpoint = self.endpoint();
        let (user, database) = (endpoint.user(), endpoint.database());
        let mode = tls::mode(endpoint, server, self.tunnel.is_some());
        let connector = tls::Connector { endpoint: endpoint.clone(), mode };
        let (password, passed_over) = self.password_for(server, &database, &user);
        let mut attempt = Attempt {
            connection: &self.name,
            server,
            user: &user,
            database: &database,
            mode,
            passed_over: passed_over.as_deref(),
            password_source: self.spec.password.as_ref(),
        };
        let timeout = self.timeout();
        let attempts = tls::attempts(mode);
        for (at, wire) in attempts.iter().enumerate() {
            let config = self.config_for(server, *wire, password.as_ref());
            let dialling = async {
                match &self.tunnel {
                    None => {
                        let (client, connection) = config.connect(connector.clone()).await.map_err(Stage::Server)?;
                        Ok(session(client, connection))
                    }
                    Some(tunnel) => {
                        let stream = tunnel.channel(&host_name(server), server.port).await.map_err(Stage::Tunnel)?;
                        let name = server.name.as_deref().unwrap_or_default();
                        let tls = connector.handshake(name);
                        let (client, connection) = config.connect_raw(stream, tls).await.map_err(Stage::Server)?;
                        Ok(session(client, connection))
                    }
                }
            };
            let error = match tokio::time::timeout(timeout, dialling).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(Stage::Tunnel(failure))) => return Err(DbError::ConnectionLost(failure)),
                Ok(Err(Stage::Server(error))) => error,
                Err(_) => return Err(attempt.timed_out(timeout.as_secs())),
            };
            if let Some(failure) = tls::set_up_failure(&error) {
                return Err(DbError::Fatal(failure.clone()));
            }
            if at + 1 == attempts.len() || !other_way_may_do(&error) {
                attempt.mode = mode;
                return Err(attempt.classify(&error));
            }
        }
        Err(attempt.timed_out(timeout.as_secs()))
    }

    /// The password for a server, and why a password file was passed over.
    fn password_for(&self, server: &Server, database: &str, user: &str) -> (Option<Secret>, Option<String>) {
        if let Some(given) = self.password.as_ref().or(self.endpoint().password.as_ref()) {
            return (Some(given.as_password()), None);
        }
        match self.surroundings.look_up(self.endpoint().passfile.as_deref().map(Path::new), server, database, user) {
            Found::Password(password) => (Some(password), None),
            // Its own source, if it has one, has yielded nothing.
            Found::Nothing => {
                let source = self.spec.password.as_ref();
                (None, source.map(|source| format!("{}, and no password file has it", yields_nothing(Some(source)))))
            }
            Found::PassedOver(why) => (None, Some(why)),
        }
    }

    /// The endpoint's settings for one server alone.
    fn config_for(&self, server: &Server, wire: Wire, password: Option<&Secret>) -> Config {
        let all = &self.endpoint().config;
        let mut config = Config::new();
        config
            .user(self.endpoint().user())
            .dbname(self.endpoint().database())
            .ssl_mode(wire)
            .ssl_negotiation(all.get_ssl_negotiation())
            .port(server.port)
            .connect_timeout(self.timeout())
            .keepalives(all.get_keepalives())
            .keepalives_idle(all.get_keepalives_idle())
            .target_session_attrs(all.get_target_session_attrs())
            .channel_binding(all.get_channel_binding());
        match (&server.host, &server.name) {
            (Host::Unix(folder), _) => {
                config.host_path(folder);
            }
            (Host::Tcp(address), Some(name)) => {
                config.host(name.clone());
                // The address was pinned by `hostaddr`; the name is for the certificate.
                if let Ok(address) = address.parse() {
                    config.hostaddr(address);
                }
            }
            (Host::Tcp(host), None) => {
                config.host(host.clone());
            }
        }
        if let Some(password) = password {
            config.password(password.expose());
        }
        if let Some(options) = all.get_options() {
            config.options(options);
        }
        // A pooler gives the name that a session begins with to whoever has the session next. On Redshift's own
        // hosts there is none, and there the name is only taken when a session begins.
        let redshift = |host: &str| host.contains(".redshift") && host.ends_with(".amazonaws.com");
        let own_host = server.name.as_deref().is_some_and(redshift);
        if let Some(name) = all.get_application_name().filter(|_| own_host) {
            config.application_name(name);
        }
        if let Some(timeout) = all.get_tcp_user_timeout() {
            config.tcp_user_timeout(*timeout);
        }
        if let Some(interval) = all.get_keepalives_interval() {
            config.keepalives_interval(interval);
        }
        if let Some(retries) = all.get_keepalives_retries() {
            config.keepalives_retries(retries);
        }
        config
    }
}

/// Where connecting failed.
enum Stage {
    Tunnel(Failure),
    Server(tokio_postgres::Error),
}

/// The host by the name that the plan file has for it, as a tunnel's far end is asked for it.
fn host_name(server: &Server) -> String {
    match &server.host {
        Host::Tcp(host) => host.clone(),
        Host::Unix(folder) => folder.to_string_lossy().into_owned(),
    }
}

/// Keeps the connection running in the background.
fn session<S, T>(client: Client, connection: Connection<S, T>) -> Session
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsStream + AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Redshift presents itself as PostgreSQL 8.0.2.
    let old = connection.parameter("server_version").is_some_and(|version| version.starts_with("8.0"));
    let pump = tokio::spawn(async move {
        // What goes wrong here is told to whoever waits for an answer.
        let _ended = connection.await;
    });
    Session { client, dialect: if old { Dialect::Redshift } else { Dialect::Postgresql }, pump }
}
