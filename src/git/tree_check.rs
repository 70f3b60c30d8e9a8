//! Finds what a tree needs and provision does not support (submodules, LFS, filters, other encodings), and names that no checkout may
//! have.

use git2::{Config, ObjectType, Repository, Tree};

use super::obstacle::Obstacle;
use super::path::RepoPath;

/// Larger files of attributes are not read, in bytes.
const MAX_ATTRIBUTES_BYTES: u64 = 16 << 20;

/// The maximum depth of a tree: git's own default (core.maxTreeDepth, git-config(1)).
const MAX_DEPTH: usize = 2048;

/// Searches the whole tree. Every filter is reported; [`matters`] tells which of them are configured.
pub fn obstacles(view: &Repository, tree: &Tree<'_>) -> Result<Vec<Obstacle>, git2::Error> {
    let mut found = Vec::new();
    search(view, tree, &mut found)?;
    Ok(found)
}

/// Whether an obstacle applies under this configuration: git skips filters that are not configured, and does not check names for HFS+
/// by default.
pub fn matters(obstacle: &Obstacle, config: &Config) -> bool {
    match obstacle {
        Obstacle::Filter { name, .. } => {
            let set = |key: &str| config.get_entry(&format!("filter.{name}.{key}")).is_ok();
            ["clean", "smudge", "process"].into_iter().any(set)
        }
        Obstacle::UnsafeName { on_hfs: true, .. } => config.get_bool("core.protectHFS").unwrap_or(false),
        _ => true,
    }
}

/// Searches the files outside of the tree that set attributes: `info/attributes` and `core.attributesFile`.
pub fn outside_the_tree(repo: &Repository, config: &Config) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let global = config.get_path("core.attributesFile").ok();
    for path in [Some(repo.path().join("info/attributes")), global].into_iter().flatten() {
        if let Ok(seen) = crate::host::fs::read_file(&path, MAX_ATTRIBUTES_BYTES) {
            attributes(&RepoPath::new(path.to_string_lossy().into_owned().into_bytes()), &seen.bytes, &mut found);
        }
    }
    found
}

/// Not recursive, since a hostile tree could overflow the stack.
fn search(view: &Repository, tree: &Tree<'_>, found: &mut Vec<Obstacle>) -> Result<(), git2::Error> {
    let mut trees = vec![(tree.id(), Vec::new(), 1)];
    while let Some((tree, folder, depth)) = trees.pop() {
        if depth > MAX_DEPTH {
            return Err(git2::Error::from_str(&format!("the tree is nested more than {MAX_DEPTH} directories deep")));
        }
        for entry in &view.find_tree(tree)? {
            let path = [folder.as_slice(), entry.name_bytes()].concat();
            // A comparison of trees leaves `.` and `..` out, and a checkout fails at them.
            let (name, is_link) = (RepoPath::new(entry.name_bytes()), entry.filemode() == 0o120_000);
            let is_one_name = !entry.name_bytes().contains(&b'/');
            if !is_one_name || !name.is_safe() || is_link && name.is_gitmodules() {
                found.push(Obstacle::UnsafeName { path: RepoPath::new(path), on_hfs: false });
                continue;
            }
            if name.is_git_on_hfs() || is_link && name.is_gitmodules_on_hfs() {
                found.push(Obstacle::UnsafeName { path: RepoPath::new(path.clone()), on_hfs: true });
            }
            match entry.kind() {
                Some(ObjectType::Tree) => trees.push((entry.id(), [path.as_slice(), b"/"].concat(), depth + 1)),
                Some(ObjectType::Commit) => found.push(Obstacle::Submodules { path: RepoPath::new(path) }),
                _ if entry.name_bytes() == b".gitattributes" => {
                    let blob = view.find_blob(entry.id())?;
                    attributes(&RepoPath::new(path), blob.content(), found);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn attributes(path: &RepoPath, text: &[u8], found: &mut Vec<Obstacle>) {
    let text = String::from_utf8_lossy(text);
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for word in line.split_whitespace().skip(1) {
            if word == "filter=lfs" {
                found.push(Obstacle::Lfs { path: path.clone() });
            } else if let Some(name) = word.strip_prefix("filter=") {
                found.push(Obstacle::Filter { name: name.to_owned(), path: path.clone() });
            } else if word.starts_with("working-tree-encoding=") {
                found.push(Obstacle::Encoding { path: path.clone() });
            }
        }
    }
}
