//! Reads and writes the compose file and the `.env` file beside it.

use crate::failure::Failure;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::actual::{Actual, ComposeFile, EnvFile, EnvValue, Form, Occurrence, Source};
use super::effects::{self, Edits, Effects, Files};
use super::occurrences::{self, Reading};
use super::uses;
use super::{Change, ComposeEnv, diff, document, dotenv, edit};
use crate::host::fs::{self, Attributes, FileKind, FileSeen, Place, Stat, escape_path};
use crate::host::secret::{Digester, Secret};
use crate::host::users::{as_acting_user, group_name_or_id, name_or_id};
use crate::resource::parents::{create_parents, creation_denial};
use crate::resource::{ExecuteContext, ObserveContext, Resource as _};
use crate::text::shell_word;

/// The maximum size of a compose file, in bytes.
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
    let mut actual = Actual {
        source,
        secret_warnings: step.site().secret_warnings(cx),
        file: ComposeFile::Missing,
        env_file: None,
        is_one_file: effects::leads_to(&step.env_file(), &step.file) || effects::leads_to(&step.file, &step.env_file()),
        folder_denied: None,
        leftovers: Vec::new(),
        env_leftovers: Vec::new(),
    };
    if !place.missing_parents.is_empty() {
        return Ok(actual);
    }
    let files = Files::default();
    actual.file = compose_file(step, &place, &files, digester, wanted)?;
    if let ComposeFile::Read { occurrences, .. } = &actual.file {
        let names: BTreeSet<&str> = occurrences.iter().filter_map(Occurrence::referred).map(String::as_str).collect();
        if !names.is_empty() {
            let place = Place::find(&step.env_file())?;
            actual.env_file = Some(env_file(&place, &names, digester)?);
            if matches!(actual.env_file, Some(EnvFile::Missing { .. })) {
                actual.folder_denied = creation_denial(&place, cx)?.map(Box::new);
            }
        }
    }
    actual.leftovers = place.leftovers()?;
    let env_place = Place::find(&step.env_file())?;
    if is_beside(step) {
        actual.leftovers.extend(env_place.leftovers()?);
    } else if env_place.missing_parents.is_empty() {
        actual.env_leftovers = env_place.leftovers()?;
    }
    Ok(actual)
}

pub fn execute(step: &ComposeEnv, change: &Change, cx: &ExecuteContext) -> Result<(), Failure> {
    let place = Place::find(&step.file)?;
    let env_place = Place::find(&step.env_file())?;
    let env = env_place.name.as_os_str();
    match change {
        Change::RemoveLeftovers { directory, .. } => {
            if Some(directory.as_path()) == step.file.parent() {
                place.remove_leftovers()?;
            }
            if Some(directory.as_path()) == step.env_file().parent() {
                env_place.remove_leftovers()?;
            }
        }
        Change::CreateEnvFile { names, .. } => on_latest(|| {
            let env_place = Place::find(&step.env_file())?;
            if env_place.stat()?.is_some() {
                return edit_env_file(&env_place, names, change, &wanted(step, cx)?);
            }
            let text = set_all("", names, &wanted(step, cx)?)?;
            // A new .env belongs to the owner of the compose file, even if root creates it.
            let owner = place.stat()?.filter(|_| fs::acts_as_root());
            let (uid, gid) = (owner.map(|stat| stat.uid), owner.map(|stat| stat.gid));
            let name = env_place.name.clone();
            Ok(create_parents(env_place, cx)?.create(&name, text.as_bytes(), Attributes { uid, gid, mode: 0o600 }))
        })?,
        Change::EnvFile { names, .. } => {
            on_latest(|| edit_env_file(&env_place, names, change, &wanted(step, cx)?))?;
        }
        Change::EnvFileMode { .. } => {
            let (env_dir, moved) = (env_place.parent()?, || moved_on(change));
            let stat = env_dir.stat(env)?.ok_or_else(moved)?;
            if stat.links > 1 {
                // The file may also have a name in another user's directory. The mode under that name must not change.
                on_latest(|| {
                    let seen = read(&env_place, env)?.ok_or_else(moved)?;
                    Ok(env_dir.rewrite(env, &seen.bytes, &seen, seen.stat.mode & 0o600))
                })?;
            } else {
                env_dir.set_mode(env, &stat, stat.mode & 0o600)?;
            }
        }
        Change::ComposeFile { places, .. } => on_latest(|| {
            let seen = read(&place, &place.name)?.ok_or_else(|| moved_on(change))?;
            let wanted = wanted(step, cx)?;
            let (wanted, source) = (usable(&wanted).map_err(Failure::new)?, text(&seen, change)?);
            let edited = edit::set(source, &step.variable, step.service.as_deref(), wanted).map_err(|error| {
                Failure::new(format!("cannot edit {}: {error}", escape_path(&step.file))).hint(EDIT_BY_HAND)
            })?;
            match changed_places(step, source, wanted) {
                // Another run has made the same change.
                Some(left) if left.is_empty() => return Ok(Ok(())),
                Some(left) if left == *places => {}
                _ => return Err(moved_on(change)),
            }
            let edited = Zeroizing::new(edited);
            Ok(place.parent()?.rewrite(&place.name, edited.as_bytes(), &seen, seen.stat.mode))
        })?,
    }
    Ok(())
}

