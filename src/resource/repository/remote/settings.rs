//! The configuration as git itself reads it at the place where it runs, conditional includes and all.

use std::path::{Path, PathBuf};

/// The protocols by which a remote may be reached. Others can run any program, or have no use here.
const PROTOCOLS: [&str; 5] = ["file", "git", "http", "https", "ssh"];

/// One value, and the file that it stands in.
#[derive(Debug, PartialEq)]
struct Setting {
    file: Option<PathBuf>,
    /// Section and name in lower case, the part between them as it is written.
    key: String,
    value: String,
}

/// All values, in git's order: a later one of the same name wins.
#[derive(Debug, Default, PartialEq)]
pub struct Settings(Vec<Setting>);

impl Settings {
    /// Reads what `git config --null --list --show-origin` prints.
    pub fn parse(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let mut parts = text.split('\0');
        let mut settings = Vec::new();
        while let (Some(origin), Some(entry)) = (parts.next(), parts.next()) {
            // A key without `=` is a true boolean.
            let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            settings.push(Setting {
                file: origin.strip_prefix("file:").map(PathBuf::from),
                key: key.to_owned(),
                value: value.to_owned(),
            });
        }
        Self(settings)
    }

    /// The value that counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|setting| setting.key == key).map(|setting| setting.value.as_str())
    }

    /// The keys with this beginning and this end.
    pub fn keys<'a>(&'a self, prefix: &'a str, suffix: &'a str) -> impl Iterator<Item = &'a str> {
        let keys = self.0.iter().map(|setting| setting.key.as_str());
        keys.filter(move |key| key.starts_with(prefix) && key.ends_with(suffix))
    }

    /// The URL that git makes of `url`: of all `insteadOf` that it begins with, the longest is replaced (git-config(1)).
    pub fn resolve(&self, url: &str) -> String {
        let bases = self.0.iter().filter_map(|setting| {
            let base = setting.key.strip_prefix("url.")?.strip_suffix(".insteadof")?;
            url.starts_with(&setting.value).then_some((setting.value.len(), base))
        });
        // The first of equal length, as in git.
        match bases.reduce(|best, other| if other.0 > best.0 { other } else { best }) {
            Some((length, base)) => format!("{base}{}", &url[length..]),
            None => url.to_owned(),
        }
    }

    /// The value of `GIT_ALLOW_PROTOCOL`: this program's protocols, without those that the configuration forbids, or the
    /// user's own value of that variable.
    pub fn allowed_protocols(&self, own: Option<&str>) -> String {
        let allowed = |protocol: &&str| {
            if let Some(own) = own {
                // It takes the place of the configuration (git(1)).
                return own.split(':').any(|named| named == *protocol);
            }
            let policy = self.get(&format!("protocol.{protocol}.allow")).or_else(|| self.get("protocol.allow"));
            policy != Some("never")
        };
        PROTOCOLS.iter().copied().filter(allowed).collect::<Vec<_>>().join(":")
    }

    /// Whether values come from this file.
    pub fn is_read(&self, file: &Path) -> bool {
        self.0.iter().any(|setting| setting.file.as_deref() == Some(file))
    }

    /// The conditions on the git directory's place, `gitdir` or `gitdir/i`, with their pattern, the file that they stand in
    /// and the file that they include.
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

/// An `includeIf` that asks where the git directory is.
#[derive(Debug)]
pub struct Condition<'a> {
    keyword: &'a str,
    pattern: &'a str,
    file: &'a Path,
    path: &'a str,
}

impl Condition<'_> {
    /// The file that is included where the condition holds.
    pub fn included(&self) -> Option<PathBuf> {
        let home = || std::env::var_os("HOME").map(PathBuf::from);
        Some(match self.path.strip_prefix("~/") {
            Some(rest) => home()?.join(rest),
            None => self.file.parent()?.join(self.path),
        })
    }

    /// The same include for a git directory that stands below `root` as it is to stand below `/`: for a place that is not
    /// there yet. By the rules of git-config(1), "Conditional includes".
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

/// A path in a pattern, standing for itself.
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

/// A value or a name of a part, as a configuration file has it.
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
