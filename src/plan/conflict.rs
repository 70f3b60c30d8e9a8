//! Finds steps that must not own the same thing, and what a step has to leave to other steps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::claim::{Claim, Claims, Database, FileUse, TreeOwner};

/// Two steps that would undo each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The indices of the steps, the earlier one first.
    pub first: usize,
    pub second: usize,
    /// What both steps claim, as spelled by the second one.
    pub claim: Claim,
    /// The path as the first one spells it, or else the resolved path, if it differs from the spelling of the second one.
    pub located: Option<PathBuf>,
    pub reason: Reason,
}

/// Why two claims exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Both own the same thing.
    Same,
    /// One creates a file where the other needs a directory.
    BelowFile,
    /// One owns the whole content of a file in which the other sets a value.
    EditsOwnedFile,
    /// One controls a directory inside the other's git directory, which git and the owner of the checkout use, or a file there
    /// that git writes.
    InGitDirectory,
}

/// A path below the step's own path that another step claims, relative to the step's path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClaimedBelow {
    pub path: PathBuf,
    /// Whether everything below the path is claimed too.
    pub whole: bool,
    /// The id of the step that claims it.
    pub step: String,
}

/// A tree of another step in which a step works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeAbove {
    /// The number of directory levels from what the step creates up to the top of the tree. All levels between them belong
    /// to the tree.
    pub height: usize,
    pub owner: TreeOwner,
}

/// Finds every pair of steps that own the same thing. `written` and `located` are the claims of the same steps.
pub fn conflicts(written: &[Claims], located: &[Claims]) -> Vec<Conflict> {
    let mut found = Vec::new();
    let mut known = Known::default();
    for (second, claims) in located.iter().enumerate() {
        for (at, claim) in claims.owns.iter().enumerate() {
            let Some((first, reason)) = known.conflict_with(claim, second) else { continue };
            let Some(spelled) = written[second].owns.get(at) else { continue };
            if !found.iter().any(|conflict: &Conflict| (conflict.first, conflict.second) == (first, second)) {
                // The other step's spelling of the same path says more than where both lead to.
                let same =
                    located[first].owns.iter().position(|other| claim.path().is_some() && other.path() == claim.path());
                let other = same.map_or(claim.path(), |at| written[first].owns.get(at).and_then(Claim::path));
                let leads = other.filter(|path| Some(*path) != spelled.path()).map(Path::to_path_buf);
                found.push(Conflict { first, second, claim: spelled.clone(), located: leads, reason });
            }
        }
        for claim in &claims.owns {
            known.add(claim, second);
        }
    }
    found
}

/// Returns what other steps claim below the trees of a step. All claims have to be located.
pub fn claimed_below<'a>(own: &Claims, others: impl Iterator<Item = (&'a str, &'a Claims)>) -> Vec<ClaimedBelow> {
    let tops: Vec<&Path> = own.owns.iter().filter(|claim| claim.is_whole()).filter_map(Claim::path).collect();
    let mut below = Vec::new();
    if tops.is_empty() {
        return below;
    }
    for (step, claims) in others {
        for claim in &claims.owns {
            for rest in tops.iter().filter_map(|top| claim.path()?.strip_prefix(top).ok()) {
                if !rest.as_os_str().is_empty() {
                    below.push(ClaimedBelow { path: rest.to_owned(), whole: claim.is_whole(), step: step.to_owned() });
                }
            }
        }
    }
    below.sort();
    // A file that several steps edit is listed only once.
    below.dedup_by(|one, other| one.path == other.path && one.whole == other.whole);
    below
}

/// Returns the trees of other steps around what a step creates, innermost first. All claims have to be located.
pub fn trees_above<'a>(own: &Claims, others: impl Iterator<Item = &'a Claims>) -> Vec<TreeAbove> {
    let Some(target) = &own.creates else { return Vec::new() };
    let mut trees: Vec<TreeAbove> = others
        .flat_map(|claims| &claims.owns)
        .filter_map(|claim| {
            let Claim::Directory { path, tree: Some(owner) } = claim else { return None };
            let height = target.strip_prefix(path).ok()?.components().count();
            (height > 0).then(|| TreeAbove { height, owner: owner.clone() })
        })
        .collect();
    trees.sort_by_key(|tree| tree.height);
    trees
}

/// The claims of earlier steps, indexed.
#[derive(Default)]
struct Known<'a> {
    paths: HashMap<&'a Path, Vec<(usize, &'a Claim)>>,
    /// For every parent directory of a claimed path, a step that needs it to be a directory.
    parents: HashMap<&'a Path, usize>,
    variables: HashMap<(&'a Path, &'a str), Vec<(usize, &'a Claim)>>,
    tables: Vec<(usize, &'a Database, &'a Claim)>,
}

impl<'a> Known<'a> {
    fn add(&mut self, claim: &'a Claim, step: usize) {
        match claim {
            Claim::Variable { file, name, .. } | Claim::EnvVariable { file, name } => {
                self.variables.entry((file, name)).or_default().push((step, claim));
            }
            Claim::Table { database, .. } | Claim::Series { database, .. } => {
                self.tables.push((step, database, claim));
            }
            Claim::File(path)
            | Claim::Checkout(path)
            | Claim::Directory { path, .. }
            | Claim::EditedFile { path, .. } => {
                self.paths.entry(path).or_default().push((step, claim));
                for parent in path.ancestors().skip(1) {
                    self.parents.entry(parent).or_insert(step);
                }
            }
        }
    }

