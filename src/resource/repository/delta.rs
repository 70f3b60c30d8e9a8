//! The difference between HEAD and the remote's head: commits and paths. It is fetched once per process.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use git2::{Oid, Repository, Sort};

use super::actual::{ChangedPath, Commit, PathChange};
use super::position::Position;
use crate::failure::Failure;
use crate::git::error::git_failure;
use crate::git::pack::FetchedPack;
use crate::git::remote::{self, History, Scratch, Site, Tag, configured};
use crate::git::tree::{self, Blob, Entry, blob_in, entries, subject};
use crate::git::{Obstacle, tree_check};
use crate::resource::{DeployedCommit, Lines, Modes};
use crate::text::clean;

/// The maximum number of new commits that are described.
const MAX_COMMITS: usize = 100;
/// The maximum number of changed files with their numbers of lines.
pub const MAX_COMPARED_FILES: usize = 200;
/// The largest file whose lines are counted, in bytes.
pub const MAX_COMPARED_BYTES: usize = 256 << 10;

/// The difference between HEAD and the remote's head, in order of path.
#[derive(Debug, Default)]
pub struct Delta {
    pub entries: Vec<Entry>,
    pub behind: usize,
    /// The first of these commits, the newest first.
    pub incoming: Vec<DeployedCommit>,
    /// The numbers of lines that differ, for the first entries.
    pub lines: Vec<Option<Lines>>,
    pub local_commits: Vec<Commit>,
    pub detached_commits: Vec<Commit>,
    pub obstacles: Vec<Obstacle>,
    /// What was fetched and is not in the repository yet.
    pub packs: Vec<FetchedPack>,
    /// New tags of the remote, of commits that the checkout has or gets.
    pub tags: Vec<Tag>,
}

impl Delta {
    /// Returns the paths that differ, as a change has them.
    pub fn changed_paths(&self) -> Vec<ChangedPath> {
        let changed = |(number, entry): (usize, &Entry)| {
            let change = match (&entry.old, &entry.new) {
                (None, _) => PathChange::Added,
                (_, None) => PathChange::Deleted,
                _ => PathChange::Modified,
            };
            let lines = self.lines.get(number).copied().flatten();
            ChangedPath { path: entry.path.clone(), change, lines, modes: modes(entry) }
        };
        self.entries.iter().enumerate().map(changed).collect()
    }
}

/// What this process has fetched, by checkout, position and target.
type Fetched = Mutex<HashMap<(PathBuf, Position, Oid), Arc<Delta>>>;
static FETCHED: LazyLock<Fetched> = LazyLock::new(Mutex::default);

/// Finds the difference between the position of `repo` and `target`. Missing objects are fetched to scratch storage.
pub fn find(repo: &Repository, site: &Site<'_>, position: &Position, target: Oid) -> Result<Arc<Delta>, Failure> {
    let top = site.top;
    let key = (top.to_owned(), position.clone(), target);
    if let Some(known) = FETCHED.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(Arc::clone(known));
    }
    let failed = git_failure("compare HEAD with the remote's head", top);
    if is_whole(repo, position, target) {
        // Not remembered, since objects that no ref needs can be removed at any time (git-gc(1)).
        return compute(repo, position, target).map(Arc::new).map_err(failed);
    }
    let (scratch, git) = Scratch::with(site, |git| remote::download(git, site, History::Needed))?;
    let view = scratch.repo();
    if view.find_commit(target).is_err() {
        return Err(remote::moved_on(site.url));
    }
    let mut delta = compute(view, position, target).map_err(failed)?;
    let odb = view.odb().map_err(git_failure("read what was fetched from", top))?;
    if configured::follows_tags(repo, site.remote)? {
        delta.tags = remote::follow_tags(&git, site, |name| repo.find_reference(name).is_ok(), |id| odb.exists(id))?;
    }
    delta.packs = scratch.packs()?;
    let delta = Arc::new(delta);
    FETCHED.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&delta));
    Ok(delta)
}

