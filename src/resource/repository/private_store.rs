//! Where the private files of a rescue are kept: `.git/provision-private/ID`, a bare repository of its own.
//!
//! Whoever can enter `.git` can read its objects, whatever git makes of them: a pack, a clone, what is pushed. So what
//! some user cannot read never becomes an object of the checkout's repository.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use git2::{Commit, Oid, Repository};

use super::work_area::sync;
use super::{git_failure, io_failure, read_configuration_once};
use crate::failure::Failure;

/// The directory's name in the git directory.
const FOLDER: &str = "provision-private";

/// git's own words for a repository that its owner alone can read (`core.sharedRepository` in git-config(1)).
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tsharedRepository = 0600\n";

/// Where the private files of the rescue `id` are.
pub fn folder(repo: &Repository, id: &str) -> PathBuf {
    repo.path().join(FOLDER).join(id)
}

/// The ids of the rescues that have private files.
pub fn ids(repo: &Repository) -> Result<Vec<String>, Failure> {
    let all = repo.path().join(FOLDER);
    let failed = io_failure("read", &all);
    let entries = match fs::read_dir(&all) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(&failed)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(&failed)?;
        if let Ok(id) = entry.file_name().into_string()
            && entry.path().join("HEAD").exists()
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Opens what is kept for the rescue `id`; none where it has no private files.
pub fn open(repo: &Repository, id: &str) -> Result<Option<Repository>, Failure> {
    let at = folder(repo, id);
    if at.join("HEAD").exists() { open_at(&at).map(Some) } else { Ok(None) }
}

fn open_at(at: &Path) -> Result<Repository, Failure> {
    let failed = git_failure("open the private files of a rescue", at);
    let repo = Repository::open_bare(at).map_err(&failed)?;
    read_configuration_once(&repo).map_err(&failed)?;
    Ok(repo)
}

/// The one commit that a store holds.
pub fn commit(store: &Repository) -> Result<Commit<'_>, Failure> {
    let head = store.find_reference("HEAD").and_then(|head| head.peel_to_commit());
    head.map_err(git_failure("read the private files of a rescue", store.path()))
}

/// Makes an empty store at `at`, in a directory that its owner alone can enter. It sees no other repository's objects,
/// or it would count on those to stay.
pub fn create(at: &Path) -> Result<Repository, Failure> {
    let failed = io_failure("write", at);
    for part in ["", "objects", "refs"] {
        DirBuilder::new().mode(0o700).create(at.join(part)).map_err(&failed)?;
    }
    fs::write(at.join("HEAD"), "ref: refs/heads/none\n").map_err(&failed)?;
    fs::write(at.join("config"), CONFIG).map_err(&failed)?;
    open_at(at)
}

/// Puts the store at `from` in its place in one step, as the one of the rescue `id`.
pub fn install(repo: &Repository, from: &Path, commit: Oid, id: &str) -> Result<(), Failure> {
    let head = from.join("HEAD");
    fs::write(&head, format!("{commit}\n")).map_err(io_failure("write", &head))?;
    restrict(from)?;
    let target = folder(repo, id);
    let all = repo.path().join(FOLDER);
    match DirBuilder::new().mode(0o700).create(&all) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_private(&all)?,
        made => made.map_err(io_failure("create", &all))?,
    }
    fs::rename(from, &target).map_err(io_failure("write", &target))?;
    sync(&all)?;
    sync(repo.path())
}

/// Takes all rights from everybody but the owner, and writes all through to the disk.
pub fn restrict(folder: &Path) -> Result<(), Failure> {
    let failed = io_failure("read", folder);
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let path = entry.map_err(&failed)?.path();
        if path.is_dir() {
            restrict(&path)?;
        } else {
            fs::set_permissions(&path, Permissions::from_mode(0o400)).map_err(io_failure("set the mode of", &path))?;
            sync(&path)?;
        }
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io_failure("set the mode of", folder))?;
    sync(folder)
}

/// In a git directory that is shared with a group, another user may have made the directory, or opened it.
fn check_private(folder: &Path) -> Result<(), Failure> {
    let found = fs::symlink_metadata(folder).map_err(io_failure("look at", folder))?;
    if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let at = super::quoted(&folder.to_string_lossy());
    Err(Failure::new(format!(
        "{} is not for the checkout's owner alone: no private file is kept there",
        folder.display()
    ))
    .hint(format!("look at who made it: `ls -ld {at}`; if it is yours: `chmod 700 {at}`")))
}
