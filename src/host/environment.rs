//! The environment. [`Environment`] is the environment in which the program was started, as a value. It is read once at the
//! start, and a run can be given a different one. The functions read the environment of this process, which in a worker is
//! that of its user.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::secret::Secret;

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

    /// Returns the names of the variables of the process that are UTF-8.
    pub fn names(&self) -> Vec<String> {
        self.process.keys().filter_map(|name| name.to_str().map(str::to_owned)).collect()
    }

    /// Returns the variables that git may get beside those of a worker: all but those in `withheld`, those that direct git itself, and
    /// those whose value shows a secret.
    pub fn for_git(&self, withheld: &BTreeSet<String>, shows_secret: impl Fn(&str) -> bool) -> Variables {
        let is_passed_on = |(name, value): &(&OsString, &OsString)| {
            let name = name.to_string_lossy();
            // A worker keeps those that say how remotes are reached. GIT_DIR and others would lead it to another repository.
            (!name.starts_with("GIT_") || is_for_logins(&name))
                && name != "PGPASSWORD"
                && !withheld.contains(&*name)
                && !shows_secret(&value.to_string_lossy())
        };
        let owned = |(name, value): (&OsString, &OsString)| (name.clone(), Secret::copy_of(value.as_bytes()));
        self.process.iter().filter(is_passed_on).map(owned).collect()
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

/// Environment variables for a program. Their values may be secrets.
pub type Variables = Vec<(OsString, Secret)>;

/// What git gets beside the environment of this process, and the names of all variables of the launching process.
static FOR_GIT: OnceLock<(Variables, Vec<String>)> = OnceLock::new();

/// What credential helpers and ssh read to log in.
const FOR_LOGINS: [&str; 25] = [
    "BITBUCKET_TOKEN",
    "CI_JOB_TOKEN",
    "DBUS_SESSION_BUS_ADDRESS",
    "GH_CONFIG_DIR",
    "GH_ENTERPRISE_TOKEN",
    "GH_HOST",
    "GH_TOKEN",
    "GITHUB_ENTERPRISE_TOKEN",
    "GITHUB_TOKEN",
    "GITLAB_HOST",
    "GITLAB_TOKEN",
    "GIT_PASSWORD",
    "GIT_TOKEN",
    "GIT_USERNAME",
    "GLAB_CONFIG_DIR",
    "GNUPGHOME",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GPG_TTY",
    "KRB5CCNAME",
    "KRB5_CONFIG",
    "PASSWORD_STORE_DIR",
    "SSH_AUTH_SOCK",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];
/// The prefixes of the variables that the tools of cloud providers read.
const FOR_LOGINS_AT: [&str; 3] = ["AWS_", "AZURE_", "CLOUDSDK_"];

/// Returns whether credential helpers or ssh use a variable to log in. git gets no others, unless its configuration names them:
/// they may be secrets of other programs, or make git write files (`SSLKEYLOGFILE`) or ask (`SSH_ASKPASS`).
pub fn is_for_logins(name: &str) -> bool {
    FOR_LOGINS.contains(&name) || FOR_LOGINS_AT.iter().any(|prefix| name.starts_with(prefix))
}

/// Sets what git gets beside the environment of this process, which is a worker, and the names of all variables of the launcher.
pub fn set_for_git(variables: Variables, of_launcher: Vec<String>) {
    let _ = FOR_GIT.set((variables, of_launcher));
}

/// Returns the names of the launcher's variables that git does not get here.
pub fn withheld_from_git() -> Vec<&'static str> {
    let Some((variables, of_launcher)) = FOR_GIT.get() else { return Vec::new() };
    let is_passed_on = |name: &str| variable(name).is_some() || variables.iter().any(|(known, _)| known == name);
    of_launcher.iter().map(String::as_str).filter(|name| !is_passed_on(name)).collect()
}

/// Returns what git gets beside the environment of this process, which takes precedence: what is for logins, and what its own
/// configuration names.
pub fn for_git(is_named: impl Fn(&str) -> bool) -> impl Iterator<Item = (&'static OsStr, &'static OsStr)> {
    let variables = FOR_GIT.get().into_iter().flat_map(|(variables, _)| variables);
    let set = variables.map(|(name, value)| (name.as_os_str(), OsStr::from_bytes(value.expose())));
    set.filter(move |(name, _)| {
        name.to_str().is_some_and(|name| variable(name).is_none() && (is_for_logins(name) || is_named(name)))
    })
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

/// Returns the first program of this name in the search path.
pub fn program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|folder| folder.join(name)).find(|program| {
        program.is_absolute()
            && fs::metadata(program).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_may_get_variables_for_logins_but_no_secret() {
        let variables = [
            ("GITHUB_TOKEN", "t"),
            ("AWS_PROFILE", "p"),
            ("DEPLOY", "a word and s3cret"),
            ("OWN", "x"),
            ("NAMED", "n"),
            ("GIT_DIR", "/elsewhere"),
            ("GIT_TOKEN", "t"),
            ("PGPASSWORD", "p"),
        ];
        let environment: Environment =
            variables.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        let withheld = BTreeSet::from(["NAMED".to_owned()]);
        let given = environment.for_git(&withheld, |value| value.contains("s3cret"));
        let names: Vec<_> = given.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["AWS_PROFILE", "GITHUB_TOKEN", "GIT_TOKEN", "OWN"]);
        let for_logins: Vec<_> = names.into_iter().filter(|name| is_for_logins(name)).collect();
        assert_eq!(for_logins, ["AWS_PROFILE", "GITHUB_TOKEN", "GIT_TOKEN"], "the others have to be named");
        assert!(!is_for_logins("SSLKEYLOGFILE") && !is_for_logins("SSH_ASKPASS"));
    }
}
