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

    /// Whether it leads neither out of the checkout nor into the git directory, on any file system. git checks the names that mean
    /// `.git` on NTFS everywhere (core.protectNTFS, git-config(1); CVE-2019-1353).
    pub fn is_safe(&self) -> bool {
        !self.0.contains(&0)
            && self.0.split(|byte| *byte == b'/').all(|part| {
                !(part.is_empty() || part == b"." || part == b".." || is_ntfs_name_of(part, &[".git", "git~1"]))
            })
    }

    /// Whether its last part means `.gitmodules`, which git refuses as a symlink (CVE-2018-11235).
    pub fn is_gitmodules(&self) -> bool {
        let name = self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let short =
            (1..=4).map(|number| format!("gitmod~{number}")).chain((1..=9).map(|number| format!("gi7eba~{number}")));
        let names: Vec<String> = short.chain([".gitmodules".to_owned()]).collect();
        is_ntfs_name_of(name, &names)
    }
}

/// Whether a name is one of these on NTFS, where case does not count, dots and blanks at the end do not, and a colon begins the
/// name of a stream.
fn is_ntfs_name_of(name: &[u8], names: &[impl AsRef<[u8]>]) -> bool {
    names.iter().map(AsRef::as_ref).any(|known| {
        let (begin, rest) = name.split_at(known.len().min(name.len()));
        let rest = rest.iter().find(|byte| !matches!(byte, b'.' | b' '));
        begin.eq_ignore_ascii_case(known) && matches!(rest, None | Some(b':' | b'\\'))
    })
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
        for name in [".gitmodules", "a/.GITMODULES .", "gitmod~4", "gi7eba~1", ".gitmodules:x"] {
            assert!(RepoPath::new(name).is_gitmodules(), "{name}");
        }
        assert!(!RepoPath::new(".gitmodules/a").is_gitmodules() && !RepoPath::new("gitmod~5").is_gitmodules());
    }
}
