//! `repository`: a git checkout that stands on a branch, at the head which its remote has of it.
//!
//! The way of a step: [`observe`] reads the checkout and asks the remote, and where objects are missing fetches them
//! into memory-backed scratch space, never into the repository. [`diff`] decides. [`update`] and [`clone`] act, in an
//! order that can be cut off anywhere: first the rescue, then objects, files, index, and the branch last. [`rescue`]
//! and [`restore`] keep and give back what was in the way.

use crate::failure::Failure;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::value::AbsolutePath;
use super::{
    Claim, Claims, Diff, Effect, ExecuteContext, Host, KindInfo, Need, ObserveContext, Rescue, RescueAnswer,
    RescueRequest, Rescues, Resource, Site,
};
use crate::host::program;

mod access;
mod actual;
mod change;
mod clone;
mod configuration;
mod delta;
mod diff;
mod in_the_way;
mod index_file;
mod local_changes;
mod move_files;
mod observe;
mod obstacle;
mod opened;
mod path;
mod private_store;
mod reference;
mod refs;
mod remote;
mod rescue;
mod restore;
mod restore_plan;
mod scratch;
mod stash;
mod survey;
#[cfg(test)]
mod tests;
mod tree_check;
mod update;
mod waits;
mod work_area;

pub use actual::Actual;
pub use change::RepositoryChange;

/// The desired state of a checkout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// The checkout's top directory.
    #[serde(deserialize_with = "absolute")]
    pub path: PathBuf,
    /// Where to clone from. Needed only while there is no checkout; where one is, it has to agree with its remote.
    #[serde(default)]
    pub url: Option<String>,
    /// The branch, here and at the remote.
    #[serde(deserialize_with = "branch_name")]
    pub branch: String,
    /// The remote's name in the repository's configuration.
    #[serde(default = "origin", deserialize_with = "remote_name")]
    pub remote: String,
    /// What becomes of commits that the remote does not have.
    #[serde(default)]
    pub local_commits: LocalCommits,
}

/// What becomes of commits that the remote does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalCommits {
    /// Nothing: the step is blocked.
    #[default]
    Refuse,
    /// They get a name under `refs/provision/rescue`, and the branch is set to the remote's head.
    RescueAndReset,
}

fn origin() -> String {
    "origin".to_owned()
}

fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    AbsolutePath::deserialize(deserializer).map(|path| path.to_path_buf())
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
    // git2 panics at a NUL.
    if !name.contains('\0') && git2::Remote::is_valid_name(&name) {
        Ok(name)
    } else {
        Err(de::Error::custom(format!("`{name}` is not a valid name of a remote")))
    }
}

impl Resource for Repository {
    const INFO: KindInfo = KindInfo { keeps_rescues: true, ..KindInfo::on_host("repository") };
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
    type Actual = Actual;
    type Change = RepositoryChange;

    fn site(&self) -> Site<'_> {
        Site::host()
    }

    fn claims(&self, _host: &dyn Host) -> Claims {
        Claims {
            owns: vec![Claim::Checkout(self.path.clone())],
            needs: vec![Need::Path(self.path.clone())],
            edits: Vec::new(),
        }
    }

    fn manual(&self) -> Vec<String> {
        let (path, branch, remote) = (quoted(&self.path.to_string_lossy()), quoted(&self.branch), &self.remote);
        let origin = if remote == "origin" { String::new() } else { format!(" -o {}", quoted(remote)) };
        let url = self.url.as_ref().map_or("\"$URL\"".to_owned(), |url| quoted(&remote::without_password(url)));
        let mut lines = vec![format!("test -e {path} || git clone{origin} -b {branch} {url} {path}")];
        lines.push(format!("cd {path}"));
        lines.push(format!("git checkout {branch}"));
        lines.push("git pull --ff-only".to_owned());
        lines.push("# where local changes are in the way of the pull:".to_owned());
        lines.push("git stash && git pull --ff-only".to_owned());
        lines.push("git stash show --patch   # only when nothing of it is needed: git stash drop".to_owned());
        lines
    }

    fn effect(&self, change: &RepositoryChange, path: &Path) -> Effect {
        match change.touches(path) {
            true if change.replaces(path) => Effect::Replaces,
            true => Effect::Alters,
            false => Effect::None,
        }
    }

    fn rescues(&self) -> Option<&dyn Rescues> {
        Some(self)
    }

    async fn observe(&self, _look: &ObserveContext) -> Result<Actual, Failure> {
        observe::observe(self)
    }

    fn diff(&self, actual: &Actual) -> Result<Diff<RepositoryChange>, Failure> {
        diff::diff(self, actual)
    }

    fn cleanup_on_exit() {
        program::kill_all();
        scratch::cleanup_on_exit();
    }

    async fn execute(&self, change: &RepositoryChange, cx: &ExecuteContext) -> Result<(), Failure> {
        scratch::remove_stale();
        match change {
            RepositoryChange::Clone(clone) => clone::execute(self, clone),
            RepositoryChange::Update(update) => update::execute(self, update, cx.run()),
            RepositoryChange::RemoveLeftovers { .. } => work_area::remove_leftovers(&self.path),
        }
    }
}

