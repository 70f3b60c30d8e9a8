use super::proof::{ProofResult, one_line};
use super::{Actual, Backup, Change, Content, FileContent, FileSeen, KeyFile, KeyRead, Proof, PublicFacts, Target};
use crate::failure::Failure;
use crate::host::fs::Removal;
use crate::host::secret::{Origin, how_to_give, yields_nothing};
use crate::resource::Diff;
use crate::resource::regular_file::{AS_ROOT, Replacement, check_readable, check_writable};
use crate::text::shell_word;

pub(super) fn diff(desired: &KeyFile, actual: &Actual) -> Result<Diff<Change>, Failure> {
    let mut diff = Diff::default();
    let path = desired.path.to_string();
    if !actual.leftovers.is_empty() {
        diff.changes.push(Change::RemoveLeftovers { path: path.clone(), names: actual.leftovers.clone() });
    }
    let source = actual.source.as_ref().map(|source| usable(desired, source)).transpose()?;
    let mut bad = match check(desired, actual, source) {
        Some(ProofResult::Proven(note)) => {
            diff.notes.push(note);
            None
        }
        Some(ProofResult::Unproven(warning)) => {
            diff.warnings.push(warning);
            None
        }
        Some(ProofResult::Rejected(refusal)) => Some(refusal),
        None => None,
    };
    let target = match &actual.kept {
        None => actual.target.clone(),
        Some(kept) if kept.is_target || (bad.is_none() && is_finished(&actual.target, source)) => {
            diff.changes.push(Change::RemoveBackup { path: path.clone(), name: kept.name.clone() });
            actual.target.clone()
        }
        Some(kept) => {
            check_writable(&desired.path, actual.denied.as_ref())?;
            diff.changes.push(restore_backup(&path, actual, kept));
            if let Some(refusal) = bad.take() {
                // The restored key is not replaced. The step is blocked once it is in place.
                diff.warnings.push(one_line(&refusal));
                return Ok(diff);
            }
            Target::File(kept.file.clone())
        }
    };
    let found = match &target {
        Target::File(seen) => Some(&seen.file),
        _ => None,
    };
    check_readable(&desired.path, &actual.ownership, found, Some(desired.desired_mode()))?;
    match &target {
        Target::Other { kind, removal } => {
            return Err(Failure::new(format!("{path} is {}, not a file", kind.name()))
                .hint(removal.hint(&desired.path, "correct the path")));
        }
        Target::Missing { missing_parents, foreign_group } => {
            let Some((_, key)) = source else {
                let why = yields_nothing(desired.source.as_ref());
                return Err(Failure::new(format!(
                    "{path} does not exist, and there is no key to create it from: {why}"
                ))
                .hint(how_to_give(desired.source.as_ref(), "source")));
            };
            bad.map_or(Ok(()), Err)?;
            check_writable(&desired.path, actual.denied.as_ref())?;
            actual.ownership.check(&path, actual.ownership.acting_uid, None, AS_ROOT)?;
            let mode = desired.desired_mode();
            actual.ownership.check_set_group_id(&path, mode, foreign_group.as_deref(), AS_ROOT)?;
            diff.changes.push(Change::Create {
                path,
                parents: missing_parents.clone(),
                key: key.clone(),
                mode,
                owner: actual.ownership.owner.clone(),
                group: actual.ownership.group.clone(),
                proven_by: proven_by(desired),
            });
        }
        Target::File(seen) => match source {
            Some((source, key)) if !same(seen, source) => {
                if let Some(Failure { message, hint }) = bad {
                    return Err(Failure { message: format!("{message}; the file is left unchanged"), hint });
                }
                diff_content(desired, actual, seen, key, &mut diff)?;
            }
            source => {
                match bad {
                    Some(refusal) if desired.verify.as_ref().is_some_and(|verify| verify.required) => {
                        return Err(refusal);
                    }
                    refusal => diff.warnings.extend(refusal.as_ref().map(one_line)),
                }
                if source.is_none() {
                    diff.unchecked = desired.source.is_some();
                    diff.notes.push(format!("content not checked: {}", yields_nothing(desired.source.as_ref())));
                    if let FileContent::Read(Content { key: KeyRead::Other(other), .. }) = &seen.content {
                        diff.warnings.push(format!("{path} {}; add a source to replace it", other.reason));
                    }
                }
                let mode = Some(desired.desired_mode());
                let changes = seen.file.attribute_changes(&desired.path, &actual.ownership, mode)?;
                diff.changes.extend(changes.into_iter().map(Change::Attributes));
            }
        },
    }
    report_reader(desired, actual, &mut diff);
    Ok(diff)
}

/// Reports an owner and mode with which `ssh` refuses the key (ssh(1), FILES). Only its owner may be able to read it.
fn report_reader(desired: &KeyFile, actual: &Actual, diff: &mut Diff<Change>) {
    let (mode, acting) = (desired.desired_mode(), actual.ownership.acting_uid);
    let found = match &actual.target {
        Target::File(seen) => Some(seen.file.uid),
        _ => None,
    };
    let owner = actual.ownership.uid().or(found).unwrap_or(acting);
    let is_verified = proven_by(desired).is_some();
    if owner != 0 && mode.bits() & 0o400 == 0 {
        diff.warnings.push(format!("with mode {mode}, the owner of the key cannot read it: set mode: '0400'"));
    } else if mode.bits() & 0o077 != 0 && (is_verified || owner == acting) {
        let text = format!(
            "with mode {mode}, ssh refuses the key when its owner uses it, because others can read it too: set mode: '0400', or another owner"
        );
        if is_verified { diff.warnings.push(text) } else { diff.notes.push(text) }
    }
}

