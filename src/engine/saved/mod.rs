//! Saved plans, which `plan --out` writes and `apply` executes once.
//!
//! A file has three lines: its format, its body (JSON), and a keyed hash of both. The body holds the planned changes, and keyed
//! hashes of everything that they depend on: the evaluated steps and the values of their secrets. It also holds the key, so
//! that later observations can be compared with those of the plan. Anyone who can read the file can therefore test guesses at a
//! weak secret; its mode (0600) prevents that.

use crate::failure::Failure;
use crate::text::{file_word, io_error_text, storage_hint};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::event::{Event, Planned};
use super::live::keep_planned;
use super::survey::{PlannedStep, Verdict};
use crate::host::fs::escape_path;
use crate::host::secret::{Digest, Digester};
use crate::host::state::{self, Access, Part, StateFolder};
use crate::plan_file::is_telling;
use crate::resource::AnyChange;
use crate::resource::Step;

mod file;
mod replan;
mod show;
#[cfg(test)]
mod tests;

pub use file::{Target, load};
pub use show::show_saved;

/// The first line. The number is that of the format.
const MAGIC: &str = "provision saved plan 1";
/// The start of the first line in every format.
const ANY_MAGIC: &[u8] = b"provision saved plan ";

/// The maximum size of the record that a plan was applied, in bytes. It is the id of a run, which is shorter.
const MAX_USED: u64 = 1024;

/// A saved plan whose seal was checked.
#[derive(Clone)]
pub struct Saved {
    body: Body,
    digester: Digester,
    /// The path of the file that it was read from.
    path: PathBuf,
}

/// What a plan depends on besides its steps. If two are equal, a plan made for one of them is valid for the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version of provision.
    pub version: String,
    pub host: String,
    /// The digest of the machine's id. The id itself must not leave the machine.
    pub machine: Digest,
    pub user: String,
    pub uid: u32,
    /// The plan file's path, without symlinks.
    pub file: String,
    /// The digest of the plan file's bytes.
    pub content: Digest,
}

/// The flags that the plan was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    pub only: Vec<String>,
    pub skip: Vec<String>,
    pub as_of: Date,
    pub vars: BTreeMap<String, Var>,
}

/// The value of a `--var`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Var {
    Value(String),
    /// The value may contain a password, as a URL does, so it has to be given again.
    Hidden(Digest),
}

/// Digests, made with the run's key, of what its steps evaluate to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// For each step, the digest of the evaluated step and its connection.
    pub steps: BTreeMap<String, Digest>,
    /// For each step, the digest of the value of its secret, or of its connection's. Absent if there is no value.
    pub secrets: BTreeMap<String, Digest>,
    /// For each step, the digests of the files beside the plan file that it uses, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub companions: BTreeMap<String, BTreeMap<String, Digest>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Body {
    /// The id of the run that made the plan.
    id: String,
    /// When the plan was made: RFC 3339, UTC.
    made: String,
    /// When the observation that the plan is based on began, in microseconds since 1970.
    observed: u64,
    origin: Origin,
    flags: Flags,
    /// The text of a plan file from standard input, so that it need not be given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan_file: Option<String>,
    /// The key of the digests, in hexadecimal.
    key: String,
    fingerprints: Fingerprints,
    steps: Vec<SavedStep>,
    /// The plan file's `name`.
    #[serde(default)]
    plan: String,
    /// The events of the plan when it was made.
    #[serde(default)]
    events: Vec<Event>,
}

/// The plan of one step.
#[derive(Clone, Serialize, Deserialize)]
struct SavedStep {
    id: String,
    outcome: Planned,
    /// The step is planned again after other steps, and whatever it then needs is done.
    provisional: bool,
    changes: Vec<AnyChange>,
    /// Why the step is blocked or has failed.
    failure: Option<Failure>,
}

impl Var {
    /// Returns a `--var` as it is saved. The purpose of a value is unknown, so a value is not kept if it looks like a password
    /// by its name, or by its form as in URLs and connection strings.
    pub fn of(name: &str, value: &str, digester: &Digester) -> Self {
        let lower = value.to_lowercase();
        let in_url = lower.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
        let named = |word: &str| lower.contains(word);
        if in_url || is_telling(name) || ["passw", "secret", "token"].into_iter().any(named) {
            Self::hidden(value, digester)
        } else {
            Self::Value(value.to_owned())
        }
    }

    /// Returns a `--var` whose value is not kept.
    pub fn hidden(value: &str, digester: &Digester) -> Self {
        Self::Hidden(digester.digest(value.as_bytes()))
    }
}

