//! `provision`: brings a host to the state described by a plan file.
//!
//! ```text
//! text -> PlanFile -> order -> observe -> diff -> Plan -> (confirm)
//!      -> for each change in order: observe and diff again, same as planned? -> execute
//!      -> observe -> diff must be empty -> events -> output, exit code
//! ```
//!
//! Dependencies point one way: `cli -> {engine, render, plan_file}`, `engine -> resource -> git -> host`, `render ->
//! engine::event`. See `docs/architecture.md`.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests prepare files and read what they are started with")
)]

#[cfg(test)]
mod arrows;
pub mod cli;
pub mod engine;
pub mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod git;
pub mod host;
pub mod plan;
pub mod plan_file;
pub mod render;
pub mod resource;
pub mod telemetry;
pub mod text;
pub mod worker;
pub mod yaml;
