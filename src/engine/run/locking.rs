//! The lock of a run's plan file, and waiting for other runs that change the same targets.

use std::time::{Duration, Instant};

use super::Run;
use super::error::NotPrepared;
use super::secrets::RunSecrets;
use crate::engine::event::{Event, Holder, Sink as _};
use crate::engine::lock::{Lock, Subject, Wait};
use crate::engine::survey::plan_step;
use crate::failure::Failure;
use crate::telemetry::spans;

/// The first pause before a target that another run is changing is observed again. Each pause doubles, up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);

impl Run {
    /// Takes the plan file's lock, or waits for it. Returns `None` if a signal comes first.
    pub(super) async fn lock(&self, wait: Wait) -> Result<Option<Lock>, Failure> {
        let mut has_waited = false;
        let mut busy = |holder: &Holder| {
            has_waited = true;
            self.report.event(&Event::RunWaiting { holder: holder.clone(), targets: Vec::new() });
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
    pub(super) async fn check_secrets(&self) -> Result<(), Failure> {
        let read = async || {
            let plan_file = self.inputs.source.plan_file()?;
            let plan = self.inputs.evaluate(&plan_file)?;
            let progress = |step: &str, text| self.report.event(&Event::StepProgress { step: step.to_owned(), text });
            let environment = &self.inputs.environment;
            let secrets = RunSecrets::read(&plan_file, &plan, environment, &self.stop, &progress).await?;
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

    /// Waits until no other run changes the targets of these steps, or until the time limit.
    ///
    /// Only these steps are observed again, at growing intervals: an observation may ask a remote over a bastion.
    pub(super) async fn become_free(&self, mut busy: Vec<usize>, until: Option<Instant>) {
        let wait = async {
            let mut pause = MIN_PAUSE;
            while !busy.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
                let mut still_busy = Vec::new();
                for index in busy {
                    let step = &self.steps[index];
                    let span = spans::step(&step.id, step.resource.kind());
                    if span.instrument(plan_step(&self.targets, step)).await.is_busy {
                        still_busy.push(index);
                    }
                }
                busy = still_busy;
            }
        };
        match until {
            Some(until) => drop(tokio::time::timeout_at(until.into(), wait).await),
            None => wait.await,
        }
    }
}
