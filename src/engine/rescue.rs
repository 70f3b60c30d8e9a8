//! The rescues of a plan file's steps: listed, shown and restored as the steps' users.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::resource::{
    AnyResource, Prose, Rescue, RescueAnswer, RescueRequest, RescueStore, Restoring, Step, kind_info,
};

/// The steps that keep rescues: those of a plan file, and those that earlier runs of it have recorded. Nothing else of the plan
/// file is evaluated before a rescue is restored.
pub struct Rescues {
    owned: OwnedPaths,
    targets: Targets,
    keepers: Vec<Keeper>,
    /// Why earlier runs could not be read.
    unread: Option<Failure>,
}

/// A step that keeps rescues.
struct Keeper {
    /// Its id in the plan file.
    id: String,
    /// The step as `Targets` has it. Its id is unique, since a step may have been edited between two runs.
    step: Step,
    /// Whether it is the newest one with its id. Others are steps as they were before an edit, or that were removed.
    is_current: bool,
}

/// What was found of the rescues of several steps.
#[derive(Default)]
struct Found<'a> {
    rescues: Vec<(&'a Keeper, Rescue)>,
    /// Why the rescues of steps of the plan file cannot be listed.
    failures: Vec<Failure>,
    /// Why those of earlier runs cannot.
    warnings: Vec<Failure>,
}

impl Keeper {
    /// Whether the rescues of both steps are in the target that they share, whichever users the steps have.
    fn has_same_store(&self, other: &Self) -> bool {
        let kept_at = |keeper: &Self| {
            let store = keeper.step.resource.rescues().map(|rescues| rescues.store());
            (store == Some(RescueStore::Target)).then(|| keeper.step.resource.target())
        };
        kept_at(self).is_some_and(|target| kept_at(other) == Some(target))
    }

    /// Returns whether a rescue of this step is the same as one of `other`: both may find the rescues of one place.
    fn shares(&self, rescue: &Rescue, other: &Self, theirs: &Rescue) -> bool {
        let is_same_subject = self.id == other.id || self.step.resource.target() == other.step.resource.target();
        is_same_subject && (&rescue.id, &rescue.place) == (&theirs.id, &theirs.place)
    }
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
    /// Why rescues of earlier runs could not be listed. The plan file does not have their steps any more.
    pub warnings: Vec<Failure>,
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
    /// Evaluates the steps that keep rescues. The user's runs of the plan file at `path` may have recorded others: steps that were
    /// edited or removed since.
    ///
    /// # Errors
    /// There are none, or they cannot be evaluated.
    pub fn new(
        plan_file: PlanFile,
        path: Option<&Path>,
        folder: &StateFolder,
        inputs: Inputs,
        environment: &Environment,
    ) -> Result<Self, NotPrepared> {
        let past = path.map_or(Ok(Vec::new()), |path| runs_of(folder, path));
        let (past, unread) = past.map_or_else(|failure| (Vec::new(), Some(failure)), |past| (past, None));
        let recorded: Vec<Step> = past.iter().rev().flat_map(steps_with_changes).collect();
        let selection = Selection { only: plan_file.ids_that_keep_rescues(), skip: Vec::new() };
        if selection.only.is_empty() && recorded.is_empty() {
            return Err(unread.unwrap_or_else(|| Failure::new("the plan file has no step that keeps rescues")).into());
        }
        // Only the paths of files are needed. Their templates may be elsewhere, for a plan file from standard input.
        let plan_file = plan_file.in_folder(Folder::Unread);
        let plan = if selection.only.is_empty() {
            only_steps(Vec::new())
        } else {
            plan_file.evaluate_alone(&inputs, &selection)?
        };
        let owned = OwnedPaths::InPlanFile(Box::new(plan_file), inputs);
        Ok(Self::of(plan, recorded, owned, unread, environment)?)
    }

    /// Returns the steps that the user's runs of the plan file at `path` have recorded. The plan file does not have to exist.
    /// `None` if there are none.
    ///
    /// # Errors
    /// The state folder cannot be read.
    pub fn recorded(folder: &StateFolder, path: &Path, environment: &Environment) -> Result<Option<Self>, Failure> {
        let runs = runs_of(folder, path)?;
        let mut steps: Vec<Step> = Vec::new();
        for recorded in runs.iter().rev().filter_map(RunSummary::rescues).flat_map(|recorded| &recorded.steps) {
            let known = steps.iter().any(|step| step.id == recorded.id);
            steps.extend(if known { None } else { step(recorded) });
        }
        if steps.is_empty() {
            return Ok(None);
        }
        let owned = runs.iter().rev().find_map(RunSummary::rescues).map(|recorded| recorded.owned.clone());
        let owned = OwnedPaths::Recorded(owned.unwrap_or_default());
        let earlier = runs.iter().rev().flat_map(steps_with_changes).collect();
        Self::of(only_steps(steps), earlier, owned, None, environment).map(Some)
    }

