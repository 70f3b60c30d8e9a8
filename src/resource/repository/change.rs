//! The changes that a `repository` step can make, as data.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actual::{ChangedPath, Commit, LocalChange, PathChange, short};
use crate::resource::{Action, Change, DeployedCommit, DeployedFile, Description};
use crate::text;

/// The maximum number of names in a one-line summary.
const NAMES_IN_SUMMARY: usize = 5;

/// One decided change. A step has at most one, which is made completely or started again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum RepositoryChange {
    /// Clone.
    Clone(NewClone),
    /// Move an existing checkout to the remote's head of the branch.
    Update(Box<Update>),
    /// Remove what an interrupted run left.
    RemoveLeftovers { path: PathBuf },
}

/// A clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewClone {
    pub path: PathBuf,
    /// Without a password, which the step has.
    pub url: String,
    pub branch: String,
    /// The remote's head of the branch.
    pub commit: String,
    /// The parent directories to create, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// The commit at the remote's head. `None` if there was no room to look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Box<DeployedCommit>>,
    /// The files that are checked out, up to a limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// The number of files, including those that are not listed.
    #[serde(default, skip_serializing_if = "super::actual::is_none")]
    pub file_count: usize,
}

/// An update of a checkout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    pub path: PathBuf,
    pub branch: String,
    /// The branch that HEAD names before; `None` if it is detached.
    pub head_branch: Option<String>,
    /// The commit at HEAD before; `None` before the first commit.
    pub head: Option<String>,
    /// The commit at the branch before; `None` if it is new here.
    pub branch_before: Option<String>,
    /// The remote's head of the branch.
    pub commit: String,
    /// How many of the remote's commits the branch lacks.
    pub behind: usize,
    /// The first of these commits, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incoming: Vec<DeployedCommit>,
    /// The paths at which HEAD and the remote's head differ.
    pub paths: Vec<ChangedPath>,
    /// Local changes to rescue and overwrite.
    pub in_the_way: Vec<LocalChange>,
    /// Commits of the branch to rescue before it is reset.
    pub local_commits: Vec<Commit>,
    /// Commits to rescue that only the detached HEAD has.
    pub detached_commits: Vec<Commit>,
}

impl RepositoryChange {
    /// Whether the change replaces or removes the file at `path`.
    pub fn replaces(&self, path: &Path) -> bool {
        match self {
            Self::Clone(clone) => path.starts_with(&clone.path),
            Self::RemoveLeftovers { .. } => false,
            Self::Update(update) => {
                let changed = update.paths.iter().map(|changed| &changed.path);
                let removed = update.in_the_way.iter().map(|local| &local.path);
                changed.chain(removed).any(|name| update.path.join(name.as_path()) == path)
            }
        }
    }

    /// Whether the change may alter what is at `path`.
    pub fn touches(&self, path: &Path) -> bool {
        match self {
            Self::Clone(clone) => path.starts_with(&clone.path) || clone.path.starts_with(path),
            Self::RemoveLeftovers { .. } => false,
            Self::Update(update) => {
                let changed = update.paths.iter().map(|changed| &changed.path);
                // What is in the way is above or below a changed path, and is removed with it.
                let removed = update.in_the_way.iter().map(|local| &local.path);
                changed.chain(removed).any(|name| {
                    let changed = update.path.join(name.as_path());
                    changed.starts_with(path) || path.starts_with(&changed)
                }) || update.may_make_or_remove_a_directory_around(path)
                    // The branch, and objects.
                    || path.starts_with(update.path.join(".git"))
            }
        }
    }
}

impl Change for RepositoryChange {
    fn parents(&mut self) -> Option<&mut Vec<String>> {
        match self {
            Self::Clone(clone) => Some(&mut clone.parents),
            Self::Update(_) | Self::RemoveLeftovers { .. } => None,
        }
    }

    fn describe(&self) -> Description {
        match self {
            Self::Clone(clone) => Description {
                action: Action::Create,
                target: clone.path.display().to_string(),
                summary: {
                    let NewClone { url, branch, commit, parents, .. } = clone;
                    let mut summary = format!("clone {url} at branch {branch}, commit {}", short(commit));
                    if !parents.is_empty() {
                        summary.push_str(&format!(", and create its parent {}", text::directories(parents)));
                    }
                    summary
                },
                before: serde_json::Value::Null,
                after: clone.after(),
                risk: None,
                diff: None,
            },
            Self::RemoveLeftovers { path } => Description {
                action: Action::Delete,
                target: path.display().to_string(),
                summary: "remove what an interrupted run left".to_owned(),
                before: json!({ "leftovers": true }),
                after: json!({ "leftovers": false }),
                risk: None,
                diff: None,
            },
            Self::Update(update) => update.describe(),
        }
    }
}

