use super::actual::{Actual, Content, FileSeen, Target};
use super::change::{Change, Difference};
use super::desired::{File, MAX_FILE_BYTES, NEW_MODE};
use super::text_diff::{self, Shown};
use crate::failure::Failure;
use crate::host::capabilities::Capability;
use crate::host::fs::FileKind;
use crate::host::secret::{Digest, how_to_give, yields_nothing};
use crate::resource::{Diff, attributes};
use crate::text::shell_word;

const AS_ROOT: &str = "set run_as: root on the step, or the user that owns the file";

pub(super) fn diff(desired: &File, actual: &Actual) -> Result<Diff<Change>, Failure> {
    let mut diff = Diff::default();
    let path = desired.path.to_string();
    if !actual.leftovers.is_empty() {
        diff.changes.push(Change::RemoveLeftovers { path: path.clone(), names: actual.leftovers.clone() });
    }
    match &actual.target {
        Target::Other { kind } => {
            let hint = match kind {
                FileKind::Symlink => "give the path of the file that it leads to, or remove the symlink",
                _ => "move it away, or give the path of the file itself",
            };
            return Err(Failure::new(format!("{path} is {}, not a file", kind.name())).hint(hint));
        }
        Target::Missing { missing_parents } => {
            let content = actual.wanted.clone().ok_or_else(|| without_secrets(desired, actual, &path))?;
            writable(desired, actual)?;
            actual.ownership.check(&path, actual.ownership.acting_uid, None, AS_ROOT)?;
            let mode = desired.wanted_mode().unwrap_or(NEW_MODE);
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
        Target::File(seen) => match &actual.wanted {
            Some(wanted) if !holds(seen, wanted) => diff_content(desired, actual, seen, wanted, &mut diff)?,
            wanted => {
                if wanted.is_none() {
                    diff.unchecked = true;
                    diff.notes.push(format!("content not checked: {}", reasons(desired, actual)));
                }
                diff_attributes(desired, actual, seen, &mut diff)?;
            }
        },
    }
    Ok(diff)
}

fn holds(seen: &FileSeen, wanted: &Digest) -> bool {
    matches!(&seen.content, Content::Read { digest, .. } if digest == wanted)
}

/// Why the content is not known, for each secret that is not given.
fn reasons(desired: &File, actual: &Actual) -> String {
    let each = actual.unset.iter().map(|name| yields_nothing(desired.secrets.get(name)));
    each.collect::<Vec<_>>().join("; ")
}

fn without_secrets(desired: &File, actual: &Actual, path: &str) -> Failure {
    let hints: Vec<String> =
        actual.unset.iter().map(|name| how_to_give(desired.secrets.get(name), &format!("secrets.{name}"))).collect();
    Failure::new(format!(
        "{path} is missing, and a secret that belongs in it is not given: {}",
        reasons(desired, actual)
    ))
    .hint(hints.join("; "))
}

/// What may be shown of the way from what is there to what is wanted.
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

/// The content is another one: a new file takes the old one's place.
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
                "{user} may not read {path}, so what it holds could not be kept when it is replaced"
            ))
            .hint(format!("let {user} read it: chmod u+r {}; or set run_as: root on the step", shell_word(&path))));
        }
        Content::TooLarge => {
            return Err(Failure::new(format!(
                "{path} has {} bytes, and a file of more than {} MiB is not replaced",
                seen.size,
                MAX_FILE_BYTES >> 20
            ))
            .hint(format!("see whether the path is right; if it is: mv {0} {0}.old", shell_word(&path))));
        }
    };
    if !ownership.can(Capability::ChangeOwner) && ownership.acting_uid != seen.uid {
        return Err(Failure::new(format!("{path} belongs to uid {}, and {user} may not replace it", seen.uid))
            .hint(ownership.privilege_hint(Capability::ChangeOwner, AS_ROOT)));
    }
    if let Some(denial) = &seen.denied {
        return Err(attributes::refusal(&format!("{path} cannot be written"), denial));
    }
    writable(desired, actual)?;
    ownership.check(&path, seen.uid, Some(seen.gid), AS_ROOT)?;
    if ownership.group.is_none() && !seen.may_keep_group {
        return Err(Failure::new(format!(
            "{path} has group {}, which {user} may not give to the file that replaces it",
            seen.gid
        ))
        .hint("set `group` to one of that user's groups, or set run_as: root on the step"));
    }
    let is_empty = seen.size == 0;
    if let Some(failure) = seen.rescue_denied.as_ref().filter(|_| !is_empty) {
        let message = format!("what {path} holds cannot be kept: {}", failure.message);
        return Err(Failure { message, hint: failure.hint.clone() });
    }
    let mode = desired.wanted_mode().unwrap_or(seen.mode);
    note_readers(desired, mode.bits(), diff);
    diff.changes.push(Change::Replace {
        path,
        before: before.clone(),
        content: wanted.clone(),
        difference: difference(desired, shown),
        is_empty,
        before_mode: seen.mode,
        mode,
        uid: ownership.uid().unwrap_or(seen.uid),
        gid: ownership.gid().unwrap_or(seen.gid),
    });
    if !seen.attributes.is_empty() {
        diff.notes.push(format!("the new file keeps what the old one bears: {}", seen.attributes.join(", ")));
    }
    if seen.links > 1 {
        diff.notes.push(format!(
            "the old content of {} stays under its other names ({} hard links): find them with find / -xdev -samefile",
            desired.path, seen.links
        ));
    }
    Ok(())
}

/// The plan file has asked for it, and its author may not have thought of it.
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

fn diff_attributes(desired: &File, actual: &Actual, seen: &FileSeen, diff: &mut Diff<Change>) -> Result<(), Failure> {
    let path = &desired.path;
    let now = attributes::Seen {
        denied: seen.attributes_denied.as_deref().cloned(),
        uid: seen.uid,
        gid: seen.gid,
        mode: seen.mode,
    };
    let changes = actual.ownership.diff(&path.to_string(), &now, desired.wanted_mode(), AS_ROOT);
    if changes.as_ref().is_ok_and(Vec::is_empty) {
        return Ok(());
    }
    if seen.links > 1 {
        return Err(Failure::new(format!(
            "{path} has {} hard links: its owner and mode would change under the other names too",
            seen.links
        ))
        .hint("find them with find / -xdev -samefile, or put a copy in its place: cp --remove-destination"));
    }
    diff.changes.extend(changes?.into_iter().map(Change::Attributes));
    Ok(())
}

fn writable(desired: &File, actual: &Actual) -> Result<(), Failure> {
    match &actual.denied {
        None => Ok(()),
        Some(denial) => Err(attributes::refusal(&format!("{} cannot be written", desired.path), denial)),
    }
}
