//! What was observed of a checkout.

use serde::{Deserialize, Serialize};

use super::path::RepoPath;

/// How many local changes that stay are named.
const KEPT_NAMED: usize = 20;

/// What is at the step's path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Actual {
    /// Nothing, or an empty directory.
    Absent {
        /// The remote as the step's `url` reaches it; none where the step gives no URL.
        upstream: Option<Upstream>,
        /// An interrupted run of this program began a clone here.
        #[serde(default)]
        leftovers: bool,
        /// Why nothing can be made here, or what in the remote's files speaks against it.
        #[serde(default)]
        obstacle: Option<Obstacle>,
        /// There was no room to look at the remote's files.
        #[serde(default)]
        unseen: bool,
        /// The parents that do not exist yet, the outermost first.
        #[serde(default)]
        missing_parents: Vec<String>,
        /// What git leaves out of the user's configuration because it cannot be read.
        #[serde(default)]
        unread: Vec<String>,
    },
    /// Something that is no checkout: `a file`, `a symbolic link`, `a directory with 3 entries (a, b, c)`.
    Occupied {
        by: String,
        /// Where the symbolic link leads; none where that is nowhere.
        #[serde(default)]
        leads_to: Option<String>,
    },
    /// A repository that cannot be read any further.
    Unusable { obstacle: Obstacle },
    /// A checkout.
    Checkout(Box<Checkout>),
}

/// A checkout, compared with the head of the branch at its remote.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkout {
    /// The branch that HEAD names; none where HEAD is detached.
    pub head_branch: Option<String>,
    /// The commit that HEAD stands on; none where the branch has no commit yet.
    pub head: Option<String>,
    /// Where the wanted branch stands in this repository; none where it is not there yet.
    pub branch: Option<String>,
    /// The remote's URL as the repository's configuration has it, without a password.
    pub remote_url: Option<String>,
    /// The configuration has more URLs for the remote, to push to.
    pub several_urls: bool,
    /// The step's `url` is another path to the same directory.
    pub same_place: bool,
    /// The remote's answer; none where it was not asked, because something else has to be settled first.
    pub upstream: Option<Upstream>,
    /// What speaks against touching the checkout.
    pub obstacles: Vec<Obstacle>,
    /// Commits of the wanted branch that its remote does not have, newest first.
    pub local_commits: Vec<Commit>,
    /// Commits that nothing but the detached HEAD holds, newest first.
    pub detached_commits: Vec<Commit>,
    /// How many commits of the remote's head the branch lacks.
    pub behind: usize,
    /// The paths in which HEAD and the remote's head differ, in order.
    pub paths: Vec<ChangedPath>,
    /// Local changes that the move would overwrite, in order.
    pub in_the_way: Vec<LocalChange>,
    /// The first of the other local changes, in order.
    pub kept: Vec<LocalChange>,
    /// How many more of them there are.
    pub kept_more: usize,
    /// An interrupted run of this program left files in the repository.
    pub leftovers: bool,
    /// What git leaves out of the user's configuration because it cannot be read.
    pub unread: Vec<String>,
    /// Files that fewer users can read than those that the move puts in their place, with their mode.
    pub narrowed: Vec<(RepoPath, u32)>,
}

impl Checkout {
    /// Takes down which local changes stay: the first by name, the rest by number. They have no bound of their own.
    pub fn keep(&mut self, mut changes: Vec<LocalChange>) {
        self.kept_more = changes.len().saturating_sub(KEPT_NAMED);
        changes.truncate(KEPT_NAMED);
        self.kept = changes;
    }
}

/// The remote's answer to the question for a branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Without a password.
    pub url: String,
    /// The commit at the head of the branch; none where the remote has no such branch.
    pub head: Option<String>,
    /// Where it has not: the branches it has, the most similar name first, eight at most.
    #[serde(default)]
    pub branches: Vec<String>,
}

/// A commit, as a reader recognises it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The whole id, hexadecimal.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// It came from the remote's branch, which was rewritten since and has it no longer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// It is known to have been made in this repository, and no remote is known to have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made_here: bool,
}

impl Commit {
    /// `1a2b3c4d subject`.
    pub fn short(&self) -> String {
        format!("{} {}", short(&self.id), self.subject)
    }
}

