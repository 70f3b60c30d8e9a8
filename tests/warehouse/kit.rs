//! One step on one warehouse without an engine: observe, diff, execute, observe again.

use provision::failure::Failure;
use std::sync::Arc;

use jiff::civil::Date;
use provision::host::secret::{Digester, Secret};
use provision::host::warehouse::{CatalogQuery, ClientDefaults, ConnectionSpec, Warehouse};
use provision::resource::period_tables::PeriodTables;
use provision::resource::table::Table;
use provision::resource::{Change, Diff, ExecuteContext, ObserveContext, Resource};

/// The date of the tests unless they set another.
pub const DAY: &str = "2026-02-10";

pub fn spec(lines: &str) -> ConnectionSpec {
    serde_yaml::from_str(lines).unwrap_or_else(|error| panic!("{lines}: {error}"))
}

/// Creates a connection with a URL and more lines of the plan file.
pub fn connect_with(url: &str, lines: &str, password: Option<&str>) -> Arc<Warehouse> {
    connect_from(ClientDefaults::default(), url, lines, password)
}

/// The same with a home directory or `PGPASSFILE`.
pub fn connect_from(defaults: ClientDefaults, url: &str, lines: &str, password: Option<&str>) -> Arc<Warehouse> {
    let url = serde_json::to_string(url).unwrap();
    let password = password.map(|password| Secret::new(password.as_bytes().to_vec()));
    let spec = spec(&format!("url: {url}\n{lines}")).completed(&defaults).unwrap();
    Arc::new(Warehouse::new("warehouse", spec, password, defaults, CatalogQuery::default()))
}

pub fn connect(url: &str) -> Arc<Warehouse> {
    connect_with(url, "", None)
}

pub fn table(ddl: &str, lines: &str) -> Table {
    let ddl = serde_json::to_string(ddl).unwrap();
    serde_yaml::from_str(&format!("connection: warehouse\nddl: {ddl}\n{lines}")).unwrap()
}

pub fn periods(lines: &str) -> PeriodTables {
    serde_yaml::from_str(&format!("connection: warehouse\nevery: half_year\nfrom: 2025_h2\n{lines}")).unwrap()
}

pub fn observe_context(warehouse: &Arc<Warehouse>, day: &str) -> ObserveContext {
    let day: Date = day.parse().unwrap();
    ObserveContext::on_warehouse(Digester::with_key([7; 32]), Arc::clone(warehouse), day)
}

/// Returns the first statement of a hint, which is in backticks, or else the hint.
pub fn statement(hint: &str) -> &str {
    let mut parts = hint.split('`').skip(1).step_by(2);
    parts.find(|part| part.ends_with(';')).unwrap_or(hint)
}

/// Returns what a fresh observation shows to be done.
pub async fn plan<R: Resource>(step: &R, warehouse: &Arc<Warehouse>, day: &str) -> Result<Diff<R::Change>, Failure> {
    warehouse.invalidate().await;
    let actual = step.observe(&observe_context(warehouse, day)).await.unwrap();
    step.diff(&actual)
}

/// Returns the summaries of the changes.
pub fn summaries<C: Change>(diff: &Diff<C>) -> Vec<String> {
    diff.changes.iter().map(|change| change.describe().summary).collect()
}

/// Makes the changes of a fresh observation as the engine does, checking each one again before it is made.
pub async fn try_apply<R: Resource>(step: &R, warehouse: &Arc<Warehouse>, day: &str) -> Result<Vec<String>, Failure> {
    let context = ExecuteContext::new(observe_context(warehouse, day), "run");
    let decide = |actual: &R::Actual| step.diff(actual).map_err(|refusal| Failure::new(refusal.message));
    warehouse.invalidate().await;
    let planned = decide(&step.observe(&context).await?)?;
    let mut done = Vec::new();
    for change in &planned.changes {
        warehouse.invalidate().await;
        let now = decide(&step.observe(&context).await?)?;
        if !now.changes.contains(change) {
            continue;
        }
        step.execute(change, &context).await?;
        done.push(change.describe().summary);
    }
    let left = decide(&step.observe(&context).await?)?;
    assert_eq!(summaries(&left), Vec::<String>::new(), "an apply that succeeded leaves nothing to do");
    Ok(done)
}

pub async fn apply<R: Resource>(step: &R, warehouse: &Arc<Warehouse>, day: &str) -> Vec<String> {
    try_apply(step, warehouse, day).await.unwrap_or_else(|failure| panic!("{failure:?}"))
}
