use serde::{Deserialize, Serialize};

use super::{KeyFile, KeyRead};
use crate::host::fs::{self, FileKind, Place};
use crate::host::secret::Digest;
use crate::resource::value::{Identity, Mode};
use crate::resource::{Failure, Look};

/// No key is larger, in bytes: RSA keys of 16384 bits take some 13,000.
const LARGEST: u64 = 1 << 20;

/// What was observed of a key file and of the key's source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Actual {
    /// The wanted owner and group, as this host knows them.
    pub owner: Option<Identity>,
    pub group: Option<Identity>,
    /// The user and group that looked, and would make the changes.
    pub acting_uid: u32,
    /// Whether that user may give what it owns to the wanted group.
    pub may_set_group: bool,
    /// The deepest directory on the way to the file that exists.
    pub holder: String,
    /// Whether the acting user may make entries in it.
    pub holder_writable: bool,
    /// Temporary entries of a run that was killed.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// What the source yielded, if it yielded anything.
    pub source: Option<Content>,
    pub target: Target,
}

/// Some bytes, without showing them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    pub digest: Digest,
    pub key: KeyRead,
}

impl Content {
    fn of(look: &Look, bytes: &[u8]) -> Self {
        Self { digest: look.digester().digest(bytes), key: KeyRead::of(bytes) }
    }
}

/// What is at the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Target {
    Missing {
        /// The parents that are missing too, the outermost first.
        missing_parents: Vec<String>,
    },
    File(FileSeen),
    /// Something else has the name.
    Other {
        kind: FileKind,
    },
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileSeen {
    pub uid: u32,
    pub gid: u32,
    pub mode: Mode,
    /// The number of hard links.
    pub links: u64,
    /// Whether the acting user can give a new file the group that this one has.
    #[serde(default = "yes")]
    pub may_keep_group: bool,
    pub content: FileContent,
}

fn yes() -> bool {
    true
}

/// What could be learnt of a file's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "content", rename_all = "snake_case")]
pub enum FileContent {
    Read(Content),
    /// The acting user may not read it.
    Denied,
    /// It is larger than any key.
    TooLarge {
        /// In bytes.
        size: u64,
    },
}

pub(super) fn observe(desired: &KeyFile, look: &Look) -> Result<Actual, Failure> {
    let owner = desired.owner.as_ref().map(|owner| owner.user()).transpose()?;
    let group = desired.group.as_ref().map(|group| group.group()).transpose()?;
    let place = Place::find(&desired.path)?;
    let target = match place.stat()? {
        None => {
            let missing_parents = place.missing_paths().iter().map(|path| fs::show(path)).collect();
            Target::Missing { missing_parents }
        }
        Some(stat) if stat.kind == FileKind::File => Target::File(FileSeen {
            uid: stat.uid,
            gid: stat.gid,
            mode: Mode::from_bits(stat.mode),
            links: stat.links,
            may_keep_group: fs::acts_in_group(stat.gid),
            content: content(&place, &stat, look)?,
        }),
        Some(stat) => Target::Other { kind: stat.kind },
    };
    Ok(Actual {
        acting_uid: fs::acting_ids().0,
        may_set_group: group.as_ref().is_none_or(|group| fs::acts_in_group(group.id)),
        holder: fs::show(place.dir.path()),
        holder_writable: place.dir.is_writable(),
        leftovers: place.leftovers()?,
        source: look.secret().map(|secret| Content::of(look, secret.expose())),
        owner,
        group,
        target,
    })
}

fn content(place: &Place, stat: &fs::Stat, look: &Look) -> Result<FileContent, Failure> {
    if stat.size > LARGEST {
        return Ok(FileContent::TooLarge { size: stat.size });
    }
    match place.dir.read(&place.name, LARGEST) {
        Ok(Some(seen)) => Ok(FileContent::Read(Content::of(look, &seen.bytes))),
        Ok(None) => {
            Err(Failure::new(format!("{} vanished while it was read", fs::show(&place.dir.path_of(&place.name))))
                .hint("see who else works there, then run again"))
        }
        Err(error) if error.is_denied() => Ok(FileContent::Denied),
        Err(error) => Err(error.into()),
    }
}
