//! One run of a plan file. [`prepare`] reads and checks all inputs; then [`Run::plan`] or [`Run::apply`] does the work.
//! All output is events, so no command line is needed: the caller passes a [`Request`] and a sink.

mod error;
mod follow_ups;
mod id;
mod inputs;
mod locking;
mod request;
mod secrets;
mod source;
mod standard_input;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::apply::{ApplyContext, RestoreCommand, apply};
use super::event::{Event, FORMAT, Finished, Holder, InterruptedRun, RunOutcome, Sink, StepFinished};
use super::event_log::EventLog;
use super::journal::{self, Journal};
use super::lock::{Lock, Wait, time};
use super::open_follow_ups::OpenFollowUps;
use super::report::Report;
use super::saved::{Fingerprints, Saved, Target};
use super::stop::{self, Stop};
use super::survey::{Admit, PlannedStep, Verdict, planned_event, survey};
use super::targets::Targets;
use crate::failure::Failure;
use crate::host::capabilities;
use crate::host::state::StateFolder;
use crate::host::users::User;
use crate::plan::graph::Graph;
use crate::plan_file::PlanFile;
use crate::resource::Step;
use crate::telemetry::spans::{self, Span};
use crate::text::{file_word, shell_word};

pub use super::saved::show_saved;
pub use error::NotPrepared;
pub use id::run_id;
use inputs::RunInputs;
pub use request::{Command, Request, today};
pub use secrets::RunSecrets;
pub use source::{MAX_SAVED_PLAN_BYTES, Source, reason};
pub use standard_input::{StdinRequest, read_plan_file, read_request};

/// How long a stopped run waits for its workers to end.
const WORKERS_END_TIMEOUT: Duration = Duration::from_secs(5);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub outcome: RunOutcome,
    /// The signal that stopped it, if one did.
    pub signal: Option<i32>,
    /// Why the end of the run could not be recorded, if so. The run will then look interrupted.
    pub unrecorded: Option<Failure>,
}

/// What the confirmation prompt shows apart from the plan.
#[derive(Debug)]
pub struct Question<'a> {
    pub host: &'a str,
    /// How many changes are planned.
    pub changes: usize,
    /// Cancels the prompt.
    pub stop: &'a Stop,
}

/// The answer to the confirmation prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
    /// The input ended, or the terminal was closed.
    None,
    /// There is no controlling terminal.
    NoTerminal,
    /// A signal came first.
    Stopped,
}

/// A run that has been prepared.
pub struct Run {
    /// The plan file's `name`.
    plan: String,
    steps: Arc<Vec<Step>>,
    deselected: Vec<(String, &'static str)>,
    observed_only: Vec<Step>,
    graph: Graph,
    admit: Arc<Admit>,
    targets: Arc<Targets>,
    report: Arc<Report>,
    stop: Stop,
    folder: StateFolder,
    journal: Arc<Journal>,
    inputs: Arc<RunInputs>,
    fingerprints: Fingerprints,
    /// Earlier runs of the plan file that were interrupted and not recovered since.
    interrupted: Vec<InterruptedRun>,
    holder: Holder,
    plan_file: Arc<PlanFile>,
}

/// Reads, evaluates and checks the plan file, reads the secret sources, and reports the start of the run. A saved plan
/// brings the plan file and flags that it was made with.
///
/// # Errors
/// The plan file, the flags or the environment are invalid, or a saved plan is not valid here.
pub async fn prepare(request: Request, sink: Box<dyn Sink>) -> Result<Run, NotPrepared> {
    let command = request.command;
    if command == Command::Apply {
        capabilities::set_makes_changes();
    }
    let inputs = RunInputs::load(request)?;
    let plan_file = inputs.source.plan_file()?;
    let plan = inputs.evaluate(&plan_file)?;
    let stop = Stop::listen()?;
    let run = run_id(&inputs.digester);
    let as_of = inputs.as_of();
    let holder = inputs.holder(&run);
    let is_apply = command == Command::Apply;
    let rescues = is_apply.then(|| inputs.rescue_steps(&plan_file, &plan.steps)).flatten();
    let journal = Arc::new(Journal::new(inputs.started(&run, &plan.name, rescues), Box::new(EventLog::new(sink))));
    let report = Arc::new(Report::new(Box::new(Arc::clone(&journal))));
    let progress = {
        let report = Arc::clone(&report);
        Arc::new(move |step: &str, text: String| report.event(&Event::StepProgress { step: step.to_owned(), text }))
    };
    let secrets = RunSecrets::read(&plan_file, &plan, &inputs.environment, &stop, progress.as_ref()).await?;
    let fingerprints = inputs.fingerprints(&plan, &secrets)?;
    let digester = inputs.digester.clone();
    let targets = Targets::new(run.clone(), as_of, digester, &plan, &secrets, &inputs.environment, progress);
    report.event(&Event::RunStarted {
        format: FORMAT,
        command: command.name().to_owned(),
        plan: plan.name.clone(),
        file: inputs.source.path.display().to_string(),
        run,
        host: inputs.origin.host.clone(),
        user: inputs.origin.user.clone(),
        as_of: as_of.to_string(),
        saved: inputs.saved_id(),
    });
    let folder = StateFolder::of_user(&inputs.environment, User::acting().home);
    let interrupted = report_interrupted(&folder, &inputs.origin.file, report.as_ref());
    Ok(Run {
        plan: plan.name,
        steps: Arc::new(plan.steps),
        deselected: plan.deselected,
        observed_only: plan.observed_only,
        graph: plan.relations.graph,
        admit: admission(inputs.saved.clone(), fingerprints.clone(), secrets),
        targets: Arc::new(targets),
        report,
        stop,
        folder,
        journal,
        inputs: Arc::new(inputs),
        fingerprints,
        interrupted,
        holder,
        plan_file: Arc::new(plan_file),
    })
}

impl Run {
    /// Reports the differences, and writes the plan to `save_to` if it is given. Leaves no other trace.
    pub async fn plan(&self, save_to: Option<&Target>) -> Ended {
        self.span(Command::Plan).instrument(self.plan_steps(save_to)).await
    }

