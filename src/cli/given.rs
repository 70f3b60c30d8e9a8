//! What a run is given: a plan file and flags, or a saved plan that has them both.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Error;
use super::args::RunArguments;
use super::inputs::{self, Source};
use super::saved;
use super::session::today;
use crate::engine::journal::{self, Record};
use crate::engine::lock::{Holder, time};
use crate::engine::saved::{Fingerprints, Flags, Origin, Saved, Var};
use crate::host::machine;
use crate::host::secret::{Digester, SecretResult};
use crate::host::warehouse::ConnectionSpec;
use crate::plan_file::{Evaluated, Inputs, PlanFile, Selection};
use crate::resource::Failure;
use crate::resource::value::shell_word;
use crate::worker::current_user;

/// What was read before the plan file is judged.
pub struct Given {
    /// The plan file as it was read.
    pub source: Source,
    /// Its path without symlinks.
    pub path: PathBuf,
    pub saved: Option<Saved>,
    pub origin: Origin,
    pub flags: Flags,
    pub digester: Digester,
    inputs: Inputs,
}

impl Given {
    /// Reads what the arguments name. In a saved plan's case the plan file and the flags are those that it was made with.
    ///
    /// # Errors
    /// It cannot be read, or a saved plan does not hold here.
    pub fn take(command: &str, arguments: &RunArguments) -> Result<Self, Error> {
        let given = Source::read(arguments.file.as_deref())?;
        let mut inputs = inputs::inputs(&arguments.variables);
        if command != "apply" || !Saved::is_one(&given.bytes) {
            let digester =
                Digester::fresh().map_err(|error| Failure::new(format!("cannot get random numbers: {error}")))?;
            let flags = saved::flags(arguments, arguments.as_of.unwrap_or_else(today), &digester);
            let (path, origin) = origin(&given, &digester);
            return Ok(Self { source: given, path, saved: None, origin, flags, digester, inputs });
        }
        let saved = saved::load(&given.path)?;
        let source = Source::read(Some(Path::new(saved.file())))?;
        let (path, origin) = origin(&source, saved.digester());
        saved.check_origin(&origin)?;
        inputs.vars = saved::variables(arguments, &saved)?;
        let (flags, digester) = (saved.flags().clone(), saved.digester().clone());
        Ok(Self { source, path, saved: Some(saved), origin, flags, digester, inputs })
    }

    /// The selected steps.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn evaluate(&self, plan_file: &PlanFile) -> Result<Evaluated, Error> {
        let selection = Selection { only: self.flags.only.clone(), skip: self.flags.skip.clone() };
        Ok(plan_file.evaluate(&self.inputs, &selection)?)
    }

    /// The `--var`s (as words of a command line) without which `rescue` would look elsewhere or nowhere. A value that
    /// may be a secret is left to be filled in, as a saved plan leaves it out.
    pub fn variables_of_rescues(&self, plan_file: &PlanFile) -> String {
        let selection = Selection { only: plan_file.ids_that_keep_rescues(), skip: Vec::new() };
        let places = |inputs: &Inputs| -> Option<Vec<String>> {
            let steps = plan_file.evaluate(inputs, &selection).ok()?.steps;
            Some(
                steps
                    .iter()
                    .flat_map(|step| [step.resource.target(), step.run_as.clone().unwrap_or_default()])
                    .collect(),
            )
        };
        let Some(with) = places(&self.inputs).filter(|_| !selection.only.is_empty()) else { return String::new() };
        let words = self.inputs.vars.iter().filter_map(|(name, value)| {
            let mut inputs = self.inputs.clone();
            inputs.vars.remove(name);
            let value = match self.flags.vars.get(name) {
                Some(Var::Value(_)) => shell_word(value),
                _ => "…".to_owned(),
            };
            (places(&inputs).as_ref() != Some(&with)).then(|| format!(" --var {name}={value}"))
        });
        words.collect()
    }

    /// What the steps come down to: it has to be what a saved plan has.
    ///
    /// # Errors
    /// It is not.
    pub fn fingerprints(
        &self,
        plan: &Evaluated,
        secrets: &HashMap<String, SecretResult>,
        passwords: &HashMap<String, SecretResult>,
    ) -> Result<Fingerprints, Failure> {
        let mut prints = Fingerprints::default();
        for step in &plan.steps {
            let connection = step.resource.connection();
            let spec = connection.and_then(|name| plan.connections.get(name)?.as_ref().ok());
            let settings = spec.map(ConnectionSpec::settings);
            let whole = serde_json::to_vec(&(&step.run_as, &step.after, &step.resource, settings));
            let whole = whole.map_err(|error| {
                Failure::new(format!("step `{}` cannot be written as JSON: {error}", step.id))
                    .hint("give it paths that are UTF-8")
            })?;
            prints.steps.insert(step.id.clone(), self.digester.digest(&whole));
            let yielded = match secrets.get(&step.id).or_else(|| passwords.get(connection?)) {
                Some(Ok(secret)) => secret.as_ref(),
                _ => None,
            };
            if let Some(secret) = yielded.or_else(|| spec?.password_in_url()) {
                prints.secrets.insert(step.id.clone(), self.digester.digest(secret.expose()));
            }
        }
        self.saved.as_ref().map_or(Ok(()), |saved| saved.check_steps(&prints))?;
        Ok(prints)
    }

    /// The id of the saved plan, where there is one.
    pub fn saved_id(&self) -> Option<String> {
        self.saved.as_ref().map(|saved| saved.id().to_owned())
    }

    /// This run, as whoever finds its lock sees it.
    pub fn holder(&self, run: &str) -> Holder {
        Holder {
            user: Some(self.origin.user.clone()),
            pid: Some(std::process::id()),
            host: Some(self.origin.host.clone()),
            run: Some(run.to_owned()),
            since: Some(time(Timestamp::now())),
        }
    }

    /// This run, as its journal begins.
    pub fn started(&self, run: &str, plan: &str) -> Record {
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
        }
    }
}

fn origin(source: &Source, digester: &Digester) -> (PathBuf, Origin) {
    let path = std::fs::canonicalize(&source.path).unwrap_or_else(|_| source.path.clone());
    let user = current_user();
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
