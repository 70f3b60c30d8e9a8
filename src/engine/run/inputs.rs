//! The inputs of a run: a plan file and flags, or a saved plan that contains both.

use crate::text::shell_word;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;

use super::error::NotPrepared;
use super::request::{Command, Request, today};
use super::secrets::RunSecrets;
use super::source::Source;
use crate::engine::event::Holder;
use crate::engine::journal::{self, Record, RescueStep, RescueSteps};
use crate::engine::lock::time;
use crate::engine::saved::{self, Fingerprints, Flags, Origin, Saved, Var};
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::machine;
use crate::host::secret::{Digest, Digester, Secret};
use crate::host::users::User;
use crate::host::warehouse::{ClientDefaults, ConnectionSecrets, ConnectionSpec};
use crate::plan_file::{Evaluated, Folder, HostAccess, Inputs, PlanFile, Selection};
use crate::resource::{Companion, Step};

/// The maximum size of the steps that a run records for `rescue`, in bytes. A record has at most 1 MiB.
const MAX_RESCUE_STEPS: usize = 256 << 10;

/// The inputs that are read before the plan file is checked.
pub struct RunInputs {
    /// The plan file as it was read.
    pub source: Source,
    /// The path of the plan file, without symlinks.
    pub path: PathBuf,
    pub saved: Option<Saved>,
    pub origin: Origin,
    /// As they were given, with the values of variables that secrets are made of.
    flags: Flags,
    pub digester: Digester,
    pub environment: Environment,
    templates: Inputs,
}

impl RunInputs {
    /// Loads what the request names. A saved plan brings the plan file and flags that it was made with.
    ///
    /// # Errors
    /// A file cannot be read, or a saved plan is not valid here.
    pub fn load(request: Request) -> Result<Self, Failure> {
        let Request { command, source, selection, vars, as_of, environment } = request;
        if command == Command::Apply {
            source.require_name("apply")?;
            if source.is_input && Saved::is_one(&source.bytes) {
                return Err(Failure::new("a saved plan cannot come from standard input")
                    .hint("name its file: `provision apply SAVED`"));
            }
        }
        let client = ClientDefaults::of(&environment);
        let mut templates = Inputs { vars, env: environment.texts(), client, host: HostAccess::Read };
        if command != Command::Apply || !Saved::is_one(&source.bytes) {
            let digester = Digester::fresh()?;
            let Selection { only, skip } = selection;
            let vars = templates.vars.iter().map(|(name, value)| (name.clone(), Var::of(name, value, &digester)));
            let flags = Flags { only, skip, as_of: as_of.unwrap_or_else(today), vars: vars.collect() };
            let (path, origin) = origin(&source, &digester);
            return Ok(Self { source, path, saved: None, origin, flags, digester, environment, templates });
        }
        let saved = saved::load(&source.path)?;
        let source = match saved.plan_file() {
            Some(text) => Source::of_input(text.as_bytes().to_vec(), Some(PathBuf::from(saved.file()))),
            None => Source::read(Path::new(saved.file()))?,
        };
        let (path, origin) = origin(&source, saved.digester());
        saved.check_origin(&origin)?;
        templates.vars = saved_variables(&selection, as_of, &templates.vars, &saved)?;
        let (flags, digester) = (saved.flags().clone(), saved.digester().clone());
        Ok(Self { source, path, saved: Some(saved), origin, flags, digester, environment, templates })
    }

    /// The date that the run goes by.
    pub fn as_of(&self) -> Date {
        self.flags.as_of
    }

    /// Returns the flags as a saved plan keeps them: without the values of the variables that secrets are made of, as it keeps no
    /// arguments of a secret command.
    pub fn flags_to_keep(&self, plan_file: &PlanFile) -> Flags {
        let mut flags = self.flags.clone();
        if self.saved.is_some() || self.templates.vars.is_empty() {
            return flags;
        }
        for name in plan_file.secret_variables(&self.templates) {
            if let Some(value) = self.templates.vars.get(&name) {
                flags.vars.insert(name, Var::hidden(value, &self.digester));
            }
        }
        flags
    }

