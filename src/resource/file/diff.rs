use super::actual::{Actual, Content, FileSeen, Target};
use super::change::{Change, Difference};
use super::desired::{File, MAX_FILE_BYTES, NEW_MODE};
use super::text_diff::{self, Shown};
use crate::failure::Failure;
use crate::host::fs::{Denial, FileKind, Removal, is_needed};
use crate::host::secret::{Digest, how_to_give, yields_nothing};
use crate::host::users::as_root;
use crate::resource::Diff;
use crate::resource::regular_file::{AS_ROOT, Replacement, check_readable, check_writable};
use crate::text::shell_word;

pub(super) fn diff(desired: &File, actual: &Actual) -> Result<Diff<Change>, Failure> {
    let mut diff = Diff { warnings: actual.secret_warnings.clone(), ..Diff::default() };
    let path = desired.path.to_string();
    if !actual.leftovers.is_empty() {
        diff.changes.push(Change::RemoveLeftovers { path: path.clone(), names: actual.leftovers.clone() });
    }
    let found = match &actual.target {
        Target::File(seen) => Some(&seen.file),
        _ => None,
    };
    check_readable(&desired.path, &actual.ownership, found, desired.wanted_mode())?;
    match &actual.target {
        Target::Other { kind, removal } => {
            let hint = match kind {
                FileKind::Symlink if *removal == Removal::Never || is_needed(&desired.path) => {
                    "give the path of the file that it leads to".to_owned()
                }
                FileKind::Symlink => "give the path of the file that it leads to, or remove the symlink".to_owned(),
                _ => removal.hint(&desired.path, "correct the path"),
            };
            return Err(Failure::new(format!("{path} is {}, not a file", kind.name())).hint(hint));
        }
        Target::Missing { missing_parents, foreign_group } => {
            let content = actual.wanted.clone().ok_or_else(|| without_secrets(desired, actual, &path))?;
            check_writable(&desired.path, actual.denied.as_ref())?;
            actual.ownership.check(&path, actual.ownership.acting_uid, None, AS_ROOT)?;
            let mode = desired.wanted_mode().unwrap_or(NEW_MODE);
            actual.ownership.check_set_group_id(&path, mode, foreign_group.as_deref(), AS_ROOT)?;
            note_readers(desired, mode.bits(), &mut diff);
            diff.changes.push(Change::Create {
                path,
                parents: missing_parents.clone(),
                content,
                difference: difference(desired, &Shown::Text(String::new())),
                mode,
                owner: actual.ownership.owner.clone(),
                group: actual.ownership.group.clone(),
            });
        }
        Target::File(_) if matches!(actual.denied, Some(Denial::OfKernel { .. })) => {
            check_writable(&desired.path, actual.denied.as_ref())?;
        }
        Target::File(seen) => match &actual.wanted {
            Some(wanted) if !holds(seen, wanted) => diff_content(desired, actual, seen, wanted, &mut diff)?,
            wanted => {
                if wanted.is_none() {
                    diff.unchecked = true;
                    diff.notes.push(format!("content not checked: {}", reasons(desired, actual)));
                }
                let changes = seen.file.attribute_changes(&desired.path, &actual.ownership, desired.wanted_mode())?;
                diff.changes.extend(changes.into_iter().map(Change::Attributes));
            }
        },
    }
    Ok(diff)
}

fn holds(seen: &FileSeen, wanted: &Digest) -> bool {
    matches!(&seen.content, Content::Read { digest, .. } if digest == wanted)
}

/// Returns why the content is unknown, for each secret without a value.
fn reasons(desired: &File, actual: &Actual) -> String {
    let each = actual.unset.iter().map(|name| yields_nothing(desired.secrets.get(name)));
    each.collect::<Vec<_>>().join("; ")
}

fn without_secrets(desired: &File, actual: &Actual, path: &str) -> Failure {
    let hints: Vec<String> =
        actual.unset.iter().map(|name| how_to_give(desired.secrets.get(name), &format!("secrets.{name}"))).collect();
    Failure::new(format!(
        "{path} does not exist, and cannot be created without its secret: {}",
        reasons(desired, actual)
    ))
    .hint(hints.join("; "))
}

