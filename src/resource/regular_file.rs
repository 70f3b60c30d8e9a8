//! What the kinds for single files share: the observed file, whether it can be replaced, and its owner and mode.

use std::ffi::OsStr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::attributes::{self, AccountNames, AttributeChange, Ownership, Seen, refusal};
use super::value::{AbsolutePath, Mode};
use crate::failure::Failure;
use crate::host::capabilities::Capability;
use crate::host::fs::{self, Denial, FILE_CAPABILITIES, FileKind, Place, Stat};
use crate::host::users::{as_root, known_group, known_user};
use crate::text::shell_word;

/// The hint for a file that belongs to another user.
pub const AS_ROOT: &str = "set run_as: root on the step, or the user that owns the file";

/// A regular file as observed, without its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegularFile {
    pub uid: u32,
    pub gid: u32,
    pub mode: Mode,
    /// The number of hard links.
    pub links: u64,
    /// The name of its owner, if it has one on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<Box<str>>,
    /// The name of its group, if it has one on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<Box<str>>,
    /// Its group, if chmod(2) clears the set-group-ID bit for the acting user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_group: Option<Box<str>>,
    /// Whether the acting user can give a new file the same group.
    #[serde(default = "yes")]
    pub may_keep_group: bool,
    /// What prevents the acting user from replacing the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Box<Denial>>,
    /// What prevents every user from changing its owner and mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes_denied: Option<Box<Denial>>,
    /// Its attributes besides mode and owner, by their common names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
}

fn yes() -> bool {
    true
}

impl RegularFile {
    /// Observes the file `name` in the directory of `place`.
    ///
    /// # Errors
    /// The file was replaced, or a system call fails.
    pub fn observe(place: &Place, name: &OsStr, stat: &Stat) -> Result<Self, Failure> {
        let dir = place.parent()?;
        Ok(Self {
            uid: stat.uid,
            gid: stat.gid,
            mode: Mode::from_bits(stat.mode),
            links: stat.links,
            owner_name: known_user(stat.uid).map(Into::into),
            group_name: known_group(stat.gid).map(Into::into),
            foreign_group: attributes::foreign_group(stat.gid).map(Into::into),
            may_keep_group: fs::acts_in_group(stat.gid),
            denied: dir.replace_denial(name, stat)?.map(Box::new),
            attributes_denied: dir.attribute_denial(name)?.map(Box::new),
            attributes: dir.attribute_names(name, stat)?,
        })
    }

    /// Checks that the acting user can replace this file by a new one. `folder` is what prevents the user from creating entries in
    /// the directory.
    ///
    /// # Errors
    /// The user cannot replace it.
    pub fn check_replaceable(
        &self,
        path: &AbsolutePath,
        ownership: &Ownership,
        folder: Option<&Denial>,
    ) -> Result<(), Failure> {
        let user = ownership.user();
        if !ownership.can(Capability::ChangeOwner) && ownership.acting_uid != self.uid {
            return Err(Failure::new(format!(
                "{user} is not allowed to replace {path}, which belongs to {}",
                self.names().owner_text(self.uid)
            ))
            .hint(ownership.privilege_hint(Capability::ChangeOwner, AS_ROOT)));
        }
        check_writable(path, self.denied.as_deref())?;
        check_writable(path, folder)?;
        ownership.check(&path.to_string(), self.uid, Some(self.gid), AS_ROOT)?;
        if ownership.group.is_none() && !self.may_keep_group {
            return Err(Failure::new(format!(
                "{user} is not allowed to give the file that replaces {path} its group, {}",
                self.names().group_or_id(self.gid)
            ))
            .hint("set `group` to one of that user's groups, or set run_as: root on the step"));
        }
        Ok(())
    }

    /// Returns the mode of a file that replaces this one if the plan file has no mode. It is the same mode, without the bits that
    /// chown(2) clears for another owner or group.
    pub fn kept_mode(&self, ownership: &Ownership) -> Mode {
        let is_other =
            ownership.uid().is_some_and(|uid| uid != self.uid) || ownership.gid().is_some_and(|gid| gid != self.gid);
        if is_other { self.seen().mode_after_chown() } else { self.mode }
    }

    /// Returns the notes for a plan that replaces this file.
    pub fn replacement_notes(&self, path: &AbsolutePath) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.attributes.is_empty() {
            notes.push(format!("the new file keeps these attributes of the old one: {}", self.attributes.join(", ")));
        }
        if self.links > 1 {
            notes.push(format!(
                "the old content of {path} remains under its other names ({} hard links); to list them: `{}`",
                self.links,
                hard_links_command(path)
            ));
        }
        notes
    }

    /// Returns the changes that give the file the desired owner, group and mode.
    ///
    /// # Errors
    /// The acting user is not allowed to make them, or they would change the file under another name too.
    pub fn attribute_changes(
        &self,
        path: &AbsolutePath,
        ownership: &Ownership,
        mode: Option<Mode>,
    ) -> Result<Vec<AttributeChange>, Failure> {
        let changes = ownership.diff(&path.to_string(), &self.seen(), mode, AS_ROOT);
        if self.links > 1 && changes.as_ref().is_ok_and(|changes| !changes.is_empty()) {
            let word = shell_word(path);
            let new = shell_word(format!("{}.new", path.to_string_lossy()));
            return Err(Failure::new(format!(
                "{path} has {} hard links: its owner and mode would change under the other names too",
                self.links
            ))
            .hint(format!(
                "list them: `{}`; to change only this one, replace it by a copy: `cp -a {word} {new} && mv {new} {word}`",
                hard_links_command(path)
            )));
        }
        changes
    }

    /// Returns the names of its owner and group.
    pub fn names(&self) -> AccountNames {
        AccountNames { owner: self.owner_name.clone(), group: self.group_name.clone() }
    }

    fn seen(&self) -> Seen {
        Seen {
            denied: self.attributes_denied.as_deref().cloned(),
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
            kind: FileKind::File,
            names: self.names(),
            foreign_group: self.foreign_group.as_deref().map(str::to_owned),
            may_keep_group: self.may_keep_group,
            has_capabilities: self.attributes.iter().any(|name| name == FILE_CAPABILITIES),
        }
    }
}

