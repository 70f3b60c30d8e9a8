//! What is left to a person after the changes: containers hold on to files and to an environment that were replaced,
//! and are created anew by nobody but their owner.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::event::FollowUp;
use super::step::Step;
use crate::resource::{AnyActual, AnyChange, Project};

/// Notes of what was seen and what was changed, from which the follow-ups are made.
#[derive(Debug, Default)]
pub struct FollowUps(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    /// By the id of the step.
    seen: BTreeMap<String, Seen>,
    changes: Vec<Made>,
}

#[derive(Debug)]
struct Seen {
    actual: AnyActual,
    project: Option<Project>,
    /// Whether there were services when the step was first looked at. What a run brings first nobody runs yet.
    from_before: bool,
}

#[derive(Debug)]
struct Made {
    step: Step,
    change: AnyChange,
    /// Services of the step's own project.
    outdated: Vec<String>,
}

impl FollowUps {
    /// Takes note of an observation.
    pub fn saw(&self, step: &Step, actual: &AnyActual) {
        let project = step.resource.project(actual);
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from_before = notes.seen.get(&step.id).map_or(project.is_some(), |seen| seen.from_before);
        notes.seen.insert(step.id.clone(), Seen { actual: actual.clone(), project, from_before });
    }

    /// Takes note of a change that was made.
    pub fn changed(&self, step: &Step, change: &AnyChange) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = notes.made(step, change);
        notes.changes.push(made);
    }

    /// Whether any change was taken note of.
    pub fn is_needed(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).changes.is_empty()
    }

    /// What is left to do after the changes that were made, each reason of each step by itself.
    pub fn left(&self) -> Vec<FollowUp> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.follow_ups(&notes.changes)
    }

    /// What would be left to do after these changes.
    pub fn after<'a>(&self, changes: impl Iterator<Item = (&'a Step, &'a AnyChange)>) -> Vec<FollowUp> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changes: Vec<Made> = changes.map(|(step, change)| notes.made(step, change)).collect();
        notes.follow_ups(&changes)
    }
}

impl Notes {
    fn made(&self, step: &Step, change: &AnyChange) -> Made {
        let outdated = self.seen.get(&step.id).map(|seen| step.resource.stale_services(&seen.actual, change));
        Made { step: step.clone(), change: change.clone(), outdated: outdated.unwrap_or_default() }
    }

    fn follow_ups(&self, changes: &[Made]) -> Vec<FollowUp> {
        let mut projects: BTreeMap<&PathBuf, &Project> = BTreeMap::new();
        for seen in self.seen.values().filter(|seen| seen.from_before) {
            projects.extend(seen.project.as_ref().map(|project| (&project.file, project)));
        }
        let mut ids: Vec<&str> = Vec::new();
        for made in changes {
            if !ids.contains(&made.step.id.as_str()) {
                ids.push(&made.step.id);
            }
        }
        let mut found = Vec::new();
        for id in ids {
            let own = self.seen.get(id).and_then(|seen| seen.project.as_ref()).map(|project| &project.file);
            let changes: Vec<&Made> = changes.iter().filter(|made| made.step.id == id).collect();
            for project in projects.values() {
                found.extend(of_step(id, &changes, project, own == Some(&project.file)));
            }
        }
        found
    }
}

/// What the changes of one step leave to do for one project. `own`: it is the one that the step edits.
fn of_step(id: &str, changes: &[&Made], project: &Project, own: bool) -> Vec<FollowUp> {
    let replaced = |path: &PathBuf| changes.iter().any(|made| made.step.resource.replaces(&made.change, path));
    let follow_up = |reason: String, services: Vec<String>, command: String| FollowUp {
        step: id.to_owned(),
        reason,
        services,
        command,
    };
    let mut found = Vec::new();
    if !own && replaced(&project.file) {
        let file = crate::host::fs::escape_path(&project.file);
        let reason = format!("containers keep what {file} said when they were created");
        found.push(follow_up(reason, Vec::new(), project.up()));
    }
    // By the order of the file, so that the same host always gives the same text.
    let (mut files, mut holders, mut outdated): (Vec<String>, Vec<String>, Vec<String>) = Default::default();
    for service in &project.services {
        let held: Vec<&PathBuf> = service.files.iter().filter(|path| replaced(path)).collect();
        if own && changes.iter().any(|made| made.outdated.contains(&service.name)) {
            outdated.push(service.name.clone());
        } else if !held.is_empty() {
            holders.push(service.name.clone());
            for path in held.into_iter().map(|path| crate::host::fs::escape_path(path)) {
                if !files.contains(&path) {
                    files.push(path);
                }
            }
        }
    }
    if !outdated.is_empty() {
        let command = project.recreate(&outdated);
        found.push(follow_up(
            "containers keep the environment that they were created with".to_owned(),
            outdated,
            command,
        ));
    }
    if !holders.is_empty() {
        let reason = format!("containers keep the file that they were created with: {}", files.join(", "));
        let command = project.recreate(&holders);
        found.push(follow_up(reason, holders, command));
    }
    found
}
