//! What a step owns, what it needs, and what it must not share at the same time.
//!
//! A kind states its claims as the plan file spells them. [`Claims::locate`] replaces every path by the one that it
//! leads to and every connection by the database behind it, so that two spellings of one thing compare equal. What
//! follows from the claims of all steps is decided in [`super::conflict`] and [`super::graph`].

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::period::{Every, Period};

/// All that one step claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// What the step decides on. The first one names the step's target in output.
    pub owns: Vec<Claim>,
    /// What has to be there first: steps that make it run before this one.
    pub needs: Vec<Need>,
    /// Directories in which the step edits files. Steps that share one run one at a time, in any order.
    pub edits: Vec<PathBuf>,
}

/// One thing that a step owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A file: its content, owner and mode.
    File(PathBuf),
    /// A directory; with `tree` what is below it too, but for what other steps claim there.
    Directory { path: PathBuf, tree: Option<TreeOwner> },
    /// A checkout, with everything below it.
    Checkout(PathBuf),
    /// A file in which the step sets one value and leaves the rest alone. `certain`: the value is known to live there.
    EditedFile { path: PathBuf, certain: bool },
    /// The value of one variable in a compose file; of all services where none is named.
    Variable { file: PathBuf, name: String, service: Option<String> },
    /// The value of one variable in an environment file.
    EnvVariable { file: PathBuf, name: String },
    /// A table, by its qualified name in lower case.
    Table { database: Database, name: String },
    /// The tables of a series.
    Series { database: Database, series: Series },
}

/// What a tree's step gives to the directories in it, as the plan file spells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeOwner {
    pub owner: Option<String>,
    pub group: Option<String>,
    /// Octal, or symbolic as chmod(1) takes it.
    pub mode: Option<String>,
}

/// Something that has to exist before a step can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The step works at this path: whoever makes it, or a directory or checkout around it, comes first.
    Path(PathBuf),
    /// A table, by its qualified name in lower case.
    Table { database: Database, name: String },
}

/// A database. Its tables are the same by whichever connection they are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// By the name of a connection, as the plan file has it.
    Connection(String),
    /// By what a connection leads to.
    Server {
        /// The connection's name, for output.
        connection: String,
        /// Every address and port by which the server is known to the connection.
        addresses: BTreeSet<(String, u16)>,
        name: String,
    },
}

/// Tables that differ in the period in their name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// What stands before and after the period in the qualified name, in lower case.
    pub before: String,
    pub after: String,
    pub every: Every,
    pub from: Period,
    /// The last period; none where new ones come with time.
    pub through: Option<Period>,
}

/// What a claim can depend on beside the plan file. Nothing is changed through it.
pub trait Host {
    /// The path without symlinks, as far as they can be read. What does not exist stays as it is written.
    fn path(&self, written: &Path) -> PathBuf;
    /// The content of a file, where it can be read.
    fn read(&self, path: &Path) -> Option<Vec<u8>>;
}

/// No host at all: paths are taken as they are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unseen;

impl Host for Unseen {
    fn path(&self, written: &Path) -> PathBuf {
        written.to_path_buf()
    }

    fn read(&self, _path: &Path) -> Option<Vec<u8>> {
        None
    }
}

/// The database that a connection of this name leads to; none where its settings are not known.
pub type Databases<'a> = dyn Fn(&str) -> Option<Database> + 'a;

impl Claims {
    /// The same claims by where they lead.
    pub fn locate(&self, host: &dyn Host, databases: &Databases<'_>) -> Self {
        Self {
            owns: self.owns.iter().map(|claim| claim.locate(host, databases)).collect(),
            needs: self.needs.iter().map(|need| need.locate(host, databases)).collect(),
            edits: self.edits.iter().map(|path| host.path(path)).collect(),
        }
    }
}

impl Claim {
    /// The path, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Checkout(path) | Self::Directory { path, .. } | Self::EditedFile { path, .. } => {
                Some(path)
            }
            Self::Variable { .. } | Self::EnvVariable { .. } | Self::Table { .. } | Self::Series { .. } => None,
        }
    }

    /// Whether everything below the path belongs to the step as well.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Checkout(_) | Self::Directory { tree: Some(_), .. })
    }

    fn locate(&self, host: &dyn Host, databases: &Databases<'_>) -> Self {
        let mut claim = self.clone();
        match &mut claim {
            Self::File(path)
            | Self::Checkout(path)
            | Self::Directory { path, .. }
            | Self::EditedFile { path, .. }
            | Self::Variable { file: path, .. }
            | Self::EnvVariable { file: path, .. } => *path = host.path(path),
            Self::Table { database, .. } | Self::Series { database, .. } => database.locate(databases),
        }
        claim
    }
}

impl Need {
    fn locate(&self, host: &dyn Host, databases: &Databases<'_>) -> Self {
        let mut need = self.clone();
        match &mut need {
            Self::Path(path) => *path = host.path(path),
            Self::Table { database, .. } => database.locate(databases),
        }
        need
    }
}

impl Database {
    /// Whether both lead to the same tables.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Server { addresses, name, .. },
                Self::Server { addresses: other_addresses, name: other_name, .. },
            ) => name == other_name && !addresses.is_disjoint(other_addresses),
            _ => self.connection() == other.connection(),
        }
    }

    /// The name of the connection.
    pub fn connection(&self) -> &str {
        match self {
            Self::Connection(name) | Self::Server { connection: name, .. } => name,
        }
    }

    fn locate(&mut self, databases: &Databases<'_>) {
        if let Some(found) = databases(self.connection()) {
            *self = found;
        }
    }
}

impl Series {
    /// Whether a table of this name is one of the series, now or later.
    pub fn contains(&self, table: &str) -> bool {
        let period = table.strip_prefix(self.before.as_str()).and_then(|rest| rest.strip_suffix(self.after.as_str()));
        period.and_then(|period| Period::read(self.every, period).ok()).is_some_and(|period| self.covers(period))
    }

    /// Whether both make a table of the same name.
    pub fn overlaps(&self, other: &Self) -> bool {
        let same_names = self.before == other.before && self.after == other.after && self.every == other.every;
        same_names && (self.covers(other.from) || other.covers(self.from))
    }

    fn covers(&self, period: Period) -> bool {
        period >= self.from && self.through.is_none_or(|through| period <= through)
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Checkout(path) | Self::Directory { path, .. } | Self::EditedFile { path, .. } => {
                write!(f, "{}", path.display())
            }
            Self::Variable { file, name, service: None } | Self::EnvVariable { file, name } => {
                write!(f, "{name} in {}", file.display())
            }
            Self::Variable { file, name, service: Some(service) } => {
                write!(f, "{name} of {service} in {}", file.display())
            }
            Self::Table { database, name } => write!(f, "table {name} of {}", database.connection()),
            Self::Series { database, series: Series { before, after, .. } } => {
                write!(f, "table {before}{{period}}{after} of {}", database.connection())
            }
        }
    }
}
