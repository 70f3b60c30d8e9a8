//! The second half of an apply: makes the planned changes in order, each only if it is still the one that was planned.

use crate::failure::Failure;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use super::event::{ChangeOutcome, Event, Finished, Sink, StepFinished};
use super::live::{keep_planned, leave_out_newer};
use super::stop::Stop;
use super::survey::{Admit, PlannedStep, Verdict, plan_step, planned_event, why};
use super::targets::Targets;
use crate::plan::graph::Graph;
use crate::resource::{AnyChange, Description, Diff, Rescue, RescueAnswer, RescueRequest};
use crate::resource::{Site, Step};
use crate::telemetry::spans::{self, Span};

/// Returns the command line that restores a rescue.
pub type RestoreCommand = dyn Fn(&Rescue) -> String + Send + Sync;

/// What all steps of an apply share.
#[derive(Clone)]
pub struct ApplyContext {
    pub targets: Arc<Targets>,
    pub steps: Arc<Vec<Step>>,
    pub admit: Arc<Admit>,
    pub sink: Arc<dyn Sink>,
    pub stop: Stop,
    pub restore: Arc<RestoreCommand>,
}

/// How a step ended, and why.
struct StepResult {
    outcome: Finished,
    drift: Vec<String>,
    failure: Option<Failure>,
    notes: Vec<String>,
    warnings: Vec<String>,
    rescues: Vec<Rescue>,
}

impl StepResult {
    fn of(outcome: Finished, failure: Option<Failure>) -> Self {
        let (drift, notes, warnings) = (Vec::new(), Vec::new(), Vec::new());
        Self { outcome, drift, failure, notes, warnings, rescues: Vec::new() }
    }

    /// The result of a step that has no changes left. The step is blocked if something prevents it, and drifted if
    /// something differs that it does not repair.
    fn converged(outcome: Finished, diff: Diff<AnyChange>) -> Self {
        let (outcome, failure) = match (Failure::join(&diff.obstacles), Failure::join(&diff.drift)) {
            (Some(obstacles), _) => (Finished::Blocked, Some(obstacles)),
            (None, Some(drift)) => (Finished::Drifted, Some(drift)),
            (None, None) if outcome == Finished::Unchanged && diff.unchecked => (Finished::Unchecked, None),
            (None, None) => (outcome, None),
        };
        let drift = diff.drift.into_iter().map(|difference| difference.message).collect();
        Self { drift, notes: diff.notes, warnings: diff.warnings, ..Self::of(outcome, failure) }
    }
}

/// Makes the planned changes. A step starts as soon as the steps that it waits for have ended, so independent steps run
/// at the same time. A step is blocked only if one that it needs did not succeed.
pub async fn apply(cx: ApplyContext, graph: &Graph, planned: Vec<PlannedStep>) {
    let (ends, _) = watch::channel(vec![None; cx.steps.len()]);
    let ends = Arc::new(ends);
    let locks: Vec<Arc<Mutex<()>>> = (0..graph.lock_count()).map(|_| Arc::default()).collect();
    let mut running = JoinSet::new();
    for (index, planned) in planned.into_iter().enumerate() {
        let others = |stop: bool| {
            let found = graph.before(index).iter().filter(move |(_, reason)| reason.stops() == stop);
            found.map(|(other, _)| *other)
        };
        let before: Vec<usize> = others(true).collect();
        let run = StepRun {
            index,
            cx: cx.clone(),
            observed: planned.observed,
            inside_and_before: graph.inside_and_before(index).to_vec(),
        };
        let locks: Vec<Arc<Mutex<()>>> = graph.locks(index).iter().map(|lock| Arc::clone(&locks[*lock])).collect();
        let makers: Vec<usize> = planned.makers_of_parents().chain(others(false)).collect();
        let ends = Arc::clone(&ends);
        let step = &cx.steps[index];
        let span = spans::step(&step.id, step.resource.kind());
        running.spawn(span.instrument(async move {
            let end = match predecessors(&makers, &before, &run.cx.steps, &ends).await {
                Err(failure) => StepResult::of(Finished::Blocked, Some(failure)),
                Ok(Some(())) => {
                    // Locks are always taken in the same order, so that two steps never wait for each other.
                    let mut held = Vec::new();
                    for lock in &locks {
                        held.push(lock.lock().await);
                    }
                    run.run_step(planned).await
                }
                Ok(None) => StepResult::of(Finished::Skipped, None),
            };
            run.finish(&end);
            ends.send_modify(|ends| ends[index] = Some(end.outcome));
        }));
    }
    while running.join_next().await.is_some() {}
}

