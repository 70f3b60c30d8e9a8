//! What adopt is asked for, and what goes from one of its parts to the next.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::warehouse::TableName;
use crate::resource::adopt::Adopted;

/// What is to be adopted, as a person names it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Directories, checkouts and private keys.
    pub paths: Vec<PathBuf>,
    /// Compose files, each with a variable in it.
    pub variables: Vec<(PathBuf, String)>,
    pub tables: Vec<TableName>,
    /// Names with `{period}` in them, each with the table that it is like where that is said.
    pub series: Vec<(String, Option<TableName>)>,
    /// The environment variable that holds the warehouse's URL.
    pub url_env: String,
    /// The environment variable that holds its password, where the URL does not.
    pub password_env: Option<String>,
    pub environment: Environment,
}

/// Why there is no plan file.
#[derive(Debug)]
pub enum NotAdopted {
    /// All that cannot be adopted, and why.
    Failures(Vec<Failure>),
    /// This signal came first.
    Stopped(i32),
}

impl From<Failure> for NotAdopted {
    fn from(failure: Failure) -> Self {
        Self::Failures(vec![failure])
    }
}

impl From<Vec<Failure>> for NotAdopted {
    fn from(failures: Vec<Failure>) -> Self {
        Self::Failures(failures)
    }
}

/// A step that is about to be written.
pub(super) struct Item {
    pub kind: &'static str,
    pub run_as: Option<String>,
    pub adopted: Adopted,
}

/// The connection of the steps on a warehouse.
pub(super) struct Connection {
    pub url_env: String,
    pub password_env: Option<String>,
}

impl Connection {
    /// Its name in the plan file.
    pub const NAME: &'static str = "warehouse";
}
