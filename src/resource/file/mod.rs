//! `file`: a file with its complete content, which may contain secrets.
//!
//! The content is in the plan file, or comes from a template beside it. The previous content of the file is kept as a rescue
//! before the file is replaced.

use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::attributes::of_new;
use super::parents::create_parents;
use super::regular_file::{require_file, require_single_name};
use super::{
    Claim, Claims, Diff, Effect, ExecuteContext, Extraction, Host, KeyError, KindInfo, Need, ObserveContext,
    RescueAnswer, RescueRequest, RescueStore, Rescues, Resource, Site,
};
use crate::failure::Failure;
use crate::host::fs::{self, Place};
use crate::host::secret::Secret;
use desired::MAX_FILE_BYTES;

mod actual;
mod change;
mod desired;
mod diff;
mod manual;
mod reference;
mod rescue;
#[cfg(test)]
mod tests;
mod text_diff;

pub use actual::Actual;
pub use change::Change;
pub use desired::File;

impl Resource for File {
    const INFO: KindInfo = KindInfo { keeps_rescues: true, ..KindInfo::on_host("file") };
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
    type Actual = Actual;
    type Change = Change;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Result<Self, KeyError>, D::Error> {
        Self::deserialize(from).map(Self::check)
    }

    fn claims(&self, _host: &dyn Host) -> Claims {
        let path = self.path.to_path_buf();
        Claims {
            creates: Some(path.clone()),
            needs: vec![Need::Path(path.clone())],
            owns: vec![Claim::File(path)],
            edits: Vec::new(),
        }
    }

    fn text_of_file(&self) -> Option<String> {
        Some(self.document().with_placeholder("secret"))
    }

    fn site(&self) -> Site<'_> {
        let used = self.document().secrets();
        let secrets = self.secrets.iter().filter(|(name, _)| used.contains(name.as_str()));
        Site::Host { secrets: secrets.map(|(name, source)| (name.as_str(), source)).collect() }
    }

    fn manual(&self) -> Vec<String> {
        manual::lines(self)
    }

    fn effect(&self, change: &Change, path: &Path) -> Effect {
        let is_written = matches!(change, Change::Create { .. } | Change::Replace { .. });
        match self.path.starts_with(path) {
            true if is_written && *self.path == *path => Effect::Replaces,
            true => Effect::Alters,
            false => Effect::None,
        }
    }

    fn rescues(&self) -> Option<&dyn Rescues> {
        Some(self)
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
            Change::Create { mode, owner, group, .. } => {
                let name = place.name.clone();
                let content = self.content(cx)?;
                create_parents(place, cx)?.create(&name, content.expose(), of_new(owner, group, *mode))?;
            }
            Change::Replace { before, attributes, .. } => {
                let content = self.content(cx)?;
                let present = require_file(&self.path, &place)?;
                let seen =
                    place.parent()?.read(&place.name, MAX_FILE_BYTES)?.filter(|seen| seen.stat.is_same_file(&present));
                let is_as_planned =
                    |seen: &fs::FileSeen| cx.digester().digest(&seen.bytes) == *before && attributes.is_of(&seen.stat);
                let seen = seen.filter(is_as_planned).ok_or_else(|| {
                    Failure::new(format!("{} was changed meanwhile", self.path))
                        .hint("look at the new plan, then run apply again")
                })?;
                let kept = rescue::keep(cx, &self.path, &seen)?;
                rescue::replace(&place, &seen, content.expose(), attributes.attributes(), kept.as_ref())?;
            }
            Change::Attributes(change) => change.execute(&place, &require_single_name(&self.path, &place)?)?,
        }
        Ok(())
    }
}

impl Rescues for File {
    fn rescue_keys(&self) -> serde_json::Value {
        serde_json::json!({ "path": self.path.to_string_lossy(), "content": "" })
    }

    fn store(&self) -> RescueStore {
        RescueStore::StateFolder
    }

    fn rescue(&self, request: &RescueRequest, cx: &ExecuteContext) -> Result<RescueAnswer, Failure> {
        Ok(match request {
            RescueRequest::List => RescueAnswer::List(rescue::list(cx, &self.path)?),
            RescueRequest::Show(id) => RescueAnswer::Show(rescue::content(cx, &self.path, id)?),
            RescueRequest::Restore(wanted) => rescue::restore(cx, &self.path, wanted)?,
            RescueRequest::Extract { id, to } => {
                let bytes = rescue::content(cx, &self.path, id)?;
                let mut copies = Extraction::create(to)?;
                copies.write(Path::new(self.path.file_name().unwrap_or_default()), &bytes, false)?;
                copies.answer(Vec::new())
            }
        })
    }
}

impl File {
    /// Returns the content to write.
    fn content(&self, cx: &ExecuteContext) -> Result<Secret, Failure> {
        self.wanted(cx).map_err(|names| {
            Failure::new(format!("a secret of {} no longer has a value: {}", self.path, names.join(", ")))
                .hint("check that it exists, then run again")
        })
    }
}
