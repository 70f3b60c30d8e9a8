//! Who a process is, and how it becomes somebody else for good.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, getgroups, initgroups, setresgid, setresuid};

use crate::failure::Failure;

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

impl User {
    /// Looks a name up, as passwd(5) and its relatives have it.
    ///
    /// # Errors
    /// Where no user has the name, or the host cannot tell.
    pub fn named(name: &str) -> Result<Self, Failure> {
        match asked(|| nix::unistd::User::from_name(name)) {
            Ok(Some(user)) => Ok(user.into()),
            Ok(None) => Err(Failure::new(format!(
                "this host knows no user `{name}`, by /etc/passwd or what else /etc/nsswitch.conf names"
            ))
            .hint("correct the step's `run_as`, or make the user first (adduser)")),
            Err(error) => Err(Failure::new(format!("cannot look up the user `{name}` on this host: {}", error.desc()))
                .hint(format!("see whether `getent passwd {name}` works, then run again"))),
        }
    }
}

impl From<nix::unistd::User> for User {
    fn from(user: nix::unistd::User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
    }
}

/// Asks again where nothing is found: glibc says the same of a source that cannot be read at the moment
/// (nsswitch.conf(5): "unavail" goes on to the next source, and after the last one is "not found").
fn asked<T>(find: impl Fn() -> nix::Result<Option<T>>) -> nix::Result<Option<T>> {
    match find() {
        Ok(Some(found)) => Ok(Some(found)),
        Ok(None) | Err(_) => find(),
    }
}

/// Whoever this process acts as. A uid without a passwd entry is named by its number.
pub fn current_user() -> User {
    let uid = Uid::effective();
    let known = asked(|| nix::unistd::User::from_uid(uid)).ok().flatten().map(User::from);
    known.unwrap_or_else(|| User {
        name: uid.to_string(),
        uid: uid.as_raw(),
        gid: Gid::effective().as_raw(),
        home: PathBuf::from("/"),
    })
}

/// Turns this process, started by root, into one of `name` for good: supplementary groups, gid, uid, in that order,
/// since each needs rights that the next gives up (setresuid(2)). Does nothing where it is that user already.
///
/// # Errors
/// Where the user is unknown, this process may not, or a way back is left open.
pub fn become_user(name: &str) -> Result<User, Failure> {
    let user = User::named(name)?;
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
    if way_back || (!uid.is_root() && groups.contains(&Gid::from_raw(0)) && user.gid != 0 && !in_root_group(&user)) {
        return Err(Failure::new(format!("cannot become {name}: rights of root are left")));
    }
    Ok(user)
}

fn in_root_group(user: &User) -> bool {
    users::get_user_groups(&user.name, user.gid).is_some_and(|groups| groups.iter().any(|group| group.gid() == 0))
}
