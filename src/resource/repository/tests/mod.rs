//! The kind against real git: each state is brought forward by the runbook's own commands on one copy and by
//! `execute` on another, and the two are compared.

mod bench;
mod clones;
mod kills;
mod moves;
mod oracle;
mod refusals;
mod rescues;
mod ssh;

#[test]
fn fixtures() {
    crate::resource::fixtures::check::<super::Repository>();
}