    fn conflict_with(&self, claim: &Claim, step: usize) -> Option<(usize, Reason)> {
        let others = |list: Option<&Vec<(usize, &'a Claim)>>| -> Vec<(usize, &'a Claim)> {
            list.into_iter().flatten().filter(|(other, _)| *other != step).copied().collect()
        };
        match claim {
            Claim::Variable { file, name, service } => {
                let same = others(self.variables.get(&(file.as_path(), name.as_str())));
                same.into_iter().find_map(|(other, theirs)| match theirs {
                    Claim::Variable { service: theirs, .. } => {
                        (theirs == service || theirs.is_none() || service.is_none()).then_some((other, Reason::Same))
                    }
                    _ => None,
                })
            }
            Claim::EnvVariable { file, name } => {
                let same = others(self.variables.get(&(file.as_path(), name.as_str())));
                let same = same.into_iter().find(|(_, theirs)| matches!(theirs, Claim::EnvVariable { .. }));
                same.map(|(other, _)| (other, Reason::Same))
            }
            Claim::Table { database, name } => self.table(database, step, |theirs| match theirs {
                Claim::Table { name: theirs, .. } => theirs == name,
                Claim::Series { series, .. } => series.contains(name),
                _ => false,
            }),
            Claim::Series { database, series } => self.table(database, step, |theirs| match theirs {
                Claim::Table { name, .. } => series.contains(name),
                Claim::Series { series: theirs, .. } => series.overlaps(theirs),
                _ => false,
            }),
            Claim::File(path)
            | Claim::Checkout(path)
            | Claim::Directory { path, .. }
            | Claim::EditedFile { path, .. } => {
                let same = others(self.paths.get(path.as_path()));
                same.into_iter()
                    .find_map(|(other, theirs)| Some((other, same_path(claim, theirs)?)))
                    .or_else(|| {
                        let file = path.ancestors().skip(1).find_map(|parent| {
                            let above = others(self.paths.get(parent));
                            above.into_iter().find(|(_, theirs)| is_file(theirs)).map(|(other, _)| other)
                        });
                        let below = self.parents.get(path.as_path()).copied().filter(|_| is_file(claim));
                        file.or(below).filter(|other| *other != step).map(|other| (other, Reason::BelowFile))
                    })
                    .or_else(|| self.in_git_directory(claim, step))
            }
        }
    }

    fn in_git_directory(&self, claim: &Claim, step: usize) -> Option<(usize, Reason)> {
        let found = match claim {
            Claim::Directory { path, .. } | Claim::File(path) | Claim::EditedFile { path, .. } => {
                let tops = path.ancestors().filter(|around| around.ends_with(".git")).filter_map(Path::parent);
                let tops = tops.filter(|top| is_of_git(claim, top));
                let claims = tops.flat_map(|top| self.paths.get(top)).flatten();
                claims.filter(|(_, theirs)| matches!(theirs, Claim::Checkout(_))).map(|(other, _)| *other).next()
            }
            Claim::Checkout(top) => {
                let git = top.join(".git");
                let within = self.paths.iter().filter(|(path, _)| path.starts_with(&git));
                within
                    .flat_map(|(_, claims)| claims)
                    .find(|(_, theirs)| is_of_git(theirs, top))
                    .map(|(other, _)| *other)
            }
            _ => None,
        };
        found.filter(|other| *other != step).map(|other| (other, Reason::InGitDirectory))
    }

    fn table(&self, database: &Database, step: usize, same: impl Fn(&Claim) -> bool) -> Option<(usize, Reason)> {
        let mut others = self.tables.iter().filter(|(other, theirs, _)| *other != step && theirs.is_same(database));
        others.find(|(_, _, claim)| same(claim)).map(|(other, _, _)| (*other, Reason::Same))
    }
}

/// The files and directories in a git directory that git and the repository step write themselves.
const WRITTEN_BY_GIT: [&str; 9] =
    ["HEAD", "index", "packed-refs", "refs", "objects", "logs", "shallow", "ORIG_HEAD", "FETCH_HEAD"];

/// Returns whether git itself uses what the claim is about in the git directory of a checkout. Hooks, settings and `info` are for people.
fn is_of_git(claim: &Claim, top: &Path) -> bool {
    let git = top.join(".git");
    match claim {
        Claim::Directory { path, .. } => path.starts_with(git),
        Claim::File(path) | Claim::EditedFile { path, .. } => path.strip_prefix(git).is_ok_and(|rest| {
            let first = rest.iter().next().unwrap_or_default();
            rest.as_os_str().is_empty()
                || WRITTEN_BY_GIT.iter().any(|name| first == *name)
                || rest.extension().is_some_and(|extension| extension == "lock")
        }),
        _ => false,
    }
}

fn is_file(claim: &Claim) -> bool {
    matches!(claim, Claim::File(_) | Claim::EditedFile { usage: FileUse::Edits | FileUse::Needs, .. })
}

/// Returns why two claims of one path exclude each other, if they do.
fn same_path(one: &Claim, other: &Claim) -> Option<Reason> {
    match (one, other) {
        (Claim::EditedFile { .. }, Claim::EditedFile { .. }) => None,
        (Claim::EditedFile { usage, .. }, Claim::File(_)) | (Claim::File(_), Claim::EditedFile { usage, .. }) => {
            (*usage == FileUse::Edits).then_some(Reason::EditsOwnedFile)
        }
        (Claim::EditedFile { usage, .. }, _) | (_, Claim::EditedFile { usage, .. }) => {
            (*usage != FileUse::MayEdit).then_some(Reason::Same)
        }
        _ => Some(Reason::Same),
    }
}