/// The maximum number of attempts to make an edit.
const EDIT_TRIES: u32 = 8;
/// How long to wait before the second attempt. The wait grows with each attempt.
const EDIT_INTERVAL: Duration = Duration::from_millis(2);

/// Repeats an edit if somebody, such as another run, has written to the file meanwhile. The repeated edit starts from the new
/// content.
fn on_latest(edit: impl Fn() -> Result<Result<(), fs::Error>, Failure>) -> Result<(), Failure> {
    for tried in 1..EDIT_TRIES {
        match edit()? {
            Err(error) if error.is_newer() || error.kind() == ErrorKind::AlreadyExists => {
                std::thread::sleep(EDIT_INTERVAL * tried);
            }
            done => return Ok(done?),
        }
    }
    Ok(edit()??)
}

/// Sets the variables in an existing `.env`.
fn edit_env_file(
    place: &Place,
    names: &[String],
    change: &Change,
    wanted: &Secret,
) -> Result<Result<(), fs::Error>, Failure> {
    let seen = read(place, &place.name)?.ok_or_else(|| moved_on(change))?;
    let old = dotenv::decode(&seen.bytes).ok_or_else(|| moved_on(change))?;
    let text = set_all(&old, names, wanted)?;
    Ok(place.parent()?.rewrite(&place.name, &dotenv::encode(&text), &seen, seen.stat.mode & 0o600))
}

