//! The lock of a run's plan file.

use super::Run;
use super::error::NotPrepared;
use super::secrets::RunSecrets;
use crate::engine::event::{Event, Holder, Sink as _};
use crate::engine::lock::{Lock, Subject, Wait};
use crate::engine::saved::Fingerprints;
use crate::failure::Failure;

impl Run {
    /// Takes the plan file's lock, or waits for it. Returns `None` if a signal comes first.
    pub(super) async fn lock(&self, wait: Wait) -> Result<Option<Lock>, Failure> {
        let mut has_waited = false;
        let mut busy = |holder: &Holder| {
            has_waited = true;
            self.report.event(&Event::RunWaiting { holder: holder.clone() });
        };
        let source = &self.inputs.source;
        let subject = Subject { path: &self.inputs.path, is_there: !source.is_input };
        let lock = Lock::take(subject, &self.folder, wait, &self.stop, &mut busy).await?;
        if !source.is_input && lock.as_ref().is_some_and(|lock| !lock.is_on(&source.bytes)) {
            let file = source.path.display();
            return Err(
                Failure::new(format!("the plan file {file} was changed in the meantime")).hint("run apply again")
            );
        }
        if let Some(saved) = &self.inputs.saved {
            saved.check_unused(&self.folder)?;
        }
        if has_waited && lock.is_some() && !self.has_current_secrets().await {
            return Err(Failure::new("a secret or a template was changed while apply waited").hint("run apply again"));
        }
        Ok(lock)
    }

    /// Returns whether the secrets and templates that this run writes are still current. An apply that was waited for may have
    /// followed a rotation, which this run must not undo. Passwords of connections are not written, and a program may print
    /// another token each time.
    async fn has_current_secrets(&self) -> bool {
        let read = async || {
            let plan_file = self.inputs.source.plan_file()?;
            let plan = self.inputs.evaluate(&plan_file)?;
            let secrets = RunSecrets::read(&plan_file, &plan, &self.inputs.environment, &self.stop).await?;
            Ok::<_, NotPrepared>(self.inputs.fingerprints(&plan, &secrets)?)
        };
        let written = |mut prints: Fingerprints| {
            let is_on_host =
                |id: &String| self.steps.iter().any(|step| step.id == *id && step.resource.connection().is_none());
            prints.secrets.retain(|id, _| is_on_host(id));
            prints
        };
        read().await.is_ok_and(|now| written(now) == written(self.fingerprints.clone())) || self.stop.signal().is_some()
    }
}
