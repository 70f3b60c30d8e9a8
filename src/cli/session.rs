//! What plan and apply share: from arguments to a survey.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};

use super::Error;
use super::args::RunArguments;
use super::inputs;
use crate::engine::event::{Event, FORMAT, Planned, RunOutcome, Sink};
use crate::engine::order::Order;
use crate::engine::reach::{Reach, Yielded};
use crate::engine::report::Report;
use crate::engine::step::Step;
use crate::engine::stop::Stop;
use crate::engine::survey::{PlannedStep, planned_event, survey};
use crate::host::secret::{Digester, Secret, SecretSource};
use crate::host::secret_source;
use crate::host::warehouse::{ConnectionSpec, Surroundings, Warehouse};
use crate::plan_file::{Problem, Selection};
use crate::render::{Human, Json};
use crate::resource::Failure;
use crate::worker::current_user;

/// One run, ready to observe.
pub struct Session {
    pub steps: Arc<Vec<Step>>,
    pub deselected: Vec<(String, &'static str)>,
    bystanders: Vec<Step>,
    pub order: Order,
    pub reach: Arc<Reach>,
    pub report: Arc<Report>,
    pub stop: Stop,
}

impl Session {
    /// Reads, evaluates and judges the plan file, asks the secret sources, and announces the run.
    ///
    /// # Errors
    /// Where the plan file, the flags or the environment are wrong; nothing was touched then.
    pub async fn open(command: &'static str, arguments: &RunArguments) -> Result<Self, Error> {
        let plan_file = inputs::plan_file(arguments.file.as_deref())?;
        let selection = Selection { only: arguments.only.clone(), skip: arguments.skip.clone() };
        let plan = plan_file.evaluate(&inputs::inputs(&arguments.variables), &selection)?;
        let order = Order::of(&plan.steps)
            .map_err(|cycle| Failure::new(format!("steps wait for each other: {}", cycle.join(" -> "))))?;
        let as_of = arguments.as_of.unwrap_or_else(today);
        let stop = Stop::listen().map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))?;
        let digester =
            Digester::fresh().map_err(|error| Failure::new(format!("cannot get random numbers: {error}")))?;
        let hidden = plan_file.environment_names();
        let mut secrets = HashMap::new();
        for step in &plan.steps {
            if let Some(source) = step.resource.secret_source() {
                secrets.insert(step.id.clone(), ask(source, &hidden, &stop).await?);
            }
        }
        let mut passwords: HashMap<String, Yielded> = HashMap::new();
        for (name, spec) in &plan.connections {
            if let Some(source) = spec.as_ref().ok().and_then(|spec| spec.password.as_ref()) {
                passwords.insert(name.clone(), ask(source, &hidden, &stop).await?);
            }
        }
        let run = run_id(&digester);
        let connections = &plan.connections;
        let reachable = [plan.steps.as_slice(), &plan.bystanders].concat();
        let reach = Reach::new(run.clone(), as_of, digester, &reachable, secrets, &mut |name, wanted| {
            let password = passwords.remove(name).unwrap_or(Ok(None))?;
            let password = password.map(|secret: Secret| secret.without_line_ending());
            Ok(Warehouse::new(name, usable(name, connections.get(name))?, password, surroundings(), wanted))
        });
        let sink: Box<dyn Sink> = if arguments.json { Box::new(Json::default()) } else { Box::new(Human::default()) };
        let report = Arc::new(Report::new(sink));
        report.event(&Event::RunStarted {
            format: FORMAT,
            command,
            plan: plan.name,
            file: plan_file.path().to_owned(),
            run,
            host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            user: current_user().name,
            as_of: as_of.to_string(),
        });
        Ok(Self {
            steps: Arc::new(plan.steps),
            deselected: plan.deselected,
            bystanders: plan.bystanders,
            order,
            reach: Arc::new(reach),
            report,
            stop,
        })
    }

    /// Observes all steps and tells what is planned. `None`: a signal came first.
    pub async fn survey(&self) -> Option<Vec<PlannedStep>> {
        let planned = tokio::select! {
            planned = survey(&self.reach, &self.steps, &self.order) => planned,
            () = self.stop.asked() => return None,
        };
        for (index, step) in planned.iter().enumerate() {
            self.report.event(&planned_event(index, step, &self.steps));
        }
        // Before anything is changed: what runs now was made from what is there now.
        if planned.iter().any(|step| step.outcome() == Planned::Changes) {
            self.look_around().await;
        }
        Some(planned)
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
        for event in self.reach.follow_ups().events() {
            self.report.event(&event);
        }
    }

    /// Tells what will be left to a person after the changes that are planned.
    pub fn foresee(&self, planned: &[PlannedStep]) {
        for (step, planned) in self.steps.iter().zip(planned) {
            for change in planned.changes() {
                self.reach.follow_ups().changed(step, change);
            }
        }
        for event in self.reach.follow_ups().events() {
            self.report.event(&event);
        }
    }

    /// Ends the run: its last event, and its workers.
    pub async fn close(&self, outcome: Option<RunOutcome>, stopped: Option<Failure>) -> RunOutcome {
        if self.stop.signal().is_none() {
            self.reach.end().await;
        }
        let outcome = outcome.unwrap_or_else(|| self.report.outcome());
        let (reason, hint) = stopped.map_or((None, None), |failure| (Some(failure.message), failure.hint));
        self.report.event(&Event::RunFinished { outcome, counts: self.report.counts(), reason, hint });
        outcome
    }
}

/// What a secret source yields, unless a signal comes first: a program may wait for long.
async fn ask(source: &SecretSource, hidden: &BTreeSet<String>, stop: &Stop) -> Result<Yielded, Error> {
    tokio::select! {
        yielded = secret_source::read(source, hidden) => Ok(yielded),
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