impl Saved {
    /// Creates the saved plan to be written.
    pub fn new(
        id: &str,
        made: String,
        (origin, plan_file): (Origin, Option<String>),
        flags: Flags,
        digester: &Digester,
        fingerprints: Fingerprints,
        planned: &[(&Step, &PlannedStep)],
    ) -> Self {
        let steps = planned.iter().map(|(step, planned)| SavedStep::of(step, planned)).collect();
        let key = digester.key().iter().map(|byte| format!("{byte:02x}")).collect();
        let observed = planned.iter().map(|(_, planned)| planned.observed).min().unwrap_or_else(SystemTime::now);
        let observed = observed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let observed = u64::try_from(observed.as_micros()).unwrap_or(u64::MAX);
        let (id, plan, events) = (id.to_owned(), String::new(), Vec::new());
        let body = Body { id, made, observed, origin, flags, plan_file, key, fingerprints, steps, plan, events };
        Self { body, digester: digester.clone(), path: PathBuf::new() }
    }

    /// Returns whether the bytes begin like a saved plan of any format, even a damaged one.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(ANY_MAGIC) || (!bytes.is_empty() && ANY_MAGIC.starts_with(bytes))
    }

    /// Reads a saved plan. Checks that its id can be the name of a file.
    ///
    /// # Errors
    /// The plan has another format, or is not as it was written.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Failure> {
        let again = || replan_hint(path, "provision plan");
        let broken =
            || Failure::new("the saved plan was cut off or altered: it is not as `plan --out` wrote it").hint(again());
        let text = std::str::from_utf8(bytes).map_err(|_| broken())?;
        let (magic, rest) = text.split_once('\n').ok_or_else(broken)?;
        if magic != MAGIC {
            let format = magic.strip_prefix("provision saved plan ").filter(|format| format.parse::<u32>().is_ok());
            return Err(format.map_or_else(broken, |format| {
                Failure::new(format!(
                    "the saved plan has format {format}; this version of provision supports only format 1"
                ))
                .hint(again())
            }));
        }
        let (body, seal) = rest.split_once('\n').ok_or_else(broken)?;
        let parsed: Body = serde_json::from_str(body).map_err(|_| broken())?;
        let digester = Digester::with_key(key(&parsed.key).ok_or_else(broken)?);
        let id_is_name = parsed.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if seal != sealed(&digester, body) || parsed.id.is_empty() || !id_is_name {
            return Err(broken());
        }
        Ok(Self { body: parsed, digester, path: path.to_owned() })
    }

    /// Returns the bytes of the file.
    ///
    /// # Errors
    /// A change cannot be written as JSON, because it has a path that is not UTF-8.
    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let body = serde_json::to_string(&self.body)
            .map_err(|error| Failure::new(format!("cannot write the plan as JSON: {error}")))?;
        Ok(format!("{MAGIC}\n{body}\n{}", sealed(&self.digester, &body)).into_bytes())
    }

    /// Returns its id, which is that of the run that made it.
    pub fn id(&self) -> &str {
        &self.body.id
    }

    /// Returns the path of the plan file that it was made from.
    pub fn file(&self) -> &str {
        &self.body.origin.file
    }

    /// Returns the text of the plan file if it came from standard input.
    pub fn plan_file(&self) -> Option<&str> {
        self.body.plan_file.as_deref()
    }

    /// Returns the flags that it was made with.
    pub fn flags(&self) -> &Flags {
        &self.body.flags
    }

    /// Returns the digester whose digests can be compared with those of the plan.
    pub fn digester(&self) -> &Digester {
        &self.digester
    }

    /// Checks that it is applied where it was made: with the same host, user, version and plan file.
    ///
    /// # Errors
    /// Any of these differs. The failure lists all that differ.
    pub fn check_origin(&self, here: &Origin) -> Result<(), Failure> {
        let there = &self.body.origin;
        let mut differs = Vec::new();
        if there.host != here.host || there.machine != here.machine {
            let same_name = if there.host == here.host { ", another machine of that name" } else { "" };
            differs.push(format!("it was made on host {}, and this is {}{same_name}", there.host, here.host));
        }
        if there.uid != here.uid {
            differs.push(format!("it was made by {}, and you are {}", there.user, here.user));
        }
        if there.version != here.version {
            differs.push(format!("provision {} made it, and this is {}", there.version, here.version));
        }
        if there.file != here.file || there.content != here.content {
            differs.push(format!("the plan file {} has changed since", there.file));
        }
        self.refused(&differs)
    }

    /// Checks that the steps evaluate to the same as in the plan.
    ///
    /// # Errors
    /// Some steps differ, because a template, a variable or the environment has changed. The failure names them.
    pub fn check_steps(&self, now: &Fingerprints) -> Result<(), Failure> {
        let then = &self.body.fingerprints;
        let ids = then.steps.keys().chain(now.steps.keys().filter(|id| !then.steps.contains_key(*id)));
        let mut differs = Vec::new();
        for id in ids {
            let files = (then.companions.get(id), now.companions.get(id));
            let changed = changed_files(files.0, files.1);
            if files.0 == files.1 && then.steps.get(id) != now.steps.get(id) {
                differs
                    .push(format!("step `{id}` evaluates differently now: a variable or the environment has changed"));
            }
            differs.extend(
                changed.into_iter().map(|file| format!("{file}, a template of step `{id}`, has changed since")),
            );
        }
        self.refused(&differs)
    }

    /// Checks that it has not been applied yet.
    ///
    /// # Errors
    /// It was already applied, from this file or from a copy, or the state folder, which records that, cannot be read.
    pub fn check_unused(&self, folder: &StateFolder) -> Result<(), Failure> {
        let Some(dir) = folder.existing(Part::Used)? else { return Ok(()) };
        match state::read(&dir, self.id(), MAX_USED)? {
            Some(by) => Err(self.used(&by)),
            None => Ok(()),
        }
    }

    /// Records on disk that the run `by` applies it. This is done before anything is changed.
    ///
    /// # Errors
    /// It was already applied, or that cannot be recorded.
    pub fn use_up(&self, folder: &StateFolder, by: &str) -> Result<(), Failure> {
        let dir = folder.make(Part::Used)?;
        let Some(mut file) = state::open(&dir, self.id(), Access::New)? else {
            return Err(self.used(&state::read(&dir, self.id(), MAX_USED)?.unwrap_or_default()));
        };
        file.write_all(by.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
            Failure::new(format!("cannot record that the saved plan was used: {}", io_error_text(&error)))
                .hint(storage_hint(&error, format!("check the file system of {}", escape_path(dir.path()))))
        })?;
        state::sync(&dir)
    }

    /// Restricts the current verdict on a step to what was planned.
    pub fn admit(&self, step: &str, verdict: Verdict, now: &Fingerprints) -> Verdict {
        let Some(saved) = self.body.steps.iter().find(|saved| saved.id == step) else {
            return Verdict::Blocked(Failure::new("the saved plan has no such step").hint(self.replan_hint()));
        };
        let then = &self.body.fingerprints.secrets;
        match (saved.outcome, verdict) {
            (Planned::Failed, _) => saved.not_planned("failed", self.replan_hint()),
            // A step that was only partly blocked still has planned changes.
            (Planned::Blocked, _) if saved.changes.is_empty() => saved.not_planned("was blocked", self.replan_hint()),
            (_, Verdict::Failed(failure)) => Verdict::Failed(failure),
            _ if then.get(step) != now.secrets.get(step) => Verdict::Blocked(
                Failure::new("its secret has changed since the plan was saved").hint(self.replan_hint()),
            ),
            (_, Verdict::Decided(mut diff)) if !saved.provisional => {
                match keep_planned(&mut diff, &saved.changes, self.observed()) {
                    Ok(()) => Verdict::Decided(diff),
                    Err(other) => {
                        let now = other.describe();
                        let failure = Failure::new(format!(
                            "{} changed after the plan was saved; it now needs: {}",
                            now.target, now.summary
                        ));
                        Verdict::Blocked(failure.hint(self.replan_hint()))
                    }
                }
            }
            (_, verdict) => verdict,
        }
    }
}

