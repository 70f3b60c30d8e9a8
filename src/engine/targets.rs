//! Reaches the targets of the steps: workers for steps on the host, connections for steps on a warehouse.

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
use crate::plan::claim::{Claim, Claims, Database, Unseen};
use crate::plan::conflict::{Conflict, conflicts};
use crate::plan_file::{Diagnostic, Evaluated};
use crate::resource::Step;
use crate::resource::{AnyActual, AnyChange, ExecuteContext, ObserveContext, RescueAnswer, RescueRequest, Site};
use crate::worker::{Progress, Task, Tasks, Workers};

/// Observes and executes the steps of one run.
pub struct Targets {
    workers: Workers,
    warehouses: BTreeMap<String, Result<Arc<Warehouse>, SecretError>>,
    /// Steps whose secret source could not be read.
    without_secret: HashMap<String, SecretError>,
    /// Warnings about secret sources, by step id.
    warnings: HashMap<String, Vec<String>>,
    digester: Digester,
    run: String,
    as_of: Date,
    follow_ups: FollowUps,
    /// Where each connection leads.
    databases: BTreeMap<String, Database>,
    /// What each step was observed to own, by the index of the step.
    observed_claims: Mutex<BTreeMap<usize, Vec<Claim>>>,
}

impl Targets {
    /// Prepares all targets. Starts no worker and opens no connection yet.
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
        let mut queries: BTreeMap<String, CatalogQuery> = BTreeMap::new();
        let mut without_secret = HashMap::new();
        let warnings = steps.iter().map(|step| (step.id.clone(), secrets.warnings(step).to_vec())).collect();
        for (index, step) in steps.into_iter().enumerate() {
            if let Site::Warehouse { connection, query } = step.resource.site() {
                queries.entry(connection.to_owned()).or_default().extend(query(as_of));
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
        let warehouses = queries
            .into_iter()
            .map(|(name, query)| {
                let warehouse = warehouse(&name, query, plan, secrets, environment).map(Arc::new);
                (name, warehouse)
            })
            .collect();
        let workers = Workers::new(
            run.clone(),
            digester.clone(),
            users,
            (secrets.for_git().clone(), environment.names()),
            progress,
        );
        Self {
            workers,
            warehouses,
            without_secret,
            warnings,
            digester,
            run,
            as_of,
            follow_ups: FollowUps::default(),
            databases: plan
                .connections
                .iter()
                .filter_map(|(name, spec)| Some((name.clone(), spec.as_ref().ok()?.database(name))))
                .collect(),
            observed_claims: Mutex::default(),
        }
    }

    /// Returns why the secret of the step, or of its connection, could not be read.
    pub fn secret_error(&self, step: &Step) -> Option<&SecretError> {
        match step.resource.connection() {
            Some(connection) => self.warehouses.get(connection)?.as_ref().err(),
            None => self.without_secret.get(&step.id),
        }
    }

    /// Returns the warnings about the secret sources of a step.
    pub fn warnings(&self, step: &Step) -> &[String] {
        self.warnings.get(&step.id).map_or(&[], Vec::as_slice)
    }

    /// Observes a step.
    ///
    /// # Errors
    /// The failure of its kind, or why the target cannot be reached.
    pub async fn observe(&self, step: &Step) -> Result<AnyActual, Failure> {
        if let Some(error) = self.secret_error(step) {
            return Err(error.failure().clone());
        }
        let actual = match step.resource.connection() {
            Some(connection) => step.resource.observe(&self.context(connection)?).await,
            None => self.workers.observe(step.run_as.as_deref(), &step.id).await,
        }?;
        self.follow_ups.record_observation(step, &actual);
        Ok(actual)
    }

    /// Records what the step at `index` was observed to own. Returns a conflict with another step, if there is one: with what
    /// that step was observed to own, or with what it owns by the plan file.
    pub fn conflict(&self, index: usize, claims: Vec<Claim>, steps: &[Step]) -> Option<(usize, Conflict)> {
        if claims.is_empty() {
            return None;
        }
        let locator = Locator::default();
        let of = |owns: &[Claim]| Claims { owns: owns.to_vec(), ..Claims::default() };
        let located = |claims: &Claims| claims.locate(&locator, &|name| self.databases.get(name).cloned());
        let own = of(&claims);
        let own_located = located(&own);
        let against = |theirs: Claims| {
            let theirs_located = located(&theirs);
            conflicts(&[theirs, own.clone()], &[theirs_located, own_located.clone()]).into_iter().next()
        };
        // If two steps own the same table on the server, only the later one in the plan file is blocked.
        let by_plan_file = steps.iter().enumerate().filter(|(other, _)| *other != index);
        let mut conflict = by_plan_file
            .filter_map(|(other, step)| {
                let mut theirs = step.resource.claims(&Unseen).owns;
                theirs.retain(|claim| other < index || !claim.is_of_tables());
                Some((other, against(of(&theirs))?))
            })
            .next();
        let mut seen = self.observed_claims.lock().unwrap_or_else(PoisonError::into_inner);
        if conflict.is_none() {
            let observed = seen.iter().filter(|(other, _)| **other != index);
            conflict = observed.filter_map(|(other, theirs)| Some((*other, against(of(theirs))?))).next();
        }
        if conflict.is_none() {
            seen.insert(index, claims);
        }
        conflict
    }

    /// Forgets the observations of the step, including failed ones, because earlier steps may have changed the target.
    pub async fn forget(&self, step: &Step) {
        let warehouse = step.resource.connection().and_then(|name| self.warehouses.get(name));
        if let Some(Ok(warehouse)) = warehouse {
            warehouse.invalidate().await;
        }
    }

    /// Makes one change.
    ///
    /// # Errors
    /// The failure of its kind, or why the target cannot be reached.
    pub async fn execute(&self, step: &Step, change: &AnyChange) -> Result<(), Failure> {
        match step.resource.connection() {
            Some(connection) => {
                let cx = ExecuteContext::new(self.context(connection)?, &self.run);
                step.resource.execute(change, &cx).await
            }
            None => self.workers.execute(step.run_as.as_deref(), &step.id, change).await,
        }?;
        self.follow_ups.record_change(step, change);
        Ok(())
    }

    /// Returns the follow-ups of everything that was observed and changed through this.
    pub fn follow_ups(&self) -> &FollowUps {
        &self.follow_ups
    }

    /// Asks a step for its rescues.
    ///
    /// # Errors
    /// The failure of its kind, or why the target cannot be reached.
    pub async fn rescue(&self, step: &Step, request: RescueRequest) -> Result<RescueAnswer, Failure> {
        self.workers.rescue(step.run_as.as_deref(), &step.id, request).await
    }

    /// Returns the id of the run.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Ends the workers.
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

/// Prepares a connection without opening it.
fn warehouse(
    name: &str,
    query: CatalogQuery,
    plan: &Evaluated,
    secrets: &RunSecrets,
    environment: &Environment,
) -> Result<Warehouse, SecretError> {
    let given = secrets.of_connection(name)?;
    let spec = usable(name, plan.connections.get(name)).map_err(SecretError::Unreadable)?;
    let warehouse = Warehouse::new(name, spec, given, ClientDefaults::of(environment), query);
    Ok(warehouse.with_renewed_password(secrets.withheld().clone()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan_file::{Inputs, PlanFile, Selection};

    /// Redshift ignores case. Before it answers, the two names are those of two tables.
    #[test]
    fn of_two_tables_that_are_one_on_the_server_the_later_step_is_blocked() {
        let tables = ["s.a", r#"s."A""#];
        for tables in [tables, [tables[1], tables[0]]] {
            let steps = tables.iter().enumerate().map(|(number, table)| {
                format!("  - {{ id: t{number}, table: {{ connection: w, ddl: 'CREATE TABLE {table} (c int)' }} }}\n")
            });
            let text = format!(
                "name: x\nconnections: {{ w: {{ url: 'postgresql://u@h/d' }} }}\nsteps:\n{}",
                steps.collect::<String>()
            );
            let plan_file = PlanFile::parse("x.yaml", &text).unwrap();
            let plan = plan_file.evaluate(&Inputs::default(), &Selection::default()).unwrap();
            let (secrets, environment) = (RunSecrets::default(), Environment::default());
            let (digester, as_of) = (Digester::with_key([0; 32]), jiff::civil::date(2026, 3, 1));
            let targets =
                Targets::new("run".into(), as_of, digester, &plan, &secrets, &environment, Arc::new(|_: &str, _| ()));
            let on_redshift = || vec![Claim::Table { database: Database::Connection("w".into()), name: "s.a".into() }];
            assert!(targets.conflict(0, on_redshift(), &plan.steps).is_none(), "{tables:?}");
            let (other, _) = targets.conflict(1, on_redshift(), &plan.steps).unwrap();
            assert_eq!(other, 0, "{tables:?}");
        }
    }
}
