//! The kind `directory`: a directory with its owner, group and mode, and with `recursive` those of everything in it.

use crate::failure::Failure;
use crate::text::shell_word;
use std::path::Path;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::attributes::{Ownership, create_parents};
use super::value::{AbsolutePath, Account, Mode};
use super::{
    Claim, Claims, Diff, Effect, ExecuteContext, Host, KeyError, KindInfo, Need, ObserveContext, Resource, Segment,
    Site,
};
use crate::host::fs::{self, Attributes, Place, tree};
use crate::plan::claim::TreeOwner;
use tree_change::EntryRules;

mod actual;
mod change;
mod diff;
mod exclude;
mod mode_rule;
mod reference;
#[cfg(test)]
mod tests;
mod tree_change;
#[cfg(test)]
mod tree_tests;

pub use actual::{Actual, Examples, Found, LeftToOther, Seen, Tree};
pub use change::Change;
pub use exclude::Exclude;
pub use mode_rule::ModeRule;
pub use tree_change::TreeChange;

/// The resource as written in the plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Directory {
    path: AbsolutePath,
    /// The user of the directory. Left unchanged if not given.
    #[serde(default)]
    owner: Option<Account>,
    /// The group of the directory. Left unchanged if not given.
    #[serde(default)]
    group: Option<Account>,
    /// The mode of the directory itself, compared in all its bits. A new directory gets 0755 if it is not given.
    #[serde(default)]
    mode: Option<Mode>,
    /// What also applies to every entry below.
    #[serde(default, deserialize_with = "super::value::or_default")]
    recursive: Recursive,
    /// The mode of every directory below. Left unchanged if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dir_mode: Option<ModeRule>,
    /// The mode of every regular file below. Left unchanged if not given. Symlinks have no mode, and those of sockets,
    /// FIFOs and devices are not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_mode: Option<ModeRule>,
    /// Entries below that are excluded.
    #[serde(default, deserialize_with = "super::value::or_default", skip_serializing_if = "Vec::is_empty")]
    exclude: Vec<Exclude>,
    #[serde(default, deserialize_with = "super::value::or_default")]
    hard_links: HardLinks,
}

/// What the entries below share with the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recursive {
    /// Nothing.
    #[default]
    No,
    /// Owner and group.
    OwnerAndGroup,
    /// Only the owner. The group of an entry is that of the process that writes it.
    Owner,
}

impl Serialize for Recursive {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => to.serialize_bool(false),
            Self::OwnerAndGroup => to.serialize_bool(true),
            Self::Owner => to.serialize_str("owner"),
        }
    }
}

impl<'de> Deserialize<'de> for Recursive {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Recursive;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or `owner`")
            }

            fn visit_bool<E: Error>(self, yes: bool) -> Result<Recursive, E> {
                Ok(if yes { Recursive::OwnerAndGroup } else { Recursive::No })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Recursive, E> {
                if text == "owner" { Ok(Recursive::Owner) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
            }
        }
        from.deserialize_any(Reader)
    }
}

/// How to handle a file with several names. Changing its owner changes it under its other names too, which may be
/// outside the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardLinks {
    #[default]
    Refuse,
    Change,
}

impl Serialize for Directory {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Directory {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::deserialize(from)?.check().map_err(D::Error::custom)
    }
}

impl Directory {
    fn check(self) -> Result<Self, KeyError> {
        let of_entries = [
            self.dir_mode.as_ref().map(|_| "dir_mode"),
            self.file_mode.as_ref().map(|_| "file_mode"),
            self.exclude.first().map(|_| "exclude"),
        ];
        match of_entries.into_iter().flatten().next() {
            Some(key) if self.recursive == Recursive::No => {
                let message = format!(
                    "`{key}` applies to the entries below: set `recursive: true`, or `recursive: owner` for their owner only"
                );
                Err(KeyError::new(message).of([Segment::Key(key)]))
            }
            _ => Ok(self),
        }
    }
}

impl Resource for Directory {
    const INFO: KindInfo = KindInfo::on_host("directory");
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
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
            needs: vec![Need::Path(path.clone())],
            owns: vec![Claim::Directory { path, tree: self.tree_owner() }],
            edits: Vec::new(),
        }
    }

    fn manual(&self) -> Vec<String> {
        let path = shell_word(&self.path.to_string_lossy());
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
                let mode = shell_word(&mode.to_string());
                format!("find {path} -xdev -mindepth 1 -type {kind} -exec chmod {mode} {{}} +")
            }));
        }
        lines.extend(self.mode.map(|mode| format!("chmod {mode} {path}")));
        if !self.exclude.is_empty() {
            let patterns: Vec<String> = self.exclude.iter().map(|exclude| shell_word(&exclude.to_string())).collect();
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
                let uid = owner.as_ref().map(|owner| owner.id);
                let gid = group.as_ref().map(|group| group.id);
                create_parents(place, cx)?.create_dir(&name, Attributes { uid, gid, mode: mode.bits() })?;
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

impl Directory {
    /// Returns the desired attributes of the entries below, or `None` if there are none.
    fn entry_rules(&self, ownership: &Ownership) -> Option<EntryRules> {
        let rules = EntryRules {
            owner: ownership.owner.clone(),
            group: ownership.group.clone().filter(|_| self.recursive == Recursive::OwnerAndGroup),
            dir_mode: self.dir_mode.clone(),
            file_mode: self.file_mode.clone(),
        };
        (self.recursive != Recursive::No && !rules.is_empty()).then_some(rules)
    }

    /// Returns what the walk skips: what other steps own, and excluded entries.
    fn left_out(&self, cx: &ObserveContext) -> tree::LeftOut {
        let claimed = cx.claimed_below().iter().map(|claimed| (claimed.path.as_path(), claimed.whole));
        let left_out = tree::LeftOut::new(claimed);
        if self.exclude.is_empty() {
            return left_out;
        }
        let exclude = self.exclude.clone();
        left_out.excluding(move |path| exclude.iter().any(|exclude| exclude.matches(path)))
    }
}