impl NewClone {
    fn after(&self) -> serde_json::Value {
        let Self { url, branch, commit, parents, newest, files, file_count, .. } = self;
        let mut after = json!({ "url": url, "branch": branch, "commit": commit, "parents": parents });
        if let Some(newest) = newest {
            let added = |path: &String| DeployedFile {
                path: path.clone(),
                change: "added".to_owned(),
                lines: None,
                modes: None,
            };
            after["commits"] = json!([newest]);
            after["file_count"] = json!(file_count);
            after["files"] = files.iter().map(added).collect::<Vec<_>>().into_iter().map(|file| json!(file)).collect();
        }
        after
    }
}

impl Update {
    /// Whether a directory around `path` may be created or removed. git creates a directory with its first file and removes it
    /// with its last, so either all changed files in it are added, or all are deleted.
    fn may_make_or_remove_a_directory_around(&self, path: &Path) -> bool {
        let Ok(name) = path.strip_prefix(&self.path) else { return false };
        let around = name.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty());
        around.into_iter().any(|directory| {
            let within = self.paths.iter().filter(|changed| changed.path.as_path().starts_with(directory));
            let mut changes = within.map(|changed| changed.change);
            changes.next().is_some_and(|first| first != PathChange::Modified && changes.all(|change| change == first))
        })
    }

    fn describe(&self) -> Description {
        let names: Vec<String> = self.in_the_way.iter().map(|local| local.path.to_string()).collect();
        Description {
            action: Action::Update,
            target: self.path.display().to_string(),
            summary: self.summary(),
            before: json!({
                "branch": self.head_branch,
                "commit": self.head,
                "behind": self.behind,
                "in_the_way": self.in_the_way,
                "local_commits": self.local_commits,
                "detached_commits": self.detached_commits,
            }),
            after: json!({
                "branch": self.branch,
                "commit": self.commit,
                "behind": 0,
                "changed_paths": self.paths.len(),
                "stashed": names,
                "commits": self.incoming,
                "commit_count": self.behind,
                "files": self.files(),
            }),
            risk: self.risk(),
            diff: None,
        }
    }

    fn files(&self) -> Vec<DeployedFile> {
        let file = |changed: &ChangedPath| DeployedFile {
            path: changed.path.to_string(),
            change: match changed.change {
                PathChange::Added => "added",
                PathChange::Modified => "modified",
                PathChange::Deleted => "deleted",
            }
            .to_owned(),
            lines: changed.lines,
            modes: changed.modes.clone(),
        };
        self.paths.iter().map(file).collect()
    }

    fn summary(&self) -> String {
        let to = short(&self.commit);
        let mut parts = Vec::new();
        if self.head_branch.as_deref() != Some(self.branch.as_str()) {
            let from = match (&self.head_branch, &self.head) {
                (Some(branch), _) => branch.clone(),
                (None, Some(commit)) => format!("detached {}", short(commit)),
                (None, None) => "nothing".to_owned(),
            };
            parts.push(format!("switch from {from} to {}", self.branch));
        }
        match &self.branch_before {
            None => parts.push(format!("start {} at {to}", self.branch)),
            Some(before) if *before == self.commit => {}
            Some(before) if self.local_commits.is_empty() => parts.push(format!(
                "fast-forward {} by {} ({} to {to})",
                self.branch,
                counted(self.behind, "commit"),
                short(before)
            )),
            Some(before) => parts.push(format!("reset {} from {} to {to}", self.branch, short(before))),
        }
        if let Some(commits) = self.rescued_commits() {
            parts.push(format!("rescue {commits} first"));
        }
        parts.join(", ")
    }

    /// Returns how many commits are rescued, such as `2 local commits`. Those that the remote withdrew are not local.
    fn rescued_commits(&self) -> Option<String> {
        let commits = self.local_commits.iter().chain(&self.detached_commits);
        let noun = if commits.clone().any(|commit| commit.withdrawn) { "commit" } else { "local commit" };
        let count = commits.count();
        (count > 0).then(|| counted(count, noun))
    }

    fn risk(&self) -> Option<String> {
        let mut risks = Vec::new();
        if !self.in_the_way.is_empty() {
            let files: Vec<String> = self.in_the_way.iter().map(ToString::to_string).collect();
            risks.push(format!(
                "{} will be rescued and replaced: {}",
                counted(files.len(), "locally changed file"),
                some_of(&files)
            ));
        }
        let private = self.in_the_way.iter().filter(|local| local.private).map(|local| local.path.to_string());
        let private: Vec<String> = private.collect();
        if !private.is_empty() {
            let (is, its) = if private.len() == 1 { ("is", "its copy") } else { ("are", "their copies") };
            risks.push(format!(
                "{} {is} private: only the checkout's owner can read {its}, and a new file in its place has the usual mode",
                some_of(&private)
            ));
        }
        if let Some(commits) = self.rescued_commits() {
            risks.push(format!("{commits} will be kept under refs/provision/rescue, on no branch"));
        }
        (!risks.is_empty()).then(|| risks.join("; "))
    }
}

