//! The first half of every run: observe all steps, decide what each needs, and say so.

use crate::failure::Failure;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinSet;

use super::event::{Certainty, Event, Planned, StepPlanned};
use super::targets::Targets;
use crate::host::secret::SecretError;
use crate::plan::claim::Claim;
use crate::plan::graph::{Graph, Reason};
use crate::resource::Step;
use crate::resource::{Action, AnyChange, Description, Diff, Effect};
use crate::telemetry::spans;

/// What is known of one step before anything is done.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Decided on what was observed. No changes: it has converged.
    Decided(Diff<AnyChange>),
    /// It cannot be decided before the steps that it waits for have made their changes.
    Deferred,
    /// It is not to be done.
    Blocked(Failure),
    /// It could not be observed.
    Failed(Failure),
}

/// A step with its verdict.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    pub verdict: Verdict,
    /// Steps (by place) whose changes come first and may alter what was observed. None: the verdict is exact.
    pub waits_for: Vec<usize>,
    /// When the observation began that the verdict rests on.
    pub observed: SystemTime,
    /// Parents that this step would make too, and the steps that make them first.
    made_by_others: BTreeMap<String, usize>,
}

impl PlannedStep {
    /// A step with an exact verdict.
    pub fn exact(verdict: Verdict) -> Self {
        Self { verdict, waits_for: Vec::new(), observed: SystemTime::now(), made_by_others: BTreeMap::new() }
    }

    /// The steps that make a parent which this one would make too: it runs when they have ended.
    pub fn makers_of_parents(&self) -> impl Iterator<Item = usize> {
        self.made_by_others.values().copied()
    }

    /// What the plan says of the step.
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

    /// Whether there is something to do, whatever else the plan says of the step.
    pub fn has_changes(&self) -> bool {
        self.planned_changes() > 0
    }

    /// The changes that are known by now.
    pub fn changes(&self) -> &[AnyChange] {
        match &self.verdict {
            Verdict::Decided(diff) => &diff.changes,
            _ => &[],
        }
    }

    /// How many changes the plan shows; a step that cannot be decided yet has one.
    pub fn planned_changes(&self) -> usize {
        match &self.verdict {
            Verdict::Decided(diff) => diff.changes.len(),
            Verdict::Deferred => 1,
            Verdict::Blocked(_) | Verdict::Failed(_) => 0,
        }
    }

    /// Whether apply has to look at this step once the steps before it are done.
    pub fn is_provisional(&self) -> bool {
        !self.waits_for.is_empty()
    }
}

/// Has the last word on a step's verdict: a saved plan lets nothing pass that was not planned.
pub type Admit = dyn Fn(&Step, Verdict) -> Verdict + Send + Sync;

/// Decides one step on what is there now.
pub async fn plan_step(targets: &Targets, step: &Step) -> Observed {
    if let Some(SecretError::Unusable(failure)) = targets.secret_error(step) {
        return Observed { verdict: Verdict::Blocked(failure.clone()), claims: Vec::new() };
    }
    match spans::observe().instrument(targets.observe(step)).await {
        Err(failure) => Observed { verdict: Verdict::Failed(failure), claims: Vec::new() },
        Ok(actual) => {
            let verdict = match spans::diff().in_scope(|| step.resource.diff(&actual)) {
                Ok(diff) => match within_bounds(step, &diff) {
                    Ok(()) => Verdict::Decided(diff),
                    Err(failure) => Verdict::Blocked(failure),
                },
                Err(refusal) => Verdict::Blocked(refusal),
            };
            Observed { verdict, claims: step.resource.observed_claims(&actual) }
        }
    }
}

/// A step's verdict by itself, and what it was seen to own.
#[derive(Debug)]
pub struct Observed {
    pub verdict: Verdict,
    claims: Vec<Claim>,
}

impl Observed {
    /// The verdict in the light of what other steps were seen to own: two that would undo each other are not both done.
    pub fn beside_others(self, targets: &Targets, index: usize, steps: &[Step]) -> Verdict {
        match targets.conflict(index, self.claims) {
            None => self.verdict,
            Some((other, claim)) => {
                let id = &steps[other].id;
                let failure = Failure::new(format!("it and `{id}` both own {claim}: each would undo the other"))
                    .hint("leave it to one of them, or give it a name of its own in one of the two files");
                Verdict::Blocked(failure)
            }
        }
    }
}

/// A step that would change more things than its `max_changes` is not begun.
fn within_bounds(step: &Step, diff: &Diff<AnyChange>) -> Result<(), Failure> {
    let (Some(most), size) = (step.max_changes, diff.changes.iter().map(AnyChange::size).sum::<u64>()) else {
        return Ok(());
    };
    if size <= most {
        return Ok(());
    }
    let largest = diff.changes.iter().max_by_key(|change| change.size()).map(AnyChange::describe);
    let example = largest.map(|change| format!(" ({}: {})", change.target, change.summary)).unwrap_or_default();
    Err(Failure::new(format!("it would make {size} changes, more than the {most} of max_changes{example}"))
        .hint("see that they are all meant, then raise the step's max_changes"))
}