/// Waits until these steps have ended, with whatever outcome.
async fn ended(steps: &BTreeSet<usize>, ends: &watch::Sender<Vec<Option<Finished>>>) {
    let mut seen = ends.subscribe();
    // The sender lives in every step's task, so the channel cannot close while one waits.
    drop(seen.wait_for(|ends| steps.iter().all(|step| ends[*step].is_some())).await);
}

/// Waits until the steps in `makers` and `before` have ended. Those in `before` have to succeed. Returns `None` if one of them
/// was skipped because the run was stopped.
async fn predecessors(
    makers: &[usize],
    before: &[usize],
    steps: &[Step],
    ends: &watch::Sender<Vec<Option<Finished>>>,
) -> Result<Option<()>, Failure> {
    let all: BTreeSet<usize> = makers.iter().chain(before).copied().collect();
    if !all.is_empty() {
        let ids: Vec<&str> = all.iter().map(|step| steps[*step].id.as_str()).collect();
        spans::step_wait(&ids.join(", ")).instrument(ended(&all, ends)).await;
    }
    let ends = ends.borrow();
    for other in before {
        let word = match ends[*other] {
            Some(Finished::Failed) => "failed",
            Some(Finished::Blocked) => "is blocked",
            Some(Finished::Skipped) | None => return Ok(None),
            Some(Finished::Unchanged | Finished::Unchecked | Finished::Changed | Finished::Drifted) => continue,
        };
        let id = &steps[*other].id;
        return Err(
            Failure::new(format!("it waits for `{id}`, which {word}")).hint(format!("fix `{id}` and run apply again"))
        );
    }
    Ok(Some(()))
}

struct StepRun {
    index: usize,
    cx: ApplyContext,
    /// When the step was observed for the plan.
    observed: SystemTime,
    /// Steps inside this one that ran before it.
    inside_and_before: Vec<usize>,
}

impl StepRun {
    fn step(&self) -> &Step {
        &self.cx.steps[self.index]
    }

    async fn run_step(&self, planned: PlannedStep) -> StepResult {
        if self.cx.stop.signal().is_some() && planned.has_changes() {
            return StepResult::of(Finished::Skipped, Some(Failure::new("the run was stopped before this step")));
        }
        let provisional = planned.is_provisional();
        let expected = match planned.verdict {
            Verdict::Blocked(failure) => return StepResult::of(Finished::Blocked, Some(failure)),
            Verdict::Failed(failure) => return StepResult::of(Finished::Failed, Some(failure)),
            Verdict::Decided(diff) if diff.changes.is_empty() && !provisional => {
                return StepResult::converged(Finished::Unchanged, diff);
            }
            Verdict::Decided(diff) => Some(diff.changes),
            Verdict::Deferred => None,
        };
        if provisional {
            self.cx.targets.forget(self.step()).await;
        }
        let Some(now) = self.decide_unless_stopped(provisional).await else {
            return StepResult::of(Finished::Skipped, Some(Failure::new("the run was stopped before this step")));
        };
        let now = (self.cx.admit)(self.step(), now);
        let mut diff = match now {
            Verdict::Decided(diff) => diff,
            Verdict::Failed(failure) => return StepResult::of(Finished::Failed, Some(failure)),
            Verdict::Blocked(failure) => return StepResult::of(Finished::Blocked, Some(failure)),
            Verdict::Deferred => return StepResult::of(Finished::Blocked, None),
        };
        if provisional {
            // It waited for other steps. Its plan is now final, and is shown.
            let exact = PlannedStep::exact(Verdict::Decided(diff.clone()));
            self.cx.sink.event(&planned_event(self.index, &exact, &self.cx.steps));
        } else if let Err(other) = keep_planned(&mut diff, expected.as_deref().unwrap_or_default(), self.observed) {
            let now = other.describe();
            let failure =
                Failure::new(format!("{} changed after it was planned; it now needs: {}", now.target, now.summary));
            return StepResult::of(
                Finished::Failed,
                Some(failure.hint("run plan to see the new plan, then run apply again")),
            );
        }
        self.apply_changes(diff).await
    }

