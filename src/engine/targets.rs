//! How the engine reaches what a step is about: a worker for what is on the host, a connection for what is in a
//! warehouse.

use crate::failure::Failure;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::civil::Date;

use super::follow_up::FollowUps;
use super::run::RunSecrets;
use crate::host::environment::Environment;
use crate::host::fs::Locator;
use crate::host::secret::{Digester, SecretError};
use crate::host::warehouse::{CatalogQuery, ClientDefaults, ConnectionSpec, Warehouse};
use crate::plan::claim::{Claim, Claims};
use crate::plan::conflict::conflicts;
use crate::plan_file::{Diagnostic, Evaluated};
use crate::resource::Step;
use crate::resource::{AnyActual, AnyChange, ExecuteContext, ObserveContext, RescueAnswer, RescueRequest, Site};
use crate::worker::{Progress, Task, Tasks, Workers};

/// The means to observe and to execute every step of one run.
pub struct Targets {
    workers: Workers,
    warehouses: BTreeMap<String, Result<Arc<Warehouse>, SecretError>>,
    /// Steps whose secret source has no value to give.
    without_secret: HashMap<String, SecretError>,
    digester: Digester,
    run: String,
    as_of: Date,
    follow_ups: FollowUps,
    /// What each step was seen to own when it was observed, by its place.
    observed_claims: Mutex<BTreeMap<usize, Vec<Claim>>>,
}

impl Targets {
    /// Prepares the ways to all steps; nothing is started or connected yet.
    pub fn new(
        run: String,
        as_of: Date,
        digester: Digester,
        plan: &Evaluated,
        secrets: &RunSecrets,
        environment: &Environment,
        progress: Arc<Progress>,
    ) -> Self {
        let steps: Vec<&Step> = plan.steps.iter().chain(&plan.observed_only).collect();
        let mut users: BTreeMap<Option<String>, Tasks> = BTreeMap::new();
        let mut wanted: BTreeMap<String, CatalogQuery> = BTreeMap::new();
        let mut without_secret = HashMap::new();
        for (index, step) in steps.into_iter().enumerate() {
            if let Site::Warehouse { connection, query } = step.resource.site() {
                wanted.entry(connection.to_owned()).or_default().extend(query(as_of));
                continue;
            }
            let secrets = secrets.of_step(&step.id).unwrap_or_else(|error| {
                without_secret.insert(step.id.clone(), error);
                BTreeMap::new()
            });
            let task = Task {
                id: step.id.clone(),
                resource: step.resource.clone(),
                max_changes: step.max_changes,
                below: plan.relations.below.get(index).cloned().unwrap_or_default(),
                above: plan.relations.above.get(index).cloned().unwrap_or_default(),
            };
            users.entry(step.run_as.clone()).or_default().push((task, secrets));
        }
        let warehouses = wanted
            .into_iter()
            .map(|(name, wanted)| {
                let warehouse = warehouse(&name, wanted, plan, secrets, environment).map(Arc::new);
                (name, warehouse)
            })
            .collect();
        let workers = Workers::new(run.clone(), digester.clone(), users, progress);
        Self {
            workers,
            warehouses,
            without_secret,
            digester,
            run,
            as_of,
            follow_ups: FollowUps::default(),
            observed_claims: Mutex::default(),
        }
    }

    /// Why the source of the step's secret, or of its connection's, has no value to give.
    pub fn secret_error(&self, step: &Step) -> Option<&SecretError> {
        match step.resource.connection() {
            Some(connection) => self.warehouses.get(connection)?.as_ref().err(),
            None => self.without_secret.get(&step.id),
        }
    }

    /// Observes a step.
    ///
    /// # Errors
    /// What its kind says, or why it cannot be reached.
    pub async fn observe(&self, step: &Step) -> Result<AnyActual, Failure> {
        if let Some(error) = self.secret_error(step) {
            return Err(error.failure().clone());
        }
        let actual = match step.resource.connection() {
            Some(connection) => step.resource.observe(&self.context(connection)?).await,
            None => self.workers.observe(step.run_as.as_deref(), &step.id).await,
        }?;
        self.follow_ups.saw(step, &actual);
        Ok(actual)
    }

