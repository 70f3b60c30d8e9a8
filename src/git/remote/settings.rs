//! The configuration as git itself reads it, conditional includes and all.

use std::path::{Path, PathBuf};

use crate::host::environment;

/// The protocols that are allowed. Others can run any program, or are of no use here.
const PROTOCOLS: [&str; 5] = ["file", "git", "http", "https", "ssh"];

/// A value and the file that it comes from.
#[derive(Debug, PartialEq)]
struct Setting {
    file: Option<PathBuf>,
    /// Section and name are in lower case, the subsection is as written.
    key: String,
    value: String,
}

/// All settings, in git's order: the last one with a key wins.
#[derive(Debug, Default, PartialEq)]
pub struct Settings(Vec<Setting>);

impl Settings {
    /// Parses the output of `git config --null --list --show-origin`.
    pub fn parse(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let mut parts = text.split('\0');
        let mut settings = Vec::new();
        while let (Some(origin), Some(entry)) = (parts.next(), parts.next()) {
            // A key without `=` means true.
            let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            settings.push(Setting {
                file: origin.strip_prefix("file:").map(PathBuf::from),
                key: key.to_owned(),
                value: value.to_owned(),
            });
        }
        Self(settings)
    }

    /// Reads the URLs that stand for others (`url.BASE.insteadOf`), as far as libgit2 reads conditional includes.
    pub fn of_urls(config: &git2::Config) -> Self {
        let mut settings = Vec::new();
        if let Ok(found) = config.entries(Some(r"^url\..*\.insteadof$")) {
            let _ = found.for_each(|entry| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                settings.push(Setting { file: None, key: text(entry.name_bytes()), value: text(entry.value_bytes()) });
            });
        }
        Self(settings)
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|setting| setting.key == key).map(|setting| setting.value.as_str())
    }

    /// Returns the keys with this prefix and suffix.
    pub fn keys<'a>(&'a self, prefix: &'a str, suffix: &'a str) -> impl Iterator<Item = &'a str> {
        let keys = self.0.iter().map(|setting| setting.key.as_str());
        keys.filter(move |key| key.starts_with(prefix) && key.ends_with(suffix))
    }

    /// Returns the URL that `url` stands for: the longest `insteadOf` that it begins with is replaced (git-config(1)).
    pub fn resolve(&self, url: &str) -> String {
        let bases = self.0.iter().filter_map(|setting| {
            let base = setting.key.strip_prefix("url.")?.strip_suffix(".insteadof")?;
            url.starts_with(&setting.value).then_some((setting.value.len(), base))
        });
        // Of equal length the first, as in git.
        match bases.reduce(|best, other| if other.0 > best.0 { other } else { best }) {
            Some((length, base)) => format!("{base}{}", &url[length..]),
            None => url.to_owned(),
        }
    }

    /// Returns a value for `GIT_ALLOW_PROTOCOL`: the allowed protocols without those that the configuration forbids, or without
    /// those that are not in `own`, the user's value of that variable.
    pub fn allowed_protocols(&self, own: Option<&str>) -> String {
        let allowed = |protocol: &&str| {
            if let Some(own) = own {
                // It overrides the configuration (git(1)).
                return own.split(':').any(|named| named == *protocol);
            }
            let policy = self.get(&format!("protocol.{protocol}.allow")).or_else(|| self.get("protocol.allow"));
            policy != Some("never")
        };
        PROTOCOLS.iter().copied().filter(allowed).collect::<Vec<_>>().join(":")
    }

    /// Whether a setting comes from this file.
    pub fn is_read(&self, file: &Path) -> bool {
        self.0.iter().any(|setting| setting.file.as_deref() == Some(file))
    }

    /// Returns the conditional includes that depend on the path of the git directory (`gitdir`, `gitdir/i`).
    pub fn conditions(&self) -> impl Iterator<Item = Condition<'_>> {
        self.0.iter().filter_map(|setting| {
            let condition = setting.key.strip_prefix("includeif.")?.strip_suffix(".path")?;
            let (keyword, pattern) = condition.split_once(':')?;
            let file = setting.file.as_deref()?;
            ["gitdir", "gitdir/i"].contains(&keyword).then_some(Condition {
                keyword,
                pattern,
                file,
                path: &setting.value,
            })
        })
    }
}

/// An include that depends on the path of the git directory.
#[derive(Debug)]
pub struct Condition<'a> {
    keyword: &'a str,
    pattern: &'a str,
    file: &'a Path,
    path: &'a str,
}

