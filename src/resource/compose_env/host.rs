//! Reads and writes the compose file and the `.env` file beside it.

use crate::failure::Failure;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;

use zeroize::Zeroizing;

use super::actual::Service;
use super::actual::{Actual, ComposeFile, EnvFile, EnvValue, Form, Occurrence, Override, Source};
use super::occurrences::{self, Reading};
use super::uses::{self, Around};
use super::{Change, ComposeEnv, diff, document, dotenv, edit};
use crate::host::fs::{self, Attributes, FileKind, FileSeen, Place, Stat, escape_path};
use crate::host::secret::{Digester, Secret};
use crate::resource::{ExecuteContext, ObserveContext};
use crate::yaml::Document;

const ENV_FILE: &str = ".env";
/// Larger files are not compose files.
const MAX_BYTES: u64 = 4 << 20;
const EDIT_BY_HAND: &str = "write the value there by hand; `provision explain` shows how";

pub fn observe(step: &ComposeEnv, cx: &ObserveContext) -> Result<Actual, Failure> {
    let digester = cx.digester();
    let secret = value(cx);
    let wanted = secret.as_ref().and_then(|secret| usable(secret).ok());
    let source = match &secret {
        None => Source::Nothing,
        Some(secret) => match usable(secret) {
            Ok(text) => Source::Value { digest: digester.digest(text.as_bytes()), empty: text.is_empty() },
            Err(reason) => Source::Unusable { reason: reason.to_owned() },
        },
    };
    let place = Place::find(&step.file)?;
    let mut actual =
        Actual { source, file: ComposeFile::Missing, env_file: None, folder_denied: None, leftovers: Vec::new() };
    if !place.missing_parents.is_empty() {
        return Ok(actual);
    }
    actual.file = compose_file(step, &place, digester, wanted)?;
    if let ComposeFile::Read { occurrences, .. } = &actual.file {
        let names: Vec<&str> = occurrences
            .iter()
            .filter_map(|occurrence| match &occurrence.form {
                Form::Reference { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        if !names.is_empty() {
            actual.env_file = Some(env_file(&place, &names, digester)?);
            if actual.env_file == Some(EnvFile::Missing) {
                actual.folder_denied = place.dir.entry_denial()?.map(Box::new);
            }
        }
    }
    actual.leftovers = place.leftovers()?;
    actual.leftovers.extend(place.dir.leftovers(OsStr::new(ENV_FILE))?);
    Ok(actual)
}

pub fn execute(step: &ComposeEnv, change: &Change, cx: &ExecuteContext) -> Result<(), Failure> {
    let place = Place::find(&step.file)?;
    let env = OsStr::new(ENV_FILE);
    match change {
        Change::RemoveLeftovers { .. } => {
            place.remove_leftovers()?;
            place.dir.remove_leftovers(env)?;
        }
        Change::CreateEnvFile { names, .. } => {
            let text = set_all("", names, &wanted(step, cx)?)?;
            // The new .env gets the owner of the compose file, also if root creates it.
            let owner = place.stat()?.filter(|_| fs::acts_as_root());
            let (uid, gid) = (owner.map(|stat| stat.uid), owner.map(|stat| stat.gid));
            place.dir.create(env, text.as_bytes(), Attributes { uid, gid, mode: 0o600 })?;
        }
        Change::EnvFile { names, .. } => {
            let seen = read(&place, env)?.ok_or_else(|| moved_on(change))?;
            let text = set_all(text(&seen, change)?, names, &wanted(step, cx)?)?;
            place.dir.rewrite(env, text.as_bytes(), &seen.stat, seen.stat.mode & 0o600)?;
        }
        Change::EnvFileMode { .. } => {
            let stat = place.dir.stat(env)?.ok_or_else(|| moved_on(change))?;
            if stat.links > 1 {
                // Its other name may be a file of another user, whose mode must not change.
                let seen = read(&place, env)?.ok_or_else(|| moved_on(change))?;
                place.dir.rewrite(env, &seen.bytes, &seen.stat, seen.stat.mode & 0o600)?;
            } else {
                place.dir.set_mode(env, &stat, stat.mode & 0o600)?;
            }
        }
        Change::ComposeFile { places, .. } => {
            let seen = read(&place, &place.name)?.ok_or_else(|| moved_on(change))?;
            let wanted = wanted(step, cx)?;
            let (wanted, source) = (usable(&wanted).map_err(Failure::new)?, text(&seen, change)?);
            let edited = edit::set(source, &step.variable, step.service.as_deref(), wanted).map_err(|error| {
                Failure::new(format!("cannot edit {}: {error}", escape_path(&step.file))).hint(EDIT_BY_HAND)
            })?;
            if changed_places(step, source, wanted).as_ref() != Some(places) {
                return Err(moved_on(change));
            }
            let edited = Zeroizing::new(edited);
            place.dir.rewrite(&place.name, edited.as_bytes(), &seen.stat, seen.stat.mode)?;
        }
    }
    Ok(())
}

/// The value of the source as a password.
fn value(cx: &ObserveContext) -> Option<Secret> {
    cx.secret().map(Secret::as_password)
}

fn wanted(step: &ComposeEnv, cx: &ExecuteContext) -> Result<Secret, Failure> {
    value(cx).ok_or_else(|| Failure::new(format!("the value for {} is no longer available", step.variable)))
}

fn usable(secret: &Secret) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(secret.expose()).map_err(|_| "it is not UTF-8")?;
    if text.contains('\0') { Err("it holds a NUL byte") } else { Ok(text) }
}

fn compose_file(
    step: &ComposeEnv,
    place: &Place,
    digester: &Digester,
    wanted: Option<&str>,
) -> Result<ComposeFile, Failure> {
    match place.stat()? {
        None => return Ok(ComposeFile::Missing),
        Some(stat) if stat.kind != FileKind::File => return Ok(ComposeFile::NotAFile { found: stat.kind }),
        Some(_) => {}
    }
    let Some(seen) = read(place, &place.name)? else { return Ok(ComposeFile::Missing) };
    let Ok(text) = std::str::from_utf8(&seen.bytes) else {
        return Ok(ComposeFile::Unreadable { reason: "it is not UTF-8".to_owned() });
    };
    let document = match document::parse(text) {
        Ok(document) => document,
        Err(error) => return Ok(ComposeFile::Unreadable { reason: error.to_string() }),
    };
    let (variable, service) = (step.variable.as_str(), step.service.as_deref());
    // The edit is tried here, so that a change that cannot be made is not planned.
    let unproven = wanted.and_then(|wanted| match edit::set(text, variable, service, wanted).map(Zeroizing::new) {
        Err(error @ edit::EditError::Unproven { .. }) => Some(error.to_string()),
        _ => None,
    });
    let found = occurrences::find(&document, variable, service);
    let uses = uses(place, &document);
    let mut elsewhere = BTreeMap::new();
    let sharing = edit::Sharing::of(&document, &found.occurrences);
    let occurrences = found.occurrences.iter().map(|occurrence| Occurrence {
        place: occurrence.place.clone(),
        line: occurrence.line,
        services: occurrence.services.iter().cloned().collect(),
        form: match occurrences::read(&document, occurrence, variable) {
            Reading::Literal(text) => Form::Literal { digest: digester.digest(Zeroizing::new(text).as_bytes()) },
            Reading::Retyped => Form::Retyped,
            Reading::Mixed => Form::Mixed,
            Reading::Reference { name, refuses_empty } => {
                elsewhere.entry(name.clone()).or_insert_with(|| uses::elsewhere(&document, variable, &name));
                Form::Reference { name, refuses_empty }
            }
            Reading::Foreign(why) => Form::Foreign { why },
        },
        entangled: sharing.target(occurrence, service).err(),
    });
    let occurrences: Vec<Occurrence> = occurrences.collect();
    let variables =
        if occurrences.is_empty() { occurrences::variables(&document).into_iter().collect() } else { Box::default() };
    Ok(ComposeFile::Read {
        occurrences,
        variables,
        elsewhere,
        services: found.services,
        not_searched: found.not_searched.into_iter().collect(),
        uses,
        override_file: override_file(step, place)?,
        unproven,
        foreign_owner: foreign_owner(&seen.stat),
        foreign_group: foreign_group(&seen.stat),
        denied: place.dir.replace_denial(&place.name, &seen.stat)?.map(Box::new),
        mode: format!("{:04o}", seen.stat.mode),
        links: seen.stat.links,
    })
}

/// If Compose finds the compose file by itself, it merges the first of these into it (compose-go's `cli/options.go`).
const OVERRIDES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

fn override_file(step: &ComposeEnv, place: &Place) -> Result<Option<Box<Override>>, Failure> {
    if !step.has_a_default_name() {
        return Ok(None);
    }
    for name in OVERRIDES {
        let name = OsStr::new(name);
        if place.dir.stat(name)?.is_some() {
            let places = overriding_places(step, place, name).map_err(|failure| failure.message);
            return Ok(Some(Box::new(Override { path: place.dir.path_of(name), places })));
        }
    }
    Ok(None)
}

fn overriding_places(step: &ComposeEnv, place: &Place, name: &OsStr) -> Result<Vec<String>, Failure> {
    let Some(seen) = read(place, name)? else { return Ok(Vec::new()) };
    let text = std::str::from_utf8(&seen.bytes).map_err(|_| Failure::new("it is not UTF-8"))?;
    let document = document::parse(text).map_err(|error| Failure::new(error.to_string()))?;
    let found = occurrences::find(&document, &step.variable, step.service.as_deref()).occurrences;
    let own = found.iter().filter(|occurrence| {
        let reading = occurrences::read(&document, occurrence, &step.variable);
        !occurrence.services.is_empty() && !matches!(reading, Reading::Reference { .. })
    });
    Ok(own.map(|occurrence| diff::place_at(&occurrence.place, occurrence.line)).collect())
}

/// What the containers of the services are created from. The `.env` file is read if a path has a variable in it; if it cannot
/// be read, the variable has no value.
fn uses(place: &Place, document: &Document) -> Vec<Service> {
    let home = crate::host::environment::home();
    let entries = OnceCell::new();
    let value = |name: &str| {
        let entries = entries.get_or_init(|| {
            let seen = read(place, OsStr::new(ENV_FILE)).ok().flatten()?;
            dotenv::read(std::str::from_utf8(&seen.bytes).ok()?).ok()
        });
        match &dotenv::last(entries.as_ref()?, name)?.value {
            dotenv::Value::Text(text) => Some(text.clone()),
            dotenv::Value::Inherited | dotenv::Value::Expanded => None,
        }
    };
    uses::find(document, &Around { folder: place.dir.path(), home: home.as_deref(), value: &value })
}

fn env_file(place: &Place, names: &[&str], digester: &Digester) -> Result<EnvFile, Failure> {
    let name = OsStr::new(ENV_FILE);
    match place.dir.stat(name)? {
        None => return Ok(EnvFile::Missing),
        Some(stat) if stat.kind != FileKind::File => return Ok(EnvFile::NotAFile { found: stat.kind }),
        Some(_) => {}
    }
    let Some(seen) = read(place, name)? else { return Ok(EnvFile::Missing) };
    let Ok(text) = std::str::from_utf8(&seen.bytes) else {
        return Ok(EnvFile::Unreadable { reason: "it is not UTF-8".to_owned() });
    };
    let entries = match dotenv::read(text) {
        Ok(entries) => entries,
        Err(error) => return Ok(EnvFile::Unreadable { reason: error.to_string() }),
    };
    let value = |name: &str| match dotenv::last(&entries, name).map(|entry| &entry.value) {
        None | Some(dotenv::Value::Inherited) => EnvValue::Missing,
        Some(dotenv::Value::Text(text)) => EnvValue::Text { digest: digester.digest(text.as_bytes()) },
        Some(dotenv::Value::Expanded) => EnvValue::Expanded,
    };
    let values: BTreeMap<String, EnvValue> = names.iter().map(|name| ((*name).to_owned(), value(name))).collect();
    let put_into = names.iter().map(|name| ((*name).to_owned(), dotenv::holders(text, &entries, name))).collect();
    let mode = format!("{:04o}", seen.stat.mode);
    Ok(EnvFile::Read {
        mode,
        values,
        put_into,
        foreign_owner: foreign_owner(&seen.stat),
        foreign_group: foreign_group(&seen.stat),
        denied: place.dir.replace_denial(name, &seen.stat)?.map(Box::new),
    })
}

/// The owner of the file if a new version would not have it: only root can give files away.
fn foreign_owner(stat: &Stat) -> Option<u32> {
    (!fs::acts_as_root() && stat.uid != fs::acting_ids().0).then_some(stat.uid)
}

/// The group of the file if a new version would not have it: users can give files only to their own groups.
fn foreign_group(stat: &Stat) -> Option<u32> {
    (!fs::acts_in_group(stat.gid)).then_some(stat.gid)
}

fn set_all(text: &str, names: &[String], wanted: &Secret) -> Result<Zeroizing<String>, Failure> {
    let wanted = usable(wanted).map_err(Failure::new)?;
    let failed = |message: String| Failure::new(message).hint(EDIT_BY_HAND);
    let mut text = Zeroizing::new(text.to_owned());
    for name in names {
        let edited = dotenv::set(&text, name, wanted).map_err(|error| failed(format!("cannot edit .env: {error}")))?;
        let unproven = || failed(format!("the edit of {name} in .env does not read back as intended"));
        text = Zeroizing::new(edited.ok_or_else(unproven)?);
    }
    Ok(text)
}

/// The places that an edit of `source` changes, as `diff` names them.
fn changed_places(step: &ComposeEnv, source: &str, wanted: &str) -> Option<Vec<String>> {
    let document = document::parse(source).ok()?;
    let found = occurrences::find(&document, &step.variable, step.service.as_deref()).occurrences;
    let changed = found.iter().filter(|occurrence| match occurrences::read(&document, occurrence, &step.variable) {
        Reading::Literal(old) => old != wanted,
        Reading::Reference { .. } => false,
        Reading::Retyped | Reading::Mixed | Reading::Foreign(_) => true,
    });
    Some(changed.map(|occurrence| diff::place_at(&occurrence.place, occurrence.line)).collect())
}

fn read(place: &Place, name: &OsStr) -> Result<Option<FileSeen>, Failure> {
    Ok(place.dir.read(name, MAX_BYTES)?)
}

fn text<'a>(seen: &'a FileSeen, change: &Change) -> Result<&'a str, Failure> {
    std::str::from_utf8(&seen.bytes).map_err(|_| moved_on(change))
}

fn moved_on(change: &Change) -> Failure {
    Failure::new(format!("{} has changed since the change was planned", escape_path(change.path())))
        .hint("see who else writes to it, then run again")
}