    /// Takes note of what the step at `index` was seen to own, and tells which other step owns the same.
    pub fn conflict(&self, index: usize, claims: Vec<Claim>) -> Option<(usize, Claim)> {
        if claims.is_empty() {
            return None;
        }
        let located = |claims: &[Claim]| {
            Claims { owns: claims.to_vec(), ..Claims::default() }.locate(&Locator::default(), &|_| None)
        };
        let mut seen = self.observed_claims.lock().unwrap_or_else(PoisonError::into_inner);
        let conflict = seen.iter().filter(|(other, _)| **other != index).find_map(|(other, theirs)| {
            let pair = [
                Claims { owns: theirs.clone(), ..Claims::default() },
                Claims { owns: claims.clone(), ..Claims::default() },
            ];
            let found = conflicts(&pair, &[located(theirs), located(&claims)]);
            found.into_iter().next().map(|conflict| (*other, conflict.claim))
        });
        if conflict.is_none() {
            seen.insert(index, claims);
        }
        conflict
    }

    /// Forgets what was read for the step, and that it could not be read: steps before it may have changed that.
    pub async fn forget(&self, step: &Step) {
        let warehouse = step.resource.connection().and_then(|name| self.warehouses.get(name));
        if let Some(Ok(warehouse)) = warehouse {
            warehouse.invalidate().await;
        }
    }

    /// Makes one change.
    ///
    /// # Errors
    /// What its kind says, or why it cannot be reached.
    pub async fn execute(&self, step: &Step, change: &AnyChange) -> Result<(), Failure> {
        match step.resource.connection() {
            Some(connection) => {
                let cx = ExecuteContext::new(self.context(connection)?, &self.run);
                step.resource.execute(change, &cx).await
            }
            None => self.workers.execute(step.run_as.as_deref(), &step.id, change).await,
        }?;
        self.follow_ups.changed(step, change);
        Ok(())
    }

    /// What was seen and changed through this, for what is left to do afterwards.
    pub fn follow_ups(&self) -> &FollowUps {
        &self.follow_ups
    }

    /// Asks a step about what its changes took out of the way.
    ///
    /// # Errors
    /// What its kind says, or why it cannot be reached.
    pub async fn rescue(&self, step: &Step, request: RescueRequest) -> Result<RescueAnswer, Failure> {
        self.workers.rescue(step.run_as.as_deref(), &step.id, request).await
    }

    /// The run's id.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Why one of the steps' users cannot be acted as, where a step has shown that already.
    pub fn worker_failure(&self) -> Option<Failure> {
        self.workers.not_started()
    }

    /// Ends what was started.
    pub async fn end(&self) {
        self.workers.end().await;
    }

    fn context(&self, connection: &str) -> Result<ObserveContext, Failure> {
        let warehouse = self.warehouses.get(connection);
        let warehouse =
            warehouse.ok_or_else(|| Failure::new(format!("there is no connection `{connection}` in this run")))?;
        let warehouse = warehouse.as_ref().map_err(|error| error.failure().clone())?;
        Ok(ObserveContext::on_warehouse(self.digester.clone(), Arc::clone(warehouse), self.as_of))
    }
}

/// Prepares a connection; nothing is connected yet.
fn warehouse(
    name: &str,
    wanted: CatalogQuery,
    plan: &Evaluated,
    secrets: &RunSecrets,
    environment: &Environment,
) -> Result<Warehouse, SecretError> {
    let password = secrets.of_connection(name)?.map(|secret| secret.as_password());
    let spec = usable(name, plan.connections.get(name)).map_err(SecretError::Unreadable)?;
    Ok(Warehouse::new(name, spec, password, ClientDefaults::of(environment), wanted))
}

fn usable(name: &str, spec: Option<&Result<ConnectionSpec, Diagnostic>>) -> Result<ConnectionSpec, Failure> {
    match spec {
        Some(Ok(spec)) => Ok(spec.clone()),
        Some(Err(problem)) => {
            let failure = Failure::new(format!("connection `{name}`: {}", problem.message));
            Err(Failure { hint: problem.help.clone(), ..failure })
        }
        None => Err(Failure::new(format!("there is no connection `{name}`"))),
    }
}
