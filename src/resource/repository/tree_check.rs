//! What a tree asks for that this program does not do: submodules, LFS, filters, other encodings.

use git2::{Config, ObjectType, Repository, Tree};

use super::actual::Obstacle;
use super::path::RepoPath;

/// A file of attributes is text of some lines; a larger one (16 MiB) is something else.
const LARGEST: u64 = 16 << 20;

/// How many trees may lie in one another: git's own default (core.maxTreeDepth, git-config(1)).
const DEEPEST: usize = 2048;

/// Looks through the whole tree. Every filter is named: whether it [`matters`] is for the configuration to say.
pub fn obstacles(view: &Repository, tree: &Tree<'_>) -> Result<Vec<Obstacle>, git2::Error> {
    let mut found = Vec::new();
    look(view, tree, &mut found)?;
    Ok(found)
}

/// git passes over a filter that is not configured.
pub fn matters(obstacle: &Obstacle, config: &Config) -> bool {
    let Obstacle::Filter { name, .. } = obstacle else { return true };
    let set = |key: &str| config.get_entry(&format!("filter.{name}.{key}")).is_ok();
    ["clean", "smudge", "process"].into_iter().any(set)
}

/// The files beside the tree that give attributes too: `info/attributes` and `core.attributesFile`.
pub fn beside_the_tree(repo: &Repository, config: &Config) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let global = config.get_path("core.attributesFile").ok();
    for path in [Some(repo.path().join("info/attributes")), global].into_iter().flatten() {
        if let Ok(seen) = crate::host::fs::read_file(&path, LARGEST) {
            attributes(&RepoPath::new(path.to_string_lossy().into_owned().into_bytes()), &seen.bytes, &mut found);
        }
    }
    found
}

/// Not by recursion: a hostile tree would overflow the stack.
fn look(view: &Repository, tree: &Tree<'_>, found: &mut Vec<Obstacle>) -> Result<(), git2::Error> {
    let mut trees = vec![(tree.id(), Vec::new(), 1)];
    while let Some((tree, folder, depth)) = trees.pop() {
        if depth > DEEPEST {
            return Err(git2::Error::from_str(&format!("the tree is nested more than {DEEPEST} directories deep")));
        }
        for entry in &view.find_tree(tree)? {
            let path = [folder.as_slice(), entry.name_bytes()].concat();
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