impl Saved {
    /// Returns when the observation that the plan is based on began.
    pub fn observed(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.body.observed)
    }
}

impl SavedStep {
    /// Returns the verdict on a step that was not planned completely.
    fn not_planned(&self, was: &str, again: String) -> Verdict {
        let why = self.failure.as_ref().map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        Verdict::Blocked(Failure::new(format!("it {was} when the plan was made{why}")).hint(again))
    }

    fn of(step: &Step, planned: &PlannedStep) -> Self {
        let (changes, failure) = match &planned.verdict {
            Verdict::Decided(diff) => (diff.changes.clone(), Failure::join(&diff.obstacles)),
            Verdict::Deferred => (Vec::new(), None),
            Verdict::Blocked(failure) | Verdict::Failed(failure) => (Vec::new(), Some(failure.clone())),
        };
        Self {
            id: step.id.clone(),
            outcome: planned.outcome(),
            provisional: planned.is_provisional(),
            changes,
            failure,
        }
    }
}

/// Returns the paths of the files that have changed, or exist on one side only.
fn changed_files(then: Option<&BTreeMap<String, Digest>>, now: Option<&BTreeMap<String, Digest>>) -> Vec<String> {
    let none = BTreeMap::new();
    let (then, now) = (then.unwrap_or(&none), now.unwrap_or(&none));
    let paths: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    paths.into_iter().filter(|path| then.get(*path) != now.get(*path)).cloned().collect()
}

fn sealed(digester: &Digester, body: &str) -> String {
    let seal = blake3::keyed_hash(digester.key(), format!("{MAGIC}\n{body}\n").as_bytes());
    format!("{}\n", seal.to_hex())
}

fn key(hexadecimal: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if hexadecimal.len() != 64 || !hexadecimal.is_ascii() {
        return None;
    }
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hexadecimal.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(key)
}

/// Returns the hint to replace the saved plan at `path`. `plan` is the command without its output file.
fn replan_hint(path: &Path, plan: &str) -> String {
    let saved = file_word(path);
    format!("make a new plan: `rm {saved} && {plan} --out {saved}`")
}
