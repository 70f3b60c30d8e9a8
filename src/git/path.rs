//! Paths inside a repository, which need not be UTF-8.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text::{escape_name, unescape_name};

/// A path relative to the checkout's top, with `/` between its parts, as git's trees and index hold it.
///
/// Its text form ([`escape_name`]) is lossless.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// Makes a path of the bytes that git gave.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Parses the text form. Returns `None` for an invalid escape.
    pub fn parse(text: &str) -> Option<Self> {
        unescape_name(text).map(Self)
    }

    /// Returns the path as bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns it as a relative path of the file system.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Returns the directories above it, the outermost first, without the top.
    pub fn parents(&self) -> impl Iterator<Item = RepoPath> + '_ {
        self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| RepoPath(self.0[..at].to_vec()))
    }

    /// Returns the path of an entry of this directory.
    pub fn child(&self, name: &OsStr) -> RepoPath {
        RepoPath([&self.0, &b"/"[..], name.as_bytes()].concat())
    }

    /// Whether it is below `top`.
    pub fn is_under(&self, top: &RepoPath) -> bool {
        self.0.len() > top.0.len() && self.0[top.0.len()] == b'/' && self.0.starts_with(&top.0)
    }

    /// Whether git checks it out: it leads neither out of the checkout nor into the git directory, on any file system. git checks the
    /// names that mean `.git` on NTFS everywhere, and takes a backslash for a separator (core.protectNTFS, git-config(1);
    /// `verify_path` in its read-cache.c; CVE-2019-1353).
    pub fn is_safe(&self) -> bool {
        let parts = || self.0.split(|byte| *byte == b'/');
        !self.0.contains(&0)
            && !parts().any(|part| part.is_empty() || part == b"." || part == b"..")
            && !self.windows_parts().any(|part| is_ntfs_name_of(part, b".git") || is_ntfs_name_of(part, b"git~1"))
    }

    /// Whether a part of it means `.gitmodules` on some file system, which git refuses as a symlink (`is_ntfs_dotgitmodules` in its
    /// path.c; CVE-2018-11235).
    pub fn is_gitmodules(&self) -> bool {
        self.windows_parts().any(|part| is_ntfs_name_of(part, b".gitmodules") || is_short_gitmodules(part))
    }

    /// Whether a part of it means `.git` on HFS+ (core.protectHFS, git-config(1); CVE-2014-9390).
    pub fn is_git_on_hfs(&self) -> bool {
        self.0.split(|byte| *byte == b'/').any(|part| is_hfs_name_of(part, ".git"))
    }

    /// Whether a part of it means `.gitmodules` on HFS+.
    pub fn is_gitmodules_on_hfs(&self) -> bool {
        self.0.split(|byte| *byte == b'/').any(|part| is_hfs_name_of(part, ".gitmodules"))
    }

    fn windows_parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| matches!(byte, b'/' | b'\\'))
    }
}

/// Whether a name is another one on NTFS, where case does not count, dots and blanks at the end do not, and a colon begins the name of
/// a stream.
fn is_ntfs_name_of(name: &[u8], known: &[u8]) -> bool {
    let (begin, rest) = name.split_at(known.len().min(name.len()));
    begin.eq_ignore_ascii_case(known)
        && matches!(rest.iter().find(|byte| !matches!(byte, b'.' | b' ')), None | Some(b':'))
}

/// Whether HFS+ treats the name as `known`: it ignores case and these characters (`next_hfs_char` in git's utf8.c). As in git, invalid
/// UTF-8 ends the name.
fn is_hfs_name_of(name: &[u8], known: &str) -> bool {
    let is_ignored = |letter: &char| matches!(letter, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let text = name.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    text.chars().filter(|letter| !is_ignored(letter)).map(|letter| letter.to_ascii_lowercase()).eq(known.chars())
}

/// Whether a name is one of those that NTFS makes for `.gitmodules`: `gitmod~1` to `gitmod~4`, or eight characters that begin like a
/// hash of it and end in a number, such as `gi7eba~1` or `gi7e~100`.
fn is_short_gitmodules(name: &[u8]) -> bool {
    let Some((short, _)) = name.split_at_checked(8).filter(|(short, _)| is_ntfs_name_of(name, short)) else {
        return false;
    };
    let Some(tilde) = short.iter().position(|byte| *byte == b'~') else { return false };
    let (begin, number) = (&short[..tilde], &short[tilde + 1..]);
    let is_hash = b"gi7eba".get(..tilde).is_some_and(|hash| begin.eq_ignore_ascii_case(hash));
    let is_number = number.first().is_some_and(|digit| *digit != b'0') && number.iter().all(u8::is_ascii_digit);
    is_hash && is_number || begin.eq_ignore_ascii_case(b"gitmod") && matches!(number, [b'1'..=b'4'])
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_name(&self.0))
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for RepoPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RepoPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("an invalid escape in a path"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_survives_its_text_form(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let path = RepoPath::new(bytes);
            let text = serde_json::to_string(&path).unwrap();
            let back: RepoPath = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back, path);
        }
    }

    #[test]
    fn names_that_mean_git_on_hfs_are_known() {
        for name in [".g\u{200c}it/config", "a/\u{feff}.GIT", ".git\u{206f}", ".git"] {
            assert!(RepoPath::new(name).is_git_on_hfs(), "{name}");
        }
        assert!(RepoPath::new(*b".git\xff").is_git_on_hfs());
        for name in [".g\u{200b}it", ".gitx", "g\u{200c}it", ".g\u{131}t", "\u{200c}"] {
            assert!(!RepoPath::new(name).is_git_on_hfs(), "{name}");
        }
        assert!(RepoPath::new("a/.gitMod\u{202a}ules").is_gitmodules_on_hfs());
        assert!(!RepoPath::new(".gitmodule\u{202f}s").is_gitmodules_on_hfs());
    }

    #[test]
    fn names_that_lead_elsewhere_are_unsafe() {
        for name in [
            "../x",
            "a/../b",
            ".git/hooks/x",
            "a/.GIT/config",
            "/etc/passwd",
            "a//b",
            "./a",
            "",
            "git~1/x",
            "a/GIT~1",
            ".git ",
            ".git.../x",
            ".Git::$INDEX_ALLOCATION/x",
            ".git\\\\x",
        ] {
            assert!(!RepoPath::new(name).is_safe(), "{name}");
        }
        for name in
            ["a", ".gitignore", "a/.gitattributes", "..a", "a b/\u{e9}", "git~2", "git~10", ".git.x", "git", ".gi"]
        {
            assert!(RepoPath::new(name).is_safe(), "{name}");
        }
        for name in [
            ".gitmodules",
            "a/.GITMODULES .",
            "gitmod~4",
            "gi7eba~1",
            ".gitmodules:x",
            "gi7eb~10",
            "Gi7e~100.",
            "a\\.gitmodules",
        ] {
            assert!(RepoPath::new(name).is_gitmodules(), "{name}");
        }
        for name in ["gitmod~5", "gi7eba~0", "gi7eba1", "gi8eba~1", ".gitmodules2", "gi7eba~12", "~1234567x"] {
            assert!(!RepoPath::new(name).is_gitmodules(), "{name}");
        }
    }
}
