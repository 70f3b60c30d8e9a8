//! Owner, group and mode of a file or a directory: the desired and actual values, and the changes between them.

use crate::failure::Failure;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::value::{Account, Identity, Mode};
use super::{Action, Description};
use crate::host::capabilities::{Capability, Id, has_capability, is_mapped, keeps_set_group_id};
use crate::host::fs::{self, Denial, FileKind, Place, SET_GROUP_ID, Stat};
use crate::host::users::{acting_user, group_name_or_id, known_group, known_user};

/// The desired owner and group as this host knows them, and the user that observes and would make the changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ownership {
    pub owner: Option<Identity>,
    pub group: Option<Identity>,
    pub acting_uid: u32,
    /// Whether that user may give its own files to the desired group.
    pub may_set_group: bool,
    /// The user's name for messages, or the uid if it has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acting_name: Option<String>,
    /// The desired group, if chmod(2) clears the set-group-ID bit for the acting user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_group: Option<String>,
    /// The privileges that root lacks here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Capability>,
    /// Whether the desired owner is not mapped in the user namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owner_is_unmapped: bool,
    /// Whether the desired group is not mapped in the user namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub group_is_unmapped: bool,
}

impl Ownership {
    /// Looks up the accounts on this host.
    ///
    /// # Errors
    /// There is no such account.
    pub fn look_up(owner: Option<&Account>, group: Option<&Account>) -> Result<Self, Failure> {
        let owner = owner.map(Account::user).transpose()?;
        let group = group.map(Account::group).transpose()?;
        let acting_uid = fs::acting_ids().0;
        let privileges = [Capability::ChangeOwner, Capability::FileOwner, Capability::SetId].into_iter();
        let lacks: Vec<Capability> = privileges.filter(|one| fs::acts_as_root() && !has_capability(*one)).collect();
        let may_give_any = fs::acts_as_root() && !lacks.contains(&Capability::ChangeOwner);
        let is_unmapped =
            |kind, identity: &Option<Identity>| identity.as_ref().is_some_and(|one| !is_mapped(kind, one.id));
        Ok(Self {
            acting_name: Some(acting_user()),
            may_set_group: may_give_any || group.as_ref().is_none_or(|group| fs::is_in_group(group.id)),
            owner_is_unmapped: is_unmapped(Id::User, &owner),
            group_is_unmapped: is_unmapped(Id::Group, &group),
            foreign_group: group.as_ref().and_then(|group| foreign_group(group.id)),
            owner,
            group,
            acting_uid,
            lacks,
        })
    }

    /// Returns the acting user, for messages.
    pub fn user(&self) -> String {
        self.acting_name.clone().unwrap_or_else(|| format!("uid {}", self.acting_uid))
    }

    /// Returns whether the acting user has a privilege of root.
    pub fn can(&self, capability: Capability) -> bool {
        self.acting_uid == 0 && !self.lacks.contains(&capability)
    }

    /// Returns a hint for a user that lacks the privilege. `as_root` is the hint if the user is not root.
    pub fn privilege_hint(&self, capability: Capability, as_root: &str) -> String {
        if self.acting_uid != 0 {
            return as_root.to_owned();
        }
        capability.hint()
    }

    /// Returns the uid of the desired owner.
    pub fn uid(&self) -> Option<u32> {
        self.owner.as_ref().map(|owner| owner.id)
    }

    /// Returns the gid of the desired group.
    pub fn gid(&self) -> Option<u32> {
        self.group.as_ref().map(|group| group.id)
    }

    /// Checks that the acting user may give the desired owner and group to the file or directory at `path`, which now
    /// belongs to `uid` and `gid` (`None` if it does not exist yet).
    ///
    /// # Errors
    /// The change is not allowed. `as_root` is its hint.
    pub fn check(&self, path: &str, uid: u32, gid: Option<u32>, as_root: &str) -> Result<(), Failure> {
        let acting = self.acting_uid;
        let (owner, user) = (self.owner.as_ref().filter(|owner| owner.id != uid), self.user());
        let new_group = self.group.as_ref().filter(|group| Some(group.id) != gid);
        for (what, id, is_unmapped) in
            [("uid", owner, self.owner_is_unmapped), ("gid", new_group, self.group_is_unmapped)]
        {
            if let Some(id) = id.filter(|_| is_unmapped) {
                return Err(Failure::new(format!(
                    "cannot give {path} to {id}: {what} {} is not mapped in this user namespace",
                    id.id
                ))
                .hint(format!("run provision outside the namespace, or map the id: see /proc/self/{what}_map")));
            }
        }
        if self.can(Capability::ChangeOwner) {
            return Ok(());
        }
        let as_root = self.privilege_hint(Capability::ChangeOwner, as_root);
        if let Some(owner) = owner {
            return Err(
                Failure::new(format!("{user} is not allowed to change the owner of {path} to {owner}")).hint(as_root)
            );
        }
        if let Some(group) = new_group
            && (uid != acting || !self.may_set_group)
        {
            return Err(
                Failure::new(format!("{user} is not allowed to change the group of {path} to {group}")).hint(as_root)
            );
        }
        Ok(())
    }

