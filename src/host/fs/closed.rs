//! Finds the directory that keeps the acting user from a path, and the remedy.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags};
use rustix::io::{Errno, retry_on_intr};

use super::xattr::ACL;
use super::{FileKind, acting_ids, acts_in_group, escape_path};
use crate::host::capabilities::is_confined_to_planning;
use crate::host::environment;
use crate::host::users::{acting_user, as_acting_user, as_root, known_user, name_or_id};
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
    list: List,
}

/// Whether a directory has an access control list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    /// It has none, and may get one.
    Possible,
    Present,
    /// The file system has none.
    Unsupported,
}

impl List {
    fn of(path: &Path) -> Self {
        match retry_on_intr(|| rustix::fs::getxattr(path, ACL, &mut [0; 0][..])) {
            Ok(_) => Self::Present,
            Err(Errno::NODATA) => Self::Possible,
            Err(_) => Self::Unsupported,
        }
    }
}

/// The program that changes access control lists.
const SETFACL: &str = "setfacl";

/// Returns what opens a directory of this mode for `user` alone, as far as one command can: the text before the command, and the
/// command. `bits` are what the user needs.
fn opening(
    (word, user): (&str, &str),
    bits: &str,
    (in_group, mode, list, has_setfacl): (bool, u32, List, bool),
) -> Option<(&'static str, String)> {
    let needed = if bits.contains('r') { 0o5 } else { 0o1 };
    // A change of the group's bits or of the list sets the list's mask, and others in the list get back what the mode denies.
    match (in_group, mode & OTHERS, list) {
        (true, _, List::Present) | (false, 0, List::Present | List::Unsupported) => None,
        (true, ..) => Some(("open it", format!("chmod g+{bits} {word}"))),
        // An entry of the list denies it.
        (false, others, List::Present) if others & needed == needed => None,
        // What is closed to all others, such as a home directory, is opened to this user alone.
        (false, 0, List::Possible) => Some((
            if has_setfacl { "open it" } else { "open it (Debian package acl)" },
            format!("{SETFACL} -m u:{user}:{bits} {word}"),
        )),
        (false, ..) => Some(("open it", format!("chmod o+{bits} {word}"))),
    }
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
        list: List::of(closed),
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
        let name = shell_word(name_or_id(acting_ids().0));
        let state = (acts_in_group(self.gid), self.mode, self.list, environment::program(SETFACL).is_some());
        let denied = format!("{shown} belongs to {owner}, and {user} may not {verb} it");
        match opening((&word, &name), bits, state) {
            Some((text, command)) => format!(
                "{denied}: set run_as: {run_as} on the step, or {text}: `{}`; if a step sets its mode, correct that mode instead",
                as_root(&command)
            ),
            None => {
                let why = if self.list == List::Present {
                    "its mode and its access control list close it"
                } else {
                    "its mode closes it"
                };
                format!(
                    "{denied}: {why}; set run_as: {run_as} on the step, let its owner open it, or give another path"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_opened_for_one_user_and_for_nobody_in_its_list() {
        let opened =
            |in_group, mode, list, has_setfacl| opening(("/srv/d", "bob"), "x", (in_group, mode, list, has_setfacl));
        let expected = |text, command: &str| Some((text, command.to_owned()));
        let list = expected("open it", "setfacl -m u:bob:x /srv/d");
        assert_eq!(opened(false, 0o700, List::Possible, true), list);
        let package = expected("open it (Debian package acl)", "setfacl -m u:bob:x /srv/d");
        assert_eq!(opened(false, 0o700, List::Possible, false), package);
        for (in_group, list) in [(false, List::Present), (true, List::Present), (false, List::Unsupported)] {
            assert_eq!(opened(in_group, 0o700, list, true), None);
        }
        assert_eq!(opened(true, 0o700, List::Possible, true), expected("open it", "chmod g+x /srv/d"));
        assert_eq!(opened(false, 0o704, List::Present, true), expected("open it", "chmod o+x /srv/d"));
        assert_eq!(opened(false, 0o705, List::Present, true), None);
    }

    #[test]
    fn a_file_system_without_lists_is_recognised() {
        assert_eq!(List::of(Path::new("/proc")), List::Unsupported);
    }
}
