//! Reads a checkout and asks its remote, and leaves no trace in either.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use git2::{ErrorCode, Oid, Repository, RepositoryState};

use super::actual::{Actual, Checkout, Obstacle, Upstream};
use super::delta::{self, Delta, Position};
use super::local_changes::local_changes;
use super::move_files::UsualMode;
use super::path::RepoPath;
use super::remote::{CheckoutState, Site};
use super::survey::{SKIP_WORKTREE, survey};
use super::work_area::{Leftover, area_of, is_own_lock, leftover};
use super::{
    clone, configuration, git_failure, git_text, io_failure, open_repository, refs, remote, tree_check, waits,
};
use crate::failure::Failure;
use crate::resource::repository::Repository as Desired;

/// Observes the step.
pub fn observe(desired: &Desired) -> Result<Actual, Failure> {
    let top = &desired.path;
    let found = match fs::symlink_metadata(top) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return absent(desired, false),
        other => other.map_err(io_failure("look at", top))?,
    };
    if !found.is_dir() {
        let by = if found.is_symlink() { "a symbolic link" } else { "a file" };
        let leads_to = fs::canonicalize(top).ok().filter(|_| found.is_symlink()).map(|path| path.display().to_string());
        return Ok(Actual::Occupied { by: by.to_owned(), leads_to });
    }
    let names = names_in(top)?;
    let leftovers = names.iter().any(|name| name == clone::UNFINISHED);
    if !names.iter().any(|name| name == ".git") {
        let foreign: Vec<&String> = names.iter().filter(|name| *name != clone::UNFINISHED).collect();
        if foreign.is_empty() {
            if leftovers && leftover(&top.join(clone::UNFINISHED))? == Leftover::Live {
                return Ok(Actual::Unusable { obstacle: Obstacle::AnotherRun });
            }
            return absent(desired, leftovers);
        }
        if ["HEAD", "objects", "refs"].iter().all(|part| names.iter().any(|name| name == part)) {
            return Ok(Actual::Unusable { obstacle: Obstacle::Bare });
        }
        let shown = foreign.iter().take(3).map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let more = if foreign.len() > 3 { ", …" } else { "" };
        let count = if foreign.len() == 1 { "1 entry".to_owned() } else { format!("{} entries", foreign.len()) };
        return Ok(Actual::Occupied { by: format!("a directory with {count} ({shown}{more})"), leads_to: None });
    }
    let git = top.join(".git");
    if let Some(obstacle) = check_ownership(top, &git)? {
        return Ok(Actual::Unusable { obstacle });
    }
    if let Some(obstacle) = configuration::obstacle(Some(&git)).or_else(|| waits::in_git_directory(&git)) {
        return Ok(Actual::Unusable { obstacle });
    }
    let repo = match open_repository(top) {
        Ok(repo) => repo,
        Err(error) if error.code() == ErrorCode::Owner => {
            let owner = user_name(fs::metadata(&git).map_err(io_failure("look at", &git))?.uid());
            return Ok(Actual::Unusable { obstacle: Obstacle::NotOwned { owner, user: own_name() } });
        }
        Err(error) => {
            let worktree =
                git2::Config::open(&git.join("config")).and_then(|config| config.get_string("core.worktree"));
            return Ok(Actual::Unusable {
                obstacle: match worktree {
                    Ok(path) => Obstacle::WorktreeElsewhere { path },
                    Err(_) => Obstacle::unreadable(git_text(&error), &git),
                },
            });
        }
    };
    if repo.is_bare() {
        // Only a working tree has an index.
        let is_checkout = git.join("index").exists();
        return Ok(Actual::Unusable { obstacle: if is_checkout { Obstacle::BareSetting } else { Obstacle::Bare } });
    }
    if let Ok(index) = repo.index()
        && let Some(obstacle) = waits::in_working_tree(top, index.iter().map(|entry| entry.path))
    {
        return Ok(Actual::Unusable { obstacle });
    }
    let unread = configuration::left_out();
    let mut checkout = Checkout { leftovers, unread, ..Checkout::default() };
    Ok(match look(desired, &repo, &mut checkout)? {
        Some(obstacle) => Actual::Unusable { obstacle },
        None => Actual::Checkout(Box::new(checkout)),
    })
}