    /// Checks that the acting user can set a mode at `path`. `otherwise` is the group of `path` if the step has none, and if
    /// chmod(2) clears the set-group-ID bit for that user.
    ///
    /// # Errors
    /// It would clear the bit. `as_root` is the hint.
    pub fn check_set_group_id(
        &self,
        path: &str,
        mode: Mode,
        otherwise: Option<&str>,
        as_root: &str,
    ) -> Result<(), Failure> {
        let foreign_group = if self.group.is_some() { self.foreign_group.as_deref() } else { otherwise };
        let Some(group) = foreign_group.filter(|_| mode.bits() & SET_GROUP_ID != 0) else { return Ok(()) };
        let user = self.user();
        Err(Failure::new(format!(
            "{user} is not in the group of {path}, {group}, and cannot give it mode {mode}: the system clears the set-group-ID bit"
        ))
        .hint(self.privilege_hint(Capability::SetId, as_root)))
    }

    /// Returns the mode that a new entry has after chmod(2) for the acting user, which clears the set-group-ID bit for a foreign group.
    /// `otherwise` is the inherited group if it is one.
    pub fn mode_that_holds(&self, mode: Mode, otherwise: Option<&str>) -> Mode {
        let is_foreign = if self.group.is_some() { self.foreign_group.is_some() } else { otherwise.is_some() };
        if is_foreign { Mode::from_bits(mode.bits() & !SET_GROUP_ID) } else { mode }
    }

    /// Returns the changes that give the file or directory at `path` the desired owner and group, and the mode if one
    /// is desired. The owner comes before the mode, because a new owner can reset mode bits.
    ///
    /// # Errors
    /// The acting user is not allowed to make one of the changes. `as_root` is the hint.
    pub fn diff(
        &self,
        path: &str,
        seen: &Seen,
        mode: Option<Mode>,
        as_root: &str,
    ) -> Result<Vec<AttributeChange>, Failure> {
        let mut changes = Vec::new();
        let owner = self.owner.clone().filter(|owner| owner.id != seen.uid);
        let group = self.group.clone().filter(|group| group.id != seen.gid);
        let mut before = seen.mode;
        if owner.is_some() || group.is_some() {
            self.check(path, seen.uid, Some(seen.gid), as_root)?;
            let (uid, gid) = (seen.uid, seen.gid);
            before = seen.mode_after_chown();
            let clears = (before != seen.mode).then_some(ClearedBits { before: seen.mode, after: before });
            let lost = seen.lost_with_chown(mode);
            let (path, names) = (path.to_owned(), seen.names.clone());
            changes.push(AttributeChange::SetOwner { path, uid, gid, names, owner, group, clears, lost });
        }
        if let Some(mode) = mode.filter(|mode| *mode != before) {
            if !self.can(Capability::FileOwner) && self.acting_uid != seen.uid {
                return Err(Failure::new(format!(
                    "{} is not allowed to change the mode of {path}, which belongs to {}",
                    self.user(),
                    seen.names.owner_text(seen.uid)
                ))
                .hint(self.privilege_hint(Capability::FileOwner, as_root)));
            }
            self.check_set_group_id(path, mode, seen.foreign_group.as_deref(), as_root)?;
            changes.push(AttributeChange::SetMode { path: path.to_owned(), before, mode });
        }
        match &seen.denied {
            Some(denial) if !changes.is_empty() => {
                Err(refusal(&format!("cannot change the owner and mode of {path}"), denial))
            }
            _ => Ok(changes),
        }
    }
}

