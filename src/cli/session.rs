//! What plan and apply share: from arguments to a survey.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};

use super::Error;
use super::args::RunArguments;
use super::given::Given;
use super::saved::Target;
use crate::engine::event::{Event, FORMAT, FollowUp, RunOutcome, Sink};
use crate::engine::journal::{self, Journal, Unfinished};
use crate::engine::lock::{Holder, Lock, Wait, time};
use crate::engine::reach::Reach;
use crate::engine::report::Report;
use crate::engine::saved::{Fingerprints, Saved};
use crate::engine::step::Step;
use crate::engine::stop::Stop;
use crate::engine::survey::{Admit, PlannedStep, planned_event, survey};
use crate::host::fs::says;
use crate::host::secret::{Digester, Origin, Secret, SecretError, SecretReader, SecretResult, SecretSource};
use crate::host::state::StateFolder;
use crate::host::warehouse::{ConnectionSpec, Surroundings, Warehouse};
use crate::plan::graph::Graph;
use crate::plan_file::{Evaluated, PlanFile, Problem};
use crate::render::{Human, Json, output};
use crate::resource::Failure;
use crate::worker::current_user;

/// How long a run that was stopped waits for its workers to end.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// One run, ready to observe.
pub struct Session {
    pub steps: Arc<Vec<Step>>,
    pub deselected: Vec<(String, &'static str)>,
    bystanders: Vec<Step>,
    pub graph: Graph,
    pub admit: Arc<Admit>,
    pub reach: Arc<Reach>,
    pub report: Arc<Report>,
    pub stop: Stop,
    pub folder: StateFolder,
    journal: Arc<Journal>,
    given: Given,
    fingerprints: Fingerprints,
    /// Earlier runs of the plan file that want settling.
    cut_off: Vec<Unfinished>,
    holder: Holder,
}

impl Session {
    /// Reads, evaluates and judges the plan file, asks the secret sources, and announces the run. In a saved plan's case
    /// the plan file and the flags are those that it was made with.
    ///
    /// # Errors
    /// Where the plan file, the flags or the environment are wrong, or a saved plan does not hold here; nothing was
    /// touched then.
    pub async fn open(command: &'static str, arguments: &RunArguments) -> Result<Self, Error> {
        let given = Given::take(command, arguments)?;
        let plan_file = given.source.plan_file()?;
        let plan = given.evaluate(&plan_file)?;
        let stop =
            Stop::listen().map_err(|error| Failure::new(format!("cannot listen for signals: {}", says(&error))))?;
        let (secrets, mut passwords) = ask_sources(&plan_file, &plan, &stop).await?;
        let fingerprints = given.fingerprints(&plan, &secrets, &passwords)?;
        let run = run_id(&given.digester);
        let connections = &plan.connections;
        let (as_of, digester) = (given.flags.as_of, given.digester.clone());
        let reachable = [plan.steps.as_slice(), &plan.bystanders].concat();
        let below = &plan.relations.below;
        let reach = Reach::new(run.clone(), as_of, digester, &reachable, below, secrets, &mut |name, wanted| {
            let password = passwords.remove(name).unwrap_or(Ok(None))?;
            let password = password.map(|secret: Secret| secret.as_password());
            let spec = usable(name, connections.get(name)).map_err(SecretError::Unreadable)?;
            Ok(Warehouse::new(name, spec, password, surroundings(), wanted))
        });
        let holder = given.holder(&run);
        let started = given.started(&run, &plan.name);
        let shown: Box<dyn Sink> = if arguments.json {
            Box::new(Json::default())
        } else {
            Box::new(Human::new(given.variables_of_rescues(&plan_file)))
        };
        let journal = Arc::new(Journal::new(started, shown));
        let report = Arc::new(Report::new(Box::new(Arc::clone(&journal))));
        report.event(&Event::RunStarted {
            format: FORMAT,
            command,
            plan: plan.name,
            file: given.source.path.display().to_string(),
            run,
            host: given.origin.host.clone(),
            user: given.origin.user.clone(),
            as_of: as_of.to_string(),
            saved: given.saved_id(),
        });
        let folder = state_folder();
        let cut_off = tell_cut_off(&folder, &given.origin.file, report.as_ref());
        Ok(Self {
            steps: Arc::new(plan.steps),
            deselected: plan.deselected,
            bystanders: plan.bystanders,
            graph: plan.relations.graph,
            admit: admission(given.saved.clone(), fingerprints.clone()),
            reach: Arc::new(reach),
            report,
            stop,
            folder,
            journal,
            given,
            fingerprints,
            cut_off,
            holder,
        })
    }

    /// The name of the machine that the run is on.
    pub fn host(&self) -> &str {
        &self.given.origin.host
    }

