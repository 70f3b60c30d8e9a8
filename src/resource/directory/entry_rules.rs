//! What a directory wants of the entries below it, and which of them it leaves out.

use serde::{Deserialize, Serialize};

use super::desired::{Directory, Recursive};
use super::mode_rule::ModeRule;
use crate::host::fs::{self, FileKind, tree};
use crate::resource::ObserveContext;
use crate::resource::attributes::Ownership;
use crate::resource::value::Identity;

const SET_IDS: u32 = 0o6000;

/// The desired attributes of the entries below a directory. `None` leaves an attribute unchanged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EntryRules {
    pub owner: Option<Identity>,
    pub group: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir_mode: Option<ModeRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<ModeRule>,
}

/// The changes that one entry needs.
#[derive(Debug, Clone, Copy)]
pub struct EntryChange {
    pub sets_owner: bool,
    pub sets_group: bool,
    /// The mode to set after owner and group.
    pub mode: Option<u32>,
    pub loses_set_id: bool,
}

impl EntryRules {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the changes that an entry needs, or `None` if it has converged.
    pub fn change_of(&self, entry: &tree::Entry<'_>) -> Option<EntryChange> {
        let sets_owner = self.owner.as_ref().is_some_and(|owner| owner.id != entry.uid);
        let sets_group = self.group.as_ref().is_some_and(|group| group.id != entry.gid);
        let after_chown = if sets_owner || sets_group {
            fs::mode_after_chown(entry.kind, entry.mode, entry.mode & SET_IDS == 0 || fs::acts_in_group(entry.gid))
        } else {
            entry.mode
        };
        let rule = match entry.kind {
            // This program's own files stay private, also if others may read the rest of the tree.
            _ if entry.own != tree::Own::No => None,
            FileKind::Directory => self.dir_mode.as_ref(),
            FileKind::File => self.file_mode.as_ref(),
            _ => None,
        };
        let desired = rule.map_or(after_chown, |rule| rule.apply(after_chown, entry.kind == FileKind::Directory));
        let mode = (desired != after_chown).then_some(desired);
        let loses_set_id = entry.mode & SET_IDS & !desired != 0;
        (sets_owner || sets_group || mode.is_some()).then_some(EntryChange {
            sets_owner,
            sets_group,
            mode,
            loses_set_id,
        })
    }
}

impl Directory {
    /// Returns the desired attributes of the entries below, or `None` if there are none.
    pub fn entry_rules(&self, ownership: &Ownership) -> Option<EntryRules> {
        let rules = EntryRules {
            owner: ownership.owner.clone(),
            group: ownership.group.clone().filter(|_| self.recursive == Recursive::OwnerAndGroup),
            dir_mode: self.dir_mode.clone(),
            file_mode: self.file_mode.clone(),
        };
        (self.recursive != Recursive::No && !rules.is_empty()).then_some(rules)
    }

    /// Returns what the walk skips: what other steps own, and excluded entries.
    pub fn left_out(&self, cx: &ObserveContext) -> tree::LeftOut {
        let claimed = cx.claimed_below().iter().map(|claimed| (claimed.path.as_path(), claimed.whole));
        let left_out = tree::LeftOut::new(claimed).with_own_folders(&self.path);
        if self.exclude.is_empty() {
            return left_out;
        }
        let exclude = self.exclude.clone();
        left_out.excluding(move |path| exclude.iter().any(|exclude| exclude.matches(path)))
    }
}
