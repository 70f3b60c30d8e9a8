//! Lists, shows and restores rescues.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use git2::{DiffOptions, ObjectType, Repository, Sort};

use super::access::{self, Access};
use super::in_the_way;
use super::opened::{Opened, Rescue, RescueContents};
use super::private_store;
use super::rescue::all;
use super::restore_plan::{PathState, RestorePlan};
use super::undone;
use crate::failure::Failure;
use crate::git::error::{git_failure, io_failure};
use crate::git::open::open_repository;
use crate::git::ownership::check_ownership;
use crate::git::tree::{Blob, subject};
use crate::git::work_area::WorkArea;
use crate::git::worktree::{remove_empty, remove_empty_parents};
use crate::git::{RepoPath, index};
use crate::host::fs::free_name;
use crate::resource::{Extraction, RescueAnswer, Restoring};
use crate::text::shell_word;

/// Returns the rescues of the checkout at `path`, in order of id. There are none without a checkout.
pub fn list(path: &Path) -> Result<Vec<Rescue>, Failure> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match fs::symlink_metadata(path.join(".git")) {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(Vec::new()),
        found => found.map_err(io_failure("look at", path))?,
    };
    let repo = open(path)?;
    let describe = |kept| {
        let found = Opened::open(&repo, path, kept)?;
        Ok(with_restore(&repo, path, &found, found.describe(path)?))
    };
    all(&repo)?.into_iter().map(describe).collect()
}

/// Adds what restoring a rescue now would undo. If it cannot be restored in place, adds a new directory for its files.
fn with_restore(repo: &Repository, path: &Path, found: &Opened<'_>, rescue: Rescue) -> Rescue {
    let Ok(Some(held)) = found.contents(path) else { return rescue };
    match RestorePlan::find(repo, path, &held, &[]) {
        Ok(plan) => {
            let names = undone::names(found, &plan).ok().flatten();
            let undoes = names.map(|names| format!("restoring it undoes what was committed since in {names}"));
            Rescue { undoes, ..rescue }
        }
        Err(_) => {
            // Every user can write to /tmp.
            let elsewhere = || free_name(&Path::new("/tmp").join(&rescue.id), "rescued");
            let elsewhere = in_the_way::is_replaced(repo, &held).then(elsewhere);
            Rescue { elsewhere, ..rescue }
        }
    }
}

/// Shows a rescue: what it is, and its difference as a patch for `git apply`, binary files included.
pub fn show(path: &Path, id: &str) -> Result<Vec<u8>, Failure> {
    let repo = open(path)?;
    let found = Opened::find(&repo, path, id)?;
    let failed = git_failure("show the rescue", path);
    let rescue = found.describe(path)?;
    let mut text = format!("{}\n{}\n\n", rescue.reference, rescue.subject).into_bytes();
    let stashes = found.stashes()?;
    for stash in &stashes {
        let staged = ![stash.work.id(), stash.base_tree.id()].contains(&stash.index.id());
        if staged {
            add_patch(&mut text, "staged:\n", stash.repo, Some(&stash.base_tree), Some(&stash.index))
                .map_err(&failed)?;
        }
        let heading = if staged { "\nin the working tree:\n" } else { "" };
        add_patch(&mut text, heading, stash.repo, Some(&stash.base_tree), Some(&stash.work)).map_err(&failed)?;
        if let Some(untracked) = &stash.untracked {
            add_patch(&mut text, "", stash.repo, None, Some(untracked)).map_err(&failed)?;
        }
    }
    if let (Some(last), true) = (&found.commit, stashes.is_empty()) {
        for commit in line_of(&repo, last).map_err(&failed)? {
            let heading = format!("commit {}: {}\n", commit.id(), subject(&commit));
            let before = commit.parent(0).and_then(|parent| parent.tree()).ok();
            let after = commit.tree().map_err(&failed)?;
            add_patch(&mut text, &heading, &repo, before.as_ref(), Some(&after)).map_err(&failed)?;
        }
    }
    Ok(text)
}