/// Returns the value of the source as a password.
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
    files: &Files,
    digester: &Digester,
    wanted: Option<&str>,
) -> Result<ComposeFile, Failure> {
    match place.stat()? {
        None => return Ok(ComposeFile::Missing),
        Some(stat) if stat.kind != FileKind::File => {
            return Ok(ComposeFile::NotAFile {
                found: stat.kind,
                target: target(&step.file, stat.kind),
                removal: place.removal(&stat),
            });
        }
        Some(_) => {}
    }
    let Some(seen) = read(place, &place.name)? else { return Ok(ComposeFile::Missing) };
    let Ok(text) = std::str::from_utf8(&seen.bytes) else {
        let line = String::from_utf8_lossy(&seen.bytes).lines().position(|line| line.contains('\u{fffd}'));
        let reason = format!("line {} is not UTF-8", line.map_or(1, |at| at + 1));
        return Ok(ComposeFile::Unreadable { reason, hint: Some("save the file as UTF-8".to_owned()) });
    };
    if text.contains('\r') && !text.contains('\n') {
        let reason = "its lines end with a carriage return alone, as old Macs wrote them".to_owned();
        let convert = format!("sed -i --follow-symlinks 's/\\r/\\n/g' {}", shell_word(&step.file));
        let hint = format!("convert them: `{}`", as_acting_user(&convert));
        return Ok(ComposeFile::Unreadable { reason, hint: Some(hint) });
    }
    let document = match document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let hint = error.hint.map(str::to_owned);
            return Ok(ComposeFile::Unreadable { reason: error.to_string(), hint });
        }
    };
    let (variable, service) = (step.variable.as_str(), step.service.as_deref());
    // The edit is tried here, so that an edit that would fail is not planned.
    let edit = wanted.map(|wanted| edit::set(text, variable, service, wanted).map(Zeroizing::new));
    let unproven = match &edit {
        Some(Err(error @ edit::EditError::Unproven { .. })) => Some(error.to_string()),
        _ => None,
    };
    let found = occurrences::find(&document, variable, service);
    let sharing = edit::Sharing::of(&document, &found.occurrences);
    let occurrences = found.occurrences.iter().map(|occurrence| Occurrence {
        place: occurrence.place.clone(),
        line: occurrence.line,
        services: occurrence.services.iter().cloned().collect(),
        form: match occurrences::read(&document, occurrence, variable) {
            Reading::Literal(text) => Form::Literal { digest: digester.digest(Zeroizing::new(text).as_bytes()) },
            Reading::Retyped => Form::Retyped,
            Reading::Mixed => Form::Mixed,
            Reading::Reference { name, refuses_empty } => Form::Reference { name, refuses_empty },
            Reading::Foreign(why) => Form::Foreign { why },
        },
        entangled: sharing.target(occurrence, service).err(),
    });
    let occurrences: Vec<Occurrence> = occurrences.collect();
    let effects = effects(step, files, text, edit.and_then(Result::ok), &occurrences, wanted);
    let referred: BTreeSet<&str> = occurrences.iter().filter_map(Occurrence::referred).map(String::as_str).collect();
    let mut elsewhere = uses::elsewhere(&document, variable, &referred);
    // `env_file` gives a service all variables of a file.
    let meant: HashSet<&String> = occurrences.iter().flat_map(|occurrence| &occurrence.services).collect();
    let others: Vec<&String> = effects.by_env_file.services.iter().filter(|service| !meant.contains(service)).collect();
    for places in elsewhere.values_mut() {
        let named: HashSet<String> = places.iter().filter_map(|place| uses::service_of(place)).collect();
        let others = others.iter().filter(|service| !named.contains(**service));
        places.extend(others.map(|service| format!("service {service}")));
    }
    let variables =
        if occurrences.is_empty() { occurrences::variables(&document).into_iter().collect() } else { Box::default() };
    Ok(ComposeFile::Read {
        occurrences: occurrences.into(),
        variables,
        elsewhere,
        services: found.services.into(),
        not_searched: found.not_searched.into_iter().collect(),
        uses: effects.services.into(),
        project: Box::new(effects.project),
        by_compose_file: Box::new(effects.by_compose_file),
        by_env_file: Box::new(effects.by_env_file),
        overridden: effects.overridden.into(),
        in_env_files: if found.occurrences.is_empty() { effects.in_env_files.into() } else { Box::default() },
        unresolved: effects.unresolved.map(Box::new),
        unproven: unproven.map(String::into_boxed_str),
        foreign_owner: foreign_owner(&seen.stat),
        foreign_group: foreign_group(&seen.stat),
        denied: place.parent()?.replace_denial(&place.name, &seen.stat)?.map(Box::new),
        mode: format!("{:04o}", seen.stat.mode).into(),
        is_out_of_reach: !place.parent()?.is_open_to_all().unwrap_or(true),
        links: seen.stat.links,
    })
}

/// Returns the effects of the step on the services of the project. Without a value, an arbitrary text takes its place.
fn effects(
    step: &ComposeEnv,
    files: &Files,
    text: &str,
    edited: Option<Zeroizing<String>>,
    occurrences: &[Occurrence],
    wanted: Option<&str>,
) -> Effects {
    let value = wanted.unwrap_or("any other text");
    let edited = match wanted {
        Some(_) => edited,
        None => edit::set(text, &step.variable, step.service.as_deref(), value).ok().map(Zeroizing::new),
    };
    let names: BTreeSet<&String> = occurrences.iter().filter_map(Occurrence::referred).collect();
    let old = files.read(&step.env_file()).ok().flatten().unwrap_or_default();
    let set = |text: Zeroizing<String>, name: &&String| {
        let entries = dotenv::read(&text).ok()?;
        let is_set =
            dotenv::last(&entries, name).is_some_and(|entry| entry.value == dotenv::Value::Text(value.to_owned()));
        if is_set { Some(text) } else { dotenv::set(&text, name, value).ok()?.map(Zeroizing::new) }
    };
    let env_text = names.iter().try_fold(old.clone(), set).filter(|text| *text != old);
    let edits = Edits {
        compose_file: edited.as_deref().map(String::as_str).filter(|edited| *edited != text),
        env_file: env_text.as_deref().map(String::as_str),
    };
    let meant = occurrences.iter().flat_map(|occurrence| &occurrence.services);
    let meant = meant.filter(|name| step.service.as_ref().is_none_or(|service| service == *name)).cloned().collect();
    let mut effects = effects::find(step, files, &edits, &meant, value);
    if wanted.is_none() {
        (effects.by_compose_file, effects.by_env_file) = Default::default();
    }
    effects
}

