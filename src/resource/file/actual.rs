use serde::{Deserialize, Serialize};

use super::desired::{File, MAX_FILE_BYTES, READ_BY_ALL};
use super::text_diff::{self, Shown};
use crate::failure::Failure;
use crate::host::fs::{self, Denial, FileKind, Place, Removal};
use crate::host::secret::Digest;
use crate::host::state::Part;
use crate::resource::attributes::{self, Ownership};
use crate::resource::parents::creation_denial;
use crate::resource::regular_file::RegularFile;
use crate::resource::{ObserveContext, Resource as _};

/// What was observed of a file, and of the secrets in its desired content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Actual {
    #[serde(flatten)]
    pub ownership: Ownership,
    /// What prevents the acting user from creating entries in the deepest existing directory on the way to the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denial>,
    /// Temporary entries of a run that was killed.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// The digest of the desired content. `None` if the source of a secret in it has no value.
    pub wanted: Option<Digest>,
    /// The secrets whose sources have no value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
    /// Warnings about the values of the secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_warnings: Vec<String>,
    pub target: Target,
}

/// What is at the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Target {
    Missing {
        /// The missing parents, the outermost first.
        missing_parents: Vec<String>,
        /// The group that the file gets from its directory, if chmod(2) clears the set-group-ID bit for the acting user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_group: Option<String>,
    },
    File(FileSeen),
    /// Something other than a file.
    Other {
        kind: FileKind,
        /// What the message may propose for it.
        #[serde(default, skip_serializing_if = "Removal::is_aside")]
        removal: Removal,
    },
}

/// An existing file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileSeen {
    #[serde(flatten)]
    pub file: RegularFile,
    /// The size in bytes.
    pub size: u64,
    /// Why its content cannot be kept as a rescue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescue_denied: Option<Failure>,
    pub content: Content,
}

/// What could be learnt about a file's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "content", rename_all = "snake_case")]
pub enum Content {
    Read {
        digest: Digest,
        shown: Shown,
    },
    /// The acting user is not allowed to read it.
    Denied,
    TooLarge,
}

pub(super) fn observe(desired: &File, cx: &ObserveContext) -> Result<Actual, Failure> {
    let ownership = Ownership::look_up(desired.owner.as_ref(), desired.group.as_ref())?;
    let (wanted, unset) = match desired.wanted(cx) {
        Ok(content) => (Some(cx.digester().digest(content.expose())), Vec::new()),
        Err(names) => (None, names),
    };
    let place = Place::find(&desired.path)?;
    let denied = creation_denial(&place, cx)?;
    // The content of such a file is different at each reading.
    let is_read = !matches!(denied, Some(Denial::OfKernel { .. }));
    let target = match place.stat()? {
        None => {
            let missing_parents = place.missing_paths().iter().map(|path| fs::escape_path(path)).collect();
            Target::Missing { missing_parents, foreign_group: attributes::inherited_foreign_group(&place)? }
        }
        Some(stat) if stat.kind == FileKind::File => Target::File(file(desired, &place, &stat, is_read, cx)?),
        Some(stat) => Target::Other { kind: stat.kind, removal: place.removal(&stat) },
    };
    let secret_warnings = desired.site().secret_warnings(cx);
    Ok(Actual { ownership, denied, leftovers: place.leftovers()?, wanted, unset, secret_warnings, target })
}

fn file(
    desired: &File,
    place: &Place,
    stat: &fs::Stat,
    is_read: bool,
    cx: &ObserveContext,
) -> Result<FileSeen, Failure> {
    let file = RegularFile::observe(place, &place.name, stat)?;
    let has_list = file.attributes.iter().any(|name| name == fs::ACCESS_LIST);
    Ok(FileSeen {
        size: stat.size,
        rescue_denied: cx.state_folder()?.check_writable(Part::Rescues).err(),
        content: if is_read { content(desired, place, stat, has_list, cx)? } else { Content::Denied },
        file,
    })
}

fn content(
    desired: &File,
    place: &Place,
    stat: &fs::Stat,
    has_list: bool,
    cx: &ObserveContext,
) -> Result<Content, Failure> {
    if stat.size > MAX_FILE_BYTES {
        return Ok(Content::TooLarge);
    }
    match place.parent()?.read(&place.name, MAX_FILE_BYTES) {
        Ok(Some(seen)) => {
            let digest = cx.digester().digest(&seen.bytes);
            // An access list or a directory above can exclude users whom the mode includes.
            let is_open = || place.parent().is_ok_and(|parent| parent.is_open_to_all().unwrap_or(false));
            let is_private = seen.stat.mode & READ_BY_ALL == 0 || has_list || desired.is_private() || !is_open();
            let shown = if is_private { Shown::Private } else { text_diff::shown(&seen.bytes) };
            Ok(Content::Read { digest, shown })
        }
        Ok(None) => Err(Failure::new(format!("{} vanished while it was read", desired.path))
            .hint("check what else is changing it, then run again")),
        Err(error) if error.is_denied() => Ok(Content::Denied),
        Err(error) => Err(error.into()),
    }
}
