//! The words for each obstacle, and its remedy.

use std::path::Path;

use super::actual::Obstacle;
use super::{Repository, configuration, quoted};
use crate::failure::Failure;

/// libgit2's words (repository.c, refs.c and index.c) for what a git of its own day did not know yet.
const UNSUPPORTED: [&str; 4] = [
    "unsupported extension name",
    "unsupported mandatory extension",
    "unknown object format",
    "unsupported repository version",
];

/// The command that gives what is at `path` another name. It fails where that name is taken.
pub fn aside(path: &str) -> String {
    format!("mv -T {} {}", quoted(path), quoted(&format!("{path}.aside")))
}

/// What helps where nothing else does, and what it costs.
fn cloned_anew(path: &Path) -> String {
    let aside = aside(&path.to_string_lossy());
    format!(
        "have the step clone it again from its url: `{aside}`; changes, commits and rescues that were only here are in the moved directory"
    )
}

impl Obstacle {
    /// What keeps the library from reading a repository, from its own words. `git` is the git directory.
    pub fn unreadable(problem: String, git: &Path) -> Self {
        if let Some(cause) = configuration::cause(&problem, git) {
            cause
        } else if UNSUPPORTED.iter().any(|words| problem.contains(words)) {
            Self::Unsupported { problem }
        } else {
            Self::Broken { problem }
        }
    }

    /// Why nothing is cloned to where there is no checkout yet. `url` is one to be shown.
    pub fn refusal_to_clone(&self, desired: &Repository, url: &str) -> Failure {
        let refusal = self.refusal(&desired.path);
        let options = match self {
            Self::Submodules { .. } => " --recurse-submodules",
            Self::Lfs { .. } | Self::Filter { .. } | Self::Encoding { .. } => "",
            _ => return refusal,
        };
        let (branch, url, path) = (quoted(&desired.branch), quoted(url), quoted(&desired.path.to_string_lossy()));
        refusal.hint(format!("clone it by hand: `git clone{options} --branch {branch} {url} {path}`"))
    }

    /// Why the step's checkout is not moved, and how a person can move it.
    pub fn refusal_to_move(&self, desired: &Repository) -> Failure {
        let refusal = self.refusal(&desired.path);
        let git = format!("git -C {}", quoted(&desired.path.to_string_lossy()));
        let (branch, remote) = (quoted(&desired.branch), quoted(&desired.remote));
        let pull = |options: &str, then: &str| {
            format!(
                "move this checkout by hand: `{git} fetch {remote} && {git} checkout {branch} && {git} pull --ff-only{options} {remote} {branch}{then}`"
            )
        };
        match self {
            Self::Submodules { .. } => {
                let then = format!(" && {git} submodule update --init --recursive");
                refusal.hint(pull(" --recurse-submodules", &then))
            }
            Self::Lfs { .. } => refusal.hint(pull("", &format!(" && {git} lfs pull {remote}"))),
            Self::Filter { .. } | Self::Encoding { .. } => refusal.hint(pull("", "")),
            Self::PartialClone => {
                let unset = |key: &str| {
                    format!("{git} config --unset-all {}", quoted(&format!("remote.{}.{key}", desired.remote)))
                };
                let (promisor, filter) = (unset("promisor"), unset("partialclonefilter"));
                refusal.hint(format!(
                    "fetch all of it (git 2.36 or newer): `{git} fetch --refetch --no-filter --no-auto-maintenance {remote} && {promisor} && {filter}`"
                ))
            }
            _ => refusal,
        }
    }

