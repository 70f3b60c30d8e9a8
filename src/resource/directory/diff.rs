use super::{Actual, Change, Directory, Found, HardLinks, Seen, Tree};
use crate::resource::{Diff, Refusal};

const AS_ROOT: &str = "give the step run_as: root";

pub(super) fn diff(desired: &Directory, actual: &Actual) -> Result<Diff<Change>, Refusal> {
    let mut diff = Diff::default();
    let path = desired.path.to_string();
    if !actual.leftovers.is_empty() {
        diff.changes.push(Change::RemoveLeftovers { path: path.clone(), names: actual.leftovers.clone() });
    }
    if desired.recursive && desired.owner.is_none() && desired.group.is_none() {
        diff.notes.push("recursive has no effect without owner or group".to_owned());
    }
    match &actual.found {
        Found::Other { kind } => Err(Refusal::new(format!("{path} is {}, not a directory", kind.name()))
            .hint("move it away, or give the path of the directory itself")),
        Found::Missing { missing_parents, holder, holder_writable, default_mode } => {
            if !holder_writable {
                return Err(Refusal::new(format!(
                    "{path} cannot be created: uid {} may not write in {holder}",
                    actual.acting_uid
                ))
                .hint(AS_ROOT));
            }
            // A new directory is the acting user's own.
            may_change(desired, actual, actual.acting_uid, None)?;
            diff.changes.push(Change::Create {
                path,
                parents: missing_parents.clone(),
                owner: actual.owner.clone(),
                group: actual.group.clone(),
                mode: desired.mode.unwrap_or(*default_mode),
            });
            Ok(diff)
        }
        Found::Directory(seen) => {
            if let Some(tree) = &seen.tree {
                diff_tree(desired, actual, tree, &mut diff)?;
            }
            diff_top(desired, actual, seen, &mut diff)?;
            Ok(diff)
        }
    }
}

/// What is in the directory comes before the directory itself: until the end, it keeps out whom it kept out.
fn diff_tree(desired: &Directory, actual: &Actual, tree: &Tree, diff: &mut Diff<Change>) -> Result<(), Refusal> {
    let path = &desired.path;
    if tree.mounts.count > 0 {
        diff.notes.push(format!("not entered, since something is mounted there: {}", tree.mounts));
    }
    if !tree.left_to_others.is_empty() {
        let each = tree.left_to_others.iter().map(|left| format!("{} (step `{}`)", left.path, left.step));
        diff.notes.push(format!("left to other steps: {}", each.collect::<Vec<_>>().join(", ")));
    }
    if tree.differing.count == 0 {
        return Ok(());
    }
    if tree.beyond_rights.count > 0 {
        return Err(Refusal::new(format!(
            "uid {} may not set the owner of {} below {path}: {}",
            actual.acting_uid,
            entries(tree.beyond_rights.count),
            tree.beyond_rights
        ))
        .hint(AS_ROOT));
    }
    if tree.hard_linked.count > 0 && desired.hard_links == HardLinks::Refuse {
        return Err(Refusal::new(format!(
            "{} below {path} with more than one hard link would change hands, under the other names too: {}",
            entries(tree.hard_linked.count),
            tree.hard_linked
        ))
        .hint("find the other names with find / -xdev -samefile; if the change is meant, set hard_links: change"));
    }
    diff.changes.push(Change::SetTreeOwner {
        path: path.to_string(),
        owner: actual.owner.clone(),
        group: actual.group.clone(),
        hard_links: desired.hard_links,
        differing: tree.differing.clone(),
        set_id: tree.set_id.clone(),
    });
    Ok(())
}

/// The owner before the mode: a new owner can cost mode bits.
fn diff_top(desired: &Directory, actual: &Actual, seen: &Seen, diff: &mut Diff<Change>) -> Result<(), Refusal> {
    let owner = actual.owner.clone().filter(|owner| owner.id != seen.uid);
    let group = actual.group.clone().filter(|group| group.id != seen.gid);
    if owner.is_some() || group.is_some() {
        may_change(desired, actual, seen.uid, Some(seen.gid))?;
        let (uid, gid) = (seen.uid, seen.gid);
        diff.changes.push(Change::SetOwner { path: desired.path.to_string(), uid, gid, owner, group });
    }
    if let Some(mode) = desired.mode.filter(|mode| *mode != seen.mode) {
        if actual.acting_uid != 0 && actual.acting_uid != seen.uid {
            return Err(Refusal::new(format!(
                "uid {} may not set the mode of {}, which belongs to uid {}",
                actual.acting_uid, desired.path, seen.uid
            ))
            .hint(AS_ROOT));
        }
        diff.changes.push(Change::SetMode { path: desired.path.to_string(), before: seen.mode, mode });
    }
    Ok(())
}

/// Whether the acting user may give the wanted owner and group to what now belongs to `uid` and `gid` (`None`: it is
/// yet to be made).
fn may_change(desired: &Directory, actual: &Actual, uid: u32, gid: Option<u32>) -> Result<(), Refusal> {
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

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}
