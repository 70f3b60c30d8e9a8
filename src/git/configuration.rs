//! Checks the files of git's configuration before libgit2 opens them: it blocks forever on a FIFO, and reports a file that it
//! cannot read as a broken repository.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use git2::ConfigLevel;
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::obstacle::{Obstacle, is_own};
use super::unreadable;
use crate::host::environment;
use crate::host::fs::{FileKind, escape_path};
use crate::host::users::acting_user;
use crate::text::io_error_text;

/// Opens a FIFO without waiting for its other end (open(2)).
const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// What libgit2 says of formats that it does not support (repository.c, refs.c and index.c).
const UNSUPPORTED: [&str; 4] = [
    "unsupported extension name",
    "unsupported mandatory extension",
    "unknown object format",
    "unsupported repository version",
];

/// Larger files are not searched for includes, in bytes.
const MAX_SEARCHED: u64 = 1 << 20;

/// The maximum number of included files that are followed.
const MAX_INCLUDES: usize = 1000;

/// The system-wide configuration (`FILES` in git-config(1)).
const SYSTEM: &str = "/etc/gitconfig";

/// Returns the acting user's own files, each with libgit2's name for the place.
fn own_files() -> Vec<(ConfigLevel, PathBuf)> {
    if let Some(named) = environment::variable("GIT_CONFIG_GLOBAL") {
        // An empty name means no file.
        let named = Some(named).filter(|named| !named.is_empty());
        return named.map(|named| (ConfigLevel::Global, PathBuf::from(named))).into_iter().collect();
    }
    let variable = |name| environment::variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let xdg = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let xdg = xdg.map(|folder| (ConfigLevel::XDG, folder.join("git/config")));
    xdg.into_iter().chain(home.map(|home| (ConfigLevel::Global, home.join(".gitconfig")))).collect()
}

/// Returns the system-wide file, unless git is to read none.
fn system_file() -> Option<PathBuf> {
    let is_true = |value: &str| {
        ["true", "yes", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
            || value.parse().is_ok_and(|number: i64| number != 0)
    };
    if environment::text("GIT_CONFIG_NOSYSTEM").is_some_and(|value| is_true(&value)) {
        return None;
    }
    match environment::variable("GIT_CONFIG_SYSTEM") {
        Some(named) => Some(PathBuf::from(named)).filter(|named| !named.as_os_str().is_empty()),
        None => Some(PathBuf::from(SYSTEM)),
    }
}

/// Returns the lines of a configuration that include another file, whose path may have any bytes (git-config(1), "Includes").
pub fn including(path: &Path) -> Vec<u8> {
    let mut lines = b"[include]\n\tpath = \"".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'\n' => lines.extend(b"\\n"),
            b'\\' | b'"' => lines.extend([b'\\', *byte]),
            byte => lines.push(*byte),
        }
    }
    lines.extend(b"\"\n");
    lines
}

/// Returns the files that environment variables name in place of the usual ones (git(1)), with their levels in libgit2. libgit2
/// does not read these variables, and skips conditional includes in the files that are added.
pub fn named_files() -> Vec<(ConfigLevel, PathBuf)> {
    let system = environment::variable("GIT_CONFIG_SYSTEM").and_then(|_| system_file());
    let own = environment::variable("GIT_CONFIG_GLOBAL").map(|_| own_files());
    let mut files: Vec<_> = system.into_iter().map(|file| (ConfigLevel::System, file)).collect();
    files.extend(own.into_iter().flatten());
    files.retain(|(_, file)| access(file, Access::READ_OK).is_ok());
    files
}

