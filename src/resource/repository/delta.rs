//! The way from HEAD to the remote's head: commits, paths, and what the target tree asks for. Fetched once a process.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use git2::{DiffOptions, ObjectType, Oid, Repository, Sort};

use super::actual::{ChangedPath, Commit, Obstacle, PathChange};
use super::path::RepoPath;
use super::remote::{History, Site, Tag};
use super::scratch::{FetchedPack, Scratch};
use super::{git_failure, remote, tree_check};
use crate::failure::Failure;
use crate::text::is_hidden;

/// A file in a tree or index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    pub id: Oid,
    /// As git writes it: `0o100644`, `0o100755`, `0o120000`.
    pub mode: u32,
}

/// A path in which two trees differ.
#[derive(Debug, Clone)]
pub struct Entry {
    pub path: RepoPath,
    pub old: Option<Blob>,
    pub new: Option<Blob>,
    /// What an earlier head of the remote had here, which an interrupted run may have been bringing in. The target's
    /// history holds it, so nothing is lost with it.
    pub interim: Option<Blob>,
}

impl Entry {
    /// The path as changes name it.
    pub fn changed(&self) -> ChangedPath {
        let change = match (&self.old, &self.new) {
            (None, _) => PathChange::Added,
            (_, None) => PathChange::Deleted,
            _ => PathChange::Modified,
        };
        ChangedPath { path: self.path.clone(), change }
    }
}

/// All that is known of the way, in order of path.
#[derive(Debug, Default)]
pub struct Delta {
    pub entries: Vec<Entry>,
    pub behind: usize,
    pub local_commits: Vec<Commit>,
    pub detached_commits: Vec<Commit>,
    pub obstacles: Vec<Obstacle>,
    /// What had to be fetched: not in the repository yet.
    pub packs: Vec<FetchedPack>,
    /// Tags of the remote that are not here yet, and belong to what is.
    pub tags: Vec<Tag>,
}

/// Where the repository stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    pub head: Option<Oid>,
    pub detached: bool,
    /// Where the wanted branch stands.
    pub branch: Option<Oid>,
    /// Where the remote's branch stood when it was last fetched.
    pub tracking: Option<Oid>,
    /// Where the remote's branch has been, by the reflog of its remote-tracking branch.
    pub seen_at_remote: Vec<Oid>,
    /// The commits that were made in this repository, by HEAD's reflog.
    pub made_here: Vec<Oid>,
    /// The commits that the remote-tracking branches of all remotes name.
    pub at_remotes: Vec<Oid>,
    /// The commits that local refs name.
    pub tips: Vec<Oid>,
}

/// The objects that a fetch of this process brought, by checkout, position and target.
type Known = Mutex<HashMap<(PathBuf, Position, Oid), Arc<Delta>>>;
static KNOWN: LazyLock<Known> = LazyLock::new(Mutex::default);

/// Finds the way from where `repo` stands to `target`, fetching what is missing into scratch space.
pub fn find(repo: &Repository, site: &Site<'_>, position: &Position, target: Oid) -> Result<Arc<Delta>, Failure> {
    let top = site.top;
    let key = (top.to_owned(), position.clone(), target);
    if let Some(known) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(Arc::clone(known));
    }
    let failed = git_failure("compare HEAD with the remote's head", top);
    if is_whole(repo, position, target) {
        // Not kept: objects that no ref needs can go at any time (git-gc(1)), and then they have to be fetched.
        return compute(repo, position, target).map(Arc::new).map_err(failed);
    }
    let (scratch, git) = Scratch::with(site, |git| remote::download(git, site, History::Needed))?;
    let view = scratch.repo();
    if view.find_commit(target).is_err() {
        return Err(remote::moved_on(site.url));
    }
    let mut delta = compute(view, position, target).map_err(failed)?;
    let odb = view.odb().map_err(git_failure("read what was fetched from", top))?;
    delta.tags = remote::follow_tags(&git, site, |name| repo.find_reference(name).is_ok(), |id| odb.exists(id))?;
    delta.packs = scratch.packs()?;
    let delta = Arc::new(delta);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&delta));
    Ok(delta)
}

