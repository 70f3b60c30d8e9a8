//! Workers: this same binary, started as a step's user, to observe and execute the steps of that user.
//!
//! Every host step runs in a worker, even those of the launching user. A worker has a clean environment, so nothing
//! that it starts (git's credential helpers, ssh) inherits a secret that was passed to the launcher in its environment.

mod client;
mod environment;
pub mod frame;
mod identity;
mod pipes;
mod records;
mod server;

pub use client::{Progress, Tasks, Workers};
pub use frame::Task;
pub use server::serve;
