//! Lists, shows and gives back what was rescued.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use git2::{ObjectType, Oid, Repository, RepositoryOpenFlags, TreeWalkMode, TreeWalkResult};
use serde::{Deserialize, Serialize};

use super::delta::{Blob, blob_in, entries, subject};
use super::path::RepoPath;
use super::rescue::{NAMESPACE, Stash, all};
use super::survey::{lstat_below, mode_of, raw_id};
use super::work_area::WorkArea;
use super::{git_failure, io_failure, quoted};
use crate::resource::Failure;

/// A rescue, as `rescue list` names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rescue {
    /// What to give to `rescue show` and `rescue restore`: the run, and `-commits` or `-detached` for commits.
    pub id: String,
    /// The ref's full name.
    pub reference: String,
    pub kind: RescueKind,
    /// The commit that the ref names, hexadecimal.
    pub commit: String,
    pub subject: String,
    /// Seconds since 1970: the newest file of a rescue of changes, the last commit of a rescue of commits.
    pub time: i64,
    /// The files of a rescue of changes, in order.
    pub files: Vec<RepoPath>,
    /// What deletes the rescue, for a shell.
    pub delete: String,
}

/// What was rescued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RescueKind {
    /// Local changes, in a commit of the shape that `git stash` makes.
    Changes,
    /// Commits that the remote does not have.
    Commits,
}

/// The rescues of the checkout at `path`, in order of id.
pub fn list(path: &Path) -> Result<Vec<Rescue>, Failure> {
    let repo = open(path)?;
    all(&repo)?.into_iter().map(|(id, commit)| describe(&repo, path, id, commit)).collect()
}

/// The text of one rescue: what it is, and the difference it holds as a patch.
pub fn show(path: &Path, id: &str) -> Result<String, Failure> {
    let repo = open(path)?;
    let (rescue, commit) = find(&repo, path, id)?;
    let failed = git_failure("show the rescue", path);
    let mut text = format!("{}\n{}\n\n", rescue.reference, rescue.subject);
    let commit = repo.find_commit(commit).map_err(&failed)?;
    let mut patch = |old: Option<&git2::Tree<'_>>, new: Option<&git2::Tree<'_>>| -> Result<(), git2::Error> {
        let diff = repo.diff_tree_to_tree(old, new, None)?;
        diff.print(git2::DiffFormat::Patch, |_, _, line| {
            if matches!(line.origin(), '+' | '-' | ' ') {
                text.push(line.origin());
            }
            text.push_str(&String::from_utf8_lossy(line.content()));
            true
        })
    };
    match Stash::open(&repo, &commit) {
        Some(stash) => {
            patch(Some(&stash.base_tree), Some(&stash.work)).map_err(&failed)?;
            if let Some(untracked) = &stash.untracked {
                patch(None, Some(untracked)).map_err(&failed)?;
            }
        }
        None => {
            let before = commit.parent(0).and_then(|parent| parent.tree()).ok();
            patch(before.as_ref(), Some(&commit.tree().map_err(&failed)?)).map_err(&failed)?;
        }
    }
    Ok(text)
}

/// Brings the files of a rescue back into the working tree: bytes, modes, untracked ones too. All of them or, where
/// one would replace newer work, none. The rescue stays. Gives back the paths that were written or removed.
pub fn restore(path: &Path, id: &str) -> Result<Vec<RepoPath>, Failure> {
    let repo = open(path)?;
    let (rescue, commit) = find(&repo, path, id)?;
    let failed = git_failure("read the rescue", path);
    let commit = repo.find_commit(commit).map_err(&failed)?;
    let Some(stash) = Stash::open(&repo, &commit) else {
        return Err(Failure::new(format!("{id} holds commits, not files")).hint(format!(
            "give them a branch: `git -C {} branch rescued-{id} {}`",
            quoted(&path.to_string_lossy()),
            rescue.reference
        )));
    };
    let wanted = files_of(&repo, &stash).map_err(&failed)?;
    let area = WorkArea::enter(repo.path())?;
    let todo = check(&repo, path, &rescue, &wanted)?;
    let stage = area.path("restore");
    fs::create_dir(&stage).map_err(io_failure("create", &stage))?;
    for (number, (name, blob)) in todo.iter().enumerate() {
        let at = path.join(name.as_path());
        match blob {
            None => fs::remove_file(&at).map_err(io_failure("remove", &at))?,
            Some(blob) => {
                let new = stage.join(number.to_string());
                write(&repo, *blob, &new)?;
                if let Some(folder) = at.parent() {
                    fs::create_dir_all(folder).map_err(io_failure("create", folder))?;
                }
                if fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
                    fs::remove_dir(&at).map_err(io_failure("replace the directory", &at))?;
                }
                fs::rename(&new, &at).map_err(io_failure("write", &at))?;
            }
        }
    }
    area.leave()?;
    Ok(todo.into_iter().map(|(name, _)| name.clone()).collect())
}

fn open(path: &Path) -> Result<Repository, Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let found = fs::symlink_metadata(path).map_err(io_failure("look at", path))?;
    if found.uid() != uid {
        return Err(Failure::new(format!("the checkout {} belongs to another user", path.display()))
            .hint("git work is done as the checkout's owner alone: set run_as"));
    }
    Repository::open_ext(path, RepositoryOpenFlags::NO_SEARCH, std::iter::empty::<&Path>())
        .map_err(git_failure("open the repository", path))
}

