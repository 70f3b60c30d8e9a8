//! Rescues of the previous content of files, in the state folder of the step's user, where nobody else can read them.
//!
//! A rescue is one file, named after the run. It has a line of JSON about the original file, and then that file's bytes.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::desired::MAX_FILE_BYTES;
use crate::failure::Failure;
use crate::host::fs::{self, Attributes, Dir, FileKind, FileSeen, Place, escape_path};
use crate::host::state::{self, Access, Part};
use crate::resource::value::{AbsolutePath, Mode};
use crate::resource::{ExecuteContext, Rescue, RescueAnswer, Restoring};
use crate::text::{io_error_text, plural, shell_word};

/// The version of the first line.
const FORMAT: u32 = 1;
/// The maximum size of the first line. A path has at most 4096 bytes, each of which takes up to six in JSON. The rest is small.
const MAX_HEADER_BYTES: u64 = 32 << 10;
/// Only the owner can read a rescue, whoever could read the file.
const MODE: u32 = 0o600;

/// The original file of a rescue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format: u32,
    path: String,
    uid: u32,
    gid: u32,
    mode: Mode,
    size: u64,
}

/// A rescue of the content of a file.
pub(super) struct Kept {
    pub(super) id: String,
    /// Whether it was created by this call.
    is_new: bool,
    dir: Dir,
}

impl Kept {
    /// Removes the rescue if it was created by this call, because the file was not replaced.
    ///
    /// # Errors
    /// The rescue cannot be removed.
    fn discard(&self) -> Result<(), Failure> {
        if self.is_new { state::remove(&self.dir, &self.id) } else { Ok(()) }
    }
}

