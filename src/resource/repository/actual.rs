//! What was observed of a checkout.

use serde::{Deserialize, Serialize};

use crate::git::{Obstacle, RepoPath};
use crate::resource::{DeployedCommit, Lines, Modes};

/// The maximum number of local changes that are kept by name.
const KEPT_NAMED: usize = 20;

/// What is at the step's path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a step has one")]
pub enum Actual {
    /// Nothing, or an empty directory.
    Absent {
        /// The answer of the remote at the step's `url`; `None` if the step has no URL.
        upstream: Option<Upstream>,
        /// An interrupted run left an unfinished clone.
        #[serde(default)]
        leftovers: bool,
        /// Why nothing can be cloned here.
        #[serde(default)]
        obstacle: Option<Obstacle>,
        /// There was not enough space to check the remote's files.
        #[serde(default)]
        unseen: bool,
        /// The commit at the head of the branch. `None` if it was not looked at.
        #[serde(default)]
        newest: Option<Box<DeployedCommit>>,
        /// The files that are checked out, up to a limit.
        #[serde(default)]
        files: Vec<String>,
        /// The number of files, including those that are not listed.
        #[serde(default)]
        file_count: usize,
        /// The missing parent directories, the outermost first.
        #[serde(default)]
        missing_parents: Vec<String>,
        /// Warnings about files of the user's configuration that git ignores.
        #[serde(default)]
        unread: Vec<String>,
    },
    /// Something else: `a file`, `a symbolic link`, `a directory with 3 entries (a, b, c)`.
    Occupied {
        by: String,
        /// The target of the symbolic link, if it exists.
        #[serde(default)]
        leads_to: Option<String>,
        /// Whether it must not be moved: a mount point, or what the system or its users need.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        must_stay: bool,
    },
    /// A repository that cannot be read further.
    Unusable { obstacle: Obstacle },
    /// A checkout.
    Checkout(Box<Checkout>),
}

/// A checkout, compared with the head of the branch at its remote.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkout {
    /// The branch that HEAD names; `None` if HEAD is detached.
    pub head_branch: Option<String>,
    /// The remote that HEAD's branch follows: that of its upstream, or else `origin`, or else the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_remote: Option<HeadRemote>,
    /// The commit at HEAD; `None` before the first commit.
    pub head: Option<String>,
    /// The commit at the desired branch in this repository; `None` if it does not exist.
    pub branch: Option<String>,
    /// The remote's URL in the repository's configuration, without a password.
    pub remote_url: Option<String>,
    /// The configuration has several URLs for the remote.
    pub several_urls: bool,
    /// The step's `url` is another path to the same repository, or stands for the same URL (`insteadOf`).
    pub same_place: bool,
    /// The remote's answer; `None` if it was not asked, because something else has to be fixed first.
    pub upstream: Option<Upstream>,
    /// Why the checkout is not touched.
    pub obstacles: Vec<Obstacle>,
    /// Commits of the desired branch that the remote does not have, newest first.
    pub local_commits: Vec<Commit>,
    /// Commits that only the detached HEAD has, newest first.
    pub detached_commits: Vec<Commit>,
    /// How many of the remote's commits the branch lacks.
    pub behind: usize,
    /// The remote's commits that the branch lacks, the newest first, up to a limit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incoming: Vec<DeployedCommit>,
    /// The paths at which HEAD and the remote's head differ, in order.
    pub paths: Vec<ChangedPath>,
    /// Local changes that the update would overwrite, in order.
    pub in_the_way: Vec<LocalChange>,
    /// The first of the other local changes, in order.
    pub kept: Vec<LocalChange>,
    /// The number of further local changes.
    pub kept_more: usize,
    /// An interrupted run left files in the repository.
    pub leftovers: bool,
    /// Warnings about files of the user's configuration that git ignores.
    pub unread: Vec<String>,
    /// Files that fewer users can read than the files that replace them, with their mode.
    pub narrowed: Vec<(RepoPath, u32)>,
}

/// A remote, by the repository's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRemote {
    pub name: String,
    /// Without a login.
    pub url: String,
    /// Whether the URL holds a user or a password that it is not shown with.
    pub has_login: bool,
}

impl Checkout {
    /// Sets the local changes that stay: the first ones by name, the others by number, since there may be any number of them.
    pub fn keep(&mut self, mut changes: Vec<LocalChange>) {
        self.kept_more = changes.len().saturating_sub(KEPT_NAMED);
        changes.truncate(KEPT_NAMED);
        self.kept = changes;
    }
}

/// The remote's answer when it is asked for a branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Without a password.
    pub url: String,
    /// The commit at the head of the branch; `None` if the remote has no such branch.
    pub head: Option<String>,
    /// If it has no such branch: at most eight of its branches, the most similar first.
    #[serde(default)]
    pub branches: Vec<String>,
    /// How many other branches it has.
    #[serde(default, skip_serializing_if = "is_none")]
    pub more_branches: usize,
    /// If it has no such branch: whether it has a tag of that name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tag: bool,
    /// If it has no such branch: the branch that is meant by `origin/main` or `refs/heads/main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A commit, described for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The full id in hexadecimal.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// It came from the remote's branch, which was rewritten since then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// It was made in this repository according to its reflog, and no remote-tracking branch has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made_here: bool,
}

impl Commit {
    /// Formats it as `1a2b3c4d subject`.
    pub fn short(&self) -> String {
        format!("{} {}", short(&self.id), self.subject)
    }
}

/// Returns the first eight digits of a commit id.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// A path that differs between HEAD and the remote's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedPath {
    pub path: RepoPath,
    pub change: PathChange,
    /// How many lines differ, if both sides are text and not large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Lines>,
    /// The modes, if both sides are files and these differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<Modes>,
}

/// What an update does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathChange {
    Added,
    Modified,
    Deleted,
}

/// An uncommitted change in the checkout.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LocalChange {
    pub path: RepoPath,
    pub state: LocalState,
    /// Some user cannot read the file. Known only of files that are in the way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// How many lines differ from HEAD. Known only of text files that are in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Lines>,
}

/// Somebody may go on editing a file after it was planned to be rescued, so the numbers of lines do not count.
impl PartialEq for LocalChange {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.state, self.private) == (&other.path, other.state, other.private)
    }
}

impl Eq for LocalChange {}

/// How a path differs from HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalState {
    /// The content or mode of the file differs.
    Modified,
    /// The index differs, and the file equals HEAD or the index.
    Staged,
    /// The file was deleted.
    Deleted,
    /// A symbolic link, file or directory where HEAD has another one of these.
    TypeChanged,
    /// git does not track the file.
    Untracked,
    /// git ignores the file.
    Ignored,
    /// The acting user may not read the file, so whether it differs is not known.
    Unreadable,
}

impl std::fmt::Display for LocalChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            LocalState::Modified => "modified",
            LocalState::Staged => "staged",
            LocalState::Deleted => "deleted",
            LocalState::TypeChanged => "type changed",
            LocalState::Untracked => "untracked",
            LocalState::Ignored => "ignored",
            LocalState::Unreadable => "unreadable",
        };
        let private = if self.private { ", private" } else { "" };
        let lines = self.lines.map(|lines| format!(", +{} -{}", lines.added, lines.removed)).unwrap_or_default();
        write!(f, "{} ({state}{lines}{private})", self.path)
    }
}