/// Whether the repository has `target` with all that it needs: reachable from a ref, or with no gap down to one.
fn is_whole(repo: &Repository, position: &Position, target: Oid) -> bool {
    if repo.find_commit(target).is_err() {
        return false;
    }
    if position.tips.contains(&target) {
        return true;
    }
    // A commit that an interrupted or foreign fetch left may lack parents or files; a gap means: fetch again.
    let check = || -> Result<bool, git2::Error> {
        let mut walk = repo.revwalk()?;
        walk.push(target)?;
        for tip in &position.tips {
            walk.hide(*tip)?;
        }
        let odb = repo.odb()?;
        for commit in walk {
            let tree = repo.find_commit(commit?)?.tree()?;
            if !tree_is_whole(repo, &odb, tree.id())? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    check().unwrap_or(false)
}

/// Not by recursion: a hostile tree would overflow the stack.
fn tree_is_whole(repo: &Repository, odb: &git2::Odb<'_>, tree: Oid) -> Result<bool, git2::Error> {
    let mut trees = vec![tree];
    while let Some(tree) = trees.pop() {
        for entry in &repo.find_tree(tree)? {
            match entry.kind() {
                Some(ObjectType::Tree) => trees.push(entry.id()),
                Some(ObjectType::Blob) if !odb.exists(entry.id()) => return Ok(false),
                _ => {}
            }
        }
    }
    Ok(true)
}

/// Compares in `view`, which sees the objects of both sides.
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
        if !entry.path.is_safe() {
            obstacles.push(Obstacle::UnsafeName { path: entry.path.clone() });
        }
    }
    let base = position.branch.or(position.head);
    Ok(Delta {
        entries,
        behind: walk(view, target, base.as_slice())?.count(),
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

/// The paths in which the trees of a commit and `new` differ; no commit is an empty tree.
pub fn entries(view: &Repository, old: Option<Oid>, new: Option<&git2::Tree<'_>>) -> Result<Vec<Entry>, git2::Error> {
    let old = old.map(|commit| view.find_commit(commit)?.tree()).transpose()?;
    let mut options = DiffOptions::new();
    options.include_typechange(true).ignore_submodules(false);
    let diff = view.diff_tree_to_tree(old.as_ref(), new, Some(&mut options))?;
    let mut entries: BTreeMap<RepoPath, Entry> = BTreeMap::new();
    for delta in diff.deltas() {
        for path in [delta.old_file().path_bytes(), delta.new_file().path_bytes()].into_iter().flatten() {
            let path = RepoPath::new(path);
            let in_tree = |tree: Option<&git2::Tree<'_>>| tree.and_then(|tree| blob_in(tree, &path));
            // From the trees: the diff's own modes cannot be read where they are none of today's.
            let (old, new) = (in_tree(old.as_ref()), in_tree(new));
            entries.insert(path.clone(), Entry { path, old, new, interim: None });
        }
    }
    Ok(entries.into_values().filter(|entry| entry.old != entry.new).collect())
}

/// The mode that git gives an entry of a tree (`canon_mode` in its object.h): of a file's mode the owner's executable
/// bit counts alone. Old trees hold others, such as `100664`.
pub fn usual(mode: u32) -> u32 {
    match mode & 0o170_000 {
        0o100_000 if mode & 0o100 == 0 => 0o100_644,
        0o100_000 => 0o100_755,
        kind => kind,
    }
}

/// What a tree has at a path, directories aside.
pub fn blob_in(tree: &git2::Tree<'_>, path: &RepoPath) -> Option<Blob> {
    let entry = tree.get_path(path.as_path()).ok()?;
    let mode = usual(u32::try_from(entry.filemode_raw()).ok()?);
    matches!(entry.kind(), Some(ObjectType::Blob | ObjectType::Commit)).then_some(Blob { id: entry.id(), mode })
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

/// The commits from `from` down to those in `hidden`, newest first.
fn commits(view: &Repository, from: Oid, hidden: &[Oid], position: &Position) -> Result<Vec<Commit>, git2::Error> {
    // What the remote's branch never had is below none of the commits that it was seen at.
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

/// The first line of a commit's message, fit for a terminal.
pub fn subject(commit: &git2::Commit<'_>) -> String {
    let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    line.chars().map(|c| if is_hidden(c) { '?' } else { c }).take(72).collect()
}
