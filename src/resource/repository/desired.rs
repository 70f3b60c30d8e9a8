//! The desired state of a checkout, as a plan file has it.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::git::remote::{self, CheckoutState, Site};
use crate::resource::value::AbsolutePath;

/// The desired state of a checkout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// The checkout's top directory.
    #[serde(deserialize_with = "absolute")]
    pub path: PathBuf,
    /// Where to clone from. Needed only if there is no checkout. An existing one has to have this remote.
    #[serde(default, deserialize_with = "url")]
    pub url: Option<String>,
    /// The branch, here and at the remote.
    #[serde(deserialize_with = "branch_name")]
    pub branch: String,
    /// The remote's name in the repository's configuration.
    #[serde(default = "origin", deserialize_with = "remote_name")]
    pub remote: String,
    /// What happens to commits that the remote does not have.
    #[serde(default)]
    pub local_commits: LocalCommits,
}

/// What happens to commits that the remote does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalCommits {
    /// The step is blocked.
    #[default]
    Refuse,
    /// They are named under `refs/provision/rescue`, and the branch is reset to the remote's head.
    RescueAndReset,
}

impl Repository {
    /// Returns the step's remote at `url`, which may be another URL than the step's.
    pub fn remote_at<'a>(&'a self, url: &'a str, checkout: CheckoutState<'a>) -> Site<'a> {
        // A rotated token reaches a checkout that was cloned with the old one.
        let login = self.url.as_deref().filter(|own| *own != url && remote::same_url(own, url));
        Site { remote: &self.remote, url, login, branch: &self.branch, top: &self.path, checkout }
    }
}

fn origin() -> String {
    "origin".to_owned()
}

fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    AbsolutePath::deserialize(deserializer).map(|path| path.to_path_buf())
}

/// git resolves a relative path in the directory where it is started. A plan file has no such directory.
fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let url = Option::<String>::deserialize(deserializer)?;
    match url.as_deref().and_then(remote::local_path) {
        // It is not quoted, because it may be a mistaken URL with a password.
        Some(path) if !path.starts_with('/') => Err(de::Error::custom(
            "the url is a relative path; give the absolute path of the repository, or a URL such as \
             `git@git.example:team/code.git`",
        )),
        _ => Ok(url),
    }
}

fn branch_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match git2::Branch::name_is_valid(&name) {
        Ok(true) => Ok(name),
        _ => Err(de::Error::custom(format!("`{name}` is not a valid branch name"))),
    }
}

fn remote_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    // git2 panics if there is a NUL.
    if !name.contains('\0') && git2::Remote::is_valid_name(&name) {
        Ok(name)
    } else {
        Err(de::Error::custom(format!("`{name}` is not a valid name of a remote")))
    }
}
