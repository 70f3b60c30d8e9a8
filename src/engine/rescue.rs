//! The rescues of a plan file's steps: listed, shown and restored as the steps' users.

use std::path::PathBuf;
use std::sync::Arc;

use super::run::{NotPrepared, RunSecrets, run_id, today};
use super::targets::Targets;
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::secret::Digester;
use crate::plan::claim::Unseen;
use crate::plan_file::{Folder, Inputs, PlanFile, Selection};
use crate::resource::{Rescue, RescueAnswer, RescueRequest, Restoring, Step};

/// The steps of a plan file that keep rescues. Nothing else of the plan file is evaluated before a rescue is restored.
pub struct Rescues {
    plan_file: PlanFile,
    inputs: Inputs,
    targets: Targets,
    steps: Vec<Step>,
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
        let digester = Digester::fresh()?;
        let (secrets, no_progress) = (RunSecrets::default(), Arc::new(|_: &str, _: String| ()));
        let run = run_id(&digester);
        let targets = Targets::new(run, today(), digester, &plan, &secrets, environment, no_progress);
        Ok(Self { plan_file, inputs, targets, steps: plan.steps })
    }

    /// Returns the rescues with the ids of their steps, those of each step newest first; of one step if it is given.
    ///
    /// # Errors
    /// The step keeps no rescues, or they cannot be listed.
    pub async fn list(&self, only: Option<&str>) -> Result<Vec<(&str, Rescue)>, Failure> {
        if let Some(id) = only.filter(|id| !self.steps.iter().any(|step| step.id == *id)) {
            return Err(Failure::new(format!("no step `{id}` keeps rescues")).hint("omit the id to list all rescues"));
        }
        let mut found = Vec::new();
        for step in self.steps.iter().filter(|step| only.is_none_or(|only| step.id == only)) {
            let mut rescues = self.of(step).await?;
            // Ids start with the time, so this puts the newest first.
            rescues.sort_by(|one, other| other.id.cmp(&one.id));
            found.extend(rescues.into_iter().map(|rescue| (step.id.as_str(), rescue)));
        }
        Ok(found)
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

    async fn of(&self, step: &Step) -> Result<Vec<Rescue>, Failure> {
        match self.targets.rescue(step, RescueRequest::List).await? {
            RescueAnswer::List(rescues) => Ok(rescues),
            _ => Ok(Vec::new()),
        }
    }

    /// Returns the step that has the rescue, and the rescue. Rescues of two checkouts by one run have the same id, so the step
    /// can be named before it: `STEP:ID`.
    async fn owner(&self, name: &str) -> Result<(&Step, Rescue), Failure> {
        let (only, id) = match name.split_once(':') {
            Some((step, id)) => (Some(step), id),
            None => (None, name),
        };
        let (mut known, mut found) = (Vec::new(), Vec::new());
        for step in self.steps.iter().filter(|step| only.is_none_or(|only| step.id == only)) {
            let rescues = self.of(step).await?;
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
        let hint = if known.is_empty() {
            "there are no rescues".to_owned()
        } else {
            format!("the rescues are {}", known.join(", "))
        };
        Err(Failure::new(format!("no such rescue: {name}")).hint(hint))
    }

    /// Returns the paths that the other steps own, with the step ids, as far as they are known without the values that
    /// only an apply needs. Checkouts are left out: a restore does not write into another one.
    fn claimed_by_others(&self, own: &str) -> Result<Vec<(PathBuf, String)>, NotPrepared> {
        let described = self.plan_file.describe(&[], &self.inputs)?;
        let others = described.into_iter().filter(|step| step.id != own);
        let others = others.filter_map(|described| Some((described.id, described.step.ok()?)));
        let owned = others.flat_map(|(id, step)| {
            let claims = step.resource.claims(&Unseen).owns;
            let paths = claims.iter().filter_map(|claim| Some(claim.file_or_directory()?.to_owned()));
            paths.map(|path| (path, id.clone())).collect::<Vec<_>>()
        });
        Ok(owned.collect())
    }
}

fn wrong_answer() -> Failure {
    Failure::new("the step's worker answered another question").hint("run again; if it happens again, report it")
}
