//! Puts a prepared file in the place of another, unless somebody has changed that one in the meantime.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::{open_at, open_quietly, stat_fd};
use super::lease::{Lease, Writers};
use super::xattr::Xattrs;
use super::{Dir, Error, Stat, escape_path};
use crate::text::shell_word;

/// More than the limit of any kind on files that it reads and replaces.
const MAX_COMPARED_BYTES: u64 = 64 << 20;
/// How long the replacement of a file waits for a process that has it open for writing, and how often it looks.
const WRITERS_TIMEOUT: Duration = Duration::from_secs(1);
const WRITERS_INTERVAL: Duration = Duration::from_millis(2);

/// A file as it was before it is replaced.
pub(super) struct Expected<'a> {
    stat: &'a Stat,
    xattrs: Xattrs,
    /// `None` if it was not read.
    content: Option<&'a [u8]>,
    written: Written,
}

/// When a file was last written to, in seconds and nanoseconds.
type Written = (i64, i64);

/// A moment in a replacement, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The file was compared, and is exchanged next.
    Compared,
    /// The file was exchanged, and is compared again next.
    Exchanged,
}

impl<'a> Expected<'a> {
    /// Returns what the file of an `O_PATH` descriptor is expected to stay. It was seen, and perhaps read, before.
    pub(super) fn of(file: &OwnedFd, stat: &'a Stat, content: Option<&'a [u8]>) -> Result<Self, Errno> {
        Ok(Self { stat, xattrs: Xattrs::read(file)?, content, written: written(file)? })
    }

    pub(super) fn xattrs(&self) -> &Xattrs {
        &self.xattrs
    }

    /// Whether the file `name` of a directory is still the same in all that a replacement takes over or removes.
    fn is_still(&self, dir: &Dir, name: &OsStr) -> Result<bool, Error> {
        let failed = |errno| Error::call("look at", &dir.path_of(name), errno);
        let file = match open_at(dir, name, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            file => file.map_err(failed)?,
        };
        let now = stat_fd(&file).map_err(failed)?;
        let of = |stat: &Stat| (stat.device, stat.inode, stat.uid, stat.gid, stat.mode, stat.size);
        if of(&now) != of(self.stat) || Xattrs::read(&file).map_err(failed)? != self.xattrs {
            return Ok(false);
        }
        match self.content {
            None => Ok(written(&file).map_err(failed)? == self.written),
            Some(content) => {
                let now = dir.read(name, MAX_COMPARED_BYTES)?;
                Ok(now.is_some_and(|now| now.stat.is_same_file(self.stat) && **now.bytes == *content))
            }
        }
    }
}

fn written(file: &OwnedFd) -> Result<Written, Errno> {
    let stat = retry_on_intr(|| rustix::fs::statat(file, "", AtFlags::EMPTY_PATH))?;
    #[expect(clippy::useless_conversion, reason = "the types differ by architecture")]
    Ok((stat.st_mtime.into(), i64::try_from(stat.st_mtime_nsec).unwrap_or(0)))
}

impl Dir {
    /// Puts the prepared file in the place of one that is as `expected`, and syncs. What was in that place is compared again before it
    /// is removed, and put back if it is newer: a rename could replace what somebody has just written. A process that has the
    /// file open for writing is waited for.
    pub(super) fn exchange(
        &self,
        fd: &OwnedFd,
        temporary: &str,
        name: &OsStr,
        expected: &Expected<'_>,
        reached: &dyn Fn(Moment),
    ) -> Result<(), Error> {
        let path = self.path_of(name);
        let failed = |errno| Error::call("write", &path, errno);
        let old = OsStr::new(temporary);
        retry_on_intr(|| rustix::fs::fsync(fd)).map_err(failed)?;
        let rename = |flags| retry_on_intr(|| rustix::fs::renameat_with(self, temporary, self, name, flags));
        let start = Instant::now();
        loop {
            let is_written_to = matches!(self.writers(name), Writers::Some);
            if !expected.is_still(self, name)? {
                return Err(self.newer(name));
            }
            if is_written_to {
                wait_for_writers(self, name, start)?;
                continue;
            }
            reached(Moment::Compared);
            match rename(RenameFlags::EXCHANGE) {
                // A file system without EXCHANGE, such as NFS.
                Err(Errno::INVAL) => {
                    rename(RenameFlags::empty()).map_err(failed)?;
                    return self.sync().map_err(failed);
                }
                Err(Errno::NOENT) => return Err(self.newer(name)),
                other => other.map_err(failed)?,
            }
            reached(Moment::Exchanged);
            let writers = self.writers(old);
            if matches!(writers, Writers::Unknown) {
                // Syncing takes a moment, in which a writer may have come to its end.
                self.sync().map_err(failed)?;
            }
            let is_same = expected.is_still(self, old).unwrap_or(false);
            let is_written_to = match &writers {
                Writers::None(lease) => lease.is_wanted(),
                Writers::Some => true,
                Writers::Unknown => false,
            };
            if is_same && !is_written_to {
                retry_on_intr(|| rustix::fs::unlinkat(self, temporary, AtFlags::empty())).map_err(failed)?;
                return self.sync().map_err(failed);
            }
            match rename(RenameFlags::EXCHANGE) {
                // Somebody has removed the new file.
                Err(Errno::NOENT) => rename(RenameFlags::NOREPLACE).map_err(failed)?,
                other => other.map_err(failed)?,
            }
            drop(writers);
            if !is_same {
                return Err(self.newer(name));
            }
            wait_for_writers(self, name, start)?;
        }
    }

