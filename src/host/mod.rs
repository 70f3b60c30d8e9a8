//! What touches the system. Nothing outside this module and the kinds that use it opens a file, starts a
//! process or speaks to a server.

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
pub mod warehouse;
