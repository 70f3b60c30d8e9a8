//! The project that a compose file describes, and its follow-ups. Containers keep the files and the environment that they were
//! created with until a person recreates them.

use std::path::{Path, PathBuf};

use super::actual::{Actual, ComposeFile, Service};
use super::change::Change;
use super::desired::ComposeEnv;
use super::diff;
use crate::host::fs::escape_path;
use crate::resource::{Cause, Reaction, Reacts};

/// The services of a compose file, with the files of the host that their containers use.
#[derive(Debug)]
pub struct Project<'a> {
    /// The compose file.
    pub file: &'a Path,
    /// The override file, which Compose merges into it unless `-f` is given.
    pub override_file: Option<&'a Path>,
    pub services: &'a [Service],
}

impl<'a> Project<'a> {
    /// The project of a step's compose file, if it could be read.
    pub fn of(step: &'a ComposeEnv, actual: &'a Actual) -> Option<Self> {
        match &actual.file {
            ComposeFile::Read { uses, override_file, .. } => Some(Self {
                file: &step.file,
                override_file: override_file.as_ref().map(|file| file.path.as_path()),
                services: uses,
            }),
            _ => None,
        }
    }

    /// The command that recreates the containers of these services.
    pub fn recreate(&self, services: &[String]) -> Vec<String> {
        let mut argv = self.up();
        argv.push("--force-recreate".to_owned());
        argv.extend_from_slice(services);
        argv
    }

    /// The command that recreates the containers whose description has changed.
    pub fn up(&self) -> Vec<String> {
        let mut argv = vec!["docker".to_owned(), "compose".to_owned()];
        for file in [Some(self.file), self.override_file].into_iter().flatten() {
            argv.extend(["-f".to_owned(), file.to_string_lossy().into_owned()]);
        }
        argv.extend(["up".to_owned(), "-d".to_owned()]);
        argv
    }
}

impl Reacts<Actual, Change> for ComposeEnv {
    fn subject(&self, actual: &Actual) -> Option<PathBuf> {
        Project::of(self, actual).map(|project| project.file.to_path_buf())
    }

    fn stale(&self, actual: &Actual, change: &Change) -> Vec<String> {
        diff::stale_services(self, actual, change)
    }

    fn follow_ups(&self, actual: &Actual, cause: &Cause<'_>) -> Vec<Reaction> {
        let Some(project) = Project::of(self, actual) else { return Vec::new() };
        let mut found = Vec::new();
        if cause.stale.is_none() && (cause.replaced)(project.file) {
            let reason = format!("update the containers; they still use the old {}", escape_path(project.file));
            found.push(Reaction { reason, services: Vec::new(), argv: project.up() });
        }
        // In the order of the file, so that the same host always gives the same text.
        let (mut files, mut holders, mut stale): (Vec<String>, Vec<String>, Vec<String>) = Default::default();
        for service in project.services {
            let held: Vec<&PathBuf> = service.files.iter().filter(|path| (cause.replaced)(path)).collect();
            if cause.stale.is_some_and(|stale| stale.contains(&service.name)) {
                stale.push(service.name.clone());
            } else if !held.is_empty() {
                holders.push(service.name.clone());
                for path in held.into_iter().map(|path| escape_path(path)) {
                    if !files.contains(&path) {
                        files.push(path);
                    }
                }
            }
        }
        if !stale.is_empty() {
            let reason = "recreate these containers; they still use the old environment".to_owned();
            found.push(Reaction { reason, argv: project.recreate(&stale), services: stale });
        }
        if !holders.is_empty() {
            let reason = format!("recreate these containers; they still use the old {}", files.join(", "));
            found.push(Reaction { reason, argv: project.recreate(&holders), services: holders });
        }
        found
    }
}