    /// Reports the plan, asks, and makes its changes. One apply at a time for a plan file: the lock is held from before
    /// the first observation to the end. A run that has nothing to change leaves no trace; otherwise the journal is begun
    /// before the first change.
    pub async fn apply(&self, wait: Wait, ask: impl AsyncFnOnce(Question<'_>) -> Answer) -> Ended {
        self.span(Command::Apply).instrument(self.apply_steps(wait, ask)).await
    }

    fn span(&self, command: Command) -> Span {
        spans::run(command.name(), &self.plan, self.targets.run())
    }

    async fn plan_steps(&self, save_to: Option<&Target>) -> Ended {
        let planned = match self.survey(None).await {
            Ok(Some(planned)) => planned,
            Ok(None) => return self.stopped().await,
            Err(failure) => return self.refused(failure).await,
        };
        for follow_up in self.plan_follow_ups(&planned) {
            self.report.event(&Event::FollowUp(follow_up));
        }
        for open in self.open_follow_ups().iter().flat_map(OpenFollowUps::current) {
            self.report.event(&Event::FollowUpOpen(open));
        }
        let refused = save_to.and_then(|target| self.save(target, &planned).err());
        if self.stop.signal().is_some() {
            return self.stopped().await;
        }
        self.close(None, refused).await
    }

    async fn apply_steps(&self, wait: Wait, ask: impl AsyncFnOnce(Question<'_>) -> Answer) -> Ended {
        let mut lock = match self.lock(wait).await {
            Ok(Some(lock)) => lock,
            Ok(None) => return self.stopped().await,
            Err(failure) => return self.refused(failure).await,
        };
        let planned = match self.survey(Some(wait)).await {
            Ok(Some(planned)) => planned,
            Ok(None) => return self.stopped().await,
            Err(failure) => return self.refused(failure).await,
        };
        if planned.iter().any(PlannedStep::has_changes) {
            let changes = planned.iter().map(PlannedStep::planned_changes).sum();
            let (counts, follow_ups) = (self.report.counts(), self.plan_follow_ups(&planned));
            self.report.event(&Event::PlanFinished { counts, changes, follow_ups });
            let question = Question { host: &self.inputs.origin.host, changes, stop: &self.stop };
            let failure = match ask(question).await {
                Answer::Yes => self.begin(&mut lock).err(),
                Answer::Stopped => return self.stopped().await,
                Answer::No => Some(Failure::new("the plan was not confirmed")),
                Answer::None => Some(Failure::new("the question was not answered")),
                Answer::NoTerminal => Some(
                    Failure::new("cannot ask for confirmation: there is no terminal")
                        .hint("use --yes to apply without confirmation"),
                ),
            };
            if let Some(failure) = failure {
                return self.refused(failure).await;
            }
        }
        self.make_changes(planned).await;
        self.follow_up().await;
        if self.stop.signal().is_some() {
            return self.stopped().await;
        }
        if self.report.outcome() == RunOutcome::Ok {
            self.mark_recovered();
        }
        let ended = self.close(None, None).await;
        drop(lock);
        ended
    }

    /// Observes all steps and reports their plans. `applying` is set if the changes are made immediately afterwards. Then this waits
    /// for a target that another run is changing, as for a lock. Returns `None` if a signal comes first.
    ///
    /// # Errors
    /// A secret or a template was changed during the wait.
    async fn survey(&self, applying: Option<Wait>) -> Result<Option<Vec<PlannedStep>>, Failure> {
        let until = match applying {
            None | Some(Wait::No) => Some(Instant::now()),
            Some(Wait::Yes) => None,
            Some(Wait::AtMost(limit)) => Some(Instant::now() + limit),
        };
        let mut has_waited = false;
        let mut planned = loop {
            let look = survey(&self.targets, &self.steps, &self.graph, self.admit.as_ref(), applying.is_some());
            let planned = tokio::select! {
                planned = look => planned,
                () = self.stop.asked() => return Ok(None),
            };
            let busy = planned.iter().enumerate().filter(|(_, step)| step.is_busy);
            let busy: Vec<usize> = busy.map(|(index, _)| index).collect();
            if busy.is_empty() || until.is_some_and(|until| Instant::now() >= until) {
                break planned;
            }
            if !std::mem::replace(&mut has_waited, true) {
                let targets = busy.iter().map(|index| self.steps[*index].resource.target()).collect();
                self.report.event(&Event::RunWaiting { holder: Holder::default(), targets });
            }
            tokio::select! {
                () = self.become_free(busy, until) => {}
                () = self.stop.asked() => return Ok(None),
            }
            self.check_secrets().await?;
        };
        if let Some(saved) = &self.inputs.saved {
            // Entries that appeared after the plan was saved were not planned either.
            planned.iter_mut().for_each(|step| step.observed = saved.observed());
        }
        for (index, step) in planned.iter().enumerate() {
            self.report.event(&planned_event(index, step, &self.steps));
        }
        // The services that run now use the state from before the changes.
        if planned.iter().any(PlannedStep::has_changes) {
            self.observe_related().await;
        }
        Ok(Some(planned))
    }

    fn save(&self, target: &Target, planned: &[PlannedStep]) -> Result<(), Failure> {
        let run = self.targets.run();
        let steps: Vec<_> = self.steps.iter().zip(planned).collect();
        let RunInputs { origin, digester, .. } = &*self.inputs;
        let flags = self.inputs.flags_to_keep(&self.plan_file);
        let (origin, fingerprints) = (origin.clone(), self.fingerprints.clone());
        let plan_file = self.inputs.source.is_input.then(|| self.plan_file_to_save()).transpose()?;
        let made = time(Timestamp::now());
        let saved = Saved::new(run, made, (origin, plan_file), flags, digester, fingerprints, &steps);
        let events = planned.iter().enumerate().map(|(index, step)| planned_event(index, step, &self.steps));
        let follow_ups = self.plan_follow_ups(planned).into_iter().map(Event::FollowUp);
        let saved = saved.telling(&self.plan, events.chain(follow_ups));
        target.write(&saved)?;
        self.report.event(&Event::PlanSaved { id: run.to_owned(), path: target.shown() });
        Ok(())
    }

    /// Returns the text of the plan file from standard input, which a saved plan has to contain.
    fn plan_file_to_save(&self) -> Result<String, Failure> {
        let source = &self.inputs.source;
        source.require_name("--out")?;
        if let Some(line) = self.plan_file.written_secret() {
            let message = format!("cannot save the plan: line {line} of the plan file may hold a password");
            return Err(Failure::new(message).hint(
                "saved plans must not contain secrets: read the password with env_var('NAME'), or use a plan file on disk",
            ));
        }
        Ok(String::from_utf8_lossy(&source.bytes).into_owned())
    }

    /// Prepares for the first change: records the lock's holder, opens the journal, and marks the saved plan as used.
    fn begin(&self, lock: &mut Lock) -> Result<(), Failure> {
        lock.register(&self.holder)?;
        self.journal.open(&self.folder, self.targets.run())?;
        self.inputs.saved.as_ref().map_or(Ok(()), |saved| saved.use_up(&self.folder, self.targets.run()))
    }

    async fn make_changes(&self, planned: Vec<PlannedStep>) {
        let sink: Arc<dyn Sink> = Arc::clone(&self.report) as Arc<dyn Sink>;
        for (id, kind) in &self.deselected {
            sink.event(&Event::StepFinished(StepFinished::of(id, kind, Finished::Skipped)));
        }
        let cx = ApplyContext {
            targets: Arc::clone(&self.targets),
            steps: Arc::clone(&self.steps),
            admit: Arc::clone(&self.admit),
            sink,
            stop: self.stop.clone(),
            restore: self.restore_command(),
        };
        apply(cx, &self.graph, planned).await;
    }

    /// Returns a function that makes the command line to restore a rescue.
    fn restore_command(&self) -> Arc<RestoreCommand> {
        let Source { path, is_input, .. } = &self.inputs.source;
        let file = file_word(path);
        // The journal has the steps of a plan file that is not on the host.
        let is_recorded = *is_input && !path.exists();
        let (inputs, plan_file) = (Arc::clone(&self.inputs), Arc::clone(&self.plan_file));
        // Most runs rescue nothing.
        let arguments = LazyLock::new(move || match is_recorded {
            true => String::new(),
            false => inputs.restore_arguments(&plan_file),
        });
        Arc::new(move |rescue| {
            let to = rescue.elsewhere.as_ref().map(|to| format!(" --to {}", shell_word(to))).unwrap_or_default();
            format!("provision rescue restore {file} {}{}{to}", rescue.id, *arguments)
        })
    }

    /// Ends a run that cannot go ahead, before anything was changed.
    async fn refused(&self, failure: Failure) -> Ended {
        let ended = self.close(Some(RunOutcome::Failed), Some(nothing_changed(failure))).await;
        Ended { signal: None, ..ended }
    }

    /// Ends a run that was stopped by a signal, and reports what is left.
    async fn stopped(&self) -> Ended {
        let signal = self.stop.signal().unwrap_or(2);
        let name = stop::name(signal);
        let counts = self.report.counts();
        let left = counts.changes + counts.skipped.saturating_sub(self.deselected.len());
        let failure = if self.report.has_begun() {
            Failure::new(format!("stopped by {name}; steps left to do: {left}"))
                .hint("run apply again to finish; completed steps are left alone")
        } else {
            nothing_changed(Failure::new(format!("stopped by {name}")))
        };
        let ended = self.close(Some(RunOutcome::Failed), Some(failure)).await;
        Ended { signal: Some(signal), ..ended }
    }

    /// Ends the run: reports its last event, and ends its workers.
    async fn close(&self, outcome: Option<RunOutcome>, stopped: Option<Failure>) -> Ended {
        // The workers remove the files they fetched, so they are given time. After a signal, a worker that hangs is not
        // waited for.
        tokio::select! {
            () = self.targets.end() => {}
            () = async { self.stop.asked().await; tokio::time::sleep(WORKERS_END_TIMEOUT).await } => {}
        }
        let stopped = stopped.or_else(|| self.journal.failure());
        let outcome = match (outcome, &stopped) {
            (Some(outcome), _) => outcome,
            (None, Some(_)) => RunOutcome::Failed,
            (None, None) => self.report.outcome(),
        };
        let reported = stopped.is_some();
        let (reason, hint) = stopped.map_or((None, None), |failure| (Some(failure.message), failure.hint));
        self.report.event(&Event::RunFinished { outcome, counts: self.report.counts(), reason, hint });
        Ended { outcome, signal: self.stop.signal(), unrecorded: self.journal.failure().filter(|_| !reported) }
    }

    /// After a complete apply, marks earlier interrupted runs as recovered.
    fn mark_recovered(&self) {
        let here = |step: &str| self.steps.iter().any(|known| known.id == step);
        let recovered = |run: &&InterruptedRun| run.changes.iter().all(|change| here(&change.step));
        let runs: Vec<InterruptedRun> = self.interrupted.iter().filter(recovered).cloned().collect();
        if let Err(failure) = journal::mark_recovered(&self.folder, &runs, self.targets.run()) {
            self.report.event(&Event::warning(failure));
        }
    }
}

/// Puts the most important fact about a run that ends before its first change at the front of the message.
fn nothing_changed(failure: Failure) -> Failure {
    Failure { message: format!("nothing was changed: {}", failure.message), ..failure }
}

/// Returns the filter for verdicts: no change shows a secret of the run, and with a saved plan only planned changes pass.
fn admission(saved: Option<Saved>, now: Fingerprints, secrets: RunSecrets) -> Arc<Admit> {
    Arc::new(move |step: &Step, mut verdict| {
        if let Verdict::Decided(diff) = &mut verdict {
            // The old content of a file can hold a secret of another step.
            diff.changes.iter_mut().for_each(|change| change.hide(&|text| secrets.are_in(text)));
        }
        match &saved {
            Some(saved) => saved.admit(&step.id, verdict, &now),
            None => verdict,
        }
    })
}

/// Reports earlier runs of the plan file that were interrupted, and damaged journals.
fn report_interrupted(folder: &StateFolder, file: &str, report: &Report) -> Vec<InterruptedRun> {
    let (interrupted, wrong) = journal::interrupted(folder, file).unwrap_or_else(|failure| {
        report.event(&Event::warning(failure));
        Default::default()
    });
    for message in wrong {
        report.event(&Event::Warning { message });
    }
    for run in &interrupted {
        report.event(&Event::RunCutOff(run.clone()));
    }
    interrupted
}