impl Rescues for Repository {
    fn rescue(&self, request: &RescueRequest) -> Result<RescueAnswer, Failure> {
        Ok(match request {
            RescueRequest::List => {
                let rescues = restore::list(&self.path)?.into_iter().map(|rescue| Rescue {
                    id: rescue.id,
                    place: rescue.reference,
                    subject: rescue.subject,
                    files: rescue.files.iter().map(ToString::to_string).collect(),
                    way_back: rescue.way_back,
                    delete: rescue.delete,
                });
                RescueAnswer::List(rescues.collect())
            }
            RescueRequest::Show(id) => RescueAnswer::Show(restore::show(&self.path, id)?),
            RescueRequest::Restore(wanted) => {
                let paths = restore::restore(&self.path, wanted)?;
                RescueAnswer::Restore(paths.iter().map(ToString::to_string).collect())
            }
        })
    }
}

/// A word as a shell reads it back unchanged.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-@:+=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Opens the repository at `path`, and no other above it.
#[expect(clippy::disallowed_methods, reason = "this is what the others are to call")]
fn open_repository(path: &Path) -> Result<git2::Repository, git2::Error> {
    configuration::leave_out_unreachable();
    let repo = git2::Repository::open_ext(path, git2::RepositoryOpenFlags::NO_SEARCH, std::iter::empty::<&Path>())?;
    read_configuration_once(&repo)?;
    Ok(repo)
}

/// Has `repo` look up its configuration in what its files say now. libgit2 reads them anew at each look-up otherwise, and
/// where one cannot be read just then it frees what it never had (`get_entry` in its config.c), or takes its own defaults
/// for the user's wish (`crlf_check` in its crlf.c: CRLF line ends).
fn read_configuration_once(repo: &git2::Repository) -> Result<(), git2::Error> {
    repo.set_config(&repo.config()?.snapshot()?)
}

/// What libgit2 said, as the end of a sentence.
fn git_text(error: &git2::Error) -> String {
    let text = error.message().trim_end_matches('.').trim();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) if !text.starts_with(|c: char| c.is_uppercase() && text[1..].starts_with(char::is_uppercase)) => {
            first.to_lowercase().collect::<String>() + characters.as_str()
        }
        _ => text.to_owned(),
    }
}

/// A failure of a file system call: what was tried, on which path, and the system's word for it.
fn io_failure<'a>(tried: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Failure + 'a {
    move |error| Failure::new(format!("cannot {tried} {}: {}", path.display(), system_word(&error)))
}

/// The system's word for an error, without Rust's number in brackets.
fn system_word(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// A failure of libgit2.
fn git_failure<'a>(tried: &'a str, path: &'a Path) -> impl Fn(git2::Error) -> Failure + 'a {
    move |error| Failure::new(format!("cannot {tried} in {}: {}", path.display(), git_text(&error)))
}
