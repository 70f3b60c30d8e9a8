use crate::failure::Failure;
use serde::{Deserialize, Serialize};

use super::desired::Directory;
use super::entry_rules::EntryRules;
use super::mode_rule::OWNER_ACCESS;
use crate::host::capabilities::{Capability, keeps_set_group_id};
use crate::host::fs::{self, Denial, FileKind, Place, Removal, tree};
use crate::host::state;
use crate::resource::ObserveContext;
use crate::resource::attributes::{self, AccountNames, Ownership};
use crate::resource::parents::creation_denial;
use crate::resource::value::Mode;

/// The hint for what only root can do.
pub(super) const AS_ROOT: &str = "set run_as: root on the step";
/// The number of paths that a message lists as examples.
const EXAMPLES: usize = 3;
/// The number of mount points of a tree that are recorded, so that one that disappears is noticed.
const MAX_MOUNTS: usize = 1000;

/// What was observed of a directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Actual {
    #[serde(flatten)]
    pub ownership: Ownership,
    /// Temporary entries of a run that was killed.
    #[serde(default)]
    pub leftovers: Vec<String>,
    pub found: Found,
}

/// What is at the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Found {
    Missing {
        /// The parents that are missing too, outermost first.
        missing_parents: Vec<String>,
        /// What prevents the acting user from creating entries in the deepest directory that exists.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<Denial>,
        /// The mode of a new directory if the plan file gives none.
        default_mode: Mode,
        /// The group that it gets from its parent, if chmod(2) clears the set-group-ID bit for the acting user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_group: Option<String>,
    },
    Directory(Box<Seen>),
    /// Something other than a directory exists at the path.
    Other {
        kind: FileKind,
        /// What the message may propose for it.
        #[serde(default, skip_serializing_if = "Removal::is_aside")]
        removal: Removal,
    },
}

/// A directory that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub uid: u32,
    pub gid: u32,
    pub mode: Mode,
    /// The names of its owner and group.
    #[serde(default, skip_serializing_if = "AccountNames::is_empty")]
    pub names: AccountNames,
    /// Its group, if chmod(2) clears the set-group-ID bit for the acting user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_group: Option<String>,
    /// What prevents every user from changing its owner and mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denial>,
    /// Its content, if the plan file requires that.
    pub tree: Option<Tree>,
}

/// Everything below a directory, counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// All entries.
    pub entries: u64,
    /// The entries whose owner, group or mode differs and can be changed.
    pub differing: Examples,
    /// Those of them that are hard-linked and not directories.
    #[serde(default)]
    pub hard_linked: Examples,
    /// Those of them that lose the setuid or setgid bit with the change.
    #[serde(default)]
    pub set_id: Examples,
    /// Those of them that lose their file capabilities with the change.
    #[serde(default, skip_serializing_if = "Examples::is_empty")]
    pub capabilities: Examples,
    /// Those of them that only root can change.
    #[serde(default)]
    pub beyond_rights: Examples,
    /// The privilege that the first of these needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Capability>,
    /// Those of the entries that differ that are directories of the acting user, who is not root and could no longer list or
    /// enter them.
    #[serde(default, skip_serializing_if = "Examples::is_empty")]
    pub closed: Examples,
    /// When the oldest of the entries that differ was created, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<i64>,
    /// The entries that differ and cannot be changed by any user: they are immutable or append-only.
    #[serde(default, skip_serializing_if = "Examples::is_empty")]
    pub locked: Examples,
    /// What cannot be looked at, opened or listed.
    #[serde(default, skip_serializing_if = "Unseen::is_empty")]
    pub unseen: Unseen,
    /// Set if the whole tree is mounted read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<Denial>,
    /// The mount points in the tree, which were not entered.
    #[serde(default)]
    pub mounts: Examples,
    /// The folders in which this program keeps its state and its rescues. Their modes, and those of what is in them, do not matter.
    #[serde(default, skip_serializing_if = "Examples::is_empty")]
    pub own_folders: Examples,
    /// Whether root's state folder is in the tree. It was not inspected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_roots_state: bool,
    /// What other steps own in the tree. It was not inspected.
    #[serde(default)]
    pub left_to_others: Vec<LeftToOther>,
}

/// Entries that cannot be looked at, opened or listed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Unseen {
    pub count: u64,
    /// Whether permissions keep the acting user, who is not root, from some of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_denied: bool,
    /// The first of them in order.
    pub first: Vec<(String, Failure)>,
}

impl Unseen {
    fn add(&mut self, path: std::path::PathBuf, error: fs::Error) {
        self.count += 1;
        self.is_denied |= error.is_denied() && !fs::acts_as_root();
        let path = fs::escape_path(&path);
        let place = self.first.partition_point(|(other, _)| *other < path);
        if place < EXAMPLES {
            self.first.truncate(EXAMPLES - 1);
            self.first.insert(place, (path, error.into()));
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the failure that reports them, if there are any.
    pub fn failure(&self) -> Option<Failure> {
        let first: Vec<Failure> = self.first.iter().map(|(_, failure)| failure.clone()).collect();
        let Failure { message, hint } = Failure::join(&first)?;
        let more = match self.count - first.len() as u64 {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        // Each of several entries may name another owner as the user to run as, and only root is all of them.
        let hint = if self.is_denied && self.count > 1 { Some(AS_ROOT.to_owned()) } else { hint };
        Some(Failure { message: message + &more, hint })
    }
}

/// A path below the directory that another step owns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftToOther {
    pub path: String,
    pub step: String,
}

/// A number of entries, and the first of them in order, by their path below the directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Examples {
    pub count: u64,
    pub first: Vec<String>,
}

impl Examples {
    fn add(&mut self, path: impl FnOnce() -> std::path::PathBuf) {
        self.add_up_to(EXAMPLES, path);
    }

