//! What touches the system. Nothing outside this module and the kinds that use it opens a file, starts a
//! process or speaks to a server.

pub mod git_tls;
pub mod secret;
pub mod ssh_transport;