/// Returns the result of the login test with the key that the file should contain.
fn check(desired: &KeyFile, actual: &Actual, source: Option<(&Content, &PublicFacts)>) -> Option<ProofResult> {
    let (verify, proof) = desired.verify.as_ref().zip(actual.proof.as_ref())?;
    let key = match (source, &actual.target) {
        (Some((_, key)), _) => key,
        (None, Target::File(FileSeen { content: FileContent::Read(content), .. })) => content.key.key()?,
        _ => return None,
    };
    Some(verify.check(&format!("the key {}", key.fingerprint), proof))
}

/// Returns whether the file has the desired content, as far as that is known.
fn is_finished(target: &Target, source: Option<(&Content, &PublicFacts)>) -> bool {
    matches!(target, Target::File(seen) if source.is_none_or(|(source, _)| same(seen, source)))
}

fn restore_backup(path: &str, actual: &Actual, kept: &Backup) -> Change {
    let key = |seen: &FileSeen| match &seen.content {
        FileContent::Read(content) => content.key.key().cloned(),
        _ => None,
    };
    let instead_of = match &actual.target {
        Target::File(seen) => key(seen),
        _ => None,
    };
    Change::RestoreBackup { path: path.to_owned(), name: kept.name.clone(), key: key(&kept.file), instead_of }
}

fn proven_by(desired: &KeyFile) -> Option<String> {
    Some(desired.verify.as_ref()?.ssh.as_ref()?.to_string())
}

/// Returns the source's key if it is valid. The file is never replaced by anything else.
fn usable<'a>(desired: &KeyFile, source: &'a Content) -> Result<(&'a Content, &'a PublicFacts), Failure> {
    match &source.key {
        KeyRead::PrivateKey(key) => Ok((source, key)),
        KeyRead::Other(other) => {
            let (from, remedy) = match desired.source.as_ref().map(|source| &source.origin) {
                Some(Origin::File(file)) => {
                    let file = shell_word(file);
                    (format!("the source {file}"), other.remedy.replace("KEY", &file))
                }
                // The value of a variable or a command is not in a file yet.
                Some(origin) if other.remedy.contains("KEY") => {
                    let remedy = format!("correct it at its source, where KEY is the key in a file: {}", other.remedy);
                    (format!("the source, {origin},"), remedy)
                }
                Some(origin) => (format!("the source, {origin},"), other.remedy.clone()),
                None => ("the source".to_owned(), other.remedy.clone()),
            };
            Err(Failure::new(format!("{from} {}", other.reason)).hint(remedy))
        }
    }
}

fn same(seen: &FileSeen, source: &Content) -> bool {
    matches!(&seen.content, FileContent::Read(content) if content.digest == source.digest)
}

/// The content differs or cannot be compared, so a new file replaces the old one.
fn diff_content(
    desired: &KeyFile,
    actual: &Actual,
    seen: &FileSeen,
    key: &PublicFacts,
    diff: &mut Diff<Change>,
) -> Result<(), Failure> {
    let path = &desired.path;
    let (before, before_text) = match &seen.content {
        FileContent::Read(content) => match &content.key {
            KeyRead::PrivateKey(before) => (Some(before.clone()), None),
            KeyRead::Other(other) => (None, Some(format!("a file that {}", other.reason))),
        },
        FileContent::Denied => (None, Some("a file that cannot be read".to_owned())),
        FileContent::TooLarge { size } => {
            return Err(Failure::new(format!("{path} is too large for a key: {size} bytes"))
                .hint(format!("check what it is; {}", Removal::Aside.hint(path, "correct the path"))));
        }
    };
    let ownership = &actual.ownership;
    seen.file.check_replaceable(path, ownership, actual.denied.as_ref())?;
    diff.changes.push(Change::Replace {
        path: path.to_string(),
        before,
        before_text,
        key: key.clone(),
        attributes: Replacement::of(&seen.file, desired.desired_mode(), ownership),
        proven_by: proven_by(desired),
    });
    report_old_key(desired, actual, seen, diff);
    diff.notes.extend(seen.file.replacement_notes(path));
    diff.notes.push(format!("a container that mounts {path} keeps the old content until it is recreated"));
    Ok(())
}

/// Reports whether the remote host still accepts the replaced key.
fn report_old_key(desired: &KeyFile, actual: &Actual, seen: &FileSeen, diff: &mut Diff<Change>) {
    let FileContent::Read(Content { key: KeyRead::PrivateKey(old), .. }) = &seen.content else { return };
    let (Some(bastion), Some(proof)) = (proven_by(desired), &actual.old_proof) else { return };
    let fingerprint = &old.fingerprint;
    match proof {
        Proof::Accepted | Proof::AcceptedInPart(_) => diff.warnings.push(format!(
            "{bastion} still accepts the old key {fingerprint}: remove its line from authorized_keys there"
        )),
        Proof::Rejected(_) => diff.notes.push(format!("{bastion} no longer accepts the old key {fingerprint}")),
        Proof::Unreachable(why) | Proof::HostKey(why) | Proof::Unusable(why) | Proof::Incompatible(why) => {
            diff.notes.push(format!("cannot tell whether {bastion} still accepts the old key {fingerprint}: {why}"));
        }
    }
}