/// Returns whether `.env` is in the directory of the compose file.
fn is_beside(step: &ComposeEnv) -> bool {
    step.env_file().parent() == step.file.parent()
}

/// Returns the target of a symlink to a file.
fn target(path: &Path, found: FileKind) -> Option<PathBuf> {
    let place = (found == FileKind::Symlink).then(|| Place::follow(path).ok()).flatten()?;
    let is_file = place.stat().ok().flatten().is_some_and(|stat| stat.kind == FileKind::File);
    is_file.then(|| place.path())
}

fn env_file(place: &Place, names: &BTreeSet<&str>, digester: &Digester) -> Result<EnvFile, Failure> {
    let name = place.name.as_os_str();
    let missing =
        || EnvFile::Missing { missing_parents: place.missing_paths().iter().map(|path| escape_path(path)).collect() };
    match place.stat()? {
        None => return Ok(missing()),
        Some(stat) if stat.kind != FileKind::File => {
            let path = place.path();
            return Ok(EnvFile::NotAFile {
                found: stat.kind,
                target: target(&path, stat.kind),
                removal: place.removal(&stat),
            });
        }
        Some(_) => {}
    }
    let Some(seen) = read(place, name)? else { return Ok(missing()) };
    let Some(text) = dotenv::decode(&seen.bytes) else {
        return Ok(EnvFile::Unreadable { reason: "it contains invalid characters (U+10FF00 and up)".to_owned() });
    };
    if document::parse(&text).is_ok_and(|document| !occurrences::services(&document).is_empty()) {
        return Ok(EnvFile::ComposeFile);
    }
    let entries = match dotenv::read(&text) {
        Ok(entries) => entries,
        Err(error) => return Ok(EnvFile::Unreadable { reason: error.to_string() }),
    };
    let value = |name: &str| match dotenv::last(&entries, name).map(|entry| &entry.value) {
        None | Some(dotenv::Value::Inherited) => EnvValue::Missing,
        Some(dotenv::Value::Text(text)) => EnvValue::Text { digest: digester.digest(text.as_bytes()) },
        Some(dotenv::Value::Expanded) => EnvValue::Expanded,
    };
    let values: BTreeMap<String, EnvValue> = names.iter().map(|name| ((*name).to_owned(), value(name))).collect();
    let put_into = names.iter().map(|name| ((*name).to_owned(), dotenv::holders(&text, &entries, name))).collect();
    let mode = format!("{:04o}", seen.stat.mode);
    Ok(EnvFile::Read {
        mode,
        values,
        put_into,
        foreign_owner: foreign_owner(&seen.stat),
        foreign_group: foreign_group(&seen.stat),
        denied: place.parent()?.replace_denial(name, &seen.stat)?.map(Box::new),
    })
}

/// Returns the owner of the file if a new version would have another one: only root can give files away.
fn foreign_owner(stat: &Stat) -> Option<Box<str>> {
    (!fs::acts_as_root() && stat.uid != fs::acting_ids().0).then(|| name_or_id(stat.uid).into())
}

/// Returns the group of the file if a new version would have another one: users can give files only to their own groups.
fn foreign_group(stat: &Stat) -> Option<Box<str>> {
    (!fs::acts_in_group(stat.gid)).then(|| group_name_or_id(stat.gid).into())
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

/// Returns the places that an edit of `source` changes, by the names that `diff` uses.
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
    Ok(place.parent()?.read(name, MAX_BYTES)?)
}

fn text<'a>(seen: &'a FileSeen, change: &Change) -> Result<&'a str, Failure> {
    std::str::from_utf8(&seen.bytes).map_err(|_| moved_on(change))
}

fn moved_on(change: &Change) -> Failure {
    Failure::new(format!("{} has changed since the change was planned", escape_path(change.path())))
        .hint("see who else writes to it, then run again")
}