    /// Takes the plan file's lock, or waits for it. `None`: a signal came first.
    ///
    /// # Errors
    /// Another apply holds it, or the saved plan was applied already.
    pub async fn lock(&self, wait: Wait) -> Result<Option<Lock>, Failure> {
        let mut busy = |holder: &Holder| self.report.event(&Event::RunWaiting { holder: holder.clone() });
        let lock = Lock::take(&self.given.path, &self.folder, wait, &self.stop, &mut busy).await?;
        if lock.as_ref().is_some_and(|lock| !lock.is_on(&self.given.source.bytes)) {
            return Err(Failure::new(format!(
                "the plan file {} was changed just now",
                self.given.source.path.display()
            ))
            .hint("run apply again"));
        }
        if let Some(saved) = &self.given.saved {
            saved.check_unused(&self.folder)?;
        }
        Ok(lock)
    }

    /// Observes all steps and tells what is planned, to be made at once or not (`applying`). `None`: a signal came first.
    pub async fn survey(&self, applying: bool) -> Option<Vec<PlannedStep>> {
        let planned = tokio::select! {
            planned = survey(&self.reach, &self.steps, &self.graph, self.admit.as_ref()) => planned,
            () = self.stop.asked() => return None,
        };
        for (index, step) in planned.iter().enumerate() {
            self.report.event(&planned_event(index, step, &self.steps, applying));
        }
        // Before anything is changed: what runs now was made from what is there now.
        if planned.iter().any(PlannedStep::has_changes) {
            self.look_around().await;
        }
        Some(planned)
    }

    /// Writes the plan to a file of its own.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn save(&self, target: &Target, planned: &[PlannedStep]) -> Result<(), Failure> {
        let run = self.reach.run();
        let steps: Vec<_> = self.steps.iter().zip(planned).collect();
        let Given { origin, flags, digester, .. } = &self.given;
        let (origin, flags, fingerprints) = (origin.clone(), flags.clone(), self.fingerprints.clone());
        let saved = Saved::new(run, time(Timestamp::now()), origin, flags, digester, fingerprints, &steps);
        target.write(&saved)?;
        self.report.event(&Event::PlanSaved { id: run.to_owned(), path: target.shown() });
        Ok(())
    }

    /// Prepares for the first change: says who holds the lock, begins the journal, and uses the saved plan up.
    ///
    /// # Errors
    /// Where one of them cannot be done; nothing but the state folder was touched then.
    pub fn begin(&self, lock: &mut Lock) -> Result<(), Failure> {
        lock.register(&self.holder)?;
        self.journal.open(&self.folder, self.reach.run())?;
        self.given.saved.as_ref().map_or(Ok(()), |saved| saved.use_up(&self.folder, self.reach.run()))
    }

    /// Looks at the services that steps outside of this run tell of. Where that fails, they are not told of.
    async fn look_around(&self) {
        for step in &self.bystanders {
            tokio::select! {
                actual = self.reach.observe(step) => drop(actual),
                () = self.stop.asked() => return,
            }
        }
    }

    /// Tells what is left to a person after the changes that were made.
    pub async fn follow_up(&self) {
        if self.reach.follow_ups().is_needed() {
            self.look_around().await;
        }
        for follow_up in self.reach.follow_ups().left() {
            self.report.event(&Event::FollowUp(follow_up));
        }
    }

    /// What will be left to a person after the changes that are planned.
    pub fn foresee(&self, planned: &[PlannedStep]) -> Vec<FollowUp> {
        let steps = self.steps.iter().zip(planned);
        let changes = steps.flat_map(|(step, planned)| planned.changes().iter().map(move |change| (step, change)));
        self.reach.follow_ups().after(changes)
    }

    /// Ends the run: its last event, and its workers.
    pub async fn close(&self, outcome: Option<RunOutcome>, stopped: Option<Failure>) -> RunOutcome {
        // The workers remove what they have fetched: that is waited for, and after a signal not for one that hangs.
        tokio::select! {
            () = self.reach.end() => {}
            () = async { self.stop.asked().await; tokio::time::sleep(LAST_WAIT).await } => {}
        }
        let stopped = stopped.or_else(|| self.journal.failure());
        let outcome = match (outcome, &stopped) {
            (Some(outcome), _) => outcome,
            (None, Some(_)) => RunOutcome::Failed,
            (None, None) => self.report.outcome(),
        };
        let told = stopped.is_some();
        let (reason, hint) = stopped.map_or((None, None), |failure| (Some(failure.message), failure.hint));
        self.report.event(&Event::RunFinished { outcome, counts: self.report.counts(), reason, hint });
        if let Some(failure) = self.journal.failure().filter(|_| !told) {
            // The record of the end itself: the changes are made, and the run will be taken for one that was cut off.
            output::tell(&format!("warning: {}\n", failure.message));
        }
        outcome
    }

