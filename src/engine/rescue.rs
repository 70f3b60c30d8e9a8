//! The rescues of a plan file's steps: listed, shown and restored as the steps' users.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeSeed;

use super::journal::{self, RescueStep, RunSummary};
use super::run::{NotPrepared, RunSecrets, run_id, today};
use super::targets::Targets;
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::secret::Digester;
use crate::host::state::StateFolder;
use crate::plan_file::{Evaluated, Folder, Inputs, PlanFile, Relations, Selection};
use crate::resource::{AnyResource, Prose, Rescue, RescueAnswer, RescueRequest, Restoring, Step, kind_info};

/// The steps of a plan file that keep rescues. Nothing else of the plan file is evaluated before a rescue is restored.
pub struct Rescues {
    owned: OwnedPaths,
    targets: Targets,
    steps: Vec<Step>,
}

/// The paths that the steps of the plan file own. A restore does not overwrite those of other steps.
enum OwnedPaths {
    InPlanFile(Box<PlanFile>, Inputs),
    Recorded(Vec<(PathBuf, String)>),
}

/// The rescues of several steps.
#[derive(Debug, Default)]
pub struct Listed<'a> {
    /// With the ids of their steps.
    pub rescues: Vec<(&'a str, Rescue)>,
    /// Why the rescues of a step could not be listed.
    pub failures: Vec<Failure>,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// Empty if the files are the same as in the rescue.
    pub paths: Vec<String>,
    /// What follows from it.
    pub notes: Vec<String>,
    /// The command that deletes the rescue, which is kept.
    pub delete: String,
}

impl Rescues {
    /// Evaluates the steps that keep rescues.
    ///
    /// # Errors
    /// There are none, or they cannot be evaluated.
    pub fn new(plan_file: PlanFile, inputs: Inputs, environment: &Environment) -> Result<Self, NotPrepared> {
        let selection = Selection { only: plan_file.ids_that_keep_rescues(), skip: Vec::new() };
        if selection.only.is_empty() {
            return Err(Failure::new("the plan file has no step that keeps rescues").into());
        }
        // Only the paths of files are needed. Their templates may be elsewhere, for a plan file from standard input.
        let plan_file = plan_file.in_folder(Folder::Unread);
        let plan = plan_file.evaluate(&inputs, &selection)?;
        Ok(Self::of(plan, OwnedPaths::InPlanFile(Box::new(plan_file), inputs), environment)?)
    }

    /// Returns the steps that the user's runs of the plan file at `path` have recorded, each from the newest run that has it. The
    /// plan file does not have to exist. `None` if there are none.
    ///
    /// # Errors
    /// The state folder cannot be read.
    pub fn recorded(folder: &StateFolder, path: &Path, environment: &Environment) -> Result<Option<Self>, Failure> {
        let (mut runs, _) = journal::past(folder)?;
        let file = path.display().to_string();
        runs.retain(|run| run.file == file);
        let mut steps: Vec<Step> = Vec::new();
        for recorded in runs.iter().rev().filter_map(RunSummary::rescues).flat_map(|recorded| &recorded.steps) {
            let known = steps.iter().any(|step| step.id == recorded.id);
            steps.extend(if known { None } else { step(recorded) });
        }
        if steps.is_empty() {
            return Ok(None);
        }
        let owned = runs.iter().rev().find_map(RunSummary::rescues).map(|recorded| recorded.owned.clone());
        let plan = Evaluated {
            name: String::new(),
            steps,
            deselected: Vec::new(),
            observed_only: Vec::new(),
            connections: BTreeMap::new(),
            relations: Relations::default(),
        };
        Self::of(plan, OwnedPaths::Recorded(owned.unwrap_or_default()), environment).map(Some)
    }

    fn of(plan: Evaluated, owned: OwnedPaths, environment: &Environment) -> Result<Self, Failure> {
        let digester = Digester::fresh()?;
        let (secrets, no_progress) = (RunSecrets::default(), Arc::new(|_: &str, _: String| ()));
        let run = run_id(&digester);
        let targets = Targets::new(run, today(), digester, &plan, &secrets, environment, no_progress);
        Ok(Self { owned, targets, steps: plan.steps })
    }

