//! Commands with paths that hints print for people to paste.

use std::path::Path;

use super::RepoPath;
use crate::text::shell_word;

/// Returns a command of git for these paths, such as `git -C TOP reset -q -- PATH`, where `args` is the part with a meaning to
/// git alone. The paths mean themselves, not patterns (gitglossary(7), pathspec). `None` if one cannot be typed.
pub fn git_with_paths<'a>(top: &Path, args: &str, paths: impl IntoIterator<Item = &'a RepoPath>) -> Option<String> {
    let words: Option<Vec<String>> = paths.into_iter().map(RepoPath::shell_word).collect();
    Some(format!("git --literal-pathspecs -C {} {args} -- {}", shell_word(&top.to_string_lossy()), words?.join(" ")))
}

/// Returns the command that renames what is at `path` in the checkout at `top`, as [`aside`]. `None` if the path cannot be typed.
pub fn aside_in(top: &Path, path: &RepoPath) -> Option<String> {
    path.shell_word()?;
    Some(aside(&format!("{}/{path}", top.display())))
}

/// Returns the command that renames what is at `path`. What has the new name already keeps its content under a name with a number
/// (mv(1), `--backup`).
pub fn aside(path: &str) -> String {
    format!("mv -T --backup=numbered {} {}", shell_word(path), shell_word(&format!("{path}.aside")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_take_paths_literally_and_need_names_that_can_be_typed() {
        let (top, plain, odd) = (Path::new("/srv/a b"), RepoPath::new("f[1]*"), RepoPath::new("a\nb"));
        assert_eq!(
            git_with_paths(top, "reset -q", [&plain]).unwrap(),
            "git --literal-pathspecs -C '/srv/a b' reset -q -- 'f[1]*'"
        );
        assert_eq!(git_with_paths(top, "reset -q", [&plain, &odd]), None);
        assert_eq!(aside_in(top, &plain).unwrap(), "mv -T --backup=numbered '/srv/a b/f[1]*' '/srv/a b/f[1]*.aside'");
        assert_eq!(aside_in(top, &odd), None);
    }
}
