//! Commands with paths that hints print for people to paste.

use std::path::Path;

use super::RepoPath;
use crate::text::shell_word;

/// Returns a command of git for these paths, such as `git -C TOP reset -q -- PATH`, where `args` is the part with a meaning to
/// git alone. The paths mean themselves, not patterns (gitglossary(7), pathspec).
pub fn git_with_paths<'a>(top: &Path, args: &str, paths: impl IntoIterator<Item = &'a RepoPath>) -> String {
    let words: Vec<String> = paths.into_iter().map(|path| shell_word(path.as_path())).collect();
    format!("git --literal-pathspecs -C {} {args} -- {}", shell_word(top), words.join(" "))
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