    /// Evaluates the selected steps.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn evaluate(&self, plan_file: &PlanFile) -> Result<Evaluated, NotPrepared> {
        let selection = Selection { only: self.flags.only.clone(), skip: self.flags.skip.clone() };
        Ok(plan_file.evaluate(&self.templates, &selection)?)
    }

    /// Returns the `--var` arguments that `rescue` needs to find the same repositories. A value that may be a secret is
    /// replaced by `…`, as a saved plan does not contain it either.
    pub fn restore_arguments(&self, plan_file: &PlanFile) -> String {
        let selection = Selection { only: plan_file.ids_that_keep_rescues(), skip: Vec::new() };
        if selection.only.is_empty() {
            return String::new();
        }
        // Only the paths are needed. The run may have moved the templates of the plan file meanwhile.
        let places_of = plan_file.clone().in_folder(Folder::Unread);
        let places = |inputs: &Inputs| -> Option<Vec<String>> {
            let steps = places_of.evaluate_alone(inputs, &selection).ok()?.steps;
            Some(
                steps
                    .iter()
                    .flat_map(|step| [step.resource.target(), step.run_as.clone().unwrap_or_default()])
                    .collect(),
            )
        };
        let given = Inputs { host: HostAccess::None, ..self.templates.clone() };
        let with = places(&given);
        let kept = self.flags_to_keep(plan_file).vars;
        let words = self.templates.vars.iter().filter_map(|(name, value)| {
            let mut inputs = given.clone();
            inputs.vars.remove(name);
            let value = match kept.get(name) {
                Some(Var::Value(_)) => shell_word(value),
                _ => "…".to_owned(),
            };
            (with.is_none() || places(&inputs) != with).then(|| format!(" --var {name}={value}"))
        });
        words.collect()
    }

    /// Returns the fingerprints of the steps. They have to match those of a saved plan.
    ///
    /// # Errors
    /// They do not match.
    pub fn fingerprints(&self, plan: &Evaluated, secrets: &RunSecrets) -> Result<Fingerprints, Failure> {
        let mut prints = Fingerprints::default();
        for step in &plan.steps {
            let connection = step.resource.connection();
            let spec = connection.and_then(|name| plan.connections.get(name)?.as_ref().ok());
            let settings = spec.map(ConnectionSpec::settings);
            let whole = serde_json::to_vec(&(&step.run_as, &step.after, &step.resource, settings));
            let whole = whole.map_err(|error| {
                Failure::new(format!("cannot write step `{}` as JSON: {error}", step.id))
                    .hint("use only paths that are valid UTF-8")
            })?;
            prints.steps.insert(step.id.clone(), self.digester.digest(&whole));
            let digest = |file: &Companion| (file.shown(), self.digester.digest(file.hash.as_bytes()));
            if !step.companions.is_empty() {
                prints.companions.insert(step.id.clone(), step.companions.iter().map(digest).collect());
            }
            let mut has_password = false;
            let given: Vec<Secret> = match connection {
                Some(name) => {
                    let ConnectionSecrets { password, tunnel_key } = secrets.of_connection(name).unwrap_or_default();
                    has_password = password.is_some();
                    // A program may print another token each time. The token is a credential and not content.
                    let is_token = spec.is_some_and(ConnectionSpec::has_token);
                    password.filter(|_| !is_token).into_iter().chain(tunnel_key).collect()
                }
                None => secrets.of_step(&step.id).unwrap_or_default().into_values().collect(),
            };
            let in_url = spec.and_then(ConnectionSpec::password_in_url).filter(|_| !has_password);
            let digests: Vec<Digest> =
                given.iter().chain(in_url).map(|secret| self.digester.digest(secret.expose())).collect();
            match digests.as_slice() {
                [] => {}
                [digest] => drop(prints.secrets.insert(step.id.clone(), digest.clone())),
                several => {
                    let all = serde_json::to_vec(several).unwrap_or_default();
                    prints.secrets.insert(step.id.clone(), self.digester.digest(&all));
                }
            }
        }
        self.saved.as_ref().map_or(Ok(()), |saved| saved.check_steps(&prints))?;
        Ok(prints)
    }

    /// Returns the id of the saved plan, if there is one.
    pub fn saved_id(&self) -> Option<String> {
        self.saved.as_ref().map(|saved| saved.id().to_owned())
    }

    /// Describes this run to others that find its lock.
    pub fn holder(&self, run: &str) -> Holder {
        Holder {
            user: Some(self.origin.user.clone()),
            pid: Some(std::process::id()),
            host: Some(self.origin.host.clone()),
            run: Some(run.to_owned()),
            since: Some(time(Timestamp::now())),
        }
    }

    /// Returns the steps with which `rescue` finds the rescues without the plan file. `None` if there are none, or if they are
    /// too large for a record.
    pub fn rescue_steps(&self, plan_file: &PlanFile, steps: &[Step]) -> Option<Box<RescueSteps>> {
        let found = steps.iter().filter_map(|step| {
            Some(RescueStep {
                id: step.id.clone(),
                kind: step.resource.kind().to_owned(),
                run_as: step.run_as.clone(),
                keys: step.resource.rescues()?.rescue_keys(),
            })
        });
        let found: Vec<RescueStep> = found.collect();
        if found.is_empty() {
            return None;
        }
        let owned = plan_file.owned_paths(&self.templates).unwrap_or_default();
        let recorded = RescueSteps { steps: found, owned };
        let size = serde_json::to_vec(&recorded).map_or(usize::MAX, |bytes| bytes.len());
        (size <= MAX_RESCUE_STEPS).then(|| Box::new(recorded))
    }

    /// Returns the first journal record of this run.
    pub fn started(&self, run: &str, plan: &str, rescues: Option<Box<RescueSteps>>) -> Record {
        Record::RunStarted {
            at: time(Timestamp::now()),
            format: journal::FORMAT,
            run: run.to_owned(),
            plan: plan.to_owned(),
            file: self.origin.file.clone(),
            saved: self.saved_id(),
            version: self.origin.version.clone(),
            host: self.origin.host.clone(),
            user: self.origin.user.clone(),
            pid: std::process::id(),
            rescues,
        }
    }
}

