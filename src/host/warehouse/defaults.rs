//! What a connection takes from the environment of the process that the user started.
//!
//! As in libpq (<https://www.postgresql.org/docs/current/libpq-envars.html>), a `PG*` variable is used for a setting that
//! neither the connection string nor its service contains. One rule is stricter than libpq's: a variable never redirects
//! a connection string that names a host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::endpoint::Endpoint;
use super::service::{self, ServiceFile};
use super::spec::ConnectionSpec;
use crate::failure::Failure;
use crate::host::environment::Environment;
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
    fn complete(&self, endpoint: &Endpoint) -> Result<Endpoint, Failure> {
        let mut settings = endpoint.settings.clone();
        let mut password = endpoint.password.clone();
        let mut sources = Vec::new();
        let has_server = SERVER.iter().any(|key| settings.get(*key).is_some_and(|value| !value.is_empty()));
        let own = settings.get("service").filter(|name| !name.is_empty()).cloned();
        let is_own = own.is_some();
        if let Some(name) = own.or_else(|| self.service.clone()) {
            let origin = if is_own { "" } else { ", which PGSERVICE names," };
            let service = service::find(&name, origin, &self.service_files())?;
            sources.push(format!("service {name} in {}", service.file.display()));
            for (key, value) in service.settings {
                if is_own || !has_server || !SERVER.contains(&key.as_str()) {
                    settings.entry(key).or_insert(value);
                }
            }
            password = password.or(service.password);
        }
        let has_server = SERVER.iter().any(|key| settings.get(*key).is_some_and(|value| !value.is_empty()));
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
        let complete = Endpoint::new(settings, password.or_else(|| self.password.clone())).map_err(failed)?;
        if complete.servers().is_empty() {
            return Err(failed("the connection has no host: write postgresql://USER@HOST:PORT/DATABASE".into()));
        }
        Ok(complete)
    }
}

