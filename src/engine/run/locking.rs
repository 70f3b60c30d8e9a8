//! The lock of a run's plan file.

use super::Run;
use super::error::NotPrepared;
use super::secrets::RunSecrets;
use crate::engine::event::{Event, Holder, Sink as _};
use crate::engine::lock::{Lock, Subject, Wait};
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
        if has_waited && lock.is_some() {
            self.check_secrets().await?;
        }
        Ok(lock)
    }

    /// Checks that the secrets and templates are still the ones that this run has read. While this run waited, a
    /// rotation may have happened, which it must not undo.
    async fn check_secrets(&self) -> Result<(), Failure> {
        let read = async || {
            let plan_file = self.inputs.source.plan_file()?;
            let plan = self.inputs.evaluate(&plan_file)?;
            let secrets = RunSecrets::read(&plan_file, &plan, &self.inputs.environment, &self.stop).await?;
            Ok::<_, NotPrepared>(self.inputs.fingerprints(&plan, &secrets)?)
        };
        let changed = match read().await {
            Ok(now) => now != self.fingerprints,
            Err(NotPrepared::Failure(failure)) => return Err(failure),
            // The run ends because of the signal.
            Err(NotPrepared::Stopped(_)) => false,
            Err(NotPrepared::Diagnostics(_)) => true,
        };
        if changed {
            return Err(Failure::new("a secret or a template was changed while apply waited").hint("run apply again"));
        }
        Ok(())
    }
}