fn absent(desired: &Desired, leftovers: bool) -> Result<Actual, Failure> {
    let nearest = desired.path.ancestors().find(|folder| fs::symlink_metadata(folder).is_ok());
    let mut obstacle = nearest.map(trusted).transpose()?.flatten().or_else(|| configuration::obstacle(None));
    if let (Some(nearest), None) = (nearest, &obstacle)
        && !refs::can_change_names_in(nearest)
    {
        obstacle = Some(Obstacle::UnwritableParent { path: nearest.display().to_string(), user: own_name() });
    }
    let upstream = match (&desired.url, &obstacle) {
        (Some(url), None) => Some((url, ask(&Site::of(desired, url, CheckoutState::Missing))?)),
        _ => None,
    };
    let mut unseen = false;
    if let Some((url, Upstream { head: Some(head), .. })) = &upstream {
        let target = Oid::from_str(head).map_err(git_failure("read a commit id", &desired.path))?;
        clone::Ahead { obstacle, unseen } = clone::look_ahead(desired, url, target)?;
    }
    let upstream = upstream.map(|(_, upstream)| upstream);
    let missing_parents = nearest.map(|nearest| missing_parents(&desired.path, nearest)).unwrap_or_default();
    let unread = configuration::left_out();
    Ok(Actual::Absent { upstream, leftovers, obstacle, unseen, missing_parents, unread })
}

/// The parents that a clone makes, the outermost first, by the paths that other steps of the run give them.
fn missing_parents(path: &Path, nearest: &Path) -> Vec<String> {
    let Some(rest) = path.strip_prefix(nearest).ok().and_then(Path::parent) else { return Vec::new() };
    let mut parent = fs::canonicalize(nearest).unwrap_or_else(|_| nearest.to_owned());
    let each = rest.iter().map(|name| {
        parent.push(name);
        crate::host::fs::escape_path(&parent)
    });
    each.collect()
}

fn ask(site: &Site<'_>) -> Result<Upstream, Failure> {
    let answer = remote::ask(site)?;
    Ok(Upstream {
        url: remote::without_password(site.url),
        head: answer.head.map(|head| head.to_string()),
        branches: answer.branches,
    })
}

fn names_in(folder: &Path) -> Result<Vec<String>, Failure> {
    let failed = io_failure("read the directory", folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(&failed)? {
        names.push(
            RepoPath::new(std::os::unix::ffi::OsStrExt::as_bytes(entry.map_err(&failed)?.file_name().as_os_str()))
                .to_string(),
        );
    }
    names.sort();
    Ok(names)
}

/// Git work is done as the checkout's owner alone: whoever can write to a repository can make git run programs.
pub fn check_ownership(top: &Path, git: &Path) -> Result<Option<Obstacle>, Failure> {
    if let Some(obstacle) = trusted(top)? {
        return Ok(Some(obstacle));
    }
    let found = fs::symlink_metadata(git).map_err(io_failure("look at", git))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(Some(Obstacle::NotOwned { owner: user_name(found.uid()), user: own_name() }));
    }
    Ok((!found.is_dir()).then_some(Obstacle::SeparateGitDirectory))
}

/// Whether nobody but the acting user decides what `folder` is. An ordinary user may work in directories of others
/// on the way to it; root may not.
fn trusted(folder: &Path) -> Result<Option<Obstacle>, Failure> {
    let user = rustix::process::geteuid().as_raw();
    if user != 0 {
        return Ok(None);
    }
    let real = fs::canonicalize(folder).map_err(io_failure("look at", folder))?;
    for above in real.ancestors().chain(folder.ancestors()) {
        let found = fs::symlink_metadata(above).map_err(io_failure("look at", above))?;
        let open_to_others = !found.is_symlink() && found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0;
        if above == real && found.uid() != 0 {
            return Ok(Some(Obstacle::NotOwned { owner: user_name(found.uid()), user: own_name() }));
        }
        if found.uid() != 0 || open_to_others {
            return Ok(Some(Obstacle::Untrusted { path: above.display().to_string() }));
        }
    }
    Ok(None)
}

