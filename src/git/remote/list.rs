//! Asks a remote which refs it has (`git ls-remote`). Writes nothing but scratch files.

use crate::telemetry::spans;
use crate::text::RedactedUrl;
use std::time::Duration;

use git2::Oid;

use super::command::{Git, check_version};
use super::scratch::Scratch;
use super::site::Site;
use crate::failure::Failure;
use crate::host::program::Limits;

/// The maximum number of branches that are named if the desired one is missing.
const BRANCHES_NAMED: usize = 8;

/// The maximum number of refs that are read.
const MAX_REFS: usize = 1_000_000;

/// The maximum length of a line of `ls-remote`, in bytes. A ref's name is shorter (PATH_MAX of most systems).
const MAX_LINE: usize = 8192;

/// The limits of a list of refs. git keeps all of it in memory before it prints anything.
const LIST_LIMITS: Limits =
    Limits { silence: Duration::from_secs(60), total: Duration::from_secs(300), memory: Some(1 << 30) };

/// What a remote answers when it is asked for a branch.
#[derive(Default)]
pub struct Answer {
    /// The head of the desired branch.
    pub head: Option<Oid>,
    /// If it has no such branch: the names of its branches, the most similar first.
    pub branches: Vec<String>,
    /// How many other branches it has.
    pub more_branches: usize,
    /// If it has no such branch: whether it has a tag of that name.
    pub is_tag: bool,
    /// If it has no such branch: the branch that is meant by `origin/main` or `refs/heads/main`.
    pub suggested: Option<String>,
}

/// Asks the remote for the head of the site's branch. Writes nothing but scratch files.
pub fn ask(site: &Site<'_>) -> Result<Answer, Failure> {
    if site.url.is_empty() {
        return Err(Failure::new("the remote's url is empty").hint("give it a path, or a url with ssh:// or https://"));
    }
    spans::git_ls_remote(&RedactedUrl::of(site.url)).in_scope(|| ask_for_branch(site))
}

fn ask_for_branch(site: &Site<'_>) -> Result<Answer, Failure> {
    let (_scratch, git) = Scratch::new(site)?;
    let wanted = format!("refs/heads/{}", site.branch);
    let suggested = without_prefix(site.branch, site.remote);
    let mut head = None;
    let mut answer = Answer::default();
    let mut branches: Vec<(f64, String)> = Vec::new();
    let mut count = 0;
    list(&git, &["ls-remote", "--heads", "--", site.remote], |id, name| {
        if name == wanted {
            head = Some(id.to_owned());
        } else if let Some(name) = name.strip_prefix("refs/heads/") {
            count += 1;
            if Some(name) == suggested {
                answer.suggested = Some(name.to_owned());
            }
            branches.push((strsim::jaro_winkler(name, site.branch), name.to_owned()));
            if branches.len() > 1024 {
                keep_nearest(&mut branches);
            }
        }
    })?;
    if let Some(head) = head {
        return Ok(Answer { head: Some(commit(site.url, &head)?), ..Answer::default() });
    }
    check_version()?;
    keep_nearest(&mut branches);
    answer.more_branches = count - branches.len();
    answer.branches = branches.into_iter().map(|(_, name)| name).collect();
    let short = site.branch.strip_prefix("refs/").unwrap_or(site.branch);
    let tag = format!("refs/tags/{}", short.strip_prefix("tags/").unwrap_or(short));
    list(&git, &["ls-remote", "--", site.remote, &tag], |_, name| answer.is_tag |= name == tag)?;
    Ok(answer)
}

/// Returns the name of a branch without a prefix that git's commands accept, as in `origin/main` or `refs/heads/main`.
fn without_prefix<'a>(branch: &'a str, remote: &str) -> Option<&'a str> {
    let rest = ["refs/", "remotes/"].iter().fold(branch, |rest, part| rest.strip_prefix(part).unwrap_or(rest));
    let rest = rest.strip_prefix("heads/").or_else(|| rest.strip_prefix(remote)?.strip_prefix('/')).unwrap_or(rest);
    Some(rest).filter(|rest| *rest != branch)
}

fn keep_nearest(branches: &mut Vec<(f64, String)>) {
    branches.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    branches.truncate(BRANCHES_NAMED);
}

fn commit(url: &str, id: &str) -> Result<Oid, Failure> {
    if id.len() == 64 {
        let what = format!("the remote {} names its commits by SHA-256, which is not supported", RedactedUrl::of(url));
        return Err(Failure::new(what).hint("give the url of a repository in git's default format (SHA-1)"));
    }
    Oid::from_str(id).map_err(|_| {
        Failure::new(format!("cannot read what the remote {} answers: `{id}` is not a commit", RedactedUrl::of(url)))
    })
}

/// Runs `ls-remote` and calls `each` for each line, with the id and what follows the tab.
pub fn list(git: &Git, args: &[&str], mut each: impl FnMut(&str, &str)) -> Result<(), Failure> {
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

/// Returns the branch that the remote's HEAD names.
pub fn default_branch(git: &Git, remote: &str) -> Result<Option<String>, Failure> {
    let mut branch = None;
    list(git, &["ls-remote", "--symref", "--", remote, "HEAD"], |id, name| {
        if name == "HEAD" {
            branch = branch.take().or_else(|| id.strip_prefix("ref: refs/heads/").map(str::to_owned));
        }
    })?;
    Ok(branch)
}
