//! Speaks to remotes by the `git` program, so that they are reached as git reaches them, and says clearly why one cannot be
//! reached.

mod git;
mod login;
mod settings;
mod ssh;
mod url;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use git2::Oid;

pub use git::Git;
pub use url::{same_place, same_url, without_password};

use super::Repository;
use super::scratch::Scratch;
use crate::failure::Failure;
use crate::host::program::Limits;

/// How many branches are named where the wanted one is missing.
const BRANCHES_NAMED: usize = 8;

/// How many refs of a remote are taken in.
const MAX_REFS: usize = 1_000_000;

/// How many refs are asked for by one command.
const MAX_NAMES: usize = 500;

/// How much of a line of `ls-remote` is taken in, in bytes. A ref's name is shorter (PATH_MAX of most systems).
const MAX_LINE: usize = 8192;

/// For a list of refs. git keeps the whole of it in memory before it says anything; what is wanted are the branches.
const LIST_LIMITS: Limits =
    Limits { silence: Duration::from_secs(60), total: Duration::from_secs(300), memory: Some(1 << 30) };

/// For a download. One at work shows its progress.
const FETCH_LIMITS: Limits =
    Limits { silence: Duration::from_secs(60), total: Duration::from_secs(6 * 3600), memory: None };

/// What keeps a fetch from doing more than it is asked for.
const FETCH: [&str; 7] = [
    "fetch",
    "--progress",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--recurse-submodules=no",
    "--refmap=",
];

/// A remote, and the place of the checkout from where it is reached.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The remote's name in the configuration.
    pub remote: &'a str,
    /// Its URL as the configuration, or else the step, has it.
    pub url: &'a str,
    /// The branch that the checkout is on, or will be.
    pub branch: &'a str,
    /// The checkout's top directory.
    pub top: &'a Path,
    pub checkout: CheckoutState<'a>,
}

impl<'a> Site<'a> {
    /// The remote of a step, with a URL that may be another than the step's.
    pub fn of(desired: &'a Repository, url: &'a str, checkout: CheckoutState<'a>) -> Self {
        Self { remote: &desired.remote, url, branch: &desired.branch, top: &desired.path, checkout }
    }
}

/// Whether there is a checkout.
#[derive(Debug, Clone, Copy)]
pub enum CheckoutState<'a> {
    PathState,
    Missing,
    /// The git directory that will be the checkout's, under another name yet.
    Building(&'a Path),
}

/// What a remote answers to `ls-remote`.
pub struct Answer {
    /// The head of the wanted branch.
    pub head: Option<Oid>,
    /// Where it has none: the names it has, the most similar first.
    pub branches: Vec<String>,
}

/// Asks the remote for the head of the site's branch. Writes nothing but scratch files.
pub fn ask(site: &Site<'_>) -> Result<Answer, Failure> {
    if site.url.is_empty() {
        return Err(Failure::new("the remote's url is empty").hint("give it a path, or a url with ssh:// or https://"));
    }
    let (_scratch, git) = Scratch::new(site)?;
    let wanted = format!("refs/heads/{}", site.branch);
    let mut head = None;
    let mut branches: Vec<(f64, String)> = Vec::new();
    list(&git, &["ls-remote", "--heads", "--", site.remote], |id, name| {
        if name == wanted {
            head = Some(id.to_owned());
        } else if let Some(name) = name.strip_prefix("refs/heads/") {
            branches.push((strsim::jaro_winkler(name, site.branch), name.to_owned()));
            if branches.len() > 1024 {
                keep_nearest(&mut branches);
            }
        }
    })?;
    keep_nearest(&mut branches);
    match head {
        Some(head) => Ok(Answer { head: Some(commit(site.url, &head)?), branches: Vec::new() }),
        None => Ok(Answer { head: None, branches: branches.into_iter().map(|(_, name)| name).collect() }),
    }
}

fn keep_nearest(branches: &mut Vec<(f64, String)>) {
    branches.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    branches.truncate(BRANCHES_NAMED);
}

fn commit(url: &str, id: &str) -> Result<Oid, Failure> {
    if id.len() == 64 {
        let what = format!("the remote {} names its commits by SHA-256, which is not supported", without_password(url));
        return Err(Failure::new(what).hint("give the url of a repository in git's default format (SHA-1)"));
    }
    Oid::from_str(id).map_err(|_| {
        Failure::new(format!("cannot read what the remote {} answers: `{id}` is no commit", without_password(url)))
    })
}

/// Gives each line of an `ls-remote` to `each`: the id, and what stands after the tab.
fn list(git: &Git, args: &[&str], mut each: impl FnMut(&str, &str)) -> Result<(), Failure> {
    let mut line = Vec::new();
    let mut count = 0;
    let ended = git.run(args, LIST_LIMITS, |piece| {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.len() > MAX_LINE {
                return false;
            }
            if line.last() == Some(&b'\n') {
                count += 1;
                if let Some((id, name)) = String::from_utf8_lossy(&line).trim_end_matches('\n').split_once('\t') {
                    each(id, name);
                }
                line.clear();
            }
        }
        count <= MAX_REFS
    })?;
    if ended.is_success() { Ok(()) } else { Err(git.failure(&ended)) }
}