/// Whether the repository has `target` with all that it needs: at a ref, or complete down to one.
fn is_whole(repo: &Repository, position: &Position, target: Oid) -> bool {
    if repo.find_commit(target).is_err() {
        return false;
    }
    if position.tips.contains(&target) {
        return true;
    }
    // A commit that an interrupted fetch left may lack parents or files.
    let check = || -> Result<bool, git2::Error> {
        let mut walk = repo.revwalk()?;
        walk.push(target)?;
        for tip in &position.tips {
            walk.hide(*tip)?;
        }
        let odb = repo.odb()?;
        for commit in walk {
            let tree = repo.find_commit(commit?)?.tree()?;
            if !tree::is_whole(repo, &odb, tree.id())? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    check().unwrap_or(false)
}

/// Compares in `view`, a repository that has the objects of both sides.
fn compute(view: &Repository, position: &Position, target: Oid) -> Result<Delta, git2::Error> {
    let tree = view.find_commit(target)?.tree()?;
    let mut obstacles = tree_check::obstacles(view, &tree)?;
    let mut entries = entries(view, position.head, Some(&tree))?;
    if let Some(earlier) =
        position.tracking.filter(|earlier| view.graph_descendant_of(target, *earlier).unwrap_or(false))
    {
        let earlier = view.find_commit(earlier)?.tree()?;
        for entry in &mut entries {
            entry.interim = blob_in(&earlier, &entry.path);
        }
    }
    for entry in &entries {
        if entry.old.is_some_and(|old| old.mode == 0o160_000) {
            obstacles.push(Obstacle::Submodules { path: entry.path.clone() });
        }
    }
    let base = position.branch.or(position.head);
    let behind = walk(view, target, base.as_slice())?;
    let incoming = behind.take(MAX_COMMITS).map(|id| deployed(&view.find_commit(id?)?)).collect::<Result<_, _>>()?;
    Ok(Delta {
        lines: entries.iter().take(MAX_COMPARED_FILES).map(|entry| lines_of(view, entry)).collect(),
        entries,
        behind: walk(view, target, base.as_slice())?.count(),
        incoming,
        local_commits: match position.branch {
            Some(branch) => commits(view, branch, &[target], position)?,
            None => Vec::new(),
        },
        detached_commits: match position.head {
            Some(head) if position.detached => {
                let mut named = position.tips.clone();
                named.push(target);
                commits(view, head, &named, position)?
            }
            _ => Vec::new(),
        },
        obstacles,
        packs: Vec::new(),
        tags: Vec::new(),
    })
}

fn walk<'a>(view: &'a Repository, from: Oid, hidden: &[Oid]) -> Result<git2::Revwalk<'a>, git2::Error> {
    let mut walk = view.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
    walk.push(from)?;
    for commit in hidden {
        walk.hide(*commit)?;
    }
    Ok(walk)
}

/// Describes a commit that the remote has added.
pub fn deployed(commit: &git2::Commit<'_>) -> Result<DeployedCommit, git2::Error> {
    Ok(DeployedCommit {
        id: commit.id().to_string(),
        subject: subject(commit),
        author: clean(&String::from_utf8_lossy(commit.author().name_bytes())),
        time: commit.committer().when().seconds(),
    })
}

fn is_file(blob: &Blob) -> bool {
    blob.mode & 0o170_000 == 0o100_000
}

/// Returns the modes of a file if they differ. git knows two: whether a file can be executed.
fn modes(entry: &Entry) -> Option<Modes> {
    let (old, new) = (entry.old.filter(is_file)?, entry.new.filter(is_file)?);
    let mode = |blob: Blob| format!("{:04o}", blob.mode & 0o777);
    (old.mode != new.mode).then(|| Modes { before: mode(old), after: mode(new) })
}

/// Counts the lines that differ. `None`: a side is binary, large, or not a file.
fn lines_of(view: &Repository, entry: &Entry) -> Option<Lines> {
    if ![entry.old, entry.new].iter().flatten().all(is_file) {
        return None;
    }
    if let (Some(old), Some(new)) = (entry.old, entry.new)
        && old.id == new.id
    {
        return Some(Lines { added: 0, removed: 0 });
    }
    let odb = view.odb().ok()?;
    let side = |blob: Option<Blob>| blob.map_or(Some(Vec::new()), |blob| content(&odb, blob.id));
    changed_lines(&side(entry.old)?, &side(entry.new)?)
}

/// Returns the content of a blob that is not too large to compare.
pub fn content(odb: &git2::Odb<'_>, blob: Oid) -> Option<Vec<u8>> {
    // The size is in the header, which is read first.
    let (size, _) = odb.read_header(blob).ok()?;
    (size <= MAX_COMPARED_BYTES).then(|| odb.read(blob).ok().map(|object| object.data().to_vec()))?
}

/// Counts the lines that differ. `None`: a side is binary.
pub fn changed_lines(old: &[u8], new: &[u8]) -> Option<Lines> {
    let patch = git2::Patch::from_buffers(old, None, new, None, None).ok()?;
    if patch.delta().flags().is_binary() {
        return None;
    }
    let (_, added, removed) = patch.line_stats().ok()?;
    Some(Lines { added, removed })
}

/// Returns the commits from `from` down to those in `hidden`, newest first.
fn commits(view: &Repository, from: Oid, hidden: &[Oid], position: &Position) -> Result<Vec<Commit>, git2::Error> {
    // A commit that the remote's branch never had is not an ancestor of the commits that it was at.
    let mut seen = hidden.to_vec();
    let reflog = position.tracking.iter().chain(&position.seen_at_remote).copied();
    seen.extend(reflog.filter(|commit| view.find_commit(*commit).is_ok()));
    let local: HashSet<Oid> = walk(view, from, &seen)?.collect::<Result<_, _>>()?;
    seen.extend(position.at_remotes.iter().filter(|commit| view.find_commit(**commit).is_ok()));
    let mut own: HashSet<Oid> = walk(view, from, &seen)?.collect::<Result<_, _>>()?;
    own.retain(|commit| position.made_here.contains(commit));
    walk(view, from, hidden)?
        .map(|id| {
            let commit = view.find_commit(id?)?;
            let withdrawn = !local.contains(&commit.id());
            let made_here = own.contains(&commit.id());
            Ok(Commit { id: commit.id().to_string(), subject: subject(&commit), withdrawn, made_here })
        })
        .collect()
}
