//! The kind against real git: each state is brought forward by the runbook's own commands on one copy and by
//! `execute` on another, and the two are compared.

mod bench;
mod clones;
mod credentials;
mod https;
mod https_git;
mod kills;
mod locks;
mod moves;
mod not_root;
mod oracle;
mod private_rescues;
mod refspecs;
mod refusals;
mod refused_trees;
mod remedies;
mod remotes;
mod rescues;
mod rewritten;
mod ssh;
mod undone;

#[test]
fn fixtures() {
    crate::resource::fixtures::check::<super::Repository>();
}
