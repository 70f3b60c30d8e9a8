use crate::failure::Failure;
use serde::{Deserialize, Serialize};

use super::{Directory, differs, left_out};
use crate::host::fs::{self, FileKind, Place, tree};
use crate::resource::ObserveContext;
use crate::resource::attributes::Ownership;
use crate::resource::value::Mode;

/// How many paths stand for all in a message.
const EXAMPLES: usize = 3;

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
        /// The parents that are missing too, the outermost first.
        missing_parents: Vec<String>,
        /// The deepest directory that exists.
        holder: String,
        /// Whether the acting user may make entries in it.
        holder_writable: bool,
        /// The mode of a new directory where the plan file gives none.
        default_mode: Mode,
    },
    Directory(Seen),
    /// Something else has the name.
    Other {
        kind: FileKind,
    },
}

/// A directory that is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub uid: u32,
    pub gid: u32,
    pub mode: Mode,
    /// What is in it, where the plan file asks for that.
    pub tree: Option<Tree>,
}

/// Everything below a directory, counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// All entries.
    pub entries: u64,
    /// Those that have another owner or group than is wanted.
    pub differing: Examples,
    /// Those of them that are hard-linked and no directory.
    #[serde(default)]
    pub hard_linked: Examples,
    /// Those of them that have the setuid or setgid bit and lose it with the change, as chown(2) says.
    #[serde(default)]
    pub set_id: Examples,
    /// Those of them that only root can change.
    #[serde(default)]
    pub beyond_rights: Examples,
    /// What is mounted in the tree, and was not entered.
    #[serde(default)]
    pub mounts: Examples,
    /// What other steps own in the tree: it was not looked at.
    #[serde(default)]
    pub left_to_others: Vec<LeftToOther>,
}

/// A path below the directory that another step owns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftToOther {
    pub path: String,
    pub step: String,
}

/// How many there are, and the first few of them, by their path below the directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Examples {
    pub count: u64,
    pub first: Vec<String>,
}

impl Examples {
    fn add(&mut self, path: impl FnOnce() -> std::path::PathBuf) {
        self.count += 1;
        if self.first.len() < EXAMPLES {
            self.first.push(fs::escape_path(&path()));
        }
    }
}

impl std::fmt::Display for Examples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count - self.first.len() as u64 {
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
            holder: fs::escape_path(place.dir.path()),
            holder_writable: place.dir.is_writable(),
            default_mode: Mode::from_bits(fs::default_dir_mode(&place.dir.stat_self()?)),
        },
        Some(stat) if stat.kind == FileKind::Directory => {
            let walked = desired.recursive && (ownership.owner.is_some() || ownership.group.is_some());
            let tree = if walked { Some(survey(&place, &ownership, cx)?) } else { None };
            Found::Directory(Seen { uid: stat.uid, gid: stat.gid, mode: Mode::from_bits(stat.mode), tree })
        }
        Some(stat) => Found::Other { kind: stat.kind },
    };
    Ok(Actual { leftovers: place.leftovers()?, ownership, found })
}

fn survey(place: &Place, ownership: &Ownership, cx: &ObserveContext) -> Result<Tree, Failure> {
    let (uid, gid) = (ownership.uid(), ownership.gid());
    let (acting_uid, may_set_group) = (ownership.acting_uid, ownership.may_set_group);
    let left_to_others = cx
        .claimed_below()
        .iter()
        .map(|claimed| LeftToOther { path: fs::escape_path(&claimed.path), step: claimed.step.clone() });
    let mut tree = Tree { left_to_others: left_to_others.collect(), ..Tree::default() };
    tree::walk(&place.dir.open_dir(&place.name)?, &left_out(cx), |met| {
        let entry = match met {
            tree::Visit::Mount(path) => {
                tree.mounts.add(|| path);
                return Ok(());
            }
            tree::Visit::Entry(entry) => entry,
        };
        tree.entries += 1;
        if !differs(&entry, uid, gid) {
            return Ok(());
        }
        tree.differing.add(|| entry.path());
        if entry.links > 1 && entry.kind != FileKind::Directory {
            tree.hard_linked.add(|| entry.path());
        }
        if entry.mode & 0o6000 != 0 && entry.kind == FileKind::File {
            tree.set_id.add(|| entry.path());
        }
        let keeps_owner = uid.is_none_or(|uid| uid == entry.uid) && entry.uid == acting_uid;
        if acting_uid != 0 && !(keeps_owner && may_set_group) {
            tree.beyond_rights.add(|| entry.path());
        }
        Ok(())
    })?;
    Ok(tree)
}
