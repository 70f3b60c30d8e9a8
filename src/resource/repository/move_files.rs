//! Updates the files of a checkout: they are prepared in the work area and renamed into place one by one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use git2::build::CheckoutBuilder;
use git2::{Index, Oid, Repository};

use super::survey::{Item, Survey, Work};
use crate::failure::Failure;
use crate::git::RepoPath;
use crate::git::error::{git_failure, io_failure};
use crate::git::index::{add, entry};
use crate::git::open::open_repository;
use crate::git::work_area::WorkArea;
use crate::git::worktree::{Seen, changed, create_parents, lstat_below, remove_empty, remove_empty_parents};
use crate::host::fs::adjust_mode;
use crate::host::process::inherited_umask;

/// The directory of the work area with the prepared files.
const STAGE: &str = "stage";

/// Updates the working tree as the survey says. Local work that is in the way has been rescued. Returns the state of each
/// written file before it was renamed into place.
pub fn update_worktree(
    area: &WorkArea,
    repo: &Repository,
    top: &Path,
    target: Oid,
    survey: &Survey,
) -> Result<BTreeMap<RepoPath, Seen>, Failure> {
    let usual = UsualMode::of_this_process();
    let writes = survey.items.iter().filter(|item| item.new.is_some() && !(item.satisfied && usual.has(top, item)));
    let writes: Vec<&Item> = writes.collect();
    stage(area, repo, target, &writes)?;
    remove(top, survey)?;
    let mut brought = BTreeMap::new();
    for item in &writes {
        brought.insert(item.path.clone(), install_file(area, top, survey, item)?);
    }
    // The branch is updated only after the files would survive a power failure.
    let open = fs::File::open(top).map_err(io_failure("open", top))?;
    rustix::fs::syncfs(&open).map_err(io::Error::from).map_err(io_failure("sync", top))?;
    Ok(brought)
}

/// Checks the files out to the work area, with the attributes of the target's own `.gitattributes`.
fn stage(area: &WorkArea, repo: &Repository, target: Oid, writes: &[&Item]) -> Result<(), Failure> {
    let at = area.path(STAGE);
    fs::create_dir(&at).map_err(io_failure("create", &at))?;
    let failed = git_failure("check files out", repo.path());
    let own = open_repository(repo.path()).map_err(&failed)?;
    let tree = own.find_commit(target).and_then(|commit| commit.tree()).map_err(&failed)?;
    let mut all = Index::new().map_err(&failed)?;
    all.read_tree(&tree).map_err(&failed)?;
    let mut index = Index::new().map_err(&failed)?;
    for attributes in
        all.iter().filter(|entry| entry.path.rsplit(|byte| *byte == b'/').next() == Some(b".gitattributes"))
    {
        add(&mut index, &attributes).map_err(&failed)?;
    }
    for item in writes {
        if let Some(blob) = item.new {
            add(&mut index, &entry(item.path.bytes(), blob.id, blob.mode)).map_err(&failed)?;
        }
    }
    own.set_workdir(&at, false).map_err(&failed)?;
    own.set_index(&mut index).map_err(&failed)?;
    let mut options = CheckoutBuilder::new();
    options.force().update_index(false).refresh(false);
    own.checkout_index(Some(&mut index), Some(&mut options)).map_err(&failed)
}

/// Removes deleted files and what is in the way, the deepest first, and the directories that become empty.
fn remove(top: &Path, survey: &Survey) -> Result<(), Failure> {
    let gone = survey.items.iter().filter(|item| item.new.is_none()).map(|item| &item.path);
    let known: std::collections::BTreeSet<&RepoPath> = survey.items.iter().map(|item| &item.path).collect();
    let strays = survey.in_the_way.iter().filter(|(path, local)| !known.contains(path) && local.work != Work::Missing);
    let mut paths: Vec<&RepoPath> = gone.chain(strays.map(|(path, _)| path)).collect();
    paths.sort();
    for path in paths.into_iter().rev() {
        let at = top.join(path.as_path());
        if let Some(found) = lstat_below(top, path)?
            && !found.is_dir()
        {
            check_unchanged(top, path, survey, &found)?;
            fs::remove_file(&at).map_err(io_failure("remove", &at))?;
        }
        remove_empty_parents(top, path);
    }
    Ok(())
}

fn install_file(area: &WorkArea, top: &Path, survey: &Survey, item: &Item) -> Result<Seen, Failure> {
    let at = top.join(item.path.as_path());
    create_parents(top, &item.path)?;
    match lstat_below(top, &item.path)? {
        Some(found) if found.is_dir() => remove_empty(&at)?,
        Some(found) => check_unchanged(top, &item.path, survey, &found)?,
        None => {}
    }
    let new = area.path(STAGE).join(item.path.as_path());
    set_usual_mode(&new, item)?;
    let is_program = item.new.is_some_and(|blob| blob.mode == 0o100_755);
    area.place_as_created(&new, &at, if is_program { 0o777 } else { 0o666 })
}

/// Gives a file the mode that git would give it. libgit2 never gives write access to the group and others.
fn set_usual_mode(new: &Path, item: &Item) -> Result<(), Failure> {
    let Some(mode) = UsualMode::of_this_process().of(item).filter(|mode| mode & 0o022 != 0) else { return Ok(()) };
    match adjust_mode(new, |_| mode) {
        // The file system may have no modes.
        Err(error) if error.is_denied() => Ok(()),
        adjusted => Ok(adjusted?),
    }
}

/// Fails if a file changed after it was compared and rescued.
fn check_unchanged(top: &Path, path: &RepoPath, survey: &Survey, found: &fs::Metadata) -> Result<(), Failure> {
    if survey.seen.get(path) == Some(&Seen::of(found)) { Ok(()) } else { Err(changed(&top.join(path.as_path()))) }
}

/// The mode and owner that git gives to files here.
pub struct UsualMode {
    mask: u32,
    owner: u32,
}

impl UsualMode {
    pub fn of_this_process() -> Self {
        Self { mask: inherited_umask(), owner: rustix::process::geteuid().as_raw() }
    }

    /// Returns the umask.
    pub fn mask(&self) -> u32 {
        self.mask
    }

    /// Returns the mode of the file of an item; `None` for a symlink or a deleted file.
    fn of(&self, item: &Item) -> Option<u32> {
        match item.new?.mode {
            0o100_755 => Some(0o777 & !self.mask),
            0o100_644 => Some(0o666 & !self.mask),
            _ => None,
        }
    }

    /// Whether a file that already has the target's content also has the mode and owner of one that git wrote.
    fn has(&self, top: &Path, item: &Item) -> bool {
        let Ok(Some(found)) = lstat_below(top, &item.path) else { return false };
        found.uid() == self.owner && self.of(item).is_none_or(|mode| mode == found.mode() & 0o7777)
    }
}