fn user_name(uid: u32) -> String {
    users::get_user_by_uid(uid).map_or_else(|| uid.to_string(), |user| user.name().to_string_lossy().into_owned())
}

/// The acting user's name.
pub fn own_name() -> String {
    user_name(rustix::process::geteuid().as_raw())
}

/// What HEAD is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// None where it is detached.
    pub branch: Option<String>,
    /// None before the first commit.
    pub commit: Option<Oid>,
}

/// Reads HEAD; an error means that the repository is broken.
pub fn read_head(repo: &Repository, top: &Path) -> Result<Head, Failure> {
    let failed = git_failure("read HEAD", top);
    let head = repo.find_reference("HEAD").map_err(&failed)?;
    let Ok(Some(name)) = head.symbolic_target() else {
        return Ok(Head { branch: None, commit: head.target() });
    };
    let Some(branch) = name.strip_prefix("refs/heads/") else {
        return Err(Failure::new(format!("HEAD in {} is {name}, which is no branch", top.display())));
    };
    let commit = match repo.find_reference(name) {
        Ok(reference) => reference.target(),
        Err(error) if error.code() == ErrorCode::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    Ok(Head { branch: Some(branch.to_owned()), commit })
}

/// The URLs that the configuration gives a remote. git fetches from the first of them, and pushes to all. An empty one takes
/// back those before it (git-config(1), `remote.<name>.url`).
pub fn remote_urls(repo: &Repository, remote: &str) -> Vec<String> {
    let mut urls = Vec::new();
    let config = repo.config();
    let Ok(found) = config
        .as_ref()
        .map_err(drop)
        .and_then(|config| config.multivar(&format!("remote.{remote}.url"), None).map_err(drop))
    else {
        return urls;
    };
    let _ = found.for_each(|entry| match String::from_utf8_lossy(entry.value_bytes()).into_owned() {
        empty if empty.is_empty() => urls.clear(),
        url => urls.push(url),
    });
    urls
}

/// The URL that git fetches from.
pub fn remote_url(repo: &Repository, remote: &str) -> Option<String> {
    remote_urls(repo, remote).into_iter().next()
}

/// Where the repository stands, and what it has names for.
pub fn position(repo: &Repository, head: &Head, desired: &Desired) -> Result<Position, Failure> {
    let (top, branch) = (&desired.path, &desired.branch);
    let failed = git_failure("list the refs", top);
    let mut tips = Vec::new();
    for reference in repo.references().map_err(&failed)?.flatten() {
        if let Ok(commit) = reference.peel_to_commit() {
            tips.push(commit.id());
        }
    }
    tips.sort();
    tips.dedup();
    let branch = match repo.find_reference(&format!("refs/heads/{branch}")) {
        Ok(reference) => reference.target(),
        Err(error) if error.code() == ErrorCode::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let tracking = match remote_url(repo, &desired.remote) {
        Some(_) => refs::tracking(repo, &desired.remote, &desired.branch)?,
        None => None,
    };
    let seen_at_remote = tracking.as_deref().map(|name| refs::logged(repo, name)).unwrap_or_default();
    let tracking = tracking.and_then(|name| repo.find_reference(&name).ok()?.target());
    let (made_here, at_remotes) = (refs::made_here(repo), refs::at_remotes(repo).map_err(&failed)?);
    let detached = head.branch.is_none();
    Ok(Position { head: head.commit, detached, branch, tracking, seen_at_remote, made_here, at_remotes, tips })
}

/// Fills in `checkout`; an obstacle is a reason for which no more can be read.
fn look(desired: &Desired, repo: &Repository, checkout: &mut Checkout) -> Result<Option<Obstacle>, Failure> {
    let top = &desired.path;
    match leftover(&area_of(repo.path()))? {
        Leftover::Live => return Ok(Some(Obstacle::AnotherRun)),
        Leftover::Stale => checkout.leftovers = true,
        Leftover::Nothing => {}
    }
    let broken = |problem: String| Ok(Some(Obstacle::unreadable(problem, &top.join(".git"))));
    let head = match read_head(repo, top) {
        Ok(head) => head,
        Err(failure) => return broken(failure.message),
    };
    if let Some(commit) = head.commit
        && let Err(error) = repo.find_commit(commit).and_then(|commit| commit.tree())
    {
        return broken(git_text(&error));
    }
    let position = match position(repo, &head, desired) {
        Ok(position) => position,
        Err(failure) => return broken(failure.message),
    };
    checkout.head_branch.clone_from(&head.branch);
    checkout.head = head.commit.map(|commit| commit.to_string());
    checkout.branch = position.branch.map(|commit| commit.to_string());
    match obstacles(desired, repo) {
        Ok(found) => checkout.obstacles = found,
        Err(error) => return broken(git_text(&error)),
    }
    let urls = remote_urls(repo, &desired.remote);
    checkout.several_urls = urls.len() > 1;
    let Some(url) = urls.into_iter().next() else { return Ok(None) };
    checkout.remote_url = Some(remote::without_password(&url));
    checkout.same_place = desired.url.as_deref().is_some_and(|wanted| remote::same_place(&url, wanted, top));
    let wrong = desired.url.as_deref().is_some_and(|wanted| !remote::same_url(&url, wanted)) && !checkout.same_place;
    if wrong || checkout.obstacles.iter().any(Obstacle::always) {
        return Ok(None);
    }
    let site = Site::of(desired, &url, CheckoutState::PathState);
    let upstream = ask(&site)?;
    let target = upstream.head.as_deref().and_then(|head| Oid::from_str(head).ok());
    checkout.upstream = Some(upstream);
    let Some(target) = target else { return Ok(None) };
    if head.branch.as_deref() == Some(desired.branch.as_str()) && head.commit == Some(target) {
        checkout.keep(local_changes(repo, None)?);
        // What the library cannot read here git may well do without: nothing is to be moved.
        let tree = repo.find_commit(target).and_then(|commit| commit.tree());
        checkout.obstacles.extend(tree.and_then(|tree| tree_check::obstacles(repo, &tree)).unwrap_or_default());
        return Ok(None);
    }
    if !checkout.obstacles.is_empty() {
        return Ok(None);
    }
    let delta = delta::find(repo, &site, &position, target)?;
    compare(repo, desired, &delta, checkout)?;
    Ok(None)
}

fn compare(repo: &Repository, desired: &Desired, delta: &Delta, checkout: &mut Checkout) -> Result<(), Failure> {
    let top = &desired.path;
    let config = repo.config().map_err(git_failure("read the configuration", top))?;
    checkout.obstacles.extend(delta.obstacles.iter().cloned());
    checkout.obstacles.extend(tree_check::beside_the_tree(repo, &config));
    checkout.obstacles.retain(|obstacle| tree_check::matters(obstacle, &config));
    checkout.behind = delta.behind;
    checkout.local_commits.clone_from(&delta.local_commits);
    checkout.detached_commits.clone_from(&delta.detached_commits);
    checkout.paths = delta.entries.iter().map(delta::Entry::changed).collect();
    checkout.narrowed = delta.entries.iter().filter_map(|entry| narrowed(top, entry)).collect();
    if let Some((found, wanted)) = refs::conflict(repo, &refs::moved(repo, desired)?)? {
        checkout.obstacles.push(Obstacle::RefConflict { found, wanted });
    }
    if let Some(path) = refs::unwritable(repo, desired)? {
        checkout.obstacles.push(Obstacle::UnwritableGit { path: path.display().to_string() });
    }
    if !checkout.obstacles.is_empty() {
        return Ok(());
    }
    let survey = survey(repo, top, delta)?;
    checkout.obstacles.extend(survey.obstacles);
    checkout.in_the_way = survey.in_the_way.values().map(|local| local.change.clone()).collect();
    let moved: std::collections::BTreeSet<&RepoPath> =
        survey.items.iter().map(|item| &item.path).chain(survey.in_the_way.keys()).collect();
    let mut kept = Vec::new();
    for local in local_changes(repo, None)? {
        let folder = local.path.bytes().strip_suffix(b"/").map(RepoPath::new);
        match folder.filter(|folder| moved.iter().any(|path| path.is_under(folder))) {
            // A directory that git does not know is named whole, unless some of it moves.
            Some(folder) => kept.extend(local_changes(repo, Some(&folder))?),
            None => kept.push(local),
        }
    }
    kept.retain(|local| !moved.contains(&local.path));
    checkout.keep(kept);
    Ok(())
}

/// A file that the move replaces by one which more users can read. git keeps no mode but the right to execute.
fn narrowed(top: &Path, entry: &delta::Entry) -> Option<(RepoPath, u32)> {
    let found = fs::symlink_metadata(top.join(entry.path.as_path())).ok().filter(fs::Metadata::is_file)?;
    let mode = found.mode() & 0o777;
    let is_file = entry.new.is_some_and(|blob| blob.mode & 0o170_000 == 0o100_000);
    (is_file && 0o044 & !UsualMode::of_this_process().mask() & !mode != 0).then(|| (entry.path.clone(), mode))
}

/// What speaks against a move, the worst first. Whether it matters is for `diff` to say.
fn obstacles(desired: &Desired, repo: &Repository) -> Result<Vec<Obstacle>, git2::Error> {
    let git = repo.path();
    let mut found = Vec::new();
    // The library resolves links on the way, so what is compared is the directory and not its name.
    let same = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    match repo.workdir() {
        Some(workdir) if same(workdir).is_some() && same(workdir) == same(&desired.path) => {}
        Some(workdir) => found.push(Obstacle::WorktreeElsewhere { path: workdir.display().to_string() }),
        None => found.push(Obstacle::SeparateGitDirectory),
    }
    if let Some(name) = operation(repo.state()) {
        found.push(Obstacle::Operation { name: name.to_owned() });
    }
    let index = repo.index()?;
    found.extend(unmerged(&index).map(|path| Obstacle::Unmerged { path }));
    let branch = format!("refs/heads/{}", desired.branch);
    let tracking = refs::tracking(repo, &desired.remote, &desired.branch).ok().flatten();
    for name in ["index", "HEAD", "config", "packed-refs", &branch].into_iter().chain(tracking.as_deref()) {
        let lock = git.join(format!("{name}.lock"));
        if fs::symlink_metadata(&lock).is_ok() && !is_own_lock(git, &lock) {
            found.push(Obstacle::Locked { path: lock.display().to_string() });
        }
    }
    let config = repo.config()?;
    if config.get_bool(&format!("remote.{}.promisor", desired.remote)).unwrap_or(false) {
        found.push(Obstacle::PartialClone);
    }
    if config.get_bool("core.sparseCheckout").unwrap_or(false) {
        found.push(Obstacle::Sparse);
    } else if let Some(entry) = index.iter().find(|entry| entry.flags_extended & SKIP_WORKTREE != 0) {
        found.push(Obstacle::LeftOut { path: RepoPath::new(entry.path) });
    }
    if let Ok(worktrees) = fs::read_dir(git.join("worktrees")) {
        for worktree in worktrees.flatten() {
            let head = fs::read_to_string(worktree.path().join("HEAD")).unwrap_or_default();
            if head.trim_end() == format!("ref: {branch}") {
                let at = fs::read_to_string(worktree.path().join("gitdir")).unwrap_or_default();
                let path = at.trim_end().trim_end_matches("/.git").to_owned();
                let gone = !Path::new(&path).join(".git").exists();
                found.push(Obstacle::CheckedOutElsewhere { path, gone });
            }
        }
    }
    Ok(found)
}

fn operation(state: RepositoryState) -> Option<&'static str> {
    Some(match state {
        RepositoryState::Clean => return None,
        RepositoryState::Merge => "merge",
        RepositoryState::Revert | RepositoryState::RevertSequence => "revert",
        RepositoryState::CherryPick | RepositoryState::CherryPickSequence => "cherry-pick",
        RepositoryState::Bisect => "bisect",
        RepositoryState::Rebase | RepositoryState::RebaseInteractive | RepositoryState::RebaseMerge => "rebase",
        RepositoryState::ApplyMailbox | RepositoryState::ApplyMailboxOrRebase => "git am",
    })
}

/// A path in which the index holds a conflict.
pub fn unmerged(index: &git2::Index) -> Option<RepoPath> {
    index.iter().find(|entry| (entry.flags >> 12) & 3 != 0).map(|entry| RepoPath::new(entry.path))
}
