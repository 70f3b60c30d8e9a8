//! What a connection takes from the environment of the process that the user started.
//!
//! As in libpq (<https://www.postgresql.org/docs/current/libpq-envars.html>), a `PG*` variable is used for a setting that
//! neither the connection string nor its service contains. One rule is stricter than libpq's: a variable never redirects
//! a connection string that names a host. So the password of the service in `PGSERVICE` is only for the server of that service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::endpoint::Endpoint;
use super::service::{self, Service, ServiceFile};
use super::spec::ConnectionSpec;
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::fs::escape_path;
use crate::host::secret::Secret;

/// The variables and the settings that they give.
const VARIABLES: &[(&str, &str)] = &[
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
];

/// The folders of the system's service file in libpq of Debian, of Fedora, and by PostgreSQL's own default.
const SYSTEM_FOLDERS: [&str; 3] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/usr/local/pgsql/etc"];

/// The settings that choose the server.
const SERVER: [&str; 2] = ["host", "hostaddr"];

/// The port of a server without one.
const DEFAULT_PORT: &str = "5432";

/// Everything that a connection takes from the environment of the process that the user started.
#[derive(Debug, Clone, Default)]
pub struct ClientDefaults {
    /// `PGPASSFILE`.
    pub pgpassfile: Option<PathBuf>,
    /// The user's home directory, for `.pgpass`, `.pg_service.conf` and `.ssh/known_hosts`.
    pub home: Option<PathBuf>,
    /// `PGSERVICE`.
    pub service: Option<String>,
    /// `PGSERVICEFILE`.
    pub service_file: Option<PathBuf>,
    /// `PGSYSCONFDIR`.
    pub system_folder: Option<PathBuf>,
    /// `PGPASSWORD`.
    pub password: Option<Secret>,
    /// The settings that other variables give, each with its variable.
    pub settings: BTreeMap<&'static str, (&'static str, String)>,
}

impl ClientDefaults {
    /// Takes the same values from the environment as libpq and ssh. As in libpq, an empty variable is ignored.
    pub fn of(environment: &Environment) -> Self {
        let text = |name: &str| environment.get(name)?.to_str().filter(|value| !value.is_empty()).map(str::to_owned);
        let path = |name: &str| environment.path(name).filter(|path| !path.as_os_str().is_empty());
        let given = VARIABLES.iter().filter_map(|(variable, key)| Some((*key, (*variable, text(variable)?))));
        Self {
            pgpassfile: path("PGPASSFILE"),
            home: path("HOME"),
            service: text("PGSERVICE"),
            service_file: path("PGSERVICEFILE"),
            system_folder: path("PGSYSCONFDIR"),
            password: text("PGPASSWORD").map(|password| Secret::new(password.into_bytes())),
            settings: given.collect(),
        }
    }

    /// Returns the files that may have the password or the service of a connection.
    pub fn files(&self, spec: &ConnectionSpec) -> Vec<PathBuf> {
        let Endpoint { password, passfile, settings, .. } = &spec.url;
        let has_password = spec.password.is_some() || password.is_some();
        let passfile = passfile.is_none().then(|| self.default_passfile()).flatten().filter(|_| !has_password);
        let has_service = given(settings, "service").or(self.service.as_deref()).is_some();
        let services = has_service.then(|| self.service_files()).into_iter().flatten().map(|file| file.path);
        passfile.into_iter().chain(services).filter(|path| path.is_absolute()).collect()
    }

    /// Returns the password file of connections that name none.
    pub(super) fn default_passfile(&self) -> Option<PathBuf> {
        self.pgpassfile.clone().or_else(|| self.home.as_ref().map(|home| home.join(".pgpass")))
    }

    /// Returns the places of services, in the order in which they are searched.
    fn service_files(&self) -> Vec<ServiceFile> {
        let own = match &self.service_file {
            Some(named) => Some(ServiceFile { path: named.clone(), is_required: true }),
            None => {
                self.home.as_ref().map(|home| ServiceFile { path: home.join(".pg_service.conf"), is_required: false })
            }
        };
        let system = match &self.system_folder {
            Some(folder) => vec![folder.clone()],
            None => SYSTEM_FOLDERS.map(PathBuf::from).to_vec(),
        };
        let system =
            system.into_iter().map(|folder| ServiceFile { path: folder.join("pg_service.conf"), is_required: false });
        own.into_iter().chain(system).collect()
    }

