//! Finds refs that git does not fetch beside: their object is missing, or their file holds no id.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use git2::{Oid, Reference, Repository};

use super::obstacle::Obstacle;
use super::path::RepoPath;
use crate::host::users::as_acting_user;
use crate::text::{aside_as, shell_word};

/// The maximum number of further refs that a message names.
const OTHERS_NAMED: usize = 3;

/// The namespace of stashes. Its older entries are in its log alone.
const STASH: &str = "refs/stash";

/// A ref, and its target if its file holds one.
struct Broken {
    name: String,
    id: Option<Oid>,
}

/// Returns the obstacle for the broken refs of the checkout at `top`, if there are any.
///
/// # Errors
/// The refs cannot be listed.
pub fn obstacle(repo: &Repository, top: &Path) -> Result<Option<Obstacle>, git2::Error> {
    let found = find(repo)?;
    let Some(first) = found.first() else { return Ok(None) };
    Ok(Some(describe(repo, top, first, &found[1..])))
}

/// Returns the obstacle for a broken ref that can be repaired, in a repository that cannot be read otherwise.
pub fn repairable(repo: &Repository, top: &Path) -> Option<Obstacle> {
    let found = find(repo).ok()?;
    let is_own = |name: &str| name.starts_with("refs/heads/");
    let is_repairable =
        |broken: &&Broken| last_good(repo, &broken.name).is_some() || broken.id.is_none() && !is_own(&broken.name);
    Some(describe(repo, top, found.iter().find(is_repairable)?, &[]))
}

/// libgit2 skips the refs whose file holds no id.
fn find(repo: &Repository) -> Result<Vec<Broken>, git2::Error> {
    let unreadable = unreadable(repo.path());
    let odb = repo.odb()?;
    let mut found = Vec::new();
    for reference in repo.references()? {
        let reference = reference?;
        let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
        // An empty file of an object exists, but has no header.
        if let Some(id) = reference.target().filter(|id| odb.read_header(*id).is_err())
            && !unreadable.contains(&name)
        {
            found.push(Broken { name, id: Some(id) });
        }
    }
    found.extend(unreadable.into_iter().map(|name| Broken { name, id: None }));
    Ok(found)
}

/// Returns the names of refs whose file holds neither an id nor the name of another ref.
fn unreadable(git: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![git.join("refs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(git).ok().and_then(Path::to_str).filter(|name| Reference::is_valid_name(name));
            if let Some(name) = name
                && kind.is_ok_and(|kind| kind.is_file())
                && start_of(&path).is_ok_and(|text| !is_ref(&text))
            {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// Reads as much of a file as decides whether it is a ref.
fn start_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(64).read_to_end(&mut text)?;
    Ok(text)
}

fn is_ref(text: &[u8]) -> bool {
    if text.starts_with(b"ref:") {
        return true;
    }
    let (id, rest) = text.split_at(text.len().min(40));
    id.len() == 40 && id.iter().all(u8::is_ascii_hexdigit) && rest.first().is_none_or(u8::is_ascii_whitespace)
}

/// Returns the values of a ref in its log, the last one first.
fn logged(repo: &Repository, name: &str) -> Vec<Oid> {
    let text = fs::read(repo.path().join("logs").join(name)).unwrap_or_default();
    let id = |line: &[u8]| Oid::from_str(std::str::from_utf8(line.split(|byte| *byte == b' ').nth(1)?).ok()?).ok();
    text.split(|byte| *byte == b'\n').rev().filter_map(id).collect()
}

/// Returns the last value of a ref in its log that still exists.
fn last_good(repo: &Repository, name: &str) -> Option<Oid> {
    let exists = |id: &Oid| repo.find_commit(*id).and_then(|commit| commit.tree()).is_ok();
    logged(repo, name).into_iter().find(exists)
}

fn describe(repo: &Repository, top: &Path, broken: &Broken, others: &[Broken]) -> Obstacle {
    let shown = |name: &str| RepoPath::new(name.as_bytes()).to_string();
    let others_named = others.iter().take(OTHERS_NAMED).map(|other| shown(&other.name)).collect();
    Obstacle::BrokenRef {
        name: shown(&broken.name),
        id: broken.id.map(|id| id.to_string()),
        remedy: remedy(repo, top, broken),
        others: others_named,
        more: others.len().saturating_sub(OTHERS_NAMED),
    }
}

/// Returns what to do about a broken ref, with a command for whoever started the run. A deletion takes the ref's log with it,
/// and with the log what only the log holds, so it is proposed only if the log holds nothing that exists.
fn remedy(repo: &Repository, top: &Path, broken: &Broken) -> String {
    let name = &broken.name;
    let (git, word) = (format!("git -C {}", shell_word(top)), shell_word(name));
    let drop =
        |options: &str| format!("{git} reflog delete {options}--rewrite {}", shell_word(format!("{name}@{{0}}")));
    let good = last_good(repo, name);
    let set = good.map(|good| {
        // The log of stashes lists each of them once.
        let once = if name == STASH { format!(" && {}", drop("")) } else { String::new() };
        format!("{git} update-ref {word} {good}{once}")
    });
    let quoted = |command: &str| format!("`{}`", as_acting_user(command));
    if broken.id.is_none() {
        // Below `refs`, it would remain a broken ref.
        let new = repo.path().join(format!("{}.aside", name.replace('/', "-")));
        let aside = aside_as(repo.path().join(name), new);
        return match set {
            Some(set) => {
                let command = quoted(&format!("{aside} && {set}"));
                format!("move the file aside, and set the ref to the last value in its log that exists: {command}")
            }
            None => format!("move the file aside: {}", quoted(&aside)),
        };
    }
    match set {
        Some(_) if name == STASH && logged(repo, name).first() == broken.id.as_ref() => {
            format!("drop that stash, which keeps the others: {}", quoted(&drop("--updateref ")))
        }
        Some(set) => {
            let set = quoted(&set);
            format!(
                "get the object from another copy of the repository, or set the ref to the last value in its log that exists: {set}"
            )
        }
        None => {
            let delete = quoted(&format!("{git} update-ref -d {word}"));
            if ["refs/tags/", "refs/remotes/"].iter().any(|start| name.starts_with(start)) {
                format!("delete it, and a fetch brings it again if the remote has it: {delete}")
            } else {
                format!("get the object from another copy of the repository, or delete the ref: {delete}")
            }
        }
    }
}