/// Returns what may be shown of the difference between the existing and the desired content.
fn difference(desired: &File, before: &Shown) -> Difference {
    let not_shown = |why: &str| Difference::NotShown { why: why.to_owned() };
    let document = desired.document();
    if !document.secrets().is_empty() {
        return not_shown("not shown: it holds secrets");
    }
    let Some(text) = document.text() else { return not_shown("not shown: a variable in it may be a secret") };
    if desired.is_private() {
        return not_shown("not shown: not everyone may read the file");
    }
    let (old, new) = match (before, text_diff::shown(text.as_bytes())) {
        (Shown::Private, _) => return not_shown("not shown: not everyone may read the file that is there"),
        (Shown::Binary, _) => return not_shown("not shown: the file that is there is binary"),
        (_, Shown::Binary) => return not_shown("not shown: it is binary"),
        (Shown::Text(old), Shown::Text(new)) => (old, new),
        _ => return not_shown("not shown: it is too long"),
    };
    match text_diff::compare(old, &new) {
        Some(change) => Difference::Lines { added: change.added, removed: change.removed, diff: change.lines },
        None => not_shown("not shown: too many lines differ"),
    }
}

/// Plans the replacement of a file that has different content.
fn diff_content(
    desired: &File,
    actual: &Actual,
    seen: &FileSeen,
    wanted: &Digest,
    diff: &mut Diff<Change>,
) -> Result<(), Failure> {
    let path = desired.path.to_string();
    let (ownership, user) = (&actual.ownership, actual.ownership.user());
    let (before, shown) = match &seen.content {
        Content::Read { digest, shown } => (digest, shown),
        Content::Denied => {
            return Err(Failure::new(format!(
                "{user} may not read {path}, so its content could not be rescued before it is replaced"
            ))
            .hint(match seen.file.uid == ownership.acting_uid {
                true => format!(
                    "let {user} read it: `chmod u+r {}`; or set run_as: root on the step",
                    shell_word(&desired.path)
                ),
                // A mode that lets its owner read it would not help this user.
                false => {
                    // The colon also sets the user's own group, because a replacement cannot keep a foreign group.
                    let colon = if seen.file.may_keep_group { "" } else { ":" };
                    let owner = seen.file.names().owner_text(seen.file.uid);
                    let command = format!("chown {}{colon} {}", shell_word(&user), shell_word(&desired.path));
                    format!(
                        "it belongs to {owner}; give it to {user}: `{}`; or set run_as: root on the step",
                        as_root(&command)
                    )
                }
            }));
        }
        Content::TooLarge => {
            return Err(Failure::new(format!(
                "{path} has {} bytes, and a file of more than {} MiB is not replaced",
                seen.size,
                MAX_FILE_BYTES >> 20
            ))
            .hint(Removal::Aside.hint(&desired.path, "correct the path")));
        }
    };
    seen.file.check_replaceable(&desired.path, ownership, actual.denied.as_ref())?;
    let is_empty = seen.size == 0;
    if let Some(failure) = seen.rescue_denied.as_ref().filter(|_| !is_empty) {
        let message = format!("the content of {path} cannot be rescued: {}", failure.message);
        return Err(Failure { message, hint: failure.hint.clone() });
    }
    if let Some(mode) = desired.wanted_mode() {
        ownership.check_set_group_id(&path, mode, seen.file.foreign_group.as_deref(), AS_ROOT)?;
    }
    let mode = desired.wanted_mode().unwrap_or_else(|| seen.file.kept_mode(ownership));
    note_readers(desired, mode.bits(), diff);
    diff.changes.push(Change::Replace {
        path,
        before: before.clone(),
        content: wanted.clone(),
        difference: difference(desired, shown),
        is_empty,
        attributes: Replacement::of(&seen.file, mode, ownership),
    });
    diff.notes.extend(seen.file.replacement_notes(&desired.path));
    Ok(())
}

/// Adds a note if everybody can read a secret. The plan file requests it, but its author may not be aware of it.
fn note_readers(desired: &File, mode: u32, diff: &mut Diff<Change>) {
    let names = desired.document().secrets();
    if mode & 0o004 != 0 && !names.is_empty() {
        let names: Vec<&str> = names.into_iter().collect();
        let plural = if names.len() == 1 { "" } else { "s" };
        diff.notes.push(format!(
            "everybody can read {} (mode {mode:04o}), and with it the secret{plural} {}",
            desired.path,
            names.join(", ")
        ));
    }
}
