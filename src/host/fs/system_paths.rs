//! Paths that a system or its users need, by their names alone.

use std::ffi::OsStr;
use std::path::{Component, Path};

/// The directories of `/` that a system needs (hier(7)).
const OF_SYSTEM: [&str; 22] = [
    "bin",
    "boot",
    "dev",
    "etc",
    "home",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var",
    "lost+found",
];
/// Those of them in which everything belongs to the system.
const WHOLE: [&str; 11] = ["bin", "boot", "dev", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr"];
/// The directories of `/var` that the system needs. The others, such as /var/www, are for what runs on it.
const OF_VAR: [&str; 12] =
    ["backups", "cache", "crash", "empty", "lib", "local", "lock", "log", "mail", "run", "spool", "tmp"];
/// Directories in which programs, users or mounts have their entries, each by its name.
const WITH_ENTRIES: [&str; 7] = ["/home", "/media", "/mnt", "/run", "/usr/local", "/var", "/var/lib"];
/// Directories in which everything is needed, at any depth.
const WITH_TREES: [&str; 2] = ["/etc", "/var/spool"];

/// Returns the names in a path.
fn names(path: &Path) -> Vec<&OsStr> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect()
}

/// Whether a path belongs to the system alone, so that no step should use it for anything else.
pub fn belongs_to_system(path: &Path) -> bool {
    let names = names(path);
    let is_one_of = |at: usize, list: &[&str]| names.get(at).is_some_and(|name| list.iter().any(|one| name == one));
    match names.len() {
        0 => true,
        1 => is_one_of(0, &OF_SYSTEM),
        2 if names[0] == "var" => is_one_of(1, &OF_VAR),
        2 if names[0] == "run" => true,
        2 | 3 => is_one_of(0, &WHOLE),
        _ => is_one_of(0, &WHOLE) && !path.starts_with("/usr/local"),
    }
}

/// Whether the system or its users need what has this path, so that it must not be moved.
pub fn is_needed(path: &Path) -> bool {
    let is_in = |listed: &&str| path.parent().is_some_and(|parent| parent == Path::new(listed));
    belongs_to_system(path)
        || WITH_ENTRIES.iter().any(is_in)
        || WITH_TREES.iter().any(|listed| path.starts_with(listed))
        || names(path).iter().any(|name| *name == ".ssh")
}
