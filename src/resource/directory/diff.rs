use super::{Actual, Change, Directory, Found, HardLinks, Recursive, Tree, TreeChange};
use crate::host::capabilities::Capability;
use crate::resource::attributes;
use crate::resource::{Diff, Failure};
use crate::text::shell_word;

const AS_ROOT: &str = "give the step run_as: root";

pub(super) fn diff(desired: &Directory, actual: &Actual) -> Result<Diff<Change>, Failure> {
    let mut diff = Diff::default();
    let path = desired.path.to_string();
    if !actual.leftovers.is_empty() {
        diff.changes.push(Change::RemoveLeftovers { path: path.clone(), names: actual.leftovers.clone() });
    }
    if desired.recursive != Recursive::No && desired.entry_rules(&actual.ownership).is_none() {
        diff.notes.push(match desired.recursive {
            Recursive::Owner => "recursive: owner has no effect without owner".to_owned(),
            _ => "recursive has no effect without owner or group".to_owned(),
        });
    }
    match &actual.found {
        Found::Other { kind } => Err(Failure::new(format!("{path} is {}, not a directory", kind.name()))
            .hint("move it away, or give the path of the directory itself")),
        Found::Missing { missing_parents, denied, default_mode } => {
            if let Some(denial) = denied {
                return Err(attributes::refusal(&format!("{path} cannot be created"), denial));
            }
            // A new directory is the acting user's own.
            actual.ownership.check(&path, actual.ownership.acting_uid, None, AS_ROOT)?;
            diff.changes.push(Change::Create {
                path,
                parents: missing_parents.clone(),
                owner: actual.ownership.owner.clone(),
                group: actual.ownership.group.clone(),
                mode: desired.mode.unwrap_or(*default_mode),
            });
            Ok(diff)
        }
        Found::Directory(seen) => {
            if let Some(tree) = &seen.tree {
                diff_tree(desired, actual, tree, &mut diff)?;
            }
            let top = attributes::Seen { denied: seen.denied.clone(), uid: seen.uid, gid: seen.gid, mode: seen.mode };
            let changes = actual.ownership.diff(&path, &top, desired.mode, AS_ROOT)?;
            diff.changes.extend(changes.into_iter().map(Change::Attributes));
            Ok(diff)
        }
    }
}

/// What is in the directory comes before the directory itself: until the end, it keeps out whom it kept out.
fn diff_tree(desired: &Directory, actual: &Actual, tree: &Tree, diff: &mut Diff<Change>) -> Result<(), Failure> {
    let path = &desired.path;
    if tree.mounts.count > 0 {
        diff.notes.push(format!("not entered, since something is mounted there: {}", tree.mounts));
    }
    if !tree.left_to_others.is_empty() {
        let each = tree.left_to_others.iter().map(|left| format!("{} (step `{}`)", left.path, left.step));
        diff.notes.push(format!("left to other steps: {}", each.collect::<Vec<_>>().join(", ")));
    }
    if tree.locked.count > 0 {
        let word = if tree.locked.count == 1 { "is" } else { "are" };
        let first = tree.locked.first.first().map_or(String::new(), |first| shell_word(&format!("{path}/{first}")));
        diff.obstacles.push(
            Failure::new(format!(
                "{} below {path} cannot be changed by anybody, and {word} immutable or append-only (lsattr): {}",
                entries(tree.locked.count),
                tree.locked
            ))
            .hint(format!("as root: chattr -i -a {first}")),
        );
    }
    let Some(rules) = desired.entry_rules(&actual.ownership).filter(|_| tree.differing.count > 0) else {
        return Ok(());
    };
    if let Some(denial) = &tree.read_only {
        let what = format!("{} below {path} cannot be changed", entries(tree.differing.count));
        return Err(attributes::refusal(&what, denial));
    }
    // Whether the numbers are known here, for one entry as for all.
    if actual.ownership.owner_is_unmapped || actual.ownership.group_is_unmapped {
        actual.ownership.check(&format!("what is below {path}"), u32::MAX, None, AS_ROOT)?;
    }
    if tree.beyond_rights.count > 0 {
        return Err(Failure::new(format!(
            "{} may not change {} below {path}: {}",
            actual.ownership.user(),
            entries(tree.beyond_rights.count),
            tree.beyond_rights
        ))
        .hint(actual.ownership.how_to_get(Capability::ChangeOwner, AS_ROOT)));
    }
    if tree.hard_linked.count > 0 && desired.hard_links == HardLinks::Refuse {
        return Err(Failure::new(format!(
            "{} below {path} with more than one hard link would change hands, under the other names too: {}",
            entries(tree.hard_linked.count),
            tree.hard_linked
        ))
        .hint("find the other names with find / -xdev -samefile; if the change is meant, set hard_links: change"));
    }
    diff.changes.push(Change::Tree(Box::new(TreeChange {
        path: path.to_string(),
        rules,
        hard_links: desired.hard_links,
        differing: tree.differing.clone(),
        set_id: tree.set_id.clone(),
        capabilities: tree.capabilities.clone(),
        hard_linked: tree.hard_linked.clone(),
        mounts: tree.mounts.first.clone(),
        oldest: tree.oldest,
    })));
    Ok(())
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}
