//! Looks up users and groups, wherever the host is configured to keep them (nsswitch.conf(5)).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::unistd::{Gid, Group, Uid};

use crate::text::shell_word;

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    pub home: PathBuf,
}

impl User {
    /// Returns the user with this name, or `None` if there is none.
    ///
    /// # Errors
    /// The lookup failed.
    pub fn by_name(name: &str) -> io::Result<Option<Self>> {
        Ok(find_twice(|| nix::unistd::User::from_name(name))?.map(Self::from))
    }

    /// Returns the user with this number, or `None` if there is none.
    ///
    /// # Errors
    /// The lookup failed.
    pub fn by_id(uid: u32) -> io::Result<Option<Self>> {
        Ok(find_twice(|| nix::unistd::User::from_uid(Uid::from_raw(uid)))?.map(Self::from))
    }

    /// Returns the user that this process acts as. One without a name is called by its number, and has no home.
    pub fn acting() -> Self {
        let uid = Uid::effective().as_raw();
        Self::by_id(uid).ok().flatten().unwrap_or_else(|| Self {
            name: uid.to_string(),
            uid,
            gid: Gid::effective().as_raw(),
            home: PathBuf::from("/"),
        })
    }

    /// Whether root's group is one of the user's groups.
    pub fn is_in_root_group(&self) -> bool {
        users::get_user_groups(&self.name, self.gid).is_some_and(|groups| groups.iter().any(|group| group.gid() == 0))
    }
}

impl From<nix::unistd::User> for User {
    fn from(user: nix::unistd::User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
    }
}

/// Returns the number of the group with this name, or `None` if there is none.
///
/// # Errors
/// The lookup failed.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    Ok(find_twice(|| Group::from_name(name))?.map(|group| group.gid.as_raw()))
}

/// Returns the name of the group with this number, or `None` if there is none.
///
/// # Errors
/// The host cannot tell.
pub fn group_name(gid: u32) -> io::Result<Option<String>> {
    Ok(find_twice(|| Group::from_gid(Gid::from_raw(gid)))?.map(|group| group.name))
}

/// Returns the name of the user with this number, for messages: `None` if there is none or the host cannot tell.
pub fn known_user(uid: u32) -> Option<String> {
    User::by_id(uid).ok().flatten().map(|user| user.name)
}

/// Returns the name of the group with this number, for messages: `None` if there is none or the host cannot tell.
pub fn known_group(gid: u32) -> Option<String> {
    group_name(gid).ok().flatten()
}

/// Returns the name of a user, or the number in digits if the host knows none.
pub fn name_or_id(uid: u32) -> String {
    known_user(uid).unwrap_or_else(|| uid.to_string())
}

/// Returns the name of a group, or the number in digits if the host knows none.
pub fn group_name_or_id(gid: u32) -> String {
    known_group(gid).unwrap_or_else(|| gid.to_string())
}

/// Returns the user that this process acts as, for a message: the name, or `uid 1000` if there is none.
pub fn acting_user() -> String {
    let uid = Uid::effective().as_raw();
    User::by_id(uid).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// Who started the run, if this process is a worker that another user started.
static LAUNCHER: OnceLock<u32> = OnceLock::new();

/// Records who started the run that this worker serves.
pub fn set_launcher(uid: u32) {
    let () = LAUNCHER.set(uid).unwrap_or_default();
}

/// The person who reads the messages. Tests do not depend on who runs them.
fn launcher() -> u32 {
    let default = || if cfg!(test) { 1000 } else { Uid::effective().as_raw() };
    LAUNCHER.get().copied().unwrap_or_else(default)
}

/// Whether the acting user started the run. Variables that this user sets then reach the process.
pub fn is_launcher() -> bool {
    launcher() == Uid::effective().as_raw()
}

/// Returns a command that needs root's rights as whoever started the run has to type it. Root may have no sudo, as in a container.
pub fn as_root(command: &str) -> String {
    if launcher() == 0 { command.to_owned() } else { format!("sudo {command}") }
}

/// Returns a command of the acting user as whoever started the run has to type it: through sudo, or su, for another user.
pub fn as_acting_user(command: &str) -> String {
    let uid = Uid::effective().as_raw();
    if LAUNCHER.get().is_none_or(|launcher| *launcher == uid) {
        return command.to_owned();
    }
    let name = User::by_id(uid).ok().flatten().map(|user| user.name);
    let is_plain = !command.contains(['>', '|', '&', ';']);
    match name {
        Some(name) if launcher() == 0 && !Path::new("/usr/bin/sudo").exists() => {
            format!("su -s /bin/sh {} -c {}", shell_word(name), shell_word(command))
        }
        name => {
            // sudo(8) takes the number of a user without a name after a `#`.
            let name = shell_word(name.unwrap_or_else(|| format!("#{uid}")));
            let command = if is_plain { command.to_owned() } else { format!("sh -c {}", shell_word(command)) };
            format!("sudo -H -u {name} {command}")
        }
    }
}

/// Looks up a second time if nothing was found. glibc reports a source that is temporarily unavailable as "not found"
/// (nsswitch.conf(5): "unavail" continues with the next source).
fn find_twice<T>(find: impl Fn() -> nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match find() {
        Ok(Some(found)) => Ok(Some(found)),
        Ok(None) | Err(_) => Ok(find()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = User { name: "root".into(), uid: 0, gid: 0, home: "/root".into() };
        assert_eq!(User::by_name("root").unwrap(), Some(root.clone()));
        assert_eq!(User::by_id(0).unwrap(), Some(root.clone()));
        assert!(root.is_in_root_group());
        assert_eq!((User::by_name("rot").unwrap(), group_id("rot").unwrap()), (None, None));
        assert_eq!((name_or_id(0), name_or_id(4_000_000)), ("root".to_owned(), "4000000".to_owned()));
    }
}