    /// Returns the rescues of all steps, or of one step, newest first. It also returns why the rescues of a step cannot be
    /// listed.
    ///
    /// # Errors
    /// The step keeps no rescues.
    pub async fn list(&self, only: Option<&str>) -> Result<Listed<'_>, Failure> {
        if let Some(id) = only.filter(|id| !self.steps.iter().any(|step| step.id == *id)) {
            return Err(Failure::new(format!("no step `{id}` keeps rescues")).hint("omit the id to list all rescues"));
        }
        let mut listed = Listed::default();
        for step in self.steps.iter().filter(|step| only.is_none_or(|only| step.id == only)) {
            match self.list_of(step).await {
                Ok(rescues) => listed.rescues.extend(rescues.into_iter().map(|rescue| (step.id.as_str(), rescue))),
                Err(failure) => listed.failures.push(not_listed(step, failure)),
            }
        }
        // Ids start with the time, so this puts the newest first.
        listed.rescues.sort_by(|(_, one), (_, other)| other.id.cmp(&one.id));
        Ok(listed)
    }

    /// Returns the content of a rescue.
    ///
    /// # Errors
    /// There is no such rescue, or it cannot be read.
    pub async fn show(&self, id: &str) -> Result<Vec<u8>, Failure> {
        let (step, Rescue { id, .. }) = self.owner(id).await?;
        match self.targets.rescue(step, RescueRequest::Show(id)).await? {
            RescueAnswer::Show(content) => Ok(content),
            _ => Err(wrong_answer()),
        }
    }

    /// Restores a rescue. What other steps own is left to them.
    ///
    /// # Errors
    /// There is no such rescue, or it cannot be restored.
    pub async fn restore(&self, id: &str) -> Result<Restored, NotPrepared> {
        let (step, Rescue { id, delete, .. }) = self.owner(id).await?;
        let restoring = Restoring { id, claimed: self.claimed_by_others(&step.id)? };
        self.written(step, RescueRequest::Restore(restoring), delete).await
    }

    /// Writes the files of a rescue to a new directory, as the step's user.
    ///
    /// # Errors
    /// There is no such rescue, or the directory cannot be created.
    pub async fn extract(&self, id: &str, to: PathBuf) -> Result<Restored, NotPrepared> {
        let (step, Rescue { id, delete, .. }) = self.owner(id).await?;
        self.written(step, RescueRequest::Extract { id, to }, delete).await
    }

    async fn written(&self, step: &Step, request: RescueRequest, delete: String) -> Result<Restored, NotPrepared> {
        match self.targets.rescue(step, request).await? {
            RescueAnswer::Restore { paths, notes } => Ok(Restored { paths, notes, delete }),
            _ => Err(wrong_answer().into()),
        }
    }

    /// Ends the workers.
    pub async fn end(&self) {
        self.targets.end().await;
    }

    async fn list_of(&self, step: &Step) -> Result<Vec<Rescue>, Failure> {
        match self.targets.rescue(step, RescueRequest::List).await? {
            RescueAnswer::List(rescues) => Ok(rescues),
            _ => Ok(Vec::new()),
        }
    }

    /// Returns the rescue and its step. Rescues of two checkouts by one run have the same id. `STEP:ID` names one of them.
    async fn owner(&self, name: &str) -> Result<(&Step, Rescue), Failure> {
        let (only, id) = match name.split_once(':') {
            Some((step, id)) => (Some(step), id),
            None => (None, name),
        };
        let (mut known, mut found, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for step in self.steps.iter().filter(|step| only.is_none_or(|only| step.id == only)) {
            let rescues = match self.list_of(step).await {
                Ok(rescues) => rescues,
                Err(failure) => {
                    failures.push(not_listed(step, failure));
                    continue;
                }
            };
            known.extend(rescues.iter().map(|rescue| rescue.id.clone()));
            found.extend(rescues.into_iter().find(|rescue| rescue.id == id).map(|rescue| (step, rescue)));
        }
        if found.len() > 1 {
            let names: Vec<String> = found.iter().map(|(step, _)| format!("{}:{id}", step.id)).collect();
            let failure = Failure::new(format!("several steps have a rescue {id}"));
            return Err(failure.hint(format!("name the step before it: {}", names.join(" or "))));
        }
        if let Some(found) = found.pop() {
            return Ok(found);
        }
        // The rescue may be one of those that could not be listed.
        if let Some(failure) = failures.into_iter().next() {
            return Err(failure);
        }
        let hint = if known.is_empty() {
            "there are no rescues".to_owned()
        } else {
            format!("the rescues are {}", known.join(", "))
        };
        Err(Failure::new(format!("no such rescue: {name}")).hint(hint))
    }

    /// Returns the paths that the other steps own, with the step ids. Checkouts are left out, because a restore does not
    /// write into another one.
    fn claimed_by_others(&self, own: &str) -> Result<Vec<(PathBuf, String)>, NotPrepared> {
        let mut owned = match &self.owned {
            OwnedPaths::InPlanFile(plan_file, inputs) => plan_file.owned_paths(inputs)?,
            OwnedPaths::Recorded(owned) => owned.clone(),
        };
        owned.retain(|(_, id)| id != own);
        Ok(owned)
    }
}

/// Returns the step that a run recorded. `None` if this version does not know its kind or keys.
fn step(recorded: &RescueStep) -> Option<Step> {
    let RescueStep { id, kind, run_as, keys } = recorded;
    let resource = AnyResource::seed(kind_info(kind)?.name).deserialize(keys).ok()?.ok()?;
    Some(Step {
        id: id.clone(),
        prose: Prose::default(),
        run_as: run_as.clone(),
        after: Vec::new(),
        max_changes: None,
        companions: Vec::new(),
        resource,
    })
}

fn not_listed(step: &Step, failure: Failure) -> Failure {
    Failure { message: format!("cannot list the rescues of step `{}`: {}", step.id, failure.message), ..failure }
}

fn wrong_answer() -> Failure {
    Failure::new("the worker's answer does not match the request").hint("run again; if it happens again, report it")
}
