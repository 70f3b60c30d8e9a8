//! A directory with its owner, group and mode, and with `recursive` the owner and group of everything in it.

use crate::failure::Failure;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::value::{AbsolutePath, Account, Mode, shell_word};
use super::{Claim, Claims, Diff, ExecuteContext, Host, Need, ObserveContext, Resource};
use crate::host::fs::{self, Attributes, Place, tree};

mod actual;
mod change;
mod diff;
#[cfg(test)]
mod tests;

pub use actual::{Actual, Examples, Found, Seen, Tree};
pub use change::Change;

/// The resource as the plan file gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    path: AbsolutePath,
    /// The directory's user; left as it is where none is given.
    #[serde(default)]
    owner: Option<Account>,
    /// The directory's group; left as it is where none is given.
    #[serde(default)]
    group: Option<Account>,
    /// The directory's own mode, compared in all its bits; 0755 where it is created and none is given.
    #[serde(default)]
    mode: Option<Mode>,
    /// Whether owner and group hold for every entry below as well.
    #[serde(default, deserialize_with = "super::value::or_default")]
    recursive: bool,
    #[serde(default, deserialize_with = "super::value::or_default")]
    hard_links: HardLinks,
}

/// What to do with a file that has a second name: changing its owner changes it under the other name too, which may
/// lie outside the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardLinks {
    #[default]
    Refuse,
    Change,
}

impl Resource for Directory {
    const KIND: &'static str = "directory";
    type Actual = Actual;
    type Change = Change;

    fn claims(&self, _host: &dyn Host) -> Claims {
        let path = self.path.to_path_buf();
        Claims {
            needs: vec![Need::Path(path.clone())],
            owns: vec![Claim::Directory { path, recursive: self.recursive }],
            edits: Vec::new(),
        }
    }

    fn manual(&self) -> Vec<String> {
        let path = shell_word(&self.path.to_string_lossy());
        let mut lines = vec![format!("mkdir -p {path}")];
        let recursive = if self.recursive { " -R" } else { "" };
        match (&self.owner, &self.group) {
            (Some(owner), Some(group)) => {
                lines.push(format!("sudo chown{recursive} {} {path}", shell_word(&format!("{owner}:{group}"))));
            }
            (Some(owner), None) => {
                lines.push(format!("sudo chown{recursive} {} {path}", shell_word(&owner.to_string())))
            }
            (None, Some(group)) => {
                lines.push(format!("sudo chgrp{recursive} {} {path}", shell_word(&group.to_string())))
            }
            (None, None) => {}
        }
        lines.extend(self.mode.map(|mode| format!("chmod {mode} {path}")));
        lines
    }

    fn touches(&self, _change: &Change, path: &Path) -> bool {
        path.starts_with(&*self.path) || self.path.starts_with(path)
    }

    async fn observe(&self, cx: &ObserveContext) -> Result<Actual, Failure> {
        actual::observe(self, cx)
    }

    fn diff(&self, actual: &Actual) -> Result<Diff<Change>, Failure> {
        diff::diff(self, actual)
    }

    async fn execute(&self, change: &Change, cx: &ExecuteContext) -> Result<(), Failure> {
        let place = Place::find(&self.path)?;
        match change {
            Change::RemoveLeftovers { .. } => place.remove_leftovers()?,
            Change::Create { owner, group, mode, .. } => {
                let name = place.name.clone();
                let uid = owner.as_ref().map(|owner| owner.id);
                let gid = group.as_ref().map(|group| group.id);
                place.create_parents()?.create_dir(&name, Attributes { uid, gid, mode: mode.bits() })?;
            }
            Change::SetTreeOwner { owner, group, hard_links, .. } => {
                let uid = owner.as_ref().map(|owner| owner.id);
                let gid = group.as_ref().map(|group| group.id);
                let allowed = *hard_links == HardLinks::Change;
                let mut left = cx.max_changes();
                tree::walk(&place.dir.open_dir(&place.name)?, &left_out(cx), |met| {
                    if let tree::Visit::Entry(entry) = met
                        && differs(&entry, uid, gid)
                    {
                        // The tree may have grown since it was counted.
                        left = left.checked_sub(1).ok_or_else(|| self.too_many(cx.max_changes()))?;
                        entry.set_owner(uid, gid, allowed)?;
                    }
                    Ok(())
                })?;
            }
            Change::Attributes(change) => change.execute(&place, &self.present(&place)?)?,
        }
        Ok(())
    }
}

impl Directory {
    fn too_many(&self, most: u64) -> fs::Error {
        fs::Error::refused(
            format!(
                "{} has grown since it was counted: max_changes allows no more than the {most} entries that were changed",
                self.path
            ),
            "run plan to see what is left, then raise max_changes or run apply again",
        )
    }

    /// The directory as it is now, for a change that needs one.
    fn present(&self, place: &Place) -> Result<fs::Stat, Failure> {
        let stat = place.stat()?.filter(|stat| stat.kind == fs::FileKind::Directory);
        stat.ok_or_else(|| {
            Failure::new(format!("{} is no longer a directory", self.path))
                .hint("see who else works there, then run again")
        })
    }
}

/// What the walk leaves to other steps.
fn left_out(cx: &ObserveContext) -> tree::LeftOut {
    tree::LeftOut::new(cx.claimed_below().iter().map(|claimed| (claimed.path.as_path(), claimed.whole)))
}

/// Whether an entry has another owner or group than is wanted.
fn differs(entry: &tree::Entry<'_>, uid: Option<u32>, gid: Option<u32>) -> bool {
    uid.is_some_and(|uid| uid != entry.uid) || gid.is_some_and(|gid| gid != entry.gid)
}
