//! Workers: processes of this program that act as a step's user, to observe and execute the steps of that user.
//!
//! Every host step runs in a worker, even those of the launching user. A worker has a clean environment, so nothing
//! that it starts (git's credential helpers, ssh) inherits a secret that was passed to the launcher in its environment.

mod client;
mod environment;
pub mod frame;
mod identity;
mod own;
mod pipes;
mod records;
mod server;

pub use client::{Progress, Tasks, Workers};
pub use frame::Task;
pub use own::{Role, end_own, fork_own};
pub use server::serve;
