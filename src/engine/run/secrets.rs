//! The secrets of one run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;

use super::error::NotPrepared;
use crate::engine::stop::Stop;
use crate::host::environment::{Environment, Variables};
use crate::host::secret::{Origin, Secret, SecretError, SecretReader, SecretResult, SecretSource, exposure_warning};
use crate::host::warehouse::ConnectionSecrets;
use crate::plan_file::{Evaluated, PlanFile};
use crate::resource::Step;

/// The secrets of a run's steps and connections. Each source was read once.
#[derive(Debug, Default)]
pub struct RunSecrets {
    /// By step id, and then by the key of the source.
    steps: HashMap<String, BTreeMap<String, SecretResult>>,
    /// By connection name.
    connections: HashMap<String, SecretResult>,
    /// The environment variables that programs do not get, because they contain secrets.
    withheld: BTreeSet<String>,
    /// The environment variables that may be passed on to the launching user's git.
    for_git: Variables,
    /// Secrets of the plan file that are known without being read for a step.
    others: Vec<Secret>,
    /// The keys of tunnels, by connection name.
    tunnel_keys: HashMap<String, SecretResult>,
    /// Warnings about sources, by step id.
    step_warnings: HashMap<String, Vec<String>>,
    /// Warnings about sources, by connection name.
    connection_warnings: HashMap<String, Vec<String>>,
}

impl RunSecrets {
    /// Reads all sources of the selected steps and their connections. `progress` gets the id of the step, for a
    /// connection that of the first one with it, and what is read.
    ///
    /// # Errors
    /// A signal came before all sources had been read. A source that cannot be read is a failure of its steps, not of
    /// this function.
    pub async fn read(
        plan_file: &PlanFile,
        plan: &Evaluated,
        environment: &Environment,
        stop: &Stop,
        progress: &(dyn Fn(&str, String) + Send + Sync),
    ) -> Result<Self, NotPrepared> {
        let of_steps = || {
            plan.steps.iter().flat_map(|step| {
                step.resource.site().secrets().into_iter().map(|(key, source)| ((&step.id, key), source))
            })
        };
        let of_connections =
            || plan.connections.iter().filter_map(|(name, spec)| Some((name, spec.as_ref().ok()?.password.as_ref()?)));
        let of_tunnels =
            || plan.connections.iter().filter_map(|(name, spec)| Some((name, spec.as_ref().ok()?.tunnel_key()?)));
        let mut withheld: BTreeSet<String> = plan_file.environment_names();
        withheld.extend(plan.steps.iter().flat_map(|step| &step.companions).flat_map(|file| file.environment.clone()));
        // Templates can add more names.
        let of_both = of_connections().chain(of_tunnels());
        let sources = of_steps().map(|(_, source)| source).chain(of_both.map(|(_, source)| source));
        withheld.extend(sources.filter_map(|source| match &source.origin {
            Origin::Env(name) => Some(name.clone()),
            _ => None,
        }));
        let mut secrets = Self { withheld: withheld.clone(), ..Self::default() };
        let mut reader = SecretReader::new(environment.clone(), withheld);
        let begin =
            |id: &str, source: &SecretSource| progress(id, format!("reading its secret from {}", source.origin));
        let begin_of_connection = |name: &str, source: &SecretSource| {
            let with_it = plan.steps.iter().find(|step| step.resource.connection() == Some(name));
            let text = format!("reading the secret of connection `{name}` from {}", source.origin);
            progress(with_it.map_or("", |step| &step.id), text);
        };
        for ((id, key), source) in of_steps() {
            begin(id, source);
            let result = ask(&mut reader, source, stop).await?;
            secrets.step_warnings.entry(id.clone()).or_default().extend(exposure_warning(source));
            secrets.steps.entry(id.clone()).or_default().insert(key.to_owned(), result);
        }
        for (name, source) in of_connections() {
            begin_of_connection(name, source);
            secrets.connection_warnings.entry(name.clone()).or_default().extend(exposure_warning(source));
            secrets.connections.insert(name.clone(), ask(&mut reader, source, stop).await?);
        }
        for (name, source) in of_tunnels() {
            begin_of_connection(name, source);
            secrets.connection_warnings.entry(name.clone()).or_default().extend(exposure_warning(source));
            secrets.tunnel_keys.insert(name.clone(), ask(&mut reader, source, stop).await?);
        }
        // Sources of steps that are not selected are not read, but variables and URLs are known all the same.
        let of_variables = plan_file.secret_names();
        let of_variables = of_variables.iter().filter_map(|name| environment.answer(name));
        let in_urls = plan.connections.values().filter_map(|spec| spec.as_ref().ok()?.password_in_url().cloned());
        secrets.others = of_variables.map(|value| Secret::copy_of(value.as_bytes())).chain(in_urls).collect();
        secrets.for_git = environment.for_git(&secrets.withheld, |value| secrets.are_in(value));
        Ok(secrets)
    }

    /// Returns the environment variables that may be passed on to the launching user's git.
    pub fn for_git(&self) -> &Variables {
        &self.for_git
    }

    /// Returns the secrets of the step by the keys of their sources. A source without a value has no entry.
    ///
    /// # Errors
    /// The first source that could not be read.
    pub fn of_step(&self, id: &str) -> Result<BTreeMap<String, Secret>, SecretError> {
        let mut secrets = BTreeMap::new();
        for (key, result) in self.steps.get(id).into_iter().flatten() {
            secrets.extend(result.clone()?.map(|secret| (key.clone(), secret)));
        }
        Ok(secrets)
    }

    /// Returns whether a text shows a secret of the run.
    pub fn are_in(&self, text: &str) -> bool {
        let of_steps = self.steps.values().flat_map(BTreeMap::values);
        let all = of_steps.chain(self.connections.values()).chain(self.tunnel_keys.values());
        all.flatten().flatten().chain(&self.others).any(|secret| secret.is_in(text))
    }

    /// Returns the warnings about the sources of a step, or of its connection.
    pub fn warnings(&self, step: &Step) -> &[String] {
        let warnings = match step.resource.connection() {
            Some(connection) => self.connection_warnings.get(connection),
            None => self.step_warnings.get(&step.id),
        };
        warnings.map_or(&[], Vec::as_slice)
    }

    /// Returns the environment variables that programs do not get, because they contain secrets.
    pub fn withheld(&self) -> &BTreeSet<String> {
        &self.withheld
    }

    /// Returns the secrets of the connection.
    ///
    /// # Errors
    /// The first source that could not be read.
    pub fn of_connection(&self, name: &str) -> Result<ConnectionSecrets, SecretError> {
        let password = self.connections.get(name).cloned().unwrap_or(Ok(None))?;
        let tunnel_key = self.tunnel_keys.get(name).cloned().unwrap_or(Ok(None))?;
        Ok(ConnectionSecrets { password, tunnel_key })
    }
}

/// Reads one source, unless a signal comes first. A program may take long.
async fn ask(reader: &mut SecretReader, source: &SecretSource, stop: &Stop) -> Result<SecretResult, NotPrepared> {
    tokio::select! {
        result = reader.read(source) => Ok(result),
        () = stop.asked() => Err(NotPrepared::Stopped(stop.signal().unwrap_or(2))),
    }
}
