//! Decides what has to change.

use crate::failure::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::actual::{
    Actual, Affected, ComposeFile, EnvFile, EnvFileOf, EnvValue, Form, Occurrence, Overridden, Source, Unresolved,
};
use super::{Change, ComposeEnv};
use crate::host::fs::{Denial, FileKind, Removal, escape_path};
use crate::host::secret::{Digest, how_to_give, yields_nothing};
use crate::resource::attributes::refusal;
use crate::resource::{Diff, KeyError};
use crate::text::shell_word;

/// The permissions that `.env` may have: only its owner can read and write it.
const PRIVATE: u32 = 0o600;

pub fn diff(step: &ComposeEnv, actual: &Actual) -> Result<Diff<Change>, Failure> {
    if let Source::Unusable { reason } = &actual.source {
        return Err(Failure::new(format!("the value for {} cannot be used: {reason}", step.variable))
            .hint("an environment variable holds text without NUL bytes; check the source of the value"));
    }
    let occurrences = occurrences(step, actual)?;
    let mut diff = Diff::default();
    if !actual.leftovers.is_empty() {
        let directory = step.file.parent().unwrap_or(&step.file).to_owned();
        diff.changes.push(Change::RemoveLeftovers { directory, names: actual.leftovers.clone() });
    }
    if !actual.env_leftovers.is_empty() {
        let directory = step.env_file().parent().unwrap_or(&step.file).to_owned();
        diff.changes.push(Change::RemoveLeftovers { directory, names: actual.env_leftovers.clone() });
    }
    in_env_file(step, actual, occurrences, &mut diff)?;
    in_compose_file(step, actual, occurrences, &mut diff)?;
    diff.warnings.extend(readable_by_all(step, actual, occurrences));
    diff.warnings.extend(overridden(step, actual));
    diff.warnings.extend_from_slice(&actual.secret_warnings);
    if actual.source == Source::Nothing {
        diff.unchecked = step.value.is_some();
        diff.notes.push(format!("content not checked: {}", yields_nothing(step.value.as_ref())));
    }
    Ok(diff)
}

/// Returns the places that set the variable.
///
/// # Errors
/// The step cannot be planned.
pub(super) fn occurrences<'a>(step: &ComposeEnv, actual: &'a Actual) -> Result<&'a [Occurrence], Failure> {
    if actual.is_one_file {
        let KeyError { failure, .. } = step.is_one_file();
        return Err(failure);
    }
    let (variable, file) = (&step.variable, escape_path(&step.file));
    let (services, not_searched, occurrences) = match &actual.file {
        ComposeFile::Missing => {
            let refusal = Failure::new(format!("{file} does not exist, so {variable} cannot be set in it"));
            return Err(refusal.hint("run the step that puts the file there (a checkout, say), or correct `file`"));
        }
        ComposeFile::NotAFile { found, target, removal } => {
            return Err(not_a_file(&step.file, *found, target, *removal, "file"));
        }
        ComposeFile::Unreadable { reason, hint } => {
            let hint = hint
                .as_deref()
                .unwrap_or("rewrite it in plain YAML 1.2; Compose accepts some syntax that provision does not");
            return Err(Failure::new(format!("{file} cannot be edited: {reason}")).hint(hint.to_owned()));
        }
        ComposeFile::Read { services, not_searched, occurrences, in_env_files, .. } => {
            if let ([], Some(EnvFileOf { service, path })) = (&occurrences[..], in_env_files.first()) {
                return Err(in_an_env_file(step, service, path));
            }
            (services, not_searched, occurrences)
        }
    };
    if !occurrences.is_empty() {
        return Ok(occurrences);
    }
    let known = if services.is_empty() { "no services".to_owned() } else { services.join(", ") };
    let hint = match &step.service {
        Some(service) if !services.contains(service) => {
            return Err(Failure::new(format!("{file} has no service {service}")).hint(format!("it has {known}")));
        }
        _ => format!(
            "write `{variable}: ${{{variable}}}` where it belongs; entries are never added, only their values set"
        ),
    };
    let place = match &step.service {
        Some(service) => format!("the environment of service {service} in {file} has no {variable}"),
        None => format!("no environment in {file} has {variable}; searched: {known}, x- blocks"),
    };
    let elsewhere = match &not_searched[..] {
        [] => String::new(),
        words => format!("; files named by {} are not edited", words.join(" and ")),
    };
    Err(Failure::new(format!("{place}{elsewhere}")).hint(hint))
}

