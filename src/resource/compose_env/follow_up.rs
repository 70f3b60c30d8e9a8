//! Follow-ups. Containers keep the files and the environment that they were created with until a person recreates them.

use std::collections::HashSet;
use std::path::PathBuf;

use super::actual::{Actual, ComposeFile, Service};
use super::change::Change;
use super::desired::ComposeEnv;
use super::diff;
use super::project::Project;
use crate::host::fs::escape_path;
use crate::resource::{Cause, Reaction, Reacts};

impl Reacts<Actual, Change> for ComposeEnv {
    fn subject(&self, actual: &Actual) -> Option<PathBuf> {
        let ComposeFile::Read { project, .. } = &actual.file else { return None };
        Some(project.subject().cloned().unwrap_or_else(|| self.file.to_path_buf()))
    }

    fn stale(&self, actual: &Actual, change: &Change) -> Vec<String> {
        diff::stale_services(actual, change)
    }

    fn follow_ups(&self, actual: &Actual, cause: &Cause<'_>) -> Vec<Reaction> {
        let ComposeFile::Read { project, uses, .. } = &actual.file else { return Vec::new() };
        if !project.instead.is_empty() {
            // Nothing was started from the file.
            return Vec::new();
        }
        let mut found = Vec::new();
        let replaced: Vec<String> =
            project.read.iter().filter(|path| (cause.replaced)(path)).map(|path| escape_path(path)).collect();
        if cause.stale.is_none() && !replaced.is_empty() {
            let reason = format!("update the containers; they still use the old {}", replaced.join(", "));
            found.push(reaction(project, reason, &["up", "-d"], Vec::new()));
        }
        let outdated: Option<HashSet<&String>> = cause.stale.map(|stale| stale.iter().collect());
        let (mut files, mut holders, mut stale): (Vec<String>, Vec<&Service>, Vec<&Service>) = Default::default();
        for service in uses.iter() {
            // Whether the variables of a step's own `.env` reach a service is known.
            let env_files = service.env_files.iter().filter(|_| cause.stale.is_none());
            let held: Vec<&PathBuf> =
                service.files.iter().chain(env_files).filter(|path| (cause.replaced)(path)).collect();
            if outdated.as_ref().is_some_and(|outdated| outdated.contains(&service.name)) {
                stale.push(service);
            } else if !held.is_empty() {
                holders.push(service);
                for path in held.into_iter().map(|path| escape_path(path)) {
                    if !files.contains(&path) {
                        files.push(path);
                    }
                }
            }
        }
        found.extend(recreate(project, &stale, "old environment"));
        found.extend(recreate(project, &holders, &format!("old {}", files.join(", "))));
        found
    }
}

/// The follow-up for services that use something old. Those that a plain `up` would not start are only named.
fn recreate(project: &Project, services: &[&Service], old: &str) -> Option<Reaction> {
    let (on_demand, started): (Vec<&Service>, Vec<&Service>) =
        services.iter().partition(|service| service.on_demand.is_some());
    let names = |services: &[&Service]| services.iter().map(|service| service.name.clone()).collect::<Vec<String>>();
    let told: Vec<String> = on_demand
        .iter()
        .filter_map(|service| Some(format!("{} ({})", service.name, service.on_demand.as_ref()?)))
        .collect();
    if started.is_empty() {
        if on_demand.is_empty() {
            return None;
        }
        let pronoun = if on_demand.len() == 1 { "it is" } else { "they are" };
        let reason = format!("recreate {} if {pronoun} running; the containers still use the {old}", told.join(", "));
        let profiles = on_demand.iter().filter_map(|service| service.on_demand.as_ref()?.strip_prefix("profile "));
        let profiles: Vec<&str> = profiles.flat_map(|profile| ["--profile", profile]).chain(["ps"]).collect();
        return Some(reaction(project, reason, &profiles, names(&on_demand)));
    }
    let mut reason = format!("recreate these containers; they still use the {old}");
    if !told.is_empty() {
        let running = if told.len() == 1 { "does {}, if it is running" } else { "do {}, if they are running" };
        reason.push_str(&format!("; so {}", running.replace("{}", &told.join(", "))));
    }
    Some(reaction(project, reason, &["up", "-d", "--force-recreate"], names(&started)))
}

fn reaction(project: &Project, reason: String, arguments: &[&str], services: Vec<String>) -> Reaction {
    let mut arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    arguments.extend_from_slice(&services);
    Reaction { reason, services, argv: project.argv(&arguments), command: project.command(&arguments) }
}
