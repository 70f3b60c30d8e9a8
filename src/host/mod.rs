//! Access to the system. Only this module and `git` open files, start processes or connect to servers. Exceptions have a
//! reason where they are.
#![expect(clippy::disallowed_methods, reason = "the other modules use this one to access files")]

pub mod capabilities;
pub mod environment;
pub mod fs;
pub mod gate;
pub mod machine;
pub mod process;
pub mod program;
pub mod secret;
pub mod signals;
pub mod ssh;
pub mod state;
pub mod terminal;
#[cfg(test)]
pub mod testing;
pub mod thread;
pub mod users;
pub mod warehouse;
