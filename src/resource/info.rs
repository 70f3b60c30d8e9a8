//! What is known of a kind before its steps are evaluated, and where its steps work.

use jiff::civil::Date;

use super::ObserveContext;
use crate::host::secret::{SecretSource, ends_warning};
use crate::host::warehouse::CatalogQuery;

/// A kind, as plan files, events and the engine know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindInfo {
    /// Its name in plan files and events.
    pub name: &'static str,
    /// Whether its steps work on a warehouse connection and own nothing on the host.
    pub on_warehouse: bool,
    /// Whether its changes may move someone's work aside, so that there may be rescues.
    pub keeps_rescues: bool,
    /// Whether its steps run git, which may need variables of the user's environment to log in.
    pub runs_git: bool,
    /// Whether it has follow-ups to changes of other steps. Its steps are then also observed if they are not selected.
    pub reacts: bool,
    /// Whether its notes and warnings describe the current state instead of the changes. They are outdated once the
    /// changes are made.
    pub notes_describe_state: bool,
}

impl KindInfo {
    /// Creates a kind whose steps work on the host. Callers override further fields.
    pub const fn on_host(name: &'static str) -> Self {
        Self {
            name,
            on_warehouse: false,
            keeps_rescues: false,
            runs_git: false,
            reacts: false,
            notes_describe_state: false,
        }
    }

    /// Creates a kind whose steps work on a warehouse.
    pub const fn on_warehouse(name: &'static str) -> Self {
        Self { on_warehouse: true, ..Self::on_host(name) }
    }
}

/// Where a step works.
pub enum Site<'a> {
    /// On the host, in a worker of the step's user. `secrets` are the sources of the secrets for its target, with their
    /// keys.
    Host { secrets: Vec<(&'a str, &'a SecretSource)> },
    /// In a warehouse, from the launching process. `query` returns what the step needs from the catalog as of a date,
    /// so that one read serves all steps of a connection.
    Warehouse { connection: &'a str, query: Box<dyn Fn(Date) -> CatalogQuery + 'a> },
}

impl<'a> Site<'a> {
    /// Returns the host, without secrets.
    pub fn host() -> Self {
        Self::Host { secrets: Vec::new() }
    }

    /// Returns the sources of the step's secrets.
    pub fn secrets(self) -> Vec<(&'a str, &'a SecretSource)> {
        match self {
            Self::Host { secrets } => secrets,
            Self::Warehouse { .. } => Vec::new(),
        }
    }

    /// Returns warnings about the values of the step's secrets, without the values.
    pub fn secret_warnings(self, cx: &ObserveContext) -> Vec<String> {
        let secrets = self.secrets().into_iter();
        secrets.filter_map(|(key, source)| ends_warning(source, &cx.secret_of(key)?.as_password())).collect()
    }

    /// Returns the name of the step's connection.
    pub fn connection(self) -> Option<&'a str> {
        match self {
            Self::Host { .. } => None,
            Self::Warehouse { connection, .. } => Some(connection),
        }
    }
}
