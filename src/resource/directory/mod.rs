//! The kind `directory`: a directory with its owner, group and mode, and with `recursive` the owner and group of everything in it.

use crate::failure::Failure;
use crate::text::shell_word;
use std::path::Path;

use serde::Deserializer;

use super::attributes::of_new;
use super::parents::create_parents;
use super::value::Account;
use super::{
    Claim, Claims, Diff, Effect, ExecuteContext, Host, KeyError, KindInfo, Need, ObserveContext, Resource, Site,
};
use crate::host::fs::{self, Place};
use crate::plan::claim::TreeOwner;

mod actual;
mod adopt;
mod change;
mod desired;
mod diff;
mod entry_rules;
mod exclude;
mod mode_rule;
mod reference;
#[cfg(test)]
mod tests;
mod tree_change;
#[cfg(test)]
mod tree_tests;

pub use actual::{Actual, Examples, Found, LeftToOther, Seen, Tree, Unseen};
pub use change::Change;
pub use desired::{Directory, HardLinks, Recursive};
pub use exclude::Exclude;
pub use mode_rule::ModeRule;
pub use tree_change::TreeChange;

impl Resource for Directory {
    const INFO: KindInfo = KindInfo::on_host("directory");
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
    const ADOPTION: super::adopt::Adoption<Self, Self::Actual> =
        super::adopt::Adoption::Host { probe: adopt::probe, step: adopt::step };
    type Actual = Actual;
    type Change = Change;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Result<Self, KeyError>, D::Error> {
        Self::deserialize(from).map(Self::check)
    }

    fn site(&self) -> Site<'_> {
        Site::host()
    }

    fn claims(&self, _host: &dyn Host) -> Claims {
        let path = self.path.to_path_buf();
        Claims {
            creates: Some(path.clone()),
            needs: vec![Need::Path(path.clone())],
            owns: vec![Claim::Directory { path, tree: self.tree_owner() }],
            edits: Vec::new(),
        }
    }

    fn manual(&self) -> Vec<String> {
        let path = shell_word(&self.path);
        let mut lines = vec![format!("mkdir -p {path}")];
        let (owner, group) = (self.owner.as_ref().map(Account::to_string), self.group.as_ref().map(Account::to_string));
        let chown = |flag: &str, account: &str| format!("sudo chown{flag} {} {path}", shell_word(account));
        let chgrp = |flag: &str, account: &str| format!("sudo chgrp{flag} {} {path}", shell_word(account));
        let below = if self.recursive == Recursive::OwnerAndGroup { " -R" } else { "" };
        match (owner, group) {
            (Some(owner), group) if self.recursive == Recursive::Owner => {
                lines.push(chown(" -R", &owner));
                lines.extend(group.map(|group| chgrp("", &group)));
            }
            (Some(owner), Some(group)) => lines.push(chown(below, &format!("{owner}:{group}"))),
            (Some(owner), None) => lines.push(chown(below, &owner)),
            (None, Some(group)) => lines.push(chgrp(below, &group)),
            (None, None) => {}
        }
        for (mode, kind) in [(&self.dir_mode, 'd'), (&self.file_mode, 'f')] {
            lines.extend(mode.as_ref().map(|mode| {
                let mode = shell_word(mode.to_string());
                format!("find {path} -xdev -mindepth 1 -type {kind} -exec chmod {mode} {{}} +")
            }));
        }
        lines.extend(self.mode.map(|mode| format!("chmod {mode} {path}")));
        if !self.exclude.is_empty() {
            let patterns: Vec<String> = self.exclude.iter().map(|exclude| shell_word(exclude.to_string())).collect();
            lines.push(format!("# exclude these entries below it: {}", patterns.join(" ")));
        }
        lines
    }

    fn effect(&self, _change: &Change, path: &Path) -> Effect {
        if path.starts_with(&*self.path) || self.path.starts_with(path) { Effect::Alters } else { Effect::None }
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
                create_parents(place, cx)?.create_dir(&name, of_new(owner, group, *mode))?;
            }
            Change::Tree(change) => change.execute(self, &place, cx)?,
            Change::Attributes(change) => change.execute(&place, &self.present(&place)?)?,
        }
        Ok(())
    }
}

impl Directory {
    /// Returns what the step gives to directories in its tree, if it has a tree.
    fn tree_owner(&self) -> Option<TreeOwner> {
        let group = self.group.as_ref().filter(|_| self.recursive == Recursive::OwnerAndGroup);
        (self.recursive != Recursive::No).then(|| TreeOwner {
            owner: self.owner.as_ref().map(ToString::to_string),
            group: group.map(ToString::to_string),
            mode: self.dir_mode.as_ref().map(ToString::to_string),
        })
    }

    /// Returns the current state of the directory, for a change that needs it.
    fn present(&self, place: &Place) -> Result<fs::Stat, Failure> {
        let stat = place.stat()?.filter(|stat| stat.kind == fs::FileKind::Directory);
        stat.ok_or_else(|| {
            Failure::new(format!("{} is no longer a directory", self.path))
                .hint("check what else is changing it, then run again")
        })
    }
}
