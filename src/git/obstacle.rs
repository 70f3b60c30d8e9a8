//! The states in which a checkout is not touched, each with its message and its remedy.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pasted::{clone_again, git_with_paths, give_back, moved_aside, opened_to_owner};
use super::path::RepoPath;
use crate::failure::Failure;
use crate::host::capabilities::Capability;
use crate::host::fs::{Denial, acting_ids, escape_path};
use crate::host::users::as_root;
use crate::text::{aside, path_of_name, shell_word};

/// A state in which a checkout is not touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Obstacle {
    /// The repository cannot be read.
    Broken { problem: String },
    /// The acting user may not read a file of the repository.
    Unreadable {
        path: String,
        problem: String,
        /// It belongs to the acting user: its mode denies it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_own: bool,
    },
    /// The acting user may not read a file or directory of the working tree that is in the way of the update.
    UnreadableWork {
        path: String,
        /// It belongs to the acting user: its mode denies it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_own: bool,
    },
    /// A file of git's configuration cannot be read, or has a mistake.
    Configuration { path: String, problem: String, user: String },
    /// A format of objects, refs or the index that git supports and libgit2 does not.
    Unsupported { problem: String },
    /// There is no working tree.
    Bare,
    /// The configuration of a checkout sets `core.bare`.
    BareSetting,
    /// The checkout belongs to another user than the acting one.
    NotOwned { owner: String, user: String },
    /// The directory of the checkout belongs to another user than its `.git`, which is the acting user's.
    TopNotOwned { owner: String, user: String },
    /// The acting user is root, and others can write to a directory on the way to the checkout, or to the checkout.
    Untrusted {
        path: String,
        /// It belongs to root: its mode lets others write.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_own: bool,
    },
    /// `.git` is not a directory: a linked worktree, a submodule or a separate git directory.
    SeparateGitDirectory,
    /// `core.worktree` names another directory.
    WorktreeElsewhere { path: String },
    /// A merge, rebase, bisect or the like is in progress.
    Operation { name: String },
    /// The index holds conflicts.
    Unmerged { path: RepoPath },
    /// Another git process holds a lock, or left one behind.
    Locked {
        path: String,
        /// It is so old that its process has probably ended.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_old: bool,
    },
    /// The index cannot be read, or is missing. It can be built again.
    DamagedIndex {
        /// The predicate of a sentence about the index, such as "is missing".
        problem: String,
        /// The command that builds it, for whoever started the run.
        command: String,
        /// The merge, rebase or the like that is in progress.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<String>,
    },
    /// A ref points to an object that is missing, or its file holds no id. git does not fetch into such a repository.
    BrokenRef {
        name: String,
        /// The missing object. `None` if the file of the ref holds no id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// The hint, with a command for whoever started the run.
        remedy: String,
        /// The first of the other broken refs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
        /// The number of further broken refs.
        #[serde(default)]
        more: usize,
    },
    /// Another run of provision works in the checkout.
    AnotherRun,
    /// A partial clone: objects are fetched from a remote on demand. The settings `keys` of the repository name it.
    PartialClone { remote: String, keys: Vec<String> },
    /// A sparse checkout: parts of the tree are not checked out.
    Sparse,
    /// A file is marked as not checked out (`git update-index --skip-worktree`).
    LeftOut { path: RepoPath },
    /// The tree has a submodule.
    Submodules { path: RepoPath },
    /// The tree has files that git LFS stores.
    Lfs { path: RepoPath },
    /// Files are converted by a program when they are checked out.
    Filter { name: String, path: RepoPath },
    /// Files are checked out in another encoding than they are stored in.
    Encoding { path: RepoPath },
    /// The branch is checked out in another worktree of the repository.
    CheckedOutElsewhere {
        path: String,
        /// That worktree no longer exists.
        #[serde(default)]
        gone: bool,
    },
    /// A file or directory that has to change cannot be changed, by anybody or by the acting user.
    Denied { denial: Denial },
    /// The acting user cannot write to a directory in which files have to change.
    Unwritable {
        path: String,
        /// It belongs to the acting user: its mode denies it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_own: bool,
        /// The capability that root lacks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacks: Option<Capability>,
    },
    /// The checkout does not exist, and the acting user cannot write to the directory that it is to be created in.
    UnwritableParent {
        path: String,
        /// The acting user.
        user: String,
        /// The capability that root lacks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacks: Option<Capability>,
    },
    /// A ref exists whose name is a directory of the desired one, or the other way round.
    RefConflict { found: String, wanted: String },
    /// The acting user cannot write to a file or directory below `.git` that has to change.
    UnwritableGit {
        path: String,
        /// It belongs to the acting user: its mode denies it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_own: bool,
        /// The capability that root lacks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacks: Option<Capability>,
    },
    /// Another repository is where a file has to be.
    NestedRepository { path: RepoPath },
    /// A FIFO, socket or device is where a file has to be.
    SpecialFile { path: RepoPath },
    /// A submodule is staged where the remote has something else. A rescue cannot hold it.
    StagedSubmodule { path: RepoPath },
    /// The remote's tree has a path that leads out of the checkout.
    UnsafeName {
        path: RepoPath,
        /// Only on HFS+. git checks this if core.protectHFS is set.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        on_hfs: bool,
    },
}

