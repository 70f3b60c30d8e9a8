//! Reads and writes refs, reflogs and the configuration of branches as git does, each in one atomic step.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use git2::{Config, Oid, Repository, Signature, Time};

use super::error::{git_failure, io_failure};
use super::remote::configured::tracking;
use super::shared::Shared;
use super::work_area::WorkArea;
use crate::failure::Failure;
use crate::host::fs::{Denial, Dir};
use crate::host::users::User;
use crate::text::shell_word;

/// Returns who writes commits and reflogs: the configured identity, or else the login name at this host, as git does.
pub fn identity(repo: &Repository, time: Option<Time>) -> Result<Signature<'static>, Failure> {
    let failed = git_failure("find an identity", repo.path());
    let configured = repo.signature();
    let (name, email) = match &configured {
        Ok(signature) => (
            String::from_utf8_lossy(signature.name_bytes()).into_owned(),
            String::from_utf8_lossy(signature.email_bytes()).into_owned(),
        ),
        Err(_) => {
            let uid = rustix::process::geteuid().as_raw();
            let login = User::by_id(uid).ok().flatten().map_or_else(|| format!("uid-{uid}"), |user| user.name);
            let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
            (login.clone(), format!("{login}@{}", host.unwrap_or_else(|_| "localhost".to_owned())))
        }
    };
    match time {
        Some(time) => Signature::new(&name, &email, &time),
        None => Signature::now(&name, &email),
    }
    .map(|signature| signature.to_owned())
    .map_err(failed)
}

/// Sets the ref `name` to `new` in one step, under git's lock, if it is still at `old`.
pub fn set(area: &mut WorkArea, repo: &Repository, name: &str, old: Option<Oid>, new: Oid) -> Result<(), Failure> {
    let target = repo.path().join(name);
    area.lock(&target)?;
    set_locked(area, repo, name, old, new)?;
    area.unlock(&target)
}

/// Sets the ref `name`, whose lock the caller holds, to `new` in one step, if it is still at `old`.
pub fn set_locked(area: &WorkArea, repo: &Repository, name: &str, old: Option<Oid>, new: Oid) -> Result<(), Failure> {
    expect(repo, name, old)?;
    area.install(&repo.path().join(name), format!("{new}\n").as_bytes())
}

/// Returns the commit that the ref `name` is at, or `None` if there is no such ref.
///
/// # Errors
/// The ref cannot be read.
pub fn target(repo: &Repository, name: &str) -> Result<Option<Oid>, Failure> {
    match repo.find_reference(name) {
        Ok(reference) => Ok(reference.target()),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
        Err(error) => Err(git_failure(&format!("read {name}"), repo.path())(error)),
    }
}

/// Fails if the ref `name` is no longer at `old`.
pub fn expect(repo: &Repository, name: &str, old: Option<Oid>) -> Result<(), Failure> {
    if target(repo, name)? == old {
        Ok(())
    } else {
        Err(Failure::new(format!("{name} in {} was changed meanwhile", repo.path().display())).hint("run again"))
    }
}

/// Appends a line to the reflog of `name`, as git does for HEAD, branches and remote-tracking branches.
pub fn log(repo: &Repository, name: &str, old: Option<Oid>, new: Oid, message: &str) -> Result<(), Failure> {
    let path = repo.path().join("logs").join(name);
    let wanted = repo.config().and_then(|config| config.get_bool("core.logAllRefUpdates")).unwrap_or(true);
    if !wanted && !path.exists() {
        return Ok(());
    }
    let old = old.unwrap_or(Oid::ZERO_SHA1);
    let failed = io_failure("write", &path);
    // An interrupted run may have written this line without moving the ref.
    let last = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(io_failure("read", &path))?,
    };
    let last = last.strip_suffix(b"\n").unwrap_or(&last).rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if last.starts_with(format!("{old} {new} ").as_bytes()) {
        return Ok(());
    }
    let shared = Shared::of(&repo.config().map_err(git_failure("read the configuration", repo.path()))?);
    if let Some(folder) = path.parent() {
        shared.create_dirs(folder)?;
    }
    let who = identity(repo, None)?;
    let offset = who.when().offset_minutes();
    let sign = if offset < 0 { '-' } else { '+' };
    let line = format!(
        "{old} {new} {} <{}> {} {sign}{:02}{:02}\t{message}\n",
        String::from_utf8_lossy(who.name_bytes()),
        String::from_utf8_lossy(who.email_bytes()),
        who.when().seconds(),
        offset.abs() / 60,
        offset.abs() % 60,
    );
    let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(&failed)?;
    file.write_all(line.as_bytes()).map_err(&failed)?;
    shared.adjust(&path)
}