fn add_patch(
    text: &mut Vec<u8>,
    heading: &str,
    repo: &Repository,
    old: Option<&git2::Tree<'_>>,
    new: Option<&git2::Tree<'_>>,
) -> Result<(), git2::Error> {
    text.extend_from_slice(heading.as_bytes());
    let mut options = DiffOptions::new();
    options.show_binary(true);
    repo.diff_tree_to_tree(old, new, Some(&mut options))?.print(git2::DiffFormat::Patch, |_, _, line| {
        if matches!(line.origin(), '+' | '-' | ' ') {
            text.extend(u8::try_from(line.origin()));
        }
        text.extend_from_slice(line.content());
        true
    })
}

/// Returns the commits of a rescue that no branch has, here or at a remote, the oldest first. The last one is always included.
fn line_of<'a>(repo: &'a Repository, last: &git2::Commit<'a>) -> Result<Vec<git2::Commit<'a>>, git2::Error> {
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
    walk.push(last.id())?;
    walk.hide_glob("refs/remotes/*")?;
    walk.hide_glob("refs/heads/*")?;
    let mut commits = walk.map(|id| repo.find_commit(id?)).collect::<Result<Vec<_>, _>>()?;
    if commits.is_empty() {
        commits.push(last.clone());
    }
    Ok(commits)
}

/// Restores the files of a rescue to the working tree, untracked ones included, and staged changes to the index. If newer work
/// would be replaced, nothing is restored. The rescue stays. Returns the paths that were written, removed or staged. A file
/// that was only staged stays as it is, since its content was that of HEAD. Also returns notes about what the restore undoes.
pub fn restore(path: &Path, wanted: &Restoring) -> Result<(Vec<RepoPath>, Vec<String>), Failure> {
    let id = wanted.id.as_str();
    let repo = open(path)?;
    let found = Opened::find(&repo, path, id)?;
    let Some(held) = found.contents(path)? else { return Err(no_files(&found, path)?) };
    let mut area = WorkArea::enter(repo.path())?;
    area.lock(&repo.path().join("index"))?;
    let plan = RestorePlan::find(&repo, path, &held, &wanted.claimed)?;
    let notes = undone::notes(&found, &plan, path)?;
    let stage = area.path("restore");
    fs::create_dir(&stage).map_err(io_failure("create", &stage))?;
    // What needs space or an object is done before the first file is touched.
    let mut rights = Vec::new();
    for (number, (name, blob, _)) in plan.written().enumerate() {
        let access = access::to_restore(path, name, &held.access)?;
        write(found.repository_of(name, &held), blob, access.as_ref(), &stage.join(number.to_string()))?;
        rights.push(access);
    }
    add_staged_objects(&found, &held, &plan, path, &area)?;
    if !plan.staged.is_empty() {
        index::prepare(&area, path, &plan.staged)?;
    }
    // Removals come first, since they make room, and in reverse order, so that directories become empty.
    for (name, there) in plan.removed().rev() {
        let at = path.join(name.as_path());
        there.check_unchanged(path, name)?;
        fs::remove_file(&at).map_err(io_failure("remove", &at))?;
        remove_empty_parents(path, name);
    }
    for (number, (name, _, there)) in plan.written().enumerate() {
        let at = path.join(name.as_path());
        access::create_parents(path, name, &held.access)?;
        there.check_unchanged(path, name)?;
        if there == PathState::Directory && fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
            remove_empty(&at)?;
        }
        let access = rights.get(number).and_then(Option::as_ref);
        area.place(&stage.join(number.to_string()), &at, |copy| access.map_or(Ok(()), |access| access.set(copy)))?;
    }
    if !plan.staged.is_empty() {
        index::install(&area, path)?;
    }
    area.leave()?;
    Ok((plan.paths(), notes))
}

