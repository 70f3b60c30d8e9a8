//! The effects of a step on the services of its project: which of them change, and which do not get the value.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::actual::{Affected, EnvFileOf, Overridden, Service, Unresolved};
use super::model::{self, Model, Read, normal};
use super::project::{Project, active_profiles, discover};
use super::tree::Tree;
use super::{ComposeEnv, diff, document, dotenv, occurrences};
use crate::host::environment;
use crate::host::fs::{Dir, Place, escape_path};
use crate::resource::SubjectState;

/// The maximum size of a file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The maximum size of all files of a project together, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// The files of a project. Each is read once, so that everything is derived from the same content.
#[derive(Default)]
pub struct Files(RefCell<HashMap<PathBuf, FileText>>);

/// The text of a file, `None` if it does not exist, or the reason why it cannot be read.
type FileText = Result<Option<Zeroizing<String>>, String>;

impl Files {
    /// Reads a file. Follows symlinks, as Compose does.
    pub fn read(&self, path: &Path) -> FileText {
        if let Some(known) = self.0.borrow().get(path) {
            return known.clone();
        }
        let total: usize = self.0.borrow().values().flatten().flatten().map(|text| text.len()).sum();
        let result = if total > MAX_BYTES { Err("the project is too large".to_owned()) } else { Self::text(path) };
        self.0.borrow_mut().insert(path.to_owned(), result.clone());
        result
    }

    fn text(path: &Path) -> FileText {
        let seen = match Place::follow(path).and_then(|place| place.parent()?.read(&place.name, MAX_FILE_BYTES)) {
            Err(error) if error.is_missing() => return Ok(None),
            other => other.map_err(|error| error.to_string())?,
        };
        let Some(seen) = seen else { return Ok(None) };
        // A compose file that is not UTF-8 is reported elsewhere. Other files may have any content.
        dotenv::decode(&seen.bytes).map(Some).ok_or_else(|| "it contains invalid characters".to_owned())
    }
}

/// The two files after the edits of a step. `None` if a file does not change.
pub struct Edits<'a> {
    pub compose_file: Option<&'a str>,
    pub env_file: Option<&'a str>,
}

/// What is known about the project of a step.
pub struct Effects {
    pub project: Project,
    pub services: Vec<Service>,
    pub by_compose_file: Affected,
    pub by_env_file: Affected,
    pub overridden: Vec<Overridden>,
    pub in_env_files: Vec<EnvFileOf>,
    pub unresolved: Option<Unresolved>,
}

/// Finds the project of a step and the effects of the edits on it. `meant` contains the services whose value the step sets, and
/// `value` is the new value.
pub fn find(step: &ComposeEnv, files: &Files, edits: &Edits<'_>, meant: &BTreeSet<String>, value: &str) -> Effects {
    let home = environment::home();
    let (file, env_file) = (normal(&step.file), step.env_file());
    let beside = file.with_file_name(".env");
    // `.env` is read from the step's `.env` file: the target of a symlink, or the file that `--env-file` names.
    let disk = |path: &Path| files.read(if path == beside { &env_file } else { path });
    let owner = file.parent().and_then(owner_of);
    let trusted = |above: &Path| owner_of(above).is_some_and(|found| found == 0 || Some(found) == owner);
    let (mut project, before) = discover(&file, home.as_deref(), &disk, &trusted);
    project.env_file = step.env_file.as_deref().filter(|named| !leads_to(&beside, named)).map(Path::to_owned);
    let mut unresolved = None;
    let before = before.unwrap_or_else(|error| {
        unresolved = Some(Unresolved { path: error.path, why: error.why });
        // The file alone is better than nothing.
        project.read = vec![file.clone()];
        model::load(&project.folder, std::slice::from_ref(&file), home.as_deref(), &disk).unwrap_or_default()
    });
    let top = if unresolved.is_some() { vec![file.clone()] } else { project.files.clone() };
    let after = |compose: bool, env: bool| {
        let edited = |path: &Path| match path {
            path if path == file && compose => edits.compose_file,
            path if (path == env_file || path == beside) && env => edits.env_file,
            _ => None,
        };
        let read = |path: &Path| edited(path).map_or_else(|| disk(path), |text| Ok(Some(text.to_owned().into())));
        model::load(&project.folder, &top, home.as_deref(), &read).unwrap_or_default()
    };
    let by = |edit: Option<&str>, compose, env| {
        edit.map_or_else(Affected::default, |_| affected(&before, &after(compose, env)))
    };
    let (by_compose_file, by_env_file) = (by(edits.compose_file, true, false), by(edits.env_file, false, true));
    let overridden = match &unresolved {
        None => overridden(step, &project, &after(true, true), meant, value, &disk),
        Some(_) => Vec::new(),
    };
    let is_made = |path: &Path| edits.env_file.is_some() && (path == env_file || path == beside);
    let exists = |path: &Path| is_made(path) || !matches!(disk(path), Ok(None));
    let active = active_profiles(&project.folder, &disk);
    let unresolved = unresolved.or_else(|| without_env_file(&file, &before, &active, &exists));
    let services = services(&before, &project, &disk);
    let in_env_files = in_env_files(step, &before, &disk);
    Effects { project, services, by_compose_file, by_env_file, overridden, in_env_files, unresolved }
}