/// Returns the failure for a variable in a file that is not edited.
fn in_an_env_file(step: &ComposeEnv, service: &str, path: &Path) -> Failure {
    let (file, variable, shown) = (escape_path(&step.file), &step.variable, escape_path(path));
    let entry = format!("write `{variable}: ${{{variable}}}` into the environment of service {service}");
    let refusal = Failure::new(format!(
        "no environment in {file} has {variable}: service {service} gets it from {shown}, an env_file"
    ));
    match path == step.env_file() {
        true => refusal.hint(format!("{entry}; its value in {shown} is set then")),
        false => refusal.hint(format!(
            "files of env_file are not edited: {entry}, and move the line of {variable} from {shown} to {}",
            escape_path(&step.env_file())
        )),
    }
}

fn not_a_file(path: &Path, found: FileKind, target: &Option<PathBuf>, removal: Removal, key: &str) -> Failure {
    let refusal = Failure::new(format!("{} is {}, not a file", escape_path(path), found.name()));
    match (found, target) {
        // Compose takes the project's directory, name and .env from the path that it is given, not from where that leads.
        (FileKind::Symlink, Some(target)) if key == "file" => refusal.hint(format!(
            "symlinks are not followed, and the real path, {}, is another project to Docker Compose; put the file itself there: \
             `cp -a --remove-destination {} {}`",
            escape_path(target),
            shell_word(target),
            shell_word(path)
        )),
        (FileKind::Symlink, Some(target)) => refusal.hint(format!(
            "symlinks are not followed: name the real path in the step, `{key}: {}`",
            escape_path(target)
        )),
        (FileKind::Symlink, None) if key == "file" => refusal
            .hint("symlinks are not followed, and where it leads is another project to Docker Compose; put the file itself there"),
        (FileKind::Symlink, None) => {
            refusal.hint(format!("symlinks are not followed: name the real path in the step, as `{key}`"))
        }
        _ => refusal.hint(removal.hint(path, &format!("correct `{key}`"))),
    }
}

fn in_env_file(
    step: &ComposeEnv,
    actual: &Actual,
    occurrences: &[Occurrence],
    diff: &mut Diff<Change>,
) -> Result<(), Failure> {
    let mut referred = BTreeSet::new();
    for occurrence in occurrences {
        if let Form::Reference { name, refuses_empty } = &occurrence.form {
            if *refuses_empty && matches!(actual.source, Source::Value { empty: true, .. }) {
                let what = format!(
                    "the value for {} is empty, and {} does not accept an empty value",
                    step.variable,
                    at(occurrence)
                );
                return Err(Failure::new(what).hint(format!("pass a value, or write `${{{name}}}` there")));
            }
            referred.insert(name);
        }
    }
    if referred.is_empty() {
        return Ok(());
    }
    let path = step.env_file();
    let shown = escape_path(&path);
    let (nothing, nowhere) = (BTreeMap::new(), BTreeMap::new());
    let mut parents: &[String] = &[];
    if let Some(EnvFile::Missing { missing_parents }) = &actual.env_file {
        parents = missing_parents;
    }
    let (mode, values, put_into, foreign) = match &actual.env_file {
        None | Some(EnvFile::Missing { .. }) => (None, &nothing, &nowhere, (&None, &None, &actual.folder_denied)),
        Some(EnvFile::NotAFile { found, target, removal }) => {
            return Err(not_a_file(&path, *found, target, *removal, "env_file"));
        }
        Some(EnvFile::Unreadable { reason }) => {
            return Err(Failure::new(format!("{shown} cannot be edited: {reason}")).hint("correct that line by hand"));
        }
        Some(EnvFile::ComposeFile) => {
            return Err(Failure::new(format!(
                "`env_file`: {shown} is a compose file, which holds no values for `${{NAME}}`"
            ))
            .hint("set `env_file` to the file with the values, or remove the key to use .env beside `file`"));
        }
        Some(EnvFile::Read { mode, values, put_into, foreign_owner, foreign_group, denied }) => {
            let bits = u32::from_str_radix(mode, 8).unwrap_or(PRIVATE);
            (Some((mode, bits)), values, put_into, (foreign_owner, foreign_group, denied))
        }
    };
    let value = |name: &str| values.get(name).unwrap_or(&EnvValue::Missing);
    let names: Vec<String> = match &actual.source {
        Source::Value { digest, .. } => {
            let differs = |name: &&&String| !matches!(value(name), EnvValue::Text { digest: found } if found == digest);
            referred.iter().filter(differs).map(|name| (*name).clone()).collect()
        }
        Source::Nothing | Source::Unusable { .. } => {
            if let Some(name) = referred.iter().find(|name| *value(name) == EnvValue::Missing) {
                let why = yields_nothing(step.value.as_ref());
                return Err(Failure::new(format!("{shown} has no {name}, and there is no value to write: {why}"))
                    .hint(how_to_give(step.value.as_ref(), "value")));
            }
            Vec::new()
        }
    };
    let wide = mode.filter(|(_, bits)| bits & !PRIVATE != 0);
    if !names.is_empty() {
        can_replace(&shown, foreign.0, foreign.1, foreign.2)?;
    } else if wide.is_some() {
        // The mode is set on the existing file, so only a denial of the file itself matters.
        can_replace(&shown, foreign.0, &None, &foreign.2.clone().filter(|denial| denial.is_of_the_file()))?;
    }
    if let (ComposeFile::Read { by_env_file, .. }, false) = (&actual.file, names.is_empty()) {
        let shown: Vec<String> = names.iter().map(|name| format!("${{{name}}}")).collect();
        let how = format!(" through {}", shown.join(" and "));
        alone(step, by_env_file, &how, "leave out `service`, or give the service a variable of its own")?;
    }
    let mut elsewhere = BTreeSet::new();
    if let ComposeFile::Read { elsewhere: places, .. } = &actual.file {
        elsewhere.extend(names.iter().filter_map(|name| places.get(name)).flatten().cloned());
    }
    let holders = names.iter().filter_map(|name| put_into.get(name)).flatten();
    elsewhere.extend(holders.map(|holder| format!("{holder} in .env")));
    let elsewhere = elsewhere.into_iter().collect();
    match (mode, wide, names.is_empty()) {
        (None, _, false) => {
            diff.changes.push(Change::CreateEnvFile { path, parents: parents.to_vec(), names, elsewhere });
        }
        (Some(_), wide, false) => {
            let mode = wide.map(|(mode, _)| mode.clone());
            diff.changes.push(Change::EnvFile { path, names, mode, elsewhere });
        }
        (_, Some((from, bits)), true) => {
            diff.changes.push(Change::EnvFileMode { path, from: from.clone(), to: format!("{:04o}", bits & PRIVATE) });
        }
        (_, None, true) => {}
    }
    Ok(())
}