/// The branch that the remote's own HEAD names.
pub fn default_branch(git: &Git, remote: &str) -> Result<Option<String>, Failure> {
    let mut branch = None;
    list(git, &["ls-remote", "--symref", "--", remote, "HEAD"], |id, name| {
        if name == "HEAD" {
            branch = branch.take().or_else(|| id.strip_prefix("ref: refs/heads/").map(str::to_owned));
        }
    })?;
    Ok(branch)
}

/// What came of a download.
pub enum Downloaded {
    All,
    /// Not all of it: there is no room where the object store is.
    NoRoom,
}

/// How much of what leads to a commit is downloaded with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum History {
    Needed,
    /// The commit and its files will do.
    NotNeeded,
}

/// Downloads what the head of the site's branch needs into the object store; no ref is made.
///
/// By the branch's name: many servers refuse to be asked for a commit by its id.
pub fn download(git: &Git, site: &Site<'_>, history: History) -> Result<Downloaded, Failure> {
    let branch = format!("refs/heads/{}", site.branch);
    let mut args = FETCH.to_vec();
    if history == History::NotNeeded {
        args.push("--depth=1");
    }
    args.extend(["--", site.remote, &branch]);
    let ended = git.fetch(&args, FETCH_LIMITS)?;
    if ended.is_success() {
        // A warning alone, and the commits lack what comes before them (git-fetch(1), `--update-shallow`).
        if history == History::Needed && ended.said.iter().any(|line| line.contains("shallow roots are not allowed")) {
            return Err(git.cut_off());
        }
        return Ok(Downloaded::All);
    }
    if words::lacks_room(&ended) {
        return Ok(Downloaded::NoRoom);
    }
    // A server that cannot leave history out (gitprotocol-capabilities(5), `shallow`).
    if history == History::NotNeeded && ended.said.iter().any(|line| line.contains("shallow")) {
        return download(git, site, History::Needed);
    }
    Err(git.failure(&ended))
}

/// A tag of a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// `refs/tags/v1`.
    pub name: String,
    pub id: Oid,
}

/// The tags that a fetch would bring (git-fetch(1), `--no-tags` and `remote.<name>.tagOpt`), with their objects: those of
/// commits for which `has` holds. A name for which `known` holds is left out, since a tag does not move.
pub fn follow_tags(
    git: &Git,
    site: &Site<'_>,
    known: impl Fn(&str) -> bool,
    has: impl Fn(Oid) -> bool,
) -> Result<Vec<Tag>, Failure> {
    let choice = git.setting(&format!("remote.{}.tagopt", site.remote)).unwrap_or_default();
    if choice == "--no-tags" {
        return Ok(Vec::new());
    }
    let mut tags: BTreeMap<String, (Oid, Oid)> = BTreeMap::new();
    list(git, &["ls-remote", "--tags", "--", site.remote], |id, name| {
        let Ok(id) = Oid::from_str(id) else { return };
        match name.strip_suffix("^{}") {
            Some(name) => drop(tags.entry(name.to_owned()).and_modify(|(_, commit)| *commit = id)),
            None if git2::Reference::is_valid_name(name) => drop(tags.insert(name.to_owned(), (id, id))),
            None => {}
        }
    })?;
    tags.retain(|name, (_, commit)| !known(name) && (choice == "--tags" || has(*commit)));
    let missing: Vec<&str> = tags.iter().filter(|(_, (id, _))| !has(*id)).map(|(name, _)| name.as_str()).collect();
    for names in missing.chunks(MAX_NAMES) {
        let mut args = FETCH.to_vec();
        args.extend(["--", site.remote]);
        args.extend(names);
        let ended = git.fetch(&args, FETCH_LIMITS)?;
        if !ended.is_success() {
            return Err(git.failure(&ended));
        }
    }
    let found = tags.into_iter().map(|(name, (id, _))| Tag { name, id });
    Ok(found.filter(|tag| has(tag.id)).collect())
}

/// Downloads all branches and tags, as a clone does, also where the remote's own history is cut off.
pub fn download_all(git: &Git, site: &Site<'_>) -> Result<(), Failure> {
    let branches = format!("+refs/heads/*:refs/remotes/{}/*", site.remote);
    let mut args = FETCH.to_vec();
    args.extend(["--update-shallow", "--", site.remote, &branches, "+refs/tags/*:refs/tags/*"]);
    let ended = git.fetch(&args, FETCH_LIMITS)?;
    if ended.is_success() { Ok(()) } else { Err(git.failure(&ended)) }
}

/// The remote's branch has another head than it had a moment ago.
pub fn moved_on(url: &str) -> Failure {
    Failure::new(format!("the remote {} moved on while it was asked", without_password(url))).hint("run again")
}
