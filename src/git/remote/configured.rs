//! The configuration of a remote in a checkout.

use std::collections::{BTreeMap, BTreeSet};

use git2::{Reference, Repository};

use super::settings::Settings;
use crate::failure::Failure;
use crate::git::error::git_failure;

/// Returns the URLs of a remote. git fetches from the first, and pushes to all of them. An empty one clears those before it
/// (git-config(1), `remote.<name>.url`).
pub fn urls(repo: &Repository, remote: &str) -> Vec<String> {
    let mut urls = Vec::new();
    for value in values(repo, &format!("remote.{remote}.url")).unwrap_or_default() {
        match value {
            empty if empty.is_empty() => urls.clear(),
            url => urls.push(url),
        }
    }
    urls
}

/// Returns the URL that git fetches from.
pub fn url(repo: &Repository, remote: &str) -> Option<String> {
    urls(repo, remote).into_iter().next()
}

/// Returns the URLs that two URLs stand for in this checkout (`insteadOf`).
pub fn resolved(repo: &Repository, one: &str, other: &str) -> (String, String) {
    let settings = repo.config().map(|config| Settings::of_urls(&config)).unwrap_or_default();
    (settings.resolve(one), settings.resolve(other))
}

/// Returns the remotes that objects are fetched from on demand, with the settings for that: those of `git clone --filter`
/// (git-config(1)), and that of older versions of git (`extensions.partialClone`).
///
/// # Errors
/// The configuration cannot be read.
pub fn promisors(repo: &Repository) -> Result<BTreeMap<String, Vec<String>>, git2::Error> {
    let config = repo.config()?;
    let mut names: BTreeSet<String> = config.get_string("extensions.partialclone").into_iter().collect();
    config.entries(Some(r"^remote\..*\.promisor$"))?.for_each(|entry| {
        let key = String::from_utf8_lossy(entry.name_bytes()).into_owned();
        let name = key.strip_prefix("remote.").and_then(|rest| rest.strip_suffix(".promisor"));
        names.extend(name.filter(|_| config.get_bool(&key).unwrap_or(false)).map(str::to_owned));
    })?;
    let named = names.into_iter().map(|name| {
        let mut keys = vec![format!("remote.{name}.promisor"), format!("remote.{name}.partialclonefilter")];
        if config.get_string("extensions.partialclone").is_ok_and(|named| named == name) {
            keys.push("extensions.partialclone".to_owned());
        }
        keys.retain(|key| config.get_entry(key).is_ok());
        (name, keys)
    });
    Ok(named.collect())
}

/// Returns all values of a setting.
fn values(repo: &Repository, key: &str) -> Result<Vec<String>, git2::Error> {
    let mut values = Vec::new();
    let each = |entry: &git2::ConfigEntry<'_>| values.push(String::from_utf8_lossy(entry.value_bytes()).into_owned());
    repo.config()?.multivar(key, None)?.for_each(each)?;
    Ok(values)
}

/// A ref that `git fetch` moves to the remote's branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// Its full name.
    pub name: String,
    /// It is moved even if the branch was rewritten (`+`).
    pub forced: bool,
}

/// Returns the refs that `git fetch` moves to the remote's `branch`, by the fetch configuration of the remote. Other local
/// branches and tags are left out, because they may contain local work.
///
/// # Errors
/// The configuration cannot be read.
pub fn tracking(repo: &Repository, remote: &str, branch: &str) -> Result<Vec<Tracking>, Failure> {
    let refspecs = refspecs(repo, remote)?;
    let source = format!("refs/heads/{branch}");
    let is_tag = || repo.find_reference(&format!("refs/tags/{branch}")).is_ok();
    if refspecs.iter().any(|spec| spec.negative && spec.destination_of(&source, |_| false).is_some()) {
        return Ok(Vec::new());
    }
    let mut found: Vec<Tracking> = Vec::new();
    for spec in refspecs.iter().filter(|spec| !spec.negative) {
        let is_source = |name: &str| names_branch(name, branch, is_tag);
        let Some(name) = spec.destination_of(&source, is_source).filter(|name| is_movable(repo, name)) else {
            continue;
        };
        match found.iter_mut().find(|known| known.name == name) {
            Some(known) => known.forced |= spec.forced,
            None => found.push(Tracking { name, forced: spec.forced }),
        }
    }
    Ok(found)
}

/// Whether `git fetch` brings the tags of new commits: only if it stores something (git-fetch(1), `--no-tags`).
///
/// # Errors
/// The configuration cannot be read.
pub fn follows_tags(repo: &Repository, remote: &str) -> Result<bool, Failure> {
    Ok(refspecs(repo, remote)?.iter().any(|spec| !spec.destination.is_empty()))
}

fn refspecs(repo: &Repository, remote: &str) -> Result<Vec<Refspec>, Failure> {
    let failed = git_failure("read the configuration of the remote", repo.path());
    Ok(values(repo, &format!("remote.{remote}.fetch")).map_err(failed)?.iter().map(|text| Refspec::of(text)).collect())
}

/// Whether a short name of a remote's ref means its branch. A tag comes first (gitrevisions(7)).
fn names_branch(name: &str, branch: &str, is_tag: impl Fn() -> bool) -> bool {
    name.strip_prefix("heads/") == Some(branch) || name == branch && !is_tag()
}

/// Whether a fetch may move a ref. Symbolic refs are not followed.
fn is_movable(repo: &Repository, name: &str) -> bool {
    let taken = ["refs/heads/", "refs/tags/", "refs/provision/"];
    name.starts_with("refs/")
        && name != "refs/stash"
        && !taken.iter().any(|above| name.starts_with(above))
        && Reference::is_valid_name(name)
        && !repo.find_reference(name).is_ok_and(|found| found.kind() == Some(git2::ReferenceType::Symbolic))
}

/// One value of `remote.<name>.fetch` (git-fetch(1), `<refspec>`).
#[derive(Debug, PartialEq)]
struct Refspec {
    forced: bool,
    negative: bool,
    source: String,
    /// Empty if nothing is stored.
    destination: String,
}

impl Refspec {
    fn of(text: &str) -> Self {
        let (forced, text) = text.strip_prefix('+').map_or((false, text), |rest| (true, rest));
        let (negative, text) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let (source, destination) = text.rsplit_once(':').unwrap_or((text, ""));
        Self { forced, negative, source: source.to_owned(), destination: destination.to_owned() }
    }

    /// Returns the full name of the ref that `source` is stored in, or an empty name; `None` if the refspec does not match.
    /// `is_source` tells whether a short name means `source`. A pattern matches only full names.
    fn destination_of(&self, source: &str, is_source: impl Fn(&str) -> bool) -> Option<String> {
        if let Some((begin, end)) = self.source.split_once('*') {
            let middle = source.strip_prefix(begin)?.strip_suffix(end)?;
            return Some(self.destination.replacen('*', middle, 1));
        }
        if self.source != source && !is_source(&self.source) {
            return None;
        }
        Some(match self.destination.as_str() {
            name if name.is_empty() || name.starts_with("refs/") => name.to_owned(),
            name if ["heads/", "tags/", "remotes/"].iter().any(|above| name.starts_with(above)) => {
                format!("refs/{name}")
            }
            name => format!("refs/heads/{name}"),
        })
    }
}