/// Extensions of the index that libgit2 does not support (gitformat-index(5)), as its messages name them: of a split index, and of
/// a sparse one.
const INDEX_EXTENSIONS: [&str; 2] = ["'link'", "'sdir'"];

/// The name of the other object format, as in libgit2's message. A clone has the object format of its remote.
const OTHER_HASH: &str = "sha256";

/// How the problem of an index ends that a newer git has written.
pub const INDEX_VERSION: &str = "of the index";

/// A git process holds a lock for a shorter time than this, as a rule.
const MAX_LOCK_AGE: Duration = Duration::from_secs(3600);

impl Obstacle {
    /// Whether it is an error even if the checkout is at the right commit.
    pub fn always(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. }
                | Self::DamagedIndex { .. }
                | Self::Unreadable { .. }
                | Self::Configuration { .. }
                | Self::Unsupported { .. }
                | Self::Bare
                | Self::BareSetting
                | Self::NotOwned { .. }
                | Self::TopNotOwned { .. }
                | Self::Untrusted { .. }
                | Self::SeparateGitDirectory
                | Self::WorktreeElsewhere { .. }
                | Self::Operation { .. }
                | Self::Unmerged { .. }
                | Self::AnotherRun
        )
    }

    /// Makes the obstacle for a lock of git's.
    pub fn of_lock(lock: &Path) -> Self {
        let made = std::fs::symlink_metadata(lock).and_then(|found| found.modified());
        let is_old = made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > MAX_LOCK_AGE));
        Self::Locked { path: escape_path(lock), is_old }
    }

    /// Makes the obstacle for what prevents a change in the working tree.
    pub fn of_denial(denial: Denial) -> Self {
        match denial {
            Denial::NotWritable { dir, lacks, .. } => Self::Unwritable { is_own: is_own(&dir), path: dir, lacks },
            denial => Self::Denied { denial },
        }
    }

    /// Makes the obstacle for what prevents a change in the git directory.
    pub fn of_denial_in_git(denial: Denial) -> Self {
        match denial {
            Denial::NotWritable { dir, lacks, .. } => Self::UnwritableGit { is_own: is_own(&dir), path: dir, lacks },
            denial => Self::Denied { denial },
        }
    }

    /// Makes the obstacle for what prevents a clone.
    pub fn of_denial_in_parent(denial: Denial) -> Self {
        match denial {
            Denial::NotWritable { user, dir, lacks } => Self::UnwritableParent { path: dir, user, lacks },
            denial => Self::Denied { denial },
        }
    }

    /// Whether a new clone is the remedy.
    pub fn is_cured_by_clone(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Unsupported { problem } => {
                !INDEX_EXTENSIONS.iter().chain([&OTHER_HASH, &INDEX_VERSION]).any(|name| problem.contains(name))
            }
            _ => false,
        }
    }

    /// Returns why the checkout at `path` is not touched, with a remedy if there is one that serves both an update and a
    /// restore.
    pub fn refusal(&self, path: &Path) -> Failure {
        let top = path;
        let at = path.display();
        let git = format!("git -C {}", shell_word(path));
        match self {
            Self::Broken { problem } => {
                Failure::new(format!("the repository at {at} is broken: {problem}")).hint(clone_again(path))
            }
            Self::Unreadable { path, problem, is_own } => {
                let what = format!("cannot read {path}, a file of the repository at {at}: {problem}");
                Failure::new(what).hint(if *is_own {
                    opened_to_owner("-R u+rX", &top.join(".git"))
                } else {
                    give_back("it", top, &top.join(".git"))
                })
            }
            Self::UnreadableWork { path, is_own } => {
                let what = format!("cannot read {path}, where the update has to change something: permission denied");
                Failure::new(what).hint(if *is_own {
                    opened_to_owner("-R u+rwX", &path_of_name(path))
                } else {
                    give_back("it", top, &path_of_name(path))
                })
            }
            Self::Configuration { path, problem, user } => {
                let hint = if problem.starts_with("it is a") {
                    format!("git expects a file there; move it aside: `{}`", aside(path_of_name(path)))
                } else if problem.contains(", line ") {
                    "correct that line; git does not work until then".to_owned()
                } else {
                    format!("let {user} read it, or remove the include of it")
                };
                Failure::new(format!("cannot read git's configuration {path}: {problem}")).hint(hint)
            }
            Self::Unsupported { problem } => {
                let refusal =
                    Failure::new(format!("the repository at {at} has a format that is not supported: {problem}"));
                refusal.hint(if problem.contains(INDEX_EXTENSIONS[0]) {
                    format!(
                        "join the split index: `{git} config core.splitIndex false && {git} update-index --no-split-index`"
                    )
                } else if problem.contains(INDEX_EXTENSIONS[1]) {
                    format!("check out all of the tree: `{git} sparse-checkout disable`")
                } else if problem.contains(INDEX_VERSION) {
                    format!("write it in an older version: `{git} update-index --index-version 4`")
                } else if problem.contains(OTHER_HASH) {
                    "a new clone has it too: update this checkout with git, and remove the step".to_owned()
                } else {
                    clone_again(path)
                })
            }
            Self::Bare => Failure::new(format!("{at} is a bare repository: it has no working tree"))
                .hint("give the path of a checkout; others may push to a bare repository and fetch from it"),
            Self::BareSetting => Failure::new(format!(
                "the configuration of the checkout at {at} says that it is a bare repository (core.bare)"
            ))
            .hint(format!("correct the setting: `{git} config core.bare false`")),
            Self::NotOwned { owner, user } => {
                Failure::new(format!("the checkout {at} belongs to {owner}, and the step acts as {user}"))
                    .hint(format!("set run_as: {owner}; git work is done as the checkout's owner alone"))
            }
            Self::TopNotOwned { owner, user } => Failure::new(format!(
                "{at} belongs to {owner}, and its .git to {user}: git works for neither"
            ))
            .hint(format!(
                "give the directory to the owner of the repository: `{}`",
                as_root(&format!("chown --reference={} {}", shell_word(top.join(".git")), shell_word(top)))
            )),
            Self::Untrusted { path, is_own } => Failure::new(format!(
                "cannot work at {at} as root: users other than root can change what {path} leads to"
            ))
            .hint(if *is_own {
                format!("let only root write there: `chmod go-w {}`", shell_word(path_of_name(path)))
            } else {
                "set run_as to the user whose directory it is".to_owned()
            }),
            Self::SeparateGitDirectory => Failure::new(format!(
                "{at}/.git is not a directory: it is a linked worktree, a submodule or a separate git directory"
            ))
            .hint("give the path of a checkout that has its own git directory, as a clone has"),
            Self::WorktreeElsewhere { path } => {
                Failure::new(format!("the repository at {at} has its working tree at {path}")).hint(format!(
                    "remove the setting: `git config --file {} --unset-all core.worktree`",
                    shell_word(top.join(".git/config"))
                ))
            }
            Self::Operation { name } => Failure::new(format!("a {name} is in progress in {at}"))
                .hint(format!("finish or abort it: `{git} status` says how")),
            Self::Unmerged { path } => Failure::new(format!("the index of {at} holds a conflict in {path}"))
                .hint(format!("resolve it: `{git} status` says how")),
            Self::Locked { path, is_old } => {
                let remove = format!("`rm {}`", shell_word(path_of_name(path)));
                match is_old {
                    true => Failure::new(format!(
                        "the lock {path} is more than an hour old: a git process that was killed probably left it"
                    ))
                    .hint(format!("if no git process is running, remove the file: {remove}")),
                    false => Failure::new(format!("another git process holds {path}"))
                        .hint(format!("wait until it is done; if none is running, remove the file: {remove}")),
                }
            }
            Self::DamagedIndex { problem, command, operation } => {
                let (progress, then) = match operation {
                    Some(name) => (
                        format!(", and a {name} is in progress"),
                        format!(
                            "; the {name} stays in progress, but its conflicts are no longer marked in the index: resolve them and add the files before you commit"
                        ),
                    ),
                    None => (String::new(), String::new()),
                };
                Failure::new(format!("the index of {at} {problem}{progress}"))
                    .hint(format!("build it from HEAD, which changes no files: `{command}`{then}"))
            }
            Self::BrokenRef { name, id, remedy, others, more } => {
                let what = match id {
                    Some(id) => format!("points to an object that is missing or damaged: {id}"),
                    None => "is broken: its file does not hold the id of an object".to_owned(),
                };
                let others = match (others.as_slice(), more) {
                    ([], _) => String::new(),
                    (others, 0) => format!("; also broken: {}", others.join(", ")),
                    (others, more) => format!("; also broken: {} and {more} more", others.join(", ")),
                };
                Failure::new(format!("{name} in {at} {what}; git does not fetch until it is repaired{others}"))
                    .hint(remedy)
            }
            Self::AnotherRun => Failure::new(format!("another provision run is changing {at}"))
                .hint("wait until it is done, then run again"),
            Self::PartialClone { .. } => {
                Failure::new(format!("{at} is a partial clone: it fetches objects one by one, which is not supported"))
            }
            Self::Sparse => Failure::new(format!("{at} is a sparse checkout: parts of the tree are left out"))
                .hint(format!("check out all of it: `{git} sparse-checkout disable`")),
            Self::LeftOut { path } => {
                let mark =
                    format!("{path} in {at} is marked skip-worktree: git treats it as unchanged, whatever is there");
                Failure::new(mark).hint(format!(
                    "remove the mark: `{}`",
                    git_with_paths(top, "update-index --no-skip-worktree", [path])
                ))
            }
            Self::Submodules { path } => {
                Failure::new(format!("{path} in {at} is a submodule, and submodules are not supported"))
            }
            Self::Lfs { path } => Failure::new(format!(
                "{path} stores files in git LFS, which is not supported: pointers would be checked out instead of files"
            )),
            Self::Filter { name, path } => {
                Failure::new(format!("{path} sends files through the filter `{name}`, and filters are not run"))
            }
            Self::Encoding { path } => Failure::new(format!(
                "{path} sets working-tree-encoding, which is not supported: files would be checked out in another encoding than with git"
            )),
            Self::CheckedOutElsewhere { path, gone } => {
                let refusal = Failure::new(format!("the branch is checked out in another worktree: {path}"));
                refusal.hint(if *gone {
                    format!("that worktree is gone: `{git} worktree prune`")
                } else {
                    let elsewhere = shell_word(path_of_name(path));
                    format!("leave the branch there, which changes no file: `git -C {elsewhere} checkout --detach`")
                })
            }
            Self::Denied { denial } => {
                Failure::new(format!("cannot change {at}: {}", denial.reason())).hint(match denial {
                    Denial::Sticky { path } => give_back("it", top, &path_of_name(path)),
                    denial => denial.hint(),
                })
            }
            Self::Unwritable { lacks: Some(capability), path, .. }
            | Self::UnwritableParent { lacks: Some(capability), path, .. }
            | Self::UnwritableGit { lacks: Some(capability), path, .. } => {
                Failure::new(format!("cannot change {at}: root may not write to {path}")).hint(capability.hint())
            }
            Self::Unwritable { path, is_own, .. } => Failure::new(format!(
                "files in {path} have to change, and the step's user cannot write there"
            ))
            .hint(if *is_own {
                opened_to_owner("u+rwX", &path_of_name(path))
            } else {
                give_back("the directory", top, &path_of_name(path))
            }),
            Self::UnwritableParent { path, user, .. } => {
                Failure::new(format!("cannot create {at}: the step's user cannot write to {path}")).hint(format!(
                    "create it for that user: `{}`",
                    as_root(&format!("install -d -o {} {}", shell_word(user), shell_word(top)))
                ))
            }
            Self::RefConflict { found, wanted } => {
                let remedy = match (found.strip_prefix("refs/heads/"), found.strip_prefix("refs/remotes/")) {
                    (Some(branch), _) => {
                        let other = format!("{}-old", branch.replace('/', "-"));
                        format!("rename that branch: `{git} branch -m {} {}`", shell_word(branch), shell_word(&other))
                    }
                    (None, Some(branch)) => {
                        let remote = branch.split('/').next().unwrap_or(branch);
                        let what = "remove what the remote no longer has";
                        format!("{what}: `{git} remote prune {}`", shell_word(remote))
                    }
                    (None, None) => format!("find out what it is for: `{git} log -1 {}`", shell_word(found)),
                };
                Failure::new(format!("{at} has {found}, which cannot exist beside {wanted}")).hint(remedy)
            }
            Self::UnwritableGit { path, is_own, .. } => Failure::new(format!(
                "git's own file {path} has to change, and the step's user cannot write it"
            ))
            .hint(if *is_own {
                opened_to_owner("u+rwX", &path_of_name(path))
            } else {
                give_back("it", top, &top.join(".git"))
            }),
            Self::NestedRepository { path } => {
                Failure::new(format!("{at}/{path} is a repository of its own, where the remote now has a file"))
                    .hint(moved_aside(top, path))
            }
            Self::SpecialFile { path } => {
                Failure::new(format!("{at}/{path} is a FIFO, socket or device, where the remote now has a file"))
                    .hint(moved_aside(top, path))
            }
            Self::StagedSubmodule { path } => Failure::new(format!(
                "{path} in {at} is staged as a submodule, where the remote now has something else"
            ))
            .hint(format!("unstage it: `{}`", git_with_paths(top, "reset -q", [path]))),
            Self::UnsafeName { path, on_hfs } => {
                let what = format!("the remote's tree has the path {path}, which git does not check out");
                let why = match on_hfs {
                    true => "it means .git or .gitmodules on HFS+ (core.protectHFS)",
                    false => {
                        "it leads out of the checkout, or means .git or .gitmodules on NTFS; provision refuses it even with core.protectNTFS=false"
                    }
                };
                Failure::new(format!("{what}: {why}")).hint("find out who can push to the remote")
            }
        }
    }
}

/// Whether what is at a path, as it is in a message, belongs to the acting user.
pub fn is_own(path: &str) -> bool {
    let found = std::fs::metadata(path_of_name(path));
    found.is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == acting_ids().0)
}
