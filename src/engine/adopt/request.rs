//! The request to adopt, and the data that its parts exchange.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::host::environment::Environment;
use crate::host::warehouse::TableName;
use crate::resource::adopt::Adopted;

/// What a person wants to adopt.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Directories, checkouts and private keys.
    pub paths: Vec<PathBuf>,
    /// Compose files, each with a variable in it.
    pub variables: Vec<(PathBuf, String)>,
    pub tables: Vec<TableName>,
    /// Names with `{period}` in them, each with its parent table if one was given.
    pub series: Vec<(String, Option<TableName>)>,
    /// The environment variable that holds the warehouse's URL.
    pub url_env: String,
    /// The environment variable that holds its password, if the URL does not contain it.
    pub password_env: Option<String>,
    pub environment: Environment,
}

/// Why no plan file was written.
#[derive(Debug)]
pub enum NotAdopted {
    /// Everything that cannot be adopted, and why.
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

/// A step to write.
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
