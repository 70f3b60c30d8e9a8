//! What a tree asks for that this program does not do: submodules, LFS, filters, other encodings.

use git2::{Config, ObjectType, Repository, Tree};

use super::actual::Obstacle;
use super::path::RepoPath;

/// Looks through the whole tree, and at the attribute files of the repository and the user.
pub fn obstacles(view: &Repository, config: &Config, tree: &Tree<'_>) -> Result<Vec<Obstacle>, git2::Error> {
    let mut found = Vec::new();
    look(view, config, tree, &mut Vec::new(), &mut found)?;
    Ok(found)
}

/// The files beside the tree that give attributes too: `info/attributes` and `core.attributesFile`.
pub fn beside_the_tree(repo: &Repository, config: &Config) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let global = config.get_path("core.attributesFile").ok();
    for path in [Some(repo.path().join("info/attributes")), global].into_iter().flatten() {
        if let Ok(text) = std::fs::read(&path) {
            attributes(config, &RepoPath::new(path.to_string_lossy().into_owned().into_bytes()), &text, &mut found);
        }
    }
    found
}

fn look(
    view: &Repository,
    config: &Config,
    tree: &Tree<'_>,
    folder: &mut Vec<u8>,
    found: &mut Vec<Obstacle>,
) -> Result<(), git2::Error> {
    for entry in tree {
        let length = folder.len();
        if length > 0 {
            folder.push(b'/');
        }
        folder.extend_from_slice(entry.name_bytes());
        match entry.kind() {
            Some(ObjectType::Tree) => {
                look(view, config, &view.find_tree(entry.id())?, folder, found)?;
            }
            Some(ObjectType::Commit) => found.push(Obstacle::Submodules { path: RepoPath::new(folder.as_slice()) }),
            _ if entry.name_bytes() == b".gitattributes" => {
                let blob = view.find_blob(entry.id())?;
                attributes(config, &RepoPath::new(folder.as_slice()), blob.content(), found);
            }
            _ => {}
        }
        folder.truncate(length);
    }
    Ok(())
}

fn attributes(config: &Config, path: &RepoPath, text: &[u8], found: &mut Vec<Obstacle>) {
    let text = String::from_utf8_lossy(text);
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for word in line.split_whitespace().skip(1) {
            if word == "filter=lfs" {
                found.push(Obstacle::Lfs { path: path.clone() });
            } else if let Some(name) = word.strip_prefix("filter=") {
                let set = |key: &str| config.get_entry(&format!("filter.{name}.{key}")).is_ok();
                if ["clean", "smudge", "process"].into_iter().any(set) {
                    found.push(Obstacle::Filter { name: name.to_owned(), path: path.clone() });
                }
            } else if word.starts_with("working-tree-encoding=") {
                found.push(Obstacle::Encoding { path: path.clone() });
            }
        }
    }
}