/// Returns a warning if the secret is in a compose file that everybody can read, or will be. The step does not change the mode
/// of that file.
fn readable_by_all(step: &ComposeEnv, actual: &Actual, occurrences: &[Occurrence]) -> Option<String> {
    let ComposeFile::Read { mode, is_out_of_reach: false, .. } = &actual.file else { return None };
    let is_readable = u32::from_str_radix(mode, 8).is_ok_and(|bits| bits & 0o004 != 0);
    let is_there = occurrences.iter().any(|occurrence| !matches!(occurrence.form, Form::Reference { .. }));
    let has_secret = is_there && matches!(&actual.source, Source::Value { empty: false, .. });
    (is_readable && has_secret).then(|| {
        let (file, variable) = (escape_path(&step.file), &step.variable);
        let word = shell_word(&step.file);
        format!(
            "everybody can read {file} (mode {mode}), and with it the value of {variable}; remove that right (`chmod o-r {word}`), \
             or write ${{{variable}}} there to keep the value in .env"
        )
    })
}

/// Returns warnings that containers may get a value other than the one that the step sets.
fn overridden(step: &ComposeEnv, actual: &Actual) -> Vec<String> {
    let ComposeFile::Read { project, overridden, unresolved, .. } = &actual.file else { return Vec::new() };
    let mut warnings = Vec::new();
    if !project.instead.is_empty() {
        let file = escape_path(&step.file);
        let instead: Vec<String> = project.instead.iter().map(|path| escape_path(path)).collect();
        warnings.push(format!(
            "`docker compose` in {} uses {}, and not {file}; containers that were started with `-f {file}` have to be \
             recreated by hand",
            escape_path(&project.folder),
            instead.join(" and "),
        ));
    }
    if let Some(Unresolved { path, why }) = unresolved.as_deref() {
        warnings.push(match *path == *step.file {
            true => format!("Compose cannot use {}: {why}", escape_path(path)),
            false => format!("{}, which Compose merges into the file, cannot be read: {why}", escape_path(path)),
        });
    }
    let mut by_places: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
    for Overridden { service, places } in overridden {
        by_places.entry(places).or_default().push(service);
    }
    for (places, services) in by_places {
        let variable = &step.variable;
        let (word, names) = (if services.len() == 1 { "service" } else { "services" }, services.join(", "));
        warnings.push(match places {
            [] => format!("{word} {names} will not get this value of {variable}; see `docker compose config`"),
            places => format!(
                "{word} {names} will not get this value of {variable}: Compose uses that of {}, which this step does not edit",
                places.join(" and ")
            ),
        });
    }
    warnings
}