fn find(repo: &Repository, path: &Path, id: &str) -> Result<(Rescue, Oid), Failure> {
    let all = all(repo)?;
    let known: Vec<String> = all.iter().map(|(id, _)| id.clone()).collect();
    let Some((id, commit)) = all.into_iter().find(|(known, _)| known == id) else {
        let hint = if known.is_empty() { "there is none".to_owned() } else { format!("there is {}", known.join(", ")) };
        return Err(Failure::new(format!("{} has no rescue {id}", path.display())).hint(hint));
    };
    Ok((describe(repo, path, id, commit)?, commit))
}

fn describe(repo: &Repository, path: &Path, id: String, commit: Oid) -> Result<Rescue, Failure> {
    let failed = git_failure("read a rescue", path);
    let found = repo.find_commit(commit).map_err(&failed)?;
    let stash = Stash::open(repo, &found);
    let files = match &stash {
        Some(stash) => files_of(repo, stash).map_err(&failed)?.into_keys().collect(),
        None => Vec::new(),
    };
    let reference = format!("{NAMESPACE}{id}");
    Ok(Rescue {
        delete: format!("git -C {} update-ref -d {reference}", quoted(&path.to_string_lossy())),
        kind: if stash.is_some() { RescueKind::Changes } else { RescueKind::Commits },
        commit: commit.to_string(),
        subject: subject(&found),
        time: found.time().seconds(),
        id,
        reference,
        files,
    })
}

/// What the working tree had; nothing for a file that was gone.
fn files_of(repo: &Repository, stash: &Stash<'_>) -> Result<BTreeMap<RepoPath, Option<Blob>>, git2::Error> {
    let mut files = BTreeMap::new();
    for entry in entries(repo, Some(stash.base.id()), Some(&stash.work))? {
        files.insert(entry.path, entry.new);
    }
    // What was only staged: the file itself was as HEAD has it.
    for entry in entries(repo, Some(stash.base.id()), Some(&stash.index))? {
        let there = blob_in(&stash.work, &entry.path);
        files.entry(entry.path).or_insert(there);
    }
    if let Some(untracked) = &stash.untracked {
        untracked.walk(TreeWalkMode::PreOrder, |folder, entry| {
            if entry.kind() == Some(ObjectType::Blob)
                && let Ok(mode) = u32::try_from(entry.filemode_raw())
            {
                let mut name = folder.as_bytes().to_vec();
                name.extend_from_slice(entry.name_bytes());
                files.insert(RepoPath::new(name), Some(Blob { id: entry.id(), mode }));
            }
            TreeWalkResult::Ok
        })?;
    }
    files.retain(|path, _| path.is_safe());
    Ok(files)
}

/// What has to be written, after a look that nothing newer would be lost.
fn check<'a>(
    repo: &Repository,
    top: &Path,
    rescue: &Rescue,
    wanted: &'a BTreeMap<RepoPath, Option<Blob>>,
) -> Result<Vec<(&'a RepoPath, Option<Blob>)>, Failure> {
    let mut todo = Vec::new();
    let mut newer = Vec::new();
    for (path, blob) in wanted {
        let at = top.join(path.as_path());
        let blocked = path
            .parents()
            .any(|above| fs::symlink_metadata(top.join(above.as_path())).is_ok_and(|found| !found.is_dir()));
        let found = lstat_below(top, path)?;
        let current = match &found {
            Some(found) => match mode_of(found, None) {
                Some(mode) => Some(Blob { id: raw_id(&at, mode)?, mode }),
                None => None,
            },
            None => None,
        };
        if current == *blob && (found.is_none() || current.is_some()) {
            continue;
        }
        let free = match (&found, current) {
            _ if blocked => false,
            (None, _) => true,
            // A directory may be replaced where there is nothing in it.
            (Some(found), None) => found.is_dir() && is_empty(&at),
            (Some(_), Some(_)) => repo.status_file(path.as_path()).is_ok_and(|status| status == git2::Status::CURRENT),
        };
        if free {
            todo.push((path, *blob));
        } else {
            newer.push(path.to_string());
        }
    }
    if newer.is_empty() {
        return Ok(todo);
    }
    Err(Failure::new(format!(
        "nothing was restored: {} would be overwritten, with local changes of its own",
        newer.join(", ")
    ))
    .hint(format!(
        "commit or move these first; a single file comes from `git -C {} show {}:FILE`, an untracked one from `{}^3:FILE`",
        quoted(&top.to_string_lossy()),
        rescue.reference,
        rescue.reference
    )))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn write(repo: &Repository, blob: Blob, to: &Path) -> Result<(), Failure> {
    let found = repo.find_blob(blob.id).map_err(git_failure("read the rescue", repo.path()))?;
    let failed = io_failure("write", to);
    if blob.mode == 0o120_000 {
        return std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(found.content()), to).map_err(failed);
    }
    let mut file = fs::File::create_new(to).map_err(&failed)?;
    io::Write::write_all(&mut file, found.content()).map_err(&failed)?;
    if blob.mode == 0o100_755 {
        let mode = file.metadata().map_err(&failed)?.mode() & 0o777;
        let mode = mode | ((mode & 0o444) >> 2);
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(&failed)?;
    }
    file.sync_all().map_err(&failed)
}
