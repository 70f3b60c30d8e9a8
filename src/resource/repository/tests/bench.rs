//! A remote, someone who pushes to it, and a checkout of it, all made afresh.

use crate::failure::Failure;
use crate::git::RepoPath;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::secret::Digester;
use crate::resource::ObserveContext;
use crate::resource::repository::actual::Actual;
use crate::resource::repository::{Repository, RepositoryChange, clone, diff, leftovers, observe, restore, update};
use crate::resource::{Diff, Restoring};

pub struct Bench {
    pub dir: tempfile::TempDir,
}

/// Runs git with nothing of this host in its environment.
pub fn git(folder: &Path, args: &[&str]) -> String {
    let output = try_git(folder, args);
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn try_git(folder: &Path, args: &[&str]) -> std::process::Output {
    Command::new("git")
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.org")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "init.defaultBranch")
        .env("GIT_CONFIG_VALUE_0", "main")
        .output()
        .unwrap()
}

impl Bench {
    /// `main` and `qa` at the remote, one commit ahead of it on `qa`, and a checkout on `qa`.
    pub fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        git(bench.dir.path(), &["init", "-q", "--bare", "remote.git"]);
        git(bench.dir.path(), &["init", "-q", "seed"]);
        git(&bench.seed(), &["remote", "add", "origin", bench.remote().to_str().unwrap()]);
        bench.commit(
            "first",
            &[("a", Some("a1\n")), ("b", Some("b1\n")), ("d/c", Some("c1\n")), ("run.sh", Some("#!\n"))],
        );
        git(&bench.seed(), &["push", "-q", "origin", "main"]);
        git(&bench.seed(), &["checkout", "-q", "-b", "qa"]);
        bench.commit("qa begins", &[("q", Some("q1\n"))]);
        git(&bench.seed(), &["push", "-q", "origin", "qa"]);
        git(bench.dir.path(), &["clone", "-q", "-b", "qa", bench.remote().to_str().unwrap(), "checkout"]);
        bench
    }

    pub fn remote(&self) -> PathBuf {
        self.dir.path().join("remote.git")
    }

    pub fn seed(&self) -> PathBuf {
        self.dir.path().join("seed")
    }

    pub fn checkout(&self) -> PathBuf {
        self.dir.path().join("checkout")
    }

    /// Commits files (or their removal) in the seed.
    pub fn commit(&self, message: &str, files: &[(&str, Option<&str>)]) {
        for (name, content) in files {
            write(&self.seed(), name, *content);
        }
        git(&self.seed(), &["add", "-A"]);
        git(&self.seed(), &["commit", "-q", "-m", message]);
    }

    /// Commits and pushes to `qa`.
    pub fn push(&self, message: &str, files: &[(&str, Option<&str>)]) {
        self.commit(message, files);
        git(&self.seed(), &["push", "-q", "origin", "qa"]);
    }

    pub fn desired(&self) -> Repository {
        desired(&self.checkout())
    }
}

pub fn desired(path: &Path) -> Repository {
    serde_yaml::from_str(&format!("{{ path: {}, branch: qa }}", path.display())).unwrap()
}

/// Writes a file, or removes what is there; parents are made, and what stands in their place goes.
pub fn write(top: &Path, name: &str, content: Option<&str>) {
    let path = top.join(name);
    let Some(content) = content else {
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            let _ = fs::remove_file(&path);
        }
        return;
    };
    let mut above = top.to_owned();
    for part in Path::new(name).parent().unwrap() {
        above.push(part);
        if fs::symlink_metadata(&above).is_ok_and(|found| !found.is_dir()) {
            fs::remove_file(&above).unwrap();
        }
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(&path).unwrap();
    }
    if path.is_symlink() {
        fs::remove_file(&path).unwrap();
    }
    match content.strip_prefix("-> ") {
        Some(target) => {
            let _ = fs::remove_file(&path);
            std::os::unix::fs::symlink(target, &path).unwrap();
        }
        None => fs::write(&path, content).unwrap(),
    }
}

