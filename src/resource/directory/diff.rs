use super::actual::AS_ROOT;
use super::mode_rule::{OWNER_ACCESS, mode_with_access};
use super::{Actual, Change, Directory, Found, HardLinks, Recursive, Tree, TreeChange};
use crate::host::capabilities::Capability;
use crate::host::fs::FileKind;
use crate::host::state::OF_ROOT;
use crate::host::users::as_root;
use crate::resource::attributes;
use crate::resource::regular_file::hard_links_command;
use crate::resource::{Diff, Failure};
use crate::text::{path_of_name, shell_word};

/// The other remedy for a mode that locks the acting user out.
const ONLY_ROOT: &str = "run_as: root if only root is to enter";

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
    diff.warnings.extend(closing_modes(desired));
    match &actual.found {
        Found::Other { kind, removal } => Err(Failure::new(format!("{path} is {}, not a directory", kind.name()))
            .hint(removal.hint(&desired.path, "correct the path"))),
        Found::Missing { missing_parents, denied, default_mode, foreign_group } => {
            if let Some(denial) = denied {
                return Err(attributes::refusal(&format!("cannot create {path}"), denial));
            }
            check_access(desired, actual, actual.ownership.acting_uid)?;
            // A new directory belongs to the acting user.
            actual.ownership.check(&path, actual.ownership.acting_uid, None, AS_ROOT)?;
            if let Some(mode) = desired.mode {
                actual.ownership.check_set_group_id(&path, mode, foreign_group.as_deref(), AS_ROOT)?;
            }
            diff.changes.push(Change::Create {
                path,
                parents: missing_parents.clone(),
                owner: actual.ownership.owner.clone(),
                group: actual.ownership.group.clone(),
                mode: desired
                    .mode
                    .unwrap_or_else(|| actual.ownership.mode_that_holds(*default_mode, foreign_group.as_deref())),
            });
            Ok(diff)
        }
        Found::Directory(seen) => {
            check_access(desired, actual, seen.uid)?;
            if let Some(tree) = &seen.tree {
                diff_tree(desired, actual, tree, &mut diff)?;
            }
            let top = attributes::Seen {
                denied: seen.denied.clone(),
                uid: seen.uid,
                gid: seen.gid,
                mode: seen.mode,
                kind: FileKind::Directory,
                names: seen.names.clone(),
                foreign_group: seen.foreign_group.clone(),
                may_keep_group: true,
                has_capabilities: false,
            };
            let changes = actual.ownership.diff(&path, &top, desired.mode, AS_ROOT)?;
            diff.changes.extend(changes.into_iter().map(Change::Attributes));
            Ok(diff)
        }
    }
}

