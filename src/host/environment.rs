//! The environment that the person who started the program gave it, as a value: it is read once, at the start, and a run
//! can be given another one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::state::StateFolder;

/// Environment variables. `Debug` shows their names alone, since their values may be secrets.
#[derive(Clone, Default)]
pub struct Environment {
    process: BTreeMap<OsString, OsString>,
    /// What a request gives for the plan file alone: no part of any process's environment.
    given: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The same environment with values that answer a plan file, and nobody else, before those of the process.
    pub fn with_given(mut self, given: impl IntoIterator<Item = (String, String)>) -> Self {
        self.given = given.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self
    }

    /// Returns the value of a variable of the process, unless it is unset.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.process.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Returns the value of a variable that a plan file names, unless it is unset.
    pub fn answer(&self, name: &str) -> Option<&OsStr> {
        self.given.get(OsStr::new(name)).map(OsString::as_os_str).or_else(|| self.get(name))
    }

    /// Returns the value of a variable as a path, unless it is unset.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// Returns the variables whose names and values are UTF-8: those that a plan file's templates can read.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let text = |value: &OsString| value.to_str().map(str::to_owned);
        let variables = self.process.iter().chain(&self.given);
        variables.filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
    }

    /// Returns the state folder of the user whose home directory is `home` unless `HOME` names another one.
    pub fn state_folder(&self, home: PathBuf) -> StateFolder {
        let home = self.path("HOME").filter(|home| home.is_absolute()).unwrap_or(home);
        StateFolder::of(self.path("XDG_STATE_HOME"), &home)
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self { process: variables.into_iter().collect(), given: BTreeMap::new() }
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.process.keys().chain(self.given.keys())).finish()
    }
}