/// The first eight digits of a commit id.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// A path that differs between HEAD and the remote's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedPath {
    pub path: RepoPath,
    pub change: PathChange,
}

/// What the move does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathChange {
    Added,
    Modified,
    Deleted,
}

/// Work in the checkout that no commit holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalChange {
    pub path: RepoPath,
    pub state: LocalState,
    /// Some user cannot read the file that is in the way. Of changes that stay it is not asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
}

/// In what a path differs from HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalState {
    /// The file has other content or another mode.
    Modified,
    /// The index has something else; the file agrees with HEAD or with the index.
    Staged,
    /// The file is gone.
    Deleted,
    /// A symbolic link, file or directory where HEAD has another of them.
    TypeChanged,
    /// git does not know the file.
    Untracked,
    /// git was told not to know the file.
    Ignored,
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
        };
        let private = if self.private { ", private" } else { "" };
        write!(f, "{} ({state}{private})", self.path)
    }
}

/// A state in which the checkout is not moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Obstacle {
    /// The repository cannot be read.
    Broken { problem: String },
    /// The system does not let a file of the repository be read.
    Unreadable { path: String, problem: String },
    /// A file of git's configuration cannot be read by the user who acts.
    Configuration { path: String, problem: String, user: String },
    /// A format of objects, refs or the index that the library cannot read, though git can.
    Unsupported { problem: String },
    /// There is no working tree.
    Bare,
    /// A checkout whose configuration says `core.bare`.
    BareSetting,
    /// The checkout belongs to another user than the one who acts.
    NotOwned { owner: String, user: String },
    /// As root: a directory on the way that others can write to.
    Untrusted { path: String },
    /// `.git` is no directory: a linked worktree, a submodule, a separate git directory.
    SeparateGitDirectory,
    /// `core.worktree` names another directory.
    WorktreeElsewhere { path: String },
    /// A merge, rebase, bisect and the like waits for its end.
    Operation { name: String },
    /// The index holds conflicts.
    Unmerged { path: RepoPath },
    /// A lock file of another git process.
    Locked { path: String },
    /// Another process of this program is at work here.
    AnotherRun,
    /// Objects are fetched from the remote one by one.
    PartialClone,
    /// Parts of the tree are left out of the working tree.
    Sparse,
    /// A file of the index is marked as left out of the working tree (`git update-index --skip-worktree`).
    LeftOut { path: RepoPath },
    /// The tree holds other repositories.
    Submodules { path: RepoPath },
    /// Files are stored by git LFS.
    Lfs { path: RepoPath },
    /// Files pass through a program when they are checked out.
    Filter { name: String, path: RepoPath },
    /// Files are stored in another encoding than they are checked out in.
    Encoding { path: RepoPath },
    /// Another worktree of the repository has the branch.
    CheckedOutElsewhere {
        path: String,
        /// There is nothing at that path any more.
        #[serde(default)]
        gone: bool,
    },
    /// A directory in which files change cannot be written to.
    Unwritable { path: String },
    /// The checkout is not there, and the directory to make it in cannot be written to.
    UnwritableParent {
        path: String,
        /// The user who acts.
        user: String,
    },
    /// A ref stands where the wanted one needs a directory, or the other way round.
    RefConflict { found: String, wanted: String },
    /// A file or directory below `.git` that a move writes cannot be written to.
    UnwritableGit { path: String },
    /// A repository stands where a file has to be.
    NestedRepository { path: RepoPath },
    /// A FIFO, socket or device stands where a file has to be.
    SpecialFile { path: RepoPath },
    /// A submodule is staged where the remote has something else: a stash cannot hold it.
    StagedSubmodule { path: RepoPath },
    /// The remote's tree has a name that leads out of the checkout.
    UnsafeName { path: RepoPath },
}

impl Obstacle {
    /// Whether the checkout counts as half done even where nothing has to be moved.
    pub fn always(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. }
                | Self::Unreadable { .. }
                | Self::Configuration { .. }
                | Self::Unsupported { .. }
                | Self::Bare
                | Self::BareSetting
                | Self::NotOwned { .. }
                | Self::Untrusted { .. }
                | Self::SeparateGitDirectory
                | Self::WorktreeElsewhere { .. }
                | Self::Operation { .. }
                | Self::Unmerged { .. }
                | Self::AnotherRun
        )
    }
}