/// The content comes before the directory itself, so that access to it does not change before the end.
fn diff_tree(desired: &Directory, actual: &Actual, tree: &Tree, diff: &mut Diff<Change>) -> Result<(), Failure> {
    let path = &desired.path;
    if tree.mounts.count > 0 {
        diff.notes.push(format!("mount points are skipped: {}", tree.mounts));
    }
    if !tree.left_to_others.is_empty() {
        let each = tree.left_to_others.iter().map(|left| format!("{} (step `{}`)", left.path, left.step));
        diff.notes.push(format!("left to other steps: {}", each.collect::<Vec<_>>().join(", ")));
    }
    if tree.own_folders.count > 0 && (desired.dir_mode.is_some() || desired.file_mode.is_some()) {
        diff.notes
            .push(format!("modes stay as they are where provision keeps its state or rescues: {}", tree.own_folders));
    }
    if tree.has_roots_state {
        diff.notes.push(format!("left out, because it is for root alone: {OF_ROOT}"));
    }
    if tree.locked.count > 0 {
        let word = if tree.locked.count == 1 { "it is" } else { "they are" };
        let first = tree.locked.first.first().map_or(String::new(), |first| shell_word(path.join(path_of_name(first))));
        diff.obstacles.push(
            Failure::new(format!(
                "cannot change {} below {path}: {word} immutable or append-only (lsattr): {}",
                entries(tree.locked.count),
                tree.locked
            ))
            .hint(format!("remove the flags: `{}`", as_root(&format!("chattr -i -a {first}")))),
        );
    }
    diff.obstacles.extend(tree.unseen.failure());
    let Some(rules) = desired.entry_rules(&actual.ownership).filter(|_| tree.differing.count > 0) else {
        return Ok(());
    };
    if let Some(denial) = &tree.read_only {
        let what = format!("cannot change {} below {path}", entries(tree.differing.count));
        return Err(attributes::refusal(&what, denial));
    }
    // Checks whether the ids are mapped here, which is the same for all entries.
    if actual.ownership.owner_is_unmapped || actual.ownership.group_is_unmapped {
        actual.ownership.check(&format!("the entries below {path}"), u32::MAX, None, AS_ROOT)?;
    }
    if tree.beyond_rights.count > 0 {
        return Err(Failure::new(format!(
            "{} is not allowed to change {} below {path}: {}",
            actual.ownership.user(),
            entries(tree.beyond_rights.count),
            tree.beyond_rights
        ))
        .hint(actual.ownership.privilege_hint(tree.needs.unwrap_or(Capability::ChangeOwner), AS_ROOT)));
    }
    if tree.closed.count > 0
        && let Some(rule) = &desired.dir_mode
    {
        return Err(Failure::new(format!(
            "dir_mode {rule} would lock {} out of {} below {path}, which it could no longer list or enter: {}",
            actual.ownership.user(),
            if tree.closed.count == 1 {
                "1 directory".to_owned()
            } else {
                format!("{} directories", tree.closed.count)
            },
            tree.closed
        ))
        .hint(format!("set dir_mode: \"{}\" on the step, or {ONLY_ROOT}", rule.with_access())));
    }
    if tree.hard_linked.count > 0 && desired.hard_links == HardLinks::Refuse {
        let first = path.join(tree.hard_linked.first.first().map(|first| path_of_name(first)).unwrap_or_default());
        let have = if tree.hard_linked.count == 1 { "has" } else { "have" };
        return Err(Failure::new(format!(
            "{} below {path} {have} more than one hard link, and would change under other names too: {}",
            entries(tree.hard_linked.count),
            tree.hard_linked
        ))
        .hint(format!(
            "list the names of the first: `{}`; if the change is intended, set hard_links: change",
            hard_links_command(&first)
        )));
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

/// Checks that the acting user can still walk the tree after the directory itself has its mode.
///
/// # Errors
/// It could not. `uid` is the owner of the directory.
fn check_access(desired: &Directory, actual: &Actual, uid: u32) -> Result<(), Failure> {
    let (path, acting) = (&desired.path, actual.ownership.acting_uid);
    match desired.mode {
        Some(mode)
            if acting != 0
                && acting == uid
                && desired.entry_rules(&actual.ownership).is_some()
                && mode.bits() & OWNER_ACCESS != OWNER_ACCESS =>
        {
            let user = actual.ownership.user();
            Err(Failure::new(format!(
                "mode {mode} would lock {user} out of {path}, which it could no longer list or enter"
            ))
            .hint(format!("set mode: \"{}\" on the step, or {ONLY_ROOT}", mode_with_access(mode))))
        }
        _ => Ok(()),
    }
}

/// Returns warnings about modes with which the owner can read or write a directory, and not enter it. Nobody means that.
fn closing_modes(desired: &Directory) -> Vec<String> {
    const READ_OR_WRITE: u32 = 0o600;
    const ENTER: u32 = 0o100;
    let is_closing = |mode: u32| mode & READ_OR_WRITE != 0 && mode & ENTER == 0;
    let warning = |key: &str, mode: &str, better: &str| {
        format!(
            "{key} {mode} does not let the owner enter directories: without x, what is in them cannot be opened; set {key}: \
             \"{better}\""
        )
    };
    let mode = desired.mode.filter(|mode| is_closing(mode.bits()));
    // A rule that leaves x alone is right for directories that have it.
    let dir_mode = desired.dir_mode.as_ref().filter(|rule| is_closing(rule.apply(0o755, true)));
    let mode = mode.map(|mode| warning("mode", &mode.to_string(), &mode_with_access(mode).to_string()));
    let dir_mode = dir_mode.map(|rule| warning("dir_mode", &rule.to_string(), &rule.with_access()));
    mode.into_iter().chain(dir_mode).collect()
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}