pub fn plan(desired: &Repository) -> Result<Result<Diff<RepositoryChange>, Failure>, Failure> {
    let actual = observe::observe(desired)?;
    let sent: Actual = serde_json::from_str(&serde_json::to_string(&actual).unwrap()).unwrap();
    assert_eq!(sent, actual);
    Ok(diff::diff(desired, &actual))
}

/// Restores a rescue in a checkout that no other step sees to.
pub fn restore(top: &Path, id: &str) -> Result<Vec<RepoPath>, Failure> {
    restore_with_notes(top, id).map(|(paths, _)| paths)
}

/// Restores a rescue, and also returns the notes.
pub fn restore_with_notes(top: &Path, id: &str) -> Result<(Vec<RepoPath>, Vec<String>), Failure> {
    restore::restore(top, &Restoring { id: id.to_owned(), ..Restoring::default() })
}

pub fn execute(desired: &Repository, change: &RepositoryChange, run: &str) -> Result<(), Failure> {
    match change {
        RepositoryChange::Clone(change) => {
            clone::execute(desired, change, &ObserveContext::on_host(Digester::with_key([7; 32]), BTreeMap::new()))
        }
        RepositoryChange::Update(change) => update::execute(desired, change, run),
        RepositoryChange::RemoveLeftovers { .. } => leftovers::remove(&desired.path),
    }
}

/// Plans, executes, and checks that the step then has converged; gives back what was planned.
pub fn apply(desired: &Repository, run: &str) -> Diff<RepositoryChange> {
    let planned = plan(desired).unwrap().unwrap();
    assert_eq!(plan(desired).unwrap().unwrap(), planned, "a plan is repeatable");
    for change in &planned.changes {
        execute(desired, change, run).unwrap();
    }
    let after = plan(desired).unwrap().unwrap();
    assert_eq!(after.changes, [], "converged");
    assert!(!desired.path.join(".git/provision").exists());
    planned
}

/// The refusal of a plan.
pub fn refusal(desired: &Repository) -> Failure {
    plan(desired).unwrap().unwrap_err()
}

/// Type, mode, owner and bytes of everything below `top` but `.git`.
pub fn files(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(top, top, &mut found, &|name| name == ".git", false);
    found
}

/// The same with times, `.git` included.
pub fn snapshot(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(top, top, &mut found, &|_| false, true);
    found
}

fn collect(top: &Path, folder: &Path, found: &mut BTreeMap<String, String>, skip: &dyn Fn(&str) -> bool, times: bool) {
    if folder == top {
        note(top, top, found, times);
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !skip(&name) && note(top, &path, found, times) {
            collect(top, &path, found, skip, times);
        }
    }
}

/// Notes one path; says whether it is a directory.
fn note(top: &Path, path: &Path, found: &mut BTreeMap<String, String>, times: bool) -> bool {
    let meta = fs::symlink_metadata(path).unwrap();
    let content = if meta.is_symlink() {
        fs::read_link(path).unwrap().display().to_string()
    } else if meta.is_file() {
        format!("{:?}", String::from_utf8_lossy(&fs::read(path).unwrap()))
    } else {
        String::new()
    };
    let mut line = format!("{:o} {} {content}", meta.mode(), meta.uid());
    if times {
        line += &format!(" {}.{} {}.{}", meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    }
    found.insert(path.strip_prefix(top).unwrap().display().to_string(), line);
    meta.is_dir()
}

/// All that a person sees of a checkout.
pub fn seen(top: &Path) -> Vec<String> {
    let fsck = try_git(top, &["fsck", "--no-dangling", "--no-reflogs"]);
    vec![
        git(top, &["status", "--porcelain=v2", "--branch"]),
        git(top, &["stash", "list"]),
        git(top, &["ls-files", "-s"]),
        git(top, &["rev-parse", "--symbolic-full-name", "HEAD"]),
        git(top, &["for-each-ref", "refs/heads", "refs/remotes/origin/qa"]),
        format!("{} {}", fsck.status, String::from_utf8_lossy(&fsck.stderr)),
        format!("{:#?}", files(top)),
    ]
}

pub fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
