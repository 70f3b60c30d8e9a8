use super::{Actual, Change, Content, FileContent, FileSeen, KeyFile, KeyRead, PublicFacts, Target};
use crate::resource::{Diff, Refusal, SecretSource};

const AS_ROOT: &str = "give the step run_as: root, or the user that owns the file";

pub(super) fn diff(desired: &KeyFile, actual: &Actual) -> Result<Diff<Change>, Refusal> {
    let mut diff = Diff::default();
    let path = desired.path.to_string();
    if !actual.leftovers.is_empty() {
        diff.changes.push(Change::RemoveLeftovers { path: path.clone(), names: actual.leftovers.clone() });
    }
    let source = actual.source.as_ref().map(|source| usable(desired, source)).transpose()?;
    match &actual.target {
        Target::Other { kind } => {
            return Err(Refusal::new(format!("{path} is {}, not a file", kind.name()))
                .hint("move it away, or give the path of the file itself"));
        }
        Target::Missing { missing_parents } => {
            let Some((_, key)) = source else {
                return Err(Refusal::new(format!("{path} is missing, and there is no source to make it from"))
                    .hint(source_hint(desired)));
            };
            writable(desired, actual)?;
            ownable(desired, actual, actual.acting_uid, None)?;
            diff.changes.push(Change::Create {
                path,
                parents: missing_parents.clone(),
                key: key.clone(),
                mode: desired.wanted_mode(),
                owner: actual.owner.clone(),
                group: actual.group.clone(),
            });
        }
        Target::File(seen) => match source {
            Some((source, key)) if !same(seen, source) => diff_content(desired, actual, seen, key, &mut diff)?,
            source => {
                if source.is_none() {
                    diff.notes.push("content not checked: the source yields nothing".to_owned());
                    if let FileContent::Read(Content { key: KeyRead::Other(other), .. }) = &seen.content {
                        diff.warnings.push(format!("{path} {}; give a source to replace it", other.reason));
                    }
                }
                diff_attributes(desired, actual, seen, &mut diff)?;
            }
        },
    }
    if let Some(bastion) = desired.verify.as_ref().and_then(|verify| verify.ssh.as_ref()) {
        diff.notes.push(format!("not proven against {bastion}: no login with the key was tried"));
    }
    Ok(diff)
}

/// The source's key, where it is one: what is there is never replaced by anything else.
fn usable<'a>(desired: &KeyFile, source: &'a Content) -> Result<(&'a Content, &'a PublicFacts), Refusal> {
    match &source.key {
        KeyRead::PrivateKey(key) => Ok((source, key)),
        KeyRead::Other(other) => {
            let from = match &desired.source {
                Some(SecretSource::File(path)) => format!("the source {}", crate::host::fs::show(path)),
                Some(SecretSource::Env(name)) => format!("the source, environment variable {name},"),
                Some(SecretSource::Command(argv)) => {
                    format!("the output of {}", argv.first().map_or("the command", String::as_str))
                }
                None => "the source".to_owned(),
            };
            Err(Refusal::new(format!("{from} {}", other.reason)).hint(other.remedy.clone()))
        }
    }
}

fn same(seen: &FileSeen, source: &Content) -> bool {
    matches!(&seen.content, FileContent::Read(content) if content.digest == source.digest)
}

/// The content is another one, or cannot be compared: a new file takes the old one's place.
fn diff_content(
    desired: &KeyFile,
    actual: &Actual,
    seen: &FileSeen,
    key: &PublicFacts,
    diff: &mut Diff<Change>,
) -> Result<(), Refusal> {
    let path = &desired.path;
    let (before, before_text) = match &seen.content {
        FileContent::Read(content) => match &content.key {
            KeyRead::PrivateKey(before) => (Some(before.clone()), None),
            KeyRead::Other(other) => (None, Some(format!("a file that {}", other.reason))),
        },
        FileContent::Denied => (None, Some("a file that cannot be read".to_owned())),
        FileContent::TooLarge { size } => {
            return Err(Refusal::new(format!("{path} has {size} bytes, and no key is that large"))
                .hint("see what it is, and move it away if the path is right"));
        }
    };
    if actual.acting_uid != 0 && actual.acting_uid != seen.uid {
        return Err(Refusal::new(format!(
            "{path} belongs to uid {}, and uid {} may not replace it",
            seen.uid, actual.acting_uid
        ))
        .hint(AS_ROOT));
    }
    writable(desired, actual)?;
    ownable(desired, actual, seen.uid, Some(seen.gid))?;
    diff.changes.push(Change::Replace {
        path: path.to_string(),
        before,
        before_text,
        key: key.clone(),
        mode: desired.wanted_mode(),
        uid: actual.owner.as_ref().map_or(seen.uid, |owner| owner.id),
        gid: actual.group.as_ref().map_or(seen.gid, |group| group.id),
    });
    diff.notes.push(format!("a container that mounts {path} keeps the old content until it is recreated"));
    Ok(())
}