    /// Returns the settings of a connection string, completed by its service and by the variables.
    ///
    /// # Errors
    /// The service cannot be found or read, or the settings do not form a connection.
    fn complete(&self, endpoint: &Endpoint) -> Result<Endpoint, Incomplete> {
        let mut settings = endpoint.settings.clone();
        let mut password = endpoint.password.clone();
        let mut sources = Vec::new();
        let is_redirected = given(&settings, "service").is_none() && has_server(&settings);
        let service = self.service_of(&settings)?;
        let has_service = service.is_some();
        if let Some((name, service)) = service {
            sources.push(format!("service {name} in {}", escape_path(&service.file)));
            if !(is_redirected && self.is_another_server(&settings, &service.settings)) {
                password = password.or(service.password);
            }
            for (key, value) in service.settings {
                if !is_redirected || !SERVER.contains(&key.as_str()) {
                    settings.entry(key).or_insert(value);
                }
            }
        }
        let has_server = has_server(&settings);
        for (key, (variable, value)) in &self.settings {
            if settings.contains_key(*key) || (has_server && SERVER.contains(key)) {
                continue;
            }
            settings.insert((*key).to_owned(), value.clone());
            sources.push((*variable).to_owned());
        }
        let failed = |failure: Failure| {
            if sources.is_empty() {
                return failure;
            }
            let message = format!("{} (settings also come from {})", failure.message, sources.join(", "));
            Failure { message, ..failure }
        };
        let password = password.or_else(|| self.password.clone());
        // The connection string alone has been found to be right.
        let complete = Endpoint::new(settings, password).map_err(|failure| Incomplete::OfHost(failed(failure)))?;
        if complete.servers().is_empty() {
            let failure = failed("the connection has no host: write postgresql://USER@HOST:PORT/DATABASE".into());
            return Err(if has_service { Incomplete::OfHost(failure) } else { Incomplete::OfUrl(failure) });
        }
        Ok(complete)
    }

    /// Returns the service of a connection string, and its name. The one of `PGSERVICE` is left out if it cannot be used and the
    /// string has a host, a user and a database.
    fn service_of(&self, settings: &Settings) -> Result<Option<(String, Service)>, Incomplete> {
        let own = given(settings, "service");
        let Some(name) = own.or(self.service.as_deref()) else { return Ok(None) };
        let origin = if own.is_some() { "" } else { ", which PGSERVICE names," };
        let is_needed = own.is_some()
            || !has_server(settings)
            || ["user", "dbname"].iter().any(|key| given(settings, key).is_none());
        match service::find(name, origin, &self.service_files()) {
            Ok(service) => Ok(Some((name.to_owned(), service))),
            Err(_) if !is_needed => Ok(None),
            Err(failure) => Err(Incomplete::OfHost(failure)),
        }
    }

    /// Returns whether a connection string with a server leads to another one than that of a service. A service without a host is
    /// for any server.
    fn is_another_server(&self, settings: &Settings, service: &Settings) -> bool {
        let default = || self.settings.get("port").map_or(DEFAULT_PORT, |(_, port)| port.as_str());
        let is_same_host = |key: &&str| match (given(settings, key), given(service, key)) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one == other,
        };
        let port = given(settings, "port");
        has_server(service)
            && (!SERVER.iter().all(is_same_host)
                || port.is_some_and(|port| port != given(service, "port").unwrap_or_else(default)))
    }
}

/// The settings of a connection string or a service.
type Settings = BTreeMap<String, String>;

fn given<'a>(settings: &'a Settings, key: &str) -> Option<&'a str> {
    settings.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

fn has_server(settings: &Settings) -> bool {
    SERVER.iter().any(|key| given(settings, key).is_some())
}

/// Why a connection string cannot be completed.
#[derive(Debug, Clone)]
pub enum Incomplete {
    /// A service or a variable of this host is missing or wrong.
    OfHost(Failure),
    /// The connection string itself lacks something.
    OfUrl(Failure),
}

impl From<Incomplete> for Failure {
    fn from(incomplete: Incomplete) -> Self {
        match incomplete {
            Incomplete::OfHost(failure) | Incomplete::OfUrl(failure) => failure,
        }
    }
}

impl ConnectionSpec {
    /// Returns the connection with the settings that its URL leaves out, as libpq adds them: from the service, then from the
    /// `PG*` variables.
    ///
    /// # Errors
    /// The service cannot be found or read, or the settings do not form a connection.
    pub fn completed(self, defaults: &ClientDefaults) -> Result<Self, Incomplete> {
        Ok(Self { url: defaults.complete(&self.url)?, ..self })
    }
}

#[cfg(test)]
#[path = "defaults_tests.rs"]
mod tests;