/// Checks that the acting user can read the file once it has this mode. Otherwise a later run could not compare its content. `found`
/// is the file if there is one.
///
/// # Errors
/// The mode does not let its owner read it, which is the acting user and not root.
pub fn check_readable(
    path: &AbsolutePath,
    ownership: &Ownership,
    found: Option<&RegularFile>,
    mode: Option<Mode>,
) -> Result<(), Failure> {
    const OWNER_READS: u32 = 0o400;
    let uid = ownership.uid().unwrap_or_else(|| found.map_or(ownership.acting_uid, |found| found.uid));
    match mode {
        Some(mode) if ownership.acting_uid != 0 && ownership.acting_uid == uid && mode.bits() & OWNER_READS == 0 => {
            let user = ownership.user();
            let better = Mode::from_bits(mode.bits() | OWNER_READS);
            Err(Failure::new(format!("mode {mode} would lock {user} out of {path}, which it could no longer read"))
                .hint(format!("set mode: \"{better}\" on the step, or set run_as: root on it")))
        }
        _ => Ok(()),
    }
}

/// Checks that nothing prevents the acting user from writing at `path`.
///
/// # Errors
/// Something prevents it.
pub fn check_writable(path: &AbsolutePath, denied: Option<&Denial>) -> Result<(), Failure> {
    denied.map_or(Ok(()), |denial| Err(refusal(&format!("cannot write {path}"), denial)))
}

/// Returns the command that lists all hard links of a file. They are on one file system, whose mount point `stat` prints. Only root
/// may read all of its directories.
pub fn hard_links_command(path: &Path) -> String {
    let word = shell_word(path);
    as_root(&format!("find \"$(stat -c %m {word})\" -xdev -samefile {word}"))
}

/// Returns the file at `place`, for a change that needs it.
///
/// # Errors
/// It no longer exists, or is not a regular file.
pub fn require_file(path: &AbsolutePath, place: &Place) -> Result<Stat, Failure> {
    let stat = place.stat()?.filter(|stat| stat.kind == FileKind::File);
    stat.ok_or_else(|| changed_meanwhile(format!("{path} is no longer a file")))
}

/// Returns the file at `place`, which must not have other hard links.
///
/// # Errors
/// It has hard links, no longer exists, or is not a regular file.
pub fn require_single_name(path: &AbsolutePath, place: &Place) -> Result<Stat, Failure> {
    let stat = require_file(path, place)?;
    if stat.links > 1 {
        return Err(changed_meanwhile(format!("{path} was hard-linked meanwhile")));
    }
    Ok(stat)
}

fn changed_meanwhile(what: String) -> Failure {
    Failure::new(what).hint("check what else is changing it, then run again")
}

/// The mode, owner and group of a file, and those of the new file in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    pub before_mode: Mode,
    pub mode: Mode,
    pub before_uid: u32,
    pub before_gid: u32,
    pub uid: u32,
    pub gid: u32,
    #[serde(default, skip_serializing_if = "AccountNames::is_empty")]
    pub before_names: AccountNames,
    #[serde(default, skip_serializing_if = "AccountNames::is_empty")]
    pub names: AccountNames,
}

impl Replacement {
    /// Returns those of `file` and of a new file with this mode. An owner or group that is not given stays.
    pub fn of(file: &RegularFile, mode: Mode, ownership: &Ownership) -> Self {
        Self {
            before_mode: file.mode,
            mode,
            before_uid: file.uid,
            before_gid: file.gid,
            uid: ownership.uid().unwrap_or(file.uid),
            gid: ownership.gid().unwrap_or(file.gid),
            before_names: file.names(),
            names: file.names().after(ownership),
        }
    }

    /// Returns whether a file still is as it was when it was observed.
    pub fn is_of(&self, stat: &Stat) -> bool {
        (self.before_mode.bits(), self.before_uid, self.before_gid) == (stat.mode, stat.uid, stat.gid)
    }

    /// Returns the attributes of the new file.
    pub fn attributes(&self) -> fs::Attributes {
        fs::Attributes { uid: Some(self.uid), gid: Some(self.gid), mode: self.mode.bits() }
    }

    /// Adds to a summary what differs.
    pub fn describe(&self, summary: &mut String) {
        let Self { before_mode, mode, before_uid, before_gid, uid, gid, before_names, names } = self;
        if mode != before_mode {
            summary.push_str(&format!(", with mode {mode}, was {before_mode}"));
        }
        if (uid, gid) != (before_uid, before_gid) {
            summary.push_str(&format!(
                ", with owner {} and group {}, was {}:{}",
                names.owner_or_id(*uid),
                names.group_or_id(*gid),
                before_names.owner_or_id(*before_uid),
                before_names.group_or_id(*before_gid)
            ));
        }
    }

    /// Adds the old mode, owner and group to one state, and the new ones to another.
    pub fn add_to(&self, before: &mut Value, after: &mut Value) {
        let values =
            [(before, self.before_mode, self.before_uid, self.before_gid), (after, self.mode, self.uid, self.gid)];
        for (state, mode, uid, gid) in values {
            (state["mode"], state["owner"], state["group"]) = (json!(mode), json!(uid), json!(gid));
        }
    }
}
