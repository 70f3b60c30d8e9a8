//! The mounts of this process (proc_pid_mountinfo(5)), to find all ways to a directory.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// All mounts, in the order in which they were made. Empty if the kernel does not list them.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    /// The directory of the file system that is mounted.
    root: PathBuf,
    point: PathBuf,
}

impl Mounts {
    pub(super) fn read() -> Self {
        std::fs::read("/proc/self/mountinfo").map(|table| Self::parse(&table)).unwrap_or_default()
    }

    fn parse(table: &[u8]) -> Self {
        let mount = |line: &[u8]| {
            let mut fields = line.split(|byte| *byte == b' ').skip(2);
            let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
            Some(Mount { device, root: unescaped(fields.next()?), point: unescaped(fields.next()?) })
        };
        Self(table.split(|byte| *byte == b'\n').filter_map(mount).collect())
    }

    /// Returns whether something is mounted at this path.
    pub(super) fn is_point(&self, path: &Path) -> bool {
        self.0.iter().any(|mount| mount.point == path)
    }

    /// Returns all paths by which a directory may be reached. The first is that in the mount that shows most of its file system.
    /// Another mount can hide a path, so the caller compares what is there.
    pub(super) fn ways_to(&self, path: &Path) -> Vec<PathBuf> {
        let around = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        // Of two mounts at one path the later one is on top.
        let Some(mount) = around.max_by_key(|mount| mount.point.components().count()) else { return Vec::new() };
        let inside =
            |root: &Path, rest: &Path| if rest.as_os_str().is_empty() { root.to_path_buf() } else { root.join(rest) };
        let Ok(rest) = path.strip_prefix(&mount.point) else { return Vec::new() };
        let at = inside(&mount.root, rest);
        let of_file_system = self.0.iter().filter(|other| other.device == mount.device);
        let mut ways: Vec<(usize, PathBuf)> = of_file_system
            .filter_map(|other| {
                let rest = at.strip_prefix(&other.root).ok()?;
                Some((other.root.components().count(), inside(&other.point, rest)))
            })
            .collect();
        ways.sort_by_key(|(depth, _)| *depth);
        ways.into_iter().map(|(_, way)| way).collect()
    }
}

/// Decodes a field, in which a space is `\040`.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let [first, more @ ..] = rest {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match more.get(..3).filter(|_| *first == b'\\').and_then(octal) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = br"22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:30 / /tmp rw - tmpfs tmpfs rw
31 22 8:1 /srv/a/x /srv/export rw - ext4 /dev/sda1 rw
32 22 8:1 /srv/a\040b /mnt/with\040space rw - ext4 /dev/sda1 rw
";

    #[test]
    fn the_way_through_the_whole_file_system_comes_first() {
        let mounts = Mounts::parse(TABLE);
        for path in ["/srv/a/x/y", "/srv/export/y"] {
            let expected = ["/srv/a/x/y", "/srv/export/y"].map(PathBuf::from);
            assert_eq!(mounts.ways_to(Path::new(path)), expected, "{path}");
        }
        assert_eq!(mounts.ways_to(Path::new("/srv/export")), ["/srv/a/x", "/srv/export"].map(PathBuf::from));
        assert_eq!(mounts.ways_to(Path::new("/tmp/x")), [PathBuf::from("/tmp/x")]);
        let spaced = ["/srv/a b/c", "/mnt/with space/c"].map(PathBuf::from);
        assert_eq!(mounts.ways_to(Path::new("/mnt/with space/c")), spaced);
        assert!(Mounts::parse(b"").ways_to(Path::new("/srv")).is_empty());
    }
}