    /// Returns who writes to the file `name`.
    fn writers(&self, name: &OsStr) -> Writers {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let is_file = self.stat(name).is_ok_and(|stat| stat.is_some_and(|stat| stat.kind == super::FileKind::File));
        match is_file.then(|| open_quietly(self, name, flags)) {
            Some(Ok(file)) => Lease::take(file),
            _ => Writers::Unknown,
        }
    }

    /// Returns the error for a file that is not as it was read.
    fn newer(&self, name: &OsStr) -> Error {
        let path = self.path_of(name);
        if matches!(self.stat(name), Ok(None)) { Error::removed(&path) } else { Error::newer(&path) }
    }
}

/// Waits a moment for a process that has the file open for writing.
///
/// # Errors
/// It has had it open for a long time.
fn wait_for_writers(dir: &Dir, name: &OsStr, start: Instant) -> Result<(), Error> {
    if start.elapsed() < WRITERS_TIMEOUT {
        std::thread::sleep(WRITERS_INTERVAL);
        return Ok(());
    }
    let path = dir.path_of(name);
    Err(Error::refused(
        format!("{} is open for writing: what that process writes next would be lost", escape_path(&path)),
        format!("see which process has it open, and end it: `fuser -v {}`", shell_word(&path)),
    ))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::ffi::OsStr;
    use std::fs as std_fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::super::{Attributes, FileSeen};
    use super::*;
    use crate::host::testing::{as_user, attributes, chmod, chown, folder};

    const NEW: Attributes = Attributes { uid: None, gid: None, mode: 0o644 };
    const NAME: &str = "file";

    fn names(folder: &Path) -> usize {
        std_fs::read_dir(folder).unwrap().count()
    }

    /// Replaces the file, while `somebody` does something to the one at a path at one moment.
    fn replace(folder: &Path, moment: Moment, with_content: bool, somebody: impl Fn(&Path)) -> Result<(), Error> {
        let dir = Dir::open(folder).unwrap();
        let FileSeen { bytes, stat } = dir.read(OsStr::new(NAME), 99).unwrap().unwrap();
        let is_done = RefCell::new(false);
        let reached = |now| {
            if now == moment && !is_done.replace(true) {
                // After the exchange, the old file has the temporary name.
                let found = std_fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
                let inode = |path: &PathBuf| std::os::unix::fs::MetadataExt::ino(&path.symlink_metadata().unwrap());
                somebody(&found.into_iter().find(|path| inode(path) == stat.inode).unwrap());
            }
        };
        let content = with_content.then_some(bytes.as_slice());
        dir.replace_as_seen(OsStr::new(NAME), b"new", (&stat, content), NEW, &reached)
    }

    #[test]
    fn what_somebody_does_to_a_file_while_it_is_replaced_is_kept() {
        type Act = fn(&Path);
        let acts: [(&str, Act); 6] = [
            ("content", |path| std_fs::write(path, "eno").unwrap()),
            ("longer", |path| std_fs::write(path, "one, and a note").unwrap()),
            ("mode", |path| chmod(path, 0o600)),
            ("owner", |path| chown(path, 50000, 0)),
            ("group", |path| chown(path, 0, 50000)),
            ("attribute", |path| {
                rustix::fs::setxattr(path, "user.note", b"mine", rustix::fs::XattrFlags::empty()).unwrap();
            }),
        ];
        for (what, act) in acts {
            for moment in [Moment::Compared, Moment::Exchanged] {
                for with_content in [true, false] {
                    let (folder, expected) = (folder(), folder());
                    let of = |folder: &Path| {
                        let path = folder.join(NAME);
                        let note = rustix::fs::getxattr(&path, "user.note", &mut [0; 9][..]);
                        (attributes(&path), std_fs::read(path).unwrap(), note)
                    };
                    for folder in [&folder, &expected] {
                        std_fs::write(folder.path().join(NAME), "one").unwrap();
                        chmod(&folder.path().join(NAME), 0o644);
                    }
                    act(&expected.path().join(NAME));
                    let error = replace(folder.path(), moment, with_content, act).unwrap_err();
                    assert!(error.is_newer(), "{what}, {moment:?}: {error}");
                    assert_eq!(of(folder.path()), of(expected.path()), "{what}, {moment:?}");
                    assert_eq!(names(folder.path()), 1, "{what}, {moment:?}: nothing is left behind");
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_removed_while_it_is_replaced_stays_away() {
        let folder = folder();
        std_fs::write(folder.path().join(NAME), "one").unwrap();
        let error = replace(folder.path(), Moment::Compared, true, |path| std_fs::remove_file(path).unwrap());
        let error = error.unwrap_err();
        assert!(error.is_newer() && error.to_string().contains("was removed in the meantime"), "{error}");
        assert_eq!((error.hint(), names(folder.path())), (Some("run again"), 0));
    }

    #[test]
    fn a_file_that_takes_the_place_of_the_new_one_is_not_removed() {
        let folder = folder();
        let path = folder.path().join(NAME);
        std_fs::write(&path, "one").unwrap();
        let error = replace(folder.path(), Moment::Exchanged, true, |old| {
            std_fs::write(old, "a note").unwrap();
            std_fs::write(path.with_extension("new"), "another").unwrap();
            std_fs::rename(path.with_extension("new"), &path).unwrap();
        });
        assert!(error.unwrap_err().is_newer());
        let mut texts: Vec<String> = std_fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| std_fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        texts.sort();
        assert_eq!(texts, ["a note", "another"]);
    }

    #[test]
    fn a_writer_that_comes_to_its_end_loses_nothing() {
        for moment in [Moment::Compared, Moment::Exchanged] {
            let folder = folder();
            std_fs::write(folder.path().join(NAME), "one").unwrap();
            let error = replace(folder.path(), moment, true, |path| {
                let mut file = std_fs::OpenOptions::new().append(true).open(path).unwrap();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    file.write_all(b", and a note").unwrap();
                });
            });
            assert!(error.unwrap_err().is_newer(), "{moment:?}");
            assert_eq!(std_fs::read_to_string(folder.path().join(NAME)).unwrap(), "one, and a note", "{moment:?}");
            assert_eq!(names(folder.path()), 1);
        }
    }

    #[test]
    fn a_file_that_stays_open_for_writing_is_not_replaced() {
        let name = concat!(module_path!(), "::a_file_that_stays_open_for_writing_is_not_replaced");
        as_user(
            50000,
            name,
            |_| {},
            |folder| {
                let path = folder.join(NAME);
                std_fs::write(&path, "one").unwrap();
                let reader = std_fs::File::open(&path).unwrap();
                replace(folder, Moment::Compared, true, |_| ()).unwrap();
                drop(reader);
                let writer = std_fs::OpenOptions::new().append(true).open(&path).unwrap();
                let error = replace(folder, Moment::Compared, true, |_| ()).unwrap_err();
                assert!(!error.is_newer() && error.to_string().contains("is open for writing"), "{error}");
                assert_eq!(
                    error.hint(),
                    Some(format!("see which process has it open, and end it: `fuser -v {}`", path.display()).as_str())
                );
                assert_eq!((std_fs::read_to_string(&path).unwrap().as_str(), names(folder)), ("new", 1));
                drop(writer);
                replace(folder, Moment::Compared, true, |_| ()).unwrap();
            },
        );
    }

    /// A process that opens a file with a lease waits a moment, and no process is ended by a signal.
    #[test]
    fn a_lease_is_noticed_by_those_who_wait_for_it() {
        let folder = folder();
        let path = folder.path().join(NAME);
        std_fs::write(&path, "one").unwrap();
        let Writers::None(lease) = Lease::take(std_fs::File::open(&path).unwrap().into()) else {
            panic!("somebody writes to it")
        };
        assert!(!lease.is_wanted());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| std_fs::OpenOptions::new().append(true).open(&path).unwrap());
            let start = Instant::now();
            while !lease.is_wanted() {
                assert!(start.elapsed() < Duration::from_secs(9));
                std::thread::yield_now();
            }
            drop(lease);
            writer.join().unwrap();
        });
    }
}