impl ConnectionSpec {
    /// Returns the connection with the settings that its URL leaves out, as libpq adds them: from the service, then from the
    /// `PG*` variables.
    ///
    /// # Errors
    /// The service cannot be found or read, or the settings do not form a connection.
    pub fn completed(self, defaults: &ClientDefaults) -> Result<Self, Failure> {
        Ok(Self { url: defaults.complete(&self.url)?, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# comment
[other]
host=other.example
 [wh]
host=db.example
port=5439
   user=etl
dbname=d w
# comment = with
client_encoding=utf8

password=hunter2 = x
port=1
[wh]
sslmode=disable
[nested]
service=wh
[typo]
prot=hunter2
[rest]
hunter2
[strict]
require_auth=scram-sha-256
";

    fn defaults(variables: &[(&str, &str)]) -> ClientDefaults {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        ClientDefaults::of(&variables.collect())
    }

    fn completed(text: &str, variables: &[(&str, &str)]) -> Result<Endpoint, Failure> {
        defaults(variables).complete(&text.parse().unwrap())
    }

    #[test]
    fn variables_complete_the_url() {
        let all = [
            ("PGHOST", "env.example"),
            ("PGPORT", "6432"),
            ("PGUSER", "env_user"),
            ("PGDATABASE", "env_db"),
            ("PGSSLMODE", "require"),
            ("PGSSLROOTCERT", "/env.pem"),
            ("PGOPTIONS", "-c a=b"),
            ("PGPASSWORD", "hunter2"),
        ];
        for (text, shown) in [
            ("postgresql://", "Endpoint(env_user@env.example:6432/env_db)"),
            ("postgresql:///dw", "Endpoint(env_user@env.example:6432/dw)"),
            ("dbname=dw", "Endpoint(env_user@env.example:6432/dw)"),
            ("postgresql://etl@db.example/dw", "Endpoint(etl@db.example:6432/dw)"),
            ("postgresql://etl@db.example:5439/dw", "Endpoint(etl@db.example:5439/dw)"),
            ("postgresql://etl@one:1,two/dw", "Endpoint(etl@one:1,two:5432/dw)"),
        ] {
            let endpoint = completed(text, &all).unwrap();
            assert_eq!(format!("{endpoint:?}"), shown, "{text}");
            assert_eq!(endpoint.settings["sslmode"], "require");
            assert_eq!(endpoint.settings["options"], "-c a=b");
            assert_eq!(endpoint.password.as_ref().unwrap().expose(), b"hunter2");
            assert!(!format!("{:?}{:?}", endpoint.settings, defaults(&all)).contains("hunter2"));
        }
        let given = completed("postgresql://u:own@h/d?sslmode=disable", &all).unwrap();
        assert_eq!(given.settings["sslmode"], "disable");
        assert_eq!(given.password.unwrap().expose(), b"own");
    }

    #[test]
    fn variables_do_not_redirect_a_url_with_a_host() {
        let variables = [("PGHOST", "evil.example"), ("PGHOSTADDR", "10.6.6.6")];
        for text in ["postgresql://etl@db.example:5439/dw", "host=db.example", "hostaddr=10.0.0.9", "host=/run/pg"] {
            let (with, without) = (completed(text, &variables).unwrap(), completed(text, &[]).unwrap());
            assert_eq!(with.settings, without.settings, "{text}");
        }
        let addressed = completed("postgresql:///dw", &variables).unwrap();
        assert_eq!(addressed.settings["hostaddr"], "10.6.6.6");
    }

    #[test]
    fn empty_variables_are_ignored() {
        let failure = completed("postgresql:///dw", &[("PGHOST", ""), ("PGSERVICE", "")]).unwrap_err();
        assert_eq!(failure.message, "the connection has no host: write postgresql://USER@HOST:PORT/DATABASE");
    }

    #[test]
    fn a_wrong_value_is_reported_with_its_source() {
        let failure = completed("postgresql://u@h/d", &[("PGSSLMODE", "hunter2"), ("PGPORT", "1")]).unwrap_err();
        assert!(failure.message.contains("`sslmode` has to be one of"), "{failure:?}");
        assert!(failure.message.ends_with("(settings also come from PGPORT, PGSSLMODE)"), "{failure:?}");
        assert!(!failure.message.contains("hunter2"), "{failure:?}");
    }

    fn from(text: &str, defaults: &ClientDefaults) -> Result<Endpoint, Failure> {
        defaults.complete(&text.parse().unwrap())
    }

    struct Files {
        folder: tempfile::TempDir,
        defaults: ClientDefaults,
    }

    /// Creates a home directory with the service file.
    fn files() -> Files {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".pg_service.conf"), FILE).unwrap();
        let defaults = ClientDefaults {
            home: Some(folder.path().to_owned()),
            system_folder: Some(folder.path().join("etc")),
            ..ClientDefaults::default()
        };
        Files { folder, defaults }
    }

    #[test]
    fn a_service_completes_the_connection_string() {
        let Files { folder: _folder, defaults } = files();
        for (text, shown) in [
            ("service=wh", "Endpoint(etl@db.example:5439/d w)"),
            ("postgresql:///?service=wh", "Endpoint(etl@db.example:5439/d w)"),
            ("postgresql://dbt@/dw?service=wh", "Endpoint(dbt@db.example:5439/dw)"),
            ("host=near.example service=wh", "Endpoint(etl@near.example:5439/d w)"),
        ] {
            let endpoint = from(text, &defaults).unwrap();
            assert_eq!(format!("{endpoint:?}"), shown, "{text}");
            assert_eq!(endpoint.password.as_ref().unwrap().expose(), b"hunter2 = x");
            assert!(!endpoint.settings.contains_key("sslmode"), "only the first section counts");
            assert!(!endpoint.settings.contains_key("password"));
        }
        let by_variable = ClientDefaults { service: Some("wh".into()), ..defaults };
        assert_eq!(format!("{:?}", from("dbname=dw", &by_variable).unwrap()), "Endpoint(etl@db.example:5439/dw)");
        let kept = from("postgresql://dbt@mine.example/dw", &by_variable).unwrap();
        assert_eq!(kept.servers()[0].to_string(), "mine.example:5439");
    }

    #[test]
    fn the_users_file_comes_before_the_systems() {
        let Files { folder, defaults } = files();
        let etc = folder.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        std::fs::write(etc.join("pg_service.conf"), "[wh]\nhost=system\n[system]\nhost=system\n").unwrap();
        let host = |text: &str, defaults: &ClientDefaults| from(text, defaults).unwrap().settings["host"].clone();
        assert_eq!(host("service=wh", &defaults), "db.example");
        assert_eq!(host("service=system", &defaults), "system");
        let named = folder.path().join("named");
        std::fs::write(&named, "[named]\nhost=named\n").unwrap();
        let with_file = ClientDefaults { service_file: Some(named), ..defaults.clone() };
        assert_eq!(host("service=named", &with_file), "named");
        // `PGSERVICEFILE` takes the place of the user's own file, but not of the system's.
        assert_eq!(host("service=wh", &with_file), "system");
        let absent = ClientDefaults { service_file: Some(folder.path().join("absent")), ..defaults };
        assert!(from("service=wh", &absent).unwrap_err().message.ends_with("absent does not exist"));
    }

    #[test]
    fn errors_name_the_line_and_never_the_value() {
        let Files { folder: _folder, defaults } = files();
        for (text, reason) in [
            ("service=absent", "service `absent` is not defined in "),
            ("service=nested", ".pg_service.conf:17: a service cannot name another service"),
            ("service=typo", ".pg_service.conf:19: unknown connection option `prot`: did you mean `port`?"),
            ("service=rest", ".pg_service.conf:21: expected key=value"),
            ("service=strict", ".pg_service.conf:23: the connection option `require_auth` is not supported: remove it"),
        ] {
            let failure = from(text, &defaults).unwrap_err();
            assert!(failure.message.contains(reason), "{text}: {failure:?}");
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
        let nowhere = from("service=wh", &ClientDefaults::default());
        assert!(nowhere.unwrap_err().message.contains("`wh` is not defined"));
        let by_variable = ClientDefaults { service: Some("absent".into()), ..defaults };
        let failure = from("dbname=dw", &by_variable).unwrap_err();
        assert!(
            failure.message.starts_with("service `absent`, which PGSERVICE names, is not defined in"),
            "{failure:?}"
        );
    }
}
