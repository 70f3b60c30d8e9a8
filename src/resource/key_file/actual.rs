use crate::failure::Failure;
use std::ffi::OsStr;

use serde::{Deserialize, Serialize};

use super::replace::MAX_KEY_BYTES;
use super::{KeyFile, KeyRead, Proof, PublicFacts};
use crate::host::fs::{self, Denial, FileKind, Place, Removal};
use crate::host::secret::{Digest, Secret};
use crate::host::thread;
use crate::resource::ObserveContext;
use crate::resource::attributes::{self, Ownership};
use crate::resource::parents::creation_denial;
use crate::resource::regular_file::RegularFile;

/// What was observed of a key file and of the key's source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Actual {
    #[serde(flatten)]
    pub ownership: Ownership,
    /// What prevents the acting user from creating entries in the deepest directory that exists on the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denial>,
    /// Temporary entries of a run that was killed.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// The value of the source, if it has one.
    pub source: Option<Content>,
    pub target: Target,
    /// The backup that an interrupted run kept until the new key was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Box<Backup>>,
    /// The result of a login with the key that the file should contain: the source's key, or else the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The result of a login with the key that is replaced, if it should be retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_proof: Option<Proof>,
}

/// A backup beside the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    /// Its name in the target's directory.
    pub name: String,
    /// Whether the target is still the same inode.
    pub is_target: bool,
    pub file: FileSeen,
}

/// A description of some content that does not show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    pub digest: Digest,
    pub key: KeyRead,
}

impl Content {
    /// Analyses the value of the source. If it is in place, the known result is reused.
    fn of_source(cx: &ObserveContext, bytes: &[u8], target: &Target) -> Self {
        let digest = cx.digester().digest(bytes);
        match target {
            Target::File(FileSeen { content: FileContent::Read(known), .. }) if known.digest == digest => known.clone(),
            _ => Self { digest, key: KeyRead::on_this_host(bytes) },
        }
    }

    /// Analyses a file. If it is what the step wants, nothing replaces it, and `ssh-keygen` is asked only about a doubtful key.
    fn of_file(cx: &ObserveContext, bytes: &[u8], wanted: Option<&Digest>) -> Self {
        let digest = cx.digester().digest(bytes);
        let is_wanted = wanted.is_none_or(|wanted| *wanted == digest);
        let key = if is_wanted { KeyRead::in_use(bytes) } else { KeyRead::on_this_host(bytes) };
        Self { digest, key }
    }
}

/// What is at the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Target {
    Missing {
        /// The parents that are missing too, outermost first.
        missing_parents: Vec<String>,
        /// The group that the file gets from its directory, if chmod(2) clears the set-group-ID bit for the acting user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_group: Option<String>,
    },
    File(FileSeen),
    /// Something other than a file exists at the path.
    Other {
        kind: FileKind,
        /// What the message may propose for it.
        #[serde(default, skip_serializing_if = "Removal::is_aside")]
        removal: Removal,
    },
}

/// A file that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileSeen {
    #[serde(flatten)]
    pub file: RegularFile,
    pub content: FileContent,
}

/// What is known of the content of a file.
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

pub(super) fn observe(desired: &KeyFile, cx: &ObserveContext) -> Result<Actual, Failure> {
    let ownership = Ownership::look_up(desired.owner.as_ref(), desired.group.as_ref())?;
    let key = desired.key(cx);
    let wanted = key.as_ref().map(|key| cx.digester().digest(key.expose()));
    let place = Place::find(&desired.path)?;
    let mut in_place = None;
    let (mut target, target_stat) = match place.stat()? {
        None => {
            let missing_parents = place.missing_paths().iter().map(|path| fs::escape_path(path)).collect();
            let foreign_group = attributes::inherited_foreign_group(&place)?;
            (Target::Missing { missing_parents, foreign_group }, None)
        }
        Some(stat) if stat.kind == FileKind::File => {
            let (seen, bytes) = file(&place, &place.name, &stat, cx, wanted.as_ref())?;
            in_place = bytes;
            (Target::File(seen), Some(stat))
        }
        Some(stat) => (Target::Other { kind: stat.kind, removal: place.removal(&stat) }, Some(stat)),
    };
    let source = key.as_ref().map(|key| Content::of_source(cx, key.expose(), &target));
    let kept = kept(&place, target_stat, cx, wanted.as_ref())?;
    if let (Target::File(seen), Some(_)) = (&mut target, kept.as_ref().filter(|kept| kept.is_target)) {
        // The second name is the backup, which will be removed.
        seen.file.links -= 1;
    }
    let (proof, old_proof) = prove(desired, source.as_ref().zip(key.as_ref()), &target, in_place.as_ref());
    Ok(Actual {
        ownership,
        denied: creation_denial(&place, cx)?,
        leftovers: place.leftovers()?,
        source,
        target,
        kept: kept.map(Box::new),
        proof,
        old_proof,
    })
}

