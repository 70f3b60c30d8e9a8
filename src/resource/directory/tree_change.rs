//! The change of all entries below a directory that differ.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actual::Examples;
use super::desired::{Directory, HardLinks};
use super::entry_rules::{EntryChange, EntryRules};
use crate::host::fs::{self, Place, tree};
use crate::resource::attributes::{ownership, with_ids};
use crate::resource::{Action, Description, ExecuteContext, Failure};

/// The kernel sets timestamps to the time of its last tick, which can be this far in the past (CONFIG_HZ=100).
const CLOCK_TICK_MICROS: i64 = 10_000;
/// After how many entries progress is reported.
const PROGRESS: u64 = 10_000;
/// The number of errors that a message lists.
const MAX_ERRORS: usize = 3;

/// Sets owner, group and modes of the entries that differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeChange {
    pub path: String,
    #[serde(flatten)]
    pub rules: EntryRules,
    pub hard_links: HardLinks,
    pub differing: Examples,
    /// The entries that lose setuid or setgid.
    pub set_id: Examples,
    /// The entries that lose their file capabilities.
    #[serde(default, skip_serializing_if = "Examples::is_empty")]
    pub capabilities: Examples,
    /// The entries that change under other names too.
    #[serde(default, skip_serializing_if = "Examples::is_empty")]
    pub hard_linked: Examples,
    /// The mount points in the tree, which are not entered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
    /// When the oldest of the entries that differ was created, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<i64>,
}

impl TreeChange {
    /// Describes the change for events and people.
    pub fn describe(&self) -> Description {
        let EntryRules { owner, group, dir_mode, file_mode } = &self.rules;
        let ownership = Some(ownership(owner, group)).filter(|words| !words.is_empty());
        let dir_mode_words = dir_mode.as_ref().map(|mode| format!("mode {mode} of directories"));
        let file_mode_words = file_mode.as_ref().map(|mode| format!("mode {mode} of files"));
        let what: Vec<String> = ownership.into_iter().chain(dir_mode_words).chain(file_mode_words).collect();
        let differing = &self.differing;
        let entries = if differing.count == 1 { "entry" } else { "entries" };
        let mut after = with_ids(json!({}), owner, group);
        for (key, mode) in [("dir_mode", dir_mode), ("file_mode", file_mode)] {
            if let Some(mode) = mode {
                after[key] = json!(mode);
            }
        }
        Description {
            action: Action::Update,
            target: self.path.clone(),
            summary: format!("set {} on {} {entries} below: {differing}", what.join(", "), differing.count),
            before: json!({ "differing": differing.count, "examples": differing.shown() }),
            after,
            risk: self.risk(),
            diff: None,
        }
    }

    fn risk(&self) -> Option<String> {
        let Self { set_id, capabilities, hard_linked, .. } = self;
        let chown = if self.rules.owner.is_some() || self.rules.group.is_some() { ", as with chown," } else { "" };
        let mut risks = Vec::new();
        if set_id.count > 0 {
            risks.push(format!("setuid or setgid is lost{chown} on {}: {set_id}", set_id.count));
        }
        if capabilities.count > 0 {
            risks.push(format!("file capabilities are lost{chown} on {}: {capabilities}", capabilities.count));
        }
        if hard_linked.count > 0 {
            risks.push(format!("hard links change under their other names too, {}: {hard_linked}", hard_linked.count));
        }
        (!risks.is_empty()).then(|| risks.join("; "))
    }

    /// Returns whether this is the `planned` change, on any number of entries, without a risk that `planned` does not
    /// show.
    pub fn is_within(&self, planned: &Self) -> bool {
        let shown = |now: &Examples, then: &Examples| now.count == 0 || then.count > 0;
        self.path == planned.path
            && self.rules == planned.rules
            && self.hard_links == planned.hard_links
            && shown(&self.set_id, &planned.set_id)
            && shown(&self.capabilities, &planned.capabilities)
            && shown(&self.hard_linked, &planned.hard_linked)
            // If something was unmounted, the entries below the mount point are now part of the tree.
            && planned.mounts.iter().all(|mount| self.mounts.contains(mount))
    }