/// Fails if an edit for one service also changes other services.
fn alone(step: &ComposeEnv, affected: &Affected, how: &str, hint: &str) -> Result<(), Failure> {
    let Some(service) = &step.service else { return Ok(()) };
    let others: Vec<&str> = affected.services.iter().map(String::as_str).filter(|name| name != service).collect();
    if others.is_empty() {
        return Ok(());
    }
    let what = format!("service {service} shares its value with {}{how}", others.join(", "));
    Err(Failure::new(format!("{}: {what}", escape_path(&step.file))).hint(hint.to_owned()))
}

fn in_compose_file(
    step: &ComposeEnv,
    actual: &Actual,
    occurrences: &[Occurrence],
    diff: &mut Diff<Change>,
) -> Result<(), Failure> {
    let Source::Value { digest, .. } = &actual.source else { return Ok(()) };
    let file = escape_path(&step.file);
    let mut places = Vec::new();
    let mut references = Vec::new();
    for occurrence in occurrences.iter().filter(|occurrence| differs(occurrence, digest)) {
        if let Form::Foreign { why } = &occurrence.form {
            let what = format!("{file}: the value of {} in {} {why}", step.variable, at(occurrence));
            return Err(Failure::new(what).hint("write a text there, without a tag other than !!str"));
        }
        if let Some(why) = &occurrence.entangled {
            let hint = match step.service {
                Some(_) => "leave out `service`, or give the service an entry of its own",
                None => "write the value out at one of the two places",
            };
            return Err(Failure::new(format!("{file}: {}: {why}", at(occurrence))).hint(hint));
        }
        if occurrence.form == Form::Mixed {
            references.push(at(occurrence));
        }
        places.push(at(occurrence));
    }
    if places.is_empty() {
        return Ok(());
    }
    let ComposeFile::Read { foreign_owner, foreign_group, denied, unproven, links, by_compose_file, .. } = &actual.file
    else {
        return Ok(());
    };
    alone(step, by_compose_file, "", "leave out `service`, or give the service an entry of its own")?;
    can_replace(&file, foreign_owner, foreign_group, denied)?;
    if let Some(why) = unproven {
        return Err(Failure::new(format!("{file} cannot be edited: {why}"))
            .hint(format!("write the value in double quotes on one line there, or as `${{{}}}`", step.variable)));
    }
    if *links > 1 {
        diff.notes.push(format!("the other names of {file} ({links} hard links) keep the old content"));
    }
    diff.changes.push(Change::ComposeFile {
        path: step.file.to_path_buf(),
        variable: step.variable.clone(),
        places,
        references,
    });
    Ok(())
}

fn differs(occurrence: &Occurrence, wanted: &Digest) -> bool {
    match &occurrence.form {
        Form::Literal { digest } => digest != wanted,
        Form::Retyped | Form::Mixed | Form::Foreign { .. } => true,
        Form::Reference { .. } => false,
    }
}

fn at(occurrence: &Occurrence) -> String {
    place_at(&occurrence.place, occurrence.line)
}

/// Returns the name of a place in a change. When the change is made, the place is recognised by its name.
pub fn place_at(place: &str, line: usize) -> String {
    format!("{place}, line {line}")
}

/// Returns the services whose containers were created with the old value.
pub fn stale_services(actual: &Actual, change: &Change) -> Vec<String> {
    let ComposeFile::Read { by_compose_file, by_env_file, .. } = &actual.file else { return Vec::new() };
    match change {
        Change::EnvFile { .. } | Change::CreateEnvFile { .. } => by_env_file.containers.clone(),
        Change::ComposeFile { .. } => by_compose_file.containers.clone(),
        Change::RemoveLeftovers { .. } | Change::EnvFileMode { .. } => Vec::new(),
    }
}

/// Fails if the acting user cannot replace the file.
fn can_replace(
    path: &str,
    foreign_owner: &Option<Box<str>>,
    foreign_group: &Option<Box<str>>,
    denied: &Option<Box<Denial>>,
) -> Result<(), Failure> {
    if let Some(owner) = foreign_owner {
        return Err(Failure::new(format!(
            "{path} belongs to {owner}, and the edited file would belong to the step's user"
        ))
        .hint("run the step as its owner, or with run_as: root"));
    }
    if let Some(denial) = denied {
        return Err(refusal(&format!("{path} cannot be written"), denial));
    }
    if let Some(group) = foreign_group {
        return Err(Failure::new(format!(
            "{path} has group {group}, which the step's user cannot give to the edited file"
        ))
        .hint("run the step with run_as: root, or give the file to a group of that user's"));
    }
    Ok(())
}
