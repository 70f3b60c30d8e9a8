use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::open::open_quietly;
use super::{Dir, Error, FileKind, Stat, acting_ids, acts_as_root};

/// Begins each name that stands in a directory only while an entry is being made.
const PREFIX: &str = ".provision-";
/// How many hexadecimal digits name the entry, and how many are random.
const DIGITS: (usize, usize) = (12, 16);

/// Longer than it takes to make an entry, mark it as in use, and give it its name.
const MOMENT: Duration = Duration::from_millis(100);

/// A fresh name under which the entry `name` is prepared: `.provision-<of name>-<random>`.
pub(super) fn temporary_name(name: &OsStr) -> Result<String, Errno> {
    let mut random = [0; DIGITS.1 / 2];
    openssl::rand::rand_bytes(&mut random).map_err(|_| Errno::IO)?;
    Ok(format!("{}{:016x}", stem(name), u64::from_ne_bytes(random)))
}

/// What the temporary names of one entry have in common. Hashed, since the name itself may fill the 255 bytes.
fn stem(name: &OsStr) -> String {
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{PREFIX}{}-", &hash[..DIGITS.0])
}

/// Marks a temporary entry as in use for as long as its descriptor is open, so that no other run takes it for a
/// leftover. The lock ends with the process.
///
/// Never waits, since someone who exchanged the entry could hold a lock on it for ever. Where another run happens to
/// look at the entry just then, it goes without.
pub(super) fn hold(fd: impl AsFd) -> Result<(), Errno> {
    match retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)) {
        // The last three: a file system without locks. What is left and what is live look the same there.
        Err(Errno::WOULDBLOCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => Ok(()),
        other => other,
    }
}

impl Dir {
    /// The entries that a process which was killed while it made the entry `name` left here, in order of name. What
    /// a live process is still working on is none of them.
    pub fn leftovers(&self, name: &OsStr) -> Result<Vec<String>, Error> {
        let mut found = self.prepared(name, "")?;
        let mut left = |dir: &Self| -> Result<bool, Error> {
            for index in (0..found.len()).rev() {
                if !dir.is_leftover(OsStr::new(&found[index]))? {
                    found.remove(index);
                }
            }
            Ok(!found.is_empty())
        };
        if left(self)? {
            // Another step, or another run, may have made it just now and not have marked it yet: see whether it stays.
            std::thread::sleep(MOMENT);
            left(self)?;
        }
        Ok(found)
    }

    /// The temporary names of the entry `name` that end in `suffix`, in order.
    pub(super) fn prepared(&self, name: &OsStr, suffix: &str) -> Result<Vec<String>, Error> {
        let failed = |errno| Error::call("list", self.path(), errno);
        let fd = match self.readable() {
            Ok(fd) => fd,
            // A directory that may be passed and not listed hides what is in it.
            Err(Errno::ACCESS) => return Ok(Vec::new()),
            Err(errno) => return Err(failed(errno)),
        };
        let stem = stem(name);
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::new(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Ok(candidate) = entry.file_name().to_str()
                && let Some(random) = candidate.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(suffix))
                && random.len() == DIGITS.1
                && random.bytes().all(|digit| digit.is_ascii_hexdigit())
            {
                found.push(candidate.to_owned());
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes what [`Dir::leftovers`] finds: files, and directories that are empty.
    pub fn remove_leftovers(&self, name: &OsStr) -> Result<(), Error> {
        for leftover in self.leftovers(name)? {
            let flags = match self.stat(OsStr::new(&leftover))?.map(|stat| stat.kind) {
                Some(FileKind::Directory) => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            match retry_on_intr(|| rustix::fs::unlinkat(self, leftover.as_str(), flags)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(Error::call("remove", &self.path_of(OsStr::new(&leftover)), errno)),
            }
        }
        Ok(())
    }

    fn is_leftover(&self, candidate: &OsStr) -> Result<bool, Error> {
        let Some(stat) = self.stat(candidate)? else { return Ok(false) };
        let mine = acts_as_root() || stat.uid == acting_ids().0;
        let single = stat.kind == FileKind::Directory || (stat.kind == FileKind::File && stat.links == 1);
        Ok(mine && single && self.is_free(candidate, &stat)?)
    }

    /// Whether no live process works on a file or an empty directory.
    pub(super) fn is_free(&self, candidate: &OsStr, stat: &Stat) -> Result<bool, Error> {
        let flags = match stat.kind {
            FileKind::File => OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            FileKind::Directory => OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::DIRECTORY,
            _ => return Ok(false),
        };
        match open_quietly(self, candidate, flags) {
            Ok(fd) => {
                let free = retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared));
                let full = stat.kind == FileKind::Directory && !super::create::is_empty(fd)?;
                Ok(free != Err(Errno::WOULDBLOCK) && !full)
            }
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(false),
            // Its own mode shuts the owner out: only a file that was finished but for its name has that.
            Err(Errno::ACCESS) => Ok(true),
            Err(errno) => Err(Error::call("look at", &self.path_of(candidate), errno)),
        }
    }
}
