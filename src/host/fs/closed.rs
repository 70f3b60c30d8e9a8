//! Finds the directory that keeps the acting user from a path, and the remedy.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{FileKind, acting_ids, acts_in_group, escape_path};
use crate::host::capabilities::is_confined_to_planning;
use crate::host::users::{acting_user, as_acting_user, as_root, known_user};
use crate::text::shell_word;

/// Returns whether the acting user has this access to a path. A plan by a confined root has the access of an apply. A symlink is
/// followed.
pub fn may_access(path: &Path, wanted: Access) -> bool {
    match retry_on_intr(|| rustix::fs::accessat(rustix::fs::CWD, path, wanted, AtFlags::EACCESS)) {
        Ok(()) => true,
        Err(errno) => errno == Errno::ACCESS && is_confined_to_planning(),
    }
}

/// The permissions of those who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// A directory that the acting user may not enter, or not list.
pub struct Closed {
    pub path: PathBuf,
    /// Whether it is the path itself, which may not be listed, and not a directory above it.
    pub is_target: bool,
    uid: u32,
    gid: u32,
    mode: u32,
}

/// Returns the directory that keeps the acting user from `path`. Symlinks are followed.
pub fn on_way_to(path: &Path) -> Option<Closed> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let wanted = above.into_iter().map(|above| (above, Access::EXEC_OK));
    let (closed, _) =
        wanted.chain([(path, Access::READ_OK | Access::EXEC_OK)]).find(|(path, wanted)| !may_access(path, *wanted))?;
    let found = rustix::fs::stat(closed).ok().filter(|found| FileKind::of(found.st_mode) == FileKind::Directory)?;
    Some(Closed {
        path: closed.to_owned(),
        is_target: closed == path,
        uid: found.st_uid,
        gid: found.st_gid,
        mode: found.st_mode,
    })
}

impl Closed {
    /// Returns the name of its owner, if that is another user with a name.
    pub fn other_owner(&self) -> Option<String> {
        known_user(self.uid).filter(|_| self.uid != acting_ids().0)
    }

    /// Returns the remedy: who owns it, and how to let the acting user in.
    pub fn hint(&self) -> String {
        let (shown, word, user) = (escape_path(&self.path), shell_word(&self.path), acting_user());
        if self.uid == acting_ids().0 {
            let open = as_acting_user(&format!("chmod u+rwx {word}"));
            return format!(
                "{shown} is closed to its owner; open it: `{open}`; if a step sets its mode, correct the step"
            );
        }
        let owner = self.other_owner();
        let run_as = owner.as_deref().unwrap_or("root");
        let owner = owner.as_deref().map_or_else(|| format!("uid {}", self.uid), str::to_owned);
        let (verb, bits) = if self.is_target { ("list", "rx") } else { ("enter", "x") };
        // What is closed to all others, such as a home directory, is opened to this user alone.
        let open = as_root(&match (acts_in_group(self.gid), self.mode & OTHERS) {
            (true, _) => format!("chmod g+{bits} {word}"),
            (false, 0) => format!("setfacl -m u:{}:{bits} {word}", shell_word(&user)),
            (false, _) => format!("chmod o+{bits} {word}"),
        });
        format!(
            "{shown} belongs to {owner}, and {user} may not {verb} it: set run_as: {run_as} on the step, or open it: `{open}`"
        )
    }
}