impl Condition<'_> {
    /// Returns the file that is included.
    pub fn included(&self) -> Option<PathBuf> {
        Some(match self.path.strip_prefix("~/") {
            Some(rest) => environment::home()?.join(rest),
            None => self.file.parent()?.join(self.path),
        })
    }

    /// Returns the same include for a git directory below `root` instead of `/`, by the rules of git-config(1), "Conditional
    /// includes".
    pub fn below(&self, root: &Path, home: &Path) -> Option<String> {
        let folder = self.file.parent()?;
        let pattern = if let Some(rest) = self.pattern.strip_prefix("~/") {
            format!("{}/{rest}", glob_escaped(home))
        } else if let Some(rest) = self.pattern.strip_prefix("./") {
            format!("{}/{rest}", glob_escaped(folder))
        } else if self.pattern.starts_with('/') {
            self.pattern.to_owned()
        } else {
            format!("/**/{}", self.pattern)
        };
        let path = match self.path.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => folder.join(self.path),
        };
        let condition = quoted(&format!("{}:{}{pattern}", self.keyword, glob_escaped(root)));
        Some(format!("[includeIf {condition}]\n\tpath = {}\n", quoted(&path.to_string_lossy())))
    }
}

/// Escapes a path for use in a pattern.
fn glob_escaped(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        if "*?[\\".contains(letter) {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// Quotes a value or a subsection for a configuration file.
pub fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let text: String =
            pairs.iter().map(|(key, value)| format!("file:/home/u/.gitconfig\0{key}\n{value}\0")).collect();
        Settings::parse(text.as_bytes())
    }

    #[test]
    fn values_are_read_with_their_files() {
        let read = Settings::parse(b"file:/a\0core.bare\0command line:\0x.Y.z\none\ntwo\0file:/a\0x.Y.z\nlast\0");
        assert_eq!((read.get("core.bare"), read.get("x.Y.z"), read.get("none")), (Some("true"), Some("last"), None));
        assert_eq!(read.keys("x.", ".z").count(), 2);
        assert_eq!(Settings::parse(b""), Settings::default());
    }

    #[test]
    fn the_longest_instead_of_counts() {
        let read = settings(&[
            ("url.https://h/.insteadof", "c:"),
            ("url.https://long/.insteadof", "c:app"),
            ("url.https://late/.insteadof", "c:app"),
        ]);
        assert_eq!(read.resolve("c:x.git"), "https://h/x.git");
        assert_eq!(read.resolve("c:app/x.git"), "https://long//x.git");
        assert_eq!(read.resolve("/c:x"), "/c:x");
    }

    #[test]
    fn forbidden_protocols_stay_forbidden() {
        let all = "file:git:http:https:ssh";
        assert_eq!(settings(&[]).allowed_protocols(None), all);
        assert_eq!(settings(&[("protocol.ext.allow", "always")]).allowed_protocols(None), all);
        let strict = settings(&[("protocol.allow", "never"), ("protocol.ssh.allow", "user")]);
        assert_eq!(strict.allowed_protocols(None), "ssh");
        assert_eq!(strict.allowed_protocols(Some("ext:https:file")), "file:https");
        assert_eq!(settings(&[]).allowed_protocols(Some("")), "");
    }

    #[test]
    fn conditions_are_moved_below_another_root() {
        let read = settings(&[
            ("includeif.gitdir:/srv/.path", "/w.cfg"),
            ("includeif.gitdir/i:~/Work/.path", "w.cfg"),
            ("includeif.gitdir:app/.git.path", "~/w.cfg"),
            ("includeif.gitdir:./x/.path", "~/w.cfg"),
            ("includeif.onbranch:main.path", "/w.cfg"),
        ]);
        let moved: Vec<_> =
            read.conditions().filter_map(|one| one.below(Path::new("/s*"), Path::new("/home/u"))).collect();
        assert_eq!(
            moved,
            [
                "[includeIf \"gitdir:/s\\\\*/srv/\"]\n\tpath = \"/w.cfg\"\n",
                "[includeIf \"gitdir/i:/s\\\\*/home/u/Work/\"]\n\tpath = \"/home/u/w.cfg\"\n",
                "[includeIf \"gitdir:/s\\\\*/**/app/.git\"]\n\tpath = \"/home/u/w.cfg\"\n",
                "[includeIf \"gitdir:/s\\\\*/home/u/x/\"]\n\tpath = \"/home/u/w.cfg\"\n",
            ]
        );
    }
}