/// Writes the rescued files to a new directory `to`, with their paths in the checkout, which stays as it is. Where the working tree
/// and the index differ, the file of the working tree is written.
pub fn extract(path: &Path, id: &str, to: &Path) -> Result<RescueAnswer, Failure> {
    let repo = open(path)?;
    let found = Opened::find(&repo, path, id)?;
    let Some(held) = found.contents(path)? else { return Err(no_files(&found, path)?) };
    let mut copies = Extraction::create(to)?;
    let mut notes = Vec::new();
    for name in held.paths() {
        let blob = held.files.get(&name).or_else(|| held.staged.get(&name)).copied().flatten();
        let Some(blob) = blob.filter(|blob| blob.mode != 0o160_000) else {
            notes.push(format!("deleted   {name}: there is nothing to write"));
            continue;
        };
        let content = found.repository_of(&name, &held).find_blob(blob.id);
        let content = content.map_err(git_failure("read the rescue", path))?;
        if blob.mode == 0o120_000 {
            copies.link(name.as_path(), std::ffi::OsStr::from_bytes(content.content()))?;
        } else {
            copies.write(name.as_path(), content.content(), blob.mode == 0o100_755)?;
        }
    }
    Ok(copies.answer(notes))
}

/// The failure for a rescue of commits.
fn no_files(found: &Opened<'_>, path: &Path) -> Result<Failure, Failure> {
    let rescue = found.describe(path)?;
    let hint = format!("give them a branch: `{}`", rescue.way_back.unwrap_or_default());
    Ok(Failure::new(format!("{} holds commits, not files", rescue.id)).hint(hint))
}

/// Adds the objects that are to be staged to the repository. Only the owner can read those of private files.
fn add_staged_objects(
    found: &Opened<'_>,
    held: &RescueContents,
    plan: &RestorePlan<'_>,
    top: &Path,
    area: &WorkArea,
) -> Result<(), Failure> {
    let failed = git_failure("stage the rescue's files", top);
    let odb = found.repo.odb().map_err(&failed)?;
    let own = area.path("staged");
    let store = private_store::create(&own)?;
    for (name, blob) in &plan.staged {
        let Some(blob) = blob.filter(|blob| blob.mode != 0o160_000 && !odb.exists(blob.id)) else { continue };
        let Ok(content) = found.repository_of(name, held).find_blob(blob.id) else {
            let missing = format!("nothing was restored: the staged {name} is missing: no object {}", blob.id);
            let hint = format!("look at it with `git -C {} fsck`", shell_word(top));
            return Err(Failure::new(missing).hint(hint));
        };
        store.odb().and_then(|store| store.write(ObjectType::Blob, content.content())).map_err(&failed)?;
    }
    private_store::restrict(&own)?;
    area.install_private_objects(&own)
}

fn open(path: &Path) -> Result<Repository, Failure> {
    if let Some(obstacle) = check_ownership(path, &path.join(".git"))? {
        return Err(obstacle.refusal(path));
    }
    open_repository(path).map_err(git_failure("open the repository", path))
}

fn write(repo: &Repository, blob: Blob, access: Option<&Access>, to: &Path) -> Result<(), Failure> {
    let found = repo.find_blob(blob.id).map_err(git_failure("read the rescue", repo.path()))?;
    let failed = io_failure("write", to);
    if blob.mode == 0o120_000 {
        return std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(found.content()), to).map_err(failed);
    }
    let mut file = fs::File::create_new(to).map_err(&failed)?;
    io::Write::write_all(&mut file, found.content()).map_err(&failed)?;
    if let Some(access) = access {
        access.set(to)?;
    } else if blob.mode == 0o100_755 {
        let mode = file.metadata().map_err(&failed)?.mode() & 0o777;
        let mode = mode | ((mode & 0o444) >> 2);
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(&failed)?;
    }
    file.sync_all().map_err(&failed)
}
