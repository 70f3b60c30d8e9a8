//! The contexts that the engine passes to a kind: [`ObserveContext`] and [`ExecuteContext`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;

use super::Failure;
use crate::host::secret::{Digester, Secret};
use crate::host::state::StateFolder;
use crate::host::warehouse::Warehouse;
use crate::plan::conflict::{ClaimedBelow, TreeAbove};

/// What a kind may use to observe. It offers no way to write.
#[derive(Clone)]
pub struct ObserveContext {
    digester: Digester,
    /// By the key of the source in the step.
    secrets: BTreeMap<String, Secret>,
    progress: Option<Arc<dyn Fn(String) + Send + Sync>>,
    below: Arc<Vec<ClaimedBelow>>,
    above: Arc<Vec<TreeAbove>>,
    state_folder: Option<StateFolder>,
    /// The warehouse of the step, and the date that determines the current period.
    warehouse: Option<(Arc<Warehouse>, Date)>,
}

impl ObserveContext {
    /// Creates the context of a step on the host. `secrets` are the values of its sources, by key.
    pub fn on_host(digester: Digester, secrets: BTreeMap<String, Secret>) -> Self {
        let (below, above) = (Arc::default(), Arc::default());
        Self { digester, secrets, progress: None, below, above, state_folder: None, warehouse: None }
    }

    /// Creates the context of a step on a warehouse. `as_of` is today in UTC, or the date of `--as-of`.
    pub fn on_warehouse(digester: Digester, warehouse: Arc<Warehouse>, as_of: Date) -> Self {
        Self { warehouse: Some((warehouse, as_of)), ..Self::on_host(digester, BTreeMap::new()) }
    }

    /// Adds a receiver for progress messages.
    pub fn with_progress(mut self, progress: Arc<dyn Fn(String) + Send + Sync>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Reports the progress of long work in a few words (`12,000 entries`), if there is a receiver.
    pub fn progress(&self, text: impl FnOnce() -> String) {
        if let Some(progress) = &self.progress {
            progress(text());
        }
    }

    /// Adds what other steps own below the step's path.
    pub fn with_claimed_below(mut self, below: Vec<ClaimedBelow>) -> Self {
        self.below = Arc::new(below);
        self
    }

    /// Adds the trees of other steps in which this step creates things.
    pub fn with_trees_above(mut self, above: Vec<TreeAbove>) -> Self {
        self.above = Arc::new(above);
        self
    }

    /// The same view for a user whose runs leave things for later ones in this folder.
    pub fn with_state_folder(mut self, folder: StateFolder) -> Self {
        self.state_folder = Some(folder);
        self
    }

    /// The state folder of the user that the step acts as.
    ///
    /// # Errors
    /// The step is not on the host.
    pub fn state_folder(&self) -> Result<&StateFolder, Failure> {
        self.state_folder.as_ref().ok_or_else(|| Failure::new("the step was given no state folder"))
    }

    /// Returns the trees of other steps around the step's path, innermost first.
    pub fn trees_above(&self) -> &[TreeAbove] {
        &self.above
    }

    /// Returns what other steps own below the step's path. This step leaves it alone.
    pub fn claimed_below(&self) -> &[ClaimedBelow] {
        &self.below
    }

    /// Returns the digester for comparing secrets.
    pub fn digester(&self) -> &Digester {
        &self.digester
    }

    /// Returns the value of the step's only secret source.
    pub fn secret(&self) -> Option<&Secret> {
        self.secrets.values().next()
    }

    /// Returns the value of the secret source with this key.
    pub fn secret_of(&self, key: &str) -> Option<&Secret> {
        self.secrets.get(key)
    }

    /// Returns the warehouse of the step's connection.
    pub fn warehouse(&self) -> Result<&Arc<Warehouse>, Failure> {
        let (warehouse, _) = self.warehouse.as_ref().ok_or_else(no_warehouse)?;
        Ok(warehouse)
    }

    /// Returns the date that determines the current period.
    pub fn as_of(&self) -> Result<Date, Failure> {
        let (_, as_of) = self.warehouse.as_ref().ok_or_else(no_warehouse)?;
        Ok(*as_of)
    }
}

fn no_warehouse() -> Failure {
    Failure::new("the step has no connection to a warehouse")
}

/// What a kind may use to execute: an [`ObserveContext`], and the run that the change belongs to.
#[derive(Clone)]
pub struct ExecuteContext {
    cx: ObserveContext,
    run: String,
    max_changes: Option<u64>,
}

impl ExecuteContext {
    /// Creates the context for the changes of one step in the run `run`.
    pub fn new(cx: ObserveContext, run: impl Into<String>) -> Self {
        Self { cx, run: run.into(), max_changes: None }
    }

    /// Limits the number of things that the step may change.
    pub fn with_max_changes(mut self, max_changes: Option<u64>) -> Self {
        self.max_changes = max_changes;
        self
    }

    /// Returns how many things one change may alter, even if more have appeared since it was planned.
    pub fn max_changes(&self) -> u64 {
        self.max_changes.unwrap_or(u64::MAX)
    }

    /// Returns the run's id. It consists of letters, digits and hyphens, because rescues are named after it.
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