/// Returns the group with this number, if chmod(2) clears the set-group-ID bit of its files for this process.
pub fn foreign_group(gid: u32) -> Option<String> {
    (!keeps_set_group_id(gid)).then(|| group_name_or_id(gid))
}

/// Returns the group that a new entry gets from its directory, if chmod(2) clears the set-group-ID bit for this process.
///
/// # Errors
/// The directory cannot be examined.
pub fn inherited_foreign_group(place: &Place) -> Result<Option<String>, Failure> {
    let directory = place.nearest().stat_self()?;
    Ok((directory.mode & SET_GROUP_ID != 0).then(|| foreign_group(directory.gid)).flatten())
}

/// The names of an owner and a group, if this host has any for their numbers. They are only shown: changes with other names are
/// equal.
#[derive(Debug, Clone, Default, Eq, Serialize, Deserialize)]
pub struct AccountNames {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Box<str>>,
}

impl PartialEq for AccountNames {
    /// The numbers decide. A name may be unknown for a moment, while its server does not answer.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl AccountNames {
    /// Looks the names up on this host.
    pub fn look_up(uid: u32, gid: u32) -> Self {
        Self { owner: known_user(uid).map(Into::into), group: known_group(gid).map(Into::into) }
    }

    /// Returns the names after a change to the desired owner and group.
    pub fn after(self, desired: &Ownership) -> Self {
        let name = |identity: &Identity| identity.name.as_deref().map(Into::into);
        Self {
            owner: desired.owner.as_ref().map_or(self.owner, name),
            group: desired.group.as_ref().map_or(self.group, name),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.owner.is_none() && self.group.is_none()
    }

    /// Returns the owner for a message: the name, or `uid 1000` if there is none.
    pub fn owner_text(&self, uid: u32) -> String {
        self.owner.as_deref().map_or_else(|| format!("uid {uid}"), str::to_owned)
    }

    /// Returns the name of the owner, or its number in digits.
    pub fn owner_or_id(&self, uid: u32) -> String {
        self.owner.as_deref().map_or_else(|| uid.to_string(), str::to_owned)
    }

    /// Returns the name of the group, or its number in digits.
    pub fn group_or_id(&self, gid: u32) -> String {
        self.group.as_deref().map_or_else(|| gid.to_string(), str::to_owned)
    }
}

/// The actual owner, group and mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What prevents every user from changing them.
    pub denied: Option<Denial>,
    pub uid: u32,
    pub gid: u32,
    pub mode: Mode,
    pub kind: FileKind,
    pub names: AccountNames,
    /// Its group, if chmod(2) clears the set-group-ID bit for the acting user.
    pub foreign_group: Option<String>,
    /// Whether the acting user is root or in the group. Then chown(2) keeps a set-group-ID bit that means mandatory locks.
    pub may_keep_group: bool,
    /// Whether it has Linux capabilities.
    pub has_capabilities: bool,
}

impl Seen {
    /// Returns the mode that chown(2) leaves.
    pub fn mode_after_chown(&self) -> Mode {
        Mode::from_bits(fs::mode_after_chown(self.kind, self.mode.bits(), self.may_keep_group))
    }

    /// Returns what chown(2) clears although the plan file does not ask for it. With a `desired` mode, the bits are set again or not
    /// desired.
    fn lost_with_chown(&self, desired: Option<Mode>) -> Vec<String> {
        let bits = if desired.is_some() { 0 } else { self.mode.bits() & !self.mode_after_chown().bits() };
        let set_ids = [(0o4000, "setuid"), (0o2000, "setgid")].into_iter().filter(|(bit, _)| bits & bit != 0);
        let capabilities = self.has_capabilities && self.kind != FileKind::Directory;
        let capabilities = capabilities.then_some("file capabilities");
        set_ids.map(|(_, name)| name).chain(capabilities).map(str::to_owned).collect()
    }
}

/// The mode before chown(2), and after it has cleared set-ID bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClearedBits {
    pub before: Mode,
    pub after: Mode,
}

/// A change of the owner, the group or the mode of one file or directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum AttributeChange {
    /// Sets owner and group. `None` leaves a value unchanged.
    SetOwner {
        path: String,
        /// The owner and group before.
        uid: u32,
        gid: u32,
        /// Their names.
        #[serde(default, skip_serializing_if = "AccountNames::is_empty")]
        names: AccountNames,
        owner: Option<Identity>,
        group: Option<Identity>,
        /// The set-ID bits that the new owner or group clears. If they are desired, a change of the mode follows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clears: Option<ClearedBits>,
        /// The names of what is cleared and not set again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lost: Vec<String>,
    },
    SetMode {
        path: String,
        before: Mode,
        mode: Mode,
    },
}

