//! What touches the system: nothing outside of this room and `git` opens a file, starts a program or speaks to a server, but
//! for exceptions that say why where they are.
#![expect(clippy::disallowed_methods, reason = "this room is what the others call for files")]

pub mod capabilities;
pub mod environment;
pub mod fs;
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
pub mod users;
pub mod warehouse;
