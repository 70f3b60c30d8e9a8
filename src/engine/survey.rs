//! The first half of every run: observes all steps, decides what each needs, and reports it.

use crate::failure::Failure;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinSet;

use super::event::{Certainty, Event, Planned, StepPlanned};
use super::targets::Targets;
use crate::host::fs::Locator;
use crate::host::secret::SecretError;
use crate::plan::claim::{Claim, Claims, Unseen};
use crate::plan::conflict::{self, Conflict, conflicts};
use crate::plan::graph::{Graph, Reason};
use crate::resource::Step;
use crate::resource::{Action, AnyChange, Description, Diff, Effect};
use crate::telemetry::spans;

/// The result of observing and planning one step.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Decided on the observed state. Without changes, the step has converged.
    Decided(Diff<AnyChange>),
    /// Cannot be decided before the steps that it waits for have made their changes.
    Deferred,
    /// The step cannot or must not be done.
    Blocked(Failure),
    /// The step could not be observed.
    Failed(Failure),
}

/// A step with its verdict.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    pub verdict: Verdict,
    /// The indices of the steps that run first and may alter what was observed. Empty if the verdict is exact.
    pub waits_for: Vec<usize>,
    /// Whether another run is changing the target.
    pub is_busy: bool,
    /// When the observation behind the verdict started.
    pub observed: SystemTime,
    /// Parent directories that this step needs too, and the steps that create them first.
    made_by_others: BTreeMap<String, usize>,
}

impl PlannedStep {
    /// Creates a step with an exact verdict.
    pub fn exact(verdict: Verdict) -> Self {
        Self {
            verdict,
            waits_for: Vec::new(),
            is_busy: false,
            observed: SystemTime::now(),
            made_by_others: BTreeMap::new(),
        }
    }

    /// Returns the steps that create a parent directory of this one. This step runs after them.
    pub fn makers_of_parents(&self) -> impl Iterator<Item = usize> {
        self.made_by_others.values().copied()
    }

    /// Returns the outcome of the step in the plan.
    pub fn outcome(&self) -> Planned {
        match &self.verdict {
            Verdict::Decided(diff) if !diff.obstacles.is_empty() => Planned::Blocked,
            Verdict::Decided(diff) if !diff.drift.is_empty() => Planned::Drifted,
            Verdict::Decided(diff) if diff.changes.is_empty() && diff.unchecked => Planned::Unchecked,
            Verdict::Decided(diff) if diff.changes.is_empty() => Planned::Unchanged,
            Verdict::Decided(_) | Verdict::Deferred => Planned::Changes,
            Verdict::Blocked(_) => Planned::Blocked,
            Verdict::Failed(_) => Planned::Failed,
        }
    }

    /// Returns whether the step has changes, even if it is also blocked or drifted.
    pub fn has_changes(&self) -> bool {
        self.planned_changes() > 0
    }

    /// Returns the changes that are known so far.
    pub fn changes(&self) -> &[AnyChange] {
        match &self.verdict {
            Verdict::Decided(diff) => &diff.changes,
            _ => &[],
        }
    }

    /// Returns the number of changes in the plan. A deferred step counts as one.
    pub fn planned_changes(&self) -> usize {
        match &self.verdict {
            Verdict::Decided(diff) => diff.changes.len(),
            Verdict::Deferred => 1,
            Verdict::Blocked(_) | Verdict::Failed(_) => 0,
        }
    }

    /// Returns whether apply has to plan this step again after the steps that it waits for.
    pub fn is_provisional(&self) -> bool {
        !self.waits_for.is_empty()
    }
}

/// Filters the verdict of a step: a saved plan admits only planned changes.
pub type Admit = dyn Fn(&Step, Verdict) -> Verdict + Send + Sync;