impl AttributeChange {
    /// Describes the change for events and people.
    pub fn describe(&self) -> Description {
        let (path, summary, before, after, risk) = match self {
            Self::SetOwner { path, uid, gid, names, owner, group, clears, lost } => {
                let was = format!("{}:{}", names.owner_or_id(*uid), names.group_or_id(*gid));
                let mut summary = format!("set {}, was {was}", ownership(owner, group));
                let (mut before, mut after) =
                    (json!({ "owner": uid, "group": gid }), with_ids(json!({}), owner, group));
                if let Some(clears) = clears {
                    summary.push_str(&format!(", which changes mode {} to {}", clears.before, clears.after));
                    before["mode"] = json!(clears.before);
                    after["mode"] = json!(clears.after);
                }
                (path, summary, before, after, chown_risk(lost))
            }
            Self::SetMode { path, before, mode } => {
                let summary = format!("set mode {mode}, was {before}");
                (path, summary, json!({ "mode": before }), json!({ "mode": mode }), None)
            }
        };
        Description { action: Action::Update, target: path.clone(), summary, before, after, risk, diff: None }
    }

    /// Makes the change at `place`, where `present` was just found.
    ///
    /// # Errors
    /// The entry was replaced meanwhile, or a system call fails.
    pub fn execute(&self, place: &Place, present: &Stat) -> Result<(), Failure> {
        match self {
            Self::SetOwner { owner, group, .. } => {
                let id = |identity: &Option<Identity>| identity.as_ref().map(|identity| identity.id);
                place.parent()?.set_owner(&place.name, present, id(owner), id(group))?;
            }
            Self::SetMode { mode, .. } => place.parent()?.set_mode(&place.name, present, mode.bits())?,
        }
        Ok(())
    }
}

/// Returns `setuid and setgid are lost with the new owner or group, as with chown`.
fn chown_risk(lost: &[String]) -> Option<String> {
    let (last, others) = lost.split_last()?;
    let (all, are) = match others {
        [] if last == "file capabilities" => (last.clone(), "are"),
        [] => (last.clone(), "is"),
        _ => (format!("{} and {last}", others.join(", ")), "are"),
    };
    Some(format!("{all} {are} lost with the new owner or group, as with chown"))
}

/// Returns the failure for a change that is prevented by something. `what` is what cannot be done.
pub fn refusal(what: &str, denial: &Denial) -> Failure {
    Failure::new(format!("{what}: {}", denial.reason())).hint(denial.hint())
}

/// Returns the attributes of a new file or directory. It belongs to the acting user where no owner or group is given.
pub fn of_new(owner: &Option<Identity>, group: &Option<Identity>, mode: Mode) -> fs::Attributes {
    let id = |identity: &Option<Identity>| identity.as_ref().map(|identity| identity.id);
    fs::Attributes { uid: id(owner), gid: id(group), mode: mode.bits() }
}

/// Returns the description of the removal of what an interrupted run left beside `path`.
pub fn leftovers_removal(path: &str, names: &[String]) -> Description {
    Description {
        action: Action::Delete,
        target: path.to_owned(),
        summary: "remove leftovers of an interrupted run".to_owned(),
        before: json!({ "leftovers": names }),
        after: Value::Null,
        risk: None,
        diff: None,
    }
}

/// Returns `owner 50000 and group 50000`.
pub fn ownership(owner: &Option<Identity>, group: &Option<Identity>) -> String {
    let owner = owner.as_ref().map(|owner| format!("owner {owner}"));
    let group = group.as_ref().map(|group| format!("group {group}"));
    owner.into_iter().chain(group).collect::<Vec<_>>().join(" and ")
}

/// Adds the ids of owner and group, if given, to a state.
pub fn with_ids(mut state: Value, owner: &Option<Identity>, group: &Option<Identity>) -> Value {
    if let Some(owner) = owner {
        state["owner"] = json!(owner.id);
    }
    if let Some(group) = group {
        state["group"] = json!(group.id);
    }
    state
}

#[cfg(test)]
mod tests;
