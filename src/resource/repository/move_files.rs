//! Brings the files of a move into place: prepared beside the repository, renamed one by one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use git2::build::CheckoutBuilder;
use git2::{Index, Oid, Repository};

use super::index_file::{add, entry};
use super::path::RepoPath;
use super::survey::{Item, Seen, Survey, Work, lstat_below};
use super::work_area::WorkArea;
use super::{git_failure, io_failure, open_repository};
use crate::failure::Failure;

/// Name of the area's directory with the files to come.
const STAGE: &str = "stage";

/// Makes the working tree what the survey says. Local work that is in the way has been rescued. Gives back the files that
/// it brought, as they were before they were renamed into place.
pub fn settle(
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
        brought.insert(item.path.clone(), place(area, top, survey, item)?);
    }
    // The branch is to move only when the files would survive a power cut.
    let open = fs::File::open(top).map_err(io_failure("open", top))?;
    rustix::fs::syncfs(&open).map_err(io::Error::from).map_err(io_failure("write through to disk", top))?;
    Ok(brought)
}

/// Checks the files out into the area, with the attributes that the target's own `.gitattributes` give them.
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

/// Takes away what goes and what is in the way, deepest names first, and the directories that it leaves empty.
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
            unchanged(top, path, survey, &found)?;
            fs::remove_file(&at).map_err(io_failure("remove", &at))?;
        }
        prune(top, path);
    }
    Ok(())
}

/// Removes the directories above `path` that are empty, as git does.
pub fn prune(top: &Path, path: &RepoPath) {
    let above: Vec<RepoPath> = path.parents().collect();
    for folder in above.iter().rev() {
        let plain = lstat_below(top, folder).ok().flatten().is_some_and(|found| found.is_dir());
        if plain && fs::remove_dir(top.join(folder.as_path())).is_err() {
            break;
        }
    }
}

fn place(area: &WorkArea, top: &Path, survey: &Survey, item: &Item) -> Result<Seen, Failure> {
    let at = top.join(item.path.as_path());
    make_folders(top, &item.path)?;
    match lstat_below(top, &item.path)? {
        Some(found) if found.is_dir() => remove_empty(&at)?,
        Some(found) => unchanged(top, &item.path, survey, &found)?,
        None => {}
    }
    let new = area.path(STAGE).join(item.path.as_path());
    let seen = Seen::of(&fs::symlink_metadata(&new).map_err(io_failure("look at", &new))?);
    fs::rename(new, &at).map_err(io_failure("write", &at))?;
    Ok(seen)
}

/// Makes the directories above a path, and follows no link on the way.
pub fn make_folders(top: &Path, path: &RepoPath) -> Result<(), Failure> {
    for above in path.parents() {
        let folder = top.join(above.as_path());
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(&folder).map_err(io_failure("look at", &folder))?;
                if !found.is_dir() {
                    return Err(changed(&folder));
                }
            }
            Err(error) => return Err(io_failure("create", &folder)(error)),
        }
    }
    Ok(())
}

/// Removes a directory that holds nothing but directories.
pub fn remove_empty(folder: &Path) -> Result<(), Failure> {
    let failed = io_failure("remove", folder);
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if !entry.file_type().map_err(&failed)?.is_dir() {
            return Err(changed(&entry.path()));
        }
        remove_empty(&entry.path())?;
    }
    fs::remove_dir(folder).map_err(failed)
}

/// A file is replaced or removed only as it was when it was compared and rescued.
fn unchanged(top: &Path, path: &RepoPath, survey: &Survey, found: &fs::Metadata) -> Result<(), Failure> {
    if survey.seen.get(path) == Some(&Seen::of(found)) { Ok(()) } else { Err(changed(&top.join(path.as_path()))) }
}

/// A file is not as it was when it was compared.
pub fn changed(path: &Path) -> Failure {
    Failure::new(format!("{} was changed in this very moment; it is left as it is", path.display())).hint("run again")
}

/// Mode and owner that git gives to files here.
pub struct UsualMode {
    mask: u32,
    owner: u32,
}

impl UsualMode {
    pub fn of_this_process() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let mask = mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022);
        Self { mask, owner: rustix::process::geteuid().as_raw() }
    }

    /// The umask.
    pub fn mask(&self) -> u32 {
        self.mask
    }

    /// Whether the file that has the target's content already is also like one that git wrote.
    fn has(&self, top: &Path, item: &Item) -> bool {
        let Ok(Some(found)) = lstat_below(top, &item.path) else { return false };
        let wanted = match item.new.map(|blob| blob.mode) {
            Some(0o100_755) => 0o777 & !self.mask,
            Some(0o100_644) => 0o666 & !self.mask,
            _ => found.mode() & 0o7777,
        };
        found.uid() == self.owner && found.mode() & 0o7777 == wanted
    }
}
