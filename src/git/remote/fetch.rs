//! Downloads commits with everything that they need (`git fetch`).

use crate::telemetry::spans::{self, Count, Span};
use crate::text::RedactedUrl;
use std::collections::BTreeMap;
use std::time::Duration;

use git2::Oid;

use super::command::Git;
use super::failure::lacks_room;
use super::list::list;
use super::scratch::Downloaded;
use super::site::Site;
use crate::failure::Failure;
use crate::host::program::Limits;

/// The maximum number of refs in one command.
const MAX_NAMES: usize = 500;

/// The limits of a download, which reports its progress while it works.
const FETCH_LIMITS: Limits =
    Limits { silence: Duration::from_secs(60), total: Duration::from_secs(6 * 3600), memory: None };

/// Options that keep a fetch from doing more than it is asked to.
const FETCH: [&str; 7] = [
    "fetch",
    "--progress",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--recurse-submodules=no",
    "--refmap=",
];

/// Whether the history of a commit is downloaded with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum History {
    Needed,
    /// The commit and its files are enough.
    NotNeeded,
}

/// Downloads the head of the site's branch into the object store, without creating a ref.
///
/// Asks for the branch by name, since many servers refuse to be asked for a commit by its id.
pub fn download(git: &Git, site: &Site<'_>, history: History) -> Result<Downloaded, Failure> {
    fetching(site, |span| download_head(git, site, history, span))
}

fn download_head(git: &Git, site: &Site<'_>, history: History, span: &Span) -> Result<Downloaded, Failure> {
    let branch = format!("refs/heads/{}", site.branch);
    let mut args = FETCH.to_vec();
    if history == History::NotNeeded {
        args.push("--depth=1");
    }
    args.extend(["--", site.remote, &branch]);
    let ended = git.fetch(&args, FETCH_LIMITS)?;
    count_received(span, &ended.said);
    if ended.is_success() {
        // Only a warning of git's, but the commits lack their history (git-fetch(1), `--update-shallow`).
        if history == History::Needed && ended.said.iter().any(|line| line.contains("shallow roots are not allowed")) {
            return Err(git.cut_off());
        }
        return Ok(Downloaded::All);
    }
    if lacks_room(&ended) {
        return Ok(Downloaded::NoRoom);
    }
    // A server that cannot omit the history (gitprotocol-capabilities(5), `shallow`).
    if history == History::NotNeeded && ended.said.iter().any(|line| line.contains("shallow")) {
        return download_head(git, site, History::Needed, span);
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

/// Downloads the tags that a fetch would bring (git-fetch(1), `--no-tags` and `remote.<name>.tagOpt`): those of commits for
/// which `has` returns true. Tags for which `known` returns true are skipped, since a tag does not move.
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

/// Downloads all branches and tags, as a clone does. The remote may be shallow.
pub fn download_all(git: &Git, site: &Site<'_>) -> Result<(), Failure> {
    let branches = format!("+refs/heads/*:refs/remotes/{}/*", site.remote);
    let mut args = FETCH.to_vec();
    args.extend(["--update-shallow", "--", site.remote, &branches, "+refs/tags/*:refs/tags/*"]);
    let ended = fetching(site, |span| {
        let ended = git.fetch(&args, FETCH_LIMITS)?;
        count_received(span, &ended.said);
        Ok::<_, Failure>(ended)
    })?;
    if ended.is_success() { Ok(()) } else { Err(git.failure(&ended)) }
}

fn fetching<T>(site: &Site<'_>, work: impl FnOnce(&Span) -> T) -> T {
    let span = spans::git_fetch(&RedactedUrl::of(site.url));
    span.in_scope(|| work(&span))
}

/// Records what came: `Receiving objects: 100% (3/3), 1.20 KiB | 1.20 MiB/s, done.`
fn count_received(span: &Span, said: &[String]) {
    let last = said.iter().rev().find_map(|line| line.rsplit_once("Receiving objects: 100% (")).map(|(_, rest)| rest);
    let Some((objects, rest)) = last.and_then(|rest| rest.split_once(')')) else { return };
    let objects = objects.split('/').next_back().and_then(|number| number.parse().ok());
    objects.into_iter().for_each(|objects| span.count(Count::Objects, objects));
    let mut size = rest.trim_start_matches(", ").split(' ');
    let (Some(number), Some(unit)) = (size.next().and_then(|number| number.parse::<f64>().ok()), size.next()) else {
        return;
    };
    let factor = match unit {
        "bytes" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "git prints a small positive number")]
    span.count(Count::Bytes, (number * f64::from(1_u32 << factor)) as u64);
}

/// Makes the failure for a remote whose branch has changed since it was asked.
pub fn moved_on(url: &str) -> Failure {
    Failure::new(format!("the remote {} changed while it was asked", RedactedUrl::of(url))).hint("run again")
}
