//! Writes a plan file for what a host already has. It is planned before it is printed, to make sure that none of its steps
//! changes anything.

mod check;
mod look;
mod request;
mod write;

use std::collections::BTreeSet;

use crate::engine::run::today;
use crate::engine::stop::Stop;
use crate::failure::Failure;
use crate::host::fs::escape_path;
use crate::resource::adopt::{Subject, cannot};

use request::Connection;
pub use request::{NotAdopted, Request};

/// Returns the text of a plan file for everything that is named. Changes nothing on the host. A plan of the text has no changes
/// and no failures. The same host and request give the same text.
///
/// # Errors
/// Something cannot be adopted, or a signal came first.
/// What of it cannot be adopted.
pub async fn adopt(request: Request) -> Result<String, NotAdopted> {
    let stop = Stop::listen()?;
    tokio::select! {
        result = write_plan_file(&request) => result,
        () = stop.asked() => Err(NotAdopted::Stopped(stop.signal().unwrap_or(2))),
    }
}

async fn write_plan_file(request: &Request) -> Result<String, NotAdopted> {
    let as_of = today();
    let mut failures = Vec::new();
    let subjects = find(request, &mut failures);
    let (on_warehouse, on_host): (Vec<_>, Vec<_>) = subjects.into_iter().partition(Subject::is_on_warehouse);
    let mut items = look::at_host(&on_host, &request.environment, as_of, &mut failures).await?;
    let mut connection = None;
    if !on_warehouse.is_empty() {
        let Request { url_env, password_env, environment, .. } = request;
        let found = Connection { url_env: url_env.clone(), password_env: password_env.clone() };
        match look::at_warehouse(&on_warehouse, &found, environment, as_of).await {
            Ok(found) => items.extend(found),
            Err(found) => failures.extend(found),
        }
        connection = Some(found);
    }
    if !failures.is_empty() {
        return Err(failures.into());
    }
    let written = write::plan_file(items, connection.as_ref(), &|name| request.environment.answer(name).is_some());
    let unset: BTreeSet<String> = written.secrets.iter().cloned().collect();
    check::plans_empty(&written, request.environment.clone().without(&unset), as_of).await?;
    Ok(written.text)
}

/// Returns the subjects in the order in which they were named, each once. Adds what cannot be adopted to `failures`.
fn find(request: &Request, failures: &mut Vec<Failure>) -> Vec<Subject> {
    let Request { paths, variables, tables, series, .. } = request;
    let paths = paths.iter().map(|path| (path, Subject::at_path(path)));
    let variables = variables.iter().map(|(file, name)| (file, Subject::variable(file, name)));
    let mut subjects = Vec::new();
    for (path, subject) in paths.chain(variables) {
        match subject {
            Ok(subject) => subjects.push(subject),
            Err(failure) => failures.push(cannot(&escape_path(path), failure)),
        }
    }
    subjects.extend(tables.iter().cloned().map(Subject::Table));
    subjects.extend(series.iter().cloned().map(|(name, like)| Subject::Series { name, like }));
    let mut known = BTreeSet::new();
    subjects.retain(|subject| known.insert(subject.identity()));
    subjects
}
