//! Commands with paths that hints print for people to paste, and the remedies that consist of one.

use std::path::Path;

use super::RepoPath;
use crate::host::fs::{Removal, must_stay};
use crate::host::users::as_root;
use crate::text::{aside, shell_word};

/// Returns a command of git for these paths, such as `git -C TOP reset -q -- PATH`, where `args` is the part with a meaning to
/// git alone. The paths mean themselves, not patterns (gitglossary(7), pathspec).
pub fn git_with_paths<'a>(top: &Path, args: &str, paths: impl IntoIterator<Item = &'a RepoPath>) -> String {
    let words: Vec<String> = paths.into_iter().map(|path| shell_word(path.as_path())).collect();
    format!("git --literal-pathspecs -C {} {args} -- {}", shell_word(top), words.join(" "))
}

/// Returns the remedy for a file that its own mode closes to the acting user.
pub fn opened_to_owner(rights: &str, path: &Path) -> String {
    format!("its mode denies its owner that: `{}`", as_root(&format!("chmod {rights} {}", shell_word(path))))
}

/// Returns the remedy for files that the checkout's owner cannot use. `.git` belongs to that user.
pub(super) fn give_back(what: &str, top: &Path, path: &Path) -> String {
    let command = format!("chown -R --reference={} {}", shell_word(top.join(".git")), shell_word(path));
    format!("give {what} back to the checkout's owner: `{}`", as_root(&command))
}

pub(super) fn moved_aside(top: &Path, path: &RepoPath) -> String {
    Removal::Aside.hint(&top.join(path.as_path()), "correct the path of the checkout")
}

/// Returns the remedy of last resort, and what it costs.
pub(super) fn clone_again(path: &Path) -> String {
    if must_stay(path) {
        // The directory itself stays where it is, with all files but git's.
        return format!(
            "move git's files aside: `{}`; commits and rescues that were only here are in the moved directory, and the next plan says how to make it a checkout again",
            aside(path.join(".git"))
        );
    }
    let aside = aside(path);
    format!(
        "have the step clone it again from its url: `{aside}`; changes, commits and rescues that were only here are in the moved directory"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_take_paths_literally() {
        let (top, plain, odd) = (Path::new("/srv/a b"), RepoPath::new("f[1]*"), RepoPath::new("a\nb"));
        assert_eq!(
            git_with_paths(top, "reset -q", [&plain, &odd]),
            r"git --literal-pathspecs -C '/srv/a b' reset -q -- 'f[1]*' $'a\nb'"
        );
    }
}
