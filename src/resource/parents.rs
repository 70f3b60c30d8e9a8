//! Missing parents of what a step creates. In the tree of another step, they get the attributes of that tree's directories.

use std::path::PathBuf;

use super::directory::ModeRule;
use super::value::Account;
use super::{ExecuteContext, ObserveContext};
use crate::failure::Failure;
use crate::host::capabilities::{Capability, has_capability};
use crate::host::fs::{self, Denial, Place, SET_GROUP_ID, Stat};
use crate::host::users::{acting_user, group_name_or_id, name_or_id};

/// Creates the missing parents, and returns the directory for the entry. In the tree of another step, a parent gets the
/// attributes of the tree's directories, so that the tree remains converged.
///
/// # Errors
/// The owner of the tree does not exist on this host, or a system call fails.
pub fn create_parents(place: Place, cx: &ExecuteContext) -> Result<fs::Dir, Failure> {
    let attributes = parent_attributes(place.missing_parents.len(), cx)?;
    Ok(place.create_parents(&attributes)?)
}

/// Returns the attributes of the missing parents, the outermost first.
///
/// # Errors
/// The owner of the tree around one of them does not exist on this host.
pub fn parent_attributes(missing: usize, cx: &ObserveContext) -> Result<Vec<fs::ParentAttributes>, Failure> {
    let attributes = |height: usize| -> Result<fs::ParentAttributes, Failure> {
        let Some(tree) = cx.trees_above().iter().find(|tree| tree.height > height) else {
            return Ok(fs::ParentAttributes::default());
        };
        let owner = tree.owner.owner.as_ref().map(|name| Account::named(name).user()).transpose()?;
        let group = tree.owner.group.as_ref().map(|name| Account::named(name).group()).transpose()?;
        let rule = tree.owner.mode.as_ref().map(|text| ModeRule::new(text).map_err(Failure::new)).transpose()?;
        Ok(fs::ParentAttributes {
            uid: owner.map(|owner| owner.id),
            gid: group.map(|group| group.id),
            mode: rule.map(|rule| rule.apply(fs::PARENT_MODE, true)),
        })
    };
    // The innermost parent is one level above the target.
    (1..=missing).rev().map(attributes).collect()
}

/// Returns what prevents the acting user from creating the entry: in its directory, or in the tree of another step, whose
/// owner and group missing parents get.
///
/// # Errors
/// The directory cannot be examined, or the owner of the tree does not exist on this host.
pub fn creation_denial(place: &Place, cx: &ObserveContext) -> Result<Option<Denial>, Failure> {
    match place.nearest().entry_denial()? {
        None => parents_denial(&place.missing_paths(), &place.nearest().stat_self()?, cx),
        denial => Ok(denial),
    }
}

/// Returns why the acting user cannot give missing parents the owner and group of another step's tree. `holder` is the directory
/// in which the first one is created.
///
/// # Errors
/// The owner of the tree does not exist on this host.
pub fn parents_denial(missing: &[PathBuf], holder: &Stat, cx: &ObserveContext) -> Result<Option<Denial>, Failure> {
    if has_capability(Capability::ChangeOwner) {
        return Ok(None);
    }
    let own = fs::acting_ids().0;
    let mut inherited = (holder.mode & SET_GROUP_ID != 0).then_some(holder.gid);
    for (path, attributes) in missing.iter().zip(parent_attributes(missing.len(), cx)?) {
        let owner = attributes.uid.filter(|uid| *uid != own).map(|uid| format!("owner {}", name_or_id(uid)));
        let group = attributes.gid.filter(|gid| Some(*gid) != inherited && !fs::is_in_group(*gid));
        let group = group.map(|gid| format!("group {}", group_name_or_id(gid)));
        // Of a directory with a group that is not the user's own, the kernel removes the setgid bit if its mode is set.
        let gid = attributes.gid.or(inherited);
        let is_foreign = gid.is_some_and(|gid| !fs::is_in_group(gid)) && group.is_none();
        let is_set = |mode: &u32| mode & SET_GROUP_ID != 0 && *mode != fs::PARENT_MODE | SET_GROUP_ID;
        let mode = attributes.mode.filter(|mode| is_foreign && is_set(mode)).map(|mode| format!("mode {mode:04o}"));
        if let Some(attribute) = owner.or(group).or(mode) {
            let (user, parent) = (acting_user(), fs::escape_path(path));
            let lacks = fs::acts_as_root().then_some(Capability::ChangeOwner);
            return Ok(Some(Denial::InTree { user, parent, attribute, lacks }));
        }
        // A directory without a mode of its own keeps the bit of the directory that holds it.
        inherited = match attributes.mode {
            Some(mode) => gid.filter(|_| mode & SET_GROUP_ID != 0),
            None => gid.filter(|_| inherited.is_some()),
        };
    }
    Ok(None)
}
