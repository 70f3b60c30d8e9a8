//! Who a process is, and how it becomes somebody else for good.

use std::ffi::CString;

use nix::unistd::{Gid, Uid, getgroups, initgroups, setresgid, setresuid};

use crate::failure::Failure;
use crate::host::users::User;
use crate::text::io_error_text;

/// Looks up the user with this name, as passwd(5) and its relatives have it.
///
/// # Errors
/// No user has the name, or the host cannot tell.
pub fn user_named(name: &str) -> Result<User, Failure> {
    match User::by_name(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(Failure::new(format!(
            "this host knows no user `{name}`, by /etc/passwd or what else /etc/nsswitch.conf names"
        ))
        .hint("correct the step's `run_as`, or make the user first (adduser)")),
        Err(error) => {
            Err(Failure::new(format!("cannot look up the user `{name}` on this host: {}", io_error_text(&error)))
                .hint(format!("see whether `getent passwd {name}` works, then run again")))
        }
    }
}

/// Turns this process, started by root, into one of `name` for good: supplementary groups, gid, uid, in that order,
/// since each needs rights that the next gives up (setresuid(2)). Does nothing where it is that user already.
///
/// # Errors
/// Where the user is unknown, this process may not, or a way back is left open.
pub fn become_user(name: &str) -> Result<User, Failure> {
    let user = user_named(name)?;
    if user.uid == users::get_effective_uid() && user.uid == users::get_current_uid() {
        return Ok(user);
    }
    let failed = |call: &str, error: nix::Error| {
        Failure::new(format!("cannot become {name}: {call}: {}", error.desc())).hint("start provision as root")
    };
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let c_name = CString::new(user.name.as_str()).map_err(|_| Failure::new("a user's name has a NUL in it"))?;
    initgroups(&c_name, gid).map_err(|error| failed("initgroups", error))?;
    setresgid(gid, gid, gid).map_err(|error| failed("setresgid", error))?;
    setresuid(uid, uid, uid).map_err(|error| failed("setresuid", error))?;
    let way_back =
        !uid.is_root() && setresuid(Uid::from_raw(u32::MAX), Uid::from_raw(0), Uid::from_raw(u32::MAX)).is_ok();
    let groups = getgroups().map_err(|error| failed("getgroups", error))?;
    if way_back || (!uid.is_root() && groups.contains(&Gid::from_raw(0)) && user.gid != 0 && !user.is_in_root_group()) {
        return Err(Failure::new(format!("cannot become {name}: rights of root are left")));
    }
    Ok(user)
}
