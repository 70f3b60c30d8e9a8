//! What touches the system. Nothing outside this module and the kinds that use it opens a file, starts a
//! process or speaks to a server.

pub mod fs;
pub mod git_tls;
pub mod machine;
pub mod process;
pub mod secret;
pub mod signals;
pub mod ssh;
pub mod ssh_transport;
pub mod state;
pub mod terminal;
#[cfg(test)]
pub mod testing;
pub mod warehouse;
