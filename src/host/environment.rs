//! The environment. [`Environment`] is the environment in which the program was started, as a value. It is read once at the
//! start, and a run can be given a different one. The functions read the environment of this process, which in a worker is
//! that of its user.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::state::StateFolder;

/// Environment variables. `Debug` shows only names, because values may be secrets.
#[derive(Clone, Default)]
pub struct Environment {
    process: BTreeMap<OsString, OsString>,
    /// Values that a request gives for the plan file. They are in no process's environment.
    given: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// Adds values for a plan file. They take precedence over the environment of the process, and are used for nothing
    /// else.
    pub fn with_given(mut self, given: impl IntoIterator<Item = (String, String)>) -> Self {
        self.given = given.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self
    }

    /// The same environment without these variables.
    pub fn without(mut self, names: &BTreeSet<String>) -> Self {
        for variables in [&mut self.process, &mut self.given] {
            variables.retain(|name, _| !name.to_str().is_some_and(|name| names.contains(name)));
        }
        self
    }

    /// Returns the value of a variable of the process, if it is set.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.process.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Returns the value of a variable that a plan file names, if it is set.
    pub fn answer(&self, name: &str) -> Option<&OsStr> {
        self.given.get(OsStr::new(name)).map(OsString::as_os_str).or_else(|| self.get(name))
    }

    /// Returns the value of a variable as a path, if it is set.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// Returns the variables with UTF-8 names and values, which templates can read.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let text = |value: &OsString| value.to_str().map(str::to_owned);
        let variables = self.process.iter().chain(&self.given);
        variables.filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
    }

    /// Returns the state folder of the user with the given home directory. `HOME` overrides the home directory.
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

/// Returns a variable of this process, unless it is unset.
#[expect(clippy::disallowed_methods, reason = "the one place, beside the start of the program and of a worker")]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Returns a variable of this process as text, unless it is unset, empty or not UTF-8.
pub fn text(name: &str) -> Option<String> {
    variable(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// Returns the home directory of the acting user, unless `HOME` is unset.
pub fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from)
}

/// Returns the search path for programs; empty if `PATH` is unset.
pub fn search_path() -> OsString {
    variable("PATH").unwrap_or_default()
}

/// Returns the working directory, or `/` if it no longer exists.
#[expect(clippy::disallowed_methods, reason = "the one place, beside the start of the program and of a worker")]
pub fn current_directory() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
}

/// Returns the directory for temporary files, which `TMPDIR` names.
#[expect(clippy::disallowed_methods, reason = "the one place, beside the start of the program and of a worker")]
pub fn temporary_directory() -> PathBuf {
    std::env::temp_dir()
}