    /// `earlier` are the steps of earlier runs, the newest first. They may be the same as those of the plan.
    fn of(
        mut plan: Evaluated,
        earlier: Vec<Step>,
        owned: OwnedPaths,
        unread: Option<Failure>,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let keeper = |step: &Step| Keeper { id: step.id.clone(), step: step.clone(), is_current: true };
        let mut keepers: Vec<Keeper> = plan.steps.iter().map(keeper).collect();
        for step in earlier {
            if keepers.iter().any(|known| has_same_rescues(&known.step, &step)) {
                continue;
            }
            let id = step.id.clone();
            // No step of a plan file has such an id.
            let step = Step { id: format!("{id}#{}", keepers.len()), ..step };
            plan.steps.push(step.clone());
            keepers.push(Keeper { id, step, is_current: false });
        }
        let digester = Digester::fresh()?;
        let (secrets, no_progress) = (RunSecrets::default(), Arc::new(|_: &str, _: String| ()));
        let run = run_id(&digester);
        let targets = Targets::new(run, today(), digester, &plan, &secrets, environment, no_progress);
        Ok(Self { owned, targets, keepers, unread })
    }

    /// Returns the rescues of all steps, or of one step, newest first. It also returns why the rescues of a step cannot be
    /// listed.
    ///
    /// # Errors
    /// The step keeps no rescues.
    pub async fn list(&self, only: Option<&str>) -> Result<Listed<'_>, Failure> {
        if let Some(id) = only.filter(|id| !self.keepers.iter().any(|keeper| keeper.id == *id)) {
            return Err(Failure::new(format!("no step `{id}` keeps rescues")).hint("omit the id to list all rescues"));
        }
        let Found { rescues, failures, warnings } = self.find(only).await;
        let warnings = self.unread.iter().cloned().chain(warnings).collect();
        let mut listed = Listed { failures, warnings, ..Listed::default() };
        listed.rescues = rescues.into_iter().map(|(keeper, rescue)| (keeper.id.as_str(), rescue)).collect();
        // Ids start with the time, so this puts the newest first.
        listed.rescues.sort_by(|(_, one), (_, other)| other.id.cmp(&one.id));
        Ok(listed)
    }

    /// Returns the content of a rescue.
    ///
    /// # Errors
    /// There is no such rescue, or it cannot be read.
    pub async fn show(&self, id: &str) -> Result<Vec<u8>, Failure> {
        let (keeper, Rescue { id, .. }) = self.owner(id).await?;
        match self.targets.rescue(&keeper.step, RescueRequest::Show(id)).await? {
            RescueAnswer::Show(content) => Ok(content),
            _ => Err(wrong_answer()),
        }
    }

    /// Restores a rescue. What other steps own is left to them.
    ///
    /// # Errors
    /// There is no such rescue, or it cannot be restored.
    pub async fn restore(&self, id: &str) -> Result<Restored, NotPrepared> {
        let (keeper, Rescue { id, delete, .. }) = self.owner(id).await?;
        let is_past = self.same_in_plan_file(keeper).next().is_none();
        let restoring = Restoring { id, claimed: self.claimed_by_others(keeper)?, is_past };
        self.written(&keeper.step, RescueRequest::Restore(restoring), delete).await
    }

    /// Writes the files of a rescue to a new directory, as the step's user.
    ///
    /// # Errors
    /// There is no such rescue, or the directory cannot be created.
    pub async fn extract(&self, id: &str, to: PathBuf) -> Result<Restored, NotPrepared> {
        let (keeper, Rescue { id, delete, .. }) = self.owner(id).await?;
        self.written(&keeper.step, RescueRequest::Extract { id, to }, delete).await
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

    /// Lists the rescues of all steps, or of those with one id.
    async fn find(&self, only: Option<&str>) -> Found<'_> {
        let (mut found, mut past, mut listed) = (Found::default(), Vec::new(), Vec::new());
        for keeper in self.keepers.iter().filter(|keeper| only.is_none_or(|only| keeper.id == only)) {
            match self.list_of(&keeper.step).await {
                Ok(rescues) => {
                    listed.push(keeper);
                    add_new(&mut found.rescues, keeper, rescues);
                }
                Err(failure) if keeper.is_current => found.failures.push(not_listed(keeper, failure)),
                Err(failure) => past.push((keeper, failure)),
            }
        }
        // What another step finds at the same place is everything that is there.
        past.retain(|(keeper, _)| !listed.iter().any(|other| keeper.has_same_store(other)));
        found.warnings = past.into_iter().map(|(keeper, failure)| past_not_listed(keeper, failure)).collect();
        found
    }

    async fn list_of(&self, step: &Step) -> Result<Vec<Rescue>, Failure> {
        match self.targets.rescue(step, RescueRequest::List).await? {
            RescueAnswer::List(rescues) => Ok(rescues),
            _ => Ok(Vec::new()),
        }
    }

    /// Returns the rescue and its step. Rescues of two checkouts by one run have the same id. `STEP:ID` names one of them.
    async fn owner(&self, name: &str) -> Result<(&Keeper, Rescue), Failure> {
        let (only, id) = match name.split_once(':') {
            Some((step, id)) => (Some(step), id),
            None => (None, name),
        };
        let Found { rescues: known, failures, warnings } = self.find(only).await;
        let (mut found, known): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, rescue)| rescue.id == id);
        if found.len() > 1 {
            let names: Vec<String> = found.iter().map(|(keeper, _)| format!("{}:{id}", keeper.id)).collect();
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
            let ids: Vec<&str> = known.iter().map(|(_, rescue)| rescue.id.as_str()).collect();
            format!("the rescues are {}", ids.join(", "))
        };
        // It may be one of these, which the plan file no longer describes.
        let hint = warnings.iter().fold(hint, |hint, warning| format!("{hint}; {}", warning.message));
        Err(Failure::new(format!("no such rescue: {name}")).hint(hint))
    }

    /// Returns the paths that the other steps own, with the step ids. Checkouts are left out, because a restore does not
    /// write into another one.
    fn claimed_by_others(&self, keeper: &Keeper) -> Result<Vec<(PathBuf, String)>, NotPrepared> {
        let mut owned = match &self.owned {
            OwnedPaths::InPlanFile(plan_file, inputs) => plan_file.owned_paths(inputs)?,
            OwnedPaths::Recorded(owned) => owned.clone(),
        };
        let same: Vec<&str> = self.same_in_plan_file(keeper).collect();
        owned.retain(|(_, id)| !same.contains(&id.as_str()));
        Ok(owned)
    }

    /// Returns the ids of the steps of the plan file that manage the same subject as a step that may be of an earlier run.
    fn same_in_plan_file<'a>(&'a self, keeper: &Keeper) -> impl Iterator<Item = &'a str> {
        let subject = |keeper: &Keeper| (keeper.step.resource.kind(), keeper.step.resource.target());
        let wanted = subject(keeper);
        let current = self.keepers.iter().filter(|keeper| keeper.is_current);
        current.filter(move |other| subject(other) == wanted).map(|other| other.id.as_str())
    }
}