    /// Why the checkout at `path` is left as it is, and what a person can do about it where that is the same for a move
    /// and for a restore.
    pub fn refusal(&self, path: &Path) -> Failure {
        let at = path.display();
        let git = format!("git -C {}", quoted(&path.to_string_lossy()));
        match self {
            Self::Broken { problem } => {
                Failure::new(format!("the repository at {at} is broken: {problem}")).hint(cloned_anew(path))
            }
            Self::Unreadable { path, problem } => {
                Failure::new(format!("cannot read {path}, a file of the repository at {at}: {problem}")).hint(format!(
                    "give it back to the checkout's owner: `sudo chown -R --reference={} {}`",
                    quoted(&at.to_string()),
                    quoted(&format!("{at}/.git"))
                ))
            }
            Self::Configuration { path, problem, user } => {
                let hint = if problem.starts_with("it is a") {
                    let (path, aside) = (quoted(path), quoted(&format!("{path}.aside")));
                    format!("git expects a file there; move it aside: `mv -T {path} {aside}`")
                } else if problem.contains(", line ") {
                    "correct that line; git itself does not work before".to_owned()
                } else {
                    format!("let {user} read it, or take it out of the file that includes it")
                };
                Failure::new(format!("cannot read git's configuration {path}: {problem}")).hint(hint)
            }
            Self::Unsupported { problem } => {
                let refusal =
                    Failure::new(format!("the repository at {at} has a format that is not supported: {problem}"));
                // The index's extensions by the names that gitformat-index(5) gives them.
                refusal.hint(if problem.contains("'link'") {
                    format!(
                        "join the split index: `{git} config core.splitIndex false && {git} update-index --no-split-index`"
                    )
                } else if problem.contains("'sdir'") {
                    format!("check out all of the tree: `{git} sparse-checkout disable`")
                } else {
                    cloned_anew(path)
                })
            }
            Self::Bare => Failure::new(format!("{at} is a bare repository: it has no working tree"))
                .hint("give the path of a checkout; others may push to a bare repository and fetch from it"),
            Self::BareSetting => {
                Failure::new(format!("the checkout at {at} is said to be a bare repository, by core.bare"))
                    .hint(format!("correct the setting: `{git} config core.bare false`"))
            }
            Self::NotOwned { owner, user } => {
                Failure::new(format!("the checkout {at} belongs to {owner}, and the step acts as {user}"))
                    .hint(format!("set run_as: {owner}; git work is done as the checkout's owner alone"))
            }
            Self::Untrusted { path } => Failure::new(format!(
                "as root nothing is done at {at}: others than root can change what {path} leads to"
            ))
            .hint("set run_as to the user whose directory it is"),
            Self::SeparateGitDirectory => Failure::new(format!(
                "{at}/.git is no directory: it is a linked worktree, a submodule or a separate git directory"
            ))
            .hint("give the path of a checkout that has its own git directory, as a clone has"),
            Self::WorktreeElsewhere { path } => {
                Failure::new(format!("the repository at {at} has its working tree at {path}")).hint(format!(
                    "remove the setting: `git config --file {} --unset-all core.worktree`",
                    quoted(&format!("{at}/.git/config"))
                ))
            }
            Self::Operation { name } => Failure::new(format!("a {name} is in progress in {at}"))
                .hint(format!("finish or abort it: `{git} status` says how")),
            Self::Unmerged { path } => Failure::new(format!("the index of {at} holds a conflict in {path}"))
                .hint(format!("resolve it: `{git} status` says how")),
            Self::Locked { path } => Failure::new(format!("another git process holds {path}"))
                .hint(format!("wait until it is done; if none is running, remove the file: `rm {}`", quoted(path))),
            Self::AnotherRun => Failure::new(format!("another provision run is at work in {at}"))
                .hint("wait until it is done, then run again"),
            Self::PartialClone => {
                Failure::new(format!("{at} is a partial clone: it fetches objects one by one, which is not supported"))
            }
            Self::Sparse => Failure::new(format!("{at} is a sparse checkout: parts of the tree are left out"))
                .hint(format!("check out all of it: `{git} sparse-checkout disable`")),
            Self::LeftOut { path } => {
                let mark =
                    format!("{path} in {at} is marked skip-worktree: git takes it for unchanged whatever is there");
                let name = quoted(&path.to_string());
                Failure::new(mark).hint(format!("take the mark off: `{git} update-index --no-skip-worktree {name}`"))
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
                "{path} sets working-tree-encoding, which is not supported: files would get other bytes than git gives"
            )),
            Self::CheckedOutElsewhere { path, gone } => {
                let refusal = Failure::new(format!("the branch is checked out in another worktree: {path}"));
                refusal.hint(if *gone {
                    format!("that worktree is gone: `{git} worktree prune`")
                } else {
                    let elsewhere = quoted(path);
                    format!("leave the branch there, which changes no file: `git -C {elsewhere} checkout --detach`")
                })
            }
            Self::Unwritable { path } => Failure::new(format!(
                "files in {path} have to change, and the step's user cannot write there"
            ))
            .hint(format!(
                "give the directory back to the checkout's owner: `sudo chown -R --reference={} {}`",
                quoted(&at.to_string()),
                quoted(path)
            )),
            Self::UnwritableParent { path, user } => {
                Failure::new(format!("{at} cannot be made: the step's user cannot write to {path}")).hint(format!(
                    "make it and give it to that user: `sudo install -d -o {} {}`",
                    quoted(user),
                    quoted(&at.to_string())
                ))
            }
            Self::RefConflict { found, wanted } => {
                let remedy = match (found.strip_prefix("refs/heads/"), found.strip_prefix("refs/remotes/")) {
                    (Some(branch), _) => {
                        let other = format!("{}-old", branch.replace('/', "-"));
                        format!("rename that branch: `{git} branch -m {} {}`", quoted(branch), quoted(&other))
                    }
                    (None, Some(branch)) => {
                        let remote = branch.split('/').next().unwrap_or(branch);
                        let what = "remove what the remote no longer has";
                        format!("{what}: `{git} remote prune {}`", quoted(remote))
                    }
                    (None, None) => format!("look at what it is for: `{git} log -1 {}`", quoted(found)),
                };
                Failure::new(format!("{at} has {found}, which cannot stand beside {wanted}")).hint(remedy)
            }
            Self::UnwritableGit { path } => {
                let owned = quoted(&format!("{at}/.git"));
                Failure::new(format!("git's own file {path} has to change, and the step's user cannot write it")).hint(
                    format!(
                        "give it back to the checkout's owner: `sudo chown -R --reference={} {owned}`",
                        quoted(&at.to_string())
                    ),
                )
            }
            Self::NestedRepository { path } => {
                Failure::new(format!("{at}/{path} is a repository of its own, where the remote now has a file"))
                    .hint(format!("move it aside: `{}`", aside(&format!("{at}/{path}"))))
            }
            Self::SpecialFile { path } => {
                Failure::new(format!("{at}/{path} is a FIFO, socket or device, where the remote now has a file"))
                    .hint(format!("move it aside: `{}`", aside(&format!("{at}/{path}"))))
            }
            Self::StagedSubmodule { path } => Failure::new(format!(
                "{path} in {at} is staged as a submodule, where the remote now has something else"
            ))
            .hint(format!("unstage it: `{git} reset -q -- {}`", quoted(&path.to_string()))),
            Self::UnsafeName { path } => {
                Failure::new(format!("the tree has the name {path}, which leads out of the checkout"))
                    .hint("look at who can push to the remote")
            }
        }
    }
}
