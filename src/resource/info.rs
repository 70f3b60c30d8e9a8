//! What is known of a kind before a step of it is evaluated, and where its steps do their work.

use jiff::civil::Date;

use crate::host::secret::SecretSource;
use crate::host::warehouse::CatalogQuery;

/// A kind, as plan files, events and the engine know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindInfo {
    /// Its name in the plan file and in events.
    pub name: &'static str,
    /// The keys under which a step has the source of a secret.
    pub secret_keys: &'static [&'static str],
    /// Whether its steps work on a warehouse, by a connection, and own nothing of the host.
    pub on_warehouse: bool,
    /// Whether its changes may take somebody's work out of the way, so that there may be rescues.
    pub keeps_rescues: bool,
    /// Whether it has follow-ups to other steps' changes: a step outside of a run is observed for them.
    pub reacts: bool,
    /// Whether its notes and warnings describe the present state, not what the changes do: once those are made, they are
    /// no longer true.
    pub notes_describe_state: bool,
}

impl KindInfo {
    /// A kind whose steps work on the host. Constants add what else there is to it.
    pub const fn on_host(name: &'static str) -> Self {
        Self {
            name,
            secret_keys: &[],
            on_warehouse: false,
            keeps_rescues: false,
            reacts: false,
            notes_describe_state: false,
        }
    }

    /// A kind whose steps work on a warehouse.
    pub const fn on_warehouse(name: &'static str) -> Self {
        Self { on_warehouse: true, ..Self::on_host(name) }
    }
}

/// Where a step does its work.
pub enum Site<'a> {
    /// On the host, in a worker of its user. `secrets` are the sources of the secrets that it puts into its target, each
    /// with the key that names it.
    Host { secrets: Vec<(&'a str, &'a SecretSource)> },
    /// In a warehouse, by this connection, in the launching process. `query` is what the step reads of the catalog as of a
    /// day, so that one read serves all steps of a connection.
    Warehouse { connection: &'a str, query: Box<dyn Fn(Date) -> CatalogQuery + 'a> },
}

impl<'a> Site<'a> {
    /// The host, without a secret.
    pub fn host() -> Self {
        Self::Host { secrets: Vec::new() }
    }

    /// The sources of the step's secrets.
    pub fn secrets(self) -> Vec<(&'a str, &'a SecretSource)> {
        match self {
            Self::Host { secrets } => secrets,
            Self::Warehouse { .. } => Vec::new(),
        }
    }

    /// The connection that the step works by.
    pub fn connection(self) -> Option<&'a str> {
        match self {
            Self::Host { .. } => None,
            Self::Warehouse { connection, .. } => Some(connection),
        }
    }
}
