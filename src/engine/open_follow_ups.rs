//! Follow-ups that stay open until a person marks them as done.
//!
//! Each plan file has one list in the state folder. apply and `follow-ups --done` write it under the plan file's lock. An
//! interrupted run cannot add to it. Its journal contains the expected follow-ups of its changes, and the next run counts
//! these as open.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::event::{FollowUp, InterruptedRun, OpenFollowUp};
use crate::failure::Failure;
use crate::host::fs::escape_path;
use crate::host::state::{self, Access, Part, StateFolder};
use crate::resource::{AnyResource, SubjectState};
use crate::text::{aside, io_error_text, shell_words};

/// The maximum size of a list that is read, in bytes.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// The open follow-ups of one plan file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenFollowUps {
    /// The path of the plan file, without symlinks, for people who read the list file.
    file: String,
    /// The highest number assigned so far.
    last_id: u32,
    open: Vec<OpenFollowUp>,
    /// Interrupted runs whose follow-ups are in the list.
    recovered: Vec<String>,
    /// Whether it differs from the stored list.
    #[serde(skip)]
    pub is_changed: bool,
}

impl OpenFollowUps {
    /// Reads the list of a plan file and adds the follow-ups of interrupted runs. Changes nothing on the disk.
    ///
    /// # Errors
    /// The list cannot be read, or another user could have written it.
    pub fn load(folder: &StateFolder, path: &Path, interrupted: &[InterruptedRun]) -> Result<Self, Failure> {
        let mut list = Self { file: path.display().to_string(), ..Self::default() };
        if let Some(dir) = folder.existing(Part::FollowUps)?
            && let Some(bytes) = state::read(&dir, &file_name(path), MAX_LIST_BYTES)?
        {
            list = serde_json::from_slice(&bytes).map_err(|error| {
                let file = dir.path_of(file_name(path).as_ref());
                Failure::new(format!("cannot read the open follow-ups in {}: {error}", escape_path(&file)))
                    .hint(format!("look into it, then move it away: `{}`", aside(file)))
            })?;
        }
        list.recovered.retain(|run| interrupted.iter().any(|other| other.run == *run));
        for run in interrupted {
            if !list.recovered.contains(&run.run) {
                list.recovered.push(run.run.clone());
                list.is_changed |= !run.follow_ups.is_empty();
                for follow_up in &run.follow_ups {
                    list.add(follow_up.clone(), &run.run, &run.started);
                }
            }
        }
        Ok(list)
    }

    /// Writes the list.
    ///
    /// # Errors
    /// The state folder cannot be written to.
    pub fn store(&self, folder: &StateFolder, path: &Path) -> Result<(), Failure> {
        let name = file_name(path);
        let dir = folder.make(Part::FollowUps)?;
        let failed = |error: &std::io::Error| {
            let file = escape_path(&dir.path_of(name.as_ref()));
            Failure::new(format!("cannot record the open follow-ups in {file}: {}", io_error_text(error)))
        };
        let new = format!("{name}.new");
        state::remove(&dir, &new)?;
        let text = serde_json::to_vec(self).map_err(|error| failed(&error.into()))?;
        let mut file =
            state::open(&dir, &new, Access::New)?.ok_or_else(|| failed(&std::io::ErrorKind::AlreadyExists.into()))?;
        file.write_all(&text).and_then(|()| file.sync_data()).map_err(|error| failed(&error))?;
        state::rename(&dir, &new, &name)?;
        state::sync(&dir)
    }

    /// Returns whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the open follow-ups, by number.
    pub fn iter(&self) -> impl Iterator<Item = &OpenFollowUp> {
        self.open.iter()
    }

    /// Adds a follow-up and returns its number. An open follow-up with the same command is extended and keeps its number.
    pub fn add(&mut self, follow_up: FollowUp, run: &str, since: &str) -> u32 {
        self.is_changed = true;
        if let Some(open) = self.open.iter_mut().find(|open| command(&open.follow_up) == command(&follow_up)) {
            extend(open, follow_up, run, since);
            return open.id;
        }
        self.last_id += 1;
        self.open.push(OpenFollowUp {
            id: self.last_id,
            run: run.to_owned(),
            since: since.to_owned(),
            steps: vec![follow_up.step.clone()],
            reasons: vec![follow_up.reason.clone()],
            follow_up: FollowUp { id: None, ..follow_up },
        });
        self.last_id
    }

    /// Closes the follow-ups about subjects that this run created. Nothing that is running was started from the previous ones.
    pub fn close_about(&mut self, subjects: &[String]) {
        let before = self.open.len();
        self.open.retain(|open| open.follow_up.subject.as_ref().is_none_or(|subject| !subjects.contains(subject)));
        self.is_changed |= self.open.len() != before;
    }