/// Makes libgit2 skip the user's files that it cannot reach, as git does, and open partial clones, which are then reported. Runs
/// once per process, before anything is opened.
#[expect(unsafe_code, reason = "libgit2's options are global, and git2 has no safe way to set them")]
pub fn set_up_libgit2() {
    static DONE: OnceLock<()> = OnceLock::new();
    let () = *DONE.get_or_init(|| {
        // SAFETY: every repository is opened after this, and other threads wait for it.
        let _ = unsafe { git2::opts::set_extensions(&["partialclone"]) };
        let system = system_file().is_none_or(|file| file != Path::new(SYSTEM)).then_some(&[ConfigLevel::System][..]);
        let own = environment::variable("GIT_CONFIG_GLOBAL").map(|_| &[ConfigLevel::Global, ConfigLevel::XDG][..]);
        for level in system.into_iter().chain(own).flatten() {
            // SAFETY: every repository is opened after this, and other threads wait for it.
            let _ = unsafe { git2::opts::set_search_path(*level, "") };
        }
        for (level, file) in own_files() {
            if fs::metadata(&file).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                // SAFETY: every repository is opened after this, and other threads wait for it.
                let _ = unsafe { git2::opts::set_search_path(level, "") };
            }
        }
    });
}

/// Returns a warning for each of the user's files that git skips silently.
pub fn left_out() -> Vec<String> {
    let denied = |path: &Path, right| access(path, right) == Err(Errno::ACCESS);
    let home = environment::home().unwrap_or_default();
    let user = acting_user();
    if denied(&home, Access::EXEC_OK) {
        let home = escape_path(&home);
        return vec![format!("git's configuration in {home} is ignored: HOME is {home}, which {user} cannot enter")];
    }
    let files = own_files().into_iter().filter(|(_, file)| denied(file, Access::READ_OK));
    let warning = |file: &Path| format!("git's configuration {} is ignored: {user} cannot read it", escape_path(file));
    files.map(|(_, file)| warning(&file)).collect()
}

/// Returns the first configuration file that is not a regular file, which libgit2 would wait for or git would reject. In the
/// checkout's git directory `git`, a file that cannot be read counts too: libgit2 skips it silently.
pub fn obstacle(git: Option<&Path>) -> Option<Obstacle> {
    let mut files: Vec<PathBuf> = system_file().into_iter().collect();
    files.extend(own_files().into_iter().map(|(_, file)| file));
    for file in git.into_iter().flat_map(|git| [git.join("config"), git.join("config.worktree")]) {
        if let Err(Errno::ACCESS) = access(&file, Access::READ_OK) {
            return Some(unreadable::of_git(&file));
        }
        files.push(file);
    }
    let mut known: BTreeSet<PathBuf> = files.iter().cloned().collect();
    while let Some(file) = files.pop() {
        let Ok(found) = fs::metadata(&file) else { continue };
        if !found.is_file() {
            // `special_files` checks the git directory.
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

/// Returns the paths that a configuration file includes, whether or not their conditions hold.
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
            Some(rest) => environment::home().map(|home| home.join(rest)),
            None => file.parent().map(|folder| folder.join(value)),
        });
    }
    found
}

/// Finds out from the text of libgit2's error whether a file could not be read, or the configuration has a mistake. `git` is
/// the checkout's git directory.
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
    let (path, problem) = (path.to_owned(), io_error_text(&error));
    Some(if Path::new(&path).starts_with(git) {
        Obstacle::Unreadable { is_own: is_own(&path), path, problem }
    } else {
        unusable(path, problem)
    })
}

/// Returns why libgit2 could not read a repository, from the text of its error. `git` is the git directory.
pub fn unreadable(problem: String, git: &Path) -> Obstacle {
    if let Some(cause) = cause(&problem, git) {
        cause
    } else if let Some(denied) = unreadable::in_git_directory(git) {
        // libgit2 reports an object that it cannot read as missing.
        denied
    } else if UNSUPPORTED.iter().any(|words| problem.contains(words)) {
        Obstacle::Unsupported { problem }
    } else {
        Obstacle::Broken { problem }
    }
}

fn unusable(path: String, problem: String) -> Obstacle {
    Obstacle::Configuration { path, problem, user: acting_user() }
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
