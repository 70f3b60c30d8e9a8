//! `repository`: a git checkout on a branch, at the head that its remote has of it.
//!
//! [`observe`] reads the checkout and asks the remote; missing objects are fetched to scratch storage, never to the repository.
//! [`diff`] decides. [`update`] and [`clone`] act, in an order that can be interrupted anywhere: first the rescue, then objects,
//! files, index, and the branch last. [`rescue`] keeps what was in the way, and [`restore`] brings it back.
#![expect(clippy::disallowed_methods, reason = "a checkout is reached by path, as git does, by its owner alone")]

use std::path::{Path, PathBuf};

use super::{
    Claim, Claims, Diff, Effect, ExecuteContext, Host, KindInfo, Need, ObserveContext, Rescue, RescueAnswer,
    RescueRequest, RescueStore, Rescues, Resource, Site,
};
use crate::failure::Failure;
use crate::git::remote::scratch;
use crate::host::process::InheritedUmask;
use crate::host::program;
use crate::text::{RedactedUrl, shell_word};

mod access;
mod actual;
mod adopt;
mod change;
mod clone;
mod delta;
mod deployed;
mod desired;
mod diff;
mod in_the_way;
mod leftovers;
mod local_changes;
mod move_files;
mod observe;
mod opened;
mod position;
mod private_store;
mod reads;
mod reference;
mod refusal;
mod rescue;
mod restore;
mod restore_plan;
mod stash;
mod survey;
#[cfg(test)]
mod tests;
mod undone;
mod update;
mod update_index;

pub use actual::Actual;
pub use change::RepositoryChange;
pub use desired::{LocalCommits, Repository};

impl Resource for Repository {
    const INFO: KindInfo = KindInfo { keeps_rescues: true, runs_git: true, ..KindInfo::on_host("repository") };
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
    const ADOPTION: super::adopt::Adoption<Self, Self::Actual> =
        super::adopt::Adoption::Host { probe: adopt::probe, step: adopt::step };
    type Actual = Actual;
    type Change = RepositoryChange;

    fn site(&self) -> Site<'_> {
        Site::host()
    }

    fn claims(&self, _host: &dyn Host) -> Claims {
        Claims {
            owns: vec![Claim::Checkout(self.path.clone())],
            creates: Some(self.path.clone()),
            needs: vec![Need::Path(self.path.clone())],
            edits: Vec::new(),
        }
    }

    fn reads(&self, home: Option<&Path>, host: &dyn Host) -> Vec<PathBuf> {
        reads::paths(self.url.as_deref(), &self.path, home, host)
    }

    fn manual(&self) -> Vec<String> {
        let (path, branch, remote) = (shell_word(&self.path), shell_word(&self.branch), &self.remote);
        let origin = if remote == "origin" { String::new() } else { format!(" -o {}", shell_word(remote)) };
        let url = self.url.as_ref().map_or("\"$URL\"".to_owned(), |url| shell_word(RedactedUrl::of(url).as_str()));
        let mut lines = vec![format!("test -e {path} || git clone{origin} -b {branch} {url} {path}")];
        lines.push(format!("cd {path}"));
        lines.push(format!("git checkout {branch}"));
        lines.push("git pull --ff-only".to_owned());
        lines.push("# where local changes are in the way of the pull:".to_owned());
        lines.push("git stash && git pull --ff-only".to_owned());
        lines.push("git stash show --patch   # only when nothing of it is needed: git stash drop".to_owned());
        lines
    }

    fn effect(&self, change: &RepositoryChange, path: &Path) -> Effect {
        match change.touches(path) {
            true if change.replaces(path) => Effect::Replaces,
            true => Effect::Alters,
            false => Effect::None,
        }
    }

    fn rescues(&self) -> Option<&dyn Rescues> {
        Some(self)
    }

    async fn observe(&self, cx: &ObserveContext) -> Result<Actual, Failure> {
        let mut actual = observe::observe(self)?;
        if let Actual::Absent { obstacle: obstacle @ None, .. } = &mut actual {
            *obstacle = clone::obstacle_in_trees(&self.path, cx)?;
        }
        Ok(actual)
    }

    fn diff(&self, actual: &Actual) -> Result<Diff<RepositoryChange>, Failure> {
        diff::diff(self, actual)
    }

    fn cleanup_on_exit() {
        program::kill_all();
        scratch::cleanup_on_exit();
    }

    async fn execute(&self, change: &RepositoryChange, cx: &ExecuteContext) -> Result<(), Failure> {
        scratch::remove_stale();
        // Files get the same modes as with git.
        let _umask = InheritedUmask::apply();
        match change {
            RepositoryChange::Clone(clone) => clone::execute(self, clone, cx),
            RepositoryChange::Update(update) => update::execute(self, update, cx.run()),
            RepositoryChange::RemoveLeftovers { .. } => leftovers::remove(&self.path),
        }?;
        deployed::keep(change);
        Ok(())
    }
}

impl Rescues for Repository {
    fn rescue_keys(&self) -> serde_json::Value {
        serde_json::json!({ "path": self.path.to_string_lossy(), "branch": self.branch })
    }

    fn store(&self) -> RescueStore {
        RescueStore::Target
    }

    fn rescue(&self, request: &RescueRequest, _cx: &ExecuteContext) -> Result<RescueAnswer, Failure> {
        let _umask = InheritedUmask::apply();
        Ok(match request {
            RescueRequest::List => {
                let rescues = restore::list(&self.path)?.into_iter().map(|rescue| Rescue {
                    id: rescue.id,
                    place: rescue.reference,
                    subject: rescue.subject,
                    files: rescue.files.iter().map(ToString::to_string).collect(),
                    way_back: rescue.way_back,
                    delete: rescue.delete,
                    undoes: rescue.undoes,
                    elsewhere: rescue.elsewhere,
                });
                RescueAnswer::List(rescues.collect())
            }
            RescueRequest::Show(id) => RescueAnswer::Show(restore::show(&self.path, id)?),
            RescueRequest::Extract { id, to } => restore::extract(&self.path, id, to)?,
            RescueRequest::Restore(wanted) => {
                let (paths, notes) = restore::restore(&self.path, wanted)?;
                RescueAnswer::Restore { paths: paths.iter().map(ToString::to_string).collect(), notes }
            }
        })
    }
}