    /// Returns the open follow-ups that can be done now: without the services that their compose file does not have, and
    /// without those that have no service or no compose file left. The list keeps all of them, because a compose file can be
    /// absent for a while: its volume is not mounted, or its checkout is being moved.
    pub fn current(&self) -> Vec<OpenFollowUp> {
        let current = self.open.iter().filter_map(|open| {
            let follow_up = &open.follow_up;
            let Some(subject) = &follow_up.subject else { return Some(open.clone()) };
            match AnyResource::read_subject(Path::new(subject), &follow_up.argv) {
                SubjectState::Gone => None,
                SubjectState::Unknown => Some(open.clone()),
                SubjectState::Parts(parts) => {
                    let left = follow_up.services.iter().filter(|name| parts.contains(*name));
                    let left: Vec<String> = left.cloned().collect();
                    if left.len() == follow_up.services.len() {
                        return Some(open.clone());
                    }
                    let mut open = open.clone();
                    let is_left = !left.is_empty();
                    set_services(&mut open.follow_up, left);
                    is_left.then_some(open)
                }
            }
        });
        current.collect()
    }

    /// Closes the follow-ups with these numbers and returns them.
    ///
    /// # Errors
    /// One of the numbers is not open. Then none of them is closed.
    pub fn close(&mut self, ids: &[u32]) -> Result<Vec<OpenFollowUp>, Failure> {
        if let Some(unknown) = ids.iter().find(|id| !self.open.iter().any(|open| open.id == **id)) {
            let known: Vec<String> = self.open.iter().map(|open| open.id.to_string()).collect();
            let hint = if known.is_empty() {
                "there are no open follow-ups".to_owned()
            } else {
                format!("open follow-ups: {}", known.join(", "))
            };
            return Err(Failure::new(format!("follow-up {unknown} is not open")).hint(hint));
        }
        let (closed, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(|open| ids.contains(&open.id));
        self.open = open;
        self.is_changed |= !closed.is_empty();
        if self.open.is_empty() {
            // Numbering restarts to keep numbers small. Closed follow-ups are never referred to.
            self.last_id = 0;
        }
        Ok(closed)
    }
}

/// Returns the file name of a plan file's list.
fn file_name(path: &Path) -> String {
    format!("{}.json", state::name_for(path))
}

/// Returns the command without its services.
fn command(follow_up: &FollowUp) -> &[String] {
    let argv = &follow_up.argv;
    if argv.ends_with(&follow_up.services) { &argv[..argv.len() - follow_up.services.len()] } else { argv }
}

/// Merges a follow-up with the same command into an open one.
fn extend(open: &mut OpenFollowUp, other: FollowUp, run: &str, since: &str) {
    let known = &mut open.follow_up;
    if !open.steps.contains(&other.step) {
        open.steps.push(other.step);
    }
    if !open.reasons.contains(&other.reason) {
        open.reasons.push(other.reason);
        known.reason = open.reasons.join("; ");
    }
    let mut services = Vec::new();
    // Without names the command applies to all services.
    if !known.services.is_empty() && !other.services.is_empty() {
        let new = other.services.iter().filter(|name| !known.services.contains(name));
        services = known.services.iter().chain(new).cloned().collect();
    }
    set_services(known, services);
    (open.run, open.since) = (run.to_owned(), since.to_owned());
}

/// Sets the services, and the command for them.
fn set_services(follow_up: &mut FollowUp, services: Vec<String>) {
    let base = command(follow_up).to_vec();
    // The written command may enter a directory first. Its services come last as well.
    let old = shell_words(&follow_up.services);
    let written = follow_up.command.strip_suffix(&old).unwrap_or(&follow_up.command).trim_end();
    follow_up.command = format!("{written} {}", shell_words(&services)).trim_end().to_owned();
    follow_up.argv = base.into_iter().chain(services.iter().cloned()).collect();
    follow_up.services = services;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow_up(step: &str, services: &[&str]) -> FollowUp {
        let argv = ["docker", "compose", "up", "-d", "--force-recreate"].iter().chain(services);
        let argv: Vec<String> = argv.map(|word| (*word).to_owned()).collect();
        FollowUp {
            id: None,
            step: step.to_owned(),
            reason: format!("recreate the containers; they use what {step} replaced"),
            services: services.iter().map(|name| (*name).to_owned()).collect(),
            command: shell_words(&argv),
            argv,
            subject: Some("/srv/compose.yaml".to_owned()),
        }
    }

    #[test]
    fn one_command_is_one_follow_up_for_all_its_steps() {
        let mut list = OpenFollowUps::default();
        assert_eq!(list.add(follow_up("key", &["web"]), "1", "now"), 1);
        assert_eq!(list.add(follow_up("password", &["web", "mail"]), "1", "now"), 1);
        assert_eq!(list.add(follow_up("key", &["web"]), "2", "later"), 1);
        let [open] = list.open.as_slice() else { panic!("{list:?}") };
        assert_eq!(open.steps, ["key", "password"]);
        assert_eq!(open.follow_up.command, "docker compose up -d --force-recreate web mail");
        assert_eq!(open.reasons.len(), 2, "each reason once: {:?}", open.reasons);
        assert_eq!(open.follow_up.reason, open.reasons.join("; "));
        assert_eq!((open.run.as_str(), open.since.as_str()), ("2", "later"));
        list.add(follow_up("all", &[]), "3", "later");
        assert_eq!(list.open[0].follow_up.command, "docker compose up -d --force-recreate");
    }

    #[test]
    fn services_and_compose_files_that_are_gone_are_kept_but_not_current() {
        let folder = crate::host::testing::folder();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let write = |name: &str, services: &[&str]| {
            let services: String = services.iter().map(|name| format!("  {name}: {{ image: x }}\n")).collect();
            std::fs::write(file(name), format!("services:\n{services}")).unwrap();
        };
        let about =
            |name: &str, services: &[&str]| FollowUp { subject: Some(file(name)), ..follow_up("key", services) };
        let current = |follow_up: FollowUp| {
            let mut list = OpenFollowUps::default();
            list.add(follow_up, "1", "now");
            let left = list.current().into_iter().next().map(|open| open.follow_up);
            left.map(|left| (left.services, left.argv, left.command))
        };
        write("compose.yaml", &["web", "worker"]);
        let (services, argv, command) = current(about("compose.yaml", &["web", "api", "db"])).unwrap();
        assert_eq!(services, ["web"]);
        assert_eq!(command, "docker compose up -d --force-recreate web");
        assert_eq!(argv.join(" "), command);
        assert!(current(about("compose.yaml", &["web", "worker"])).is_some_and(|(services, ..)| services.len() == 2));
        assert_eq!(current(about("compose.yaml", &["api"])), None);
        // All services of a file are meant.
        assert!(current(about("compose.yaml", &[])).is_some());
        assert_eq!(current(about("gone.yaml", &["web"])), None);
        assert_eq!(current(about("gone/compose.yaml", &[])), None);
        std::fs::write(file("compose.yaml"), "services: [").unwrap();
        assert!(current(about("compose.yaml", &["api"])).is_some(), "a file that cannot be read hides no follow-up");
        // A project of several files has the services of all of them.
        write("compose.yaml", &["web"]);
        write("more.yaml", &["api"]);
        let argv =
            ["docker", "compose", "-f", &file("compose.yaml"), "-f", &file("more.yaml"), "up", "web", "api", "db"];
        let argv = argv.map(str::to_owned).to_vec();
        let several = FollowUp { command: shell_words(&argv), argv, ..about("compose.yaml", &["web", "api", "db"]) };
        assert_eq!(current(several).unwrap().0, ["web", "api"]);
    }

    #[test]
    fn numbers_are_kept_until_all_are_closed() {
        let mut list = OpenFollowUps::default();
        let other = FollowUp { argv: vec!["systemctl".into(), "restart".into(), "web".into()], ..follow_up("b", &[]) };
        list.add(follow_up("a", &["web"]), "1", "now");
        assert_eq!(list.add(other.clone(), "1", "now"), 2);
        assert!(list.close(&[1, 3]).unwrap_err().hint.unwrap().contains("1, 2"));
        assert_eq!(list.close(&[1]).unwrap().len(), 1);
        assert_eq!(list.add(follow_up("a", &["web"]), "2", "later"), 3);
        assert_eq!(list.close(&[2, 3]).unwrap().len(), 2);
        assert_eq!(list.add(other, "3", "later"), 1);
    }

    #[test]
    fn follow_ups_of_an_interrupted_run_are_opened_once() {
        let folder = crate::host::testing::folder();
        let state = StateFolder::at(folder.path().join("provision"));
        let path = Path::new("/plan.yaml");
        let run = InterruptedRun {
            run: "1".into(),
            started: "then".into(),
            user: String::new(),
            changes: Vec::new(),
            follow_ups: vec![follow_up("key", &["web"])],
        };
        let mut list = OpenFollowUps::load(&state, path, std::slice::from_ref(&run)).unwrap();
        assert!(folder.path().read_dir().unwrap().next().is_none(), "loading leaves no trace");
        assert_eq!(list.iter().count(), 1);
        list.close(&[1]).unwrap();
        list.store(&state, path).unwrap();
        let again = OpenFollowUps::load(&state, path, &[run]).unwrap();
        assert_eq!((again.iter().count(), again.is_changed), (0, false));
    }

    #[test]
    fn a_follow_up_about_a_new_subject_is_closed() {
        let mut list = OpenFollowUps::default();
        list.add(follow_up("key", &["web"]), "1", "now");
        list.close_about(&["/srv/other.yaml".into()]);
        assert_eq!(list.iter().count(), 1);
        list.close_about(&["/srv/compose.yaml".into()]);
        assert_eq!(list.iter().count(), 0);
    }
}