/// Observes all steps at the same time, which leaves no trace, and decides them in order.
pub async fn survey(targets: &Arc<Targets>, steps: &Arc<Vec<Step>>, graph: &Graph, admit: &Admit) -> Vec<PlannedStep> {
    let observed_at = SystemTime::now();
    let mut looking = JoinSet::new();
    for index in 0..steps.len() {
        let (targets, steps) = (Arc::clone(targets), Arc::clone(steps));
        let span = spans::step(&steps[index].id, steps[index].resource.kind());
        looking.spawn(span.instrument(async move { (index, plan_step(&targets, &steps[index]).await) }));
    }
    let unseen = || Verdict::Failed(Failure::new("the observation ended without a result"));
    let mut observed: Vec<Option<Observed>> = steps.iter().map(|_| None).collect();
    while let Some(result) = looking.join_next().await {
        if let Ok((index, found)) = result {
            observed[index] = Some(found);
        }
    }
    // In document order, so that of two steps that own the same it is always the later one that is refused.
    let verdict = |(index, found): (usize, Option<Observed>)| match found {
        Some(found) => admit(&steps[index], found.beside_others(targets, index, steps)),
        None => unseen(),
    };
    let mut verdicts: Vec<Verdict> = observed.into_iter().enumerate().map(verdict).collect();
    let mut planned: Vec<Option<PlannedStep>> = verdicts.iter().map(|_| None).collect();
    for index in graph.sequence() {
        let verdict = std::mem::replace(&mut verdicts[*index], Verdict::Deferred);
        let step = PlannedStep { observed: observed_at, ..mark_provisional(verdict, *index, steps, graph, &planned) };
        planned[*index] = Some(step);
    }
    let mut planned: Vec<PlannedStep> = planned.into_iter().flatten().collect();
    announce_parents_once(&mut planned, graph);
    planned
}

/// A parent that several steps need is announced by the one that will make it. What is exact comes first: it must not
/// depend on a step that is decided later.
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

/// Sees a step's verdict in the light of those that come before it.
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
        if matches!(earlier.outcome(), Planned::Blocked | Planned::Failed) {
            let word = if earlier.outcome() == Planned::Failed { "failed" } else { "is blocked" };
            let id = &steps[*other].id;
            let failure = Failure::new(format!("it waits for `{id}`, which {word}"))
                .hint(format!("fix `{id}` first, or leave it out with --skip {id}"));
            return PlannedStep::exact(Verdict::Blocked(failure));
        }
        // What a provisional step will change is not known yet, were it seen to need nothing now.
        let touched =
            earlier.is_provisional() || earlier.changes().iter().any(|change| touches(reason, &steps[*other], change));
        if touched && !waits_for.contains(other) {
            waits_for.push(*other);
        }
    }
    let verdict = match verdict {
        // What stands in the way now may be just what an earlier step is about to bring.
        Verdict::Blocked(_) | Verdict::Failed(_) if !waits_for.is_empty() => Verdict::Deferred,
        Verdict::Decided(diff) if !diff.obstacles.is_empty() && !waits_for.is_empty() => Verdict::Deferred,
        verdict => verdict,
    };
    PlannedStep { waits_for, ..PlannedStep::exact(verdict) }
}

/// Whether a planned change of the earlier step may alter what was observed of the later one.
fn touches(reason: &Reason, earlier: &Step, change: &AnyChange) -> bool {
    match reason {
        Reason::After | Reason::Table => true,
        Reason::Path(path) => earlier.resource.effect(change, path) >= Effect::Alters,
    }
}

/// The event that tells of a planned step. `applying`: its changes are about to be made. What notes and warnings say of a
/// state that these end is not said then; how things stand is said at the step's end.
pub fn planned_event(index: usize, planned: &PlannedStep, steps: &[Step], applying: bool) -> Event {
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
            let past = step.resource.info().notes_describe_state && !diff.changes.is_empty();
            if !(applying && past) {
                notes.clone_from(&diff.notes);
                warnings.clone_from(&diff.warnings);
            }
            drift = diff.drift.iter().map(|difference| difference.message.clone()).collect();
            let told = Failure::join(&diff.obstacles).or(Failure::join(&diff.drift));
            (reason, hint) = told.map_or((None, None), |refusal| (Some(refusal.message), refusal.hint));
        }
        Verdict::Deferred => {
            let after = waits_for.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
            (reason, hint) = (Some(format!("to be decided after {after}")), None);
            changes.push(Description {
                action: Action::Update,
                target: step.resource.target(),
                summary: format!("bring it in line after {after}"),
                before: serde_json::Value::Null,
                after: serde_json::Value::Null,
                risk: None,
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

/// The plan file's reason for a step, where a reader needs it.
pub(super) fn why(step: &Step, needed: bool) -> Option<String> {
    Some(step.prose.why.clone()).filter(|why| needed && !why.is_empty())
}