/// Owner before mode: a new owner can cost mode bits.
fn diff_attributes(
    desired: &KeyFile,
    actual: &Actual,
    seen: &FileSeen,
    diff: &mut Diff<Change>,
) -> Result<(), Refusal> {
    let path = &desired.path;
    let owner = actual.owner.clone().filter(|owner| owner.id != seen.uid);
    let group = actual.group.clone().filter(|group| group.id != seen.gid);
    let mode = desired.wanted_mode();
    let other_owner = owner.is_some() || group.is_some();
    if !other_owner && mode == seen.mode {
        return Ok(());
    }
    if seen.links > 1 {
        return Err(Refusal::new(format!(
            "{path} has {} hard links: its owner and mode would change under the other names too",
            seen.links
        ))
        .hint("find them with find / -xdev -samefile, or put a copy in its place: cp --remove-destination"));
    }
    if other_owner {
        ownable(desired, actual, seen.uid, Some(seen.gid))?;
        diff.changes.push(Change::SetOwner { path: path.to_string(), uid: seen.uid, gid: seen.gid, owner, group });
    }
    if mode != seen.mode {
        if actual.acting_uid != 0 && actual.acting_uid != seen.uid {
            return Err(Refusal::new(format!(
                "{path} belongs to uid {}, and uid {} may not set its mode",
                seen.uid, actual.acting_uid
            ))
            .hint(AS_ROOT));
        }
        diff.changes.push(Change::SetMode { path: path.to_string(), before: seen.mode, mode });
    }
    Ok(())
}

fn writable(desired: &KeyFile, actual: &Actual) -> Result<(), Refusal> {
    if actual.holder_writable {
        return Ok(());
    }
    let Actual { acting_uid, holder, .. } = actual;
    Err(Refusal::new(format!("{} cannot be written: uid {acting_uid} may not write in {holder}", desired.path))
        .hint("give the step run_as: root, or the user that owns the directory"))
}

/// Whether the acting user may give the wanted owner and group to what now belongs to `uid` and `gid` (`None`: it is
/// yet to be made).
fn ownable(desired: &KeyFile, actual: &Actual, uid: u32, gid: Option<u32>) -> Result<(), Refusal> {
    let acting = actual.acting_uid;
    if acting == 0 {
        return Ok(());
    }
    let path = &desired.path;
    if let Some(owner) = actual.owner.as_ref().filter(|owner| owner.id != uid) {
        return Err(Refusal::new(format!("uid {acting} may not make {owner} the owner of {path}")).hint(AS_ROOT));
    }
    if let Some(group) = actual.group.as_ref().filter(|group| Some(group.id) != gid)
        && (uid != acting || !actual.may_set_group)
    {
        return Err(Refusal::new(format!("uid {acting} may not give {path} to group {group}")).hint(AS_ROOT));
    }
    Ok(())
}

fn source_hint(desired: &KeyFile) -> String {
    match &desired.source {
        Some(SecretSource::Env(name)) => format!("set the environment variable {name} to the key"),
        Some(SecretSource::File(path)) => format!("put the key at {}", crate::host::fs::show(path)),
        Some(SecretSource::Command(argv)) => {
            format!("see why {} prints nothing", argv.first().map_or("the command", String::as_str))
        }
        None => "give `source` a value: the path of the key, such as --var key_source=PATH".to_owned(),
    }
}