    /// After an apply that left nothing to do: runs that were cut off before it need nobody's attention any more.
    pub fn settle(&self) {
        let here = |step: &str| self.steps.iter().any(|known| known.id == step);
        let settled = |run: &&Unfinished| run.changes.iter().all(|change| here(&change.step));
        let runs: Vec<Unfinished> = self.cut_off.iter().filter(settled).cloned().collect();
        if let Err(failure) = journal::settle(&self.folder, &runs, self.reach.run()) {
            self.report.event(&Event::Warning { message: failure.message });
        }
    }
}

/// What passes of a step's verdict: all of it, or what a saved plan has.
fn admission(saved: Option<Saved>, now: Fingerprints) -> Arc<Admit> {
    Arc::new(move |step: &Step, verdict| match &saved {
        Some(saved) => saved.admit(&step.id, verdict, &now),
        None => verdict,
    })
}

/// What the steps' secret sources yield, and the connections'.
async fn ask_sources(
    plan_file: &PlanFile,
    plan: &Evaluated,
    stop: &Stop,
) -> Result<(HashMap<String, SecretResult>, HashMap<String, SecretResult>), Error> {
    let of_steps = || plan.steps.iter().filter_map(|step| Some((&step.id, step.resource.secret_source()?)));
    let of_connections =
        || plan.connections.iter().filter_map(|(name, spec)| Some((name, spec.as_ref().ok()?.password.as_ref()?)));
    let mut withheld = plan_file.environment_names();
    // A name can come from a template.
    withheld.extend(of_steps().chain(of_connections()).filter_map(|(_, source)| match &source.origin {
        Origin::Env(name) => Some(name.clone()),
        _ => None,
    }));
    let mut reader = SecretReader::new(withheld);
    let mut secrets = HashMap::new();
    for (id, source) in of_steps() {
        secrets.insert(id.clone(), ask(&mut reader, source, stop).await?);
    }
    let mut passwords = HashMap::new();
    for (name, source) in of_connections() {
        passwords.insert(name.clone(), ask(&mut reader, source, stop).await?);
    }
    Ok((secrets, passwords))
}

/// Tells of earlier runs of the plan file that were cut off, and of journals that are damaged.
fn tell_cut_off(folder: &StateFolder, file: &str, report: &Report) -> Vec<Unfinished> {
    let (cut_off, wrong) = match journal::cut_off(folder, file) {
        Ok(found) => found,
        Err(failure) => (Vec::new(), vec![failure.message]),
    };
    for message in wrong {
        report.event(&Event::Warning { message });
    }
    for run in &cut_off {
        report.event(&Event::RunCutOff(run.clone()));
    }
    cut_off
}

/// What a secret source yields, unless a signal comes first: a program may wait for long.
async fn ask(reader: &mut SecretReader, source: &SecretSource, stop: &Stop) -> Result<SecretResult, Error> {
    tokio::select! {
        result = reader.read(source) => Ok(result),
        () = stop.asked() => Err(Error::stopped(stop.signal().unwrap_or(2))),
    }
}

fn usable(name: &str, spec: Option<&Result<ConnectionSpec, Problem>>) -> Result<ConnectionSpec, Failure> {
    match spec {
        Some(Ok(spec)) => Ok(spec.clone()),
        Some(Err(problem)) => {
            let failure = Failure::new(format!("connection `{name}`: {}", problem.message));
            Err(Failure { hint: problem.help.clone(), ..failure })
        }
        None => Err(Failure::new(format!("there is no connection `{name}`"))),
    }
}

/// What a connection takes from the surroundings, as libpq and ssh do.
fn surroundings() -> Surroundings {
    Surroundings {
        pgpassfile: std::env::var_os("PGPASSFILE").map(PathBuf::from),
        home: std::env::var_os("HOME").map(PathBuf::from),
    }
}

/// The acting user's state folder.
pub fn state_folder() -> StateFolder {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.unwrap_or_else(|| current_user().home);
    StateFolder::of(std::env::var_os("XDG_STATE_HOME").map(PathBuf::from), &home)
}

/// The date that periods are counted by: UTC, as Redshift's own clock.
pub fn today() -> Date {
    Timestamp::now().to_zoned_datetime(TimeZone::UTC).date()
}

/// A name for this run that sorts by time and is no other run's.
fn run_id(digester: &Digester) -> String {
    let now = Timestamp::now();
    let random = digester.digest(now.as_nanosecond().to_string().as_bytes());
    format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), random.short())
}