/// Returns the recorded runs of the plan file at `path`, the oldest first.
fn runs_of(folder: &StateFolder, path: &Path) -> Result<Vec<RunSummary>, Failure> {
    let (mut runs, _) = journal::past(folder)?;
    let file = path.display().to_string();
    runs.retain(|run| run.file == file);
    Ok(runs)
}

/// Returns the steps that a run recorded, if it has begun a change of them. No others have rescues.
fn steps_with_changes(run: &RunSummary) -> Vec<Step> {
    let made = run.changes.iter().map(|change| change.step.as_str());
    let ids: BTreeSet<&str> = made.chain(run.unfinished.iter().map(|change| change.step.as_str())).collect();
    let recorded = run.rescues().into_iter().flat_map(|recorded| &recorded.steps);
    recorded.filter(|recorded| ids.contains(recorded.id.as_str())).filter_map(step).collect()
}

/// Adds the rescues of a step that no other step has found.
fn add_new<'a>(found: &mut Vec<(&'a Keeper, Rescue)>, keeper: &'a Keeper, rescues: Vec<Rescue>) {
    for rescue in rescues {
        if !found.iter().any(|(other, theirs)| keeper.shares(&rescue, other, theirs)) {
            found.push((keeper, rescue));
        }
    }
}

/// Returns whether two steps find the same rescues in the same way.
fn has_same_rescues(one: &Step, other: &Step) -> bool {
    let keys = |step: &Step| step.resource.rescues().map(|rescues| rescues.rescue_keys());
    (one.resource.kind(), &one.run_as, keys(one)) == (other.resource.kind(), &other.run_as, keys(other))
}

/// Returns a plan of these steps, with nothing else.
fn only_steps(steps: Vec<Step>) -> Evaluated {
    Evaluated {
        name: String::new(),
        steps,
        deselected: Vec::new(),
        observed_only: Vec::new(),
        connections: BTreeMap::new(),
        relations: Relations::default(),
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

fn not_listed(keeper: &Keeper, failure: Failure) -> Failure {
    Failure { message: format!("cannot list the rescues of step `{}`: {}", keeper.id, failure.message), ..failure }
}

/// Returns why the rescues of a step of an earlier run cannot be listed. That step can no longer be corrected.
fn past_not_listed(keeper: &Keeper, failure: Failure) -> Failure {
    let (id, resource) = (&keeper.id, &keeper.step.resource);
    let message = format!("cannot list the rescues of step `{id}` as it was in an earlier run: {}", failure.message);
    let place = || match resource.rescues().map(|rescues| rescues.store())? {
        RescueStore::Target => Some(format!("they are in {}", resource.target())),
        RescueStore::StateFolder => {
            let whose = keeper.step.run_as.as_ref().map_or("your".to_owned(), |user| format!("{user}'s"));
            Some(format!("those of {} are in the folder rescues of {whose} state folder", resource.target()))
        }
    };
    let hint = failure.hint.filter(|hint| !hint.contains("run_as")).or_else(place);
    Failure { message, hint }
}

fn wrong_answer() -> Failure {
    Failure::new("the worker's answer does not match the request").hint("run again; if it happens again, report it")
}