    fn add_up_to(&mut self, max: usize, path: impl FnOnce() -> std::path::PathBuf) {
        self.count += 1;
        let path = fs::escape_path(&path());
        // The order in which a directory lists its entries differs between hosts.
        let place = self.first.partition_point(|other| *other < path);
        if place < max {
            self.first.truncate(max - 1);
            self.first.insert(place, path);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the examples for a message.
    pub fn shown(&self) -> &[String] {
        &self.first[..self.first.len().min(EXAMPLES)]
    }
}

impl std::fmt::Display for Examples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown().join(", "))?;
        match self.count - self.shown().len() as u64 {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

pub(super) fn observe(desired: &Directory, cx: &ObserveContext) -> Result<Actual, Failure> {
    let ownership = Ownership::look_up(desired.owner.as_ref(), desired.group.as_ref())?;
    let place = Place::find(&desired.path)?;
    let found = match place.stat()? {
        None => Found::Missing {
            missing_parents: place.missing_paths().iter().map(|path| fs::escape_path(path)).collect(),
            denied: creation_denial(&place, cx)?,
            default_mode: Mode::from_bits(fs::default_dir_mode(&place.nearest().stat_self()?)),
            foreign_group: attributes::inherited_foreign_group(&place)?,
        },
        Some(stat) if stat.kind == FileKind::Directory => {
            let rules = desired.entry_rules(&ownership);
            let tree = rules.map(|rules| survey(desired, &place, &ownership, &rules, cx)).transpose()?;
            Found::Directory(Box::new(Seen {
                denied: place.parent()?.attribute_denial(&place.name)?,
                uid: stat.uid,
                gid: stat.gid,
                mode: Mode::from_bits(stat.mode),
                names: AccountNames::look_up(stat.uid, stat.gid),
                foreign_group: attributes::foreign_group(stat.gid),
                tree,
            }))
        }
        Some(stat) => Found::Other { kind: stat.kind, removal: place.removal(&stat) },
    };
    Ok(Actual { leftovers: place.leftovers()?, ownership, found })
}

/// Whether root's state folder is below a path.
fn holds_roots_state(path: &std::path::Path) -> bool {
    let folder = std::path::Path::new(state::OF_ROOT);
    path != folder
        && folder.starts_with(path)
        && Place::find(folder).is_ok_and(|place| matches!(place.stat(), Ok(Some(_))))
}

fn survey(
    desired: &Directory,
    place: &Place,
    ownership: &Ownership,
    rules: &EntryRules,
    cx: &ObserveContext,
) -> Result<Tree, Failure> {
    let left_to_others = cx
        .claimed_below()
        .iter()
        .map(|claimed| LeftToOther { path: fs::escape_path(&claimed.path), step: claimed.step.clone() });
    let mut tree = Tree { left_to_others: left_to_others.collect(), ..Tree::default() };
    let top = place.parent()?.open_dir(&place.name)?;
    tree.read_only = top.read_only_mount()?;
    tree.has_roots_state = holds_roots_state(&desired.path);
    tree::survey(&top, &desired.left_out(cx), |visit| {
        let entry = match visit {
            tree::Visit::Mount(path) => {
                tree.mounts.add_up_to(MAX_MOUNTS, || path);
                return Ok(());
            }
            tree::Visit::Failed(path, error) => {
                tree.unseen.add(path, error);
                return Ok(());
            }
            tree::Visit::Entry(entry) => entry,
        };
        tree.entries += 1;
        if entry.own == tree::Own::Folder {
            tree.own_folders.add(|| entry.path());
        }
        let Some(change) = rules.change_of(&entry) else { return Ok(()) };
        if entry.is_locked {
            tree.locked.add(|| entry.path());
            return Ok(());
        }
        let sets_ownership = change.sets_owner || change.sets_group;
        let has_capabilities = match sets_ownership.then(|| entry.has_capabilities()).transpose() {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                tree.unseen.add(entry.path(), error);
                return Ok(());
            }
        };
        tree.differing.add(|| entry.path());
        tree.oldest = Some(tree.oldest.map_or(entry.born, |oldest| oldest.min(entry.born)));
        if entry.links > 1 && entry.kind != FileKind::Directory {
            tree.hard_linked.add(|| entry.path());
        }
        if change.loses_set_id {
            tree.set_id.add(|| entry.path());
        }
        if has_capabilities {
            tree.capabilities.add(|| entry.path());
        }
        let owns = entry.uid == ownership.acting_uid;
        let may_chown = ownership.can(Capability::ChangeOwner)
            || owns && !change.sets_owner && (!change.sets_group || ownership.may_set_group);
        let may_chmod = ownership.can(Capability::FileOwner) || owns;
        let group = rules.group.as_ref().filter(|_| change.sets_group).map_or(entry.gid, |group| group.id);
        let sets_group_id = change.mode.is_some_and(|mode| mode & fs::SET_GROUP_ID != 0);
        let needs = if sets_ownership && !may_chown {
            Some(Capability::ChangeOwner)
        } else if change.mode.is_some() && !may_chmod {
            Some(Capability::FileOwner)
        } else {
            (sets_group_id && !keeps_set_group_id(group)).then_some(Capability::SetId)
        };
        let is_closed = change.mode.is_some_and(|mode| mode & OWNER_ACCESS != OWNER_ACCESS);
        if is_closed && owns && ownership.acting_uid != 0 && entry.kind == FileKind::Directory {
            tree.closed.add(|| entry.path());
        }
        if needs.is_some() {
            tree.beyond_rights.add(|| entry.path());
            tree.needs = tree.needs.or(needs);
        }
        Ok(())
    })?;
    Ok(tree)
}