/// Rescues the content of the file at `path`. The id of the rescue begins with that of the run. If an interrupted run has
/// already made a rescue of the same content, that one is used. An empty file needs no rescue.
pub(super) fn keep(cx: &ExecuteContext, path: &AbsolutePath, seen: &FileSeen) -> Result<Option<Kept>, Failure> {
    if seen.bytes.is_empty() {
        return Ok(None);
    }
    let header = Header {
        format: FORMAT,
        path: text(path),
        uid: seen.stat.uid,
        gid: seen.stat.gid,
        mode: Mode::from_bits(seen.stat.mode),
        size: seen.stat.size,
    };
    let dir = cx.state_folder()?.make(Part::Rescues)?;
    dir.remove_all_leftovers()?;
    if let Some((id, newest)) = all(&dir, path)?.pop()
        && newest == header
        && read(&dir, &id, path)?.1 == *seen.bytes
    {
        return Ok(Some(Kept { id, is_new: false, dir }));
    }
    let line = serde_json::to_string(&header)
        .map_err(|error| Failure::new(format!("cannot describe the rescue of {path}: {error}")))?;
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(line.len() + 1 + seen.bytes.len()));
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&seen.bytes);
    let base = id_in(cx.run(), &header.path);
    let mut number = 1;
    loop {
        let id = if number == 1 { base.clone() } else { format!("{base}-{number}") };
        match dir.create(id.as_ref(), &bytes, Attributes { uid: None, gid: None, mode: MODE }) {
            Ok(()) => return Ok(Some(Kept { id, is_new: true, dir })),
            // This run has already rescued the file.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Replaces the file `seen`, which was rescued. If this fails and the file still exists, the rescue is removed again.
///
/// # Errors
/// As [`Dir::replace`].
pub(super) fn replace(
    place: &Place,
    seen: &FileSeen,
    bytes: &[u8],
    attributes: Attributes,
    kept: Option<&Kept>,
) -> Result<(), Failure> {
    let dir = place.parent()?;
    let result = dir.replace_read(&place.name, bytes, seen, attributes);
    let is_there = || dir.stat(&place.name).is_ok_and(|stat| stat.is_some_and(|stat| stat.is_same_file(&seen.stat)));
    if let Some(kept) = kept.filter(|_| result.is_err() && is_there()) {
        // The first error is reported. A rescue that stays is listed.
        let _ = kept.discard();
    } else if let (Some(kept), Err(error)) = (kept, &result) {
        let failure = Failure::from(error.clone());
        let hint = failure.hint.map_or_else(String::new, |hint| format!("{hint}; "));
        let hint = format!("{hint}the old content is in the rescue {}", kept.id);
        return Err(Failure { message: failure.message, hint: Some(hint) });
    }
    Ok(result?)
}

/// Returns the id of a run's first rescue of a file. The run may rescue a checkout too, or files of several users, so the id
/// depends on the path.
pub(super) fn id_in(run: &str, path: &str) -> String {
    format!("{run}-{}", &blake3::hash(path.as_bytes()).to_hex()[..8])
}

/// Returns the rescues of the file at `path`, the oldest first.
pub(super) fn list(cx: &ExecuteContext, path: &AbsolutePath) -> Result<Vec<Rescue>, Failure> {
    let Some(dir) = cx.state_folder()?.existing(Part::Rescues)? else { return Ok(Vec::new()) };
    let rescue = |(id, header): (String, Header)| {
        let place = dir.path_of(id.as_ref());
        Rescue {
            place: escape_path(&place),
            subject: format!("the old content of {path} ({}, mode {})", bytes_text(header.size), header.mode),
            files: vec![path.to_string()],
            way_back: None,
            delete: format!("rm {}", shell_word(place)),
            undoes: Some(format!("restoring it undoes what was written to {path} since")),
            elsewhere: None,
            id,
        }
    };
    Ok(all(&dir, path)?.into_iter().map(rescue).collect())
}

/// Returns the bytes of a rescue.
///
/// # Errors
/// The file has no such rescue.
pub(super) fn content(cx: &ExecuteContext, path: &AbsolutePath, id: &str) -> Result<Vec<u8>, Failure> {
    let dir = cx.state_folder()?.existing(Part::Rescues)?.ok_or_else(|| unknown(path, id))?;
    Ok(read(&dir, id, path)?.1)
}

/// Restores a rescue. The current content of the file is rescued first.
///
/// # Errors
/// The file has no such rescue, or cannot be restored at its path.
pub(super) fn restore(cx: &ExecuteContext, path: &AbsolutePath, wanted: &Restoring) -> Result<RescueAnswer, Failure> {
    let id = wanted.id.as_str();
    let dir = cx.state_folder()?.existing(Part::Rescues)?.ok_or_else(|| unknown(path, id))?;
    let (header, bytes) = read(&dir, id, path)?;
    if let Some((_, owner)) = wanted.claimed.iter().find(|(claimed, _)| *claimed == **path) {
        return Err(Failure::new(format!("{path} belongs to the step `{owner}` now: a restore does not overwrite it"))
            .hint("write the rescue to a new directory: add `--to DIR` to the command"));
    }
    let place = Place::find(path)?;
    if !place.missing_parents.is_empty() {
        let parent = path.parent().map(shell_word).unwrap_or_default();
        return Err(
            Failure::new(format!("the directory of {path} is missing")).hint(format!("create it: `mkdir -p {parent}`"))
        );
    }
    let mut notes = Vec::new();
    // Only root can give a file to others. A file that another user restores belongs to that user.
    let owns_all = fs::acts_as_root();
    let gid = (owns_all || fs::acts_in_group(header.gid)).then_some(header.gid);
    let attributes = Attributes { uid: owns_all.then_some(header.uid), gid, mode: header.mode.bits() };
    match place.stat()? {
        None => place.parent()?.create(&place.name, &bytes, attributes)?,
        Some(stat) if stat.kind == FileKind::File => {
            let seen = place.parent()?.read(&place.name, MAX_FILE_BYTES)?.ok_or_else(|| {
                Failure::new(format!("{path} vanished while it was read"))
                    .hint("check what else is changing it, then run again")
            })?;
            if *seen.bytes == *bytes && seen.stat.mode == header.mode.bits() {
                return Ok(RescueAnswer::Restore { paths: Vec::new(), notes });
            }
            let kept = keep(cx, path, &seen)?;
            let (uid, gid) = (attributes.uid.unwrap_or(seen.stat.uid), attributes.gid.unwrap_or(seen.stat.gid));
            let attributes = Attributes { uid: Some(uid), gid: Some(gid), ..attributes };
            replace(&place, &seen, &bytes, attributes, kept.as_ref())?;
            notes.extend(kept.map(|kept| format!("rescued   what {path} held until now: {}", kept.id)));
        }
        Some(stat) => {
            return Err(Failure::new(format!("{path} is {}, not a file", stat.kind.name())).hint(
                place.removal(&stat).hint(path, "write the rescue to a new directory: add `--to DIR` to the command"),
            ));
        }
    }
    if !wanted.is_past {
        notes
            .push("the next apply of the step replaces it again: change its content in the plan file first".to_owned());
    }
    Ok(RescueAnswer::Restore { paths: vec![path.to_string()], notes })
}

/// Returns the ids and headers of the rescues of one file, the oldest first. Skips other files.
fn all(dir: &Dir, path: &AbsolutePath) -> Result<Vec<(String, Header)>, Failure> {
    let path = text(path);
    let mut found = Vec::new();
    // Ids begin with the time.
    for id in state::names(dir)? {
        let header = open(dir, &id)?.map(|(header, _)| header);
        found.extend(header.filter(|header| header.path == path).map(|header| (id, header)));
    }
    Ok(found)
}

/// Returns the header and the content of the rescue with this id.
fn read(dir: &Dir, id: &str, path: &AbsolutePath) -> Result<(Header, Vec<u8>), Failure> {
    let is_name = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !id.is_empty();
    let found = if is_name { open(dir, id)? } else { None };
    let (header, rest) = found.filter(|(header, _)| header.path == text(path)).ok_or_else(|| unknown(path, id))?;
    let mut bytes = Vec::new();
    rest.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("cannot read the rescue {id} of {path}: {}", io_error_text(&error))))?;
    if bytes.len() as u64 != header.size {
        let place = escape_path(&dir.path_of(id.as_ref()));
        let named = bytes_text(header.size);
        return Err(Failure::new(format!("the rescue {place} is damaged: it does not have the {named} that it names"))
            .hint("see whether a backup of the state folder has it"));
    }
    Ok((header, bytes))
}

/// Returns the first line of a rescue, and the file at the position after it. `None` if the file is not a rescue.
fn open(dir: &Dir, id: &str) -> Result<Option<(Header, BufReader<std::fs::File>)>, Failure> {
    let Some(file) = state::open(dir, id, Access::Read)? else { return Ok(None) };
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    let read = file.by_ref().take(MAX_HEADER_BYTES).read_until(b'\n', &mut line);
    read.map_err(|error| {
        Failure::new(format!("cannot read {}: {}", escape_path(&dir.path_of(id.as_ref())), io_error_text(&error)))
    })?;
    let header: Option<Header> = serde_json::from_slice(&line).ok();
    Ok(header.filter(|header| header.format == FORMAT).map(|header| (header, file)))
}

fn unknown(path: &AbsolutePath, id: &str) -> Failure {
    Failure::new(format!("{path} has no rescue `{id}`"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn bytes_text(count: u64) -> String {
    plural(usize::try_from(count).unwrap_or(usize::MAX), "byte")
}
