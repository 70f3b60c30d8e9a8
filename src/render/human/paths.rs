//! Short paths: those below a common directory are shown relative to it, and the directory is named once.

use std::path::{Component, Path, PathBuf};

/// The fewest names below `/` that a directory needs to be worth naming.
const MIN_DEPTH: usize = 3;

/// The directory that paths are relative to.
#[derive(Debug, Default)]
pub struct Base(Option<String>);

impl Base {
    /// Paths are shown in full.
    pub const NONE: Self = Self(None);

    /// Returns the deepest directory that contains all these targets, if there are several and it is deep enough. Targets
    /// that are not absolute paths do not count.
    pub fn of<'a>(targets: impl Iterator<Item = &'a str>) -> Self {
        let mut paths: Vec<&Path> = targets.filter(|target| target.starts_with('/')).map(Path::new).collect();
        paths.sort_unstable();
        paths.dedup();
        let [first, .., last] = paths.as_slice() else { return Self(None) };
        // The first and the last in order differ the earliest.
        let parent = first.parent().unwrap_or(first);
        let common: PathBuf =
            parent.components().zip(last.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
        let depth = common.components().filter(|part| matches!(part, Component::Normal(_))).count();
        Self((depth >= MIN_DEPTH).then(|| common.display().to_string()))
    }

    /// Returns the directory.
    pub fn directory(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Removes the directory from every path in a text, but not from commands. What only ends like it, or starts in the middle of a path, stays.
    pub fn shorten(&self, text: &str) -> String {
        // A command is pasted in any directory.
        let is_command = |(number, part): (usize, &str)| number % 2 == 1 && part.contains(' ');
        let part = |(number, part)| if is_command((number, part)) { part.to_owned() } else { self.shorten_part(part) };
        text.split('`').enumerate().map(part).collect::<Vec<_>>().join("`")
    }

    fn shorten_part(&self, text: &str) -> String {
        let Some(base) = self.0.as_deref().filter(|base| text.contains(base)) else { return text.to_owned() };
        let prefix = format!("{base}/");
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = rest.find(&prefix) {
            let (before, found) = rest.split_at(at);
            out.push_str(before);
            let after = &found[prefix.len()..];
            let inside = out.ends_with(|c: char| c.is_alphanumeric() || "/._-~".contains(c));
            let names = after.starts_with(|c: char| !c.is_whitespace() && c != '/' && c != '\'' && c != '`');
            if inside || !names {
                out.push_str(&prefix);
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_deepest_common_directory() {
        for (targets, base) in [
            (&["/home/u/etl/app/logs", "/home/u/etl/key"][..], Some("/home/u/etl")),
            (&["/home/u/app/logs", "/home/u/key"], None),
            (&["/srv/app/x/a", "/srv/app/x/b", "schema.table"], Some("/srv/app/x")),
            (&["/srv/app", "/srv/app/b"], None),
            (&["/srv/app/y/x", "/srv/app/y/x/b"], Some("/srv/app/y")),
            (&["/srv/app-one/a", "/srv/app-two/b"], None),
            (&["/srv/app/a"], None),
            (&["/srv/app/a", "/srv/app/a"], None),
            (&[], None),
        ] {
            assert_eq!(Base::of(targets.iter().copied()).directory(), base, "{targets:?}");
        }
    }

    #[test]
    fn only_whole_paths_are_shortened() {
        let base = Base(Some("/srv/app".into()));
        for (text, short) in [
            ("/srv/app/logs: set owner", "logs: set owner"),
            ("and its parents /srv/app, /srv/app/a/b", "and its parents /srv/app, a/b"),
            ("file:///srv/app/x and /mnt/srv/app/x", "file:///srv/app/x and /mnt/srv/app/x"),
            ("/srv/application/x", "/srv/application/x"),
            ("'/srv/app/my file'", "'my file'"),
            ("/srv/app/", "/srv/app/"),
            ("`/srv/app/x`: `chmod o-r /srv/app/x`, or /srv/app/y", "`x`: `chmod o-r /srv/app/x`, or y"),
        ] {
            assert_eq!(base.shorten(text), short, "{text}");
        }
    }
}