    /// Plans the step again. Returns `None` if a signal comes first, because a host can be slow to answer.
    async fn decide_unless_stopped(&self, provisional: bool) -> Option<Verdict> {
        let (targets, steps, index) = (Arc::clone(&self.cx.targets), Arc::clone(&self.cx.steps), self.index);
        // A separate task: cancelling a worker's request halfway would break the requests after it.
        let planning = tokio::spawn(Span::current().instrument(async move {
            let mut observed = plan_step(&targets, &steps[index]).await;
            if provisional {
                observed = observed.beside_paths(index, &steps);
            }
            observed.beside_others(&targets, index, &steps)
        }));
        tokio::select! {
            verdict = planning => {
                Some(verdict.unwrap_or_else(|_| Verdict::Failed(Failure::new("the observation ended without a result"))))
            }
            () = self.cx.stop.asked() => None,
        }
    }

    async fn apply_changes(&self, diff: Diff<AnyChange>) -> StepResult {
        if diff.changes.is_empty() {
            return StepResult::converged(Finished::Unchanged, diff);
        }
        let changes = diff.changes.iter().map(|change| (self.step(), change));
        let follow_ups = self.cx.targets.follow_ups().of_planned_changes(changes);
        if !follow_ups.is_empty() {
            self.cx.sink.event(&Event::FollowUpsExpected { follow_ups });
        }
        // The plan shows which changes can move someone's work aside. The result says how to get that work back.
        let risky = diff.changes.iter().any(|change| change.describe().risk.is_some());
        let mut moved = false;
        let mut end = self.make_each(diff, &mut moved).await;
        if moved && risky && self.step().resource.info().keeps_rescues {
            end.rescues = self.rescues().await;
        }
        if end.outcome == Finished::Changed {
            self.verify_inside(&mut end).await;
        }
        end
    }

    /// Checks the steps inside this one again: a directory that gets another owner may invalidate what was done in it
    /// before, because root does not work in directories of other users.
    async fn verify_inside(&self, end: &mut StepResult) {
        for other in &self.inside_and_before {
            let step = &self.cx.steps[*other];
            let reason = match plan_step(&self.cx.targets, step).await.verdict {
                Verdict::Decided(diff) => match diff
                    .changes
                    .iter()
                    .find(|change| !change.is_newer_than(self.observed))
                    .map(AnyChange::describe)
                {
                    None => continue,
                    Some(change) => format!("{} needs another change: {}", change.target, change.summary),
                },
                Verdict::Blocked(failure) | Verdict::Failed(failure) => failure.message,
                Verdict::Deferred => continue,
            };
            let failure = Failure::new(format!("the changes were made, but they undo `{}`: {reason}", step.id))
                .hint(format!("run `{}` after this step, or set its run_as to the owner of the directory", step.id));
            (end.outcome, end.failure) = (Finished::Failed, Some(failure));
        }
    }

    /// Makes the changes in order. If one fails, only the changes that depend on it are left out. Sets `moved` if anything was
    /// changed.
    async fn make_each(&self, diff: Diff<AnyChange>, moved: &mut bool) -> StepResult {
        // The changes that were not made. Those that were tried have a failure.
        let mut undone: Vec<(&AnyChange, Option<Failure>)> = Vec::new();
        for (made, change) in diff.changes.iter().enumerate() {
            if undone.iter().any(|(failed, _)| change.depends_on(failed)) {
                undone.push((change, None));
                continue;
            }
            if self.cx.stop.signal().is_some() {
                let left = diff.changes.len() - made;
                let failure = Failure::new(format!("the run was stopped with {left} of its changes left"))
                    .hint("run apply again to make them");
                return StepResult::of(if made == 0 { Finished::Skipped } else { Finished::Failed }, Some(failure));
            }
            let (result, partial) = self.make_one(change).await;
            *moved |= result.is_ok() || partial;
            if let Err(failure) = result {
                undone.push((change, Some(failure)));
            }
        }
        if undone.is_empty() {
            return self.verify(diff).await;
        }
        let undone: Vec<Failure> =
            undone.into_iter().filter_map(|(_, failure)| failure).chain(diff.obstacles.clone()).collect();
        let describes_state = self.step().resource.info().notes_describe_state;
        let stands = if describes_state {
            match plan_step(&self.cx.targets, self.step()).await.verdict {
                Verdict::Decided(stands) => stands,
                _ => diff,
            }
        } else {
            Diff { drift: diff.drift, ..Diff::default() }
        };
        let failure = Failure::join(&undone);
        StepResult { outcome: Finished::Failed, failure, ..StepResult::converged(Finished::Failed, stands) }
    }

