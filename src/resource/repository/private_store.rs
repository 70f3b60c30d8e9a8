//! The private files of a rescue, in a bare repository of its own: `.git/provision-private/ID`.
//!
//! Whoever can enter `.git` can read its objects, and git may pack, clone and push them. So a file that some user cannot read
//! never becomes an object of the checkout's repository.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use git2::{Commit, Oid, Repository};

use crate::failure::Failure;
use crate::git::error::{git_failure, io_failure};
use crate::git::open::read_configuration_once;
use crate::git::work_area::sync;
use crate::host::users::{as_root, name_or_id};
use crate::text::shell_word;

/// The directory's name in the git directory.
const FOLDER: &str = "provision-private";

/// The configuration of a repository that only its owner can read (`core.sharedRepository` in git-config(1)).
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tsharedRepository = 0600\n";

/// Returns where the private files of the rescue `id` are.
pub fn folder(repo: &Repository, id: &str) -> PathBuf {
    repo.path().join(FOLDER).join(id)
}

/// Returns the ids of the rescues that have private files.
pub fn ids(repo: &Repository) -> Result<Vec<String>, Failure> {
    let all = repo.path().join(FOLDER);
    let failed = io_failure("read", &all);
    let entries = match fs::read_dir(&all) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            check_private(&all)?;
            return Err(failed(error));
        }
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

/// Opens the private files of the rescue `id`, if it has any.
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

/// Returns the only commit of a store.
pub fn commit(store: &Repository) -> Result<Commit<'_>, Failure> {
    let head = store.find_reference("HEAD").and_then(|head| head.peel_to_commit());
    head.map_err(git_failure("read the private files of a rescue", store.path()))
}

/// Creates an empty store at `at` that only its owner can enter. It has no alternates, since their objects may be removed.
pub fn create(at: &Path) -> Result<Repository, Failure> {
    let failed = io_failure("write", at);
    for part in ["", "objects", "refs"] {
        DirBuilder::new().mode(0o700).create(at.join(part)).map_err(&failed)?;
    }
    fs::write(at.join("HEAD"), "ref: refs/heads/none\n").map_err(&failed)?;
    fs::write(at.join("config"), CONFIG).map_err(&failed)?;
    open_at(at)
}

/// Moves the store at `from` to its place in one step, as that of the rescue `id`.
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

/// Removes all rights of everybody but the owner, and syncs everything.
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

/// Checks that private files can be kept, if some have been before.
///
/// # Errors
/// Others can use the directory.
pub fn check(repo: &Repository) -> Result<(), Failure> {
    let all = repo.path().join(FOLDER);
    if fs::symlink_metadata(&all).is_err() { Ok(()) } else { check_private(&all) }
}

/// Checks that only the owner can use the directory. In a shared git directory, another user may have created or opened it.
fn check_private(folder: &Path) -> Result<(), Failure> {
    let found = fs::symlink_metadata(folder).map_err(io_failure("look at", folder))?;
    let user = rustix::process::geteuid().as_raw();
    if found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let (at, shown) = (shell_word(folder), folder.display());
    if found.is_dir() && found.uid() != user {
        let git = folder.parent().unwrap_or(folder);
        let give = as_root(&format!("chown -Rh --reference={} {at}", shell_word(git)));
        return Err(Failure::new(format!(
            "{shown} belongs to {}, and only its owner can use the private files that are kept there",
            name_or_id(found.uid())
        ))
        .hint(format!("find out who made it: `ls -ld {at}`; give it to the checkout's owner: `{give}`")));
    }
    Err(Failure::new(format!("{shown} is accessible to others than its owner: no private file is kept there"))
        .hint(format!("find out who opened it: `ls -ld {at}`; close it: `chmod 700 {at}`")))
}