/// Returns a count with its noun: `1 file`, `2 files`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Returns the first names, and how many more there are.
pub fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_IN_SUMMARY).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_IN_SUMMARY) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::RepoPath;

    fn change(case: &str) -> RepositoryChange {
        let path = format!("{}/fixtures/diff/repository/{case}/changes.yaml", env!("CARGO_MANIFEST_DIR"));
        let diff: crate::resource::Diff<RepositoryChange> =
            serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        diff.changes.into_iter().next().unwrap()
    }

    #[test]
    fn each_move_is_summed_up_in_a_line() {
        for (case, summary) in [
            ("behind", "fast-forward qa by 2 commits (11111111 to 22222222)"),
            ("behind-with-changes-in-the-way", "fast-forward qa by 2 commits (11111111 to 22222222)"),
            ("other-branch-new-here", "switch from main to qa, start qa at 22222222"),
            (
                "other-branch-that-is-behind",
                "switch from main to qa, fast-forward qa by 2 commits (11111111 to 22222222)",
            ),
            ("detached-at-the-head", "switch from detached 22222222 to qa"),
            ("local-commits-rescued", "reset qa from 11111111 to 22222222, rescue 1 local commit first"),
            ("no-commit-yet", "start qa at 22222222"),
            ("clone", "clone ssh://git@git.example.org/app.git at branch qa, commit 22222222"),
            ("leftovers-of-an-interrupted-run", "remove what an interrupted run left"),
        ] {
            assert_eq!(change(case).describe().summary, summary, "{case}");
        }
    }

    #[test]
    fn a_step_below_a_checkout_is_touched_by_what_changes_its_path() {
        let change = change("behind-with-changes-in-the-way");
        for (path, touched) in [
            ("/srv/app/docker-compose.yml", true),
            ("/srv/app/dags", true),
            ("/srv/app/dags/old.py/x", true),
            ("/srv/app", true),
            ("/srv/app/logs", false),
            ("/srv/app/docker-compose.yml.bak", false),
            ("/srv", true),
            ("/etc", false),
        ] {
            assert_eq!(change.touches(Path::new(path)), touched, "{path}");
        }
    }

    #[test]
    fn a_step_is_touched_where_the_directory_that_it_is_in_may_come_or_go() {
        let RepositoryChange::Update(mut update) = change("behind") else { panic!("no move") };
        let path = |name: &str, change| ChangedPath { path: RepoPath::new(name), change, lines: None, modes: None };
        let (added, modified, deleted) = (PathChange::Added, PathChange::Modified, PathChange::Deleted);
        for (paths, touched) in [
            (vec![path("airflow/dags/a.py", added)], true),
            (vec![path("airflow/a.py", deleted), path("airflow/b.py", deleted)], true),
            (vec![path("airflow/a.py", added), path("airflow/b.py", modified)], false),
            (vec![path("airflow/a.py", added), path("airflow/b.py", deleted)], false),
            (vec![path("a.py", added), path("dbt/a.sql", added)], false),
        ] {
            update.paths = paths.clone();
            let change = RepositoryChange::Update(update.clone());
            assert_eq!(change.touches(&update.path.join("airflow/logs")), touched, "{paths:?}");
        }
    }
}
