//! The configuration of a remote in a checkout.

use git2::Repository;

use super::settings::Settings;
use crate::failure::Failure;
use crate::git::error::git_failure;

/// Returns the URLs of a remote. git fetches from the first, and pushes to all of them. An empty one clears those before it
/// (git-config(1), `remote.<name>.url`).
pub fn urls(repo: &Repository, remote: &str) -> Vec<String> {
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

/// Returns the URL that git fetches from.
pub fn url(repo: &Repository, remote: &str) -> Option<String> {
    urls(repo, remote).into_iter().next()
}

/// Returns the URLs that two URLs stand for in this checkout (`insteadOf`).
pub fn resolved(repo: &Repository, one: &str, other: &str) -> (String, String) {
    let settings = repo.config().map(|config| Settings::of_urls(&config)).unwrap_or_default();
    (settings.resolve(one), settings.resolve(other))
}

/// Returns the remote-tracking branch of `branch`, if the fetch configuration of the remote has one.
///
/// # Errors
/// The configuration has no such remote, or cannot be read.
pub fn tracking(repo: &Repository, remote: &str, branch: &str) -> Result<Option<String>, Failure> {
    let remote = repo.find_remote(remote).map_err(git_failure("read the configuration of the remote", repo.path()))?;
    let source = format!("refs/heads/{branch}");
    let name = remote
        .refspecs()
        .filter(|spec| spec.direction() == git2::Direction::Fetch && spec.src_matches(&source))
        .find_map(|spec| spec.transform(&source).ok().map(|name| String::from_utf8_lossy(&name).into_owned()));
    // With `+refs/heads/*:refs/heads/*` it is the branch itself.
    Ok(name.filter(|name| *name != source))
}
