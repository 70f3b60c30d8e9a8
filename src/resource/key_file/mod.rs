//! The kind `key_file`: a private key in a file, with its mode and owner.

use crate::failure::Failure;
use crate::text::shell_word;
use std::path::{Path, PathBuf};

use super::attributes::of_new;
use super::parents::create_parents;
use super::regular_file::{require_file, require_single_name};
use super::{Claim, Claims, Diff, Effect, ExecuteContext, Host, KindInfo, Need, ObserveContext, Resource, Site};
use crate::host::fs::{Attributes, Place};
use crate::host::secret::{Origin, Secret, SecretSource};
use crate::host::ssh::known_hosts::KnownHosts;

mod actual;
mod adopt;
mod change;
mod desired;
mod diff;
mod proof;
mod reference;
mod replace;
#[cfg(test)]
mod tests;

pub use crate::host::ssh::{KeyRead, PublicFacts, UnusableKey};
pub use actual::{Actual, Backup, Content, FileContent, FileSeen, Target};
pub use change::Change;
pub use desired::KeyFile;
pub use proof::{Proof, Verify};

impl Resource for KeyFile {
    const INFO: KindInfo = KindInfo::on_host("key_file");
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
    const ADOPTION: super::adopt::Adoption<Self, Self::Actual> =
        super::adopt::Adoption::Host { probe: adopt::probe, step: adopt::step };
    type Actual = Actual;
    type Change = Change;

    fn claims(&self, _host: &dyn Host) -> Claims {
        let path = self.path.to_path_buf();
        Claims {
            creates: Some(path.clone()),
            needs: vec![Need::Path(path.clone())],
            owns: vec![Claim::File(path)],
            edits: Vec::new(),
        }
    }

    fn reads(&self, home: Option<&Path>, _host: &dyn Host) -> Vec<PathBuf> {
        if self.verify.as_ref().is_some_and(Verify::needs_known_hosts) {
            KnownHosts::of(home).paths().to_vec()
        } else {
            Vec::new()
        }
    }

    fn site(&self) -> Site<'_> {
        Site::Host { secrets: self.source.iter().map(|source| ("source", source)).collect() }
    }

    fn manual(&self) -> Vec<String> {
        let path = shell_word(&self.path);
        let parent = self.path.parent().map(shell_word);
        let mut lines: Vec<String> = parent.map(|parent| format!("mkdir -p {parent}")).into_iter().collect();
        let bastion = self.verify.as_ref().and_then(|verify| verify.ssh.as_ref());
        let prove = |key: &str| bastion.map(|bastion| format!("ssh -i {key} {}", proof::ssh_options(bastion)));
        if let Some(SecretSource { origin: Origin::File(source), encoding: None, pointer: None }) = &self.source {
            lines.extend(prove(&shell_word(source)));
        }
        // The file never exists with another mode.
        let account = |flag: &str, account: Option<String>| {
            account.map(|account| format!(" -{flag} {}", shell_word(&account))).unwrap_or_default()
        };
        let owner = account("o", self.owner.as_ref().map(ToString::to_string));
        let group = account("g", self.group.as_ref().map(ToString::to_string));
        // Only root can give a file away. With the owner from the start, it never belongs to anybody else.
        let sudo = if owner.is_empty() && group.is_empty() { "" } else { "sudo " };
        let install = format!("{sudo}install{owner}{group} -m {}", self.desired_mode());
        lines.push(match &self.source {
            Some(SecretSource { origin: Origin::File(source), encoding: None, pointer: None }) => {
                format!("{install} {} {path}", shell_word(source))
            }
            None | Some(SecretSource { origin: Origin::Nothing(_), .. }) => format!("{install} /path/to/key {path}"),
            Some(source) => format!("{} | {install} /dev/stdin {path}", source.manual()),
        });
        lines.extend(prove(&path));
        lines
    }

    fn effect(&self, change: &Change, path: &Path) -> Effect {
        let is_written = matches!(change, Change::Create { .. } | Change::Replace { .. });
        match self.path.starts_with(path) {
            true if is_written && *self.path == *path => Effect::Replaces,
            true => Effect::Alters,
            false => Effect::None,
        }
    }

    async fn observe(&self, cx: &ObserveContext) -> Result<Actual, Failure> {
        actual::observe(self, cx)
    }

    fn diff(&self, actual: &Actual) -> Result<Diff<Change>, Failure> {
        diff::diff(self, actual)
    }

    async fn execute(&self, change: &Change, cx: &ExecuteContext) -> Result<(), Failure> {
        let place = Place::find(&self.path)?;
        match change {
            Change::RemoveLeftovers { .. } => place.remove_leftovers()?,
            Change::RemoveBackup { name, .. } => {
                self.check_backup(&place, name)?;
                place.parent()?.discard_backup(name)?;
            }
            Change::RestoreBackup { name, .. } => {
                self.check_backup(&place, name)?;
                place.parent()?.restore_backup(name, &place.name)?;
            }
            Change::Create { mode, owner, group, .. } => {
                let name = place.name.clone();
                let content = self.content(cx)?;
                let dir = create_parents(place, cx)?;
                self.create_proven(&dir, &name, &content, of_new(owner, group, *mode))?;
            }
            Change::Replace { attributes, .. } => {
                let seen = require_file(&self.path, &place)?;
                if !attributes.is_of(&seen) {
                    return Err(Failure::new(format!("the owner or mode of {} was changed meanwhile", self.path))
                        .hint("look at the new plan, then run apply again"));
                }
                self.replace_proven(&place, &seen, &self.content(cx)?, attributes.attributes())?;
            }
            Change::Attributes(change) => change.execute(&place, &require_single_name(&self.path, &place)?)?,
        }
        Ok(())
    }
}

impl KeyFile {
    /// Returns the key to write.
    fn content(&self, cx: &ExecuteContext) -> Result<Secret, Failure> {
        self.key(cx).ok_or_else(|| {
            Failure::new(format!("the source of {} no longer has a value", self.path))
                .hint("check the source, then run again")
        })
    }

    /// Checks that the backup still exists, for a change that needs it.
    fn check_backup(&self, place: &Place, name: &str) -> Result<(), Failure> {
        if place.parent()?.leftover_backup(&place.name)?.as_deref() == Some(name) {
            return Ok(());
        }
        Err(Failure::new(format!("the backup {name} of {} no longer exists", self.path))
            .hint("check what else is changing it, then run again"))
    }
}