/// Returns the commits in the reflog of `name`, each once. There are none if the reflog cannot be read.
///
/// libgit2 is not asked, since it creates a missing reflog.
pub fn logged(repo: &Repository, name: &str) -> Vec<Oid> {
    let text = fs::read(repo.path().join("logs").join(name)).unwrap_or_default();
    let ids = text.split(|byte| *byte == b'\n').flat_map(|line| line.split(|byte| *byte == b' ').take(2));
    let ids = ids.filter_map(|id| Oid::from_str(std::str::from_utf8(id).ok()?).ok());
    let ids: BTreeSet<Oid> = ids.filter(|id| !id.is_zero()).collect();
    ids.into_iter().collect()
}

/// How the lines of HEAD's reflog begin that report a commit made in this repository, besides those of `git commit`.
const MADE: [&str; 6] = ["merge ", "pull", "rebase", "cherry-pick", "am:", "revert:"];

/// What such a line contains if HEAD was only moved to an existing commit.
const MOVED: [&str; 7] =
    ["fast-forward", "(start)", "(finish)", "(abort)", "returning to ", "updating head", ": checkout "];

/// Returns the commits that were made in this repository by a person's own command, according to HEAD's reflog. Fetched
/// commits are not among them.
pub fn made_here(repo: &Repository) -> Vec<Oid> {
    let text = fs::read(repo.path().join("logs/HEAD")).unwrap_or_default();
    let mut made = BTreeSet::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let Some((ids, message)) = line.split_once('\t') else { continue };
        let message = message.to_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
        let is_made = ["commit:", "commit ("].iter().any(|begin| message.starts_with(begin))
            || MADE.iter().any(|begin| message.starts_with(begin)) && !has(&MOVED);
        if let (true, Some(Ok(id))) = (is_made, ids.split(' ').nth(1).map(Oid::from_str)) {
            made.insert(id);
        }
    }
    made.into_iter().collect()
}

/// Returns the commits at the remote-tracking branches of all remotes.
pub fn at_remotes(repo: &Repository) -> Result<Vec<Oid>, git2::Error> {
    let mut found = BTreeSet::new();
    for reference in repo.references_glob("refs/remotes/*")?.flatten() {
        if let Ok(commit) = reference.peel_to_commit() {
            found.insert(commit.id());
        }
    }
    Ok(found.into_iter().collect())
}

/// Returns a ref that cannot exist beside one of `names`, since one name is a directory of the other, and that name.
pub fn conflict(repo: &Repository, names: &[String]) -> Result<Option<(String, String)>, Failure> {
    let failed = git_failure("list the refs", repo.path());
    for reference in repo.references().map_err(&failed)? {
        let found = String::from_utf8_lossy(reference.map_err(&failed)?.name_bytes()).into_owned();
        let within = |below: &str, above: &str| below.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
        if let Some(name) = names.iter().find(|name| within(name, &found) || within(&found, name)) {
            return Ok(Some((found, name.clone())));
        }
    }
    Ok(None)
}

/// Returns the refs that an update of `branch` sets.
pub fn moved(repo: &Repository, remote: &str, branch: &str) -> Result<Vec<String>, Failure> {
    let tracking = tracking(repo, remote, branch)?.into_iter().map(|tracking| tracking.name);
    Ok([format!("refs/heads/{branch}")].into_iter().chain(tracking).collect())
}