/// Returns whether a path leads to the same file as another path, which must not be a symlink.
pub(super) fn leads_to(path: &Path, file: &Path) -> bool {
    let inode = |place: Result<Place, _>| place.and_then(|place| place.stat()).ok().flatten();
    match (inode(Place::follow(path)), inode(Place::find(file))) {
        (Some(one), Some(other)) => one.is_same_file(&other),
        _ => false,
    }
}

fn affected(before: &Model, after: &Model) -> Affected {
    let mut affected = Affected::default();
    for (name, new) in &after.services {
        let old = before.services.get(name);
        if old != Some(new) {
            affected.services.push(name.clone());
        }
        if old.is_some_and(|old| new.recreates(old)) {
            affected.containers.push(name.clone());
        }
    }
    affected
}

/// Returns the services that do not get the value, with the places in other files that override it.
fn overridden(
    step: &ComposeEnv,
    project: &Project,
    model: &Model,
    meant: &BTreeSet<String>,
    value: &str,
    read: Read<'_>,
) -> Vec<Overridden> {
    let arrives = |service: &model::Service| {
        let found = service.environment.get(&step.variable);
        found.and_then(Option::as_ref).is_some_and(|found| found.as_str() == value)
    };
    // Another file may extend a service of the step's file under another name.
    let file = normal(&step.file);
    let is_meant = |name: &str| {
        let mut parts = model.parts.get(name).into_iter().flatten();
        parts.any(|parts| parts.iter().find(|(path, _)| *path == file).is_some_and(|(_, part)| meant.contains(part)))
    };
    let without = model.services.iter().filter(|(name, service)| is_meant(name) && !arrives(service));
    let mut places: BTreeMap<&str, Vec<String>> = without.map(|(name, _)| (name.as_str(), Vec::new())).collect();
    let others = if places.is_empty() { &[] } else { project.read.as_slice() };
    for path in others.iter().filter(|path| **path != file) {
        let text = read(path).ok().flatten();
        let Some(document) = text.and_then(|text| document::parse(&text).ok()) else { continue };
        let at = |place: &str, line| format!("{} of {}", diff::place_at(place, line), escape_path(path));
        let occurrences = occurrences::find(&document, &step.variable, None).occurrences;
        let mut here = HashSet::new();
        for occurrence in &occurrences {
            for name in &occurrence.services {
                here.insert(name.as_str());
                if let Some(places) = places.get_mut(name.as_str()) {
                    places.push(at(&occurrence.place, occurrence.line));
                }
            }
        }
        for (name, service) in occurrences::services(&document).into_iter().filter(|(name, _)| !here.contains(name)) {
            if let Some(environment) = document.get(service, "environment")
                && let Some(places) = places.get_mut(name)
            {
                // The environment may remove the variable.
                places.push(at(&format!("service {name}"), document.node(environment).position.line));
            }
        }
    }
    places.into_iter().map(|(service, places)| Overridden { service: service.to_owned(), places }).collect()
}

/// Returns the files of `env_file` that contain the variable.
fn in_env_files(step: &ComposeEnv, model: &Model, read: Read<'_>) -> Vec<EnvFileOf> {
    let has_it = |path: &PathBuf| {
        let entries = read(path).ok().flatten().and_then(|text| dotenv::read(&text).ok());
        entries.is_some_and(|entries| dotenv::last(&entries, &step.variable).is_some())
    };
    let meant = model.services.iter().filter(|(name, _)| step.service.as_ref().is_none_or(|service| service == *name));
    let files = meant.flat_map(|(name, service)| {
        service.env_files().filter(has_it).map(|path| EnvFileOf { service: name.clone(), path })
    });
    files.collect()
}