    /// Returns the result, and whether a failed change has made a part of what it was to do.
    async fn make_one(&self, change: &AnyChange) -> (Result<(), Failure>, bool) {
        let Description { action, target, summary, .. } = change.describe();
        let step = self.step().id.clone();
        self.cx.sink.event(&Event::ChangeStarted {
            step: step.clone(),
            action,
            target: target.clone(),
            summary: summary.clone(),
        });
        let ready = self.cx.sink.ready();
        let tried = ready.is_ok();
        let result = match ready {
            Ok(()) => spans::execute(&target).instrument(self.cx.targets.execute(self.step(), change)).await,
            Err(failure) => Err(Failure { message: format!("not tried: {}", failure.message), ..failure }),
        };
        let (outcome, partial) = match &result {
            Ok(()) => (ChangeOutcome::Changed, false),
            Err(_) if !tried => (ChangeOutcome::Failed, false),
            Err(_) => (ChangeOutcome::Failed, self.is_partly_made(change).await),
        };
        self.cx.sink.event(&Event::ChangeFinished { step, action, target, summary, outcome, partial });
        (result, partial)
    }

    /// Returns whether a failed change has made a part of what it was to do: the step no longer needs the same change. A
    /// warehouse undoes a failed change itself.
    async fn is_partly_made(&self, change: &AnyChange) -> bool {
        let step = self.step();
        if !matches!(step.resource.site(), Site::Host { .. }) {
            return false;
        }
        if self.cx.stop.signal().is_some() {
            return true;
        }
        match plan_step(&self.cx.targets, step).await.verdict {
            Verdict::Decided(now) => !now.changes.iter().any(|still| still.describe() == change.describe()),
            _ => true,
        }
    }

    /// Returns the rescues of this run. If it made none, returns the latest one: an interrupted run may have saved the
    /// same work already.
    async fn rescues(&self) -> Vec<Rescue> {
        let Ok(RescueAnswer::List(rescues)) = self.cx.targets.rescue(self.step(), RescueRequest::List).await else {
            return Vec::new();
        };
        let (own, mut others): (Vec<Rescue>, Vec<Rescue>) =
            rescues.into_iter().partition(|rescue| rescue.id.starts_with(self.cx.targets.run()));
        if own.is_empty() { others.pop().into_iter().collect() } else { own }
    }

    /// Observes the step again. A change that was made but does not hold is a failure, even if the call that made it
    /// succeeded.
    async fn verify(&self, made: Diff<AnyChange>) -> StepResult {
        match spans::verify().instrument(plan_step(&self.cx.targets, self.step())).await.verdict {
            Verdict::Decided(mut left) => {
                leave_out_newer(&mut left, self.observed);
                match left.changes.first() {
                    None if self.step().resource.info().notes_describe_state => {
                        StepResult::converged(Finished::Changed, left)
                    }
                    None => {
                        let mut warnings = left.warnings.clone();
                        warnings.extend(made.warnings);
                        warnings.dedup();
                        StepResult::converged(Finished::Changed, Diff { notes: made.notes, warnings, ..left })
                    }
                    Some(change) => {
                        let Description { target, summary, .. } = change.describe();
                        let message = format!("the changes were made, but {target} still needs: {summary}");
                        let failure = Failure::new(message);
                        let hint = "something else may be changing it at the same time; run plan to see its state";
                        StepResult::of(Finished::Failed, Some(failure.hint(hint)))
                    }
                }
            }
            Verdict::Failed(failure) | Verdict::Blocked(failure) => {
                let message = format!("the changes were made, but cannot be verified: {}", failure.message);
                StepResult::of(Finished::Failed, Some(Failure { message, hint: failure.hint }))
            }
            Verdict::Deferred => StepResult::of(Finished::Failed, None),
        }
    }

    fn finish(&self, end: &StepResult) {
        let failure = end.failure.clone();
        let restorable: Vec<&Rescue> = end.rescues.iter().filter(|rescue| rescue.way_back.is_none()).collect();
        self.cx.sink.event(&Event::StepFinished(StepFinished {
            drift: end.drift.clone(),
            reason: failure.as_ref().map(|failure| failure.message.clone()),
            hint: failure.and_then(|failure| failure.hint),
            why: why(self.step(), matches!(end.outcome, Finished::Drifted | Finished::Blocked | Finished::Failed)),
            notes: end.notes.clone(),
            warnings: end.warnings.clone(),
            restore_commands: restorable.iter().map(|rescue| (self.cx.restore)(rescue)).collect(),
            rescues: restorable.iter().map(|rescue| rescue.id.clone()).collect(),
            ways_back: end.rescues.iter().filter_map(|rescue| rescue.way_back.clone()).collect(),
            restoring_undoes: end.rescues.iter().filter_map(|rescue| rescue.undoes.clone()).collect(),
            ..StepFinished::of(&self.step().id, self.step().resource.kind(), end.outcome)
        }));
    }
}
