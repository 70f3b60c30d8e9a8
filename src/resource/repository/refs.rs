//! Writes refs, HEAD, reflogs and the branch's configuration as git does, one atomic step each.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use git2::{Config, Oid, Repository, Signature, Time};

use super::work_area::WorkArea;
use super::{git_failure, io_failure};
use crate::failure::Failure;
use crate::resource::repository::Repository as Desired;

/// Who writes commits and reflogs: the configured identity, or the login name at this host as git makes it up.
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
            let login = users::get_user_by_uid(uid)
                .map_or_else(|| format!("uid-{uid}"), |user| user.name().to_string_lossy().into_owned());
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

/// Sets `name` to `new` in one step, under git's lock, if it still is `old`.
pub fn set(area: &mut WorkArea, repo: &Repository, name: &str, old: Option<Oid>, new: Oid) -> Result<(), Failure> {
    let target = repo.path().join(name);
    area.lock(&target)?;
    expect(repo, name, old)?;
    area.install(&target, format!("{new}\n").as_bytes())?;
    area.unlock(&target)
}

/// The commit that the ref `name` is at; none where there is no such ref. One that cannot be read is not taken for none.
pub fn target(repo: &Repository, name: &str) -> Result<Option<Oid>, Failure> {
    match repo.find_reference(name) {
        Ok(reference) => Ok(reference.target()),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
        Err(error) => Err(git_failure(&format!("read {name}"), repo.path())(error)),
    }
}

/// Fails where the ref `name` is no longer at `old`.
pub fn expect(repo: &Repository, name: &str, old: Option<Oid>) -> Result<(), Failure> {
    if target(repo, name)? == old {
        Ok(())
    } else {
        Err(Failure::new(format!("{name} in {} has moved meanwhile", repo.path().display())).hint("run again"))
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
    // An interrupted run may have written this line and not moved the ref.
    let last = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(io_failure("read", &path))?,
    };
    let last = last.strip_suffix(b"\n").unwrap_or(&last).rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if last.starts_with(format!("{old} {new} ").as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io_failure("create", folder))?;
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
    file.write_all(line.as_bytes()).map_err(&failed)
}

/// The commits in the reflog of `name`, each once; none where there is no reflog that can be read.
///
/// The file is read here because libgit2 creates a reflog that is missing.
pub fn logged(repo: &Repository, name: &str) -> Vec<Oid> {
    let text = fs::read(repo.path().join("logs").join(name)).unwrap_or_default();
    let ids = text.split(|byte| *byte == b'\n').flat_map(|line| line.split(|byte| *byte == b' ').take(2));
    let ids = ids.filter_map(|id| Oid::from_str(std::str::from_utf8(id).ok()?).ok());
    let ids: BTreeSet<Oid> = ids.filter(|id| !id.is_zero()).collect();
    ids.into_iter().collect()
}

/// How lines of HEAD's reflog begin that tell of a commit made in this very repository, beside those of `git commit`.
const MADE: [&str; 6] = ["merge ", "pull", "rebase", "cherry-pick", "am:", "revert:"];

/// What says that HEAD was only moved to a commit.
const MOVED: [&str; 7] =
    ["fast-forward", "(start)", "(finish)", "(abort)", "returning to ", "updating head", ": checkout "];

/// The commits that HEAD's reflog says were made here, by a person's own command; none where it says nothing. What came by
/// a fetch is not among them.
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

/// The commits that the remote-tracking branches name, of every remote.
pub fn at_remotes(repo: &Repository) -> Result<Vec<Oid>, git2::Error> {
    let mut found = BTreeSet::new();
    for reference in repo.references_glob("refs/remotes/*")?.flatten() {
        if let Ok(commit) = reference.peel_to_commit() {
            found.insert(commit.id());
        }
    }
    Ok(found.into_iter().collect())
}

/// A ref that cannot stand beside one of `names`, since one name is a directory of the other, and the wanted one.
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

/// Whether this user can make and remove files in a directory.
pub fn can_change_names_in(folder: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// The refs that a move sets.
pub fn moved(repo: &Repository, desired: &Desired) -> Result<Vec<String>, Failure> {
    let branch = format!("refs/heads/{}", desired.branch);
    Ok([Some(branch), tracking(repo, &desired.remote, &desired.branch)?].into_iter().flatten().collect())
}

/// The first of git's own files and directories which a move writes and this user cannot: refs, logs, objects, index.
pub fn unwritable(repo: &Repository, desired: &Desired) -> Result<Option<PathBuf>, Failure> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let git = repo.path();
    let refs = moved(repo, desired)?;
    // A file is replaced by a rename in its directory; a log is written to, and so is the directory of a new one.
    let logs = refs.iter().map(String::as_str).chain(["HEAD"]).map(|name| git.join("logs").join(name));
    let (logs, new): (Vec<PathBuf>, Vec<PathBuf>) = logs.partition(|log| log.exists());
    let replaced = refs.iter().map(|name| git.join(name)).chain([git.join("HEAD"), git.join("objects/pack/new")]);
    let folders = replaced
        .chain(new)
        .filter_map(|path| path.ancestors().skip(1).find(|folder| folder.is_dir()).map(Path::to_owned));
    let folders = folders.chain([git.join("objects")]).map(|path| (path, Access::WRITE_OK | Access::EXEC_OK));
    let mut all = folders.chain(logs.into_iter().map(|path| (path, Access::WRITE_OK | Access::READ_OK)));
    let found = all.find(|(path, wanted)| accessat(CWD, path, *wanted, AtFlags::EACCESS).is_err());
    Ok(found.map(|(path, _)| path))
}

/// The remote-tracking branch that the remote's fetch configuration gives to `branch`, where it gives one.
///
/// # Errors
/// Where the configuration has no such remote, as one has that cannot be read.
pub fn tracking(repo: &Repository, remote: &str, branch: &str) -> Result<Option<String>, Failure> {
    let remote = repo.find_remote(remote).map_err(git_failure("read the configuration of the remote", repo.path()))?;
    let source = format!("refs/heads/{branch}");
    let name = remote
        .refspecs()
        .filter(|spec| spec.direction() == git2::Direction::Fetch && spec.src_matches(&source))
        .find_map(|spec| spec.transform(&source).ok().map(|name| String::from_utf8_lossy(&name).into_owned()));
    // `+refs/heads/*:refs/heads/*` names the branch itself, which is moved anyway.
    Ok(name.filter(|name| *name != source))
}

/// Makes `branch` follow the remote's branch of the same name, as `git checkout` does when it makes one.
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
    // The configuration may be a link; it is its target that git writes to.
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
        return Err(
            Failure::new(format!("{} leads to another file system", link.display())).hint("make it a plain file")
        );
    }
    area.unlock(&link)
}
