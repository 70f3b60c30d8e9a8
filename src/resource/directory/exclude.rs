//! Patterns for entries that a recursive directory excludes.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A glob for paths relative to the directory.
///
/// A pattern without `/` is matched against the name of each entry at any depth, and a pattern with `/` against the
/// whole path below the directory. `*` and `?` match within one name, and `**` matches any number of names. A matching
/// entry is excluded with everything below it: `cache` excludes the entry and its content, and `cache/**` only the
/// content.
#[derive(Debug, Clone)]
pub struct Exclude {
    text: String,
    matcher: GlobMatcher,
}

impl Exclude {
    /// Parses a pattern.
    ///
    /// # Errors
    /// It is not a valid glob, or cannot match anything below the directory.
    pub fn new(text: &str) -> Result<Self, String> {
        let relative = text.strip_prefix("./").unwrap_or(text);
        let invalid = |why: &str| Err(format!("`{}` is not a valid pattern: {why}", text.escape_debug()));
        if relative.is_empty() {
            return invalid("it is empty");
        }
        if relative.starts_with('/') {
            return invalid("patterns are relative to the directory; remove the leading `/`");
        }
        if let Some(name) = relative.strip_suffix('/') {
            return invalid(&format!(
                "write `{name}` for the entry and its content, or `{name}/**` for its content only"
            ));
        }
        if relative.split('/').any(|name| name == "..") {
            return invalid("it leads out of the directory");
        }
        if relative.split('/').any(|name| matches!(name, "" | ".")) {
            return invalid("it is not a path below the directory");
        }
        // A pattern for names matches the last component of a path.
        let pattern = if relative.contains('/') { relative.to_owned() } else { format!("**/{relative}") };
        let glob = GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build();
        match glob {
            Ok(glob) => Ok(Self { text: text.to_owned(), matcher: glob.compile_matcher() }),
            Err(error) => invalid(&error.kind().to_string()),
        }
    }

    /// Returns whether the pattern matches a path below the directory.
    pub fn matches(&self, path: &Path) -> bool {
        self.matcher.is_match(path)
    }
}

impl std::fmt::Display for Exclude {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Exclude {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Serialize for Exclude {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Exclude {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn patterns_match_names_paths_and_subtrees() {
        for (pattern, path, matches) in [
            ("*.sock", "a.sock", true),
            ("*.sock", "x/y/a.sock", true),
            ("*.sock", "a.sock/below", false),
            ("cache", "x/cache", true),
            ("cache", "caches", false),
            ("cache/**", "cache", false),
            ("cache/**", "cache/a", true),
            ("cache/**", "cache/a/b", true),
            ("cache/**", "x/cache/a", false),
            ("**/cache/*", "x/cache/a", true),
            ("./a/b", "a/b", true),
            ("a/*", "a/b/c", false),
            ("a?", "ab", true),
            ("*.{tmp,lock}", "x/a.lock", true),
            ("[ab]", "c", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
        ] {
            assert_eq!(Exclude::new(pattern).unwrap().matches(Path::new(path)), matches, "{pattern} {path}");
        }
        let odd = Path::new(OsStr::from_bytes(b"x/\xff.sock"));
        assert!(Exclude::new("*.sock").unwrap().matches(odd));
    }

    #[test]
    fn patterns_that_leave_the_tree_are_rejected() {
        for (wrong, expected) in [
            ("", "empty"),
            ("/var/log", "relative"),
            ("../other", "out of the directory"),
            ("a/../../b", "out of the directory"),
            ("cache/", "cache/**"),
            (".", "not a path"),
            ("[a", "unclosed"),
        ] {
            let error = Exclude::new(wrong).unwrap_err();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }
}
