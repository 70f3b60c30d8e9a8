//! Writes a plan file of what a host has already, and plans it before it gives it away: no step of it changes anything.

mod check;
mod look;
mod request;
mod subject;
mod write;

use std::collections::BTreeSet;

use crate::engine::run::today;
use crate::engine::stop::Stop;

use request::Connection;
pub use request::{NotAdopted, Request};

/// The text of a plan file for all that is named. Nothing is changed on the way, and planning the text shows no change and no
/// failure. The same host and request give the same text.
///
/// # Errors
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
    let subjects = subject::find(request, &mut failures);
    let (on_warehouse, on_host): (Vec<_>, Vec<_>) = subjects.into_iter().partition(subject::is_on_warehouse);
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
    let written = write::plan_file(items, connection.as_ref());
    let unset: BTreeSet<String> = written.secrets.iter().cloned().collect();
    check::plans_empty(&written, request.environment.clone().without(&unset), as_of).await?;
    Ok(written.text)
}
