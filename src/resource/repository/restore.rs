//! Lists, shows and gives back what was rescued.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use git2::{ObjectType, Oid, Repository, Sort, TreeWalkMode, TreeWalkResult};
use serde::{Deserialize, Serialize};

use super::delta::{Blob, entries, subject, usual};
use super::path::RepoPath;
use super::rescue::{NAMESPACE, Stash, all};
use super::todo::{There, Todo};
use super::work_area::WorkArea;
use super::{git_failure, index_file, io_failure, move_files, observe, open_repository, quoted};
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
    /// What brings commits back, for a shell.
    pub way_back: Option<String>,
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
///
/// Where there is no checkout, there is none.
pub fn list(path: &Path) -> Result<Vec<Rescue>, Failure> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match fs::symlink_metadata(path.join(".git")) {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(Vec::new()),
        found => found.map_err(io_failure("look at", path))?,
    };
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
    let mut add = |heading: &str, old: Option<&git2::Tree<'_>>, new: Option<&git2::Tree<'_>>| {
        text.push_str(heading);
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
            let staged = ![stash.work.id(), stash.base_tree.id()].contains(&stash.index.id());
            if staged {
                add("staged:\n", Some(&stash.base_tree), Some(&stash.index)).map_err(&failed)?;
            }
            let heading = if staged { "\nin the working tree:\n" } else { "" };
            add(heading, Some(&stash.base_tree), Some(&stash.work)).map_err(&failed)?;
            if let Some(untracked) = &stash.untracked {
                add("", None, Some(untracked)).map_err(&failed)?;
            }
        }
        None => {
            for commit in line_of(&repo, &commit).map_err(&failed)? {
                let heading = format!("commit {}: {}\n", commit.id(), subject(&commit));
                let before = commit.parent(0).and_then(|parent| parent.tree()).ok();
                add(&heading, before.as_ref(), Some(&commit.tree().map_err(&failed)?)).map_err(&failed)?;
            }
        }
    }
    Ok(text)
}

/// The commits of a rescue, the oldest first: those that no branch has, here or at a remote; the last one at least.
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

/// Brings the files of a rescue back into the working tree: bytes, executable bits, untracked ones too; and what was
/// staged into the index. All of it or, where newer work would be replaced, nothing. The rescue stays. Gives back the paths that
/// were written, removed or staged. A file that was only staged stays as it is: its bytes were those of HEAD.
pub fn restore(path: &Path, id: &str) -> Result<Vec<RepoPath>, Failure> {
    let repo = open(path)?;
    let (rescue, commit) = find(&repo, path, id)?;
    let failed = git_failure("read the rescue", path);
    let commit = repo.find_commit(commit).map_err(&failed)?;
    let Some(stash) = Stash::open(&repo, &commit) else {
        let hint = format!("give them a branch: `{}`", rescue.way_back.unwrap_or_default());
        return Err(Failure::new(format!("{id} holds commits, not files")).hint(hint));
    };
    let held = Held::of(&repo, &stash).map_err(&failed)?;
    let mut area = WorkArea::enter(repo.path())?;
    area.lock(&repo.path().join("index"))?;
    let todo = Todo::find(&repo, path, &rescue.reference, &held)?;
    let stage = area.path("restore");
    fs::create_dir(&stage).map_err(io_failure("create", &stage))?;
    // What needs room or an object comes before the first file is touched.
    for (number, (_, blob, _)) in todo.written().enumerate() {
        write(&repo, blob, &stage.join(number.to_string()))?;
    }
    let odb = repo.odb().map_err(&failed)?;
    for (name, blob) in &todo.staged {
        if let Some(blob) = blob.filter(|blob| blob.mode != 0o160_000)
            && !odb.exists(blob.id)
        {
            return Err(Failure::new(format!(
                "nothing was restored: the staged {name} is missing: no object {}",
                blob.id
            ))
            .hint(format!("look at it with `git -C {} fsck`", quoted(&path.to_string_lossy()))));
        }
    }
    if !todo.staged.is_empty() {
        index_file::prepare(&area, path, &todo.staged)?;
    }
    // What goes may stand where something else is to come, and a directory goes after what is in it.
    for (name, there) in todo.removed().rev() {
        let at = path.join(name.as_path());
        there.still(path, name)?;
        fs::remove_file(&at).map_err(io_failure("remove", &at))?;
        move_files::prune(path, name);
    }
    for (number, (name, _, there)) in todo.written().enumerate() {
        let at = path.join(name.as_path());
        move_files::make_folders(path, name)?;
        there.still(path, name)?;
        if there == There::Directory && fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
            move_files::remove_empty(&at)?;
        }
        fs::rename(stage.join(number.to_string()), &at).map_err(io_failure("write", &at))?;
    }
    if !todo.staged.is_empty() {
        index_file::install(&area, path)?;
    }
    area.leave()?;
    Ok(todo.paths())
}

fn open(path: &Path) -> Result<Repository, Failure> {
    if let Some(obstacle) = observe::foreign_hands(path, &path.join(".git"))? {
        return Err(obstacle.refusal(path).into());
    }
    open_repository(path).map_err(git_failure("open the repository", path))
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
        Some(stash) => Held::of(repo, stash).map_err(&failed)?.paths(),
        None => Vec::new(),
    };
    let reference = format!("{NAMESPACE}{id}");
    let git = format!("git -C {}", quoted(&path.to_string_lossy()));
    Ok(Rescue {
        way_back: stash.is_none().then(|| format!("{git} branch rescued-{id} {reference}")),
        delete: format!("{git} update-ref -d {reference}"),
        kind: if stash.is_some() { RescueKind::Changes } else { RescueKind::Commits },
        commit: commit.to_string(),
        subject: subject(&found),
        time: found.time().seconds(),
        id,
        reference,
        files,
    })
}

/// What a rescue holds, by path; nothing for what was gone.
pub struct Held {
    /// What the working tree had of its own.
    pub files: BTreeMap<RepoPath, Option<Blob>>,
    /// What was staged.
    pub staged: BTreeMap<RepoPath, Option<Blob>>,
}

impl Held {
    fn of(repo: &Repository, stash: &Stash<'_>) -> Result<Self, git2::Error> {
        let changed = |tree| -> Result<BTreeMap<RepoPath, Option<Blob>>, git2::Error> {
            let entries = entries(repo, Some(stash.base.id()), Some(tree))?;
            Ok(entries.into_iter().map(|entry| (entry.path, entry.new)).collect())
        };
        let (mut files, mut staged) = (changed(&stash.work)?, changed(&stash.index)?);
        if let Some(untracked) = &stash.untracked {
            untracked.walk(TreeWalkMode::PreOrder, |folder, entry| {
                if entry.kind() == Some(ObjectType::Blob)
                    && let Ok(mode) = u32::try_from(entry.filemode_raw())
                {
                    let mut name = folder.as_bytes().to_vec();
                    name.extend_from_slice(entry.name_bytes());
                    files.insert(RepoPath::new(name), Some(Blob { id: entry.id(), mode: usual(mode) }));
                }
                TreeWalkResult::Ok
            })?;
        }
        files.retain(|path, _| path.is_safe());
        staged.retain(|path, _| path.is_safe());
        Ok(Self { files, staged })
    }

    fn paths(&self) -> Vec<RepoPath> {
        let paths: BTreeSet<&RepoPath> = self.files.keys().chain(self.staged.keys()).collect();
        paths.into_iter().cloned().collect()
    }
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
