//! Turns subjects into steps. Observes what exists in the same way as a plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::civil::Date;
use serde_json::json;

use super::request::{Connection, Item};
use crate::engine::run::RunSecrets;
use crate::engine::targets::Targets;
use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::secret::{Digester, SecretReader};
use crate::host::warehouse::{CatalogQuery, ClientDefaults, ConnectionSpec, NO_PASSWORD, Warehouse};
use crate::plan_file::{Evaluated, Relations};
use crate::resource::adopt::{Subject, cannot};
use crate::resource::{AnyResource, Prose, Step, adoptions_from_catalog};

/// Returns the steps for what is on the host. Adds what cannot be adopted to `failures`.
///
/// # Errors
/// The system cannot provide random numbers.
pub async fn at_host(
    subjects: &[Subject],
    environment: &Environment,
    as_of: Date,
    failures: &mut Vec<Failure>,
) -> Result<Vec<Item>, Failure> {
    // A subject gets a step of each kind that it may belong to.
    let mut steps: Vec<(usize, Result<Step, Failure>)> = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        for (kind, probe) in AnyResource::probes(subject).into_iter().enumerate() {
            let step = probe.map(|probe| Step {
                id: format!("{index}.{kind}"),
                prose: Prose::default(),
                run_as: probe.run_as,
                after: Vec::new(),
                max_changes: None,
                companions: Vec::new(),
                resource: probe.resource,
            });
            steps.push((index, step));
        }
    }
    let targets = targets(steps.iter().filter_map(|(_, step)| step.as_ref().ok()), environment, as_of)?;
    let mut items = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        let mut result = Err(Failure::new("no kind has steps for it"));
        for (_, step) in steps.iter().filter(|(of, _)| *of == index) {
            result = match step {
                Ok(step) => adopt(&targets, step).await,
                Err(failure) => Err(failure.clone()),
            };
            if result.is_ok() {
                break;
            }
        }
        match result {
            Ok(mut item) => {
                item.adopted.comments.extend(subject.comments());
                items.push(item);
            }
            Err(failure) => failures.push(cannot(&subject.to_string(), failure)),
        }
    }
    targets.end().await;
    Ok(items)
}

async fn adopt(targets: &Targets, step: &Step) -> Result<Item, Failure> {
    let actual = targets.observe(step).await?;
    let adopted = step.resource.adopt(&actual)?;
    Ok(Item { kind: step.resource.kind(), run_as: step.run_as.clone(), adopted })
}

fn targets<'a>(
    steps: impl Iterator<Item = &'a Step>,
    environment: &Environment,
    as_of: Date,
) -> Result<Targets, Failure> {
    let digester = Digester::fresh()?;
    let evaluated = Evaluated {
        name: "adopt".to_owned(),
        steps: steps.cloned().collect(),
        deselected: Vec::new(),
        observed_only: Vec::new(),
        connections: Default::default(),
        relations: Relations::default(),
    };
    let (secrets, nobody) = (RunSecrets::default(), Arc::new(|_: &str, _: String| ()));
    Ok(Targets::new("adopt".to_owned(), as_of, digester, &evaluated, &secrets, environment, nobody))
}

/// Returns the steps for what is in the warehouse, in the order of the kinds.
///
/// # Errors
/// The warehouse cannot be reached, or something on it cannot be adopted.
pub async fn at_warehouse(
    subjects: &[Subject],
    connection: &Connection,
    environment: &Environment,
    as_of: Date,
) -> Result<Vec<Item>, Vec<Failure>> {
    let (mut query, mut failures) = (CatalogQuery::default(), Vec::new());
    let kinds = adoptions_from_catalog();
    for subject in subjects {
        match kinds.iter().find_map(|(_, kind)| (kind.query)(subject)) {
            Some(Ok(wanted)) => query.extend(wanted),
            Some(Err(failure)) => failures.push(cannot(&subject.to_string(), failure)),
            None => failures.push(cannot(&subject.to_string(), Failure::new("no kind has steps for it"))),
        }
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    let warehouse = connection.open(query.clone(), environment).await.map_err(|failure| vec![failure])?;
    let catalog = warehouse.restricted_catalog(&query).await.map_err(|failure| vec![with_option(failure)])?;
    let mut items = Vec::new();
    for (name, kind) in kinds {
        let own: Vec<Subject> = subjects.iter().filter(|subject| (kind.query)(subject).is_some()).cloned().collect();
        match (kind.steps)(&own, &catalog, as_of) {
            Ok(steps) => items.extend(steps.into_iter().map(|adopted| Item { kind: name, run_as: None, adopted })),
            Err(found) => failures.extend(found),
        }
    }
    if failures.is_empty() { Ok(items) } else { Err(failures) }
}

/// Returns the failure with a hint for this command: `adopt` has an option instead of a key of the plan file.
fn with_option(failure: Failure) -> Failure {
    if failure.hint.as_deref() != Some(NO_PASSWORD) {
        return failure;
    }
    failure
        .hint("run `export DATABASE_PASSWORD='…'` and add --password-env DATABASE_PASSWORD, or add a line to ~/.pgpass")
}

impl Connection {
    /// Prepares the connection without opening it.
    async fn open(&self, query: CatalogQuery, environment: &Environment) -> Result<Warehouse, Failure> {
        let name = &self.url_env;
        let Some(url) = environment.answer(name).filter(|url| !url.is_empty()) else {
            return Err(Failure::new(format!(
                "the environment variable {name} is not set, and it names the warehouse"
            ))
            .hint(format!(
                "`export {name}='postgresql://USER@HOST:PORT/DATABASE'`, or name another variable: --url-env NAME"
            )));
        };
        let url = url.to_str().ok_or_else(|| Failure::new(format!("the value of {name} is not UTF-8")))?;
        let password = self.password_env.as_ref().map(|name| json!({ "env": name }));
        // None of its error messages contains a value.
        let spec = serde_json::from_value::<ConnectionSpec>(json!({ "url": url, "password": password }));
        let spec = spec.map_err(|error| {
            let text = error.to_string();
            Failure::new(format!("{name}: {}", text.lines().next().unwrap_or_default()))
        })?;
        let defaults = ClientDefaults::of(environment);
        let spec = spec.completed(&defaults).map_err(|incomplete| {
            let failure = Failure::from(incomplete);
            let message = format!("{name}: {}", failure.message);
            Failure { message, ..failure }
        })?;
        let password = match &spec.password {
            Some(source) => {
                let mut reader = SecretReader::new(environment.clone(), BTreeSet::new());
                reader.read(source).await.map_err(|error| error.failure().clone())?
            }
            None => None,
        };
        Ok(Warehouse::new(Self::NAME, spec, password, defaults, query))
    }
}
