//! What the engine hands to a kind: [`ObserveContext`] to observe with, [`ExecuteContext`] to execute with.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;

use super::Failure;
use crate::host::secret::{Digester, Secret};
use crate::host::warehouse::Warehouse;
use crate::plan::conflict::{ClaimedBelow, TreeAbove};

/// What a kind may use to observe. It offers no way to write.
#[derive(Clone)]
pub struct ObserveContext {
    digester: Digester,
    /// By the key under which the step has the source.
    secrets: BTreeMap<String, Secret>,
    progress: Option<Arc<dyn Fn(String) + Send + Sync>>,
    below: Arc<Vec<ClaimedBelow>>,
    above: Arc<Vec<TreeAbove>>,
    /// The step's warehouse, and the day for which periods are reckoned.
    warehouse: Option<(Arc<Warehouse>, Date)>,
}

impl ObserveContext {
    /// A view of the host for one step. `secrets` are what its sources yielded, by the keys under which it has them.
    pub fn on_host(digester: Digester, secrets: BTreeMap<String, Secret>) -> Self {
        Self { digester, secrets, progress: None, below: Arc::default(), above: Arc::default(), warehouse: None }
    }

    /// A view of a warehouse as of a day: today in UTC, or the day that `--as-of` says.
    pub fn on_warehouse(digester: Digester, warehouse: Arc<Warehouse>, as_of: Date) -> Self {
        Self { warehouse: Some((warehouse, as_of)), ..Self::on_host(digester, BTreeMap::new()) }
    }

    /// The same view with somebody who waits for news of long work.
    pub fn with_progress(mut self, progress: Arc<dyn Fn(String) + Send + Sync>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Tells how far long work has come, in a few words (`12,000 entries`), if anybody waits for it.
    pub fn progress(&self, text: impl FnOnce() -> String) {
        if let Some(progress) = &self.progress {
            progress(text());
        }
    }

    /// The same view for a step below whose path other steps own these.
    pub fn with_claimed_below(mut self, below: Vec<ClaimedBelow>) -> Self {
        self.below = Arc::new(below);
        self
    }

    /// The same view for a step that makes things in trees of other steps.
    pub fn with_trees_above(mut self, above: Vec<TreeAbove>) -> Self {
        self.above = Arc::new(above);
        self
    }

    /// The trees of other steps around the step's path, the innermost first.
    pub fn trees_above(&self) -> &[TreeAbove] {
        &self.above
    }

    /// What other steps own below the step's path, and this step leaves to them.
    pub fn claimed_below(&self) -> &[ClaimedBelow] {
        &self.below
    }

    /// Makes the digests under which secrets are compared.
    pub fn digester(&self) -> &Digester {
        &self.digester
    }

    /// What the step's only secret source yielded.
    pub fn secret(&self) -> Option<&Secret> {
        self.secrets.values().next()
    }

    /// What the secret source under this key of the step yielded.
    pub fn secret_of(&self, key: &str) -> Option<&Secret> {
        self.secrets.get(key)
    }

    /// The warehouse of the step's connection.
    pub fn warehouse(&self) -> Result<&Arc<Warehouse>, Failure> {
        let (warehouse, _) = self.warehouse.as_ref().ok_or_else(no_warehouse)?;
        Ok(warehouse)
    }

    /// The day for which periods are reckoned.
    pub fn as_of(&self) -> Result<Date, Failure> {
        let (_, as_of) = self.warehouse.as_ref().ok_or_else(no_warehouse)?;
        Ok(*as_of)
    }
}

fn no_warehouse() -> Failure {
    Failure::new("the step was given no connection to a warehouse")
}

/// What a kind may use to execute: all of [`ObserveContext`], and the run that the change belongs to.
#[derive(Clone)]
pub struct ExecuteContext {
    cx: ObserveContext,
    run: String,
    at_most: Option<u64>,
}

impl ExecuteContext {
    /// The means to make the changes of one step in the run named `run`.
    pub fn new(cx: ObserveContext, run: impl Into<String>) -> Self {
        Self { cx, run: run.into(), at_most: None }
    }

    /// The same means for a step that may change so many things and no more.
    pub fn with_max_changes(mut self, max_changes: Option<u64>) -> Self {
        self.at_most = max_changes;
        self
    }

    /// How many things one change may alter, whatever has come since it was planned.
    pub fn max_changes(&self) -> u64 {
        self.at_most.unwrap_or(u64::MAX)
    }

    /// The run's id, letters and digits and hyphens alone: rescues are named by it.
    pub fn run(&self) -> &str {
        &self.run
    }
}

impl std::ops::Deref for ExecuteContext {
    type Target = ObserveContext;

    fn deref(&self) -> &ObserveContext {
        &self.cx
    }
}