/// Returns why Compose refuses the project, if a service needs an `env_file` that does not exist. Services with inactive
/// profiles are ignored.
fn without_env_file(
    file: &Path,
    model: &Model,
    active: &[String],
    exists: &dyn Fn(&Path) -> bool,
) -> Option<Unresolved> {
    let is_active = |profile: &Tree| profile.text().is_some_and(|name| active.iter().any(|active| active == name));
    let started = model.services.iter().filter(|(_, service)| {
        let profiles = service.tree.items_of("profiles");
        profiles.is_empty() || profiles.iter().any(is_active) || active.iter().any(|active| active == "*")
    });
    let needed = started.flat_map(|(name, service)| {
        let items = service.tree.items_of("env_file").iter();
        let items = items.filter(|item| {
            item.get("required").and_then(Tree::text).is_none_or(|word| !word.eq_ignore_ascii_case("false"))
        });
        items.filter_map(move |item| Some((name, Path::new(item.text_or("path")?))))
    });
    let (name, path) = needed.into_iter().find(|(_, path)| !exists(path))?;
    let why = format!("service {name} needs {} (env_file), which does not exist yet", escape_path(path));
    Some(Unresolved { path: file.to_owned(), why })
}

/// Returns the services with what follow-ups need to know about them.
fn services(model: &Model, project: &Project, read: Read<'_>) -> Vec<Service> {
    let active = active_profiles(&project.folder, read);
    let texts = |tree: &Tree, key: &str| -> Vec<String> {
        tree.items_of(key).iter().filter_map(Tree::text).map(str::to_owned).collect()
    };
    let mut runs_once = BTreeSet::new();
    for service in model.services.values() {
        if let Some(Tree::Map(dependencies)) = service.tree.get("depends_on") {
            let ends = |dependency: &Tree| {
                dependency.get("condition").and_then(Tree::text) == Some("service_completed_successfully")
            };
            runs_once.extend(dependencies.iter().filter(|(_, dependency)| ends(dependency)).map(|(name, _)| name));
        }
    }
    let on_demand = |name: &String, service: &model::Service| {
        let profiles = texts(&service.tree, "profiles");
        let is_active = profiles.iter().any(|profile| active.iter().any(|active| active == profile || active == "*"));
        let replicas = service.tree.get("deploy").and_then(|deploy| deploy.get("replicas")?.text());
        let scale = service.tree.get("scale").and_then(Tree::text).or(replicas);
        match profiles.first() {
            Some(profile) if !is_active => Some(format!("profile {profile}")),
            _ if scale == Some("0") => Some("scale 0".to_owned()),
            _ => runs_once.contains(name).then(|| "runs once".to_owned()),
        }
    };
    let service = |(name, service): (&String, &model::Service)| Service {
        name: name.clone(),
        files: service.files().into_iter().collect(),
        env_files: service.env_files().collect(),
        on_demand: on_demand(name, service),
    };
    model.order.iter().filter_map(|name| Some(service((name, model.services.get(name)?)))).collect()
}

/// Reads which services the project of a follow-up has now. `argv` is the follow-up's command.
pub fn read_subject(subject: &Path, argv: &[String]) -> SubjectState {
    let (files, home) = (Files::default(), environment::home());
    let disk = |path: &Path| files.read(path);
    match disk(subject) {
        Ok(None) => return SubjectState::Gone,
        Ok(Some(_)) => {}
        Err(_) => return SubjectState::Unknown,
    }
    let named: Vec<PathBuf> =
        argv.windows(2).filter(|words| words[0] == "-f").map(|words| PathBuf::from(&words[1])).collect();
    let model = if named.is_empty() {
        let owner = subject.parent().and_then(owner_of);
        let trusted = |above: &Path| owner_of(above).is_some_and(|found| found == 0 || Some(found) == owner);
        discover(subject, home.as_deref(), &disk, &trusted).1
    } else {
        model::load(subject.parent().unwrap_or(Path::new("/")), &named, home.as_deref(), &disk)
    };
    model.map_or(SubjectState::Unknown, |model| SubjectState::Parts(model.services.into_keys().collect()))
}

fn owner_of(folder: &Path) -> Option<u32> {
    let stat = Dir::open(folder).and_then(|dir| dir.stat_self()).ok()?;
    (stat.mode & 0o002 == 0).then_some(stat.uid)
}
