//! Workers: this same binary, started as a step's user, that observes and executes for it.
//!
//! Every host step runs in one, the launching user's own steps too: a worker's environment is clean, so that nothing it
//! starts (git's credential helpers, ssh) inherits a secret that was passed to the launcher in its environment.

mod client;
pub mod frame;
mod identity;
mod server;

pub use client::{Progress, Tasks, Workers};
pub use frame::Task;
pub use server::serve;