    /// Returns whether every entry that differs was created after `time`.
    pub fn is_newer_than(&self, time: SystemTime) -> bool {
        let micros = time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_micros()).ok());
        self.oldest.zip(micros).is_some_and(|(oldest, time)| oldest >= time - CLOCK_TICK_MICROS)
    }

    /// Changes every entry that differs.
    ///
    /// # Errors
    /// There are more entries than the step may change, or some cannot be changed. In the second case all others are
    /// changed.
    pub fn execute(&self, step: &Directory, place: &Place, cx: &ExecuteContext) -> Result<(), Failure> {
        let top = place.parent()?.open_dir(&place.name)?;
        let mut left = cx.max_changes();
        let mut failed = Failed::default();
        let (mut visited, mut changed) = (0, 1);
        // The second walk finds entries that were moved to a place that the first one had passed.
        for _ in 0..2 {
            if changed == 0 || failed.count > 0 {
                break;
            }
            changed = 0;
            tree::walk(&top, &step.left_out(cx), |visit| {
                let tree::Visit::Entry(entry) = visit else { return Ok(()) };
                // Locked entries are reported by `diff`.
                let Some(needed) = self.rules.change_of(&entry).filter(|_| !entry.is_locked) else { return Ok(()) };
                // The tree may have grown since it was counted.
                left = left.checked_sub(1).ok_or_else(|| self.too_many(cx.max_changes()))?;
                visited += 1;
                if visited % PROGRESS == 0 {
                    cx.progress(|| format!("{visited} entries"));
                }
                match self.change(&entry, needed) {
                    Ok(()) => changed += 1,
                    Err(error) => failed.add(&error),
                }
                Ok(())
            })?;
        }
        failed.into_result(&self.path, visited)
    }

    fn change(&self, entry: &tree::Entry<'_>, needed: EntryChange) -> Result<(), fs::Error> {
        let sets_ownership = needed.sets_owner || needed.sets_group;
        let unshown = |lost: &str| {
            let path = fs::escape_path(&std::path::Path::new(&self.path).join(entry.path()));
            fs::Error::refused(
                format!("{path} would lose {lost}, which the plan did not show"),
                "check that this is intended: run plan again, then apply",
            )
        };
        if needed.loses_set_id && self.set_id.count == 0 {
            return Err(unshown("setuid or setgid"));
        }
        if sets_ownership && self.capabilities.count == 0 && entry.has_capabilities()? {
            return Err(unshown("its file capabilities"));
        }
        let uid = self.rules.owner.as_ref().map(|owner| owner.id);
        let gid = self.rules.group.as_ref().map(|group| group.id);
        let hard_links = self.hard_links == HardLinks::Change && self.hard_linked.count > 0;
        entry.change(uid, gid, needed.mode, hard_links)?;
        Ok(())
    }

    fn too_many(&self, limit: u64) -> fs::Error {
        fs::Error::refused(
            format!(
                "{} has grown since it was planned: max_changes allows only {limit} entries, which were changed",
                self.path
            ),
            "run plan to see what is left, then raise max_changes or run apply again",
        )
    }
}

/// Entries that could not be changed.
#[derive(Default)]
struct Failed {
    count: u64,
    errors: Vec<String>,
    hints: Vec<String>,
}

impl Failed {
    fn add(&mut self, error: &fs::Error) {
        self.count += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error.to_string());
            let hint = error.hint().map(str::to_owned);
            self.hints.extend(hint.filter(|hint| !self.hints.contains(hint)));
        }
    }

    fn into_result(self, path: &str, of: u64) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let more = match self.count - self.errors.len() as u64 {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let entries = if of == 1 { "entry" } else { "entries" };
        let message =
            format!("cannot change {} of {of} {entries} below {path}: {}{more}", self.count, self.errors.join("; "));
        Err(Failure { message, hint: Some(self.hints.join("\n")).filter(|hint| !hint.is_empty()) })
    }
}
