use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::{is_empty, open_quietly};
use super::{Dir, Error, FileKind, Stat, acting_ids, acts_as_root};

/// The prefix of the names of temporary entries.
const PREFIX: &str = ".provision-";
/// The number of hexadecimal digits of the hash of a name, and of random ones.
const DIGITS: (usize, usize) = (12, 16);

/// Longer than it takes to create an entry, lock it, and give it its final name.
const CREATION_TIME: Duration = Duration::from_millis(100);

/// Returns a new temporary name for the entry `name`: `.provision-HASH-RANDOM`.
///
/// # Errors
/// The system does not give random bytes.
pub fn temporary_name(name: &OsStr) -> Result<String, Errno> {
    let mut random = [0; DIGITS.1 / 2];
    openssl::rand::rand_bytes(&mut random).map_err(|_| Errno::IO)?;
    Ok(format!("{}{:016x}", stem(name), u64::from_ne_bytes(random)))
}

/// Returns the prefix of the temporary names of one entry. The name is hashed, since it may have 255 bytes itself.
fn stem(name: &OsStr) -> String {
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{PREFIX}{}-", &hash[..DIGITS.0])
}

impl Dir {
    /// Returns the names of temporary entries that interrupted runs left here when they created the entry `name`, in order. Those
    /// of live processes are not among them.
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
            // Another step or run may have created it just now and not locked it yet.
            std::thread::sleep(CREATION_TIME);
            left(self)?;
        }
        Ok(found)
    }

    /// Returns the temporary names of the entry `name` with this suffix, in order.
    pub(super) fn prepared(&self, name: &OsStr, suffix: &str) -> Result<Vec<String>, Error> {
        self.temporary_names(&stem(name), suffix)
    }

    /// Returns the temporary names of the entry that another temporary name is for, in order.
    pub(super) fn temporary_names_like(&self, temporary: &str) -> Result<Vec<String>, Error> {
        self.temporary_names(temporary.get(..PREFIX.len() + DIGITS.0 + 1).unwrap_or(temporary), "")
    }

    fn temporary_names(&self, stem: &str, suffix: &str) -> Result<Vec<String>, Error> {
        let failed = |errno| Error::call("list", self.path(), errno);
        let fd = match self.readable() {
            Ok(fd) => fd,
            // A directory that may be entered but not listed.
            Err(Errno::ACCESS) => return Ok(Vec::new()),
            Err(errno) => return Err(failed(errno)),
        };
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::new(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Ok(candidate) = entry.file_name().to_str()
                && let Some(random) = candidate.strip_prefix(stem).and_then(|rest| rest.strip_suffix(suffix))
                && random.len() == DIGITS.1
                && random.bytes().all(|digit| digit.is_ascii_hexdigit())
            {
                found.push(candidate.to_owned());
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes what [`Dir::leftovers`] finds: files and empty directories.
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

    /// Removes what killed processes left here while they made entries of any name. For a directory in which nobody else
    /// makes any.
    pub fn remove_all_leftovers(&self) -> Result<(), Error> {
        let failed = |errno| Error::call("list", self.path(), errno);
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::new(self.readable().map_err(failed)?).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_bytes().starts_with(PREFIX.as_bytes()) {
                found.push(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
            }
        }
        let free = |name: &OsString| -> Result<Option<Stat>, Error> {
            let Some(stat) = self.stat(name)?.filter(|stat| stat.kind == FileKind::File) else { return Ok(None) };
            Ok(self.is_free(name, &stat)?.then_some(stat))
        };
        let mut left = Vec::new();
        for name in found {
            if let Some(stat) = free(&name)? {
                left.push((name, stat));
            }
        }
        if !left.is_empty() {
            // Another run may have made one just now and not have marked it yet.
            std::thread::sleep(CREATION_TIME);
        }
        for (name, seen) in left {
            if free(&name)?.is_some() {
                self.remove(&name, &seen)?;
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

    /// Whether no live process uses a file or an empty directory.
    pub(super) fn is_free(&self, candidate: &OsStr, stat: &Stat) -> Result<bool, Error> {
        let flags = match stat.kind {
            FileKind::File => OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            FileKind::Directory => OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::DIRECTORY,
            _ => return Ok(false),
        };
        match open_quietly(self, candidate, flags) {
            Ok(fd) => {
                let free = retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared));
                let full = stat.kind == FileKind::Directory && !is_empty(fd)?;
                Ok(free != Err(Errno::WOULDBLOCK) && !full)
            }
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(false),
            // Its mode denies access to its owner, so it was complete except for its final name.
            Err(Errno::ACCESS) => Ok(true),
            Err(errno) => Err(Error::call("look at", &self.path_of(candidate), errno)),
        }
    }
}