/// Observes a step and decides what it needs.
pub async fn plan_step(targets: &Targets, step: &Step) -> Observed {
    if let Some(SecretError::Unusable(failure)) = targets.secret_error(step) {
        return Observed { verdict: Verdict::Blocked(failure.clone()), claims: Vec::new(), is_busy: false };
    }
    match spans::observe().instrument(targets.observe(step)).await {
        Err(failure) => Observed { verdict: Verdict::Failed(failure), claims: Vec::new(), is_busy: false },
        Ok(actual) => {
            let mut is_busy = false;
            let verdict = match spans::diff().in_scope(|| step.resource.diff(&actual)) {
                Ok(Diff { busy: Some(failure), .. }) => {
                    is_busy = true;
                    Verdict::Blocked(failure)
                }
                Ok(mut diff) => match within_bounds(step, &diff) {
                    Ok(()) => {
                        diff.warnings.extend_from_slice(targets.warnings(step));
                        Verdict::Decided(diff)
                    }
                    Err(failure) => Verdict::Blocked(failure),
                },
                Err(refusal) => Verdict::Blocked(refusal),
            };
            Observed { verdict, claims: step.resource.observed_claims(&actual), is_busy }
        }
    }
}

/// The verdict of a step on its own, and what it was observed to own.
#[derive(Debug)]
pub struct Observed {
    pub verdict: Verdict,
    claims: Vec<Claim>,
    /// Whether another run is changing the target.
    pub is_busy: bool,
}

impl Observed {
    /// Takes the other steps into account: of two steps that would undo each other, the later one is blocked.
    pub fn beside_others(self, targets: &Targets, index: usize, steps: &[Step]) -> Verdict {
        let Some((other, Conflict { claim, reason, .. })) = targets.conflict(index, self.claims, steps) else {
            return self.verdict;
        };
        let id = &steps[other].id;
        Verdict::Blocked(match reason {
            conflict::Reason::EditsOwnedFile => {
                Failure::new(format!("`{id}` owns the content of {claim}, and this step sets a value in it"))
                    .hint("set the value where the content comes from, or remove one of the two steps")
            }
            _ => Failure::new(format!("this step and `{id}` both own {claim}: each would undo the other")).hint(match claim.is_of_tables() {
                true => {
                    "remove one of the two steps, or rename one of the two tables: Redshift ignores case, in quotes too"
                }
                false => "remove one of the two steps, or use a different name in one of the two files",
            }),
        })
    }

    /// Blocks a step if an earlier step of the plan file has the same path or variable, now that all paths are resolved again. A
    /// plan cannot see this if a checkout of the same run brings the symlink. Only the later of the two steps is blocked, even if
    /// it runs first.
    pub fn beside_paths(self, index: usize, steps: &[Step]) -> Self {
        let paths = |step: &Step| {
            let mut claims = step.resource.claims(&Unseen);
            claims.owns.retain(|claim| !claim.is_of_tables());
            claims
        };
        let (locator, own) = (Locator::default(), paths(&steps[index]));
        if own.owns.is_empty() || !matches!(self.verdict, Verdict::Decided(_)) {
            return self;
        }
        let located = |claims: &Claims| claims.locate(&locator, &|_| None);
        let own_located = located(&own);
        let same = steps[..index].iter().find_map(|step| {
            let theirs = paths(step);
            let both = [located(&theirs), own_located.clone()];
            let found = conflicts(&[theirs, own.clone()], &both);
            let found = found.into_iter().find(|found| found.reason == conflict::Reason::Same)?;
            Some((&step.id, found.claim))
        });
        let Some((id, claim)) = same else { return self };
        let failure = Failure::new(format!("this step and `{id}` both own {claim}: each would undo the other"));
        let verdict = Verdict::Blocked(failure.hint("remove one of the two steps, or correct one of the two paths"));
        Self { verdict, ..self }
    }
}

/// Fails if a step would change more than its `max_changes`.
fn within_bounds(step: &Step, diff: &Diff<AnyChange>) -> Result<(), Failure> {
    let (Some(limit), size) = (step.max_changes, diff.changes.iter().map(AnyChange::size).sum::<u64>()) else {
        return Ok(());
    };
    if size <= limit {
        return Ok(());
    }
    let largest = diff.changes.iter().max_by_key(|change| change.size()).map(AnyChange::describe);
    let example = largest.map(|change| format!(" ({}: {})", change.target, change.summary)).unwrap_or_default();
    Err(Failure::new(format!("max_changes is {limit}, but the step would make {size} changes{example}"))
        .hint("check that all of them are intended, then raise max_changes of the step"))
}

