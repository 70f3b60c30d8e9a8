//! What a step owns, what it needs, and what it must not share while it runs.
//!
//! A kind states its claims as the plan file spells them. [`Claims::locate`] resolves paths and connections, so that
//! two spellings of the same thing compare equal. [`super::conflict`] and [`super::graph`] decide what follows from the
//! claims of all steps.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use super::series::Series;

/// The claims of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// What the step controls. The first one is the step's target in output.
    pub owns: Vec<Claim>,
    /// The file or directory that the step creates if it does not exist.
    pub creates: Option<PathBuf>,
    /// What has to exist first. Steps that create it run before this one.
    pub needs: Vec<Need>,
    /// Directories in which the step edits files. Steps with a common directory run one at a time, in any order.
    pub edits: Vec<PathBuf>,
}

/// One thing that a step owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A file: its content, owner and mode.
    File(PathBuf),
    /// A directory. With `tree` it includes everything below, except what other steps claim there.
    Directory { path: PathBuf, tree: Option<TreeOwner> },
    /// A checkout, with everything below it.
    Checkout(PathBuf),
    /// A file in which the step sets one value, or may set one.
    EditedFile { path: PathBuf, usage: FileUse },
    /// The value of one variable in a compose file. Without `service` it applies to all services.
    Variable { file: PathBuf, name: String, service: Option<String> },
    /// The value of one variable in an environment file.
    EnvVariable { file: PathBuf, name: String },
    /// A table. The name is qualified and as PostgreSQL stores it.
    Table { database: Database, name: String },
    /// The tables of a series.
    Series { database: Database, series: Series },
}

/// What a step does with a file whose whole content it does not own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileUse {
    /// It sets a value in the file.
    Edits,
    /// It may set a value in the file, and may not need it at all.
    MayEdit,
    /// It needs the file, and is not known to set a value in it.
    Needs,
}

/// The owner, group and mode that a step gives to the directories of its tree, as spelled in the plan file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeOwner {
    pub owner: Option<String>,
    pub group: Option<String>,
    /// Octal, or symbolic as accepted by chmod(1).
    pub mode: Option<String>,
}

/// Something that other steps make before a step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The step works at this path. The step that creates it, or a directory or checkout around it, runs first.
    Path(PathBuf),
    /// The step reads what is at this path or below it, if anything is. The step that makes it, or a checkout around it, runs first,
    /// unless it waits for this one. If it fails, this step is tried all the same.
    Read(PathBuf),
    /// A symlink on the way to a path of the step. A checkout that contains it can change it, so the checkout runs first, unless it
    /// waits for this step.
    Link(PathBuf),
    /// A table. The name is qualified and as PostgreSQL stores it. Redshift ignores case, so a step that makes such a name in another
    /// case runs first as well.
    Table { database: Database, name: String },
}

/// A database. Its tables are the same through every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// The name of a connection in the plan file.
    Connection(String),
    /// The server that a connection leads to.
    Server {
        /// The name of the connection, for output.
        connection: String,
        /// All addresses and ports of the server that the connection knows.
        addresses: BTreeSet<(String, u16)>,
        name: String,
    },
}

/// What claims need to know about the host. It allows only reads.
pub trait Host {
    /// Resolves symlinks as far as they can be read. The part of a path that does not exist is kept as written.
    fn path(&self, written: &Path) -> PathBuf;
    /// Returns the symlinks on the way to a path, with their own directories resolved.
    fn links(&self, _written: &Path) -> Vec<PathBuf> {
        Vec::new()
    }
    /// Returns the content of a file, if it can be read.
    fn read(&self, path: &Path) -> Option<Vec<u8>>;
}

/// A host without files: paths are kept as written.
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

/// Returns the database of a connection, or `None` if its settings are not known.
pub type Databases<'a> = dyn Fn(&str) -> Option<Database> + 'a;

impl Claims {
    /// Returns the claims with resolved paths and databases. The symlinks that lead to them are needs as well.
    pub fn locate(&self, host: &dyn Host, databases: &Databases<'_>) -> Self {
        let read = self.needs.iter().filter_map(|need| match need {
            Need::Read(path) => Some(path.as_path()),
            _ => None,
        });
        let needed = self.needs.iter().filter_map(|need| match need {
            Need::Path(path) => Some(path.as_path()),
            _ => None,
        });
        let used = self.owns.iter().filter_map(Claim::file_or_directory).chain(needed);
        let links: BTreeSet<PathBuf> = used.flat_map(|path| host.links(path)).collect();
        let read_links: BTreeSet<PathBuf> = read.flat_map(|path| host.links(path)).collect();
        let needs = self.needs.iter().map(|need| need.locate(host, databases));
        let needs = needs.chain(read_links.into_iter().map(Need::Read)).chain(links.into_iter().map(Need::Link));
        Self {
            owns: self.owns.iter().map(|claim| claim.locate(host, databases)).collect(),
            creates: self.creates.as_ref().map(|path| host.path(path)),
            needs: needs.collect(),
            edits: self.edits.iter().map(|path| host.path(path)).collect(),
        }
    }
}

impl Claim {
    /// Whether it is about tables of a warehouse.
    pub fn is_of_tables(&self) -> bool {
        matches!(self, Self::Table { .. } | Self::Series { .. })
    }

    /// Returns the path of the claim, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Checkout(path) | Self::Directory { path, .. } | Self::EditedFile { path, .. } => {
                Some(path)
            }
            Self::Variable { .. } | Self::EnvVariable { .. } | Self::Table { .. } | Self::Series { .. } => None,
        }
    }

    /// Returns the file or directory that the claim is about, whole or in part; `None` for a checkout and for tables.
    pub fn file_or_directory(&self) -> Option<&Path> {
        match self {
            Self::File(path)
            | Self::Directory { path, .. }
            | Self::EditedFile { path, .. }
            | Self::Variable { file: path, .. }
            | Self::EnvVariable { file: path, .. } => Some(path),
            Self::Checkout(_) | Self::Table { .. } | Self::Series { .. } => None,
        }
    }

    /// Returns whether everything below the path belongs to the step as well.
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
            Self::Path(path) | Self::Read(path) => *path = host.path(path),
            // What it leads to is another path.
            Self::Link(_) => {}
            Self::Table { database, .. } => database.locate(databases),
        }
        need
    }
}

impl Database {
    /// Returns whether both have the same tables.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Server { addresses, name, .. },
                Self::Server { addresses: other_addresses, name: other_name, .. },
            ) => name == other_name && !addresses.is_disjoint(other_addresses),
            _ => self.connection() == other.connection(),
        }
    }

    /// Returns the name of the connection.
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
