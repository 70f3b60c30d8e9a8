//! Why a step's checkout is not cloned or updated, and how a person can do it instead.

use crate::failure::Failure;
use crate::git::Obstacle;
use crate::text::shell_word;

use super::desired::Repository;

/// Makes the failure for a clone that is not made. `url` has no password.
pub fn refusal_to_clone(obstacle: &Obstacle, desired: &Repository, url: &str) -> Failure {
    let refusal = obstacle.refusal(&desired.path);
    let options = match obstacle {
        Obstacle::Submodules { .. } => " --recurse-submodules",
        Obstacle::Lfs { .. } | Obstacle::Filter { .. } | Obstacle::Encoding { .. } => "",
        _ => return refusal,
    };
    let (branch, url, path) = (shell_word(&desired.branch), shell_word(url), shell_word(&desired.path));
    refusal.hint(format!("clone it by hand: `git clone{options} --branch {branch} {url} {path}`"))
}

/// Makes the failure for an update that is not made.
pub fn refusal_to_update(obstacle: &Obstacle, desired: &Repository) -> Failure {
    let refusal = obstacle.refusal(&desired.path);
    let git = format!("git -C {}", shell_word(&desired.path));
    let (branch, remote) = (shell_word(&desired.branch), shell_word(&desired.remote));
    let pull = |options: &str, then: &str| {
        format!(
            "update this checkout by hand: `{git} fetch {remote} && {git} checkout {branch} && {git} pull --ff-only{options} {remote} {branch}{then}`"
        )
    };
    match obstacle {
        Obstacle::Submodules { .. } => {
            let then = format!(" && {git} submodule update --init --recursive");
            refusal.hint(pull(" --recurse-submodules", &then))
        }
        Obstacle::Lfs { .. } => refusal.hint(pull("", &format!(" && {git} lfs pull {remote}"))),
        Obstacle::Filter { .. } | Obstacle::Encoding { .. } => refusal.hint(pull("", "")),
        Obstacle::PartialClone { remote, keys } => {
            let remote = shell_word(remote);
            let unset = |key: &String| format!(" && {git} config --unset-all {}", shell_word(key));
            let unset: String = keys.iter().map(unset).collect();
            // A refetch has only what the remote's branches reach. The listing fetches what else local refs and logs reach, and if
            // the remote no longer has it, the clone remains a partial one.
            let rest = format!("{git} rev-list --objects --all --reflog --indexed-objects --quiet");
            refusal.hint(format!(
                "fetch all of it (git 2.36 or newer): `{git} fetch {remote} && {git} fetch --refetch --no-filter --no-auto-maintenance {remote} && {rest}{unset}`"
            ))
        }
        other if other.is_cured_by_clone() && desired.url.is_none() => {
            refusal.hint("repair it with git, or give the step a `url`, so that it can clone the repository again")
        }
        _ => refusal,
    }
}