/// Observes all steps at the same time, which leaves no trace, and plans them in order. If another run is changing the target
/// of a step, an apply blocks the step, and a plan reports it as unchecked.
pub async fn survey(
    targets: &Arc<Targets>,
    steps: &Arc<Vec<Step>>,
    graph: &Graph,
    admit: &Admit,
    applying: bool,
) -> Vec<PlannedStep> {
    let observed_at = SystemTime::now();
    let mut observing = JoinSet::new();
    for index in 0..steps.len() {
        let (targets, steps) = (Arc::clone(targets), Arc::clone(steps));
        let span = spans::step(&steps[index].id, steps[index].resource.kind());
        observing.spawn(span.instrument(async move { (index, plan_step(&targets, &steps[index]).await) }));
    }
    let unobserved = || Verdict::Failed(Failure::new("the observation ended without a result"));
    let mut observed: Vec<Option<Observed>> = steps.iter().map(|_| None).collect();
    while let Some(result) = observing.join_next().await {
        if let Ok((index, found)) = result {
            observed[index] = Some(found);
        }
    }
    let busy: Vec<bool> = observed.iter().map(|found| found.as_ref().is_some_and(|found| found.is_busy)).collect();
    // In document order, so that of two steps with the same claim always the later one is blocked.
    let verdict = |(index, found): (usize, Option<Observed>)| match found {
        Some(Observed { verdict: Verdict::Blocked(failure), is_busy: true, .. }) if !applying => {
            let notes = vec![format!("not checked: {}", failure.message)];
            Verdict::Decided(Diff { unchecked: true, notes, ..Diff::default() })
        }
        Some(found) => admit(&steps[index], found.beside_others(targets, index, steps)),
        None => unobserved(),
    };
    let mut verdicts: Vec<Verdict> = observed.into_iter().enumerate().map(verdict).collect();
    let mut planned: Vec<Option<PlannedStep>> = verdicts.iter().map(|_| None).collect();
    for index in graph.sequence() {
        let verdict = std::mem::replace(&mut verdicts[*index], Verdict::Deferred);
        let is_busy = busy[*index];
        let step =
            PlannedStep { observed: observed_at, is_busy, ..mark_provisional(verdict, *index, steps, graph, &planned) };
        planned[*index] = Some(step);
    }
    let mut planned: Vec<PlannedStep> = planned.into_iter().flatten().collect();
    announce_parents_once(&mut planned, graph);
    planned
}

/// If several steps need the same parent directory, only the one that will create it shows it. Exact steps come first,
/// because they must not depend on a step that is planned later.
fn announce_parents_once(planned: &mut [PlannedStep], graph: &Graph) {
    let mut makers: BTreeMap<String, usize> = BTreeMap::new();
    for provisional in [false, true] {
        for index in graph.sequence() {
            let Some(step) = planned.get_mut(*index).filter(|step| step.is_provisional() == provisional) else {
                continue;
            };
            let mut changes = step.changes().to_vec();
            for parent in changes.iter_mut().filter_map(AnyChange::parents).flatten() {
                let maker = *makers.entry(parent.clone()).or_insert(*index);
                if maker != *index {
                    step.made_by_others.insert(parent.clone(), maker);
                }
            }
        }
    }
}

