//! What touches the system. Nothing outside this module and the kinds that use it opens a file, starts a
//! process or speaks to a server.

pub mod fs;
pub mod secret;
#[cfg(test)]
pub mod testing;
