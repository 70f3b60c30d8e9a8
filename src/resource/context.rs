//! What the engine hands to a kind: [`Look`] to observe with, [`Act`] to execute with.

use crate::host::secret::{Digester, Secret};

/// What a kind may use to observe. It offers no way to write.
#[derive(Clone)]
pub struct Look {
    digester: Digester,
    secret: Option<Secret>,
}

impl Look {
    /// A view for one host step. `secret` is what the step's source yielded, if it yielded anything.
    pub fn on_host(digester: Digester, secret: Option<Secret>) -> Self {
        Self { digester, secret }
    }

    /// A view for one step of a warehouse.
    pub fn on_warehouse(
        digester: Digester,
        _: std::sync::Arc<crate::host::warehouse::Warehouse>,
        _: jiff::civil::Date,
    ) -> Self {
        Self { digester, secret: None }
    }

    /// Makes the digests under which secrets are compared.
    pub fn digester(&self) -> &Digester {
        &self.digester
    }

    /// What the step's secret source yielded.
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }
}

/// What a kind may use to execute: all of [`Look`], and the run that the change belongs to.
#[derive(Clone)]
pub struct Act {
    look: Look,
    run: String,
}

impl Act {
    /// The means to make the changes of one step in the run named `run`.
    pub fn new(look: Look, run: impl Into<String>) -> Self {
        Self { look, run: run.into() }
    }

    /// The run's id, letters and digits and hyphens alone: rescues are named by it.
    pub fn run(&self) -> &str {
        &self.run
    }
}

impl std::ops::Deref for Act {
    type Target = Look;

    fn deref(&self) -> &Look {
        &self.look
    }
}