/// Returns what prevents the acting user from an update of `refs`, of their logs, of HEAD, the index and the object store.
///
/// # Errors
/// A file or directory cannot be examined.
pub fn denial(repo: &Repository, refs: &[String]) -> Result<Option<Denial>, Failure> {
    let git = repo.path();
    // A file is replaced by a rename in its directory. A log is appended to, or created in its directory.
    let logs = refs.iter().map(String::as_str).chain(["HEAD"]).map(|name| git.join("logs").join(name));
    let (logs, new): (Vec<PathBuf>, Vec<PathBuf>) = logs.partition(|log| log.exists());
    let own = ["HEAD", "index", "objects/new", "objects/pack/new"].map(|name| git.join(name));
    let replaced = refs.iter().map(|name| git.join(name)).chain(own).chain(new);
    if let Some(denial) = denial_at(replaced)? {
        return Ok(Some(denial));
    }
    for log in logs {
        if let (Some(folder), Some(name)) = (log.parent(), log.file_name())
            && let Some(denial) = Dir::follow(folder)?.append_denial(name)?
        {
            return Ok(Some(denial));
        }
    }
    Ok(None)
}

/// Returns what prevents the acting user from creating or replacing one of these files.
///
/// # Errors
/// A file or directory cannot be examined.
pub fn denial_at(files: impl IntoIterator<Item = PathBuf>) -> Result<Option<Denial>, Failure> {
    for file in files {
        let Some((folder, name)) = file.ancestors().find_map(|at| {
            let folder = at.parent().filter(|folder| folder.is_dir())?;
            Some((folder, at.file_name()?))
        }) else {
            continue;
        };
        let folder = Dir::follow(folder)?;
        let denial = match folder.entry_denial()? {
            // An empty directory is removed for a ref.
            None if !file.is_dir() => folder.removal_denial(name)?,
            denial => denial,
        };
        if denial.is_some() {
            return Ok(denial);
        }
    }
    Ok(None)
}

/// Returns a new file in each directory of loose objects: which of them new objects go to depends on their content.
///
/// # Errors
/// The object store cannot be read.
pub fn places_of_new_objects(repo: &Repository) -> Result<Vec<PathBuf>, Failure> {
    let objects = repo.path().join("objects");
    let failed = io_failure("read", &objects);
    let mut places = Vec::new();
    for entry in fs::read_dir(&objects).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        // The directories of loose objects are named by the first byte of their ids.
        if entry.file_name().len() == 2 {
            places.push(entry.path().join("new"));
        }
    }
    Ok(places)
}

/// Makes `branch` track the remote's branch of the same name, as `git checkout` does for a new branch.
pub fn follow(area: &mut WorkArea, repo: &Repository, remote: &str, branch: &str) -> Result<(), Failure> {
    let keys = [
        (format!("branch.{branch}.remote"), remote.to_owned()),
        (format!("branch.{branch}.merge"), format!("refs/heads/{branch}")),
    ];
    let failed = git_failure("configure the branch", repo.path());
    let there = repo.config().map_err(&failed)?;
    if keys.iter().all(|(key, value)| there.get_string(key).is_ok_and(|found| found == *value)) {
        return Ok(());
    }
    // If the configuration is a symlink, git writes to its target.
    let link = repo.path().join("config");
    let target: PathBuf = fs::canonicalize(&link).map_err(io_failure("read", &link))?;
    area.lock(&link)?;
    let new = area.path("config");
    fs::copy(&target, &new).map_err(io_failure("copy", &target))?;
    let mut config = Config::open(&new).map_err(&failed)?;
    for (key, value) in &keys {
        config.set_str(key, value).map_err(&failed)?;
    }
    let same_device = |path: &Path| fs::metadata(path).map(|found| std::os::unix::fs::MetadataExt::dev(&found)).ok();
    if target.parent().and_then(same_device) == same_device(&new) {
        area.install_file(&new, &target)?;
    } else {
        return Err(Failure::new(format!("cannot change {}: it is a symlink to another file system", link.display()))
            .hint(format!(
                "replace it by a regular file: `cp --remove-destination {} {}`",
                shell_word(&target),
                shell_word(&link)
            )));
    }
    area.unlock(&link)
}