fn origin(source: &Source, digester: &Digester) -> (PathBuf, Origin) {
    let path = source.canonical_path();
    let user = User::acting();
    let origin = Origin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: machine::host_name().unwrap_or_default(),
        machine: digester.digest(machine::machine_id().as_bytes()),
        user: user.name,
        uid: user.uid,
        file: path.display().to_string(),
        content: digester.digest(&source.bytes),
    };
    (path, origin)
}

/// Returns the variables that a saved plan was made with. Flags given with the saved plan have to agree with it.
///
/// # Errors
/// They do not agree, or a value is missing that the saved plan does not contain.
fn saved_variables(
    selection: &Selection,
    as_of: Option<jiff::civil::Date>,
    vars: &BTreeMap<String, String>,
    saved: &Saved,
) -> Result<BTreeMap<String, String>, Failure> {
    let flags = saved.flags();
    let differs = |flag: &str| {
        Failure::new(format!("{flag} differs from the value that the saved plan was made with"))
            .hint("leave it out, or make a new plan")
    };
    if !selection.only.is_empty() && selection.only != flags.only {
        return Err(differs("--only"));
    }
    if !selection.skip.is_empty() && selection.skip != flags.skip {
        return Err(differs("--skip"));
    }
    if as_of.is_some_and(|as_of| as_of != flags.as_of) {
        return Err(differs("--as-of"));
    }
    let mut variables = BTreeMap::new();
    for (name, value) in vars {
        let same = match flags.vars.get(name) {
            Some(Var::Value(planned)) => planned == value,
            Some(Var::Hidden(digest)) => *digest == saved.digester().digest(value.as_bytes()),
            None => false,
        };
        if !same {
            return Err(differs(&format!("--var {name}")));
        }
        variables.insert(name.clone(), value.clone());
    }
    for (name, var) in &flags.vars {
        match var {
            Var::Value(value) => drop(variables.insert(name.clone(), value.clone())),
            Var::Hidden(_) if variables.contains_key(name) => {}
            Var::Hidden(_) => {
                return Err(Failure::new(format!(
                    "--var {name} is missing: it has to be repeated as it was for the plan"
                ))
                .hint("its value may hold a password, so the saved plan does not keep it"));
            }
        }
    }
    Ok(variables)
}