/// Marks a step as blocked, deferred or provisional because of the steps before it.
fn mark_provisional(
    verdict: Verdict,
    index: usize,
    steps: &[Step],
    graph: &Graph,
    planned: &[Option<PlannedStep>],
) -> PlannedStep {
    let mut waits_for = Vec::new();
    for (other, reason) in graph.before(index) {
        let Some(earlier) = &planned[*other] else { continue };
        if reason.stops() && matches!(earlier.outcome(), Planned::Blocked | Planned::Failed) {
            let word = if earlier.outcome() == Planned::Failed { "failed" } else { "is blocked" };
            let id = &steps[*other].id;
            let failure = Failure::new(format!("it waits for `{id}`, which {word}"))
                .hint(format!("fix `{id}` first, or leave it out with --skip {id}"));
            return PlannedStep::exact(Verdict::Blocked(failure));
        }
        // The changes of a provisional step are not known yet, even if it needs none now.
        let touched =
            earlier.is_provisional() || earlier.changes().iter().any(|change| touches(reason, &steps[*other], change));
        if touched && !waits_for.contains(other) {
            waits_for.push(*other);
        }
    }
    let verdict = match verdict {
        // An earlier step may remove the obstacle.
        Verdict::Blocked(_) | Verdict::Failed(_) if !waits_for.is_empty() => Verdict::Deferred,
        Verdict::Decided(diff) if !diff.obstacles.is_empty() && !waits_for.is_empty() => Verdict::Deferred,
        verdict => verdict,
    };
    PlannedStep { waits_for, ..PlannedStep::exact(verdict) }
}

/// Returns whether a planned change of the earlier step may alter what was observed of the later one.
fn touches(reason: &Reason, earlier: &Step, change: &AnyChange) -> bool {
    match reason {
        Reason::After | Reason::Table => true,
        // On PostgreSQL it is another table, so it must not make an exact plan provisional.
        Reason::TableOfRedshift => false,
        Reason::Path(path) | Reason::Read(path) => earlier.resource.effect(change, path) >= Effect::Alters,
    }
}

/// Returns the event for a planned step.
pub fn planned_event(index: usize, planned: &PlannedStep, steps: &[Step]) -> Event {
    let step = &steps[index];
    let waits_for: Vec<String> = planned.waits_for.iter().map(|other| steps[*other].id.clone()).collect();
    let (mut changes, mut drift, mut notes, mut warnings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut facts = serde_json::Map::new();
    let (reason, hint);
    match &planned.verdict {
        Verdict::Decided(diff) => {
            let announced = |change: &AnyChange| {
                let mut change = change.clone();
                if let Some(parents) = change.parents() {
                    parents.retain(|parent| !planned.made_by_others.contains_key(parent));
                }
                change.describe()
            };
            changes = diff.changes.iter().map(announced).collect();
            facts.clone_from(&diff.facts);
            notes.clone_from(&diff.notes);
            warnings.clone_from(&diff.warnings);
            drift = diff.drift.iter().map(|difference| difference.message.clone()).collect();
            let blocking = Failure::join(&diff.obstacles).or(Failure::join(&diff.drift));
            (reason, hint) = blocking.map_or((None, None), |refusal| (Some(refusal.message), refusal.hint));
        }
        Verdict::Deferred => {
            let after = waits_for.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
            (reason, hint) = (Some(format!("planned after {after}")), None);
            changes.push(Description {
                action: Action::Update,
                target: step.resource.target(),
                summary: format!("update after {after}"),
                before: serde_json::Value::Null,
                after: serde_json::Value::Null,
                risk: None,
                diff: None,
            });
        }
        Verdict::Blocked(failure) | Verdict::Failed(failure) => {
            (reason, hint) = (Some(failure.message.clone()), failure.hint.clone());
        }
    }
    Event::StepPlanned(StepPlanned {
        step: step.id.clone(),
        kind: step.resource.kind().to_owned(),
        title: step.prose.title.clone(),
        outcome: planned.outcome(),
        certainty: if planned.is_provisional() { Certainty::Provisional } else { Certainty::Exact },
        waits_for,
        changes,
        facts,
        drift,
        reason,
        hint,
        why: why(step, matches!(planned.outcome(), Planned::Drifted | Planned::Blocked | Planned::Failed)),
        notes,
        warnings,
    })
}

/// Returns the plan file's reason for a step, if a reader needs it.
pub(super) fn why(step: &Step, needed: bool) -> Option<String> {
    Some(step.prose.why.clone()).filter(|why| needed && !why.is_empty())
}