/// Returns a regular file as observed, and its content if it could be read.
fn file(
    place: &Place,
    name: &OsStr,
    stat: &fs::Stat,
    cx: &ObserveContext,
    wanted: Option<&Digest>,
) -> Result<(FileSeen, Option<Secret>), Failure> {
    let (content, bytes) = content(place, name, stat, cx, wanted)?;
    Ok((FileSeen { file: RegularFile::observe(place, name, stat)?, content }, bytes))
}

fn content(
    place: &Place,
    name: &OsStr,
    stat: &fs::Stat,
    cx: &ObserveContext,
    wanted: Option<&Digest>,
) -> Result<(FileContent, Option<Secret>), Failure> {
    if stat.size > MAX_KEY_BYTES {
        return Ok((FileContent::TooLarge { size: stat.size }, None));
    }
    match place.parent()?.read(name, MAX_KEY_BYTES) {
        Ok(Some(seen)) => {
            let content = FileContent::Read(Content::of_file(cx, &seen.bytes, wanted));
            Ok((content, Some(Secret::new(seen.bytes.to_vec()))))
        }
        Ok(None) => Err(Failure::new(format!(
            "{} disappeared while it was read",
            fs::escape_path(&place.parent()?.path_of(name))
        ))
        .hint("check what else is changing it, then run again")),
        Err(error) if error.is_denied() => Ok((FileContent::Denied, None)),
        Err(error) => Err(error.into()),
    }
}

fn kept(
    place: &Place,
    target: Option<fs::Stat>,
    cx: &ObserveContext,
    wanted: Option<&Digest>,
) -> Result<Option<Backup>, Failure> {
    if !place.missing_parents.is_empty() {
        return Ok(None);
    }
    let Some(name) = place.parent()?.leftover_backup(&place.name)? else { return Ok(None) };
    let Some(stat) = place.parent()?.stat(OsStr::new(&name))? else { return Ok(None) };
    let (file, _) = file(place, OsStr::new(&name), &stat, cx, wanted)?;
    Ok(Some(Backup { is_target: target.is_some_and(|target| target.is_same_file(&stat)), name, file }))
}

/// Tests the key that the file should contain, and at the same time the one that should be retired.
fn prove(
    desired: &KeyFile,
    source: Option<(&Content, &Secret)>,
    target: &Target,
    in_place: Option<&Secret>,
) -> (Option<Proof>, Option<Proof>) {
    let Some(verify) = &desired.verify else { return (None, None) };
    let current = match target {
        Target::File(FileSeen { content: FileContent::Read(content), .. }) => content.key.key().zip(in_place),
        Target::Other { .. } => return (None, None),
        _ => None,
    };
    let desired_key = match source {
        Some((source, key)) => source.key.key().zip(Some(key)),
        None => current,
    };
    let old = current.filter(|(facts, _)| verify.retire && desired_key.is_some_and(|(new, _)| new != *facts));
    let try_one = |key: Option<(&PublicFacts, &Secret)>| key.and_then(|(facts, key)| verify.prove(key, facts));
    if old.is_none() {
        return (try_one(desired_key), None);
    }
    let (tried, proof) = thread::join(|| try_one(old), || try_one(desired_key));
    // A thread that panicked has proven nothing.
    (proof, tried.ok().flatten())
}
