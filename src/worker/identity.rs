//! The user of a process, and how it changes to another user for good.

use std::ffi::CString;

use nix::unistd::{Gid, Uid, getgroups, initgroups, setresgid, setresuid};

use crate::failure::Failure;
use crate::host::users::{User, as_root};
use crate::text::{io_error_text, shell_word};

/// Looks up a user by name in the passwd database.
///
/// # Errors
/// There is no such user, or the lookup failed.
pub fn user_named(name: &str) -> Result<User, Failure> {
    match User::by_name(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(Failure::new(format!("no such user: {name}")).hint(format!(
            "correct the step's `run_as`, or create the user: `{}`",
            as_root(&format!("useradd --create-home {}", shell_word(name)))
        ))),
        Err(error) => Err(Failure::new(format!("cannot look up the user {name}: {}", io_error_text(&error)))
            .hint(format!("check that `getent passwd {name}` works, then run again"))),
    }
}

/// Permanently changes this process from root to the user `name`: supplementary groups, then gid, then uid, because
/// each step needs rights that the next one gives up (setresuid(2)). Does nothing if the process already has that user.
///
/// # Errors
/// The user does not exist, the process lacks the rights, or it could still become root again.
pub fn become_user(name: &str) -> Result<User, Failure> {
    let user = user_named(name)?;
    if user.uid == users::get_effective_uid() && user.uid == users::get_current_uid() {
        return Ok(user);
    }
    let failed = |call: &str, error: nix::Error| {
        Failure::new(format!("cannot become {name}: {call}: {}", error.desc())).hint("run provision as root")
    };
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let c_name = CString::new(user.name.as_str()).map_err(|_| Failure::new("a user name contains a NUL character"))?;
    initgroups(&c_name, gid).map_err(|error| failed("initgroups", error))?;
    setresgid(gid, gid, gid).map_err(|error| failed("setresgid", error))?;
    setresuid(uid, uid, uid).map_err(|error| failed("setresuid", error))?;
    let way_back =
        !uid.is_root() && setresuid(Uid::from_raw(u32::MAX), Uid::from_raw(0), Uid::from_raw(u32::MAX)).is_ok();
    let groups = getgroups().map_err(|error| failed("getgroups", error))?;
    if way_back || (!uid.is_root() && groups.contains(&Gid::from_raw(0)) && user.gid != 0 && !user.is_in_root_group()) {
        return Err(Failure::new(format!("cannot become {name}: the process still has rights of root")));
    }
    Ok(user)
}
