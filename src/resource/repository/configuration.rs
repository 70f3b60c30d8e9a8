//! The files of git's configuration that are not the checkout's own, looked at before libgit2 opens them: it waits for ever
//! at a FIFO, and takes a directory that it cannot enter for a broken repository.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use git2::ConfigLevel;
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::actual::Obstacle;
use super::observe::own_name;
use super::system_word;
use crate::host::fs::{FileKind, escape_path};

/// Opens a FIFO without a wait for its other end (open(2)).
const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// The largest file that is searched for includes, in bytes.
const MAX_SEARCHED: u64 = 1 << 20;

/// How many included files are followed.
const MAX_INCLUDES: usize = 1000;

/// The configuration of the whole host (`FILES` in git-config(1)).
const SYSTEM: &str = "/etc/gitconfig";

/// The acting user's own files, with libgit2's name for where each is searched.
fn own_files() -> Vec<(ConfigLevel, PathBuf)> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let xdg = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let xdg = xdg.map(|folder| (ConfigLevel::XDG, folder.join("git/config")));
    xdg.into_iter().chain(home.map(|home| (ConfigLevel::Global, home.join(".gitconfig")))).collect()
}

/// Has libgit2 leave out the user's files that it cannot get at, as git does. Once a process, before it opens anything.
#[expect(unsafe_code, reason = "libgit2's search paths are global, and git2 has no safe way to set them")]
pub fn leave_out_unreachable() {
    static DONE: OnceLock<()> = OnceLock::new();
    let () = *DONE.get_or_init(|| {
        for (level, file) in own_files() {
            if fs::metadata(&file).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                // SAFETY: every repository is opened after this, and other threads wait for it.
                let _ = unsafe { git2::opts::set_search_path(level, "") };
            }
        }
    });
}

/// What git leaves out of the user's configuration without a word, for a warning.
pub fn left_out() -> Vec<String> {
    let denied = |path: &Path, right| access(path, right) == Err(Errno::ACCESS);
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let user = own_name();
    if denied(&home, Access::EXEC_OK) {
        let home = escape_path(&home);
        return vec![format!("git's configuration in {home} is left out: HOME is {home}, which {user} cannot enter")];
    }
    let files = own_files().into_iter().filter(|(_, file)| denied(file, Access::READ_OK));
    let warning = |file: &Path| format!("git's configuration {} is left out: {user} cannot read it", escape_path(file));
    files.map(|(_, file)| warning(&file)).collect()
}

/// The first file that is no file and would be waited for, or that git itself does not take. Of the checkout's own, which
/// lie in `git`, the first that cannot be read: libgit2 passes over it.
pub fn obstacle(git: Option<&Path>) -> Option<Obstacle> {
    let mut files = vec![PathBuf::from(SYSTEM)];
    files.extend(own_files().into_iter().map(|(_, file)| file));
    for file in git.into_iter().flat_map(|git| [git.join("config"), git.join("config.worktree")]) {
        if let Err(Errno::ACCESS) = access(&file, Access::READ_OK) {
            return Some(Obstacle::Unreadable { path: escape_path(&file), problem: "permission denied".to_owned() });
        }
        files.push(file);
    }
    let mut known: BTreeSet<PathBuf> = files.iter().cloned().collect();
    while let Some(file) = files.pop() {
        let Ok(found) = fs::metadata(&file) else { continue };
        if !found.is_file() {
            // What is in the git directory is `waits`' to look at.
            let empty = file.canonicalize().is_ok_and(|real| real == Path::new("/dev/null"));
            if empty || git.is_some_and(|git| file.starts_with(git)) {
                continue;
            }
            let problem = format!("it is {}", FileKind::of(found.mode()).name());
            return Some(unusable(escape_path(&file), problem));
        }
        if found.len() <= MAX_SEARCHED
            && known.len() < MAX_INCLUDES
            && let Ok(text) = fs::read(&file)
        {
            let included = includes(&file, &String::from_utf8_lossy(&text));
            files.extend(included.into_iter().filter(|path| known.insert(path.clone())));
        }
    }
    None
}

/// The paths that a configuration file includes, whether or not their conditions hold.
fn includes(file: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut included = false;
    for line in text.lines() {
        let mut line = line.trim();
        if line.starts_with('[') {
            included = line.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case("[include"));
            line = line.rsplit_once(']').map_or("", |(_, rest)| rest.trim());
        }
        let Some((key, value)) = line.split_once('=').filter(|_| included) else { continue };
        if !key.trim().eq_ignore_ascii_case("path") {
            continue;
        }
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|rest| rest.split('"').next()).unwrap_or(value);
        found.extend(match value.strip_prefix("~/") {
            Some(rest) => std::env::var_os("HOME").map(|home| Path::new(&home).join(rest)),
            None => file.parent().map(|folder| folder.join(value)),
        });
    }
    found
}

/// The reason why libgit2 failed, where that is a file which the system does not let it read, or a mistake in git's
/// configuration. `problem` is its text, `git` the checkout's git directory.
pub fn cause(problem: &str, git: &Path) -> Option<Obstacle> {
    // `failed to parse config file: missing ']' in section header (in /home/u/.gitconfig:3)`
    if let Some(mistake) = problem.strip_prefix("failed to parse config file: ") {
        let (mistake, place) = mistake.split_once(" (in ").unwrap_or((mistake, ""));
        let place = place.split(", column ").next().unwrap_or(place).trim_end_matches(')');
        let (path, line) = place.rsplit_once(':').unwrap_or((place, ""));
        return Some(unusable(path.to_owned(), format!("{mistake}, line {line}")));
    }
    let path = problem.split_once('\'')?.1.rsplit_once('\'')?.0;
    let error = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .err()
        .filter(|error| error.kind() != io::ErrorKind::NotFound)?;
    let (path, problem) = (path.to_owned(), system_word(&error));
    Some(if Path::new(&path).starts_with(git) {
        Obstacle::Unreadable { path, problem }
    } else {
        unusable(path, problem)
    })
}

fn unusable(path: String, problem: String) -> Obstacle {
    Obstacle::Configuration { path, problem, user: own_name() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_are_found_by_every_spelling() {
        let text = "[core]\n\tpath = /no\n[Include]\n\tPATH=one\n[includeIf \"gitdir:/x/\"] path = \"/a b\" # two\n[user]\npath=/no\n";
        assert_eq!(includes(Path::new("/etc/gitconfig"), text), [Path::new("/etc/one"), Path::new("/a b")]);
    }

    #[test]
    fn the_file_and_line_of_a_mistake_are_found() {
        let text = "failed to parse config file: missing ']' in section header (in /home/u/.gitconfig:3)";
        let found = cause(text, Path::new("/srv/app/.git"));
        let problem = "missing ']' in section header, line 3".to_owned();
        assert_eq!(found, Some(unusable("/home/u/.gitconfig".to_owned(), problem)));
        assert_eq!(cause("object not found", Path::new("/srv/app/.git")), None);
    }
}
